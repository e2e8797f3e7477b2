"""Protocols that ask how many digits are recognised: official, seeds, speaker, unseen."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import config
import dataset_loader
import utils
import visualization
from config import display_name
from corpora.clips import Clips
from protocols import metrics, scoring
from protocols.common import (
    EvaluationSettings,
    ProtocolReport,
    about,
    held_out_clips,
    trained_on,
    unseen_speakers,
)
from protocols.scoring import ClipResults
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer

TIMED_CLIPS = 60
"""Clips answered one by one to take the time: enough for a 95th percentile."""
LARGE_CORPUS = 100
"""Clips from which a corpus counts in the macro average of the large ones."""
LISTED = 50
"""Wrong clips listed in a summary; all are in its CSV."""
COLUMNS = [*config.DIGITS, "none"]
"""Columns of a confusion matrix; the last counts recordings in which no speech was found."""


def official(settings: EvaluationSettings) -> ProtocolReport:
    """The networks and their vote on the official test: all that is known of each clip."""
    predictor = Predictor(settings.decision)
    held = held_out_clips(settings, predictor)
    results = scoring.recognize_clips(
        Recognizer(predictor, settings.chain(recording=False)), held.test
    )
    overall, speakers = scoring.accuracies(results), scoring.grouped(results, results.speakers)
    speed, gain = time_clips(predictor, held.test), scoring.vote_gain(results)
    wrong, silent = scoring.wrong_clips(results), scoring.no_digit(results)
    reports = class_reports(results)
    groups = {"all": overall, **speakers}
    text = "\n".join(
        [
            f"# {held.name}: the vote gets {overall['vote'].value:.2%} right\n",
            trained_on(predictor),
            "Accuracy in percent, 95 % Wilson intervals; the best digit counts, however sure.\n",
            scoring.accuracy_table("speaker", groups),
            gain["statement"] + "\n",
            f'Answered "no digit" at threshold {predictor.threshold:.3f}: {silent}.\n',
            f"Time a clip, one thread, both networks: median {speed['median']:.1f} ms, "
            f"95th percentile {speed['p95']:.1f} ms ({speed['clips']} clips).\n",
            "## By digit, vote\n",
            digit_table(reports["vote"]),
            f"## Clips that a network or the vote got wrong ({len(wrong)})\n",
            wrong_table(wrong),
        ]
    )
    data = about(settings, predictor) | {
        "test_set": held.name,
        "clips": len(results),
        "accuracy": overall,
        "by_speaker": speakers,
        "no_digit": silent,
        "vote_gain": gain,
        "latency_ms": speed,
        "calibration_error": {name: calibration_error(results, name) for name in results.guesses},
        "classification": reports,
        "wrong": wrong,
    }
    title = f"{held.name}: vote {overall['vote'].value:.2%}, {held_words(overall)}"
    return ProtocolReport(
        "summary",
        text,
        data,
        lambda path: visualization.plot_proportions(scoring.figure_rows(groups), path, title),
        confusions(results, held.name)
        | report_files(reports, held.name)
        | {"wrong.csv": to_csv(wrong)},
    )


def held_words(overall: dict[str, metrics.Proportion]) -> str:
    """The single networks' accuracies in words: "CNN 99.00%, BiLSTM 98.67%"."""
    return ", ".join(
        f"{display_name(name)} {item.value:.2%}" for name, item in overall.items() if name != "vote"
    )


def time_clips(predictor: Predictor, clips: Clips) -> dict[str, float]:
    """Milliseconds that one clip takes alone, on one thread: median and 95th percentile."""
    import torch

    chosen = np.linspace(0, len(clips) - 1, min(TIMED_CLIPS, len(clips))).astype(int)
    waveforms = [clips.waveform(index) for index in chosen]
    threads, times = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for waveform in waveforms[:3]:
            predictor.predict(waveform)
        for waveform in waveforms:
            begun = time.perf_counter()
            predictor.predict(waveform)
            times.append(1000 * (time.perf_counter() - begun))
    finally:
        torch.set_num_threads(threads)
    return {
        "median": float(np.median(times)),
        "p95": float(np.percentile(times, 95)),
        "clips": len(times),
    }


def calibration_error(results: ClipResults, name: str) -> float:
    """Expected calibration error of one network or the vote."""
    return metrics.expected_calibration_error(results.confidence[name], results.right(name)).error


def class_reports(results: ClipResults) -> dict[str, Any]:
    """The classification report of each network and of the vote."""
    return {
        name: metrics.classification_report(
            metrics.confusion_matrix(results.labels, guesses), config.DIGITS
        )
        for name, guesses in results.guesses.items()
    }


def report_files(reports: dict[str, Any], where: str) -> dict[str, Any]:
    """The reports as one text and one JSON file."""
    text = "\n".join(
        metrics.report_text(report, f"{display_name(name)}, {where}")
        for name, report in reports.items()
    )
    return {
        "classification_report.txt": text,
        "classification_report.json": json.dumps(scoring.plain(reports), indent=2) + "\n",
    }


def confusions(results: ClipResults, where: str, stem: str = "confusion") -> dict[str, Any]:
    """Confusion matrices of each network and the vote, as PNG and CSV."""
    made = {}
    for name, guesses in results.guesses.items():
        matrix = metrics.confusion_matrix(results.labels, guesses)
        right = metrics.proportion(results.right(name))
        title = f"{display_name(name)}: {right.value:.2%} of {right.total} clips right, {where}"

        def draw(path: Path, matrix: np.ndarray = matrix, title: str = title) -> None:
            visualization.plot_confusion(matrix, config.DIGITS, path, title, COLUMNS)

        made[f"{stem}_{name}.png"] = draw
        made[f"{stem}_{name}.csv"] = to_csv(
            [
                {"spoken": digit} | dict(zip(COLUMNS, row, strict=True))
                for digit, row in zip(config.DIGITS, matrix.tolist(), strict=True)
            ]
        )
    return made


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Rows with the same keys as CSV text; empty text for none."""
    stream = io.StringIO()
    if rows:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return stream.getvalue()


def digit_table(report: dict[str, Any]) -> str:
    """Precision, recall and F1 by digit as Markdown."""
    rows = [
        [label, *(f"{100 * row[key]:.1f}" for key in ("precision", "recall", "f1")), row["support"]]
        for label, row in report["classes"].items()
    ]
    return scoring.table(["digit", "precision %", "recall %", "F1 %", "clips"], rows)


def wrong_table(wrong: list[dict[str, Any]]) -> str:
    """Wrong clips with everybody's opinion as Markdown."""
    if not wrong:
        return "None.\n"
    series = [key.removesuffix("_confidence") for key in wrong[0] if key.endswith("_confidence")]
    rows = [
        [
            row["name"],
            row["spoken"],
            *(
                f"{'–' if row[name] < 0 else row[name]} ({row[f'{name}_confidence']:.0%})"
                for name in series
            ),
            "yes" if row["accepted"] else "no digit",
        ]
        for row in wrong[:LISTED]
    ]
    more = f"\nand {len(wrong) - LISTED} more.\n" if len(wrong) > LISTED else ""
    header = ["clip", "spoken", *map(display_name, series), "accepted"]
    return scoring.table(header, rows) + more


def seeds(settings: EvaluationSettings) -> ProtocolReport:
    """The official test for several folders of networks, and the mean over them.

    Raises
    ------
    UserError : no folders given
    """
    if not settings.models_dirs:
        raise config.UserError("no trained networks to compare: use --models-dirs FOLDER FOLDER")
    scores, results, name = {}, [], ""
    for folder in dict.fromkeys(settings.models_dirs):
        predictor = Predictor(dataclasses.replace(settings.decision, models_dir=folder))
        held = held_out_clips(settings, predictor)
        results.append(
            scoring.recognize_clips(
                Recognizer(predictor, settings.chain(recording=False)), held.test
            )
        )
        seed = predictor.checkpoints[predictor.names[0]].record.get("seed", "?")
        scores[f"{folder.as_posix()} (seed {seed})"] = scoring.accuracies(results[-1])
        name = held.name
    if len({tuple(part.guesses) for part in results}) > 1:
        raise config.UserError("the folders of --models-dirs hold different networks")
    mean = scoring.macro([*scores.values()], same_clips=True)
    gain = scoring.vote_gain(scoring.join(results))
    spread = (
        {
            series: float(np.std([item[series].value for item in scores.values()], ddof=1))
            for series in mean
        }
        if len(scores) > 1
        else {}
    )
    groups = scores | {"mean": mean}
    title = f"{name}, mean of {len(scores)}: vote {mean['vote'].value:.2%}, {held_words(mean)}"
    deviation = ", ".join(f"{display_name(key)} {100 * value:.2f}" for key, value in spread.items())
    text = "\n".join(
        [
            f"# {title}\n",
            scoring.accuracy_table("networks", groups),
            f"Standard deviation between them, in points: {deviation or 'one only'}.\n",
            f"All clips of all seeds together: {gain['statement']} (Each clip counts "
            "once a seed, so p is rather too small.)\n",
        ]
    )
    data = {
        "protocol": "seeds",
        "test_set": name,
        "seeds": scores,
        "mean": mean,
        "standard_deviation": spread,
        "vote_gain": gain,
    }
    return ProtocolReport(
        "seeds",
        text,
        data,
        lambda path: visualization.plot_proportions(scoring.figure_rows(groups), path, title),
    )


def speaker(settings: EvaluationSettings) -> ProtocolReport:
    """Leave one speaker out: six trainings, each scored on the voice it never heard.

    Every fold is saved when it is done; a second call trains only what is missing or was made with
    other settings.

    Raises
    ------
    UserError : FSDD can't be had
    """
    clips = dataset_loader.load_fsdd(settings.data, settings.audio)
    names = [str(name) for name in np.unique(clips.speakers)]
    folds = {name: speaker_fold(settings, clips, name) for name in names}
    scores = {name: scoring.accuracies(fold) for name, fold in folds.items()}
    results = scoring.join([*folds.values()])
    mean, gain = scoring.macro(list(scores.values())), scoring.vote_gain(results)
    groups = scores | {f"mean of {len(names)}": mean} | other_seeds(settings, names)
    title = f"Voices never heard in training: vote {mean['vote'].value:.2%}, {held_words(mean)}"
    text = "\n".join(
        [
            f"# {title}\n",
            "Leave one speaker out, FSDD, seed "
            f"{settings.seed}; accuracy in percent with 95 % intervals.\n",
            scoring.accuracy_table("speaker left out", groups),
            "All speakers together: " + gain["statement"] + "\n",
        ]
    )
    data = {
        "protocol": "speaker",
        "seed": settings.seed,
        "clean": settings.clean,
        "by_speaker": scores,
        "mean": mean,
        "vote_gain": gain,
        "other_seeds": other_seeds(settings, names),
        "fold_settings": fold_key(settings),
    }
    return ProtocolReport(
        "speaker",
        text,
        data,
        lambda path: visualization.plot_proportions(scoring.figure_rows(groups), path, title),
        confusions(results, "speaker left out", "speaker_confusion"),
    )


def other_seeds(
    settings: EvaluationSettings, names: list[str]
) -> dict[str, dict[str, metrics.Proportion]]:
    """The means of other seeds, run before with these settings, and the mean of all seeds."""
    folder, key, means = settings.results_dir / "speaker", fold_key(settings), {}
    seeds = {path.stem.split("_")[0] for path in folder.glob(f"seed*_{names[0]}.json")}
    for seed in sorted(seeds):
        folds = [read_fold(folder / f"{seed}_{name}.json", key) for name in names]
        if all(fold is not None for fold in folds):
            means[f"mean, {seed}"] = scoring.macro([scoring.accuracies(fold) for fold in folds])
    if len(means) < 2:
        return {}
    return means | {f"mean of {len(means)} seeds": scoring.macro([*means.values()], True)}


def fold_key(settings: EvaluationSettings) -> str:
    """Changes with every setting, except the seed, that a fold's result depends on."""
    train_settings = dataclasses.asdict(settings.train_settings())
    for name in ("seed", "save_dir", "runs_dir", "init", "resume", "overwrite", "dry_run"):
        train_settings.pop(name)
    for name in ("root", "fsdd_archive", "fsdd_url", "test_speaker", "split"):
        train_settings["data"].pop(name)
    chain = settings.chain(recording=False)
    facts = [
        train_settings,
        dataclasses.asdict(chain) if chain else None,
        settings.decision.threshold,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def speaker_fold(settings: EvaluationSettings, clips: Clips, name: str) -> ClipResults:
    """Train without one speaker and answer that speaker's clips, or read what was saved of it."""
    from train import train

    folder, key = fold_folder(settings, name), fold_key(settings)
    saved = folder.with_suffix(".json")
    done = read_fold(saved, key)
    if done is not None:
        print(f"{name}: taken from {saved}", flush=True)
        return done
    print(f"{name}: training without this speaker", flush=True)
    data = dataclasses.replace(settings.data, split="speaker", test_speaker=name)
    runs = folder.parent / "runs" / f"{folder.name}-{key}"
    train(
        settings.train_settings(
            data=data, save_dir=folder, runs_dir=runs, resume=True, overwrite=True
        )
    )
    decision = dataclasses.replace(settings.decision, models_dir=folder)
    split = dataset_loader.speaker_split(clips, name, data.validation_fraction, settings.seed)
    results = scoring.recognize_clips(
        Recognizer(Predictor(decision, settings.models), settings.chain(recording=False)),
        clips.subset(split.test),
    )
    utils.write_json(saved, {"key": key, "answers": results.to_json()})
    print(f"{name}: vote {metrics.proportion(results.right('vote'))}", flush=True)
    return results


def fold_folder(settings: EvaluationSettings, name: str) -> Path:
    """Where the networks of the fold that leaves out speaker `name` lie."""
    return settings.results_dir / "speaker" / f"seed{settings.seed}_{name}"


def read_fold(path: Path, key: str) -> ClipResults | None:
    """A saved fold, if it is whole and was made with the same settings."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return ClipResults.from_json(saved["answers"]) if saved["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def macro_words(scores: dict[str, metrics.Proportion]) -> str:
    """What the vote changes on the macro average, which may differ from the sum of all clips."""
    singles = {name: item.value for name, item in scores.items() if name != "vote"}
    better = max(singles, key=singles.__getitem__)
    change = 100 * (scores["vote"].value - singles[better])
    return (
        f" On the macro average the vote changes {change:+.2f} points against the better "
        f"single network there ({display_name(better)})."
    )


def unseen(settings: EvaluationSettings) -> ProtocolReport:
    """Clips of strangers: by corpus, by speaker, by digit, and the macro average over corpora."""
    predictor = Predictor(settings.decision)
    corpora = unseen_speakers(settings, predictor.audio)
    chain = settings.chain(recording=True)
    parts = {
        name: scoring.recognize_clips(Recognizer(predictor, chain), clips)
        for name, clips in corpora.items()
    }
    results = scoring.join([*parts.values()])
    where = np.concatenate([clips.corpus for clips in corpora.values()])
    by_corpus = {name: scoring.accuracies(part) for name, part in parts.items()}
    large = [scores for scores in by_corpus.values() if scores["vote"].total >= LARGE_CORPUS]
    averages = {f"macro, {len(by_corpus)} corpora": scoring.macro([*by_corpus.values()])}
    if 0 < len(large) < len(by_corpus):
        averages[f"macro, {len(large)} of {LARGE_CORPUS} clips or more"] = scoring.macro(large)
    headline = [*averages.values()][-1]
    by_speaker = scoring.grouped(results, np.char.add(np.char.add(where, "/"), results.speakers))
    by_digit = scoring.grouped(results, results.labels)
    gain, silent = scoring.vote_gain(results), scoring.no_digit(results)
    wrong = scoring.wrong_clips(results)
    groups = by_corpus | averages
    title = f"Strangers: vote {headline['vote'].value:.2%}, {held_words(headline)} (macro average)"
    text = "\n".join(
        [
            f"# {title}\n",
            trained_on(predictor),
            f"{len(by_speaker)} speakers, {len(results)} clips, "
            f"{'with' if chain else 'without'} the cleaning chain; percent with 95 % intervals.\n",
            scoring.accuracy_table("corpus", groups),
            gain["statement"] + macro_words(headline) + "\n",
            f'Answered "no digit" at threshold {predictor.threshold:.3f}: {silent}.\n',
            "## By digit\n",
            scoring.accuracy_table("digit", by_digit),
            "## By speaker\n",
            scoring.accuracy_table("speaker", by_speaker),
        ]
    )
    data = about(settings, predictor) | {
        "cleaning": chain is not None,
        "clips": len(results),
        "speakers": len(by_speaker),
        "macro": averages,
        "by_corpus": by_corpus,
        "by_digit": by_digit,
        "by_speaker": by_speaker,
        "no_digit": silent,
        "vote_gain": gain,
        "wrong": wrong,
        "calibration_error": {name: calibration_error(results, name) for name in results.guesses},
    }
    return ProtocolReport(
        "unseen",
        text,
        data,
        lambda path: visualization.plot_proportions(scoring.figure_rows(groups), path, title),
        confusions(results, "strangers", "unseen_confusion") | {"unseen_wrong.csv": to_csv(wrong)},
    )
