"""A pretrained speech encoder: the ear of OpenAI's Whisper tiny.en, frozen and shortened.

Radford et al. 2022, "Robust speech recognition via large-scale weak supervision" (MIT licence).
Only its encoder is used, of it only the first layers, and nothing of it is trained here. The
weights come with the program, as 8-bit integers; ``export_model.py --encoder-from`` made them.
"""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import config
import utils

LICENCE = "MIT, copyright (c) 2022 OpenAI"
SAMPLE_RATE = 16000
BANDS = 80
WIDTH = 384
"""Features of a frame."""
HEAD_WIDTH = 64
POSITIONS = 1500
"""Frames of 20 ms that the encoder was trained on at most: 30 s."""
FORMAT = 1
"""Layout of the file's dictionary; raised when it changes."""
REMEDY = "make it again with: python export_model.py --encoder-from PATH (see its --help)"


def sinusoids(length: int, width: int) -> Tensor:
    """Positions as sines and cosines (Vaswani et al. 2017), float32 (length, width)."""
    rates = torch.exp(torch.arange(width // 2) * (-math.log(10000) / (width // 2 - 1)))
    angles = torch.arange(length).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class EncoderLayer(nn.Module):
    """A transformer layer that normalises first: self-attention, then two dense layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.dense_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.query_key_value(self.attention_norm(x)).unflatten(2, (3, -1, HEAD_WIDTH))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (batch, heads, frames, HEAD_WIDTH)
        attended = F.scaled_dot_product_attention(query, key, value)
        x = x + self.output(attended.transpose(1, 2).flatten(2))
        return x + self.contract(F.gelu(self.expand(self.dense_norm(x))))


class SpeechEncoder(nn.Module):
    """Whisper's encoder: two convolutions, positions, transformer layers.

    Input: Whisper's log-mel spectrogram, float32 (batch, BANDS, frames of 10 ms). Output: float32
    (batch, width, frames of 20 ms), or of `pool` x 20 ms: each is the mean of `pool` frames.
    """

    def __init__(self, layers: int = 4, width: int = WIDTH) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(BANDS, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.register_buffer("positions", sinusoids(POSITIONS, width), persistent=False)
        self.layers = nn.ModuleList(EncoderLayer(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, log_mel: Tensor, pool: int = 1) -> Tensor:
        x = F.gelu(self.conv2(F.gelu(self.conv1(log_mel)))).transpose(1, 2)
        if x.shape[1] > POSITIONS:
            raise config.UserError(
                f"a clip of {log_mel.shape[2] / 100:g} s is too long for the speech encoder: "
                f"use at most {POSITIONS // 50} s"
            )
        x = x + self.positions[: x.shape[1]]
        for layer in self.layers:
            x = layer(x)
        # ceil_mode: a last frame without its partner stands for itself
        return F.avg_pool1d(self.norm(x).transpose(1, 2), pool, ceil_mode=True)


def save_encoder(path: Path | str, encoder: SpeechEncoder, provenance: dict[str, Any]) -> None:
    """Write an encoder, atomically: matrices as int8 with one scale a row, the rest as float32.

    `provenance`: plain values that say where the weights come from and under which licence.
    """
    weights, scales = {}, {}
    for name, value in encoder.state_dict().items():
        weights[name] = value
        if value.ndim > 1:
            rows = value.flatten(1)
            scales[name] = rows.abs().amax(dim=1).clamp(min=1e-12) / 127
            levels = (rows / scales[name].unsqueeze(1)).round().to(torch.int8)
            weights[name] = levels.view(value.shape)
    content = {"format": FORMAT, "layers": len(encoder.layers), "provenance": provenance}
    utils.save_tensors(path, content | {"weights": weights, "scales": scales})


def load_encoder(path: Path | str, layers: int) -> SpeechEncoder:
    """The first `layers` layers of the encoder in a file; frozen, in evaluation mode, on the CPU.

    Raises
    ------
    UserError : missing, truncated, altered, of another width, or with fewer layers
    """
    path = Path(path)
    require_file(path)
    content = utils.load_tensors(path, REMEDY)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise config.UserError(f"{path}: not a speech encoder of this version; {REMEDY}")
    try:
        encoder = SpeechEncoder(layers).eval().requires_grad_(False)
        encoder.load_state_dict(_float_weights(encoder, content))
        return encoder
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        problem = f"not {layers} layers of width {WIDTH}"
    raise config.UserError(f"{path}: {problem}; {REMEDY}")


def _float_weights(encoder: SpeechEncoder, content: dict[str, Any]) -> dict[str, Tensor]:
    """The weights that `encoder` takes, float32, from a file's dictionary; finite and fitting."""
    weights = {}
    for name, parameter in encoder.state_dict().items():
        stored = content["weights"][name]
        if stored.shape != parameter.shape:
            raise ValueError
        weights[name] = stored.float()
        if parameter.ndim > 1:
            scale = content["scales"][name]
            weights[name] = (stored.flatten(1) * scale.unsqueeze(1)).view(stored.shape)
        if not torch.isfinite(weights[name]).all():
            raise ValueError
    return weights


@functools.lru_cache
def shared_encoder(path: Path, layers: int, device: torch.device) -> SpeechEncoder:
    """As :func:`load_encoder`, on a device; loaded once a process, whoever asks."""
    return load_encoder(path, layers).to(device)


def require_file(path: Path) -> None:
    """Refuse to go on without the encoder's file: one line says what makes it."""
    if not path.is_file():
        raise config.UserError(f"{path}: no such speech encoder; {REMEDY}")


def digest(path: Path | str) -> str:
    """SHA-256 of an encoder's file: features cached for another one can be told apart."""
    path = Path(path)
    require_file(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()
