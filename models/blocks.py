"""Parts that several networks are built of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_block(
    inputs: int,
    outputs: int,
    stride: int | tuple[int, int] = 1,
    kernel: int = 3,
    groups: int = 1,
    activation: type[nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Convolution that keeps the size but for its stride, batch normalisation, activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.Identity() if activation is nn.Identity else activation(inplace=True),
    )


def join_bands(channels: int, bands: int, outputs: int) -> nn.Sequential:
    """All bands of a frame into one: (batch, channels, bands, frames) -> (batch, outputs, 1, ...).

    A convolution as high as there are bands, so that each keeps its own weights.
    """
    return nn.Sequential(
        nn.Conv2d(channels, outputs, (bands, 1), bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_block(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class SqueezeExcitation(nn.Module):
    """Weighs the channels by what the whole of a clip holds (Hu et al. 2018).

    (batch, channels, bands, frames) -> the same
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.excite(torch.relu(self.squeeze(x.mean(dim=(2, 3))))).sigmoid()
        return x * weights[:, :, None, None]


class SpatialAttention(nn.Module):
    """Weighs places in band and time by the mean and maximum over channels (Woo et al. 2018).

    (batch, channels, bands, frames) -> the same
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.score = nn.Conv2d(2, 1, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * self.score(summary).sigmoid()


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product self-attention (Vaswani et al. 2017).

    (batch, frames, width) -> the same
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.join_heads = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.query_key_value(x).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.join_heads(mixed.transpose(1, 2).flatten(2))


class AttentivePooling(nn.Module):
    """Weighted mean over time joined with the maximum (attentive pooling: Okabe et al. 2018).

    (batch, channels, frames) -> (batch, 2 * channels)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv1d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.score(x).softmax(dim=2)
        return torch.cat([(x * weights).sum(dim=2), x.amax(dim=2)], dim=1)


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) whose random numbers are its own.

    PyTorch's come from one generator for the whole process; networks that train side by side would
    draw from it in any order, and a resumed run other numbers than an unbroken one. `reseed` starts
    the sequence; the trainer calls it for every epoch. With `whole_rows`, all values of a channel,
    the second dimension, are dropped together.
    """

    def __init__(self, probability: float, whole_rows: bool = False) -> None:
        super().__init__()
        self.probability, self.whole_rows = probability, whole_rows
        self.reseed(0)

    def reseed(self, seed: int) -> None:
        """Start the sequence of masks that belongs to `seed`."""
        self.seed, self.calls = seed, 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.probability:
            return x
        random = torch.Generator().manual_seed(1_000_003 * self.seed + self.calls)
        self.calls += 1
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:])) if self.whole_rows else x.shape
        kept = torch.rand(shape, generator=random).to(x.device) >= self.probability
        return x * kept / (1 - self.probability)
