"""The network that hears whole strings as an ONNX file: samples in, posteriors of frames out.

A window of any whole number of frames goes in; :class:`recognition.string_windows.WindowedFrames`
cuts a stream into such windows. Batches have one window.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import config
import speech_encoder
import utils
from audio_feature_extraction import whisper_log_mel
from recognition.checkpoint import Checkpoint, load_checkpoint
from recognition.onnx_export import LICENCE, OPSET, quantized, quiet, tidied
from recognition.onnx_predictor import OPEN, SEAL, file_digest, sealed
from recognition.string_networks import INPUTS, OUTPUTS, VERSION
from recognition.string_windows import OFFLINE
from recognition.vote_graph import GraphEncoder, GraphPower, LevelAndLength, three_frames

LONGEST = round(OFFLINE.window / 0.02)
"""Positions of the encoder, 20 ms each, that the longest window needs."""
WAYS = ("", "_reverse")
"""How PyTorch's names of an LSTM's weights end, for each direction."""


class AnyLengthEncoder(GraphEncoder):
    """The speech encoder for windows of any length up to the positions that it is given."""

    def forward(self, log_mel: Tensor, pool: int) -> Tensor:
        x = F.gelu(three_frames(log_mel.transpose(1, 2), 1) @ self.matrix1 + self.bias1)
        x = F.gelu(three_frames(x, 2) @ self.matrix2 + self.bias2)
        x = x + self.positions[: x.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return F.avg_pool1d(self.norm(x).transpose(1, 2), pool)


class GraphLstm(nn.Module):
    """The layers of a bidirectional LSTM as ONNX's own, which take any number of frames.

    PyTorch's exporter would write one cell for each frame. This computes in ONNX only.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.width, self.layers = lstm.hidden_size, lstm.num_layers
        for layer in range(lstm.num_layers):
            kinds = [
                torch.stack([reordered(getattr(lstm, f"{kind}_l{layer}{way}")) for way in WAYS])
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            self.register_buffer(f"inputs{layer}", kinds[0])
            self.register_buffer(f"states{layer}", kinds[1])
            self.register_buffer(f"biases{layer}", torch.cat(kinds[2:], dim=1))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        x = x.transpose(0, 1)
        for layer in range(self.layers):
            weights = [getattr(self, f"{kind}{layer}") for kind in ("inputs", "states", "biases")]
            frames, batch = x.shape[:2]
            states = torch.onnx.ops.symbolic(
                "LSTM",
                (x, *weights),
                attrs={"hidden_size": self.width, "direction": "bidirectional"},
                dtype=x.dtype,
                shape=(frames, len(WAYS), batch, self.width),
                version=OPSET,
            )
            x = states.transpose(1, 2).flatten(2)
        return x.transpose(0, 1), None


def reordered(weight: Tensor) -> Tensor:
    """A weight or bias with its gates in ONNX's order: input, output, forget, cell."""
    first, forget, cell, output = weight.detach().chunk(4)
    return torch.cat([first, output, forget, cell])


class StringsGraph(nn.Module):
    """From samples, float32 (1, samples), to posteriors, float32 (1, frames, 13)."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.front_end, self.network = checkpoint.network()
        self.network.lstm = GraphLstm(self.network.lstm)
        self.settings = self.front_end.settings
        self.level, self.temperature = LevelAndLength(checkpoint.audio), checkpoint.temperature
        self.power = GraphPower(self.front_end.spectrogram.window, self.settings.hop_length)
        self.encoder: AnyLengthEncoder | None = None
        if self.settings.kind == "encoder":
            path = config.program_path(config.ENCODER_FILE)
            encoder = speech_encoder.load_encoder(path, self.settings.encoder_layers)
            self.encoder = AnyLengthEncoder(encoder, LONGEST)

    def forward(self, samples: Tensor) -> Tensor:
        lengths = torch.full((1, 1), samples.shape[1], dtype=torch.int64)
        leveled = samples * self.level.gain(samples, lengths)
        bands = self.front_end.bands(self.power(leveled))
        logits = self.network(self.features(bands))
        return (logits / self.temperature).softmax(dim=2)

    def features(self, bands: Tensor) -> Tensor:
        """Features of mel bands, float32 (1, bands, frames), as the checkpoint's front end's."""
        if self.encoder is None:
            return self.front_end.from_bands(bands)
        frames = self.encoder(whisper_log_mel(bands), self.settings.encoder_pool)
        return self.front_end.normalize(frames)


def write_strings(target: Path, checkpoint_path: Path, precision: str = "int8") -> str:
    """Write the ONNX file of a checkpoint, with its encoder, if it has one, in int8 or float32.

    Returns the precision of what was written: without encoder it is always float32.

    Raises
    ------
    UserError : no such network
    """
    checkpoint = load_checkpoint(checkpoint_path, strings=True)
    model = exported(checkpoint)
    if checkpoint.features.kind != "encoder":
        precision = "float32"  # small enough, and its LSTM stays so in any case
    if precision == "int8":
        model = quantized(model)
    content = with_metadata(model, checkpoint, precision, file_digest(checkpoint_path))
    with utils.atomic_path(target) as temporary:
        temporary.write_bytes(content)
    return precision


def exported(checkpoint: Checkpoint) -> Any:
    """PyTorch's own export, as ONNX's ModelProto, float32; the number of samples is free."""
    samples = torch.zeros(1, 3 * checkpoint.audio.sample_rate)
    with quiet("torch.onnx"):
        program = torch.onnx.export(
            StringsGraph(checkpoint).eval(),
            (samples,),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=OUTPUTS,
            dynamic_shapes={"samples": {1: torch.export.Dim("samples")}},
        )
    return tidied(program.model_proto)


def with_metadata(model: Any, checkpoint: Checkpoint, precision: str, made_from: str) -> bytes:
    """The file's content: what somebody who has only the file must know is in it."""
    from onnx import helper

    metadata = {
        "version": VERSION,
        "outputs": [*config.DIGITS, "other speech", "oh", "blank"],
        "frame_seconds": 0.04,
        "sample_rate": checkpoint.audio.sample_rate,
        "precision": precision,
        "made_from": made_from,
        "licence": LICENCE,
        "encoder_licence": speech_encoder.LICENCE,
        "record": checkpoint.record,
    }
    values = {name: json.dumps(utils.json_value(value)) for name, value in metadata.items()}
    key = SEAL[: SEAL.index(b"\x12")].decode()
    helper.set_model_props(model, values | {key: OPEN.decode()})
    return sealed(model.SerializeToString())
