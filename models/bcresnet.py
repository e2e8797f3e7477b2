"""Broadcasted residual learning: 2-D convolutions at the price of 1-D ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.blocks import Dropout, conv_block

SUB_BANDS = 5
"""Sub-bands that are normalised apart, at most: as many as divide the bands evenly."""
STAGES = ((2, 2, 1, 1), (3, 2, 2, 2), (4, 4, 2, 4), (5, 4, 1, 8))
"""Channels in halves of `width`, blocks, stride over bands and dilation over time of each stage."""


class SubSpectralNorm(nn.Module):
    """Batch normalisation of each group of neighbouring bands by itself (Chang et al. 2021)."""

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.groups = max(n for n in range(1, SUB_BANDS + 1) if bands % n == 0)
        self.norm = nn.BatchNorm2d(channels * self.groups)

    def forward(self, x: Tensor) -> Tensor:
        _, channels, bands, _ = x.shape
        x = x.unflatten(2, (self.groups, bands // self.groups)).flatten(1, 2)
        return self.norm(x).unflatten(1, (channels, self.groups)).flatten(2, 3)


class BroadcastedBlock(nn.Module):
    """A depthwise convolution over bands, and over time one of their mean, added to every band."""

    def __init__(
        self, inputs: int, outputs: int, bands: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.keeps_shape = inputs == outputs and stride == 1
        self.widen = nn.Identity() if self.keeps_shape else conv_block(inputs, outputs, kernel=1)
        self.over_bands = nn.Sequential(
            nn.Conv2d(outputs, outputs, (3, 1), (stride, 1), (1, 0), groups=outputs, bias=False),
            SubSpectralNorm(outputs, bands),
        )
        self.over_time = nn.Sequential(
            nn.Conv2d(
                outputs,
                outputs,
                (1, 3),
                padding=(0, dilation),
                dilation=(1, dilation),
                groups=outputs,
                bias=False,
            ),
            nn.BatchNorm2d(outputs),
            nn.SiLU(inplace=True),
            nn.Conv2d(outputs, outputs, 1, bias=False),
            Dropout(0.1, whole_rows=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        bands = self.over_bands(self.widen(x))
        broadcast = bands + self.over_time(bands.mean(dim=2, keepdim=True))
        return torch.relu(broadcast + x if self.keeps_shape else broadcast)


class BCResNetModel(nn.Module):
    """BC-ResNet (Kim et al. 2021, "Broadcasted residual learning for efficient keyword spotting").

    `width` is 8 times the paper's scale: 8 is BC-ResNet-1, 24 is BC-ResNet-3.
    """

    def __init__(self, n_features: int, n_classes: int, width: int = 16) -> None:
        super().__init__()
        inputs, bands = 2 * width, -(-n_features // 2)
        self.stem = nn.Sequential(
            nn.Conv2d(1, inputs, 5, (2, 1), 2, bias=False), nn.BatchNorm2d(inputs), nn.ReLU()
        )
        blocks = []
        for halves, count, stride, dilation in STAGES:
            outputs, bands = halves * width // 2, -(-bands // stride)
            for number in range(count):
                here = stride if number == 0 else 1
                blocks.append(BroadcastedBlock(inputs, outputs, bands, here, dilation))
                inputs = outputs
        self.stages = nn.Sequential(*blocks)
        self.join_bands = nn.Conv2d(
            inputs, inputs, (min(5, bands), 5), padding=(0, 2), groups=inputs, bias=False
        )
        self.widen = conv_block(inputs, 4 * width, kernel=1)
        self.head = nn.Linear(4 * width, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        x = self.join_bands(self.stages(self.stem(features.unsqueeze(1))))
        return self.head(self.widen(x.mean(dim=2, keepdim=True)).mean(dim=(2, 3)))
