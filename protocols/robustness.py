"""Protocols that ask what happens off the beaten track: noise, reject, calibration."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import config
import dataset_loader
import visualization
from config import display_name
from corpora.clips import Clips, concatenate
from protocols import metrics, noise_generation, scoring
from protocols.common import (
    EvaluationSettings,
    ProtocolReport,
    about,
    held_out_clips,
    needed,
    synthetic_speakers,
    trained_on,
    unseen_speakers,
)
from protocols.scoring import ClipResults
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer

SNR_DB = (20, 15, 10, 5, 0, -5)
"""dB at which digits are tested in noise, besides clean."""
PADDING_S = 0.25
"""s of noise before and after each clip, so that the speech has to be found."""
SOUNDS_PER_KIND = 100
"""Sounds of each kind that is no speech: 500 in all."""
OTHER_WORDS = config.SyntheticSettings.only(other_words=300)
"""Made-up other words, of a seed that no training run uses."""
ACCEPTED_SHARE = 0.95
"""Share of the strangers' right answers that the second threshold of protocol reject lets pass."""

Conditions = dict[tuple[str, "int | None", bool], ClipResults]
"""Answers by noise, level in dB (None is clean) and cleaning."""
Means = dict[tuple["int | None", bool], dict[str, metrics.Proportion]]
"""Accuracies by level and cleaning."""


def noise(settings: EvaluationSettings) -> ProtocolReport:
    """The official test in noise, with and without the cleaning chain."""
    predictor = Predictor(settings.decision)
    held = held_out_clips(settings, predictor)
    recordings = noise_recordings(settings, predictor)
    kinds = [kind for kind in noise_generation.NOISES if kind != "recorded" or recordings]
    chains = {"auto": (True, False), "on": (True,), "off": (False,)}[settings.clean]
    results: Conditions = {}
    for kind, snr in [("none", None), *((kind, snr) for kind in kinds for snr in SNR_DB)]:
        for cleaning in chains:
            noisy = in_noise(held.test, kind, snr, settings.seed, recordings)
            results[kind, snr, cleaning] = scoring.recognize_waveforms(
                Recognizer(predictor, settings.cleaning if cleaning else None), noisy, held.test
            )
        print(
            f"{kind} {'clean' if snr is None else f'{snr} dB'}: vote "
            f"{metrics.proportion(results[kind, snr, chains[0]].right('vote'))}",
            flush=True,
        )
    return noise_report(settings, predictor, held.name, results)


def noise_recordings(settings: EvaluationSettings, predictor: Predictor) -> list[np.ndarray]:
    """Recorded noise, if a folder was named; tells if the networks were trained on it."""
    if settings.noise_dir is None:
        print("no recorded noise: use --noise-dir or set NOISE_DIR", flush=True)
        return []
    folder = needed(settings.noise_dir, "recorded noise", "--noise-dir", "NOISE_DIR").resolve()
    for name, checkpoint in predictor.checkpoints.items():
        train_settings = checkpoint.record.get("settings", {})
        used = train_settings.get("augmentation", {}).get("noise_dir")
        if used and (
            Path(used).resolve().is_relative_to(folder)
            or folder.is_relative_to(Path(used).resolve())
        ):
            print(
                f"WARNING: {name} was trained with noise from {used}: name other recordings with "
                "--noise-dir, or the score is too good",
                flush=True,
            )
    return dataset_loader.load_noise(folder, predictor.audio.sample_rate)


def in_noise(
    clips: Clips, kind: str, snr_db: float | None, seed: int, recordings: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """Each clip with :data:`PADDING_S` on either side, in noise or (kind none) in silence.

    The same seed gives the same noise at every level, so that levels differ in nothing else.
    """
    padding = round(PADDING_S * clips.sample_rate)
    for index in range(len(clips)):
        waveform = clips.waveform(index)
        if kind == "none":
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
    rows = [
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
    means = noise_means(results)
    chain = next(iter(results))[2]
    gain = scoring.vote_gain(
        scoring.join([part for key, part in results.items() if key[2] == chain])
    )
    told = ", ".join(f"{snr} dB {means[snr, chain]['vote'].value:.2%}" for snr in (10, 0))
    title = f"In noise the vote gets {told} ({'with' if chain else 'without'} cleaning)"
    text = "\n".join(
        [
            f"# {title}\n",
            trained_on(predictor),
            f"{test_set}, {PADDING_S:g} s of noise before and "
            "after each clip; SNR against the level while speaking; percent with 95 % intervals.\n",
            "## Vote, by noise\n",
            noise_table(results),
            "## Mean of the noise kinds\n",
            scoring.accuracy_table(
                "level",
                {
                    f"{level_name(snr)}, {'with' if chain else 'without'} cleaning": item
                    for (snr, chain), item in means.items()
                },
            ),
            *cleaning_words(means),
            f"All conditions together: {gain['statement']} (Each clip counts once a condition, so "
            "p is rather too small.)\n",
        ]
    )
    data = about(settings, predictor) | {
        "test_set": test_set,
        "conditions": rows,
        "vote_gain": gain,
        "mean_of_noises": [
            {"snr_db": snr, "cleaning": cleaning, "accuracy": item}
            for (snr, cleaning), item in means.items()
        ],
    }
    return ProtocolReport(
        "noise",
        text,
        data,
        lambda path: visualization.plot_noise(
            [row for row in rows if row["model"] == "vote"], path, title
        ),
    )


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


def noise_table(results: Conditions) -> str:
    """The vote's accuracy: a row each noise and chain, a column each level."""

    def cell(kind: str, snr: int | None, cleaning: bool) -> str:
        part = results["none" if snr is None else kind, snr, cleaning]
        return scoring.percent(metrics.proportion(part.right("vote")))

    lines = dict.fromkeys((kind, cleaning) for kind, _, cleaning in results if kind != "none")
    rows = [
        [
            kind,
            "with" if cleaning else "without",
            *(cell(kind, snr, cleaning) for snr in (None, *SNR_DB)),
        ]
        for kind, cleaning in lines
    ]
    return scoring.table(["noise", "cleaning", "clean", *(f"{snr} dB" for snr in SNR_DB)], rows)


def cleaning_words(means: Means) -> list[str]:
    """What the cleaning chain gains or costs at each level; nothing where only one was run."""
    levels = [snr for snr, cleaning in means if cleaning and (snr, False) in means]
    changes = [
        f"{'clean' if snr is None else f'{snr} dB'} "
        f"{100 * (means[snr, True]['vote'].value - means[snr, False]['vote'].value):+.2f}"
        for snr in levels
    ]
    told = f"What cleaning changes for the vote, in points: {', '.join(changes)}.\n"
    return [told] if levels else []


def reject(settings: EvaluationSettings) -> ProtocolReport:
    """How much that is no digit is accepted as one, at two thresholds."""
    predictor = Predictor(settings.decision)
    chain = settings.chain(recording=True)
    digits, source = known_digits(settings, predictor)
    right = digits.subset(digits.right("vote"))
    thresholds = {
        "stored": predictor.threshold,
        "95 %": metrics.acceptance_threshold(right.score(), ACCEPTED_SHARE),
    }
    scores = {
        name: scoring.recognize_clips(Recognizer(predictor, chain), clips).score()
        for name, clips in no_digits(settings, predictor).items()
    }
    scores["all made-up sounds"] = np.concatenate(
        [scores[kind] for kind in noise_generation.NON_SPEECH]
    )
    accepted = {name: acceptance(values, thresholds) for name, values in scores.items()}
    kept = acceptance(right.score(), thresholds)
    title = f"Accepted as a digit: {told_acceptance(accepted)}"
    gain, header = (
        scoring.vote_gain(digits),
        [f"at {name} ({value:.3f})" for name, value in thresholds.items()],
    )
    rows = [
        [name, item["stored"].total, *map(scoring.percent, item.values())]
        for name, item in ({f"right answers, {source}": kept} | accepted).items()
    ]
    text = "\n".join(
        [
            f"# {title}\n",
            trained_on(predictor),
            "Share accepted, in percent with 95 % intervals, at "
            f"the stored threshold and at the one that lets {ACCEPTED_SHARE:.0%} of the right "
            f"answers pass ({source}); {'with' if chain else 'without'} the cleaning chain.\n",
            scoring.table(["sound", "clips", *header], rows),
            f"{source}: {gain['statement']}\n",
        ]
    )
    data = about(settings, predictor) | {
        "thresholds": thresholds,
        "threshold_source": source,
        "accepted": accepted,
        "right_answers_accepted": kept,
        "vote_gain": gain,
        "cleaning": chain is not None,
    }
    groups = {f"right: {source}": kept} | accepted
    return ProtocolReport(
        "reject",
        text,
        data,
        lambda path: visualization.plot_proportions(
            scoring.figure_rows(groups), path, title, "accepted as a digit (%)"
        ),
    )


def told_acceptance(accepted: dict[str, dict[str, metrics.Proportion]]) -> str:
    """The figure's title: other words and sounds at the second threshold."""
    words = {
        "other words": "recorded",
        "synthetic other words": "made-up",
        "all made-up sounds": "sounds",
    }
    return ", ".join(
        f"{short if short == 'sounds' else short + ' words'} {accepted[name]['95 %'].value:.1%}"
        for name, short in words.items()
        if name in accepted
    )


def acceptance(scores: np.ndarray, thresholds: dict[str, float]) -> dict[str, metrics.Proportion]:
    """Share of scores (n,) accepted at each threshold; 0 means that "no digit" won."""
    return {
        name: metrics.proportion((scores >= value) & (scores > 0))
        for name, value in thresholds.items()
    }


def known_digits(settings: EvaluationSettings, predictor: Predictor) -> tuple[ClipResults, str]:
    """Answers to digits that set the second threshold: strangers', or the official test's."""
    if settings.unseen_dir is not None:
        clips = concatenate([*unseen_speakers(settings, predictor.audio).values()])
        return scoring.recognize_clips(
            Recognizer(predictor, settings.chain(recording=True)), clips
        ), "unseen speakers"
    held = held_out_clips(settings, predictor)
    print("no strangers' clips (--unseen-dir): the 95 % threshold comes from " + held.name)
    return scoring.recognize_clips(
        Recognizer(predictor, settings.chain(recording=False)), held.test
    ), held.name


def no_digits(settings: EvaluationSettings, predictor: Predictor) -> dict[str, Clips]:
    """Sets of clips that are no digits, by what they are."""
    sets, rate = {}, predictor.audio.sample_rate
    if settings.non_digits_dir is not None:
        folder = needed(
            settings.non_digits_dir, "other words", "--non-digits-dir", "NON_DIGITS_DIR"
        )
        clips = dataset_loader.load_folder(folder, predictor.audio, corpus="other words")
        sets["other words"] = clips.subset(np.flatnonzero(clips.labels == config.REJECT))
    try:
        made = synthetic_speakers(settings, predictor, OTHER_WORDS)
        sets["synthetic other words"] = made.subset(np.flatnonzero(made.labels == config.REJECT))
    except config.UserError as error:
        print(f"warning: no synthetic other words ({error})", flush=True)
    for kind in noise_generation.NON_SPEECH:
        random = np.random.default_rng([settings.seed, *kind.encode()])
        sets[kind] = sounds(
            [noise_generation.make_non_speech(kind, rate, random) for _ in range(SOUNDS_PER_KIND)],
            kind,
            rate,
        )
    if settings.noise_dir is not None:
        recordings = noise_recordings(settings, predictor)
        random = np.random.default_rng([settings.seed, 9])
        sets["recorded noise"] = sounds(
            [
                0.05 * noise_generation.make_noise("recorded", rate, random, recordings=recordings)
                for _ in range(SOUNDS_PER_KIND)
            ],
            "recorded noise",
            rate,
        )
    return sets


def sounds(waveforms: list[np.ndarray], kind: str, sample_rate: int) -> Clips:
    """Waveforms that are no digit as a set."""
    count = len(waveforms)
    return Clips.from_waveforms(
        waveforms,
        [config.REJECT] * count,
        [kind] * count,
        [f"{kind} {index}" for index in range(count)],
        range(count),
        kind,
        sample_rate,
    )


def calibration(settings: EvaluationSettings) -> ProtocolReport:
    """Whether "90 % sure" is right nine times of ten, before and after calibration."""
    predictor = Predictor(settings.decision)
    held, known = held_out_clips(settings, predictor), settings.chain(recording=False)
    sets = {"validation": (held.validation, known), held.name: (held.test, known)}
    if settings.unseen_dir is not None:
        clips = concatenate([*unseen_speakers(settings, predictor.audio).values()])
        sets["unseen speakers"] = (clips, settings.chain(recording=True))
    curves, gains, accuracy = {}, {}, {}
    for name, (clips, chain) in sets.items():
        after = scoring.recognize_clips(Recognizer(predictor, chain), clips)
        before = scoring.recognize_clips(Recognizer(uncalibrated(predictor), chain), clips)
        curves[name] = {"before": reliability(before), "after": reliability(after)}
        gains[name], accuracy[name] = scoring.vote_gain(after), scoring.accuracies(after)
    return calibration_report(
        about(settings, predictor)
        | {
            "temperatures": {
                name: item.temperature for name, item in predictor.checkpoints.items()
            },
            "bins": metrics.CALIBRATION_BINS,
            "accuracy": accuracy,
            "vote_gain": gains,
        },
        curves,
        trained_on(predictor),
    )


def calibration_report(
    data: dict[str, Any], curves: dict[str, dict[str, dict[str, metrics.Calibration]]], origin: str
) -> ProtocolReport:
    """Table, JSON and diagram of the calibration errors."""
    rows = [
        [
            name,
            display_name(model),
            scoring.percent(data["accuracy"][name][model]),
            *(f"{100 * stages[stage][model].error:.2f}" for stage in ("before", "after")),
        ]
        for name, stages in curves.items()
        for model in stages["after"]
    ]
    last = [*curves][-1]
    before, after = (curves[last][stage]["vote"].error for stage in ("before", "after"))
    title = f"Calibration error of the vote, {last}: {before:.1%}, calibrated {after:.1%}"
    text = "\n".join(
        [
            f"# {title}\n",
            origin,
            f"Expected calibration error, {data['bins']} equal-width bins.\n",
            scoring.table(["clips", "network", "accuracy %", "before %", "after %"], rows),
            *(f"{name}: {gain['statement']}\n" for name, gain in data["vote_gain"].items()),
        ]
    )
    panels = {
        name: {stage: item["vote"] for stage, item in stages.items()}
        for name, stages in curves.items()
    }
    return ProtocolReport(
        "calibration",
        text,
        data | {"calibration": curves},
        lambda path: visualization.plot_reliability(panels, path, title),
    )


def reliability(results: ClipResults) -> dict[str, metrics.Calibration]:
    """The calibration of each network and the vote."""
    return {
        name: metrics.expected_calibration_error(results.confidence[name], results.right(name))
        for name in results.guesses
    }


def uncalibrated(predictor: Predictor) -> Predictor:
    """The same networks with their temperatures set to 1 and their biases to 0."""
    other = copy.copy(predictor)
    other.checkpoints = {
        name: dataclasses.replace(checkpoint, temperature=1.0, reject_bias=0.0)
        for name, checkpoint in predictor.checkpoints.items()
    }
    return other
