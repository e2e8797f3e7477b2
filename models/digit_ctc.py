"""The network that hears whole strings of digits, frame by frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.blocks import Dropout

SHORTENING = 4
"""Frames of 10 ms that become one where no encoder has shortened them."""


class DigitCtcModel(nn.Module):
    """Two-layer bidirectional LSTM for connectionist temporal classification (Graves et al. 2006).

    Input: features, float32 (batch, n_features, frames). Output: logits, float32 (batch, frames of
    40 ms, n_classes): ten digits, other speech, "oh" and blank. It hears both ways within what it
    is given, and windows bound that (:mod:`recognition.string_windows`).

    With `subsample` a convolution makes one frame of four: for log-mel frames of 10 ms.
    """

    def __init__(
        self, n_features: int, n_classes: int, width: int = 96, subsample: bool = True
    ) -> None:
        super().__init__()
        self.subsample = None
        if subsample:
            kernel = 2 * SHORTENING + 1
            self.subsample = nn.Conv1d(n_features, 2 * width, kernel, SHORTENING, kernel // 2)
        self.dropout = Dropout(0.15)
        inputs = 2 * width if subsample else n_features
        self.lstm = nn.LSTM(inputs, width, num_layers=2, batch_first=True, bidirectional=True)
        self.between = Dropout(0.15)
        self.head = nn.Linear(2 * width, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        x = features
        if self.subsample is not None:
            x = torch.relu(self.subsample(x))
        x, _ = self.lstm(self.dropout(x.transpose(1, 2)))
        return self.head(self.between(x))
