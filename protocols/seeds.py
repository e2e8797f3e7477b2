"""The protocol that compares several trainings: the official test of each, and their mean."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import config
from config import display_name
from protocols import metrics, scoring, tables
from protocols.common import EvaluationSettings, ProtocolReport, held_out_clips
from recognition.predictor import Predictor


def seeds(settings: EvaluationSettings) -> ProtocolReport:
    """The official test for several folders of networks, and the mean over them.

    Raises
    ------
    UserError : no folders given, or folders with different networks
    """
    if not settings.models_dirs:
        raise config.UserError("no trained networks to compare: use --models-dirs FOLDER FOLDER")
    scores, results, test_set = {}, [], ""
    for folder in dict.fromkeys(settings.models_dirs):
        predictor = Predictor(dataclasses.replace(settings.decision, models_dir=folder))
        held_out = held_out_clips(settings, predictor)
        recognizer = settings.recognizer(predictor, recording=False)
        results.append(scoring.recognize_clips(recognizer, held_out.test, str(folder)))
        seed = predictor.checkpoints[predictor.names[0]].record.get("seed", "?")
        scores[f"{folder.as_posix()} (seed {seed})"] = scoring.accuracies(results[-1])
        test_set = held_out.name
    if len({tuple(part.guesses) for part in results}) > 1:
        raise config.UserError("the folders of --models-dirs hold different networks")
    data = {
        "protocol": "seeds",
        "test_set": test_set,
        "seeds": scores,
        "mean": scoring.macro([*scores.values()], same_clips=True),
        "standard_deviation": standard_deviations([*scores.values()]),
        "vote_gain": scoring.vote_gain(scoring.join(results)),
    }
    return seeds_report(data)


def standard_deviations(scores: list[dict[str, metrics.Proportion]]) -> dict[str, float]:
    """The standard deviation of each network and of the vote; empty for a single training."""
    if len(scores) < 2:
        return {}
    return {
        name: float(np.std([item[name].value for item in scores], ddof=1)) for name in scores[0]
    }


def seeds_report(data: dict[str, Any]) -> ProtocolReport:
    """Table and figure of the trainings and their mean."""
    seeds, mean = data["seeds"], data["mean"]
    groups = seeds | {"mean": mean}
    title = (
        f"{data['test_set']}, mean of {len(seeds)}: vote {mean['vote'].value:.2%}, "
        f"{tables.network_accuracies(mean)}"
    )
    deviations = ", ".join(
        f"{display_name(name)} {100 * value:.2f}"
        for name, value in data["standard_deviation"].items()
    )
    text = "\n".join(
        [
            f"# {title}\n",
            tables.accuracy_table("networks", groups),
            f"Standard deviation between them, in points: {deviations or 'one only'}.\n",
            f"All clips of all seeds together: {data['vote_gain']['statement']} (Each clip counts "
            "once per seed, so p is somewhat too small.)\n",
        ]
    )
    return ProtocolReport("seeds", text, data, tables.accuracy_figure(groups, title))
