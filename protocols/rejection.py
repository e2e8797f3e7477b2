"""The protocol that asks how much of what is no digit is accepted as one."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

import config
import dataset_loader
from corpora import registry
from corpora.clips import Clips, concatenate
from corpora.registry import Request
from protocols import metrics, noise_generation, scoring, tables
from protocols.common import (
    EvaluationSettings,
    ProtocolReport,
    about,
    held_out_clips,
    load_unseen_speakers,
    required_folder,
    synthetic_speakers,
    trained_on,
)
from protocols.heard import words_apart
from protocols.noise import noise_recordings, with_or_without
from protocols.scoring import ClipResults
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer
from synthesis import foreign_digits
from training.settings import HELD_OUT_FRACTION

logger = logging.getLogger(__name__)
SOUNDS_PER_KIND = 100
"""Sounds of each kind that is no speech: 500 in all."""
RECORDED_NOISE_RMS = 0.05
"""RMS amplitude of recorded noise that is played alone: -26 dBFS."""
OUT_OF_VOCABULARY = config.SyntheticSettings.only(other_words=300, vocabulary="evaluation")
"""Synthetic out-of-vocabulary words, of a seed that no training run uses."""
ACCEPTED_SHARE = 0.95
"""Share of the right answers that the second threshold lets pass."""
WORDS = ("other words", "synthetic other words")
"""Sets of words; those that training heard are told apart where the checkpoints name them."""
DISPLAY_NAMES = {
    "other words": "out-of-vocabulary words, recorded",
    "synthetic other words": "out-of-vocabulary words, synthetic",
    "all made-up sounds": "all synthetic sounds",
}
"""Names in the JSON file -> names in tables and figures, where they differ."""

Acceptance = dict[str, metrics.Proportion]
"""Name of a threshold -> share of the sounds that it accepts."""


def reject(settings: EvaluationSettings) -> ProtocolReport:
    """False-accept rates of words and sounds that are no digit, at two thresholds."""
    predictor = Predictor(settings.decision)
    recognizer = settings.recognizer(predictor, recording=True)
    digits, source = digit_results(settings, predictor)
    right = digits.subset(digits.right("vote"))
    thresholds = {
        "stored": predictor.threshold,
        "95 %": metrics.acceptance_threshold(right.score(), ACCEPTED_SHARE),
    }
    scores = non_digit_scores(recognizer, non_digit_clips(settings, predictor))
    data = about(settings, predictor) | {
        "thresholds": thresholds,
        "threshold_source": source,
        "accepted": {name: acceptance(values, thresholds) for name, values in scores.items()},
        "right_answers_accepted": acceptance(right.score(), thresholds),
        "vote_gain": scoring.vote_gain(digits),
        "cleaning": recognizer.cleaning is not None,
    }
    return reject_report(data, trained_on(predictor))


def digit_results(settings: EvaluationSettings, predictor: Predictor) -> tuple[ClipResults, str]:
    """The digits that set the second threshold: of unseen speakers, or of the official test."""
    if settings.unseen_dir is not None:
        clips = concatenate([*load_unseen_speakers(settings, predictor.audio).values()])
        recognizer, name = settings.recognizer(predictor, recording=True), "unseen speakers"
    else:
        held_out = held_out_clips(settings, predictor)
        logger.info(
            f"no unseen speakers' clips (--unseen-dir): the 95 % threshold is from {held_out.name}"
        )
        recognizer = settings.recognizer(predictor, recording=False)
        clips, name = held_out.test, held_out.name
    return scoring.recognize_clips(recognizer, clips, name), name


def non_digit_scores(recognizer: Recognizer, sets: Mapping[str, Clips]) -> dict[str, np.ndarray]:
    """The scores (n,) of each set of non-digits, words heard and not heard, and of all sounds."""
    scores: dict[str, np.ndarray] = {}
    for name, clips in sets.items():
        scores[name] = scoring.recognize_clips(recognizer, clips, name).score()
        if name in WORDS:
            apart = words_apart(clips.names, recognizer.predictor)
            scores |= {f"{name}, {group}": scores[name][mask] for group, mask in apart.items()}
    sounds = [scores[kind] for kind in noise_generation.NON_SPEECH]
    return scores | {"all made-up sounds": np.concatenate(sounds)}


def non_digit_clips(settings: EvaluationSettings, predictor: Predictor) -> dict[str, Clips]:
    """Sets of clips that are no digits, by what they are."""
    sets = recorded_words(settings, predictor)
    sets |= words_kept_aside(settings, predictor) | foreign_digit_clips(settings, predictor)
    sets |= synthetic_words(settings, predictor) | made_up_sounds(settings, predictor)
    if settings.noise_dir is not None:
        sets["recorded noise"] = recorded_noise(settings, predictor)
    return sets


def words_and_sounds(settings: EvaluationSettings, predictor: Predictor) -> dict[str, Clips]:
    """Fewer sets: recorded words, or synthetic ones where there are none, and made-up sounds."""
    words = recorded_words(settings, predictor) or synthetic_words(settings, predictor)
    return words | made_up_sounds(settings, predictor)


def recorded_words(settings: EvaluationSettings, predictor: Predictor) -> dict[str, Clips]:
    """The words in the folder of non-digits; nothing where none was named."""
    if settings.non_digits_dir is None:
        return {}
    folder = required_folder(
        settings.non_digits_dir, "out-of-vocabulary words", "--non-digits-dir", "NON_DIGITS_DIR"
    )
    clips = dataset_loader.load_folder(folder, predictor.audio, corpus="other words")
    return {"other words": clips.subset(np.flatnonzero(clips.labels == config.REJECT))}


def synthetic_words(settings: EvaluationSettings, predictor: Predictor) -> dict[str, Clips]:
    """Words that no training run uses, by synthetic speakers; nothing, with a warning, without."""
    try:
        clips = synthetic_speakers(settings, predictor.audio.sample_rate, OUT_OF_VOCABULARY)
    except config.UserError as error:
        logger.warning(f"warning: no synthetic out-of-vocabulary words ({error})")
        return {}
    return {"synthetic other words": clips.subset(np.flatnonzero(clips.labels == config.REJECT))}


def made_up_sounds(settings: EvaluationSettings, predictor: Predictor) -> dict[str, Clips]:
    """:data:`SOUNDS_PER_KIND` of each kind of sound that is no speech."""
    rate, sets = predictor.audio.sample_rate, {}
    for kind in noise_generation.NON_SPEECH:
        random = np.random.default_rng([settings.seed, *kind.encode()])
        waveforms = [
            noise_generation.make_non_speech(kind, rate, random) for _ in range(SOUNDS_PER_KIND)
        ]
        sets[kind] = non_digit_set(waveforms, kind, rate)
    return sets


def words_kept_aside(settings: EvaluationSettings, predictor: Predictor) -> dict[str, Clips]:
    """Recorded other words of the training corpora that training left out, by why it did.

    Those of the seed that the networks were trained with; none where they were trained on others.
    """
    record = predictor.checkpoints[predictor.names[0]].record
    heard = set(str(record.get("corpora", "")).split("+"))
    corpora = [
        name
        for name, corpus in registry.known().items()
        if name in heard - {"fsdd", "synthetic", "own"} and _is_there(corpus, settings)
    ]
    if not corpora:
        return {}
    data = dataclasses.replace(settings.data, corpora=",".join(corpora))
    _, clips, _ = dataset_loader.load_training_clips(
        data, predictor.audio, settings.synthetic, settings.seed
    )
    aside = dataset_loader.keep_aside(clips, HELD_OUT_FRACTION, record.get("seed", 0))
    words = clips.labels == config.REJECT
    return {
        "other words of speakers kept aside": clips.subset(words & aside.by_speaker),
        "other words kept aside": clips.subset(words & aside.by_word),
    }


def _is_there(corpus: registry.Corpus, settings: EvaluationSettings) -> bool:
    return corpus.place(Request(settings.data, settings.audio)) is not None


def foreign_digit_clips(settings: EvaluationSettings, predictor: Predictor) -> dict[str, Clips]:
    """Digits of other languages; those that sound like an English one are a set of their own."""
    if settings.languages_dir is None:
        return {}
    folder = required_folder(
        settings.languages_dir, "other languages", "--languages-dir", "LANGUAGES_DIR"
    )
    unlike = {(item.language, int(item.numeral)) for item in foreign_digits.foreign_digits()}
    parts, foreign = [], []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        clips = dataset_loader.load_folder(path, predictor.audio, corpus=path.name)
        language = path.name.split("_")[0]
        told = any(language == one for one, _ in unlike)
        foreign += [not told or (language, int(label)) in unlike for label in clips.labels]
        parts.append(dataclasses.replace(clips, labels=np.full(len(clips), config.REJECT)))
    clips, mask = concatenate(parts), np.array(foreign)
    return {
        "digits in other languages": clips.subset(mask),
        "digits in other languages that sound English": clips.subset(~mask),
    }


def recorded_noise(settings: EvaluationSettings, predictor: Predictor) -> Clips:
    """Seconds of recorded noise, without speech."""
    rate = predictor.audio.sample_rate
    recordings = noise_recordings(settings, predictor, rate)
    random = np.random.default_rng([settings.seed, 9])
    waveforms = [
        RECORDED_NOISE_RMS
        * noise_generation.make_noise("recorded", rate, random, recordings=recordings)
        for _ in range(SOUNDS_PER_KIND)
    ]
    return non_digit_set(waveforms, "recorded noise", rate)


def non_digit_set(waveforms: list[np.ndarray], kind: str, sample_rate: int) -> Clips:
    """Waveforms that are no digit as a set."""
    count = len(waveforms)
    return Clips.from_waveforms(
        waveforms,
        [config.REJECT] * count,
        [kind] * count,
        [f"{kind} {index}" for index in range(count)],
        range(count),
        kind,
        sample_rate,
    )


def acceptance(scores: np.ndarray, thresholds: dict[str, float]) -> Acceptance:
    """Share of scores (n,) accepted at each threshold; a score of 0 means that non-digit won."""
    return {
        name: metrics.proportion((scores >= value) & (scores > 0))
        for name, value in thresholds.items()
    }


def reject_report(data: dict[str, Any], origin: str) -> ProtocolReport:
    """Table and figure of what is accepted."""
    source, thresholds = data["threshold_source"], data["thresholds"]
    groups = {f"right answers, {source}": data["right_answers_accepted"]} | {
        DISPLAY_NAMES.get(name, name): item for name, item in data["accepted"].items()
    }
    title = f"False-accept rate: {headline(data['accepted'])}"
    rows = [
        [name, item["stored"].total, *map(tables.percent, item.values())]
        for name, item in groups.items()
    ]
    header = [f"at {name} ({value:.3f})" for name, value in thresholds.items()]
    text = "\n".join(
        [
            f"# {title}\n",
            origin,
            "Share accepted, in percent with 95 % intervals (the false-accept rate for all but the "
            f"first row), at the stored threshold and at the one that lets {ACCEPTED_SHARE:.0%} of "
            f"the right answers pass ({source}); {with_or_without(data['cleaning'])} the cleaning "
            "chain.\n",
            tables.table(["sound", "clips", *header], rows),
            f"{source}: {data['vote_gain']['statement']}\n",
        ]
    )
    draw = tables.accuracy_figure(groups, title, "accepted (%)")
    return ProtocolReport("reject", text, data, draw)


def headline(accepted: dict[str, Acceptance]) -> str:
    """The figure's title: words and sounds at the second threshold."""
    names = {
        "other words": "recorded words",
        "synthetic other words": "synthetic words",
        "all made-up sounds": "sounds",
    }
    return ", ".join(
        f"{display} {accepted[name]['95 %'].value:.1%}"
        for name, display in names.items()
        if name in accepted
    )
