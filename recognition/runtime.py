"""What computes the networks: ONNX Runtime where their ONNX file is there and true, or PyTorch."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path

import config
from recognition.onnx_predictor import OnnxPredictor, UnusableFile, file_digest
from recognition.prediction import VotingPredictor


def load_predictor(settings: config.DecisionSettings | None = None) -> VotingPredictor:
    """The networks that the settings name, by the runtime that they ask for.

    ``auto`` takes the ONNX file where it was made from exactly the networks beside it, or where it
    is alone. An outdated or damaged one is told, and PyTorch computes.

    Raises
    ------
    UserError : no trained networks; or the runtime asked for can't compute them
    """
    settings = settings or config.DecisionSettings()
    path, networks = settings.onnx_file(), settings.there()
    if settings.runtime == "onnx":
        return OnnxPredictor(path, settings, settings.only())
    if settings.runtime == "auto" and path.is_file() and installed("onnxruntime"):
        try:
            if found := current(path, settings, networks):
                return found
        except UnusableFile as error:
            if not (networks and installed("torch")):
                raise
            print(f"warning: {error}; PyTorch computes instead", file=sys.stderr)
    if settings.network_files() and not installed("torch"):
        raise config.UserError(
            f"{path}: not there, or without these networks; making it, and doing without, need "
            "PyTorch: pip install -r requirements.txt"
        )
    from recognition.predictor import Predictor

    return Predictor(settings)


def current(
    path: Path, settings: config.DecisionSettings, networks: list[Path]
) -> OnnxPredictor | None:
    """The ONNX file's networks; None where it lacks the one that is asked for.

    Raises
    ------
    UnusableFile : it can't be used, or was made from other networks than the files in `networks`
    """
    names = settings.only()
    predictor = OnnxPredictor(path, settings)
    made_from = predictor.made_from
    if names is not None:
        if not set(names) <= set(predictor.names):
            return None
        predictor.select(names)
        made_from = {name: made_from[name] for name in names}
    if networks and {file.stem: file_digest(file) for file in networks} != made_from:
        raise UnusableFile(
            f"{path}: made from other networks than those beside it; make it again with: "
            f"python export_model.py --onnx-to {path}"
        )
    return predictor


def installed(package: str) -> bool:
    """Whether a package is there; it is not imported, which may take seconds."""
    with contextlib.suppress(ImportError):
        return importlib.util.find_spec(package) is not None
    return False


def use_one_core() -> None:
    """Let PyTorch, where it computes the networks, use one core, as ONNX Runtime does here.

    On one clip a second thread costs more than it gains, and processes share the cores already.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
