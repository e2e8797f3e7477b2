"""Where trained networks go: into ``save_dir``, but never silently over better ones."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import config
import utils
from recognition.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.settings import TrainSettings

PREVIOUS = "previous"
"""Folder in ``save_dir`` for the networks that were replaced last."""


@dataclass(frozen=True)
class Saved:
    """Where the networks lie, and if that isn't ``save_dir``, why."""

    folder: Path
    kept_apart: str = ""
    failed: bool = False
    """``save_dir`` was to be written, and couldn't."""


def check_writable(folder: Path) -> None:
    """Refuse a folder that can't be written, or made, before an hour of training goes into it.

    Raises
    ------
    UserError : no files can be made there
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise config.UserError(
            f"--save-dir {folder} can't be written: {error.strerror}; name another folder"
        ) from None


def check_vocabulary(folder: Path, vocabulary: config.Vocabulary) -> None:
    """Refuse a folder with networks for other words: all networks of a folder vote together.

    Raises
    ------
    UserError : there are such
    """
    names = tuple(path.stem for path in config.network_files(folder))
    for name, there in networks_in(folder, names).items():
        if there.vocabulary != vocabulary:
            raise config.UserError(
                f"--save-dir {folder}: {name} there tells other words or another language; name "
                "another folder"
            )


def networks_in(folder: Path, names: tuple[str, ...]) -> dict[str, Checkpoint]:
    """The readable networks of these names in a folder."""
    found = {}
    for name in names:
        with contextlib.suppress(config.UserError, OSError):
            found[name] = load_checkpoint(folder / f"{name}.pt")
    return found


def fewer_corpora(train_settings: TrainSettings, corpora: str) -> str:
    """Why networks trained on `corpora` would not replace those in ``save_dir``, or nothing."""
    for name, there in networks_in(train_settings.save_dir, train_settings.models).items():
        known = str(there.record.get("corpora", ""))
        if not set(known.split("+")) <= {"", *corpora.split("+")}:
            return f"{name} there was trained on {known}, these only on {corpora}"
    return ""


def worse_validation(save_dir: Path, checkpoints: dict[str, Checkpoint]) -> str:
    """Why networks would not replace those in `save_dir` by their validation loss, or nothing."""
    for name, there in networks_in(save_dir, tuple(checkpoints)).items():
        old, new = validation_loss(there), validation_loss(checkpoints[name])
        if old is not None and new is not None and not new <= old:
            return f"{name}'s validation loss is {new:.4f}, and {old:.4f} there"
    return ""


def validation_loss(checkpoint: Checkpoint) -> float | None:
    """The validation loss that a checkpoint's record tells."""
    scores = checkpoint.record.get("validation")
    loss = scores.get("validation_loss") if isinstance(scores, dict) else None
    return loss if isinstance(loss, float) else None


def reason_to_keep_apart(train_settings: TrainSettings, corpora: str) -> str:
    """What is known before the first epoch: why these networks won't go to ``save_dir``."""
    if train_settings.dry_run:
        return "this is a dry run"
    return "" if train_settings.overwrite else fewer_corpora(train_settings, corpora)


def plan(train_settings: TrainSettings, reason: str) -> str:
    """What will become of the networks, in a line before the first epoch."""
    save_dir = train_settings.save_dir
    if reason:
        return f"{save_dir} will stay as it is: {reason}"
    if train_settings.overwrite or not networks_in(save_dir, train_settings.models):
        return f"the networks will go to {save_dir}"
    return (
        f"{save_dir} holds such networks: only ones that validate no worse will replace them "
        "(--overwrite: any)"
    )


def save_networks(
    train_settings: TrainSettings, checkpoints: dict[str, Checkpoint], folder: Path, reason: str
) -> Saved:
    """Write the networks into the run's `folder`, and into ``save_dir`` unless there is a `reason`.

    Networks that validate worse than those in ``save_dir`` stay apart too, unless ``overwrite``.
    """
    for name, checkpoint in checkpoints.items():
        save_checkpoint(folder / f"{name}.pt", checkpoint)
    save_dir = train_settings.save_dir
    if not (reason or train_settings.overwrite):
        reason = worse_validation(save_dir, checkpoints)
    if reason:
        return Saved(folder, reason)
    try:
        replace_networks(save_dir, checkpoints, folder)
    except OSError as error:
        return Saved(folder, f"it can't be written ({error.strerror or error})", failed=True)
    return Saved(save_dir)


def replace_networks(save_dir: Path, checkpoints: dict[str, Checkpoint], folder: Path) -> None:
    """Copy a run's networks to `save_dir`, all or none; those there go to :data:`PREVIOUS`."""
    there = networks_in(save_dir, tuple(checkpoints))
    if any(not same_weights(there[name], checkpoints[name]) for name in there):
        kept = save_dir / PREVIOUS
        old = config.network_files(save_dir)
        copy_all(old, kept)
        for path in kept.glob("*.pt"):
            if path.name not in {item.name for item in old}:
                path.unlink()
    copy_all([folder / f"{name}.pt" for name in checkpoints], save_dir)


def copy_all(paths: list[Path], folder: Path) -> None:
    """Copy files into a folder: all, or none where one can't be copied."""
    with contextlib.ExitStack() as stack:
        for path in paths:
            shutil.copyfile(path, stack.enter_context(utils.atomic_path(folder / path.name)))


def same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two networks are the same to the bit."""
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(value, other.weights[name].cpu()) for name, value in one.weights.items()
    )
