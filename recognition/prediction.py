"""What networks answer, and how their posteriors become one answer; the same for each runtime."""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import config

LEAST_POSTERIOR = 1e-7
"""No network rules anything out more firmly, so that one alone can't veto an answer."""


@dataclass(frozen=True)
class ModelPrediction:
    """One network's best digit, the confidence in it, and its posteriors, float32 (10,)."""

    digit: int
    confidence: float
    posteriors: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """The answer to one recording.

    `digit` is the number of a label, which for digits is the digit itself, and None for "no digit";
    `best_guess` never is. `posteriors`, float32 (10,), is the vote;
    it and `reject_probability` add up to 1. `latency_ms` is the computing time of this answer, or
    its share of the batch's.
    """

    digit: int | None
    best_guess: int
    confidence: float
    accepted: bool
    posteriors: np.ndarray
    reject_probability: float
    predictions: dict[str, ModelPrediction]
    latency_ms: float
    vocabulary: config.Vocabulary = config.ENGLISH_DIGITS

    @property
    def label(self) -> str | None:
        """The name of the label; None for "no digit"."""
        return None if self.digit is None else self.vocabulary.labels[self.digit]


class VotingPredictor(ABC):
    """Trained networks that vote, whatever computes them.

    Attributes
    ----------
    names : the networks that vote
    audio : rate, level and window that clips are brought to
    vote_weights : what each network's vote counts
    threshold : confidence below which the answer is "no digit"
    oh : whether "oh" is taken for zero
    vocabulary : what the networks tell apart
    """

    names: list[str]
    audio: config.AudioSettings
    vote_weights: Mapping[str, float]
    threshold: float
    oh: bool
    vocabulary: config.Vocabulary = config.ENGLISH_DIGITS

    @property
    @abstractmethod
    def records(self) -> Mapping[str, Mapping[str, Any]]:
        """What made each network: data, settings, scores, versions."""

    @property
    @abstractmethod
    def knows_oh(self) -> bool:
        """Whether any of the networks tells "oh" from other words."""

    @abstractmethod
    def heard(self, waveforms: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Each network's calibrated posteriors, float32 (batch, 11): ten digits and "no digit".

        Of other labels there are as many, and one more. `waveforms` are float32 (samples,) at the
        networks' rate, none of them empty.
        """

    def predict(self, waveform: np.ndarray) -> Prediction:
        """Answer one clip, float32 (samples,) at the networks' rate; empty is "no digit"."""
        return self.predict_batch([waveform])[0]

    def predict_batch(self, waveforms: Sequence[np.ndarray]) -> list[Prediction]:
        """Answer clips, float32 (samples,) each, at the networks' sample rate.

        Samples that are no numbers, or infinite, count as silence.
        """
        start = time.perf_counter()
        spoken = [index for index, waveform in enumerate(waveforms) if len(waveform)]
        predictions = [no_speech(self.names, self.vocabulary)] * len(waveforms)
        if spoken:
            posteriors = self.heard([finite(waveforms[index]) for index in spoken])
            votes = vote(posteriors, self.vote_weights)
            milliseconds = 1000 * (time.perf_counter() - start) / len(waveforms)
            for row, index in enumerate(spoken):
                by_model = {name: values[row] for name, values in posteriors.items()}
                predictions[index] = self.decide(votes[row], by_model, milliseconds)
        return predictions

    def decide(
        self, voted: np.ndarray, by_model: dict[str, np.ndarray], latency_ms: float
    ) -> Prediction:
        """Turn posteriors (11,) into an answer: a digit if it wins and is sure enough."""
        best = int(voted[:-1].argmax())
        confidence = float(voted[best])
        accepted = confidence >= self.threshold and confidence >= float(voted[-1])
        return Prediction(
            best if accepted else None,
            best,
            confidence,
            accepted,
            voted[:-1],
            float(voted[-1]),
            {name: model_prediction(item) for name, item in by_model.items()},
            latency_ms,
            self.vocabulary,
        )


def vote(
    posteriors: dict[str, np.ndarray], network_weights: Mapping[str, float] | None = None
) -> np.ndarray:
    """Confidence-weighted geometric mean of calibrated posteriors.

    A logarithmic opinion pool (Genest and Zidek 1986): what one network rules out, no other's
    confidence carries through. Each network's (batch, classes) log-posteriors are weighted, clip
    by clip, with its largest posterior, so that the surer network counts for more, and with its
    own weight, 1 by default. Returns (batch, classes) of the same type, rows adding to 1.
    """
    stacked = np.stack(list(posteriors.values()))
    weights = stacked.max(axis=2, keepdims=True)
    if network_weights is not None:
        own = np.array([network_weights[name] for name in posteriors], stacked.dtype)
        weights = weights * own[:, None, None]
    logs = np.log(stacked.clip(LEAST_POSTERIOR))
    pooled = np.exp((logs * weights).sum(axis=0) / weights.sum(axis=0))
    return pooled / pooled.sum(axis=1, keepdims=True)


def finite(waveform: np.ndarray) -> np.ndarray:
    """A waveform, float32 (samples,), with silence in place of NaN and infinity."""
    return np.where(np.isfinite(waveform), waveform, 0).astype(np.float32, copy=False)


def widest_audio(audios: Sequence[config.AudioSettings]) -> config.AudioSettings:
    """The highest rate, the longest window and the longest recording of several settings."""
    return dataclasses.replace(
        audios[0],
        sample_rate=max(audio.sample_rate for audio in audios),
        clip_seconds=max(audio.clip_seconds for audio in audios),
        max_seconds=max(audio.max_seconds for audio in audios),
    )


def unknown_oh(place: object) -> config.UserError:
    """The refusal to take "oh" for zero where no network knows it."""
    return config.UserError(
        f'decision.oh: no network in {place} was trained to hear "oh"; '
        "make some that are with: python train.py"
    )


def model_prediction(posteriors: np.ndarray) -> ModelPrediction:
    """One network's best digit from its posteriors (11,)."""
    best = int(posteriors[:-1].argmax())
    return ModelPrediction(best, float(posteriors[best]), posteriors[:-1])


def no_speech(
    names: list[str], vocabulary: config.Vocabulary = config.ENGLISH_DIGITS
) -> Prediction:
    """The answer to a recording without speech: "no digit", and no guess which."""
    silent = np.zeros(vocabulary.reject, np.float32)
    return Prediction(
        None,
        0,
        0.0,
        False,
        silent,
        1.0,
        {name: ModelPrediction(0, 0.0, silent) for name in names},
        0.0,
        vocabulary,
    )
