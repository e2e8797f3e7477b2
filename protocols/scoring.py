"""From recordings to answers, and from answers to scores and tables: what every protocol shares."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audio_io import Recording
from config import display_name
from corpora.clips import Clips
from protocols import metrics
from protocols.metrics import Proportion
from recognition.predictor import Prediction
from recognition.recognizer import Recognizer

CHUNK = 64
"""Recordings answered at a time: what bounds the memory."""


@dataclass(frozen=True)
class ClipResults:
    """What was said and what was answered, one value a clip in every array."""

    labels: np.ndarray
    """int64 (n,); what was spoken, config.REJECT for no digit."""
    speakers: np.ndarray
    """str (n,)."""
    names: np.ndarray
    """str (n,)."""
    guesses: dict[str, np.ndarray]
    """Model name or "vote" -> int64 (n,); the best digit, -1 where no speech was found."""
    confidence: dict[str, np.ndarray]
    """Model name or "vote" -> float64 (n,); posterior of that digit."""
    reject: np.ndarray
    """float64 (n,); the vote's posterior of "no digit"."""
    accepted: np.ndarray
    """bool (n,); answered with a digit, at the predictor's threshold."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def models(self) -> list[str]:
        """The single networks' names."""
        return [name for name in self.guesses if name != "vote"]

    def right(self, name: str) -> np.ndarray:
        """Whether the best guess is what was spoken, bool (n,)."""
        return self.guesses[name] == self.labels

    def score(self) -> np.ndarray:
        """What a threshold is compared with, float64 (n,): confidence; 0 where "no digit" won."""
        return np.where(self.confidence["vote"] >= self.reject, self.confidence["vote"], 0.0)

    def subset(self, mask: np.ndarray) -> ClipResults:
        """The answers where `mask`, bool (n,), holds, or in the order of indices, int (n,)."""

        def pick(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: values[mask] for name, values in value.items()}
            return value[mask]

        return ClipResults(*(pick(getattr(self, item.name)) for item in dataclasses.fields(self)))

    def to_json(self) -> dict[str, Any]:
        """Plain lists; :meth:`from_json` reads them back."""
        return {
            name: {key: list(item.tolist()) for key, item in value.items()}
            if isinstance(value, dict)
            else value.tolist()
            for name, value in vars(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ClipResults:
        """The opposite of :meth:`to_json`."""

        def array(item: Any) -> Any:
            if isinstance(item, dict):
                return {key: np.asarray(value) for key, value in item.items()}
            return np.asarray(item)

        # folds saved before class indices were called labels
        values = {"labels": values.get("digits"), **values}
        return cls(**{item.name: array(values[item.name]) for item in dataclasses.fields(cls)})


def join(parts: Sequence[ClipResults]) -> ClipResults:
    """Several sets of answers of the same models, one after another."""

    def column(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], dict):
            return {key: np.concatenate([value[key] for value in values]) for key in values[0]}
        return np.concatenate(values)

    return ClipResults(*(column(item.name) for item in dataclasses.fields(ClipResults)))


def recognize_clips(recognizer: Recognizer, clips: Clips) -> ClipResults:
    """Send every clip the way that a recording goes."""
    return recognize_waveforms(recognizer, map(clips.waveform, range(len(clips))), clips)


def recognize_waveforms(
    recognizer: Recognizer, waveforms: Iterable[np.ndarray], clips: Clips
) -> ClipResults:
    """The same for other waveforms, float32 (samples,) each, of the clips' labels and rate."""
    predictions: list[Prediction] = []
    spoken: list[bool] = []
    waiting = (Recording(waveform, clips.sample_rate) for waveform in waveforms)
    while batch := list(itertools.islice(waiting, CHUNK)):
        for result in recognizer.recognize_batch(batch):  # the sound itself is not kept
            predictions.append(result.prediction)
            spoken.append(result.speech.size > 0)
    return collect(predictions, clips, np.array(spoken, bool))


def collect(predictions: Sequence[Prediction], clips: Clips, spoken: np.ndarray) -> ClipResults:
    """Predictions for `clips` as columns; no guess where nothing was `spoken`, bool (n,)."""
    names = list(predictions[0].predictions) if predictions else []
    columns = {name: [item.predictions[name] for item in predictions] for name in names}
    guesses = {name: [item.digit for item in column] for name, column in columns.items()}
    confidence = {name: [item.confidence for item in column] for name, column in columns.items()}
    guesses["vote"] = [item.best_guess for item in predictions]
    confidence["vote"] = [item.confidence for item in predictions]
    return ClipResults(
        clips.labels,
        clips.speakers,
        clips.names,
        {name: np.where(spoken, np.array(col, np.int64), -1) for name, col in guesses.items()},
        {name: np.array(column, float) for name, column in confidence.items()},
        np.array([item.reject_probability for item in predictions], float),
        np.array([item.accepted for item in predictions], bool),
    )


def accuracies(results: ClipResults) -> dict[str, Proportion]:
    """Closed-set accuracy (the best digit, however sure) of each network and of the vote."""
    return {name: metrics.proportion(results.right(name)) for name in results.guesses}


def grouped(results: ClipResults, groups: np.ndarray) -> dict[str, dict[str, Proportion]]:
    """Accuracies by the values of `groups` (n,), sorted."""
    return {str(group): accuracies(results.subset(groups == group)) for group in np.unique(groups)}


def macro(
    groups: Sequence[Mapping[str, Proportion]], same_clips: bool = False
) -> dict[str, Proportion]:
    """Macro average of each series over groups such as corpora, or seeds (with the same clips)."""
    return {
        name: metrics.macro_average([group[name] for group in groups], same_clips)
        for name in groups[0]
    }


def no_digit(results: ClipResults) -> Proportion:
    """Share of the clips answered "no digit" by the vote."""
    return metrics.proportion(~results.accepted)


def vote_gain(results: ClipResults) -> dict[str, Any]:
    """The ablation that a vote must pass: against the better single network, on the same clips.

    Returns
    -------
    dict : ``better``, both accuracies, ``difference`` in points, the clips that only one got right,
        the exact McNemar ``p``, and a ``statement`` that says plainly whether voting gains anything
    """
    if len(results.models) < 2:
        return {"statement": "There is only one network here, so nothing to vote on."}
    better = max(results.models, key=lambda name: results.right(name).sum())
    vote, single = results.right("vote"), results.right(better)
    only_vote, only_single, p = metrics.mcnemar_exact(vote, single)
    difference = 100 * (vote.mean() - single.mean())
    if difference < 0:
        verdict = "Voting loses here" + (" (which may be chance)." if p >= 0.05 else ".")
    elif only_vote == only_single:
        verdict = "Voting gains nothing here."
    else:
        verdict = "Voting helps here." if p < 0.05 else "Voting gains no more than chance may give."
    name = display_name(better)
    statement = (
        f"Vote against the better single network ({name}): {vote.mean():.2%} against "
        f"{single.mean():.2%}, {difference:+.2f} points; {only_vote} clips only the vote "
        f"got right, {only_single} only {name} (exact McNemar p = {p:.2g}). {verdict}"
    )
    return {
        "better": better,
        "better_accuracy": float(single.mean()),
        "vote_accuracy": float(vote.mean()),
        "difference_points": float(difference),
        "only_vote_right": only_vote,
        "only_better_right": only_single,
        "p": p,
        "statement": statement,
    }


def wrong_clips(results: ClipResults) -> list[dict[str, Any]]:
    """The clips that the vote or a network got wrong, with everybody's opinion."""
    wrong = np.any([~results.right(name) for name in results.guesses], axis=0)
    rows = []
    for index in np.flatnonzero(wrong):
        row = {
            "name": str(results.names[index]),
            "speaker": str(results.speakers[index]),
            "spoken": int(results.labels[index]),
        }
        for name, guesses in results.guesses.items():
            row[name] = int(guesses[index])
            row[f"{name}_confidence"] = round(float(results.confidence[name][index]), 4)
        rows.append(row | {"accepted": bool(results.accepted[index])})
    return rows


def percent(value: Proportion) -> str:
    """A proportion with its interval for a table: "99.33 [97.6, 99.8]"."""
    if not value.total:
        return "–"
    return f"{100 * value.value:.2f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, columns padded so that it reads well in a terminal too."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def accuracy_table(first: str, groups: Mapping[str, Mapping[str, Proportion]]) -> str:
    """Accuracy in percent with 95 % intervals: a row each group, a column each network."""
    series = list(next(iter(groups.values())))
    rows = [
        [
            group,
            max(item.total for item in scores.values()),
            *(percent(scores[name]) for name in series),
        ]
        for group, scores in groups.items()
    ]
    return table([first, "clips", *(f"{display_name(name)} %" for name in series)], rows)


def figure_rows(groups: Mapping[str, Mapping[str, Proportion]]) -> list[dict[str, Any]]:
    """The same as rows for :func:`visualization.plot_proportions`."""
    return [
        {
            "group": group,
            "series": name,
            "value": item.value,
            "low": item.low,
            "high": item.high,
            "total": item.total,
        }
        for group, scores in groups.items()
        for name, item in scores.items()
        if item.total
    ]


def plain(value: Any) -> Any:
    """Proportions, arrays and NaN as what JSON knows; NaN becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
