"""The residual 2-D CNN."""

from __future__ import annotations

from torch import Tensor, nn

from models.blocks import AttentivePooling, ResidualBlock, conv_block, join_bands


class CNNModel(nn.Module):
    """Residual 2-D CNN: spectral patterns first, then the bands joined, then pooled over time.

    Residual blocks as in He et al. 2016, "Deep residual learning for image recognition". Frequency
    and time stay apart until the end, because a formant two bands higher is another speaker, but
    a formant two frames later is the same word.
    """

    def __init__(self, n_features: int, n_classes: int, width: int = 32) -> None:
        super().__init__()
        self.stem = conv_block(1, width // 2, 2, kernel=5)
        self.stages = nn.Sequential(
            conv_block(width // 2, width, 2),
            ResidualBlock(width),
            conv_block(width, 2 * width, 2),
            ResidualBlock(2 * width),
        )
        bands = -(-n_features // 8)
        self.join_bands = join_bands(2 * width, bands, 2 * width)
        self.pool = AttentivePooling(2 * width)
        self.head = nn.Linear(4 * width, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        x = self.join_bands(self.stages(self.stem(features.unsqueeze(1))))
        return self.head(self.pool(x.squeeze(2)))
