"""The dense baseline: what a course on speech recognition shows first."""

from __future__ import annotations

from torch import Tensor, nn

from models.blocks import Dropout

SEGMENTS = 20
"""Stretches of time that the features are averaged over: 50 ms each in a clip of one second."""


class MLPModel(nn.Module):
    """Dense layers (Chen et al. 2014, "Small-footprint keyword spotting using deep networks").

    Meant for MFCC, averaged over :data:`SEGMENTS` stretches of time, so that a clip of any length
    has as many inputs. Every place has its own weights: what it learned of a word it does not know
    a little later.
    """

    def __init__(self, n_features: int, n_classes: int, width: int = 256) -> None:
        super().__init__()
        self.segments = nn.AdaptiveAvgPool1d(SEGMENTS)
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(n_features * SEGMENTS, width),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            Dropout(0.3),
            nn.Linear(width, width // 2),
            nn.BatchNorm1d(width // 2),
            nn.ReLU(inplace=True),
            Dropout(0.3),
        )
        self.head = nn.Linear(width // 2, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.body(self.segments(features)))
