"""The protocol that asks what a user's own clips are worth: adapt to a voice, and score it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

import audio_io
import dataset_loader
import visualization
from corpora.clips import Clips
from protocols import metrics, scoring
from protocols.accuracy import fold_folder, speaker_fold
from protocols.common import EvaluationSettings, ProtocolReport
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer

OWN_TAKES = 3
"""Clips of each digit that the user has labelled."""
ADAPTATION = {"epochs": 3, "learning_rate": 1e-3}
"""Training settings of the adaptation: few and small steps from the trained networks."""


def adapt(settings: EvaluationSettings) -> ProtocolReport:
    """Leave a speaker out, then adapt to three of the speaker's clips a digit; score the others."""
    clips = dataset_loader.load_fsdd(settings.data, settings.audio)
    groups: dict[str, dict[str, metrics.Proportion]] = {}
    statements = []
    for name in settings.speakers:
        before = speaker_fold(settings, clips, name)
        own = (clips.speakers == name) & (clips.takes < OWN_TAKES)
        was = before.subset(~np.isin(before.names, clips.names[own]))
        rest = clips.subset((clips.speakers == name) & ~own)
        after = scoring.recognize_clips(
            Recognizer(adapted(settings, clips.subset(own), name), settings.chain(recording=False)),
            rest,
        )
        groups[f"{name}, a stranger"] = scoring.accuracies(was)
        groups[f"{name}, adapted"] = scoring.accuracies(after)
        only_after, only_before, p = metrics.mcnemar_exact(
            *(item.subset(np.argsort(item.names)).right("vote") for item in (after, was))
        )
        statements.append(
            f"{name}: {only_after} clips only the adapted vote got right, "
            f"{only_before} only the other (exact McNemar p = {p:.2g}).\n"
        )
    for state in ("a stranger", "adapted") if len(settings.speakers) > 1 else ():
        groups[f"mean of {len(settings.speakers)}, {state}"] = scoring.macro(
            [groups[f"{name}, {state}"] for name in settings.speakers]
        )
    title = f"Adapting to {OWN_TAKES} own clips a digit"
    text = "\n".join(
        [
            f"# {title}\n",
            "FSDD, one speaker left out, then adapted with the first "
            f"{OWN_TAKES} takes of each digit; scored on the other takes; percent with "
            "95 % intervals.\n",
            scoring.accuracy_table("speaker", groups),
            *statements,
        ]
    )
    data = {
        "protocol": "adapt",
        "seed": settings.seed,
        "own_takes": OWN_TAKES,
        **ADAPTATION,
        "accuracy": groups,
    }
    return ProtocolReport(
        "adapt",
        text,
        data,
        lambda path: visualization.plot_proportions(scoring.figure_rows(groups), path, title),
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
