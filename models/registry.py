"""The networks by name. A new one is a class in a file of this folder and a line here.

Each takes features, float32 (batch, n_features, frames), and returns logits, float32 (batch,
n_classes): ten digits and non-digit. Its size is the setting ``name_width``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

import config
from models.cnn import CNNModel
from models.rnn import RNNModel

REGISTRY: dict[str, Callable[..., nn.Module]] = {"cnn": CNNModel, "rnn": RNNModel}


def create_model(
    name: str, n_features: int, n_classes: int = config.N_CLASSES, **arguments: Any
) -> nn.Module:
    """Make the network called `name`.

    Raises
    ------
    UserError : no such network; the text lists those there are
    """
    if name not in REGISTRY:
        raise config.UserError(f"no model named {name!r}: there are {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name](n_features=n_features, n_classes=n_classes, **arguments)


def model_arguments(
    name: str, settings: config.ModelSettings, features_kind: str = "log_mel"
) -> dict[str, Any]:
    """The keyword arguments of network `name`: its ``{name}_width``, and what the features ask."""
    arguments: dict[str, Any] = {"width": getattr(settings, f"{name}_width")}
    if name == "rnn" and features_kind == "encoder":
        arguments["subsample"] = False
    return arguments
