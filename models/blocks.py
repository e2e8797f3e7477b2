"""Parts that several networks are built of."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv_block(inputs: int, outputs: int, stride: int | tuple[int, int] = 1) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_block(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class AttentivePooling(nn.Module):
    """Weighted mean over time joined with the maximum (attentive pooling: Okabe et al. 2018).

    (batch, channels, frames) -> (batch, 2 * channels)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv1d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.score(x).softmax(dim=2)
        return torch.cat([(x * weights).sum(dim=2), x.amax(dim=2)], dim=1)
