"""What made a checkpoint, as it is kept in it."""

from __future__ import annotations

from typing import Any

import config
import speech_encoder
import utils
from training.run_folder import stored_settings
from training.trainer import Trainer


def provenance(trainer: Trainer, corpora: str) -> dict[str, Any]:
    """Data, split, settings, scores and versions of a training; plain values only.

    Nothing names a place on somebody's machine.
    """
    train_settings = trainer.train_settings
    best = min(
        trainer.history,
        key=lambda line: trainer.error(line["validation_loss"], line["validation_accuracy"]),
    )
    settings = stored_settings(train_settings)
    for place in config.PLACES:  # where somebody's files lie is nobody else's business
        settings["data"].pop(place)
    for place in ("save_dir", "teacher"):
        settings.pop(place)
    record = utils.run_record()
    record.pop("command")  # names these places too, and the settings tell the rest
    if trainer.features.kind == "encoder":
        path = config.program_path(config.ENCODER_FILE)
        record["encoder_sha256"] = speech_encoder.digest(path)
    if trainer.processes > 1:  # each draws random numbers of its own
        record["processes"] = trainer.processes
    return {
        "corpora": corpora,
        "protocol": train_settings.data.split,
        "test_speaker": train_settings.data.test_speaker,
        "seed": train_settings.seed,
        "settings": settings,
        "validation": {
            "best_epoch": best["epoch"],
            "validation_loss": best["validation_loss"],
            "validation_accuracy": best["validation_accuracy"],
        },
        **record,
    }
