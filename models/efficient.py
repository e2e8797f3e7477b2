"""Depthwise-separable inverted residuals: what phones recognise pictures with."""

from __future__ import annotations

from torch import Tensor, nn

from models.blocks import AttentivePooling, Dropout, SqueezeExcitation, conv_block, join_bands


class InvertedResidual(nn.Module):
    """Widen 1x1, convolve each channel alone, weigh the channels, narrow 1x1 (Sandler et al. 2018).

    With a shortcut where shape and size stay.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, kernel: int = 3, expansion: int = 4
    ) -> None:
        super().__init__()
        wide = expansion * inputs
        self.body = nn.Sequential(
            conv_block(inputs, wide, kernel=1, activation=nn.SiLU),
            conv_block(wide, wide, stride, kernel, groups=wide, activation=nn.SiLU),
            SqueezeExcitation(wide, reduction=4 * expansion),
            conv_block(wide, outputs, kernel=1, activation=nn.Identity),
        )
        self.keeps_shape = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.keeps_shape else self.body(x)


class EfficientModel(nn.Module):
    """Depthwise-separable inverted residuals, as in EfficientNet (Tan and Le 2019)."""

    def __init__(self, n_features: int, n_classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = conv_block(1, width, 2, activation=nn.SiLU)
        middle, high = 3 * width // 2, 3 * width
        self.stages = nn.Sequential(
            InvertedResidual(width, middle, 2),
            InvertedResidual(middle, middle, 1),
            InvertedResidual(middle, 2 * width, 2, kernel=5),
            InvertedResidual(2 * width, 2 * width, 1, kernel=5),
            InvertedResidual(2 * width, high, 1, kernel=5),
            InvertedResidual(high, high, 1, kernel=5),
        )
        self.join_bands = join_bands(high, -(-n_features // 8), 4 * width)
        self.pool = AttentivePooling(4 * width)
        self.dropout = Dropout(0.1)
        self.head = nn.Linear(8 * width, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        x = self.join_bands(self.stages(self.stem(features.unsqueeze(1))))
        return self.head(self.dropout(self.pool(x.squeeze(2))))
