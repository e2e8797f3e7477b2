"""The smallest network that is still good: for microcontrollers and for speed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.blocks import AttentivePooling, conv_block


class SeparableBlock(nn.Module):
    """Each channel over time, then the channels mixed, around a shortcut where the size stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(inputs, inputs, kernel, stride, kernel // 2, groups=inputs, bias=False),
            nn.Conv1d(inputs, outputs, 1, bias=False),
            nn.BatchNorm1d(outputs),
        )
        self.keeps_shape = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x) if self.keeps_shape else self.body(x))


class LightweightModel(nn.Module):
    """Time-channel separable 1-D convolutions behind one small 2-D convolution.

    As MatchboxNet (Majumdar and Ginsburg 2020); bands as channels after TC-ResNet (Choi et al.
    2019). At most 100,000 parameters and 3 million multiply-adds. Without `subsample` each frame
    goes in as it is: for an encoder's frames, whose rows have no order.
    """

    def __init__(
        self, n_features: int, n_classes: int, width: int = 64, subsample: bool = True
    ) -> None:
        super().__init__()
        self.subsample = conv_block(1, 8, 2, kernel=5) if subsample else None
        rows = 8 * -(-n_features // 2) if subsample else n_features
        stride = 2 if subsample else 1
        self.project = SeparableBlock(rows, width, 3)
        self.stages = nn.Sequential(
            SeparableBlock(width, width, 9),
            SeparableBlock(width, 3 * width // 2, 9, stride),
            SeparableBlock(3 * width // 2, 3 * width // 2, 9),
            SeparableBlock(3 * width // 2, 3 * width // 2, 9),
            SeparableBlock(3 * width // 2, 3 * width // 2, 9),
        )
        self.pool = AttentivePooling(3 * width // 2)
        self.head = nn.Linear(3 * width // 2 * 2, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        x = features
        if self.subsample is not None:
            x = self.subsample(features.unsqueeze(1)).flatten(1, 2)
        return self.head(self.pool(self.stages(self.project(x))))
