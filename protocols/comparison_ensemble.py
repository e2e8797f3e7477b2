"""The ensemble of a comparison: its members and weights by validation, and its scores by fold."""

from __future__ import annotations

import dataclasses
import logging
from functools import partial

import numpy as np

import config
import dataset_loader
import utils
from audio_feature_extraction import mean_logits
from models import registry
from protocols import metrics, scoring, speakers
from protocols.comparison import ComparisonSettings, Entry, read_json
from recognition import calibration, ensemble
from recognition.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from recognition.prediction import vote
from recognition.predictor import Predictor

logger = logging.getLogger(__name__)


def make_ensemble(settings: ComparisonSettings, entries: list[Entry]) -> Entry:
    """Find which networks vote together best on validation clips; a folder of its own holds them.

    Each member's file is the network's, with its weight and the threshold of this vote. Networks
    that gain nothing are left out. Nothing is done where the folder was made of these networks.
    """
    made = Entry(registry.ENSEMBLE, settings.seed, settings.networks_dir)
    record = made.folder / "ensemble.json"
    sources = {entry.name: entry.digest() for entry in entries}
    if made.files() and read_json(record) == sources:
        return made
    logger.info(f"{made.label}: weighing the votes of {', '.join(sources)}")
    checkpoints = {
        entry.name: load_checkpoint(entry.folder / f"{entry.name}.pt") for entry in entries
    }
    posteriors, targets = validation_posteriors(settings, checkpoints)
    weights = ensemble.fit_weights(posteriors, targets)
    members = {name: weight for name, weight in weights.items() if weight > ensemble.LEAST_WEIGHT}
    chosen = {name: posteriors[name] for name in members}
    threshold = calibration.fit_threshold(vote(chosen, members), targets)
    record.unlink(missing_ok=True)
    for path in made.files():
        path.unlink()
    for name, weight in members.items():
        member = dataclasses.replace(
            checkpoints[name], vote_weight=weight, vote_threshold=threshold
        )
        if len(members) == 1:
            member.threshold = threshold
        save_checkpoint(made.folder / f"{name}.pt", member)
    utils.write_json(record, sources)
    return made


def validation_posteriors(
    settings: ComparisonSettings, checkpoints: dict[str, Checkpoint]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Calibrated posteriors on the clips that trainings calibrate on, and these clips' labels."""
    import torch

    from training.data import TrainLoader, calibration_logits
    from training.settings import prepare_data

    train_settings = settings.train_settings(next(iter(checkpoints)))
    training_data = prepare_data(train_settings)
    logits: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        for features in {item.features: None for item in checkpoints.values()}:
            loader = TrainLoader(train_settings, training_data, features)
            networks = {
                name: partial(mean_logits, item.network()[1].to(loader.device))
                for name, item in checkpoints.items()
                if item.features == features
            }
            more, targets = calibration_logits(loader, networks)
            logits |= more
    posteriors = {
        name: calibration.calibrated(logits[name], item.temperature, item.reject_bias)
        for name, item in checkpoints.items()
    }
    return posteriors, targets


def leave_one_speaker_out(
    settings: ComparisonSettings, names: tuple[str, ...], members: dict[str, float]
) -> dict[str, metrics.Proportion]:
    """Mean over FSDD's speakers, each left out of the training, by network and for the ensemble.

    Every fold trains all of `names` side by side. `members`: the ensemble's networks and weights,
    which the folds' networks vote with; empty for no ensemble.
    """
    folder = settings.networks_dir / "leave_one_speaker_out"
    evaluation = dataclasses.replace(settings.evaluation(folder), results_dir=folder, models=names)
    scores = speakers.leave_one_speaker_out(evaluation).data["mean"]
    means = {name: scores[name] for name in names}
    if members:
        clips = dataset_loader.load_fsdd(settings.data, settings.audio)
        folds = []
        for name in np.unique(clips.speakers).astype(str):
            decision = config.DecisionSettings(models_dir=speakers.fold_folder(evaluation, name))
            predictor = Predictor(decision, tuple(members))
            predictor.vote_weights = members
            recognizer = evaluation.recognizer(predictor, recording=False)
            split = dataset_loader.speaker_split(
                clips, name, settings.data.validation_fraction, settings.seed
            )
            results = scoring.recognize_clips(recognizer, clips.subset(split.test), name)
            folds.append(scoring.accuracies(results))
        means[registry.ENSEMBLE] = scoring.macro(folds)["vote"]
    return means
