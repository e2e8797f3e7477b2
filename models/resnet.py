"""The deep residual network with attention to channels and places: the largest of the zoo."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.blocks import (
    AttentivePooling,
    Dropout,
    SpatialAttention,
    SqueezeExcitation,
    conv_block,
    join_bands,
)


class AttentiveResidualBlock(nn.Module):
    """Two 3x3 convolutions, attention to channels and then to places, around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_block(inputs, outputs, stride),
            conv_block(outputs, outputs, activation=nn.Identity),
            SqueezeExcitation(outputs),
            SpatialAttention(),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = conv_block(inputs, outputs, stride, kernel=1, activation=nn.Identity)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.body(x))


class ResNetModel(nn.Module):
    """Residual blocks (He et al. 2016) with squeeze-and-excitation and spatial attention.

    Squeeze-and-excitation is Hu et al.'s (2018), spatial attention that of CBAM (Woo et al. 2018).
    About 2.5 million parameters.
    """

    def __init__(self, n_features: int, n_classes: int, width: int = 58) -> None:
        super().__init__()
        self.stem = conv_block(1, width, 2, kernel=5)
        self.stages = nn.Sequential(
            AttentiveResidualBlock(width, width, 2),
            AttentiveResidualBlock(width, width, 1),
            AttentiveResidualBlock(width, 2 * width, 2),
            AttentiveResidualBlock(2 * width, 2 * width, 1),
            AttentiveResidualBlock(2 * width, 4 * width, 2),
            AttentiveResidualBlock(4 * width, 4 * width, 1),
        )
        self.join_bands = join_bands(4 * width, -(-n_features // 16), 4 * width)
        self.pool = AttentivePooling(4 * width)
        self.dropout = Dropout(0.2)
        self.head = nn.Linear(8 * width, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        x = self.join_bands(self.stages(self.stem(features.unsqueeze(1))))
        return self.head(self.dropout(self.pool(x.squeeze(2))))
