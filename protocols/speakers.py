"""Protocols on speakers that training never had: leave-one-speaker-out, and unseen speakers."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np

import dataset_loader
from config import display_name
from corpora.clips import Clips
from protocols import metrics, scoring, tables
from protocols.common import (
    EvaluationSettings,
    ProtocolReport,
    about,
    load_unseen_speakers,
    trained_on,
)
from protocols.folds import Fold, fold_key, read_fold, scored_fold
from protocols.heard import corpora_apart, speakers_apart
from protocols.scoring import ClipResults
from recognition.predictor import Predictor

logger = logging.getLogger(__name__)
LARGE_CORPUS = 100
"""Clips from which a corpus counts in the macro average of the large ones."""

Scores = dict[str, metrics.Proportion]
"""Network or "vote" -> accuracy."""


def leave_one_speaker_out(settings: EvaluationSettings) -> ProtocolReport:
    """FSDD's speakers in turn: train without one, score on that one.

    Every fold is saved when it is done; a second call trains only what is missing or was made with
    other settings.

    Raises
    ------
    UserError : FSDD can't be had
    """
    clips = dataset_loader.load_fsdd(settings.data, settings.audio)
    names = [str(name) for name in np.unique(clips.speakers)]
    folds = {name: speaker_fold(settings, clips, name) for name in names}
    results = scoring.join([*folds.values()])
    scores = {name: scoring.accuracies(fold) for name, fold in folds.items()}
    data = {
        "protocol": "speaker",
        "seed": settings.seed,
        "clean": settings.clean,
        "by_speaker": scores,
        "mean": scoring.macro([*scores.values()]),
        "vote_gain": scoring.vote_gain(results),
        "other_seeds": means_of_seeds(settings, names),
        "fold_settings": fold_key(settings),
    }
    files = tables.confusion_files(results, "speaker left out", "speaker_confusion")
    return speaker_report(data, files)


def speaker_report(data: dict[str, Any], files: tables.Files) -> ProtocolReport:
    """Table and figure of the speakers left out and their mean."""
    scores, mean = data["by_speaker"], data["mean"]
    groups = scores | {f"mean of {len(scores)}": mean} | data["other_seeds"]
    networks = tables.network_accuracies(mean)
    title = f"Leave-one-speaker-out: vote {mean['vote'].value:.2%}, {networks}"
    text = "\n".join(
        [
            f"# {title}\n",
            f"FSDD, seed {data['seed']}; accuracy in percent with 95 % intervals.\n",
            tables.accuracy_table("speaker left out", groups),
            f"All speakers together: {data['vote_gain']['statement']}\n",
        ]
    )
    return ProtocolReport("speaker", text, data, tables.accuracy_figure(groups, title), files)


def means_of_seeds(settings: EvaluationSettings, names: list[str]) -> dict[str, Scores]:
    """The mean of each seed that was run with these settings, and of all; empty for one seed."""
    folder, key, means = settings.results_dir / "speaker", fold_key(settings), {}
    seeds = {path.stem.split("_")[0] for path in folder.glob(f"seed*_{names[0]}.json")}
    for seed in sorted(seeds):
        saved = [read_fold(folder / f"{seed}_{name}.json", key) for name in names]
        folds = [scoring.accuracies(fold) for fold in saved if fold is not None]
        if len(folds) == len(names):
            means[f"mean, {seed}"] = scoring.macro(folds)
    if len(means) < 2:
        return {}
    return means | {f"mean of {len(means)} seeds": scoring.macro([*means.values()], True)}


def speaker_fold(settings: EvaluationSettings, clips: Clips, name: str) -> ClipResults:
    """Train without one speaker and recognise that speaker's clips, or read what was saved."""
    data = dataclasses.replace(settings.data, split="speaker", test_speaker=name)
    split = dataset_loader.speaker_split(clips, name, data.validation_fraction, settings.seed)
    fold = Fold(name, "training without this speaker", fold_folder(settings, name))
    return scored_fold(settings, fold, fold_key(settings), clips.subset(split.test), data)


def fold_folder(settings: EvaluationSettings, name: str) -> Path:
    """Where the networks of the fold that leaves out speaker `name` lie."""
    return settings.results_dir / "speaker" / f"seed{settings.seed}_{name}"


def unseen(settings: EvaluationSettings) -> ProtocolReport:
    """Unseen speakers: by corpus, by speaker, by digit, and the macro average over corpora."""
    predictor = Predictor(settings.decision)
    corpora = load_unseen_speakers(settings, predictor.audio)
    recognizer = settings.recognizer(predictor, recording=True)
    parts = {
        name: scoring.recognize_clips(recognizer, clips, name) for name, clips in corpora.items()
    }
    results = scoring.join([*parts.values()])
    corpus = np.concatenate([clips.corpus for clips in corpora.values()])
    by_corpus = {name: scoring.accuracies(part) for name, part in parts.items()}
    by_speaker = scoring.grouped(results, np.char.add(np.char.add(corpus, "/"), results.speakers))
    data = about(settings, predictor) | {
        "cleaning": recognizer.cleaning is not None,
        "clips": len(results),
        "speakers": len(by_speaker),
        "macro": macro_averages(by_corpus),
        "by_corpus": by_corpus,
        "apart": corpora_apart(by_corpus, predictor) | speakers_apart(results, predictor),
        "by_digit": scoring.grouped(results, results.labels),
        "by_speaker": by_speaker,
        "no_digit": scoring.answered_no_digit(results),
        "vote_gain": scoring.vote_gain(results),
        "wrong": scoring.wrong_clips(results),
        "calibration_error": scoring.calibration_errors(results),
    }
    headline = [*data["macro"].values()][-1]
    title = (
        f"Unseen speakers: vote {headline['vote'].value:.2%}, "
        f"{tables.network_accuracies(headline)} (macro average)"
    )
    return ProtocolReport(
        "unseen",
        unseen_text(title, data, headline, trained_on(predictor)),
        data,
        tables.accuracy_figure(by_corpus | data["macro"], title),
        tables.confusion_files(results, "unseen speakers", "unseen_confusion")
        | {"unseen_wrong.csv": tables.csv(data["wrong"], index=False)},
    )


def macro_averages(by_corpus: dict[str, Scores]) -> dict[str, Scores]:
    """The macro average over all corpora, and over the large ones where some are small."""
    averages = {f"macro, {len(by_corpus)} corpora": scoring.macro([*by_corpus.values()])}
    large = [scores for scores in by_corpus.values() if scores["vote"].total >= LARGE_CORPUS]
    if 0 < len(large) < len(by_corpus):
        averages[f"macro, {len(large)} of {LARGE_CORPUS} clips or more"] = scoring.macro(large)
    return averages


def unseen_text(title: str, data: dict[str, Any], headline: Scores, origin: str) -> str:
    """The report on unseen speakers as Markdown."""
    return "\n".join(
        [
            f"# {title}\n",
            origin,
            f"{data['speakers']} speakers, {data['clips']} clips, "
            f"{'with' if data['cleaning'] else 'without'} the cleaning chain; percent with "
            "95 % intervals.\n",
            tables.accuracy_table("corpus", data["by_corpus"] | data["macro"]),
            *([tables.accuracy_table("told apart", data["apart"])] if data["apart"] else []),
            data["vote_gain"]["statement"] + macro_gain(headline) + "\n",
            f'Answered "no digit" at threshold {data["threshold"]:.3f}: {data["no_digit"]}.\n',
            "## By digit\n",
            tables.accuracy_table("digit", data["by_digit"]),
            "## By speaker\n",
            tables.accuracy_table("speaker", data["by_speaker"]),
        ]
    )


def macro_gain(scores: Scores) -> str:
    """What the vote changes on the macro average, which may differ from the sum of all clips."""
    singles = {name: item.value for name, item in scores.items() if name != "vote"}
    better = max(singles, key=singles.__getitem__)
    change = 100 * (scores["vote"].value - singles[better])
    return (
        f" On the macro average the vote changes {change:+.2f} points against the better "
        f"single network there ({display_name(better)})."
    )
