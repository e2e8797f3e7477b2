"""The training of one network: steps, moving average, validation, resumable state."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import config
import utils
from audio_feature_extraction import mean_logits
from models import registry
from models.blocks import Dropout
from models.oh import grown
from recognition.checkpoint import load_checkpoint
from training import distributed
from training.data import TrainLoader, half_precision
from training.distillation import distillation_loss
from training.optimizers import make_optimizers
from training.settings import TrainSettings

HEAD = ("head.weight", "head.bias")
"""The layer whose outputs are the labels."""


class Trainer:
    """Trains one network on the batches that it is given, and keeps its best weights."""

    def __init__(
        self, name: str, train_settings: TrainSettings, loader: TrainLoader, folder: Path
    ) -> None:
        self.name, self.train_settings, self.settings, self.folder = (
            name,
            train_settings,
            train_settings.training,
            folder,
        )
        self.loader = loader
        self.device, self.epochs, self.steps = loader.device, loader.epochs, loader.steps
        self.features, self.n_features = loader.front_end.settings, loader.front_end.n_features
        self.arguments = registry.model_arguments(
            name, train_settings.model, self.features.kind, train_settings.vocabulary.n_outputs
        )
        torch.manual_seed(train_settings.seed)
        self.network = self._new_network()
        if train_settings.init is not None:
            self._start_from(config.program_path(train_settings.init) / f"{name}.pt")
        # A moving average of few steps would still hold the first random weights.
        decay = min(self.settings.average_decay, 1 - 10 / (self.steps * self.epochs + 10))
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True
        )
        self.replica = distributed.replica(self.network, self.settings.sync_batch_norm)
        self.processes = distributed.count()
        self.optimizers = make_optimizers(self.network, self.settings)
        dtype = half_precision(self.device) if self.settings.mixed_precision else None
        self.autocast = torch.autocast(self.device, dtype, enabled=dtype is not None)
        self.scaler = torch.amp.GradScaler(self.device, enabled=dtype is torch.float16)
        self.epoch, self.epochs_without_improvement, self.best_error = 0, 0, math.inf
        self.best: dict[str, Tensor] = copy.deepcopy(self.average.module.state_dict())
        self.history: list[dict[str, float]] = []
        self._begin_epoch()

    def _new_network(self) -> nn.Module:
        network = registry.create_model(self.name, self.n_features, **self.arguments)
        return network.to(self.device, memory_format=torch.channels_last)

    def _start_from(self, path: Path) -> None:
        checkpoint = load_checkpoint(path)
        if checkpoint.features != self.features or checkpoint.audio != self.train_settings.audio:
            raise config.UserError(
                f"{path} was made with other audio or feature settings; leave "
                "--init out or give the same settings"
            )
        own = self.network.state_dict()
        weights = grown(checkpoint.weights, own)
        if checkpoint.vocabulary != self.train_settings.vocabulary:  # the last layer is new
            weights |= {name: own[name] for name in HEAD if weights[name].shape != own[name].shape}
        try:
            self.network.load_state_dict(weights)
        except RuntimeError:
            raise config.UserError(
                f"{path} has another size; give the same --model settings"
            ) from None

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done or validation has stopped improving."""
        return (
            self.epoch >= self.epochs or self.epochs_without_improvement >= self.settings.patience
        )

    @property
    def progress(self) -> str:
        """Loss and accuracy in the epoch so far."""
        return f"{self.loss_sum / max(self.seen, 1):.3f} {self.correct / max(self.seen, 1):.1%}"

    def _begin_epoch(self) -> None:
        self.batch, self.seen, self.correct, self.loss_sum = 0, 0, 0, 0.0
        dropouts = [item for item in self.network.modules() if isinstance(item, Dropout)]
        for number, dropout in enumerate(dropouts):
            seed = self.train_settings.seed * 100_003 + self.epoch
            dropout.reseed(distributed.own_seed(100 * seed + number))

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017)."""
        total = self.steps * self.epochs
        warmup = max(1, round(self.settings.warmup * total))
        if step < warmup:
            return self.settings.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def train_step(self, features: Tensor, targets: Tensor) -> None:
        """Forward and backward pass; every `training.accumulation` batches an optimizer step.

        Parameters
        ----------
        features : float32 (batch, n_features, frames)
        targets : float32 (batch, classes), probabilities; a student's as of
            :meth:`training.distillation.DistillationLoader.batch_targets`

        Raises
        ------
        UserError : the loss became NaN or infinite
        """
        with self.autocast:
            logits = self.replica.train()(features).float()
            loss = self.loss(logits, targets)
        if not torch.isfinite(loss):
            raise config.UserError(
                f"{self.name}: the loss became NaN or infinite in epoch {self.epoch + 1}; lower "
                "--training.learning-rate or --training.gradient-clip"
            )
        self.scaler.scale(loss / self.settings.accumulation).backward()
        self.batch += 1
        if self.batch % self.settings.accumulation == 0:
            self._step(self.epoch * self.steps + self.batch // self.settings.accumulation - 1)
        self.loss_sum += loss.item() * len(features)
        self.correct += self.count_right(logits, targets)
        self.seen += len(features)

    def count_right(self, logits: Tensor, targets: Tensor) -> int:
        """Clips of a batch whose likeliest class is the target's."""
        labels = targets[:, : self.train_settings.vocabulary.n_outputs].argmax(1)
        return int((logits.argmax(1) == labels).sum())

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy; of a student, mixed with what it lacks of its teacher's vote."""
        if self.train_settings.teacher is None:
            return F.cross_entropy(logits, targets)
        return distillation_loss(
            logits, targets, self.settings.teacher_share, self.settings.teacher_temperature
        )

    def _step(self, step: int) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(step)
            self.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.network.zero_grad(set_to_none=True)
        self.average.update_parameters(self.network)

    def end_epoch(self, validation: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Validate, keep the best weights and the state; returns the epoch's line of history.

        Parameters
        ----------
        validation : features and class indices, from :meth:`training.data.TrainLoader.validation`
        """
        distributed.share_buffers(self.average.module)
        validation_loss, validation_accuracy = self.validate(validation)
        loss_sum, correct, seen = distributed.total(self.loss_sum, self.correct, self.seen)
        self.epochs_without_improvement += 1
        error = self.error(validation_loss, validation_accuracy)
        if error < self.best_error:
            self.best_error, self.epochs_without_improvement = error, 0
            self.best = copy.deepcopy(self.average.module.state_dict())
        self.epoch += 1
        self.history.append(
            {
                "epoch": self.epoch,
                "train_loss": loss_sum / seen,
                "train_accuracy": correct / seen,
                "validation_loss": validation_loss,
                "validation_accuracy": validation_accuracy,
                "learning_rate": self.optimizers[0].param_groups[0]["lr"],
            }
        )
        self._begin_epoch()
        if distributed.is_first():
            self.save_state()
        return self.history[-1]

    def error(self, validation_loss: float, validation_accuracy: float) -> float:
        """What is least at the epoch whose weights are kept: the validation loss."""
        return validation_loss

    @torch.inference_mode()
    def validate(self, validation: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
        """Loss and accuracy of the averaged weights, over the clips of all processes."""
        network, loss, correct, total = self.average.module.eval(), 0.0, 0, 0
        for features, labels in validation:
            logits = self.loader.answer_logits(network(features).float())
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            correct += int((logits.argmax(1) == labels).sum())
            total += len(labels)
        loss_sum, right, clips = distributed.total(loss, correct, total)
        return loss_sum / clips, right / clips

    @torch.inference_mode()
    def best_logits(self, tempo_augmented: list[Tensor]) -> Tensor:
        """The best weights' logits, float32 (batch, classes), averaged over the tempos."""
        network = self._new_network()
        network.load_state_dict(self.best)
        return mean_logits(network.eval(), tempo_augmented).cpu()

    @property
    def state_path(self) -> Path:
        """The resumable state."""
        return self.folder / f"{self.name}.state.pt"

    def save_state(self) -> None:
        """Keep all that the next epoch depends on."""
        utils.save_tensors(
            self.state_path,
            {
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimizers": [item.state_dict() for item in self.optimizers],
                "best": self.best,
                "scaler": self.scaler.state_dict(),
                "best_error": self.best_error,
                "epoch": self.epoch,
                "epochs_without_improvement": self.epochs_without_improvement,
                "history": self.history,
            },
        )

    def load_state(self) -> None:
        """Go on where :meth:`save_state` left off, if it did.

        Raises
        ------
        UserError : the file is damaged
        """
        remedy = f"remove it to train {self.name} from the start, or leave --resume out"
        state = distributed.from_first(lambda: self._stored_state(remedy))
        if state is None:
            return
        try:
            self._restore(state)
            self._begin_epoch()
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            raise config.UserError(
                f"{self.state_path}: not the state of this run; {remedy}"
            ) from None

    def _stored_state(self, remedy: str) -> Any:
        """What :meth:`save_state` wrote; None where it did not."""
        if not self.state_path.exists():
            return None
        return utils.load_tensors(self.state_path, remedy, self.device)

    def _restore(self, state: dict[str, Any]) -> None:
        for part in ("network", "average", "scaler"):
            getattr(self, part).load_state_dict(state[part])
        for optimizer, its_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)
        self._new_network().load_state_dict(state["best"])
        for name, earlier in (("epochs_without_improvement", "stale"), ("best_error", "best_loss")):
            if earlier in state:  # as earlier versions called it
                state[name] = state[earlier]
        for value in ("best", "best_error", "epoch", "epochs_without_improvement", "history"):
            setattr(self, value, state[value])
        if [line["epoch"] for line in self.history] != list(range(1, self.epoch + 1)):
            raise ValueError
