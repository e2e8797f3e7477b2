"""The protocol that asks what it gains and costs to take "oh" for zero."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

import audio_io
import config
import dataset_loader
from corpora import an4, splits, spoken_oh
from corpora.clips import Clips
from corpora.registry import Request, Unavailable
from protocols import metrics, rejection, scoring, tables
from protocols.common import (
    EvaluationSettings,
    ProtocolReport,
    about,
    synthetic_speakers,
    trained_on,
)
from protocols.metrics import Proportion
from protocols.scoring import ClipResults
from recognition.predictor import Predictor
from training.settings import HELD_OUT_FRACTION

SYNTHETIC = config.SyntheticSettings.only(espeak_clips=1200, pico_clips=1200, alternatives=("oh",))
"""Synthetic speakers of a seed that no training run uses; their 102 "oh" are kept."""

Scores = dict[str, dict[str, Proportion]]
"""What is asked of a set -> "off" and "on", the setting -> share."""


def oh(settings: EvaluationSettings) -> ProtocolReport:
    """What is answered with the setting off and on: to "oh", to other words, and to digits.

    Raises
    ------
    UserError : networks that were not trained to hear "oh"
    """
    predictors = {
        name: Predictor(dataclasses.replace(settings.decision, oh=as_zero))
        for name, as_zero in (("off", False), ("on", True))
    }
    predictor = predictors["off"]
    scores: Scores = {}
    for title, clips in oh_clips(settings, predictor).items():
        results = recognized(settings, predictors, clips, title)
        scores[f"{title}: answered 0"] = share(results, lambda item: answered(item, 0))
        scores[f"{title}: answered 1 to 9"] = share(
            results, lambda item: item.accepted & ~answered(item, 0)
        )
    for title, clips in other_clips(settings, predictor).items():
        results = recognized(settings, predictors, clips, title)
        scores[f"{title}: accepted"] = share(results, lambda item: item.accepted)
    digits = {name: rejection.digit_results(settings, item) for name, item in predictors.items()}
    title = digits["off"][1]
    results = {name: item for name, (item, _) in digits.items()}
    scores[f"{title}: best digit right"] = share(results, lambda item: item.right("vote"))
    scores[f"{title}: answered rightly"] = share(
        results, lambda item: item.right("vote") & item.accepted
    )
    return oh_report(about(settings, predictor) | {"scores": scores}, trained_on(predictor))


def recognized(
    settings: EvaluationSettings, predictors: dict[str, Predictor], clips: Clips, title: str
) -> dict[str, ClipResults]:
    """The results of a set with the setting off and on."""
    return {
        name: scoring.recognize_clips(settings.recognizer(item, recording=True), clips, title)
        for name, item in predictors.items()
    }


def answered(results: ClipResults, digit: int) -> np.ndarray:
    """Whether the answer is this digit, bool (n,)."""
    return results.accepted & (results.guesses["vote"] == digit)


def share(results: dict[str, ClipResults], test: Any) -> dict[str, Proportion]:
    """The share of clips that pass a test, with the setting off and on."""
    return {name: metrics.proportion(test(item)) for name, item in results.items()}


def oh_clips(settings: EvaluationSettings, predictor: Predictor) -> dict[str, Clips]:
    """Sets of clips that say "oh", by where they come from; none of them was trained on."""
    sets = {
        "synthetic oh": says_oh(
            synthetic_speakers(settings, predictor.audio.sample_rate, SYNTHETIC)
        )
    }
    spoken = an4_kept_aside(settings, predictor)
    if spoken is not None:
        sets["oh, AN4 speakers kept aside"] = says_oh(spoken)
    for path in settings.oh_recordings:
        sets[f"oh, {path.name}"] = given_ohs(path, predictor.audio)
    return {title: clips for title, clips in sets.items() if len(clips)}


def says_oh(clips: Clips) -> Clips:
    """The clips whose name says "oh"."""
    return clips.subset(splits.label_oh(clips).labels == config.OH)


def given_ohs(path: Path, audio: config.AudioSettings) -> Clips:
    """A recording of one "oh", or all of a folder with strings/ and digits/ as AN4's test has."""
    if path.is_dir():
        return spoken_oh.spoken_oh(path / "strings", path / "digits", audio.sample_rate)
    waveform, _ = audio_io.read_audio(path, audio.sample_rate)
    return Clips.from_waveforms([waveform], [0], [""], ["oh"], [0], path.name, audio.sample_rate)


def an4_kept_aside(settings: EvaluationSettings, predictor: Predictor) -> Clips | None:
    """AN4's speakers who only validate; None where AN4 isn't there.

    They are those of a training in which AN4 is the first of the corpora by name, as it is unless
    folders of one's own are named too.
    """
    record = predictor.checkpoints[predictor.names[0]].record
    try:
        clips = an4.load(Request(settings.data, predictor.audio))
    except Unavailable:
        return None
    aside = dataset_loader.keep_aside(clips, HELD_OUT_FRACTION, record.get("seed", 0))
    return clips.subset(aside.by_speaker)


def other_clips(settings: EvaluationSettings, predictor: Predictor) -> dict[str, Clips]:
    """Sets of letters and other words."""
    wanted = ("other words", "synthetic other words")
    found = rejection.non_digit_clips(settings, predictor)
    sets = {rejection.DISPLAY_NAMES[name]: found[name] for name in wanted if name in found}
    spoken = an4_kept_aside(settings, predictor)
    if spoken is not None:
        words = spoken.labels == config.REJECT
        letters = words & np.array([len(splits.word_of(name)) == 1 for name in spoken.names])
        sets["letters, AN4 speakers kept aside"] = spoken.subset(letters)
        sets["words, AN4 speakers kept aside"] = spoken.subset(words & ~letters)
    return {title: clips for title, clips in sets.items() if len(clips)}


def oh_report(data: dict[str, Any], origin: str) -> ProtocolReport:
    """Table and figure of both settings side by side."""
    scores: Scores = data["scores"]
    first = next(iter(scores))
    gained = " and ".join(f"{item.value:.1%} ({name})" for name, item in scores[first].items())
    title = f'"Oh" taken for zero: {gained} of synthetic speakers'
    rows = [
        [name, item["off"].total, *map(tables.percent, item.values())]
        for name, item in scores.items()
    ]
    default = "on" if config.DecisionSettings.oh else "off"
    text = "\n".join(
        [
            f"# {title}\n",
            origin,
            f"Shares in percent with 95 % intervals, decision.oh off and on; by default it is "
            f"{default}.\n",
            tables.table(["clips that say", "clips", "off %", "on %"], rows),
        ]
    )
    return ProtocolReport("oh", text, data, tables.accuracy_figure(scores, title, "share (%)"))
