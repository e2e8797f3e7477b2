"""The spectrogram as a picture: four convolutions on 100 x 100 grey values."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import Dropout, conv_block

SIDE = 100
"""Rows and columns of the picture."""
LOWEST_ROW = 2.0
"""Fourier bin of the picture's lowest row where the frequency axis is made logarithmic."""


class GreyscaleImage(nn.Module):
    """Features as a picture, float32 (batch, 1, 100, 100) in [0, 1].

    Black is a clip's quietest point and white its loudest. A linear frequency axis is made
    logarithmic (`log_frequency`); bands of mel or a cepstrum keep their spacing.
    """

    def __init__(self, n_features: int, log_frequency: bool) -> None:
        super().__init__()
        rows = torch.linspace(0, 1, SIDE)
        top = float(n_features - 1)
        rows = LOWEST_ROW * (top / LOWEST_ROW) ** rows if log_frequency else top * rows
        below = rows.floor().clamp(max=max(0.0, top - 1))
        self.register_buffer("below", below.long(), persistent=False)
        self.register_buffer("share", (rows - below).unsqueeze(1), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        above = (self.below + 1).clamp(max=features.shape[1] - 1)
        picture = features[:, self.below].lerp(features[:, above], self.share)
        picture = F.interpolate(picture, SIDE, mode="linear", align_corners=True)
        low, high = picture.amin(dim=(1, 2), keepdim=True), picture.amax(dim=(1, 2), keepdim=True)
        return ((picture - low) / (high - low).clamp(min=1e-6)).unsqueeze(1)


class ImageCNNModel(nn.Module):
    """Four convolutions with pooling on the log-frequency spectrogram as a greyscale picture.

    A picture classifier as it is (LeCun et al. 1998), which does well on sound too (Hershey et al.
    2017, "CNN architectures for large-scale audio classification").
    """

    def __init__(
        self, n_features: int, n_classes: int, width: int = 16, log_frequency: bool = False
    ) -> None:
        super().__init__()
        self.image = GreyscaleImage(n_features, log_frequency)
        channels = (1, width, 2 * width, 4 * width, 8 * width)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(conv_block(inputs, outputs), nn.MaxPool2d(2))
                for inputs, outputs in zip(channels, channels[1:], strict=False)
            )
        )
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(8 * width * (SIDE // 16) ** 2, 8 * width),
            nn.ReLU(inplace=True),
            Dropout(0.3),
        )
        self.head = nn.Linear(8 * width, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.dense(self.layers(self.image(features))))
