"""The batches of a training run: shuffled, augmented, turned into features, prefetched.

Every network of a run trains on the same batches, so a clip is augmented once for all of them.
Every epoch draws its random numbers from the seed and its own number; so a run that was killed goes
on from the last whole epoch and ends at the weights of an unbroken one.
"""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import audio_io
import config
import dataset_loader
from audio_augmentation import Augmenter
from audio_feature_extraction import FrontEnd
from corpora import storage
from models.oh import fold_labels, fold_oh
from training import distributed
from training.settings import TrainingData, TrainSettings

PREFETCH = 4
"""Batches begun before they are asked for: evens out the fast and the slow ones."""
CALIBRATION_SNR_DB = 5.0
"""dB. Least signal-to-noise ratio of the clips that confidence is calibrated on."""
EVALUATION_BATCH = 256
"""Clips that go through a network together in validation."""

Item = TypeVar("Item")


def pick_device(settings: config.TrainingSettings) -> str:
    """cpu or cuda, as the settings ask.

    Raises
    ------
    UserError : CUDA asked for and absent
    """
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise config.UserError(
            "training.device is cuda, but PyTorch finds no CUDA device: use --training.device cpu"
        )
    if settings.device == "auto":
        return "cuda" if available else "cpu"
    return settings.device


def half_precision(device: str) -> torch.dtype | None:
    """The 16-bit type that `device` computes with faster than with 32 bits, or none."""
    if device == "cuda":
        return torch.float16
    capabilities = torch.cpu.get_capabilities()
    has_bfloat16 = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
    return torch.bfloat16 if has_bfloat16 else None


def compute_thread(settings: config.TrainingSettings) -> ThreadPoolExecutor:
    """One thread for a series of computations that runs beside others.

    PyTorch's own threads wait for each other by spinning, and computations that share cores would
    stand still; each therefore uses `training.threads`, one by default. Numbers below 1e-38 count
    as zero: filters leave such tails, a hundred times slower.
    """

    def start() -> None:
        torch.set_num_threads(settings.threads)
        torch.set_flush_denormal(True)  # belongs to the thread

    return ThreadPoolExecutor(1, initializer=start)


def on_all_cores(
    settings: config.TrainingSettings, calls: Sequence[Callable[[], Item]], what: str, unit: str
) -> Generator[Item, None, None]:
    """Results of the calls in their order, a thread a core, under a progress bar."""
    workers = [compute_thread(settings) for _ in range(os.cpu_count() or 1)]
    bar = tqdm(total=len(calls), desc=what, unit=unit, leave=False, disable=None)
    try:
        jobs = deque(
            workers[number % len(workers)].submit(call) for number, call in enumerate(calls)
        )
        while jobs:
            yield jobs.popleft().result()  # and is not kept here
            bar.update()
    finally:
        bar.close()
        for worker in workers:
            worker.shutdown(cancel_futures=True)


def prefetch(
    pool: ThreadPoolExecutor, make: Callable[[int], Item], count: int
) -> Generator[Item, None, None]:
    """make(0), make(1), ... in order, each begun :data:`PREFETCH` items before it is asked for."""
    begun = deque(pool.submit(make, number) for number in range(min(PREFETCH, count)))
    try:
        for number in range(count):
            item = begun.popleft().result()
            if number + PREFETCH < count:
                begun.append(pool.submit(make, number + PREFETCH))
            yield item
    finally:
        for rest in begun:
            rest.cancel()


class TrainLoader:
    """Training and validation clips as features, for all networks of a run with one front end.

    Parameters
    ----------
    features : settings of the front end
    """

    def __init__(
        self,
        train_settings: TrainSettings,
        training_data: TrainingData,
        features: config.FeaturesSettings,
    ) -> None:
        self.train_settings, self.settings, self.training_data = (
            train_settings,
            train_settings.training,
            training_data,
        )
        clips = np.arange(len(training_data.training))
        self.rows = (
            clips if training_data.repeats is None else np.repeat(clips, training_data.repeats)
        )
        self.device = pick_device(self.settings)
        self.front_end = FrontEnd(features, train_settings.audio.sample_rate).to(self.device)
        self.noises = None
        if train_settings.augmentation.noise_dir is not None:
            self.noises = dataset_loader.load_noise(
                train_settings.augmentation.noise_dir, train_settings.audio.sample_rate
            )
        self.augmenter = self._augmenter(train_settings.augmentation)

    def _augmenter(self, settings: config.AugmentationSettings) -> Augmenter:
        return Augmenter(
            settings,
            self.train_settings.audio.sample_rate,
            self.noises,
            self.device,
            self.train_settings.seed,
            self.vocabulary,
        )

    @property
    def vocabulary(self) -> config.Vocabulary:
        """What the networks tell apart."""
        return self.train_settings.vocabulary

    def answers(self, labels: Tensor) -> Tensor:
        """The right answers by labels, int64 (batch,): "oh" is what it is by default."""
        if not self.vocabulary.knows_oh:
            return labels
        return fold_labels(labels, config.DecisionSettings.oh)

    def answer_logits(self, logits: Tensor) -> Tensor:
        """Logits of answers, float (batch, answers), of networks' outputs."""
        return fold_oh(logits, config.DecisionSettings.oh, self.vocabulary.n_answers)

    def prepare(self) -> None:
        """What takes long and is done once, before the first epoch; here nothing."""

    @property
    def epochs(self) -> int:
        """Epochs to train for."""
        return 1 if self.train_settings.dry_run else self.settings.epochs

    @property
    def steps(self) -> int:
        """Optimiser steps in an epoch."""
        batches = len(self.rows) // self.settings.batch_size or 1
        if self.train_settings.dry_run:
            batches = min(batches, 2)
        return max(1, batches // self.settings.accumulation)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.steps * self.settings.accumulation

    @property
    def share(self) -> int:
        """Clips of a batch that this process learns from: all of them, if it trains alone."""
        return distributed.share(min(self.settings.batch_size, len(self.rows)))

    def shuffled(self, random: np.random.Generator) -> np.ndarray:
        """The training rows of an epoch that this process learns from, in random order."""
        return distributed.shard(random.permutation(self.rows), len(self) * self.share)

    def reseed(self, number: int) -> None:
        """Start the augmentation of an epoch."""
        seed = self.train_settings.seed * 100_003 + number
        self.augmenter.reseed(distributed.own_seed(seed))

    def epoch(
        self, number: int, pool: ThreadPoolExecutor
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """The batches of an epoch, made in the thread of `pool`.

        Yields features, float32 (batch, n_features, frames), and target probabilities, float32
        (batch, classes), both on the training device.
        """
        order = self.shuffled(np.random.default_rng((self.train_settings.seed, number)))
        size = self.share
        self.reseed(number)
        return prefetch(
            pool, lambda batch: self.make(order[batch * size % len(order) :][:size]), len(self)
        )

    @torch.no_grad()
    def make(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Augmented features and smoothed targets of the training clips numbered `rows`."""
        clips = self._waveforms(self.training_data.training[rows])
        storage.release(self.training_data.training)  # an epoch reads all of it
        labels = torch.from_numpy(self.training_data.training_labels[rows]).to(self.device)
        clips, labels = self.augmenter.waveforms(clips, labels)
        power = self.augmenter.spectrograms(self.front_end.power(clips))
        features = self.augmenter.spec_augmented(self.front_end.from_power(power))
        return features, self.targets(labels)

    def targets(self, labels: Tensor) -> Tensor:
        """Smoothed target probabilities, float32 (batch, classes), of int64 (batch,) labels."""
        outputs, smooth = self.vocabulary.n_outputs, self.settings.label_smoothing
        return F.one_hot(labels, outputs).float() * (1 - smooth) + smooth / outputs

    def _waveforms(self, windows: np.ndarray) -> Tensor:
        """int16 windows as float32 in [-1, 1] on the device."""
        return torch.from_numpy(audio_io.to_float(windows)).to(self.device)

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's unaugmented validation clips: features, and int64 (batch,) answers."""
        for clips, labels in self._validation_clips(distributed.own_rows()):
            yield self.front_end(clips), self.answers(labels)

    def calibration(self) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Validation clips with the test-time augmentation of recognition, and their labels.

        Clean takes of known speakers are too easy to calibrate confidence in unseen ones, and noise
        as loud as the word too hard: every clip comes once as it is and once through the waveform
        augmentation, seeded, with noise of at least :data:`CALIBRATION_SNR_DB`.
        """
        settings = self.train_settings.augmentation
        low = max(settings.snr_db[0], CALIBRATION_SNR_DB)
        milder = dataclasses.replace(settings, snr_db=(low, max(low, settings.snr_db[1])))
        augmenter = self._augmenter(milder)
        for clips, labels in self._validation_clips():
            yield self.front_end.tempo_augmented(clips), self.answers(labels)
            noisy, labels = augmenter.waveforms(clips, labels)
            yield self.front_end.tempo_augmented(noisy), self.answers(labels)

    def _validation_clips(self, rows: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        windows = self.training_data.validation[rows]
        labels = self.training_data.validation_labels[rows]
        for first in range(0, len(windows), EVALUATION_BATCH):
            part = slice(first, first + EVALUATION_BATCH)
            yield (self._waveforms(windows[part]), torch.from_numpy(labels[part]).to(self.device))


def calibration_logits(
    loader: TrainLoader, networks: Mapping[str, Callable[[list[Tensor]], Tensor]]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What networks answer to the clips that confidence and votes are calibrated on.

    Parameters
    ----------
    networks : name -> a function from features at every tempo to logits (batch, classes)

    Returns
    -------
    logits : name -> float32 (n, 11), "oh" being what it is by default
    targets : int64 (n,) class indices
    """
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in networks}
    targets = []
    for tempo_augmented, labels in loader.calibration():
        targets.append(labels.cpu().numpy())
        for name, network in networks.items():
            logits = loader.answer_logits(network(tempo_augmented))
            outputs[name].append(logits.cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in outputs.items()}, np.concatenate(targets)
