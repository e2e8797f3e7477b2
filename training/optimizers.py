"""The optimizers: Muon for the hidden layers' matrices, AdamW for all else."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

import config

NARROWEST = 16
"""Rows and columns that a matrix needs for :class:`Muon`; smaller ones go to AdamW."""
ADAMW_STEP = 0.2
"""Root mean square of a weight's step in AdamW at learning rate 1 (Liu et al. 2025)."""


def make_optimizers(
    network: nn.Module, settings: config.TrainingSettings
) -> list[torch.optim.Optimizer]:
    """The optimizers that `training.optimizer` asks for; each weight belongs to one of them."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for weight in network.parameters():
        wide = weight.ndim >= 2 and min(weight.flatten(1).shape) >= NARROWEST
        (matrices if wide and settings.optimizer == "muon" else others).append(weight)
    return [
        kind(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        for kind, weights in ((torch.optim.AdamW, others), (Muon, matrices))
        if weights
    ]


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal: as much along every direction of a matrix.

    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks", with Liu et al.'s
    scale (2025, "Muon is scalable for LLM training"), by which AdamW's learning rate and weight
    decay serve here too. Unlike :class:`torch.optim.Muon` it takes convolutions: the rows of their
    matrix are the output channels.

    Parameters
    ----------
    weights : of two or more dimensions
    lr : learning rate
    weight_decay : decoupled, as AdamW's
    momentum : share of the gradients before in the moving average
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Move every weight once, by its gradient and the average of those before (Nesterov)."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["average"] = torch.zeros_like(weight)
                average = state["average"].lerp_(weight.grad, 1 - group["momentum"])
                direction = weight.grad.lerp(average, group["momentum"]).flatten(1)
                size = group["lr"] * ADAMW_STEP * math.sqrt(max(direction.shape))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(orthogonal(direction).view(weight.shape), alpha=size)


def orthogonal(matrix: Tensor) -> Tensor:
    """Bring the singular values near 1 by five Newton-Schulz steps; tiny ones stay smaller.

    Takes and returns float32 (rows, columns); the coefficients are Jordan's, after which a value
    is 0.7 to 1.2.
    """
    x = matrix / (matrix.norm() + 1e-7)
    tall = len(x) > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        square = x @ x.T
        polynomial = torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315)
        x = torch.addmm(x, polynomial, x, beta=3.4445)
    return x.T if tall else x
