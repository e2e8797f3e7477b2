"""The networks by name. A new one is a class in a file of this folder and a line here.

Each takes features, float32 (batch, n_features, frames), and returns logits, float32 (batch,
n_classes): ten digits, non-digit and "oh". Its size is the setting ``name_width``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

import config
from models.bcresnet import BCResNetModel
from models.cnn import CNNModel
from models.digit_ctc import DigitCtcModel
from models.efficient import EfficientModel
from models.image_cnn import ImageCNNModel
from models.lightweight import LightweightModel
from models.mlp import MLPModel
from models.resnet import ResNetModel
from models.rnn import RNNModel
from models.transformer import TransformerModel

REGISTRY: dict[str, Callable[..., nn.Module]] = {
    "bcresnet": BCResNetModel,
    "cnn": CNNModel,
    "efficient": EfficientModel,
    "image_cnn": ImageCNNModel,
    "lightweight": LightweightModel,
    "mlp": MLPModel,
    "resnet": ResNetModel,
    "rnn": RNNModel,
    "transformer": TransformerModel,
}
SEQUENCE: dict[str, Callable[..., nn.Module]] = {"digit_ctc": DigitCtcModel}
"""Networks that answer every frame, for whole strings of digits; they are trained alone."""
FOR_ENCODER = ("digit_ctc", "lightweight", "mlp", "rnn", "transformer")
"""Networks that take an encoder's frames, whose rows are in no order; the others convolve rows."""
ALL, ENSEMBLE = "all", "ensemble"
"""Names beside those of networks: every network; the vote, weighted on validation clips."""


def create_model(
    name: str, n_features: int, n_classes: int = config.N_ANSWERS, **arguments: Any
) -> nn.Module:
    """Make the network called `name`; without "oh" where nothing else is said, as once.

    Raises
    ------
    UserError : no such network; the text lists those there are
    """
    check_name(name)
    return (REGISTRY | SEQUENCE)[name](n_features=n_features, n_classes=n_classes, **arguments)


def check_name(name: str) -> None:
    """Refuse a name that is no network's.

    Raises
    ------
    UserError : the text lists those there are
    """
    if name not in REGISTRY | SEQUENCE:
        known = ", ".join(sorted(REGISTRY | SEQUENCE))
        raise config.UserError(f"no model named {name!r}: there are {known} ({ALL} trains each)")


def network_names(names: Iterable[str]) -> tuple[str, ...]:
    """The networks that `names` ask for, each once: "all" is every one, "ensemble" is none.

    Raises
    ------
    UserError : no such network
    """
    wanted: list[str] = []
    for name in names:
        if name != ENSEMBLE:
            wanted += sorted(REGISTRY) if name == ALL else [name]
    for name in wanted:
        check_name(name)
    return tuple(dict.fromkeys(wanted))


def model_arguments(
    name: str,
    settings: config.ModelSettings,
    features_kind: str = "log_mel",
    n_outputs: int = config.N_CLASSES,
) -> dict[str, Any]:
    """The keyword arguments of network `name`: its ``{name}_width``, and what the features ask.

    `n_outputs` is what a network has that does not hear whole strings.

    Raises
    ------
    UserError : a network that can't take such features
    """
    arguments: dict[str, Any] = {
        "width": getattr(settings, f"{name}_width"),
        "n_classes": config.N_FRAME_CLASSES if name in SEQUENCE else n_outputs,
    }
    if features_kind == "encoder":
        if name not in FOR_ENCODER:
            raise config.UserError(
                f"{name} can't take features.kind encoder, whose rows are in no order of "
                f"frequency: use {', '.join(FOR_ENCODER)}, or another kind"
            )
        if name != "mlp":
            arguments["subsample"] = False
    if name == "image_cnn" and features_kind == "spectrogram":
        arguments["log_frequency"] = True
    return arguments
