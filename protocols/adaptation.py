"""The protocol that asks what a user's own clips are worth: adapt to a voice, and score it."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np

import audio_io
import dataset_loader
from corpora.clips import Clips
from protocols import metrics, scoring, tables
from protocols.common import EvaluationSettings, ProtocolReport
from protocols.scoring import ClipResults
from protocols.speakers import fold_folder, speaker_fold
from recognition.predictor import Predictor

logger = logging.getLogger(__name__)
OWN_TAKES = 3
"""Clips of each digit that the user has labelled."""
ADAPTATION: dict[str, Any] = {"epochs": 3, "learning_rate": 1e-3}
"""Training settings of the adaptation: few and small steps from the trained networks."""
STATES = {"a stranger": "before adapting", "adapted": "adapted"}
"""Names in the JSON file -> names in tables and figures."""


def adapt(settings: EvaluationSettings) -> ProtocolReport:
    """Leave a speaker out, then adapt to three of the speaker's clips a digit; score the others."""
    clips = dataset_loader.load_fsdd(settings.data, settings.audio)
    scores: dict[str, dict[str, metrics.Proportion]] = {}
    statements = []
    for name in settings.speakers:
        results = before_and_after(settings, clips, name)
        for state, part in zip(STATES, results, strict=True):
            scores[f"{name}, {state}"] = scoring.accuracies(part)
        statements.append(f"{name}: {comparison(*results)}\n")
        logger.info(statements[-1].rstrip())
    for state in STATES if len(settings.speakers) > 1 else ():
        scores[f"mean of {len(settings.speakers)}, {state}"] = scoring.macro(
            [scores[f"{name}, {state}"] for name in settings.speakers]
        )
    data = {
        "protocol": "adapt",
        "seed": settings.seed,
        "own_takes": OWN_TAKES,
        **ADAPTATION,
        "accuracy": scores,
    }
    return adapt_report(data, statements)


def before_and_after(
    settings: EvaluationSettings, clips: Clips, name: str
) -> tuple[ClipResults, ClipResults]:
    """The speaker's other clips before and after adapting to the first takes."""
    own = (clips.speakers == name) & (clips.takes < OWN_TAKES)
    before = speaker_fold(settings, clips, name)
    before = before.subset(~np.isin(before.names, clips.names[own]))
    recognizer = settings.recognizer(adapted(settings, clips.subset(own), name), recording=False)
    after = scoring.recognize_clips(recognizer, clips.subset((clips.speakers == name) & ~own), name)
    return before, after


def comparison(before: ClipResults, after: ClipResults) -> str:
    """McNemar's test of the two votes on the same clips, in words."""
    only_after, only_before, p = metrics.mcnemar_exact(
        *(item.subset(np.argsort(item.names)).right("vote") for item in (after, before))
    )
    return (
        f"{only_after} clips only the adapted vote got right, {only_before} only the other "
        f"(exact McNemar p = {p:.2g})."
    )


def adapted(settings: EvaluationSettings, own: Clips, name: str) -> Predictor:
    """The fold's networks, trained on with the clips `own` as the live script would save them."""
    from train import train

    folder = settings.results_dir / "adapt" / f"seed{settings.seed}_{name}"
    write_own(own, folder / "own")
    data = dataclasses.replace(
        settings.data,
        split="speaker",
        test_speaker=name,
        corpora=f"{settings.data.corpora},own",
        own_dir=folder / "own",
    )
    train_settings = settings.train_settings(
        data=data,
        init=fold_folder(settings, name),
        save_dir=folder / "models",
        runs_dir=folder / "runs",
        overwrite=True,
        training=dataclasses.replace(settings.training, **ADAPTATION),
    )
    train(train_settings)
    decision = dataclasses.replace(settings.decision, models_dir=folder / "models")
    return Predictor(decision, settings.models)


def write_own(own: Clips, folder: Path) -> None:
    """Clips as files named {digit}_{user}_{take}.wav."""
    for index in range(len(own)):
        name = f"{own.labels[index]}_{own.speakers[index]}_{own.takes[index]}.wav"
        audio_io.write_audio(folder / name, own.waveform(index), own.sample_rate)


def adapt_report(data: dict[str, Any], statements: list[str]) -> ProtocolReport:
    """Table and figure of the speakers before and after."""
    title = f"Adapting to {OWN_TAKES} own clips of each digit"
    groups = {
        f"{name}, {STATES[state]}": item
        for (name, state), item in (
            (key.rsplit(", ", 1), item) for key, item in data["accuracy"].items()
        )
    }
    text = "\n".join(
        [
            f"# {title}\n",
            "FSDD, one speaker left out, then adapted with the first "
            f"{OWN_TAKES} takes of each digit; scored on the other takes; percent with "
            "95 % intervals.\n",
            tables.accuracy_table("speaker", groups),
            *statements,
        ]
    )
    return ProtocolReport("adapt", text, data, tables.accuracy_figure(groups, title))
