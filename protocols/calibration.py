"""The protocol that asks whether a confidence of 90 % means 90 % right."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial
from typing import Any

import visualization
from config import display_name
from corpora.clips import concatenate
from protocols import metrics, scoring, tables
from protocols.common import (
    EvaluationSettings,
    ProtocolReport,
    about,
    held_out_clips,
    load_unseen_speakers,
    trained_on,
)
from recognition.predictor import Predictor

Curves = dict[str, dict[str, dict[str, metrics.Calibration]]]
"""Clips -> "before" or "after" calibration -> network or "vote" -> calibration."""


def calibration(settings: EvaluationSettings) -> ProtocolReport:
    """Reliability of the confidence, before and after calibration."""
    predictor = Predictor(settings.decision)
    held_out = held_out_clips(settings, predictor)
    sets = {"validation": (held_out.validation, False), held_out.name: (held_out.test, False)}
    if settings.unseen_dir is not None:
        clips = concatenate([*load_unseen_speakers(settings, predictor.audio).values()])
        sets["unseen speakers"] = (clips, True)
    curves: Curves = {}
    gains, accuracy = {}, {}
    for name, (clips, recording) in sets.items():
        before, after = (
            scoring.recognize_clips(settings.recognizer(networks, recording), clips, name)
            for networks in (uncalibrated(predictor), predictor)
        )
        curves[name] = {"before": scoring.calibration(before), "after": scoring.calibration(after)}
        gains[name], accuracy[name] = scoring.vote_gain(after), scoring.accuracies(after)
    temperatures = {name: item.temperature for name, item in predictor.checkpoints.items()}
    data = about(settings, predictor) | {
        "temperatures": temperatures,
        "bins": metrics.CALIBRATION_BINS,
        "accuracy": accuracy,
        "vote_gain": gains,
        "calibration": curves,
    }
    return calibration_report(data, trained_on(predictor))


def calibration_report(data: dict[str, Any], origin: str) -> ProtocolReport:
    """Table, JSON and diagram of the calibration errors."""
    curves: Curves = data["calibration"]
    rows = [
        [
            name,
            display_name(model),
            tables.percent(data["accuracy"][name][model]),
            *(f"{100 * stages[stage][model].error:.2f}" for stage in ("before", "after")),
        ]
        for name, stages in curves.items()
        for model in stages["after"]
    ]
    last = [*curves][-1]
    before, after = (curves[last][stage]["vote"].error for stage in ("before", "after"))
    title = f"Calibration error of the vote, {last}: {before:.1%}, calibrated {after:.1%}"
    text = "\n".join(
        [
            f"# {title}\n",
            origin,
            f"Expected calibration error, {data['bins']} equal-width bins.\n",
            tables.table(["clips", "network", "accuracy %", "before %", "after %"], rows),
            *(f"{name}: {gain['statement']}\n" for name, gain in data["vote_gain"].items()),
        ]
    )
    panels = {
        name: {stage: item["vote"] for stage, item in stages.items()}
        for name, stages in curves.items()
    }
    draw = partial(visualization.plot_reliability, panels, title=title)
    return ProtocolReport("calibration", text, data, draw)


def uncalibrated(predictor: Predictor) -> Predictor:
    """The same networks with their temperatures set to 1 and their biases to 0."""
    other = copy.copy(predictor)
    other.checkpoints = {
        name: dataclasses.replace(checkpoint, temperature=1.0, reject_bias=0.0)
        for name, checkpoint in predictor.checkpoints.items()
    }
    return other
