"""The one class that loads trained networks and answers: posteriors, the vote, "no digit".

Checkpoints live here too: one file holds a network's weights and all that is needed to use it.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import audio_io
import config
import models
import utils
from audio_feature_extraction import FrontEnd, fit_duration, mean_logits, normalize_level
from recognition import calibration

FORMAT = 2
"""Layout of the checkpoint dictionary; raised when it changes."""
BATCH = 256
"""Clips that go through a network together: more gain nothing on a CPU and cost memory."""


@dataclass
class Checkpoint:
    """A trained network with everything that its use depends on.

    `temperature` and `reject_bias` calibrate its posteriors, `threshold` is the confidence below
    which it alone says "no digit", `vote_threshold` the same for the vote of the networks trained
    with it.
    """

    name: str
    arguments: dict[str, Any]
    weights: dict[str, Tensor]
    audio: config.AudioSettings
    features: config.FeaturesSettings
    labels: tuple[str, ...] = config.DIGITS
    temperature: float = 1.0
    reject_bias: float = 0.0
    threshold: float = 0.0
    vote_threshold: float = 0.0
    record: dict[str, Any] = field(default_factory=dict)

    def network(self) -> tuple[FrontEnd, nn.Module]:
        """The front end and the network, in evaluation mode, on the CPU."""
        front_end = FrontEnd(self.features, self.audio.sample_rate)
        network = models.create_model(self.name, front_end.n_features, **self.arguments)
        network.load_state_dict(self.weights)
        return front_end.eval(), network.eval()


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically, as plain values and tensors that ``weights_only`` accepts."""
    content = {item.name: getattr(checkpoint, item.name) for item in dataclasses.fields(checkpoint)}
    content |= {"format": FORMAT, "labels": list(checkpoint.labels),
                "audio": dataclasses.asdict(checkpoint.audio),
                "features": dataclasses.asdict(checkpoint.features)}
    with utils.atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    UserError : missing, truncated, not one of ours, or made for settings this version lacks
    """
    path = Path(path)
    if not path.is_file():
        raise config.UserError(f"{path}: no such model file; train one with: python train.py")
    try:
        stream = io.BytesIO(path.read_bytes())
        with zipfile.ZipFile(stream) as archive:  # torch.load itself does not check the sums
            if archive.testzip() is not None:
                raise zipfile.BadZipFile
        stream.seek(0)
        content = torch.load(stream, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError,
            zipfile.BadZipFile):
        raise config.UserError(f"{path}: truncated, altered or not a model file; make it again "
                               "with: python train.py") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise config.UserError(f"{path}: not a checkpoint of this version; make it again with: "
                               "python train.py")
    try:
        content.pop("format")
        content |= {"labels": tuple(content["labels"]),
                    "audio": config.AudioSettings(**content["audio"]),
                    "features": config.FeaturesSettings(**content["features"])}
        checkpoint = Checkpoint(**content)
        checkpoint.network()
    except (TypeError, KeyError, RuntimeError, AttributeError):
        raise config.UserError(f"{path}: its weights or settings do not fit the networks of this "
                               "version; make it again with: python train.py") from None
    return checkpoint


@dataclass(frozen=True)
class Opinion:
    """What one network says: its best digit, the confidence in it, and float32 (10,) posteriors."""

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
    per_model: dict[str, Opinion]
    latency_ms: float


def vote(posteriors: dict[str, np.ndarray]) -> np.ndarray:
    """Confidence-weighted mean of calibrated posteriors.

    Each network's (batch, classes) posteriors are weighted, clip by clip, with the largest of them,
    so that the surer network counts for more. Returns float32 (batch, classes), rows adding to 1.
    """
    stacked = np.stack(list(posteriors.values()))
    weights = stacked.max(axis=2, keepdims=True)
    return (stacked * weights).sum(axis=0) / weights.sum(axis=0)


class Predictor:
    """All trained networks of a folder behind one call.

    Parameters
    ----------
    settings : where the networks are, and the threshold
    names : use only these networks; all ``*.pt`` files by default

    Raises
    ------
    UserError : no network there, an unreadable one, or networks that expect different audio
    """

    def __init__(self, settings: config.DecisionSettings | None = None,
                 names: tuple[str, ...] | None = None) -> None:
        settings = settings or config.DecisionSettings()
        if names is None:
            names = tuple(path.stem for path in sorted(settings.models_dir.glob("*.pt"))
                          if not path.name.startswith("."))
        if not names:
            raise config.UserError(f"{settings.models_dir}: no trained networks there; make them "
                                   "with: python train.py")
        self.checkpoints = {name: load_checkpoint(settings.models_dir / f"{name}.pt")
                            for name in names}
        self.names = list(names)
        self.audio = self.checkpoints[self.names[0]].audio
        for name, checkpoint in self.checkpoints.items():
            if checkpoint.audio != self.audio:
                raise config.UserError(f"{settings.models_dir}: {self.names[0]} and {name} were "
                                       "trained with different audio settings; train them together")
        self.networks = {name: item.network() for name, item in self.checkpoints.items()}
        self.threshold = self._threshold() if settings.threshold is None else settings.threshold

    def _threshold(self) -> float:
        first = self.checkpoints[self.names[0]]
        return first.threshold if len(self.names) == 1 else first.vote_threshold

    def prepare(self, waveform: np.ndarray) -> np.ndarray:
        """Bring float32 (samples,), at the networks' rate, to their level and length."""
        level = normalize_level(waveform, self.audio.level_dbfs)
        return fit_duration(level, self.audio.clip_samples)

    @torch.inference_mode()
    def logits(self, clips: np.ndarray) -> dict[str, Tensor]:
        """Each network's logits, float32 (batch, 11), for prepared clips (batch, clip_samples)."""
        answers: dict[str, list[Tensor]] = {name: [] for name in self.names}
        for batch in torch.from_numpy(clips).split(BATCH):
            views: dict[config.FeaturesSettings, list[Tensor]] = {}
            for name, (front_end, network) in self.networks.items():
                if front_end.settings not in views:
                    views[front_end.settings] = front_end.at_tempos(batch)
                answers[name].append(mean_logits(network, views[front_end.settings]))
        return {name: torch.cat(parts) for name, parts in answers.items()}

    def posteriors(self, clips: np.ndarray, calibrated: bool = True) -> dict[str, np.ndarray]:
        """Each network's posteriors, float32 (batch, 11): ten digits and "no digit".

        `calibrated` applies what was found on validation (:func:`recognition.calibration.fit`).
        """
        posteriors = {}
        for name, logits in self.logits(clips).items():
            item = self.checkpoints[name]
            posteriors[name] = (calibration.calibrated(
                logits.numpy(), item.temperature, item.reject_bias) if calibrated
                else calibration.softmax(logits.numpy())).astype(np.float32)
        return posteriors

    def predict(self, waveform: np.ndarray, sample_rate: int | None = None) -> Prediction:
        """Answer one recording, float32 (samples,); an empty one is "no digit"."""
        if sample_rate not in (None, self.audio.sample_rate):
            waveform = audio_io.resample(waveform, sample_rate, self.audio.sample_rate)
        return self.predict_batch([waveform])[0]

    def predict_batch(self, waveforms: list[np.ndarray]) -> list[Prediction]:
        """Answer recordings, float32 (samples,) each, at the networks' sample rate."""
        start = time.perf_counter()
        heard = [index for index, waveform in enumerate(waveforms) if len(waveform)]
        answers = [nothing_heard(self.names)] * len(waveforms)
        if heard:
            posteriors = self.posteriors(np.stack([self.prepare(waveforms[i]) for i in heard]))
            votes = vote(posteriors)
            milliseconds = 1000 * (time.perf_counter() - start) / len(waveforms)
            for row, index in enumerate(heard):
                opinions = {name: values[row] for name, values in posteriors.items()}
                answers[index] = self.decide(votes[row], opinions, milliseconds)
        return answers

    def decide(self, voted: np.ndarray, opinions: dict[str, np.ndarray],
               latency_ms: float) -> Prediction:
        """Turn posteriors (11,) into an answer: a digit if it wins and is sure enough."""
        best = int(voted[:config.REJECT].argmax())
        confidence = float(voted[best])
        accepted = confidence >= self.threshold and confidence >= float(voted[config.REJECT])
        return Prediction(best if accepted else None, best, confidence, accepted,
                          voted[:config.REJECT], float(voted[config.REJECT]),
                          {name: opinion(values) for name, values in opinions.items()}, latency_ms)


def opinion(posteriors: np.ndarray) -> Opinion:
    """One network's best digit from its posteriors (11,)."""
    best = int(posteriors[:config.REJECT].argmax())
    return Opinion(best, float(posteriors[best]), posteriors[:config.REJECT])


def nothing_heard(names: list[str]) -> Prediction:
    """The answer to a recording without speech: "no digit", and no opinion about which."""
    silent = np.zeros(config.REJECT, np.float32)
    return Prediction(None, 0, 0.0, False, silent, 1.0,
                      {name: Opinion(0, 0.0, silent) for name in names}, 0.0)
