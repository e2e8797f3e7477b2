"""Train the spoken-digit networks.

    python train.py                                   both networks, FSDD and synthetic speakers
    python train.py --models cnn --seed 1             one network, another seed
    python train.py --models all                      every network there is
    python train.py --models cnn resnet ensemble      two, their votes weighted on validation
    python train.py --models digit_ctc                the one that hears whole strings (strings.pt)
    python train.py --teacher saved_models            a small student of the trained networks' vote
    python train.py --quick                           a quick look: better networks stay in place
    python train.py --language fr                     the digits of another language
    python train.py --data.corpora folder:birds --labels auto     any other words or sounds
    python train.py --resume                          go on after a crash or Ctrl-C
    torchrun --nproc-per-node 2 train.py              two processes, or one for each of two GPUs
    python train.py --init saved_models --data.corpora auto,own --training.epochs 3
        --training.learning-rate 1e-3 --overwrite     adapt to your own voice, in one line

FSDD is taken from FSDD_ARCHIVE, from data/, or from the internet. The best weights by validation
loss, settings, history, curves and TensorBoard logs land in a folder under runs/. After a whole run
the networks also replace those in saved_models/, unless they validate worse or were trained on
fewer corpora (--overwrite: then too); what is replaced is kept in saved_models/previous. Beside
them vote.onnx holds them all, for recognition without PyTorch.
"""

from __future__ import annotations

import contextlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import config
import utils
from models import counting
from recognition import calibration, ensemble
from recognition.checkpoint import Checkpoint
from recognition.onnx_export import write_vote
from recognition.prediction import vote
from recognition.strings_export import write_strings
from training import distributed
from training.cached_views import CachedLoader
from training.ctc import train_strings
from training.data import TrainLoader, calibration_logits, compute_thread, pick_device
from training.distillation import DistillationLoader, Teacher
from training.feature_cache import FeatureLoader
from training.provenance import provenance
from training.run_folder import open_run
from training.run_log import RunLog
from training.saving import (
    check_vocabulary,
    check_writable,
    plan,
    reason_to_keep_apart,
    save_networks,
)
from training.settings import TrainingData, TrainSettings, prepare_data, quick
from training.trainer import Trainer


def train(
    train_settings: TrainSettings, training_data: TrainingData | None = None
) -> dict[str, Any]:
    """Train every network that the settings name, calibrate them together, save them.

    Parameters
    ----------
    train_settings : what to train, and where it goes
    training_data : clips that somebody has split otherwise than the settings say

    Returns
    -------
    summary : what ``summary.json`` in the run folder holds: by network its parameters,
        multiply-adds, file size, best validation scores and seconds; the run's folder and corpora;
        where the networks are, and why not in ``save_dir``

    Raises
    ------
    UserError : impossible settings, no data, a loss that became NaN, CUDA asked for and absent, a
        ``save_dir`` that can't be written
    """
    started = time.perf_counter()
    if train_settings.quick:
        train_settings = quick(train_settings)
    if not train_settings.dry_run:
        check_writable(train_settings.save_dir)
        check_vocabulary(train_settings.save_dir, train_settings.vocabulary)
    teacher = find_teacher(train_settings)
    with distributed.in_turn():
        training_data = training_data or prepare_data(train_settings)
    distributed.require_same_clips(training_data)
    folder = distributed.from_first(lambda: open_folder(train_settings, teacher))
    print(
        f"run {folder}: {len(training_data.training)} training, "
        f"{len(training_data.validation)} validation clips of {training_data.corpora}, "
        f"{training_data.cut} of them longer than {train_settings.audio.clip_seconds:g} s and cut; "
        f"{time.perf_counter() - started:.0f} s to load",
        flush=True,
    )
    reason = reason_to_keep_apart(train_settings, training_data.corpora)
    print(plan(train_settings, reason), flush=True)
    trainers = make_trainers(train_settings, training_data, folder, teacher)
    networks = {name: describe(trainer) for name, trainer in trainers.items()}
    run_epochs(trainers, folder)
    distributed.leave()
    checkpoints = calibrate(trainers)
    saved = save_networks(train_settings, checkpoints, folder / "models", reason)
    for name, checkpoint in checkpoints.items():
        path = saved.folder / f"{name}.pt"
        networks[name] |= checkpoint.record["validation"] | {
            "temperature": checkpoint.temperature,
            "file": str(path),
            "file_bytes": path.stat().st_size,
        }
    summary = {
        "folder": str(folder),
        "corpora": training_data.corpora,
        "seed": train_settings.seed,
        "seconds": round(time.perf_counter() - started, 1),
        "models": networks,
        "models_dir": str(saved.folder),
        "kept_apart": saved.kept_apart,
        "failed": saved.failed,
    }
    with utils.by_product(folder / "summary.json"):
        utils.write_json(folder / "summary.json", summary | {"record": utils.run_record()})
    return summary


def find_teacher(train_settings: TrainSettings) -> Teacher | None:
    """The networks to learn from, if the settings name some: looked at before all that takes long.

    Raises
    ------
    UserError : they can't be a teacher of these clips
    """
    if train_settings.teacher is None:
        return None
    device = pick_device(train_settings.training)
    return Teacher(train_settings.teacher, train_settings.audio, device)


def open_folder(train_settings: TrainSettings, teacher: Teacher | None) -> Path:
    """The run's folder, a new one or with --resume that of an earlier run.

    Raises
    ------
    UserError : no run to go on with, or one with another teacher
    """
    folder = open_run(train_settings)
    if teacher is not None:
        teacher.require_same(folder)
    return folder


def make_trainers(
    train_settings: TrainSettings,
    training_data: TrainingData,
    folder: Path,
    teacher: Teacher | None = None,
) -> dict[str, Trainer]:
    """A trainer for every network; those with the same front end share their batches."""
    loaders: dict[config.FeaturesSettings, TrainLoader] = {}
    for name in train_settings.models:
        features = train_settings.front_end(name)
        if features not in loaders:
            if teacher is None:
                kind = loader_kind(train_settings, features)
                loaders[features] = kind(train_settings, training_data, features)
            else:
                loaders[features] = DistillationLoader(
                    train_settings, training_data, features, teacher
                )
            with distributed.in_turn():
                loaders[features].prepare()
    return {
        name: Trainer(name, train_settings, loaders[train_settings.front_end(name)], folder)
        for name in train_settings.models
    }


def loader_kind(
    train_settings: TrainSettings, features: config.FeaturesSettings
) -> type[TrainLoader]:
    """How the batches of a front end are made."""
    if features.kind == "encoder":
        return CachedLoader
    augmented = train_settings.augmentation.changes_clips
    if train_settings.data.cache_features and augmented:
        print(
            "warning: data.cache-features has no effect: augmentation changes every clip; "
            "--augmentation.off switches it off",
            file=sys.stderr,
        )
    elif train_settings.data.cache_features:
        return FeatureLoader
    return CachedLoader if augmented and train_settings.training.views else TrainLoader


def describe(trainer: Trainer) -> dict[str, Any]:
    """Parameters and multiply-adds of a network, printed and returned."""
    with torch.inference_mode():
        silence = torch.zeros(1, trainer.train_settings.audio.clip_samples, device=trainer.device)
        frames = trainer.loader.front_end(silence).shape[2]
    parameters = counting.count_parameters(trainer.network)
    multiply_adds = counting.count_multiply_adds(trainer.network, trainer.n_features, frames)
    print(
        f"{trainer.name}: {parameters:,} parameters, {multiply_adds / 1e6:.1f} million "
        f"multiply-adds a clip, on {trainer.device}",
        flush=True,
    )
    return {"parameters": parameters, "multiply_adds": multiply_adds}


def run_epochs(trainers: dict[str, Trainer], folder: Path) -> None:
    """Train all networks side by side to the end; after each epoch the folder's files are whole."""
    for trainer in trainers.values():
        trainer.load_state()
    done = {name: trainer.epoch for name, trainer in trainers.items()}
    settings, epochs = [(one.settings, one.epochs) for one in trainers.values()][0]
    with contextlib.ExitStack() as stack:
        batch_thread = stack.enter_context(compute_thread(settings))
        threads = network_threads(trainers, stack)
        log = RunLog(folder, epochs, done, writes=distributed.is_first())
        stack.enter_context(contextlib.closing(log))
        while unfinished := [item for item in trainers.values() if not item.finished]:
            # a run that was killed between two saves goes on with the network that is behind
            epoch = min(trainer.epoch for trainer in unfinished)
            group = [trainer for trainer in unfinished if trainer.epoch == epoch]
            begun = time.perf_counter()
            scores = run_epoch(group, batch_thread, threads)
            log.record(scores, time.perf_counter() - begun)
            log.write_history(
                {name: trainer.history for name, trainer in trainers.items()},
                all(trainer.finished for trainer in trainers.values()),
            )


def network_threads(
    trainers: dict[str, Trainer], stack: contextlib.ExitStack
) -> dict[str, ThreadPoolExecutor]:
    """A thread for each network, closed with `stack`.

    One for all on several processes: these must meet over the networks in the same order.
    """
    settings = [trainer.settings for trainer in trainers.values()]
    if distributed.count() > 1:
        return dict.fromkeys(trainers, stack.enter_context(compute_thread(settings[0])))
    return {name: stack.enter_context(compute_thread(settings[0])) for name in trainers}


def run_epoch(
    group: list[Trainer], batch_thread: ThreadPoolExecutor, threads: dict[str, ThreadPoolExecutor]
) -> dict[str, dict[str, float]]:
    """Train some networks for one epoch, each in its thread; returns their lines of history."""
    scores: dict[str, dict[str, float]] = {}
    for loader in {trainer.loader: None for trainer in group}:
        sharing = [trainer for trainer in group if trainer.loader is loader]
        run_batches(sharing, loader, batch_thread, threads)
        ends = {
            trainer.name: threads[trainer.name].submit(trainer.end_epoch, loader.validation())
            for trainer in sharing
        }
        scores |= {name: end.result() for name, end in ends.items()}
    return scores


def run_batches(
    trainers: list[Trainer],
    loader: TrainLoader,
    batch_thread: ThreadPoolExecutor,
    threads: dict[str, ThreadPoolExecutor],
) -> None:
    """One epoch of a loader's batches for the networks that share it, with a progress bar."""
    epoch = trainers[0].epoch
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
                for trainer in trainers
            ]
            for step in steps:
                step.result()
            bar.set_postfix({trainer.name: trainer.progress for trainer in trainers}, refresh=False)
            bar.update()


def calibrate(trainers: dict[str, Trainer]) -> dict[str, Checkpoint]:
    """Fit temperatures and thresholds on validation clips and pack the checkpoints."""
    logits: dict[str, np.ndarray] = {}
    for loader in {trainer.loader: None for trainer in trainers.values()}:
        sharing = {name: one for name, one in trainers.items() if one.loader is loader}
        # the targets are the same of every loader: clips and random numbers are
        more, targets = calibration_logits(
            loader, {name: one.best_logits for name, one in sharing.items()}
        )
        logits |= more
    scales = {name: calibration.fit(values, targets) for name, values in logits.items()}
    posteriors = {
        name: calibration.calibrated(values, *scales[name]) for name, values in logits.items()
    }
    weights = {name: 1.0 for name in posteriors}
    if next(iter(trainers.values())).train_settings.weigh_votes:
        weights = ensemble.fit_weights(posteriors, targets)
    vote_threshold = calibration.fit_threshold(vote(posteriors, weights), targets)
    return {
        name: Checkpoint(
            name=name,
            arguments=trainer.arguments,
            weights=trainer.best,
            audio=trainer.train_settings.audio,
            features=trainer.features,
            vocabulary=trainer.train_settings.vocabulary,
            temperature=scales[name][0],
            reject_bias=scales[name][1],
            threshold=calibration.fit_threshold(posteriors[name], targets),
            vote_threshold=vote_threshold,
            vote_weight=weights[name],
            record=provenance(trainer, trainer.loader.training_data.corpora)
            | heard_from(trainer.loader),
        )
        for name, trainer in trainers.items()
    }


def heard_from(loader: TrainLoader) -> dict[str, Any]:
    """The other words among a network's training clips, and who taught it."""
    found: dict[str, Any] = {"words_heard": list(loader.training_data.words_heard)}
    if isinstance(loader, DistillationLoader):
        found["teacher_sha256"] = loader.teacher.digests
    return found


def run(train_settings: TrainSettings) -> int:
    """Train and print what came out; 1 where the networks could not be put into ``save_dir``."""
    if train_settings.hears_strings:
        return run_strings(train_settings)
    summary = train(train_settings)
    for name, scores in summary["models"].items():
        print(
            f"{name}: validation accuracy {scores['validation_accuracy']:.2%} at epoch "
            f"{scores['best_epoch']}, {scores['file_bytes'] / 1e6:.2f} MB in {scores['file']}"
        )
    if train_settings.onnx and not summary["kept_apart"]:
        write_onnx(train_settings.save_dir)
    print(f"done in {summary['seconds'] / 60:.1f} minutes; {next_step(train_settings, summary)}")
    return int(summary["failed"])


def run_strings(train_settings: TrainSettings) -> int:
    """Train the network that hears whole strings, and say where it is."""
    summary = train_strings(train_settings)
    scores, minutes = summary["validation"], summary["seconds"] / 60
    print(
        f"{scores['validation_accuracy']:.2%} of the validation lines right at epoch "
        f"{scores['best_epoch']}; {summary['file']}, {minutes:.1f} minutes"
    )
    if summary["kept_apart"]:
        print(f"{train_settings.save_dir} is as it was: {summary['kept_apart']}")
    elif train_settings.onnx:
        onnx = train_settings.save_dir / config.STRINGS_ONNX_NAME
        write_strings(onnx, train_settings.save_dir / config.STRINGS_NAME)
        print(f"{onnx}: {onnx.stat().st_size / 1e6:.1f} MB, for use without PyTorch")
    return 0


def write_onnx(folder: Path) -> None:
    """Put the vote of a folder's networks beside them in one file, which recognition then uses.

    A failure is told, and costs nothing: recognition goes on with PyTorch.
    """
    path = folder / config.ONNX_NAME
    try:
        predictor = write_vote(path, config.DecisionSettings(models_dir=folder))
    except Exception as error:  # whatever the exporter meets
        reason = (str(error) or type(error).__name__).splitlines()[0]
        print(f"warning: {path} not written ({reason}); PyTorch recognises", file=sys.stderr)
        path.unlink(missing_ok=True)  # it would hold other networks
        return
    names = ", ".join(predictor.names)
    print(f"{path}: vote of {names}, {path.stat().st_size / 1e6:.1f} MB, for use without PyTorch")


def next_step(train_settings: TrainSettings, summary: dict[str, Any]) -> str:
    """What to do with the networks: evaluate them where they are, or put them to use."""
    if not summary["kept_apart"]:
        return "next: python evaluation.py"
    return (
        f"{train_settings.save_dir} is as it was: {summary['kept_apart']}. To use these networks: "
        f"--decision.models-dir {summary['models_dir']}, or copy them"
    )


if __name__ == "__main__":
    utils.main(
        distributed.together(run),
        TrainSettings,
        __doc__,
        distributed.told_once(utils.parse_arguments),
    )
