"""The network that hears whole strings, computed by ONNX Runtime or PyTorch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import config
from recognition.onnx_predictor import UnusableFile, file_digest, open_session
from recognition.runtime import installed
from recognition.string_windows import FRAME_S

VERSION = 1
"""Of the ONNX file's inputs, outputs and metadata; raised when they change."""
INPUTS = {"samples": "tensor(float)"}
OUTPUTS = ["posteriors"]
REMEDY = "make it again with: python export_model.py --strings-to FILE"


class OnnxStrings:
    """The network in an ONNX file, on one core: a window in, posteriors of its frames out.

    Raises
    ------
    UserError : no such file; truncated, altered, of another version, or not this network
    """

    def __init__(self, path: Path, providers: list[str] | None = None) -> None:
        self.session = open_session(path, providers or ["cpu"])
        stored = self.session.get_modelmeta().custom_metadata_map
        self.metadata = {
            name: json.loads(value) for name, value in stored.items() if name != "content_sha256"
        }
        inputs = {item.name: item.type for item in self.session.get_inputs()}
        outputs = [item.name for item in self.session.get_outputs()]
        if inputs != INPUTS or outputs != OUTPUTS or self.metadata.get("version") != VERSION:
            raise UnusableFile(f"{path}: holds no recogniser of strings; {REMEDY}")
        self.rate = int(self.metadata["sample_rate"])

    @property
    def made_from(self) -> str:
        """SHA-256 of the checkpoint that it was made from."""
        return self.metadata["made_from"]

    def posteriors(self, window: np.ndarray) -> np.ndarray:
        (posteriors,) = self.session.run(None, {"samples": window[np.newaxis]})
        return posteriors[0][: n_frames(window, self.rate)]


class TorchStrings:
    """The network of a checkpoint, computed by PyTorch.

    Raises
    ------
    UserError : no such file, damaged, or it tells single digits
    """

    def __init__(self, path: Path) -> None:
        import torch

        from recognition.checkpoint import load_checkpoint

        self.torch, self.checkpoint = torch, load_checkpoint(path, strings=True)
        self.front_end, self.network = self.checkpoint.network()
        self.rate = self.checkpoint.audio.sample_rate

    def posteriors(self, window: np.ndarray) -> np.ndarray:
        from audio_feature_extraction import LEVEL_FRAME_S, normalize_level

        level = self.checkpoint.audio.level_dbfs
        leveled = normalize_level(window, level, round(LEVEL_FRAME_S * self.rate))
        with self.torch.inference_mode():
            features = self.front_end(self.torch.from_numpy(leveled).unsqueeze(0))
            logits = self.network(features)[0] / self.checkpoint.temperature
            return logits.softmax(dim=1).numpy()[: n_frames(window, self.rate)]


def n_frames(window: np.ndarray, rate: int) -> int:
    """Whole frames of a window, float32 (samples,)."""
    return len(window) // round(FRAME_S * rate)


def load_network(settings: config.DecisionSettings | None = None) -> OnnxStrings | TorchStrings:
    """The network that hears strings, from where the settings say the networks lie.

    Raises
    ------
    UserError : there is none, or what is named tells single digits
    """
    settings = settings or config.DecisionSettings()
    place = config.program_path(settings.models_dir)
    if place.suffix == ".onnx":
        return OnnxStrings(place, settings.provider_names())
    checkpoint = place if place.suffix == ".pt" else place / config.STRINGS_NAME
    onnx = checkpoint.with_name(config.STRINGS_ONNX_NAME)
    if settings.runtime == "onnx":
        return OnnxStrings(onnx, settings.provider_names())
    if settings.runtime == "auto" and onnx.is_file() and installed("onnxruntime"):
        try:
            if found := _current(onnx, checkpoint, settings):
                return found
        except UnusableFile as error:
            if not (checkpoint.is_file() and installed("torch")):
                raise
            print(f"warning: {error}; PyTorch computes instead", file=sys.stderr)
    if installed("torch"):
        return TorchStrings(checkpoint)
    raise config.UserError(
        f"{onnx}: not there; making it (python export_model.py --strings-to {onnx}), and doing "
        "without, need PyTorch: pip install -r requirements.txt"
    )


def can_load(settings: config.DecisionSettings) -> bool:
    """Whether there is such a network and what computes it, to judge by the files."""
    place = config.program_path(settings.models_dir)
    folder = place.parent if place.suffix else place
    if settings.runtime != "torch" and (folder / config.STRINGS_ONNX_NAME).is_file():
        return True
    if settings.runtime == "onnx":
        return False
    return (folder / config.STRINGS_NAME).is_file() and installed("torch")


def _current(onnx: Path, checkpoint: Path, settings: config.DecisionSettings) -> OnnxStrings | None:
    """The ONNX file's network, if it was made from the checkpoint beside it, or is alone."""
    if checkpoint.name != config.STRINGS_NAME:
        return None
    network = OnnxStrings(onnx, settings.provider_names())
    if checkpoint.is_file() and file_digest(checkpoint) != network.made_from:
        raise UnusableFile(
            f"{onnx}: made from another network than the one beside it; make it again with: "
            f"python export_model.py --strings-to {onnx}"
        )
    return network
