"""Training of the network that hears whole strings: python train.py --models digit_ctc.

The loss is connectionist temporal classification (Graves et al. 2006): what is said is known of a
line, not when.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import config
import utils
from recognition.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from recognition.ctc_decoding import align, best_path
from training.data import compute_thread
from training.provenance import provenance
from training.run_folder import open_run
from training.run_log import RunLog
from training.saving import check_writable
from training.settings import TrainSettings
from training.string_loader import PAD, StringLoader
from training.string_material import load_material
from training.trainer import Trainer

NAME = "digit_ctc"
SYNTHETIC = config.SyntheticSettings.only(espeak_clips=1500, other_words=1500)
"""Synthetic speakers' digits and words: fewer than for single digits, for strings are added."""
TEMPERATURES = tuple(round(1.05**step, 3) for step in range(-10, 31))
"""Temperatures that are tried: 0.6 to 4.3."""


def ctc_loss(logits: Tensor, tokens: Tensor, reduction: str = "mean") -> Tensor:
    """Connectionist temporal classification: the mean over lines, each by its number of words."""
    present = tokens != PAD
    frames = torch.full((len(logits),), logits.shape[1], dtype=torch.int64)
    return F.ctc_loss(
        logits.log_softmax(2).transpose(0, 1),
        tokens[present],
        frames,
        present.sum(1),
        blank=config.BLANK,
        reduction=reduction,
        zero_infinity=True,
    )


def digits_of(tokens: Iterable[int]) -> list[int]:
    """The digits among tokens; "oh" is zero, and other words are left out."""
    folded = (0 if token == config.OH else int(token) for token in tokens)
    return [token for token in folded if 0 <= token < config.REJECT]


def heard(logits: Tensor) -> list[list[int]]:
    """The digits along each line's best path."""
    posteriors = logits.detach().float().softmax(2).cpu().numpy()
    return [digits_of(token.label for token in best_path(line)) for line in posteriors]


class StringTrainer(Trainer):
    """Trains the network on lines; its accuracy is the share of lines that are wholly right."""

    loader: StringLoader

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return ctc_loss(logits, targets)

    def count_right(self, logits: Tensor, targets: Tensor) -> int:
        wanted = [digits_of(row) for row in targets.tolist()]
        return sum(one == other for one, other in zip(heard(logits), wanted, strict=True))

    def error(self, validation_loss: float, validation_accuracy: float) -> float:
        """The share of lines with an error: the loss rises while ever more lines come out right."""
        return 1 - validation_accuracy

    @torch.inference_mode()
    def validate(self, validation: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
        network, loss, right, total = self.average.module.eval(), 0.0, 0, 0
        for features, tokens in validation:
            logits = network(features).float()
            loss += float(ctc_loss(logits, tokens)) * len(tokens)
            right += self.count_right(logits, tokens)
            total += len(tokens)
        return loss / total, right / total


def best_network(trainer: StringTrainer) -> nn.Module:
    """The network with the weights of the best epoch."""
    network = trainer._new_network()
    network.load_state_dict(trainer.best)
    return network.eval()


@torch.inference_mode()
def fitted_temperature(trainer: StringTrainer) -> float:
    """What the logits are divided by: the validation lines' loss is least (Guo et al. 2017)."""
    network = best_network(trainer)
    heard = [(network(features).float(), said) for features, said in trainer.loader.validation()]

    def loss(temperature: float) -> float:
        return sum(float(ctc_loss(one / temperature, said)) * len(said) for one, said in heard)

    return min(TEMPERATURES, key=loss)


@torch.inference_mode()
def scores_by_kind(trainer: StringTrainer) -> dict[str, dict[str, float]]:
    """Digit errors and lines wholly right of the best weights, by kind of validation line."""
    network = best_network(trainer)
    found: dict[str, list[tuple[int, int, bool]]] = {}
    for lines, how in zip(trainer.loader.validation_lines, ("", " in noise"), strict=True):
        for frames, tokens, kinds in zip(lines.groups, lines.tokens, lines.kinds, strict=True):
            logits = network(torch.from_numpy(frames.astype(np.float32)).transpose(1, 2))
            for row, line, kind in zip(tokens, heard(logits), kinds, strict=True):
                wanted = digits_of(row)
                errors = sum(align(wanted, line))
                found.setdefault(kind + how, []).append((errors, len(wanted), not errors))
    return {
        kind: {
            "lines": len(rows),
            "digits": sum(row[1] for row in rows),
            "wrong": sum(row[0] for row in rows),
            "whole": round(float(np.mean([row[2] for row in rows])), 4),
        }
        for kind, rows in sorted(found.items())
    }


def train_strings(train_settings: TrainSettings) -> dict[str, Any]:
    """Train the network that hears whole strings, and save it.

    Returns
    -------
    summary : what ``summary.json`` in the run folder holds

    Raises
    ------
    UserError : no data, a ``save_dir`` that can't be written, a loss that became NaN
    """
    started = time.perf_counter()
    train_settings = dataclasses.replace(train_settings, synthetic=SYNTHETIC)
    if not train_settings.dry_run:
        check_writable(train_settings.save_dir)
    training, validation, corpora = load_material(train_settings)
    folder = open_run(train_settings)
    loader = StringLoader(train_settings, training, validation, train_settings.front_end(NAME))
    print(
        f"run {folder}: {loader.training_lines.count} training lines, "
        f"{loader.validation_lines[0].count} validation lines of {corpora}; "
        f"{time.perf_counter() - started:.0f} s to make",
        flush=True,
    )
    trainer = StringTrainer(NAME, train_settings, loader, folder)
    run_epochs(trainer, folder)
    by_kind = scores_by_kind(trainer)
    print(scores_text(by_kind))
    checkpoint = packed(trainer, corpora, by_kind)
    path, kept_apart = saved(train_settings, checkpoint, folder)
    summary = {
        "folder": str(folder),
        "file": str(path),
        "kept_apart": kept_apart,
        "corpora": corpora,
        "seconds": round(time.perf_counter() - started, 1),
        "validation": checkpoint.record["validation"],
    }
    with utils.by_product(folder / "summary.json"):
        utils.write_json(folder / "summary.json", summary | {"record": utils.run_record()})
    return summary


def run_epochs(trainer: StringTrainer, folder: Path) -> None:
    """Train to the end, each epoch resumable."""
    trainer.load_state()
    log = RunLog(folder, trainer.epochs, {NAME: trainer.epoch})
    pool, own = compute_thread(trainer.settings), compute_thread(trainer.settings)
    try:
        while not trainer.finished:
            begun = time.perf_counter()
            batches = trainer.loader.epoch(trainer.epoch, pool)
            for features, tokens in batches:
                own.submit(trainer.train_step, features, tokens).result()
            line = own.submit(trainer.end_epoch, trainer.loader.validation()).result()
            log.record({NAME: line}, time.perf_counter() - begun)
            log.write_history({NAME: trainer.history}, trainer.finished)
    finally:
        log.close()
        for one in (pool, own):
            one.shutdown(cancel_futures=True)


def scores_text(by_kind: dict[str, dict[str, float]]) -> str:
    """A line a kind of validation lines."""
    return "\n".join(
        f"  {kind}: {row['wrong']} of {row['digits']} digits wrong, {row['whole']:.1%} of "
        f"{row['lines']} lines right"
        for kind, row in by_kind.items()
    )


def packed(
    trainer: StringTrainer, corpora: str, by_kind: dict[str, dict[str, float]]
) -> Checkpoint:
    """The checkpoint, with what made it."""
    record = provenance(trainer, corpora)
    record["validation"]["by_kind"] = by_kind
    return Checkpoint(
        name=NAME,
        arguments=trainer.arguments,
        weights=trainer.best,
        temperature=fitted_temperature(trainer),
        audio=trainer.train_settings.audio,
        features=trainer.features,
        record=record,
    )


def saved(train_settings: TrainSettings, checkpoint: Checkpoint, folder: Path) -> tuple[Path, str]:
    """Write the network into the run's folder, and into ``save_dir`` unless a better one is there.

    Returns where it is for use, and why it was kept apart, if it was.
    """
    path, record = folder / "models" / config.STRINGS_NAME, checkpoint.record
    save_checkpoint(path, checkpoint)
    target = train_settings.save_dir / config.STRINGS_NAME
    if train_settings.dry_run:
        return path, "this is a dry run"
    if target.is_file() and not train_settings.overwrite:
        there = load_checkpoint(target, strings=True).record.get("validation", {})
        old, new = (one.get("validation_accuracy", 0.0) for one in (there, record["validation"]))
        if old > new:
            return path, f"{new:.2%} of its validation lines are right, {old:.2%} in {target}"
    save_checkpoint(target, checkpoint)
    return target, ""
