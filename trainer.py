"""The training loop of one network.

Every epoch draws its random numbers from the seed and its own number, and its end is saved; so a
run that was killed goes on from the last whole epoch and ends at the weights of an unbroken one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

import audio_augmentation
import config
import dataset_loader
import files
import models
from audio_feature_extraction import FrontEnd, mean_logits
from predictor import load_checkpoint
from recipe import Material, Recipe


def to_float(windows: np.ndarray, device: str) -> Tensor:
    """int16 windows as float32 in [-1, 1] on the device."""
    return torch.from_numpy(windows.astype(np.float32) / 32767).to(device)


def pick_device(settings: config.TrainingSettings) -> str:
    """cpu or cuda, as the settings ask.

    Raises
    ------
    UserError : CUDA asked for and absent
    """
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise config.UserError("training.device is cuda, but PyTorch finds no CUDA device: "
                               "use --training.device cpu")
    if settings.device == "auto":
        return "cuda" if available else "cpu"
    return settings.device


class Trainer:
    """Trains one network, epoch by epoch."""

    def __init__(self, name: str, recipe: Recipe, material: Material, folder: Path) -> None:
        self.name, self.recipe, self.settings, self.folder = name, recipe, recipe.training, folder
        self.device = pick_device(self.settings)
        self.training, self.digits = material.training, material.training_digits
        self.validation, self.validation_digits = material.validation, material.validation_digits
        torch.manual_seed(recipe.seed)
        self.front_end = FrontEnd(recipe.features, recipe.audio.sample_rate).to(self.device)
        self.arguments = models.model_arguments(name, recipe.model)
        self.network = models.create_model(name, self.front_end.n_features, **self.arguments)
        self._start_from(recipe.init)
        self.network.to(self.device, memory_format=torch.channels_last)
        # A moving average of few steps would still hold the first random weights.
        decay = min(self.settings.average_decay, 1 - 10 / (self.steps_per_epoch * self.epochs + 10))
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(decay),
                                     use_buffers=True)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay)
        half = self.settings.mixed_precision and self.device == "cuda"
        self.half = torch.autocast(self.device, torch.float16, enabled=half)
        self.scaler = torch.amp.GradScaler(self.device, enabled=half)
        noises = None
        if recipe.augmentation.noise_dir is not None:
            noises = dataset_loader.load_noise(recipe.augmentation.noise_dir,
                                               recipe.audio.sample_rate)
        self.augmenter = audio_augmentation.Augmenter(
            recipe.augmentation, recipe.audio.sample_rate, noises, self.device, recipe.seed)
        self.epoch, self.stale, self.best_loss = 0, 0, math.inf
        self.best: dict[str, Tensor] = copy.deepcopy(self.average.module.state_dict())
        self.history: list[dict[str, float]] = []

    def _start_from(self, folder: Path | None) -> None:
        if folder is None:
            return
        checkpoint = load_checkpoint(folder / f"{self.name}.pt")
        if checkpoint.features != self.recipe.features or checkpoint.audio != self.recipe.audio:
            raise config.UserError(f"{folder / self.name}.pt was made with other audio or feature "
                                   "settings; leave --init out or give the same settings")
        try:
            self.network.load_state_dict(checkpoint.weights)
        except RuntimeError:
            raise config.UserError(f"{folder / self.name}.pt has another width; give the same "
                                   "--model settings") from None

    @property
    def epochs(self) -> int:
        """Epochs to train for."""
        return 1 if self.recipe.dry_run else self.settings.epochs

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        batches = len(self.training) // self.settings.batch_size or 1
        if self.recipe.dry_run:
            batches = min(batches, 2)
        return max(1, batches // self.settings.accumulation)

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done or validation has stopped improving."""
        return self.epoch >= self.epochs or self.stale >= self.settings.patience

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017)."""
        total = self.steps_per_epoch * self.epochs
        warmup = max(1, round(self.settings.warmup * total))
        if step < warmup:
            return self.settings.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The epoch's clips, shuffled, as float32 (batch, samples) and int64 (batch,)."""
        random = np.random.default_rng((self.recipe.seed, self.epoch))
        order = random.permutation(len(self.training))
        size = min(self.settings.batch_size, len(order))
        for batch in range(self.steps_per_epoch * self.settings.accumulation):
            rows = order[batch * size % len(order):][:size]
            yield (to_float(self.training[rows], self.device),
                   torch.from_numpy(self.digits[rows]).to(self.device))

    def features_and_targets(self, clips: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented features and smoothed target probabilities of a batch."""
        with torch.no_grad():
            clips, digits = self.augmenter.waveforms(clips, digits)
            power = self.augmenter.spectrograms(self.front_end.power(clips))
            features = self.augmenter.masked(self.front_end.from_power(power))
            targets = F.one_hot(digits, config.N_CLASSES).float()
            smooth = self.settings.label_smoothing
            targets = targets * (1 - smooth) + smooth / config.N_CLASSES
            return self.augmenter.mixed(features, targets)

    def run_epoch(self) -> dict[str, float]:
        """Train one epoch, validate, keep the best weights; returns the epoch's line of history."""
        seed = self.recipe.seed * 100_003 + self.epoch
        torch.manual_seed(seed)
        self.augmenter.reseed(seed)
        loss, accuracy = self._learn()
        validation_loss, validation_accuracy = self.validate()
        self.stale += 1
        if validation_loss < self.best_loss:
            self.best_loss, self.stale = validation_loss, 0
            self.best = copy.deepcopy(self.average.module.state_dict())
        self.epoch += 1
        self.history.append({
            "epoch": self.epoch, "train_loss": loss, "train_accuracy": accuracy,
            "validation_loss": validation_loss, "validation_accuracy": validation_accuracy,
            "learning_rate": self.optimizer.param_groups[0]["lr"]})
        return self.history[-1]

    def _learn(self) -> tuple[float, float]:
        self.network.train()
        losses, right, seen = 0.0, 0, 0
        every = self.settings.accumulation
        bar = tqdm(self.batches(), total=self.steps_per_epoch * every, leave=False, unit="batch",
                   disable=None,
                   desc=f"{self.name} epoch {self.epoch + 1}/{self.epochs}")
        for number, (clips, digits) in enumerate(bar):
            if number % every == 0:
                step = self.epoch * self.steps_per_epoch + number // every
                for group in self.optimizer.param_groups:
                    group["lr"] = self.learning_rate(step)
            features, targets = self.features_and_targets(clips, digits)
            with self.half:
                logits = self.network(features)
                loss = F.cross_entropy(logits, targets)
            self._step(loss / every, last=(number + 1) % every == 0)
            losses += loss.item() * len(clips)
            right += (logits.argmax(1) == targets.argmax(1)).sum().item()
            seen += len(clips)
            bar.set_postfix(loss=f"{losses / seen:.3f}", accuracy=f"{right / seen:.3f}")
        return losses / seen, right / seen

    def _step(self, loss: Tensor, last: bool) -> None:
        if not torch.isfinite(loss):
            raise config.UserError(
                f"{self.name}: the loss became NaN or infinite in epoch {self.epoch + 1}; lower "
                "--training.learning-rate or --training.gradient-clip")
        self.scaler.scale(loss).backward()
        if last:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            self.average.update_parameters(self.network)

    @torch.inference_mode()
    def logits(self, clips: Tensor, network: nn.Module) -> Tensor:
        """Logits, float32 (batch, classes), of unaugmented clips."""
        return torch.cat([network(self.front_end(part)).float() for part in clips.split(512)])

    def validate(self) -> tuple[float, float]:
        """Loss and accuracy of the averaged weights on the validation clips."""
        self.average.eval()
        clips = to_float(self.validation, self.device)
        logits = self.logits(clips, self.average.module)
        digits = torch.from_numpy(self.validation_digits).to(self.device)
        return (F.cross_entropy(logits, digits).item(),
                (logits.argmax(1) == digits).float().mean().item())

    def calibration_logits(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits of the best weights on validation clips, and their class indices.

        Clean takes of known speakers are too easy to tell how sure to be of a stranger, and noisy
        ones alone too hard: every clip is heard once as it is and once through the waveform
        augmentation, seeded.
        """
        network = models.create_model(self.name, self.front_end.n_features, **self.arguments)
        network.load_state_dict(self.best)
        network.to(self.device).eval()
        self.augmenter.reseed(self.recipe.seed)
        outputs, targets = [], []
        for first in range(0, len(self.validation), 256):
            clips = to_float(self.validation[first:first + 256], self.device)
            digits = torch.from_numpy(self.validation_digits[first:first + 256]).to(self.device)
            for heard, right in ((clips, digits), self.augmenter.waveforms(clips, digits)):
                with torch.inference_mode():
                    logits = mean_logits(network, self.front_end.at_tempos(heard))
                outputs.append(logits.cpu().numpy())
                targets.append(right.cpu().numpy())
        return np.concatenate(outputs), np.concatenate(targets)

    @property
    def state_path(self) -> Path:
        """The resumable state."""
        return self.folder / f"{self.name}.state.pt"

    def save_state(self) -> None:
        """Keep all that the next epoch depends on."""
        with files.atomic_path(self.state_path) as temporary:
            torch.save({"network": self.network.state_dict(), "average": self.average.state_dict(),
                        "optimizer": self.optimizer.state_dict(), "best": self.best,
                        "scaler": self.scaler.state_dict(), "best_loss": self.best_loss,
                        "epoch": self.epoch, "stale": self.stale, "history": self.history},
                       temporary)

    def load_state(self) -> None:
        """Go on where :meth:`save_state` left off, if it did."""
        if not self.state_path.exists():
            return
        state = torch.load(self.state_path, map_location=self.device, weights_only=True)
        for part in ("network", "average", "optimizer", "scaler"):
            getattr(self, part).load_state_dict(state[part])
        for value in ("best", "best_loss", "epoch", "stale", "history"):
            setattr(self, value, state[value])
