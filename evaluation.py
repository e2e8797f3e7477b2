"""Score the trained networks and their vote; tables, figures and JSON go to results/.

    python evaluation.py                        FSDD's official test: summary.md, summary.json
    python evaluation.py --protocol unseen      another protocol of those listed below
    python evaluation.py --protocol seeds --models-dirs saved_models models1 models2

Protocols that train go on where they were stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import utils
from protocols import (
    ablation,
    adaptation,
    calibration,
    corpora_splits,
    interference,
    languages,
    noise,
    oh,
    recordings,
    rejection,
    scoring,
    seeds,
    speakers,
    speech_commands,
    strings,
    tables,
    timing,
)
from protocols.common import EvaluationSettings, ProtocolReport, about, held_out_clips, trained_on
from protocols.scoring import ClipResults
from recognition.predictor import Predictor


def official(settings: EvaluationSettings) -> ProtocolReport:
    """The official test: the networks and their vote on FSDD's test takes."""
    predictor = Predictor(settings.decision)
    held_out = held_out_clips(settings, predictor)
    recognizer = settings.recognizer(predictor, recording=False)
    results = scoring.recognize_clips(recognizer, held_out.test, held_out.name)
    scores = official_scores(results) | {"latency_ms": timing.time_clips(predictor, held_out.test)}
    groups = {"all": scores["accuracy"], **scores["by_speaker"]}
    vote = scores["accuracy"]["vote"].value
    title = f"{held_out.name}: vote {vote:.2%}, {tables.network_accuracies(scores['accuracy'])}"
    return ProtocolReport(
        "summary",
        official_text(held_out.name, predictor, scores),
        about(settings, predictor) | {"test_set": held_out.name, "clips": len(results)} | scores,
        tables.accuracy_figure(groups, title),
        tables.confusion_files(results, held_out.name)
        | tables.report_files(scores["classification"], held_out.name)
        | {"wrong.csv": tables.csv(scores["wrong"], index=False)},
    )


def official_scores(results: ClipResults) -> dict[str, Any]:
    """All scores of the official test, by their names in ``summary.json``."""
    return {
        "accuracy": scoring.accuracies(results),
        "by_speaker": scoring.grouped(results, results.speakers),
        "no_digit": scoring.answered_no_digit(results),
        "vote_gain": scoring.vote_gain(results),
        "calibration_error": scoring.calibration_errors(results),
        "classification": tables.class_reports(results),
        "wrong": scoring.wrong_clips(results),
    }


def official_text(test_set: str, predictor: Predictor, scores: dict[str, Any]) -> str:
    """The report of the official test as Markdown."""
    latency, wrong = scores["latency_ms"], scores["wrong"]
    return "\n".join(
        [
            f"# {test_set}: the vote gets {scores['accuracy']['vote'].value:.2%} right\n",
            trained_on(predictor),
            "Accuracy in percent with 95 % Wilson intervals; the best digit counts, whatever its "
            "confidence.\n",
            tables.accuracy_table("speaker", {"all": scores["accuracy"], **scores["by_speaker"]}),
            scores["vote_gain"]["statement"] + "\n",
            f'Answered "no digit" at threshold {predictor.threshold:.3f}: {scores["no_digit"]}.\n',
            f"Time per clip, one thread, all networks: median {latency['median']:.1f} ms, "
            f"95th percentile {latency['p95']:.1f} ms ({latency['clips']} clips).\n",
            "## By digit, vote\n",
            tables.digit_table(scores["classification"]["vote"]),
            f"## Clips that a network or the vote got wrong ({len(wrong)})\n",
            tables.wrong_table(wrong),
        ]
    )


Protocol = Callable[[EvaluationSettings], ProtocolReport]

PROTOCOLS: dict[str, tuple[Protocol, str]] = {
    "official": (official, "FSDD's official test takes"),
    "speaker": (
        speakers.leave_one_speaker_out,
        "FSDD, leave one speaker out: trains six times, resumable",
    ),
    "unseen": (speakers.unseen, "speakers of other corpora (UNSEEN_SPEAKERS_DIR)"),
    "noise": (noise.noise, "the official test in noise, 20 to -5 dB, with and without cleaning"),
    "reject": (
        rejection.reject,
        "false-accept rate of out-of-vocabulary words, silence, hum, clicks and noise",
    ),
    "interference": (
        interference.interference,
        "words after beeps, barks and noise; two digits at once; a living room, hands-free",
    ),
    "calibration": (calibration.calibration, "does a confidence of 90 % mean 90 % right?"),
    "seeds": (seeds.seeds, "the official test of several trainings, and their mean"),
    "cleaning": (ablation.cleaning, "each stage of the cleaning switched on and off"),
    "augmentation": (
        ablation.augmentation,
        "each part of the augmentation off in turn: trains once for each",
    ),
    "formats": (recordings.formats, "the same clips in every file format that people bring"),
    "oh": (oh.oh, 'what it gains and costs to take "oh" for zero (--decision.oh)'),
    "strings": (
        strings.strings,
        "strings of digits, whole and live (DIGIT_STRINGS_DIR, UNSEEN_SPEAKERS_DIR)",
    ),
    "languages": (
        languages.languages_table,
        "digits in other languages (LANGUAGES_DIR): trains once for each that is not there",
    ),
    "adapt": (adaptation.adapt, "what three clips a digit of a user's own voice are worth"),
    "audiomnist": (
        corpora_splits.audiomnist,
        "AudioMNIST's five folds (AUDIOMNIST_DIR): trains once for each, resumable",
    ),
    "speech_commands": (
        speech_commands.speech_commands,
        "Speech Commands' test and validation lists (SPEECH_COMMANDS_DIR)",
    ),
    "cross": (
        corpora_splits.cross,
        "trained on one corpus, tested on another (--train-on, --test-on)",
    ),
}
"""Name -> the function that runs the protocol, and a line of help."""

HELP = "\n".join(
    [__doc__, "Protocols:", *(f"  {name:<16}{line}" for name, (_, line) in PROTOCOLS.items())]
)


def run(settings: EvaluationSettings) -> None:
    """Run the protocol, print its tables, write its files."""
    utils.print_log("protocols")
    start = time.perf_counter()
    protocol, _ = PROTOCOLS[settings.protocol]
    report = protocol(settings)
    seconds = time.perf_counter() - start
    report.data["seconds"] = round(seconds, 1)
    print(report.text)
    report.write(settings.results_dir)
    print(
        f"written: {settings.results_dir / report.name}.md, .json, .png and "
        f"{len(report.extras)} more, in {seconds:.0f} s"
    )


if __name__ == "__main__":
    utils.main(run, EvaluationSettings, HELP)
