"""The residual 2-D CNN."""

from __future__ import annotations

from torch import Tensor, nn

from models.blocks import AttentivePooling, ResidualBlock, conv_block


class CNNModel(nn.Module):
    """Residual 2-D CNN: spectral patterns first, then the bands joined, then pooled over time."""

    def __init__(self, n_features: int, n_classes: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width // 2, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential(
            conv_block(width // 2, width, 2),
            ResidualBlock(width),
            conv_block(width, 2 * width, 2),
            ResidualBlock(2 * width),
        )
        bands = -(-n_features // 8)
        self.join_bands = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, (bands, 1), bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
        )
        self.pool = AttentivePooling(2 * width)
        self.head = nn.Linear(4 * width, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        x = self.join_bands(self.stages(self.stem(features.unsqueeze(1))))
        return self.head(self.pool(x.squeeze(2)))
