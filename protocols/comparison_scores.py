"""The scores of a comparison: every network on the same clips, and what it weighs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import config
import utils
from corpora.clips import Clips
from models import counting
from protocols import metrics, noise, rejection, scoring, speakers
from protocols.common import EvaluationSettings, HeldOut, held_out_clips, load_unseen_speakers
from protocols.comparison import ComparisonSettings, Entry, Row, read_json
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer

logger = logging.getLogger(__name__)
NOISE_LEVELS = (10, 0)
"""dB at which digits in noise are compared, with cleaning, as the mean of the kinds of noise."""
MEGABYTE = 1e6


def score(settings: ComparisonSettings, entry: Entry, clips: Callable[[], ClipSets]) -> Row:
    """All scores of an entry; read again where nothing has changed.

    `clips` makes what it is scored on, and is not called where nothing has to be.

    Returns
    -------
    dict : proportions by name, as :class:`protocols.metrics.Proportion` fields, under ``scores``;
        ``calibration_error`` (percent), ``parameters``, ``multiply_adds``, ``megabytes``,
        ``training_minutes``, ``validation_accuracy``, ``members``
    """
    path = settings.results_dir / "model_comparison" / f"{entry.label}.json"
    key = score_key(settings, entry)
    if (saved := read_json(path)).get("key") == key:
        return saved["row"]
    logger.info(f"{entry.label}: scoring")
    predictor = Predictor(config.DecisionSettings(models_dir=entry.folder))
    row = {"model": entry.name, "seed": entry.seed, "members": predictor.vote_weights}
    row |= recognition_scores(settings.evaluation(entry.folder), predictor, clips())
    row |= sizes(entry, predictor)
    utils.write_json(path, {"key": key, "row": row})
    return read_json(path)["row"]


def score_key(settings: ComparisonSettings, entry: Entry) -> str:
    """Changes with the networks and with all that their scores depend on."""
    facts = [
        entry.digest(),
        settings.seed,
        settings.unseen_dir,
        settings.non_digits_dir,
        settings.noise_dir,
        dataclasses.asdict(settings.cleaning),
        dataclasses.asdict(settings.data),
        NOISE_LEVELS,
    ]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ClipSets:
    """What every network is scored on, made once: they all hear the same."""

    held_out: HeldOut
    to_mix: Clips
    """The official test at the rate that noise is mixed at."""
    unseen: dict[str, Clips]
    """By corpus; empty where no folder was named."""
    background: list[np.ndarray]
    """Recorded noise, float32 (samples,) each."""
    non_digits: dict[str, Clips]


def load_clip_sets(settings: ComparisonSettings, entry: Entry) -> ClipSets:
    """Read and make what an entry is scored on; the same for all with its audio settings."""
    evaluation = settings.evaluation(entry.folder)
    predictor = Predictor(evaluation.decision)
    unseen = evaluation.unseen_dir is not None
    return ClipSets(
        held_out_clips(evaluation, predictor),
        held_out_clips(evaluation, predictor, noise.MIXING_RATE).test,
        load_unseen_speakers(evaluation, predictor.audio) if unseen else {},
        noise.noise_recordings(evaluation, predictor, noise.MIXING_RATE),
        rejection.words_and_sounds(evaluation, predictor),
    )


def recognition_scores(
    evaluation: EvaluationSettings, predictor: Predictor, clips: ClipSets
) -> Row:
    """Official test, unseen speakers, noise, false accepts and calibration error."""
    trimmed = evaluation.recognizer(predictor, recording=False)
    cleaned = evaluation.recognizer(predictor, recording=True)
    results = scoring.recognize_clips(trimmed, clips.held_out.test, clips.held_out.name)
    scores = {"official": scoring.accuracies(results)["vote"]}
    if clips.unseen:
        parts = {
            name: scoring.recognize_clips(cleaned, part, name)
            for name, part in clips.unseen.items()
        }
        by_corpus = {name: scoring.accuracies(part) for name, part in parts.items()}
        scores["unseen"] = [*speakers.macro_averages(by_corpus).values()][-1]["vote"]
        results = scoring.join([*parts.values()])
    scores |= noise_scores(cleaned, clips, evaluation.seed)
    return {
        "test_set": clips.held_out.name,
        "scores": scores | false_accepts(cleaned, clips, predictor.threshold),
        "calibration_error": 100 * scoring.calibration_errors(results)["vote"],
        "threshold": predictor.threshold,
    }


def noise_scores(
    recognizer: Recognizer, clips: ClipSets, seed: int
) -> dict[str, metrics.Proportion]:
    """The official test in noise: by level the mean over the kinds of noise."""
    scores, test = {}, clips.to_mix
    for level in NOISE_LEVELS:
        kinds = [
            scoring.recognize_waveforms(
                recognizer,
                noise.in_noise(test, kind, level, seed, clips.background),
                test,
                f"{kind} {level} dB",
            )
            for kind in noise.noise_kinds(clips.background)
        ]
        means = scoring.macro([scoring.accuracies(part) for part in kinds], same_clips=True)
        scores[f"noise_{level}_db"] = means["vote"]
    return scores


def false_accepts(
    recognizer: Recognizer, clips: ClipSets, threshold: float
) -> dict[str, metrics.Proportion]:
    """Shares of other words, recorded where there are such, and of sounds taken for digits."""
    scores = rejection.non_digit_scores(recognizer, clips.non_digits)
    words = scores.get("other words", scores.get("synthetic other words"))
    named = {"words": words, "sounds": scores["all made-up sounds"]}
    return {
        f"false_accepts_{name}": rejection.acceptance(values, {"": threshold})[""]
        for name, values in named.items()
        if values is not None
    }


def sizes(entry: Entry, predictor: Predictor) -> Row:
    """What :func:`counts` says, and bytes of all members with the encoders they listen through."""
    parameters, multiply_adds = counts(predictor)
    size = sum(path.stat().st_size for path in entry.files())
    if any(item.features.kind == "encoder" for item in predictor.checkpoints.values()):
        size += config.program_path(config.ENCODER_FILE).stat().st_size
    validation = [item.record.get("validation", {}) for item in predictor.checkpoints.values()]
    return {
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "megabytes": size / MEGABYTE,
        "validation_accuracy": validation[0].get("validation_accuracy")
        if len(validation) == 1
        else None,
    }


def counts(predictor: Predictor) -> tuple[int, int]:
    """Parameters of all networks and the encoders they listen through; multiply-adds of an answer.

    These are a pass for each tempo of the test-time augmentation.
    """
    import torch

    parameters = multiply_adds = 0
    encoders: dict[tuple[config.AudioSettings, config.FeaturesSettings], None] = {}
    for name, checkpoint in predictor.checkpoints.items():
        front_end, network = predictor.networks[name]
        with torch.inference_mode():
            shape = front_end(torch.zeros(1, checkpoint.audio.clip_samples)).shape
        passes = len(checkpoint.features.tempos)
        parameters += counting.count_parameters(network)
        multiply_adds += passes * counting.count_multiply_adds(network, shape[1], shape[2])
        if checkpoint.features.kind == "encoder":
            encoders[checkpoint.audio, checkpoint.features] = None
    for audio, features in encoders:
        own = encoder_sizes(audio, features)
        parameters, multiply_adds = parameters + own[0], multiply_adds + own[1]
    return parameters, multiply_adds


def encoder_sizes(
    audio: config.AudioSettings, features: config.FeaturesSettings
) -> tuple[int, int]:
    """Parameters of the pretrained encoder, and its multiply-adds for one clip."""
    import speech_encoder

    encoder = speech_encoder.load_encoder(
        config.program_path(config.ENCODER_FILE), features.encoder_layers
    )
    frames = audio.clip_samples // features.hop_length
    once = counting.count_multiply_adds(encoder, speech_encoder.BANDS, frames)
    return counting.count_parameters(encoder), once * len(features.tempos)
