"""Train the spoken-digit networks.

    python train.py                                   both networks, FSDD and synthetic speakers
    python train.py --models cnn --seed 1             one network, another seed
    python train.py --training.epochs 5               a quick look
    python train.py --resume                          go on after a crash or Ctrl-C
    python train.py --init saved_models --data.corpora auto,own --training.epochs 3
        --training.learning-rate 1e-3                 adapt to your own voice, in one line

FSDD is taken from FSDD_ARCHIVE, from data/, or from the internet. The best weights by validation
loss land in saved_models/; settings, history, curves and TensorBoard logs in a folder under runs/.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import models
import utils
from recognition import calibration
from recognition.checkpoint import Checkpoint, save_checkpoint
from recognition.predictor import vote
from training.data import TrainLoader, compute_thread
from training.run_folder import open_run, stored_settings
from training.settings import TrainSettings, prepare_data
from training.trainer import Trainer


def train(train_settings: TrainSettings) -> dict[str, Any]:
    """Train every network that the settings name, calibrate them together, save them.

    Returns
    -------
    summary : what ``summary.json`` in the run folder holds: by network its parameters,
        multiply-adds, file size, best validation scores and seconds; the run's folder and corpora

    Raises
    ------
    UserError : impossible settings, no data, a loss that became NaN, CUDA asked for and absent
    """
    started = time.perf_counter()
    training_data = prepare_data(train_settings)
    folder = open_run(train_settings)
    print(
        f"run {folder}: {len(training_data.training)} training, "
        f"{len(training_data.validation)} validation clips of {training_data.corpora}, "
        f"{training_data.cut} of them longer than {train_settings.audio.clip_seconds:g} s and cut; "
        f"{time.perf_counter() - started:.0f} s to load",
        flush=True,
    )
    loader = TrainLoader(train_settings, training_data)
    trainers = {
        name: Trainer(name, train_settings, loader, folder) for name in train_settings.models
    }
    summary = {name: describe(trainer) for name, trainer in trainers.items()}
    run_epochs(trainers, loader, folder)
    checkpoints = calibrate(trainers, loader)
    save_dir = folder if train_settings.dry_run else train_settings.save_dir
    for name, checkpoint in checkpoints.items():
        path = save_dir / f"{name}.pt"
        save_checkpoint(path, checkpoint)
        summary[name] |= checkpoint.record["validation"] | {
            "temperature": checkpoint.temperature,
            "file": str(path),
            "file_bytes": path.stat().st_size,
        }
    result = {
        "folder": str(folder),
        "corpora": training_data.corpora,
        "seed": train_settings.seed,
        "seconds": round(time.perf_counter() - started, 1),
        "models": summary,
    }
    utils.write_json(folder / "summary.json", result | {"record": utils.run_record()})
    return result


def describe(trainer: Trainer) -> dict[str, Any]:
    """Parameters and multiply-adds of a network, printed and returned."""
    frames = (
        trainer.train_settings.audio.clip_samples // trainer.train_settings.features.hop_length + 1
    )
    parameters = models.count_parameters(trainer.network)
    multiply_adds = models.count_multiply_adds(trainer.network, trainer.n_features, frames)
    print(
        f"{trainer.name}: {parameters:,} parameters, {multiply_adds / 1e6:.1f} million "
        f"multiply-adds a clip, on {trainer.device}",
        flush=True,
    )
    return {"parameters": parameters, "multiply_adds": multiply_adds}


def run_epochs(trainers: dict[str, Trainer], loader: TrainLoader, folder: Path) -> None:
    """Train all networks side by side to the end; after each epoch the folder's files are whole."""
    from torch.utils.tensorboard import SummaryWriter

    for trainer in trainers.values():
        trainer.load_state()
    with contextlib.ExitStack() as stack:
        batch_thread = stack.enter_context(compute_thread(loader.settings))
        threads = {name: stack.enter_context(compute_thread(loader.settings)) for name in trainers}
        writers = {
            name: stack.enter_context(
                contextlib.closing(
                    SummaryWriter(folder / "tensorboard" / name, purge_step=trainer.epoch + 1)
                )
            )
            for name, trainer in trainers.items()
        }
        while unfinished := [item for item in trainers.values() if not item.finished]:
            # a run that was killed between two saves goes on with the network that is behind
            epoch = min(trainer.epoch for trainer in unfinished)
            group = [trainer for trainer in unfinished if trainer.epoch == epoch]
            begun = time.perf_counter()
            scores = run_epoch(group, loader, batch_thread, threads)
            record_history(trainers, folder)
            for name, line in scores.items():
                for key, value in line.items():
                    if key != "epoch":
                        writers[name].add_scalar(key, value, line["epoch"])
                print(
                    f"{name} epoch {line['epoch']:3d}/{loader.epochs}: "
                    f"train loss {line['train_loss']:.4f} accuracy {line['train_accuracy']:.2%}  "
                    f"validation loss {line['validation_loss']:.4f} "
                    f"accuracy {line['validation_accuracy']:.2%}  "
                    f"{time.perf_counter() - begun:.1f} s",
                    flush=True,
                )


def run_epoch(
    group: list[Trainer],
    loader: TrainLoader,
    batch_thread: ThreadPoolExecutor,
    threads: dict[str, ThreadPoolExecutor],
) -> dict[str, dict[str, float]]:
    """Train some networks for one epoch, each in its thread; returns their lines of history."""
    epoch = group[0].epoch
    bar = tqdm(
        total=len(loader),
        leave=False,
        unit="batch",
        disable=None,
        desc=f"epoch {epoch + 1}/{loader.epochs}",
    )
    with bar, contextlib.closing(loader.epoch(epoch, batch_thread)) as batches:
        for features, targets in batches:
            steps = [
                threads[trainer.name].submit(trainer.train_step, features, targets)
                for trainer in group
            ]
            for step in steps:
                step.result()
            bar.set_postfix({trainer.name: trainer.progress for trainer in group}, refresh=False)
            bar.update()
    ends = {
        trainer.name: threads[trainer.name].submit(trainer.end_epoch, loader.validation())
        for trainer in group
    }
    return {name: end.result() for name, end in ends.items()}


def record_history(trainers: dict[str, Trainer], folder: Path) -> None:
    """Write the history as JSON and the learning curves as PNG."""
    import visualization

    history = {name: trainer.history for name, trainer in trainers.items()}
    utils.write_json(folder / "history.json", history)
    epoch = max(trainer.epoch for trainer in trainers.values())
    if epoch % 10 == 0 or all(trainer.finished for trainer in trainers.values()):
        visualization.plot_learning_curves(history, folder / "learning_curves.png")


def calibrate(trainers: dict[str, Trainer], loader: TrainLoader) -> dict[str, Checkpoint]:
    """Fit temperatures and thresholds on validation clips and pack the checkpoints."""
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in trainers}
    labels = []
    for tempo_augmented, batch_labels in loader.calibration():
        labels.append(batch_labels.cpu().numpy())
        for name, trainer in trainers.items():
            outputs[name].append(trainer.best_logits(tempo_augmented).numpy())
    targets = np.concatenate(labels)
    logits = {name: np.concatenate(parts) for name, parts in outputs.items()}
    scales = {name: calibration.fit(values, targets) for name, values in logits.items()}
    posteriors = {
        name: calibration.calibrated(values, *scales[name]) for name, values in logits.items()
    }
    vote_threshold = calibration.fit_threshold(vote(posteriors), targets)
    return {
        name: Checkpoint(
            name=name,
            arguments=trainer.arguments,
            weights=trainer.best,
            audio=trainer.train_settings.audio,
            features=trainer.train_settings.features,
            temperature=scales[name][0],
            reject_bias=scales[name][1],
            threshold=calibration.fit_threshold(posteriors[name], targets),
            vote_threshold=vote_threshold,
            record=provenance(trainer, loader.training_data.corpora),
        )
        for name, trainer in trainers.items()
    }


def provenance(trainer: Trainer, corpora: str) -> dict[str, Any]:
    """What made a checkpoint: data, split, settings, scores, versions; plain values only."""
    best = min(trainer.history, key=lambda line: line["validation_loss"])
    train_settings = trainer.train_settings
    settings = stored_settings(train_settings)
    settings["data"].pop("fsdd_archive")  # where somebody's copy lies is nobody else's business
    return {
        "corpora": corpora,
        "protocol": train_settings.data.split,
        "test_speaker": train_settings.data.test_speaker,
        "seed": train_settings.seed,
        "settings": settings,
        "validation": {
            "best_epoch": best["epoch"],
            "validation_loss": best["validation_loss"],
            "validation_accuracy": best["validation_accuracy"],
        },
        **utils.run_record(),
    }


def run(train_settings: TrainSettings) -> None:
    """Train and print what came out."""
    result = train(train_settings)
    for name, scores in result["models"].items():
        print(
            f"{name}: validation accuracy {scores['validation_accuracy']:.2%} at epoch "
            f"{scores['best_epoch']}, {scores['file_bytes'] / 1e6:.2f} MB in {scores['file']}"
        )
    print(f"done in {result['seconds'] / 60:.1f} minutes; next: python evaluation.py")


if __name__ == "__main__":
    utils.main(run, TrainSettings, __doc__)
