"""How large a network is and how much it computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


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
