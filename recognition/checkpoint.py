"""Checkpoints: one file holds a network's weights and all that is needed to use it."""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

import config
import speech_encoder
import utils
from audio_feature_extraction import FrontEnd
from models import registry

Group = TypeVar("Group", config.AudioSettings, config.FeaturesSettings)
FORMAT = 2
"""Layout of the checkpoint dictionary; raised when it changes."""
REMEDY = "make it again with: python train.py"


@dataclass
class Checkpoint:
    """A trained network with everything that its use depends on.

    `temperature` and `reject_bias` calibrate its posteriors, `threshold` is the confidence below
    which it alone says "no digit", `vote_threshold` the same for the vote of the networks trained
    with it, `vote_weight` what it counts in that vote. `vocabulary` says what its outputs are.
    """

    name: str
    arguments: dict[str, Any]
    weights: dict[str, Tensor]
    audio: config.AudioSettings
    features: config.FeaturesSettings
    vocabulary: config.Vocabulary = config.ENGLISH_DIGITS
    temperature: float = 1.0
    reject_bias: float = 0.0
    threshold: float = 0.0
    vote_threshold: float = 0.0
    vote_weight: float = 1.0
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def knows_oh(self) -> bool:
        """Whether the network has an output for "oh"; those of earlier versions haven't."""
        outputs = self.arguments.get("n_classes")
        return self.vocabulary.knows_oh and outputs == self.vocabulary.n_outputs

    def network(self) -> tuple[FrontEnd, nn.Module]:
        """The front end and the network, in evaluation mode, on the CPU."""
        front_end = FrontEnd(self.features, self.audio.sample_rate)
        network = registry.create_model(self.name, front_end.n_features, **self.arguments)
        network.load_state_dict(self.weights)
        return front_end.eval(), network.eval()


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically, as plain values and tensors that ``weights_only`` accepts."""
    content = {item.name: getattr(checkpoint, item.name) for item in dataclasses.fields(checkpoint)}
    vocabulary = content.pop("vocabulary")
    content |= {
        "format": FORMAT,
        "labels": list(vocabulary.labels),
        "audio": dataclasses.asdict(checkpoint.audio),
        "features": dataclasses.asdict(checkpoint.features),
    }
    if vocabulary != config.ENGLISH_DIGITS:  # which are in no file of English digits
        content |= {"words": list(vocabulary.words), "language": vocabulary.language}
    utils.save_tensors(path, content)


def load_checkpoint(path: Path | str, strings: bool = False) -> Checkpoint:
    """Read a checkpoint of a network that tells single digits, or of one that hears whole strings.

    Raises
    ------
    UserError : missing, truncated, not one of ours, made for settings this version lacks, with
        values that no training gives, or of the other of the two
    """
    path = Path(path)
    if not path.is_file():
        make = " --models digit_ctc" if strings else ""
        raise config.UserError(f"{path}: no such model file; train one with: python train.py{make}")
    content = utils.load_tensors(path, REMEDY)
    stored = content.get("format") if isinstance(content, dict) else None
    if not fits(stored, int) or stored != FORMAT:
        raise config.UserError(f"{path}: not a checkpoint of this version; {REMEDY}")
    try:
        checkpoint = unpacked(content)
        check_values(checkpoint)
        check_weights(checkpoint)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        problem = "its weights or settings do not fit the networks of this version"
    except config.UserError as error:
        problem = str(error)
    else:
        check_purpose(path, checkpoint, strings)
        check_encoder(path, checkpoint)
        return checkpoint
    raise config.UserError(f"{path}: {problem}; {REMEDY}")


def check_purpose(path: Path, checkpoint: Checkpoint, strings: bool) -> None:
    """Refuse a network that hears strings where one for single digits is wanted, and vice versa."""
    hears_strings = checkpoint.name in registry.SEQUENCE
    if hears_strings and not strings:
        raise config.UserError(
            f"{path}: hears whole strings of digits: use it with --strings; single digits need "
            "another network"
        )
    if strings and not hears_strings:
        raise config.UserError(
            f"{path}: tells single digits, not strings; train one that does with: python train.py "
            "--models digit_ctc"
        )


def unpacked(content: dict[str, Any]) -> Checkpoint:
    """The checkpoint in a file's dictionary."""
    values = {name: value for name, value in content.items() if name != "format"}
    labels, language = texts(values.pop("labels")), values.pop("language", "en")
    names = config.DIGIT_WORDS if labels == config.DIGITS else labels
    vocabulary = config.Vocabulary(labels, texts(values.pop("words", names)), language)
    features = dict(values["features"])
    if features.get("mel_scale") == "slaney":  # a setting once, now always so
        features.pop("mel_scale")
    return Checkpoint(
        **values
        | {
            "vocabulary": vocabulary,
            "audio": settings_group(config.AudioSettings, values["audio"]),
            "features": settings_group(config.FeaturesSettings, features),
        }
    )


def texts(values: Any) -> tuple[str, ...]:
    """Stored labels or words."""
    if not isinstance(values, list | tuple) or not all(isinstance(item, str) for item in values):
        raise TypeError
    return tuple(values)


def settings_group(kind: type[Group], values: dict[str, Any]) -> Group:
    """A group of settings from stored values, each of the type that the group declares."""
    hints = typing.get_type_hints(kind)
    for name, value in values.items():
        if not fits(value, hints[name]):
            raise config.UserError(f"its {name} is {shown(value)}")
    return kind(**values)


def shown(value: object) -> str:
    """The beginning of a value, in one line."""
    return " ".join(reprlib.repr(value).split())[:40]


def fits(value: object, hint: Any) -> bool:
    """Whether a stored value has the type `hint`; numbers must be finite."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, inner[0]) for item in value)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, choice) for choice in inner)
    if hint is float:
        return isinstance(value, float) and math.isfinite(value) or type(value) is int
    return type(value) is hint


def check_values(checkpoint: Checkpoint) -> None:
    """Refuse labels, outputs, calibration and record that no training gives."""
    vocabulary, hears_strings = checkpoint.vocabulary, checkpoint.name in registry.SEQUENCE
    if hears_strings and vocabulary != config.ENGLISH_DIGITS:
        raise config.UserError("its labels are not the ten digits")
    if not isinstance(vocabulary.language, str):
        raise config.UserError(f"its language is {shown(vocabulary.language)}")
    outputs = checkpoint.arguments.get("n_classes", config.N_ANSWERS)
    known = [vocabulary.n_answers, vocabulary.n_outputs]
    if hears_strings:
        known = [config.N_FRAME_CLASSES]
    if not fits(outputs, int) or outputs not in known:
        raise config.UserError(f"its n_classes is {shown(outputs)}")
    for name, low, high in (
        ("temperature", 1e-3, 1e3),
        ("reject_bias", -1e3, 1e3),
        ("threshold", 0, 1),
        ("vote_threshold", 0, 1),
        ("vote_weight", 1e-6, 1e6),
    ):
        value = getattr(checkpoint, name)
        if not fits(value, float) or not low <= value <= high:
            raise config.UserError(f"its {name} is {shown(value)}")
    if not isinstance(checkpoint.record, dict) or not fits(checkpoint.record.get("seed", 0), int):
        raise config.UserError("its record is damaged")


def check_weights(checkpoint: Checkpoint) -> None:
    """Refuse weights of other shapes, before memory is taken for them, and ones not finite."""
    front_end = FrontEnd(checkpoint.features, checkpoint.audio.sample_rate)
    with torch.device("meta"):
        network = registry.create_model(
            checkpoint.name, front_end.n_features, **checkpoint.arguments
        )
    expected = {name: (value.shape, value.dtype) for name, value in network.state_dict().items()}
    if expected != {name: (item.shape, item.dtype) for name, item in checkpoint.weights.items()}:
        raise ValueError
    if not all(torch.isfinite(item).all() for item in checkpoint.weights.values()):
        raise config.UserError("its weights hold NaN or infinity")


def check_encoder(path: Path, checkpoint: Checkpoint) -> None:
    """Refuse a network that listens through a speech encoder which is missing, or another one.

    What it was trained with is in the checkpoint's record as `encoder_sha256`.
    """
    if checkpoint.features.kind != "encoder":
        return
    encoder = config.program_path(config.ENCODER_FILE)
    if not encoder.is_file():
        raise config.UserError(
            f"{path}: needs the speech encoder {encoder}, which is missing; {speech_encoder.REMEDY}"
        )
    trained_with = checkpoint.record.get("encoder_sha256", "")
    if trained_with and trained_with != speech_encoder.digest(encoder):
        raise config.UserError(
            f"{path}: trained with another speech encoder than {encoder}; get that one, or "
            "train again with: python train.py"
        )
