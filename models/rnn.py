"""The bidirectional LSTM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.blocks import AttentivePooling, Dropout, ResidualBlock, conv_block


class RNNModel(nn.Module):
    """Two-layer bidirectional LSTM (Graves and Schmidhuber 2005), pooled over time.

    With `subsample` a small convolution shortens bands and frames first. Without, each frame goes
    in as it is: for an encoder's frames, whose rows have no order and which are few already.
    """

    def __init__(
        self, n_features: int, n_classes: int, width: int = 64, subsample: bool = True
    ) -> None:
        super().__init__()
        self.subsample = None
        if subsample:
            self.subsample = nn.Sequential(
                conv_block(1, 16, 2), conv_block(16, 32, 2), ResidualBlock(32)
            )
        inputs = 32 * -(-n_features // 4) if subsample else n_features
        self.dropout = Dropout(0.0 if subsample else 0.1)
        self.project = nn.Linear(inputs, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True, bidirectional=True)
        self.pool = AttentivePooling(2 * width)
        self.head = nn.Linear(4 * width, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        x = features
        if self.subsample is not None:
            x = self.subsample(features.unsqueeze(1)).flatten(1, 2)
        x = torch.relu(self.project(self.dropout(x.transpose(1, 2))))
        x, _ = self.lstm(x)
        return self.head(self.pool(x.transpose(1, 2)))
