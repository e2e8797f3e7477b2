"""The networks. A new one is a class with ``@register("name")`` and a ``name_width`` setting.

Each takes features, float32 (batch, n_features, frames), and returns logits, float32 (batch,
n_classes): ten digits and non-digit. Both keep frequency and time apart until the end, because
a formant two bands higher is another speaker, but a formant two frames later is the same word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import config

REGISTRY: dict[str, Callable[..., nn.Module]] = {}


def register(name: str) -> Callable:
    """Class decorator that makes a network known to :func:`create_model`."""

    def keep(model: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        REGISTRY[name] = model
        return model

    return keep


def create_model(
    name: str, n_features: int, n_classes: int = config.N_CLASSES, **arguments: int
) -> nn.Module:
    """Make the network called `name`.

    Raises
    ------
    UserError : no such network; the text lists those there are
    """
    if name not in REGISTRY:
        raise config.UserError(f"no model named {name!r}: there are {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name](n_features=n_features, n_classes=n_classes, **arguments)


def model_arguments(name: str, settings: config.ModelSettings) -> dict[str, int]:
    """The keyword arguments of network `name`: its ``{name}_width`` in the settings."""
    return {"width": getattr(settings, f"{name}_width")}


def conv_block(inputs: int, outputs: int, stride: int | tuple[int, int] = 1) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
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


@register("cnn")
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


@register("rnn")
class RNNModel(nn.Module):
    """Two-layer bidirectional LSTM behind a small convolutional subsampling, pooled over time."""

    def __init__(self, n_features: int, n_classes: int, width: int = 64) -> None:
        super().__init__()
        self.subsample = nn.Sequential(
            conv_block(1, 16, 2), conv_block(16, 32, 2), ResidualBlock(32)
        )
        bands = -(-n_features // 4)
        self.project = nn.Linear(32 * bands, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True, bidirectional=True)
        self.pool = AttentivePooling(2 * width)
        self.head = nn.Linear(4 * width, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        x = self.subsample(features.unsqueeze(1))
        x = torch.relu(self.project(x.flatten(1, 2).transpose(1, 2)))
        x, _ = self.lstm(x)
        return self.head(self.pool(x.transpose(1, 2)))


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers in the network."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, n_features: int, frames: int) -> int:
    """Multiply-adds for one clip: convolutions, linear layers and LSTMs, counted as they run."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal total
        if isinstance(module, nn.LSTM):
            steps = inputs[0].shape[1]
            total += steps * sum(
                weight.numel()
                for name, weight in module.named_parameters()
                if name.startswith("weight")
            )
        elif isinstance(module, nn.Linear):
            total += module.weight.numel() * (output.numel() // output.shape[-1])
        else:
            total += module.weight.numel() * (output.numel() // output.shape[1])

    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.LSTM)
    hooks = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    training, device = model.training, next(model.parameters()).device
    with torch.no_grad():
        model.eval()(torch.zeros(1, n_features, frames, device=device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return total
