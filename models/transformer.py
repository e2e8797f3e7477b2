"""The transformer: every frame looks at every other."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.blocks import AttentivePooling, Dropout, SelfAttention


def positional_encoding(frames: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines of geometric wavelengths, float32 (frames, width) (Vaswani et al. 2017)."""
    position = torch.arange(frames, device=device, dtype=torch.float32).unsqueeze(1)
    step = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    angle = position * torch.exp(-math.log(10_000.0) * step / width)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


class EncoderLayer(nn.Module):
    """Self-attention and a dense part, each normalised first and around a shortcut."""

    def __init__(self, width: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.LayerNorm(width), SelfAttention(width, heads), Dropout(dropout)
        )
        self.dense = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.dense(x)


class TransformerModel(nn.Module):
    """Multi-head self-attention over frames with positional encoding (Vaswani et al. 2017).

    For keywords: Berg et al. 2021, "Keyword transformer". With `subsample` a convolution over time
    halves the frames first; without, for an encoder's frames, each is projected as it is.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        width: int = 96,
        subsample: bool = True,
        layers: int = 4,
        heads: int = 4,
    ) -> None:
        super().__init__()
        kernel, stride = (5, 2) if subsample else (1, 1)
        self.project = nn.Conv1d(n_features, width, kernel, stride, kernel // 2)
        self.layers = nn.Sequential(*(EncoderLayer(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.pool = AttentivePooling(width)
        self.head = nn.Linear(2 * width, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        x = self.project(features).transpose(1, 2)
        x = x + positional_encoding(x.shape[1], x.shape[2], x.device)
        return self.head(self.pool(self.norm(self.layers(x)).transpose(1, 2)))
