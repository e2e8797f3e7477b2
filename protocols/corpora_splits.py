"""Protocols that train on a corpus: AudioMNIST's own folds, and one corpus against another."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import config
import dataset_loader
from audio_feature_extraction import is_cut
from corpora import audiomnist as corpus
from corpora import splits
from corpora.clips import Clips, concatenate
from corpora.registry import Request
from protocols import metrics, scoring, tables
from protocols.common import EvaluationSettings, ProtocolReport
from protocols.folds import Fold, fold_key, scored_fold
from protocols.scoring import ClipResults
from training.settings import TrainingData, window

logger = logging.getLogger(__name__)
LITERATURE = (
    "To compare with: 98.6 % is quoted for AudioMNIST with speakers kept apart. Figures of splits "
    "that have the same speakers in training and test are higher, and mean less."
)

Scores = dict[str, metrics.Proportion]
"""Network or "vote" -> accuracy."""


def audiomnist(settings: EvaluationSettings) -> ProtocolReport:
    """AudioMNIST's five speaker-disjoint folds: train on three fifths of the speakers, test on one.

    Every fold is saved when it is done; a second call trains only what is missing or was made with
    other settings or clips. Of ten speakers, as in some copies, each fold has what there is.

    Raises
    ------
    UserError : AudioMNIST lies nowhere, or no fold has speakers to train, validate and test
    """
    request = Request(settings.data, settings.audio)
    clips = corpus.load(request)
    parts = {}
    for number, split in enumerate(corpus.folds(clips), start=1):
        if min(map(len, (split.train, split.validation, split.test))):
            parts[f"fold {number}"] = _audiomnist_fold(settings, clips, number, split)
        else:
            logger.info(f"fold {number}: left out, it lacks speakers")
    if not parts:
        raise config.UserError(f"{len(clips)} clips of AudioMNIST: too few speakers for its folds")
    results = scoring.join([*parts.values()])
    scores = {name: scoring.accuracies(part) for name, part in parts.items()}
    folder = corpus.find(settings.data)
    data = {
        "protocol": "audiomnist",
        "seed": settings.seed,
        "clips": len(results),
        "by_fold": scores,
        "mean": scoring.macro([*scores.values()]),
        "by_gender": scoring.grouped(results, _genders(results, folder)),
        "by_speaker": scoring.grouped(results, results.speakers),
        "vote_gain": scoring.vote_gain(results),
        "fold_settings": fold_key(settings),
    }
    return _audiomnist_report(data, results)


def _audiomnist_fold(
    settings: EvaluationSettings, clips: Clips, number: int, split: corpus.Fold
) -> ClipResults:
    """Train on a fold's training speakers, and recognise its test speakers."""

    def prepare() -> TrainingData:
        return training_data(
            clips.subset(split.train),
            clips.subset(split.validation),
            f"audiomnist fold {number}",
            settings.audio,
        )

    name = f"fold{number}"
    folder = settings.results_dir / "audiomnist" / f"seed{settings.seed}_{name}"
    data = dataclasses.replace(settings.data, corpora="audiomnist")
    key = f"{fold_key(settings)}-{_digest(clips)}"
    fold = Fold(name, f"training on {len(split.train)} clips", folder)
    return scored_fold(settings, fold, key, clips.subset(split.test), data, prepare)


def training_data(
    training: Clips, validation: Clips, name: str, audio: config.AudioSettings
) -> TrainingData:
    """Clips that somebody else has split, as a training run takes them."""
    dataset_loader.report_labels(training, validation)
    cut = sum(
        is_cut(clips.waveform(index), audio.clip_samples)
        for clips in (training, validation)
        for index in range(len(clips))
    )
    return TrainingData(
        training=window(training, audio),
        training_labels=training.labels,
        validation=window(validation, audio),
        validation_labels=validation.labels,
        corpora=name,
        corpus=training.corpus,
        cut=cut,
    )


def _digest(clips: Clips) -> str:
    """Changes with the names and lengths of the clips."""
    facts = f"{clips.names.tolist()} {clips.offsets.tolist()}"
    return hashlib.sha256(facts.encode()).hexdigest()[:8]


def _genders(results: ClipResults, folder: Path | None) -> np.ndarray:
    """The gender of each clip's speaker as the corpus' metadata give it, str (n,)."""
    facts = corpus.speaker_facts(folder) if folder is not None else {}
    return np.array(
        [facts.get(str(name), {}).get("gender", "not known") for name in results.speakers]
    )


def _audiomnist_report(data: dict[str, Any], results: ClipResults) -> ProtocolReport:
    groups = data["by_fold"] | {f"mean of {len(data['by_fold'])}": data["mean"]}
    networks = tables.network_accuracies(data["mean"])
    title = f"AudioMNIST, speakers apart: vote {data['mean']['vote'].value:.2%}, {networks}"
    text = "\n".join(
        [
            f"# {title}\n",
            f"The paper's folds, trained on AudioMNIST alone, seed {data['seed']}; accuracy in "
            "percent with 95 % intervals.\n",
            tables.accuracy_table("fold", groups),
            LITERATURE + "\n",
            f"All folds together: {data['vote_gain']['statement']}\n",
            "## By gender\n",
            tables.accuracy_table("speakers", data["by_gender"]),
            "## By speaker\n",
            tables.accuracy_table("speaker", data["by_speaker"]),
        ]
    )
    files = tables.confusion_files(results, "AudioMNIST, speakers apart", "audiomnist_confusion")
    return ProtocolReport("audiomnist", text, data, tables.accuracy_figure(groups, title), files)


def cross(settings: EvaluationSettings) -> ProtocolReport:
    """Train on the corpora that ``train_on`` names, test on all digits of those of ``test_on``.

    Raises
    ------
    UserError : the same corpus in both, a corpus that can't be had, no digits to test on, or the
        same recording in both, found by its samples
    """
    names = _disjoint(settings.train_on, settings.test_on)
    training = _all_clips(settings, settings.train_on)
    test = _all_clips(settings, settings.test_on)
    splits.refuse_shared(training, {"test": test})
    digits = test.subset(np.flatnonzero(test.labels != config.REJECT))
    if not len(digits):
        raise config.UserError(f"{settings.test_on}: no digits in it to test on")
    folder = settings.results_dir / "cross" / f"seed{settings.seed}_{_file_name(names)}"
    data = dataclasses.replace(settings.data, corpora=settings.train_on)
    key = f"{fold_key(dataclasses.replace(settings, data=data))}-{_digest(training)}{_digest(test)}"
    title = f"trained on {settings.train_on}, tested on {settings.test_on}"
    fold = Fold(title, "training", folder)
    results = scored_fold(settings, fold, key, digits, data)
    return _cross_report(settings, title, results, digits)


def _disjoint(train_on: str, test_on: str) -> tuple[str, str]:
    """The two lists of corpora, if they have none in common."""
    first, second = (
        {word.strip() for word in text.split(",") if word.strip()} for text in (train_on, test_on)
    )
    if not first or not second:
        raise config.UserError("name corpora to train on and to test on: --train-on, --test-on")
    if shared := first & second:
        raise config.UserError(
            f"{', '.join(sorted(shared))}: to train and to test on; name different corpora with "
            "--train-on and --test-on"
        )
    return "+".join(sorted(first)), "+".join(sorted(second))


def _file_name(names: tuple[str, str]) -> str:
    """Two lists of corpora as the name of a folder, unlike any other two's."""
    text = "_".join(names)
    plain = "".join(letter if letter.isalnum() or letter in "+-_" else "-" for letter in text)
    return f"{plain[:60]}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _all_clips(settings: EvaluationSettings, names: str) -> Clips:
    """Every clip of the corpora."""
    fsdd, others, _ = dataset_loader.load_training_clips(
        dataclasses.replace(settings.data, corpora=names),
        settings.audio,
        settings.synthetic,
        settings.seed,
    )
    return others if fsdd is None else concatenate([fsdd, others])


def _cross_report(
    settings: EvaluationSettings, title: str, results: ClipResults, digits: Clips
) -> ProtocolReport:
    by_corpus = scoring.grouped(results, digits.corpus)
    total = scoring.accuracies(results)
    groups: Mapping[str, Scores] = by_corpus | {"all": total}
    by_speaker = scoring.grouped(
        results, np.char.add(np.char.add(digits.corpus, "/"), results.speakers)
    )
    data: dict[str, Any] = {
        "protocol": "cross",
        "seed": settings.seed,
        "train_on": settings.train_on,
        "test_on": settings.test_on,
        "clips": len(results),
        "accuracy": total,
        "by_corpus": by_corpus,
        "by_speaker": by_speaker,
        "no_digit": scoring.answered_no_digit(results),
        "vote_gain": scoring.vote_gain(results),
    }
    head = f"Cross-corpus, {title}: vote {total['vote'].value:.2%}"
    text = "\n".join(
        [
            f"# {head}\n",
            f"{tables.network_accuracies(total)}; {len(by_speaker)} speakers, none of them in "
            "training; accuracy in percent with 95 % intervals.\n",
            tables.accuracy_table("corpus", groups),
            data["vote_gain"]["statement"] + "\n",
            f'Answered "no digit": {data["no_digit"]}.\n',
        ]
    )
    files = tables.confusion_files(results, title, "cross_confusion")
    return ProtocolReport("cross", text, data, tables.accuracy_figure(groups, head), files)
