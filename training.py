"""A whole training run: networks one after another, calibration, run folder, checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import calibration
import config
import files
import models
from predictor import Checkpoint, save_checkpoint, vote
from recipe import Material, Recipe, gather
from trainer import Trainer

SETTINGS_THAT_MAY_DIFFER = ("resume", "runs_dir")
"""Fields of the recipe that do not change what a run computes."""


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON values, without what does not change the result."""
    values = json.loads(json.dumps(dataclasses.asdict(recipe), default=str))
    return {name: value for name, value in values.items() if name not in SETTINGS_THAT_MAY_DIFFER}


def open_run(recipe: Recipe) -> Path:
    """Make a new run folder, or with ``--resume`` find the last one of the same settings.

    Raises
    ------
    UserError : ``--resume``, and the runs there are were all made with other settings
    """
    runs = sorted(path.parent for path in recipe.runs_dir.glob("*/settings.json"))
    wanted = settings_of(recipe)
    if recipe.resume and runs:
        for run in reversed(runs):
            if json.loads((run / "settings.json").read_text(encoding="utf-8")) == wanted:
                return run
        raise config.UserError(f"no run in {recipe.runs_dir} was made with these settings; give "
                               f"those in {runs[-1] / 'settings.json'}, or leave --resume out")
    folder = recipe.runs_dir / time.strftime("%Y%m%d-%H%M%S")
    while folder.exists():
        folder = folder.with_name(folder.name + "x")
    files.write_json(folder / "settings.json", wanted)
    return folder


def train(recipe: Recipe) -> dict[str, Any]:
    """Train every network of the recipe, calibrate them together, save them.

    Returns
    -------
    summary : what ``summary.json`` in the run folder holds: by network its parameters,
        multiply-adds, file size, best validation scores and seconds; the run's folder and corpora

    Raises
    ------
    UserError : impossible settings, no data, a loss that became NaN, CUDA asked for and absent
    """
    if recipe.training.workers:
        torch.set_num_threads(recipe.training.workers)
    started = time.perf_counter()
    material = gather(recipe)
    folder = open_run(recipe)
    print(f"run {folder}: {len(material.training)} training, {len(material.validation)} validation "
          f"clips of {material.corpora}; {time.perf_counter() - started:.0f} s to load", flush=True)
    trainers, summary = {}, {}
    with flushed_denormals():
        for name in recipe.models:
            begun = time.perf_counter()
            trainers[name] = Trainer(name, recipe, material, folder)
            summary[name] = describe(trainers[name])
            run_epochs(trainers[name], folder)
            summary[name]["seconds"] = round(time.perf_counter() - begun, 1)
        checkpoints = calibrate(trainers, recipe, material)
    save_dir = folder if recipe.dry_run else recipe.save_dir
    for name, checkpoint in checkpoints.items():
        path = save_dir / f"{name}.pt"
        save_checkpoint(path, checkpoint)
        summary[name] |= checkpoint.record["validation"] | {
            "temperature": checkpoint.temperature, "file": str(path),
            "file_bytes": path.stat().st_size}
    result = {"folder": str(folder), "corpora": material.corpora, "seed": recipe.seed,
              "seconds": round(time.perf_counter() - started, 1), "models": summary}
    files.write_json(folder / "summary.json", result | {"record": files.run_record()})
    return result


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take numbers below 1e-38 as zero: filters leave such tails, a hundred times slower.

    The mode belongs to the process, so it is put back for whoever computes next.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def describe(trainer: Trainer) -> dict[str, Any]:
    """Parameters and multiply-adds of a network, printed and returned."""
    frames = trainer.recipe.audio.clip_samples // trainer.recipe.features.hop_length + 1
    parameters = models.count_parameters(trainer.network)
    multiply_adds = models.count_multiply_adds(
        models.create_model(trainer.name, trainer.front_end.n_features, **trainer.arguments),
        trainer.front_end.n_features, frames)
    print(f"{trainer.name}: {parameters:,} parameters, {multiply_adds / 1e6:.1f} million "
          f"multiply-adds a clip, on {trainer.device}", flush=True)
    return {"parameters": parameters, "multiply_adds": multiply_adds}


def run_epochs(trainer: Trainer, folder: Path) -> None:
    """Train to the end, one line an epoch; everything in the folder is whole after each."""
    from torch.utils.tensorboard import SummaryWriter

    trainer.load_state()
    board = SummaryWriter(folder / "tensorboard" / trainer.name, purge_step=trainer.epoch + 1)
    with contextlib.closing(board):
        while not trainer.finished:
            begun = time.perf_counter()
            line = trainer.run_epoch()
            trainer.save_state()
            record_history(trainer, folder)
            for key, value in line.items():
                if key != "epoch":
                    board.add_scalar(key, value, line["epoch"])
            print(f"{trainer.name} epoch {line['epoch']:3d}/{trainer.epochs}: "
                  f"train loss {line['train_loss']:.4f} accuracy {line['train_accuracy']:.2%}  "
                  f"validation loss {line['validation_loss']:.4f} "
                  f"accuracy {line['validation_accuracy']:.2%}  "
                  f"{time.perf_counter() - begun:.1f} s", flush=True)


def record_history(trainer: Trainer, folder: Path) -> None:
    """Write the history as JSON and the learning curves as PNG."""
    import visualization

    path = folder / "history.json"
    history = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    history[trainer.name] = trainer.history
    files.write_json(path, history)
    if trainer.finished or trainer.epoch % 10 == 0:
        visualization.plot_learning_curves(history, folder / "learning_curves.png")


def calibrate(trainers: dict[str, Trainer], recipe: Recipe,
              material: Material) -> dict[str, Checkpoint]:
    """Fit temperatures and thresholds on noisy validation clips and pack the checkpoints."""
    outputs = {name: trainer.calibration_logits() for name, trainer in trainers.items()}
    targets = next(iter(outputs.values()))[1]
    temperatures = {name: calibration.fit_temperature(*pair) for name, pair in outputs.items()}
    posteriors = {name: calibration.softmax(logits / temperatures[name])
                  for name, (logits, _) in outputs.items()}
    together = calibration.fit_threshold(vote(posteriors), targets)
    return {name: Checkpoint(
        name=name, arguments=trainer.arguments, weights=trainer.best, audio=recipe.audio,
        features=recipe.features, temperature=temperatures[name],
        threshold=calibration.fit_threshold(posteriors[name], targets), vote_threshold=together,
        record=provenance(trainer, recipe, material)) for name, trainer in trainers.items()}


def provenance(trainer: Trainer, recipe: Recipe, material: Material) -> dict[str, Any]:
    """What made a checkpoint: data, split, settings, scores, versions; plain values only."""
    best = min(trainer.history, key=lambda line: line["validation_loss"])
    settings = settings_of(recipe)
    settings["data"].pop("fsdd_archive")  # where somebody's copy lies is nobody else's business
    return {"corpora": material.corpora, "protocol": recipe.data.protocol,
            "test_speaker": recipe.data.test_speaker, "seed": recipe.seed,
            "settings": settings,
            "validation": {"best_epoch": best["epoch"], "validation_loss": best["validation_loss"],
                           "validation_accuracy": best["validation_accuracy"]},
            **files.run_record()}
