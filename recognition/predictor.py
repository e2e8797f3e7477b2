"""The trained networks in PyTorch: what trains, evaluates and exports them asks them here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import audio_io
import config
from audio_feature_extraction import mean_logits, prepare_clip
from models.oh import fold_oh
from recognition import calibration
from recognition.checkpoint import Checkpoint, load_checkpoint
from recognition.prediction import VotingPredictor, unknown_oh, widest_audio

BATCH = 256
"""Clips that go through a network together: more gain nothing on a CPU and cost memory."""


def shared_vocabulary(checkpoints: Mapping[str, Checkpoint]) -> config.Vocabulary:
    """What all of some networks tell apart.

    Raises
    ------
    UserError : one of them tells something else apart, and they can't vote
    """
    (first, vocabulary), *others = ((name, one.vocabulary) for name, one in checkpoints.items())
    for name, theirs in others:
        if theirs != vocabulary:
            raise config.UserError(
                f"{first} knows the {described(vocabulary)}, {name} the {described(theirs)}: keep "
                "networks for each in a folder of their own"
            )
    return vocabulary


def described(vocabulary: config.Vocabulary) -> str:
    """A vocabulary in a few words."""
    if vocabulary.is_digits:
        return f"digits in {vocabulary.language!r}"
    return f"words {', '.join(vocabulary.labels[:3])} ..."


class Predictor(VotingPredictor):
    """All trained networks of a folder, computed by PyTorch.

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
        self.vocabulary = shared_vocabulary(self.checkpoints)
        self.oh = settings.oh
        if self.oh and not (config.DecisionSettings.oh or self.knows_oh):
            raise unknown_oh(settings.models_dir)
        self.audio = widest_audio([item.audio for item in self.checkpoints.values()])
        self.networks = {name: item.network() for name, item in self.checkpoints.items()}
        self.vote_weights = {name: item.vote_weight for name, item in self.checkpoints.items()}
        self.threshold = self._threshold() if settings.threshold is None else settings.threshold

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        return {name: item.record for name, item in self.checkpoints.items()}

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
                logits[name].append(fold_oh(outputs, self.oh, self.vocabulary.n_answers))
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
        logits = self.logits(clips)
        if calibrated:
            return self.calibrated(logits)
        return {
            name: calibration.softmax(values.numpy()).astype(np.float32)
            for name, values in logits.items()
        }

    def calibrated(self, logits: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """Each network's calibrated posteriors, float32 (batch, 11), of its logits of that size."""
        return {
            name: calibration.calibrated(
                values.numpy(),
                self.checkpoints[name].temperature,
                self.checkpoints[name].reject_bias,
            ).astype(np.float32)
            for name, values in logits.items()
        }

    def heard(self, waveforms: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return self.posteriors(np.stack([self.prepare(waveform) for waveform in waveforms]))
