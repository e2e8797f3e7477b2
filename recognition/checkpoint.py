"""Checkpoints: one file holds a network's weights and all that is needed to use it."""

from __future__ import annotations

import dataclasses
import io
import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import config
import models
import utils
from audio_feature_extraction import FrontEnd

FORMAT = 2
"""Layout of the checkpoint dictionary; raised when it changes."""


@dataclass
class Checkpoint:
    """A trained network with everything that its use depends on.

    `temperature` and `reject_bias` calibrate its posteriors, `threshold` is the confidence below
    which it alone says "no digit", `vote_threshold` the same for the vote of the networks trained
    with it.
    """

    name: str
    arguments: dict[str, Any]
    weights: dict[str, Tensor]
    audio: config.AudioSettings
    features: config.FeaturesSettings
    labels: tuple[str, ...] = config.DIGITS
    temperature: float = 1.0
    reject_bias: float = 0.0
    threshold: float = 0.0
    vote_threshold: float = 0.0
    record: dict[str, Any] = field(default_factory=dict)

    def network(self) -> tuple[FrontEnd, nn.Module]:
        """The front end and the network, in evaluation mode, on the CPU."""
        front_end = FrontEnd(self.features, self.audio.sample_rate)
        network = models.create_model(self.name, front_end.n_features, **self.arguments)
        network.load_state_dict(self.weights)
        return front_end.eval(), network.eval()


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically, as plain values and tensors that ``weights_only`` accepts."""
    content = {item.name: getattr(checkpoint, item.name) for item in dataclasses.fields(checkpoint)}
    content |= {
        "format": FORMAT,
        "labels": list(checkpoint.labels),
        "audio": dataclasses.asdict(checkpoint.audio),
        "features": dataclasses.asdict(checkpoint.features),
    }
    with utils.atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    UserError : missing, truncated, not one of ours, or made for settings this version lacks
    """
    path = Path(path)
    if not path.is_file():
        raise config.UserError(f"{path}: no such model file; train one with: python train.py")
    try:
        stream = io.BytesIO(path.read_bytes())
        with zipfile.ZipFile(stream) as archive:  # torch.load itself does not check the sums
            if archive.testzip() is not None:
                raise zipfile.BadZipFile
        stream.seek(0)
        content = torch.load(stream, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
    ):
        raise config.UserError(
            f"{path}: truncated, altered or not a model file; make it again with: python train.py"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise config.UserError(
            f"{path}: not a checkpoint of this version; make it again with: python train.py"
        )
    try:
        content.pop("format")
        if content["features"].get("mel_scale") == "slaney":  # a setting once, now always so
            content["features"].pop("mel_scale")
        content |= {
            "labels": tuple(content["labels"]),
            "audio": config.AudioSettings(**content["audio"]),
            "features": config.FeaturesSettings(**content["features"]),
        }
        checkpoint = Checkpoint(**content)
        checkpoint.network()
    except (TypeError, KeyError, RuntimeError, AttributeError):
        raise config.UserError(
            f"{path}: its weights or settings do not fit the networks of this "
            "version; make it again with: python train.py"
        ) from None
    return checkpoint
