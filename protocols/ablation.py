"""Protocols that switch one part off in turn: of the augmentation, and of the cleaning chain."""

from __future__ import annotations

import dataclasses

import config
import dataset_loader
import visualization
from audio_augmentation import PARTS
from protocols import metrics, noise_generation, scoring
from protocols.accuracy import speaker_fold
from protocols.common import EvaluationSettings, ProtocolReport, about, held_out_clips, trained_on
from protocols.robustness import in_noise, level_name, noise_recordings
from protocols.scoring import ClipResults
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer

ABLATION_SNR_DB = (None, 20, 10, 5, 0)
"""dB at which the chain is tried; None is clean."""
EVERY = 3
"""Every third validation take is heard: a minute instead of three."""


def augmentation(settings: EvaluationSettings) -> ProtocolReport:
    """Leave one speaker out with each part of the augmentation off in turn: many trainings.

    Every training is saved when it is done, so a second call goes on where the first was stopped.
    """
    clips = dataset_loader.load_fsdd(settings.data, settings.audio)
    parts = [
        part
        for part in PARTS
        if getattr(settings.augmentation, part) > 0
        and (part != "recorded" or settings.augmentation.noise_dir is not None)
    ]
    scores: dict[str, dict[str, metrics.Proportion]] = {}
    for part in ("nothing", *parts):
        off = {} if part == "nothing" else {part: 0.0}
        chosen = dataclasses.replace(
            settings,
            results_dir=settings.results_dir / "ablation" / part,
            augmentation=dataclasses.replace(settings.augmentation, **off),
        )
        folds = [
            scoring.accuracies(speaker_fold(chosen, clips, name)) for name in settings.speakers
        ]
        scores[part] = scoring.macro(folds)
        print(f"without {part}: vote {scores[part]['vote']}", flush=True)
    base = scores["nothing"]["vote"].value
    rows = [
        [part, scoring.percent(item["vote"]), f"{100 * (item['vote'].value - base):+.2f}"]
        for part, item in scores.items()
    ]
    title = (
        f"Augmentation with one part off: {', '.join(settings.speakers)} left out, "
        f"{settings.training.epochs} epochs"
    )
    text = "\n".join(
        [
            f"# {title}\n",
            "Accuracy of the vote on the speakers left out, in percent "
            "with 95 % intervals, and the change in points.\n",
            scoring.table(["off", "accuracy %", "change"], rows),
        ]
    )
    data = {
        "protocol": "augmentation",
        "seed": settings.seed,
        "speakers": settings.speakers,
        "epochs": settings.training.epochs,
        "models": settings.models,
        "off": scores,
    }
    changes = {
        part: 100 * (item["vote"].value - base)
        for part, item in scores.items()
        if part != "nothing"
    }
    return ProtocolReport(
        "augmentation", text, data, lambda path: visualization.plot_ablation(changes, path, title)
    )


def chains(default: config.CleaningSettings) -> dict[str, config.CleaningSettings | None]:
    """The chain as it is set, with each stage switched the other way, and no chain at all."""

    def other(**changes: object) -> config.CleaningSettings:
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
    held = held_out_clips(settings, predictor)
    clips = held.validation.subset(range(0, len(held.validation), EVERY))
    recordings = noise_recordings(settings, predictor)
    noises = [kind for kind in noise_generation.NOISES if kind != "recorded" or recordings]
    scores: dict[str, dict[int | None, metrics.Proportion]] = {}
    for name, chain in chains(settings.cleaning).items():
        scores[name] = {}
        for snr in ABLATION_SNR_DB:
            parts: list[ClipResults] = []
            for kind in noises if snr is not None else ["none"]:
                heard = in_noise(clips, kind, snr, settings.seed, recordings)
                parts.append(
                    scoring.recognize_waveforms(Recognizer(predictor, chain), heard, clips)
                )
            scores[name][snr] = scoring.accuracies(scoring.join(parts))["vote"]
        print(f"{name}: " + ", ".join(f"{item}" for item in scores[name].values()), flush=True)
    title = f"Cleaning, stage by stage: {len(clips)} validation takes, {', '.join(noises)} noise"
    header = ["chain", *map(level_name, ABLATION_SNR_DB)]
    rows = [[name, *map(scoring.percent, by_level.values())] for name, by_level in scores.items()]
    text = "\n".join(
        [
            f"# {title}\n",
            trained_on(predictor),
            "Accuracy of the vote in percent with "
            "95 % intervals; noisy columns are the mean of the noises.\n",
            scoring.table(header, rows),
        ]
    )
    data = about(settings, predictor) | {
        "clips": len(clips),
        "noises": noises,
        "chains": {
            name: [{"snr_db": snr, "accuracy": item} for snr, item in by_level.items()]
            for name, by_level in scores.items()
        },
    }
    figure = [
        {
            "group": name,
            "series": level_name(snr),
            "value": item.value,
            "low": item.low,
            "high": item.high,
            "total": item.total,
        }
        for name, by_level in scores.items()
        for snr, item in by_level.items()
    ]
    return ProtocolReport(
        "cleaning", text, data, lambda path: visualization.plot_proportions(figure, path, title)
    )
