"""Protocols that switch one part off in turn: of the augmentation, and of the cleaning chain."""

from __future__ import annotations

import dataclasses
import logging
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

import config
import dataset_loader
import visualization
from audio_augmentation import PARTS
from corpora.clips import Clips
from protocols import metrics, scoring, tables
from protocols.common import EvaluationSettings, ProtocolReport, about, held_out_clips, trained_on
from protocols.noise import MIXING_RATE, in_noise, level_name, noise_kinds, noise_recordings
from protocols.speakers import speaker_fold
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer

logger = logging.getLogger(__name__)
ABLATION_SNR_DB = (None, 20, 10, 5, 0)
"""dB at which the chain is tried; None is clean."""
EVERY = 3
"""Every third validation take is recognised: a minute instead of three."""

LevelScores = dict["int | None", metrics.Proportion]
"""Accuracy of the vote by level in dB; None is clean."""


def augmentation(settings: EvaluationSettings) -> ProtocolReport:
    """Leave-one-speaker-out with each part of the augmentation off in turn: many trainings.

    Every training is saved when it is done, so a second call goes on where the first was stopped.
    """
    clips = dataset_loader.load_fsdd(settings.data, settings.audio)
    scores: dict[str, dict[str, metrics.Proportion]] = {}
    for part in ["nothing", *parts_in_use(settings.augmentation)]:
        changed = without_part(settings, part)
        folds = [speaker_fold(changed, clips, name) for name in settings.speakers]
        scores[part] = scoring.macro([scoring.accuracies(fold) for fold in folds])
        logger.info(f"without {part}: vote {scores[part]['vote']}")
    data = {
        "protocol": "augmentation",
        "seed": settings.seed,
        "speakers": settings.speakers,
        "epochs": settings.training.epochs,
        "models": settings.models,
        "off": scores,
    }
    return augmentation_report(data)


def parts_in_use(settings: config.AugmentationSettings) -> list[str]:
    """The parts of the augmentation that are on."""
    return [
        part
        for part in PARTS
        if getattr(settings, part) > 0 and (part != "recorded" or settings.noise_dir is not None)
    ]


def without_part(settings: EvaluationSettings, part: str) -> EvaluationSettings:
    """The settings with one part off ("nothing": none), and a folder of their own."""
    off: dict[str, Any] = {} if part == "nothing" else {part: 0.0}
    return dataclasses.replace(
        settings,
        results_dir=settings.results_dir / "ablation" / part,
        augmentation=dataclasses.replace(settings.augmentation, **off),
    )


def augmentation_report(data: dict[str, Any]) -> ProtocolReport:
    """Table and figure of what each part is worth."""
    votes = {part: item["vote"] for part, item in data["off"].items()}
    base = votes["nothing"].value
    changes = {part: 100 * (vote.value - base) for part, vote in votes.items()}
    rows = [[part, tables.percent(vote), f"{changes[part]:+.2f}"] for part, vote in votes.items()]
    title = (
        f"Augmentation with one part off: {', '.join(data['speakers'])} left out, "
        f"{data['epochs']} epochs"
    )
    text = "\n".join(
        [
            f"# {title}\n",
            "Accuracy of the vote on the speakers left out, in percent "
            "with 95 % intervals, and the change in points.\n",
            tables.table(["off", "accuracy %", "change"], rows),
        ]
    )
    bars = {part: change for part, change in changes.items() if part != "nothing"}
    draw = partial(visualization.plot_ablation, bars, title=title)
    return ProtocolReport("augmentation", text, data, draw)


def chains(default: config.CleaningSettings) -> dict[str, config.CleaningSettings | None]:
    """The chain as it is set, with each stage switched the other way, and no chain at all."""

    def other(**changes: Any) -> config.CleaningSettings:
        return dataclasses.replace(default, **changes)

    return {
        "as set": default,
        "no high-pass": other(highpass_hz=0.0),
        "causal high-pass": other(highpass_phase="minimum"),
        "gating on": other(gate="on"),
        "no gating": other(gate="off"),
        "no voice activity trim": other(vad=False),
        "no cleaning": None,
    }


def cleaning(settings: EvaluationSettings) -> ProtocolReport:
    """Each stage of the chain on and off, by signal-to-noise ratio, on FSDD's validation takes."""
    predictor = Predictor(settings.decision)
    held_out = held_out_clips(settings, predictor, MIXING_RATE)
    clips = held_out.validation.subset(range(0, len(held_out.validation), EVERY))
    recordings = noise_recordings(settings, predictor, MIXING_RATE)
    scores: dict[str, LevelScores] = {}
    for name, chain in tqdm(
        chains(settings.cleaning).items(), "cleaning", unit="chain", disable=None, leave=False
    ):
        recognizer = Recognizer(predictor, chain)
        scores[name] = {
            snr: vote_in_noise(recognizer, clips, snr, settings.seed, recordings)
            for snr in ABLATION_SNR_DB
        }
        logger.info(f"{name}: " + ", ".join(map(str, scores[name].values())))
    data = about(settings, predictor) | {
        "clips": len(clips),
        "noises": noise_kinds(recordings),
        "chains": {
            name: [{"snr_db": snr, "accuracy": item} for snr, item in by_level.items()]
            for name, by_level in scores.items()
        },
    }
    return cleaning_report(data, scores, trained_on(predictor))


def vote_in_noise(
    recognizer: Recognizer,
    clips: Clips,
    snr_db: int | None,
    seed: int,
    recordings: list[np.ndarray],
) -> metrics.Proportion:
    """Accuracy of the vote at one level, over all kinds of noise together."""
    kinds = ["none"] if snr_db is None else noise_kinds(recordings)
    parts = [
        scoring.recognize_waveforms(
            recognizer,
            in_noise(clips, kind, snr_db, seed, recordings),
            clips,
            f"{kind} {level_name(snr_db)}",
        )
        for kind in kinds
    ]
    return scoring.accuracies(scoring.join(parts))["vote"]


def cleaning_report(
    data: dict[str, Any], scores: dict[str, LevelScores], origin: str
) -> ProtocolReport:
    """Table and figure of the chains by level."""
    title = (
        f"Cleaning, stage by stage: {data['clips']} validation takes, "
        f"{', '.join(data['noises'])} noise"
    )
    rows = [[name, *map(tables.percent, by_level.values())] for name, by_level in scores.items()]
    text = "\n".join(
        [
            f"# {title}\n",
            origin,
            "Accuracy of the vote in percent with "
            "95 % intervals; noisy columns are the mean of the noises.\n",
            tables.table(["chain", *map(level_name, ABLATION_SNR_DB)], rows),
        ]
    )
    groups = {
        name: {level_name(snr): item for snr, item in by_level.items()}
        for name, by_level in scores.items()
    }
    return ProtocolReport("cleaning", text, data, tables.accuracy_figure(groups, title))
