"""What becomes of "oh", the networks' twelfth output: zero or non-digit, as a setting asks.

Networks that were trained before have eleven outputs, and are left as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

import config


def fold_oh(logits: Tensor, as_zero: bool, n_answers: int = config.N_ANSWERS) -> Tensor:
    """Add the probability of "oh" to that of zero, or to that of non-digit.

    Parameters
    ----------
    logits : float (..., 12), or (..., 11), which come back as they are
    as_zero : to which of the two
    n_answers : classes of answers; a network for other words has no outputs beside these

    Returns
    -------
    logits : float (..., 11), ten digits and non-digit
    """
    if logits.shape[-1] <= n_answers:
        return logits
    target = 0 if as_zero else config.REJECT
    pair = torch.stack((logits[..., target], logits[..., config.OH]), dim=-1)
    both = pair.logsumexp(dim=-1, keepdim=True)  # logaddexp overflows in ONNX
    return torch.cat((logits[..., :target], both, logits[..., target + 1 : config.OH]), dim=-1)


def fold_labels(labels: Tensor, as_zero: bool) -> Tensor:
    """The same for labels, int64: "oh" becomes zero or non-digit."""
    return labels.masked_fill(labels == config.OH, 0 if as_zero else config.REJECT)


def grown(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network with eleven outputs for one with twelve, whose shapes are `wanted`.

    Non-digit and "oh" get half of the probability that non-digit had, so that, folded into
    non-digit, the answers are what they were. Weights that fit already stay as they are.
    """
    made = dict(weights)
    for name, value in weights.items():
        shape = wanted[name].shape if name in wanted else value.shape
        if value.shape != shape and shape == (config.N_CLASSES, *value.shape[1:]):
            if len(value) != config.N_ANSWERS:
                continue
            made[name] = torch.cat([value, value[config.REJECT :]])
            if value.dim() == 1:
                made[name][config.REJECT :] -= math.log(2)
    return made
