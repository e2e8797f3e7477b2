"""A student learns a teacher's vote: soft targets on every augmented clip, computed once.

Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network". The teacher is any
folder of trained networks. It hears each view of a clip exactly as the student does, warped alike
before either's front end, but without SpecAugment's masks; what it answers is its whole vote,
calibrated, over its tempos.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import config
import speech_encoder
import utils
from audio_augmentation import Augmenter
from audio_feature_extraction import mean_logits
from models.oh import fold_oh
from recognition.prediction import vote
from recognition.predictor import Predictor
from training.cached_views import CachedLoader
from training.data import half_precision
from training.settings import TrainingData, TrainSettings

SMALLEST = 1e-6
"""Least posterior that a student is asked for: float16, in which votes are kept, ends near it."""


class Teacher:
    """The networks whose vote a student learns, on the training device.

    Parameters
    ----------
    path : their folder, or the file of one network
    audio : what the student's clips are brought to; the networks must take the same

    Raises
    ------
    UserError : no network there, an unreadable one, one for other words or other clips
    """

    def __init__(self, path: Path, audio: config.AudioSettings, device: str = "cpu") -> None:
        settings = config.DecisionSettings(models_dir=path)
        try:
            self.predictor = Predictor(settings)
            files = settings.network_files()
        except config.UserError as error:
            raise config.UserError(f"--teacher: {error}") from None
        if self.predictor.vocabulary != config.ENGLISH_DIGITS:
            raise config.UserError(f"--teacher: {path} tells other words than English digits")
        for name, item in self.predictor.checkpoints.items():
            if clip_form(item.audio) != clip_form(audio):
                raise config.UserError(
                    f"--teacher: {name} in {path} takes {clip_form(item.audio)}, the student "
                    f"{clip_form(audio)}; give the same --audio settings"
                )
        for front_end, network in self.predictor.networks.values():
            front_end.to(device).encoder_precision = half_precision(device)
            network.to(device)
        self.digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        kinds = {item.features.kind for item in self.predictor.checkpoints.values()}
        if "encoder" in kinds:
            encoder = config.program_path(config.ENCODER_FILE)
            self.digests[encoder.name] = speech_encoder.digest(encoder)

    @property
    def digest(self) -> str:
        """Changes with any of the files that the vote depends on."""
        return hashlib.sha256(json.dumps(self.digests, sort_keys=True).encode()).hexdigest()

    @torch.no_grad()
    def votes(self, clips: Tensor, augmenter: Augmenter) -> Tensor:
        """The vote on clips whose spectrograms are still to be augmented.

        Parameters
        ----------
        clips : float32 (batch, samples)
        augmenter : draws the same random numbers for each front end, so that all networks hear the
            same speaker

        Returns
        -------
        float32 (batch, 11), rows adding to 1; "oh" counts as non-digit
        """
        start, logits = augmenter.random.get_state(), {}
        features: dict[config.FeaturesSettings, list[Tensor]] = {}
        for name, (front_end, network) in self.predictor.networks.items():
            if front_end.settings not in features:
                augmenter.random.set_state(start)
                power = augmenter.spectrograms(front_end.power(clips))
                features[front_end.settings] = front_end.at_tempos(power)
            outputs = mean_logits(network, features[front_end.settings])
            logits[name] = fold_oh(outputs, as_zero=False).cpu()
        posteriors = self.predictor.calibrated(logits)
        return torch.from_numpy(vote(posteriors, self.predictor.vote_weights))

    def require_same(self, folder: Path) -> None:
        """Note in a run's folder who teaches, or refuse to go on there with another teacher.

        Raises
        ------
        UserError : the run was begun with other files
        """
        path = folder / "teacher.json"
        if not path.exists():
            utils.write_json(path, self.digests)
        elif json.loads(path.read_text(encoding="utf-8")) != self.digests:
            raise config.UserError(
                f"--teacher: its files are others than those that {folder} was begun with; leave "
                "--resume out"
            )


def clip_form(audio: config.AudioSettings) -> str:
    """What a clip is like, in words; equal where the same clips serve two networks."""
    return f"{audio.clip_seconds:g} s at {audio.sample_rate} Hz and {audio.level_dbfs:g} dBFS"


class DistillationLoader(CachedLoader):
    """Cached views of the clips with the teacher's vote on each."""

    def __init__(
        self,
        train_settings: TrainSettings,
        training_data: TrainingData,
        features: config.FeaturesSettings,
        teacher: Teacher,
    ) -> None:
        super().__init__(train_settings, training_data, features)
        self.teacher = teacher

    def files(self, path: Path) -> tuple[Path, ...]:
        """Features, labels and votes; the votes' name tells whose they are."""
        votes = path.with_name(f"{path.stem}.votes-{self.teacher.digest[:16]}.npy")
        return *super().files(path), votes

    def of_part(self, clips: Tensor, augmenter: Augmenter) -> tuple[Tensor, ...]:
        """Features and votes."""
        start = augmenter.random.get_state()
        (frames,) = super().of_part(clips, augmenter)
        augmenter.random.set_state(start)
        return frames, self.teacher.votes(clips, augmenter)

    def stored_targets(self, number: int) -> tuple[np.ndarray, ...]:
        """Labels, votes, and which labels are the recording's own: others were made up on the way.

        Halves of two words and a word backwards are called non-digits, which they may not be.
        """
        labels, votes = super().stored_targets(number)
        return labels, votes, labels == self.training_data.training_labels[self.chunks[number]]

    def batch_targets(self, *stored: Tensor) -> Tensor:
        """What the label says, then what the teacher says, float32 (batch, 12 + 11).

        Where the label is unknown, the teacher's answer stands for it.
        """
        labels, votes, known = stored
        votes = votes.float().clamp(min=SMALLEST)
        votes = votes / votes.sum(dim=1, keepdim=True)
        instead = F.pad(votes, (0, config.N_CLASSES - config.N_ANSWERS))
        hard = torch.where(known.unsqueeze(1), self.targets(labels), instead)
        return torch.cat([hard, votes], dim=1)


def distillation_loss(logits: Tensor, targets: Tensor, share: float, temperature: float) -> Tensor:
    """Kullback-Leibler divergence from the teacher's vote, mixed with the labels' cross-entropy.

    The vote has no "oh" of its own: it is compared with the student's answers after "oh" was
    counted as non-digit, and the labels alone teach the two apart.

    Parameters
    ----------
    logits : float32 (batch, 12)
    targets : from :meth:`DistillationLoader.batch_targets`
    share : of the teacher in the loss
    temperature : what logits, and the logarithm of the vote, are divided by; the divergence is
        multiplied by its square, so that its gradient keeps its size
    """
    hard, votes = targets.split([config.N_CLASSES, config.N_ANSWERS], dim=1)
    student = F.log_softmax(fold_oh(logits, as_zero=False) / temperature, dim=1)
    teacher = F.softmax(votes.log() / temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="batchmean") * temperature**2
    return share * divergence + (1 - share) * F.cross_entropy(logits, hard)
