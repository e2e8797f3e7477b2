"""The trained networks behind one call: calibrated posteriors, their vote, "no digit"."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import audio_io
import config
from audio_feature_extraction import mean_logits, prepare_clip
from models.oh import fold_oh
from recognition import calibration
from recognition.checkpoint import load_checkpoint

BATCH = 256
"""Clips that go through a network together: more gain nothing on a CPU and cost memory."""


@dataclass(frozen=True)
class ModelPrediction:
    """One network's best digit, the confidence in it, and its posteriors, float32 (10,)."""

    digit: int
    confidence: float
    posteriors: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """The answer to one recording.

    `digit` is None for "no digit", `best_guess` never is. `posteriors`, float32 (10,), is the vote;
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


def vote(
    posteriors: dict[str, np.ndarray], network_weights: Mapping[str, float] | None = None
) -> np.ndarray:
    """Confidence-weighted mean of calibrated posteriors.

    Each network's (batch, classes) posteriors are weighted, clip by clip, with the largest of them,
    so that the surer network counts for more, and with the network's own weight, 1 by default.
    Returns float32 (batch, classes), rows adding to 1.
    """
    stacked = np.stack(list(posteriors.values()))
    weights = stacked.max(axis=2, keepdims=True)
    if network_weights is not None:
        own = np.array([network_weights[name] for name in posteriors], stacked.dtype)
        weights = weights * own[:, None, None]
    return (stacked * weights).sum(axis=0) / weights.sum(axis=0)


def widest_audio(audios: Sequence[config.AudioSettings]) -> config.AudioSettings:
    """The highest rate, the longest window and the longest recording of several settings."""
    return dataclasses.replace(
        audios[0],
        sample_rate=max(audio.sample_rate for audio in audios),
        clip_seconds=max(audio.clip_seconds for audio in audios),
        max_seconds=max(audio.max_seconds for audio in audios),
    )


class Predictor:
    """All trained networks of a folder behind one call.

    Networks may differ in sample rate, window and front end. ``audio`` is what clips are prepared
    to: the highest rate and the longest window of any; each network gets them at its own.

    Parameters
    ----------
    settings : where the networks are, and the threshold
    names : use only these networks; all ``*.pt`` files by default

    Raises
    ------
    UserError : no network there, or an unreadable one; "oh" asked for, and none knows it
    """

    def __init__(
        self, settings: config.DecisionSettings | None = None, names: tuple[str, ...] | None = None
    ) -> None:
        settings = settings or config.DecisionSettings()
        if names is None:
            files = settings.network_files()
        else:
            folder = config.program_path(settings.models_dir)
            files = [folder / f"{name}.pt" for name in names]
        self.checkpoints = {path.stem: load_checkpoint(path) for path in files}
        self.names = list(self.checkpoints)
        self.oh = settings.oh
        if self.oh and not (config.DecisionSettings.oh or self.knows_oh):
            raise config.UserError(
                f'decision.oh: no network in {settings.models_dir} was trained to hear "oh"; '
                "make some that are with: python train.py"
            )
        self.audio = widest_audio([item.audio for item in self.checkpoints.values()])
        self.networks = {name: item.network() for name, item in self.checkpoints.items()}
        self.vote_weights = {name: item.vote_weight for name, item in self.checkpoints.items()}
        self.threshold = self._threshold() if settings.threshold is None else settings.threshold

    @property
    def knows_oh(self) -> bool:
        """Whether any of the networks tells "oh" from other words."""
        return any(item.knows_oh for item in self.checkpoints.values())

    def _threshold(self) -> float:
        first = self.checkpoints[self.names[0]]
        return first.threshold if len(self.names) == 1 else first.vote_threshold

    def prepare(self, waveform: np.ndarray) -> np.ndarray:
        """Bring float32 (samples,), at the networks' rate, to their level and length."""
        return prepare_clip(waveform, self.audio)

    @torch.inference_mode()
    def logits(self, clips: np.ndarray) -> dict[str, Tensor]:
        """Each network's logits, float32 (batch, 11), for prepared clips (batch, clip_samples).

        "Oh" is in them already what ``decision.oh`` makes of it.
        """
        logits: dict[str, list[Tensor]] = {name: [] for name in self.names}
        own = {audio: self._at(audio, clips) for audio in self._audios()}
        for first in range(0, len(clips), BATCH):
            features: dict[tuple[config.AudioSettings, config.FeaturesSettings], list[Tensor]] = {}
            for name, (front_end, network) in self.networks.items():
                audio = self.checkpoints[name].audio
                if (audio, front_end.settings) not in features:
                    batch = torch.from_numpy(own[audio][first : first + BATCH])
                    features[audio, front_end.settings] = front_end.tempo_augmented(batch)
                outputs = mean_logits(network, features[audio, front_end.settings])
                logits[name].append(fold_oh(outputs, self.oh))
        return {name: torch.cat(parts) for name, parts in logits.items()}

    def _audios(self) -> set[config.AudioSettings]:
        return {item.audio for item in self.checkpoints.values()}

    def _at(self, audio: config.AudioSettings, clips: np.ndarray) -> np.ndarray:
        """Prepared clips at the rate, level and window of some of the networks."""
        if audio == self.audio:
            return clips
        return np.stack(
            [
                prepare_clip(
                    audio_io.resample(clip, self.audio.sample_rate, audio.sample_rate), audio
                )
                for clip in clips
            ]
        )

    def posteriors(self, clips: np.ndarray, calibrated: bool = True) -> dict[str, np.ndarray]:
        """Each network's posteriors, float32 (batch, 11): ten digits and "no digit".

        `calibrated` applies what was found on validation (:func:`recognition.calibration.fit`).
        """
        posteriors = {}
        for name, logits in self.logits(clips).items():
            item = self.checkpoints[name]
            posteriors[name] = (
                calibration.calibrated(logits.numpy(), item.temperature, item.reject_bias)
                if calibrated
                else calibration.softmax(logits.numpy())
            ).astype(np.float32)
        return posteriors

    def predict(self, waveform: np.ndarray) -> Prediction:
        """Answer one clip, float32 (samples,) at the networks' rate; empty is "no digit"."""
        return self.predict_batch([waveform])[0]

    def predict_batch(self, waveforms: Sequence[np.ndarray]) -> list[Prediction]:
        """Answer clips, float32 (samples,) each, at the networks' sample rate."""
        start = time.perf_counter()
        spoken = [index for index, waveform in enumerate(waveforms) if len(waveform)]
        predictions = [no_speech(self.names)] * len(waveforms)
        if spoken:
            posteriors = self.posteriors(np.stack([self.prepare(waveforms[i]) for i in spoken]))
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
        best = int(voted[: config.REJECT].argmax())
        confidence = float(voted[best])
        accepted = confidence >= self.threshold and confidence >= float(voted[config.REJECT])
        return Prediction(
            best if accepted else None,
            best,
            confidence,
            accepted,
            voted[: config.REJECT],
            float(voted[config.REJECT]),
            {name: model_prediction(item) for name, item in by_model.items()},
            latency_ms,
        )


def model_prediction(posteriors: np.ndarray) -> ModelPrediction:
    """One network's best digit from its posteriors (11,)."""
    best = int(posteriors[: config.REJECT].argmax())
    return ModelPrediction(best, float(posteriors[best]), posteriors[: config.REJECT])


def no_speech(names: list[str]) -> Prediction:
    """The answer to a recording without speech: "no digit", and no guess which."""
    silent = np.zeros(config.REJECT, np.float32)
    return Prediction(
        None,
        0,
        0.0,
        False,
        silent,
        1.0,
        {name: ModelPrediction(0, 0.0, silent) for name in names},
        0.0,
    )
