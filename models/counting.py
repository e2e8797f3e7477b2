"""How large a network is and how much it computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

ATTENDS = "query_key_value"
"""What every module that attends calls the layer that makes queries, keys and values."""


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers in the network."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, n_features: int, frames: int) -> int:
    """Multiply-adds for one clip, counted as they run.

    Convolutions, linear layers, LSTMs and the products of self-attention; element by element work
    (normalisation, activations, weights on channels) is left out, as usual.
    """
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal total
        total += of_layer(module, inputs[0], output)

    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.LSTM)
    hooks = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, kinds) or hasattr(module, ATTENDS)
    ]
    training, device = model.training, next(model.parameters()).device
    with torch.no_grad():
        model.eval()(torch.zeros(1, n_features, frames, device=device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return total


def of_layer(module: nn.Module, given: Tensor, output: Any) -> int:
    """Multiply-adds of one layer, without those of the layers within it."""
    if hasattr(module, ATTENDS):  # queries with keys, weights with values
        frames, width = given.shape[1:]
        return 2 * frames * frames * width
    if isinstance(module, nn.LSTM):
        weights = (item for name, item in module.named_parameters() if name.startswith("weight"))
        return given.shape[1] * sum(weight.numel() for weight in weights)
    if isinstance(module, nn.Linear):
        return module.weight.numel() * (output.numel() // output.shape[-1])
    return module.weight.numel() * (output.numel() // output.shape[1])
