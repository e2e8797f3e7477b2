"""The protocol that takes the official test in noise, with and without the cleaning chain."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import dataset_loader
import visualization
from corpora import fsdd
from corpora.clips import Clips
from protocols import metrics, noise_generation, scoring, tables
from protocols.common import (
    EvaluationSettings,
    ProtocolReport,
    about,
    held_out_clips,
    required_folder,
    trained_on,
)
from protocols.scoring import ClipResults
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer

logger = logging.getLogger(__name__)
SNR_DB = (20, 15, 10, 5, 0, -5)
"""dB at which digits are tested in noise, besides clean."""
MIXING_RATE = fsdd.SAMPLE_RATE
"""Hz. Digits and noise meet in the band that FSDD's recordings have: noise above it would count
in the level and disturb nobody."""
PADDING_S = 0.25
"""s of noise before and after each clip, so that the speech has to be found."""

Conditions = dict[tuple[str, "int | None", bool], ClipResults]
"""Results by noise, level in dB (None is clean) and cleaning."""
Means = dict[tuple["int | None", bool], dict[str, metrics.Proportion]]
"""Accuracies by level and cleaning."""


def noise(settings: EvaluationSettings) -> ProtocolReport:
    """The official test in noise, with and without the cleaning chain."""
    predictor = Predictor(settings.decision)
    held_out = held_out_clips(settings, predictor, MIXING_RATE)
    recordings = noise_recordings(settings, predictor, MIXING_RATE)
    cleaning = {"auto": (True, False), "on": (True,), "off": (False,)}[settings.clean]
    recognizers = {on: Recognizer(predictor, settings.cleaning if on else None) for on in cleaning}
    levels = [(kind, snr) for kind in noise_kinds(recordings) for snr in SNR_DB]
    results: Conditions = {}
    for kind, snr in tqdm(
        [("none", None), *levels], "noise", unit="condition", disable=None, leave=False
    ):
        name = f"{kind} {level_name(snr)}"
        for on, recognizer in recognizers.items():
            noisy = in_noise(held_out.test, kind, snr, settings.seed, recordings)
            results[kind, snr, on] = scoring.recognize_waveforms(
                recognizer, noisy, held_out.test, name
            )
        vote = metrics.proportion(results[kind, snr, cleaning[0]].right("vote"))
        logger.info(f"{name}: vote {vote}")
    return noise_report(settings, predictor, held_out.name, results)


def noise_recordings(
    settings: EvaluationSettings, predictor: Predictor, sample_rate: int
) -> list[np.ndarray]:
    """Recorded noise at `sample_rate` Hz, if a folder was named; warns if it was trained on."""
    if settings.noise_dir is None:
        logger.info("no recorded noise: use --noise-dir or set NOISE_DIR")
        return []
    folder = required_folder(settings.noise_dir, "recorded noise", "--noise-dir", "NOISE_DIR")
    folder = folder.resolve()
    for name, checkpoint in predictor.checkpoints.items():
        augmentation = checkpoint.record.get("settings", {}).get("augmentation", {})
        if not augmentation.get("noise_dir"):
            continue
        used = Path(augmentation["noise_dir"]).resolve()
        if used.is_relative_to(folder) or folder.is_relative_to(used):
            logger.warning(
                f"WARNING: {name} was trained with noise from {used}: name other recordings with "
                "--noise-dir, or the score is too good"
            )
    return dataset_loader.load_noise(folder, sample_rate)


def noise_kinds(recordings: list[np.ndarray]) -> list[str]:
    """The kinds of noise that can be made; recorded noise only where there are recordings."""
    return [kind for kind in noise_generation.NOISES if kind != "recorded" or recordings]


def in_noise(
    clips: Clips, kind: str, snr_db: float | None, seed: int, recordings: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """Each clip with :data:`PADDING_S` on either side, in noise or (level None) in silence.

    The same seed gives the same noise at every level, so that levels differ in nothing else.
    """
    padding = round(PADDING_S * clips.sample_rate)
    for index in range(len(clips)):
        waveform = clips.waveform(index)
        if snr_db is None:
            yield np.pad(waveform, padding)
            continue
        random = np.random.default_rng([seed, index, noise_generation.NOISES.index(kind)])
        background = noise_generation.make_noise(
            kind, len(waveform) + 2 * padding, random, clips, recordings
        )
        yield noise_generation.add_noise(waveform, background, snr_db, clips.sample_rate)


def noise_report(
    settings: EvaluationSettings, predictor: Predictor, test_set: str, results: Conditions
) -> ProtocolReport:
    """Tables by noise and by network, and whether cleaning and voting gain anything."""
    rows, means = condition_rows(results), noise_means(results)
    chain = next(iter(results))[2]
    accuracies = ", ".join(f"{snr} dB {means[snr, chain]['vote'].value:.2%}" for snr in (10, 0))
    title = f"In noise the vote gets {accuracies} ({with_or_without(chain)} cleaning)"
    data = about(settings, predictor) | {
        "test_set": test_set,
        "conditions": rows,
        "vote_gain": scoring.vote_gain(
            scoring.join([part for key, part in results.items() if key[2] == chain])
        ),
        "mean_of_noises": [
            {"snr_db": snr, "cleaning": cleaning, "accuracy": item}
            for (snr, cleaning), item in means.items()
        ],
    }
    text = "\n".join(
        [
            f"# {title}\n",
            trained_on(predictor),
            f"{test_set}, {PADDING_S:g} s of noise before and "
            "after each clip; SNR against the level while speaking; percent with 95 % intervals.\n",
            "## Vote, by noise\n",
            noise_table(results),
            "## Mean of the noise kinds\n",
            mean_table(means),
            cleaning_changes(means),
            f"All conditions together: {data['vote_gain']['statement']} (Each clip counts once per "
            "condition, so p is somewhat too small.)\n",
        ]
    )
    vote = [row for row in rows if row["model"] == "vote"]
    draw = partial(visualization.plot_noise, vote, title=title)
    return ProtocolReport("noise", text, data, draw)


def condition_rows(results: Conditions) -> list[dict[str, Any]]:
    """A row for each condition and network."""
    return [
        {
            "noise": kind,
            "snr_db": snr,
            "cleaning": cleaning,
            "model": name,
            "accuracy": item.value,
            "low": item.low,
            "high": item.high,
            "right": item.right,
            "total": item.total,
        }
        for (kind, snr, cleaning), part in results.items()
        for name, item in scoring.accuracies(part).items()
    ]


def noise_means(results: Conditions) -> Means:
    """Mean over the kinds of noise, by level and cleaning."""
    levels = dict.fromkeys(key[1:] for key in results)
    return {
        level: scoring.macro(
            [scoring.accuracies(part) for key, part in results.items() if key[1:] == level],
            same_clips=True,
        )
        for level in levels
    }


def level_name(snr_db: int | None) -> str:
    """For instance "10 dB"; None is "clean"."""
    return "clean" if snr_db is None else f"{snr_db} dB"


def with_or_without(cleaning: bool) -> str:
    """For tables: "with" or "without"."""
    return "with" if cleaning else "without"


def noise_table(results: Conditions) -> str:
    """The vote's accuracy: a row for each noise and chain, a column for each level."""
    levels = (None, *SNR_DB)

    def cell(kind: str, snr: int | None, cleaning: bool) -> str:
        part = results["none" if snr is None else kind, snr, cleaning]
        return tables.percent(metrics.proportion(part.right("vote")))

    lines = dict.fromkeys((kind, cleaning) for kind, _, cleaning in results if kind != "none")
    rows = [
        [kind, with_or_without(cleaning), *(cell(kind, snr, cleaning) for snr in levels)]
        for kind, cleaning in lines
    ]
    return tables.table(["noise", "cleaning", *map(level_name, levels)], rows)


def mean_table(means: Means) -> str:
    """The accuracies of all networks: a row for each level and chain."""
    groups = {
        f"{level_name(snr)}, {with_or_without(cleaning)} cleaning": item
        for (snr, cleaning), item in means.items()
    }
    return tables.accuracy_table("level", groups)


def cleaning_changes(means: Means) -> str:
    """What the cleaning chain gains or costs at each level; empty where only one was run."""
    changes = [
        f"{level_name(snr)} "
        f"{100 * (means[snr, True]['vote'].value - means[snr, False]['vote'].value):+.2f}"
        for snr, cleaning in means
        if cleaning and (snr, False) in means
    ]
    return f"Change of the vote by cleaning, in points: {', '.join(changes)}.\n" if changes else ""
