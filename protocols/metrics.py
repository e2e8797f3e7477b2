"""Scores and how sure they are, in plain NumPy: no model, no file, no figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Z95 = 1.959963984540054
"""97.5 % point of the normal distribution: two-sided 95 % intervals."""
CALIBRATION_BINS = 15
"""Equal-width confidence bins, as in Guo et al. (2017)."""


@dataclass(frozen=True)
class Proportion:
    """A share of clips with its 95 % interval, in [0, 1]; NaN where nothing was counted."""

    right: int
    total: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2%} [{self.low:.2%}, {self.high:.2%}] ({self.right}/{self.total})"


def wilson_interval(right: int, total: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a binomial proportion (Wilson 1927), not continuity-corrected.

    Unlike the normal approximation it stays inside [0, 1] and is not empty at 100 %.

    Returns
    -------
    low, high : in [0, 1]; (nan, nan) where `total` is 0

    Raises
    ------
    ValueError : `right` is not between 0 and `total`
    """
    if not 0 <= right <= total:
        raise ValueError(f"{right} of {total} is no proportion")
    if total == 0:
        return math.nan, math.nan
    share, square = right / total, z * z / total
    centre = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / total + square / (4 * total)) / (1 + square)
    # exact at the ends, where rounding would leave 1e-17
    return 0.0 if right == 0 else centre - half, 1.0 if right == total else centre + half


def proportion(hits: np.ndarray | Sequence[bool]) -> Proportion:
    """Share of true values in bool (n,), with its Wilson interval."""
    hits = np.asarray(hits, bool)
    right, total = int(hits.sum()), len(hits)
    return Proportion(
        right, total, right / total if total else math.nan, *wilson_interval(right, total)
    )


def macro_average(parts: Sequence[Proportion], same_clips: bool = False) -> Proportion:
    """Mean of proportions, each counting the same however many clips it has.

    The interval joins the parts' Wilson intervals by the method of variance estimates recovery
    (Zou and Donner 2008), so a part of few clips widens it. Parts without clips are left out.

    Parameters
    ----------
    parts : one proportion a corpus, speaker, seed, ...
    same_clips : the parts are of the same clips (other seeds, other noise), which then err
        together: the interval is as wide as the parts' own on average, not narrower
    """
    parts = [part for part in parts if part.total]
    right, total = sum(part.right for part in parts), sum(part.total for part in parts)
    if not parts:
        return Proportion(0, 0, math.nan, math.nan, math.nan)
    value = sum(part.value for part in parts) / len(parts)
    power = 1 if same_clips else 2
    below = sum((part.value - part.low) ** power for part in parts) ** (1 / power) / len(parts)
    above = sum((part.high - part.value) ** power for part in parts) ** (1 / power) / len(parts)
    return Proportion(right, total, value, max(0.0, value - below), min(1.0, value + above))


def confusion_matrix(spoken: np.ndarray, answered: np.ndarray, n_classes: int = 10) -> np.ndarray:
    """Count answers by what was spoken.

    Parameters
    ----------
    spoken : int (n,), 0 to n_classes - 1
    answered : int (n,), 0 to n_classes - 1, or -1 where there was no answer

    Returns
    -------
    int64 (n_classes, n_classes + 1) : rows spoken, columns answered, the last "no answer"
    """
    spoken, answered = np.asarray(spoken, np.int64), np.asarray(answered, np.int64)
    if len(spoken) and not (
        spoken.min() >= 0
        and spoken.max() < n_classes
        and answered.min() >= -1
        and answered.max() < n_classes
    ):
        raise ValueError(f"classes must lie between 0 and {n_classes - 1}, answers from -1 on")
    matrix = np.zeros((n_classes, n_classes + 1), np.int64)
    np.add.at(matrix, (spoken, np.where(answered < 0, n_classes, answered)), 1)
    return matrix


def classification_report(matrix: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Precision, recall, F1 and support by class, their averages, and the accuracy.

    A class that was never answered has precision 0, as in scikit-learn's ``zero_division=0``; the
    averages run over the classes that were spoken.

    Parameters
    ----------
    matrix : int (classes, classes or classes + 1), from :func:`confusion_matrix`
    labels : names of the classes

    Returns
    -------
    dict : ``classes`` (label -> precision, recall, f1, support), ``macro``, ``weighted`` (the same
        three), ``accuracy``, ``total``
    """
    matrix = np.asarray(matrix)
    n_classes = len(matrix)
    hits, support = matrix.diagonal(), matrix.sum(axis=1)
    precision = hits / np.maximum(matrix[:, :n_classes].sum(axis=0), 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    columns = {"precision": precision, "recall": recall, "f1": f1}
    spoken, total = support > 0, int(support.sum())
    classes = {
        label: {name: float(values[index]) for name, values in columns.items()}
        | {"support": int(support[index])}
        for index, label in enumerate(labels)
    }
    return {
        "classes": classes,
        "macro": {
            name: float(values[spoken].mean()) if total else math.nan
            for name, values in columns.items()
        },
        "weighted": {
            name: float(values @ support / total) if total else math.nan
            for name, values in columns.items()
        },
        "accuracy": float(hits.sum() / total) if total else math.nan,
        "total": total,
    }


def report_text(report: Mapping[str, Any], title: str) -> str:
    """A classification report as a table for the eye."""
    lines = [title, f"{'':>10}{'precision':>11}{'recall':>9}{'f1':>9}{'support':>9}"]
    rows = [
        *report["classes"].items(),
        *((name, report[name] | {"support": report["total"]}) for name in ("macro", "weighted")),
    ]
    for name, row in rows:
        lines.append(
            f"{name:>10}{row['precision']:>11.4f}{row['recall']:>9.4f}{row['f1']:>9.4f}"
            f"{row['support']:>9}"
        )
    lines.append(f"{'accuracy':>10}{report['accuracy']:>29.4f}{report['total']:>9}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Calibration:
    """How well confidence tells accuracy; arrays of one value a bin, NaN where a bin is empty."""

    error: float
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def expected_calibration_error(
    confidence: np.ndarray, right: np.ndarray, n_bins: int = CALIBRATION_BINS
) -> Calibration:
    """Expected calibration error over equal-width bins (Naeini et al. 2015).

    The mean over the clips of |accuracy - confidence| of the bin that each falls in. Bin k holds
    confidences in (k / n_bins, (k + 1) / n_bins]; 0 goes to the first.

    Parameters
    ----------
    confidence : float (n,) in [0, 1]
    right : bool (n,)
    """
    confidence, right = np.asarray(confidence, float), np.asarray(right, float)
    if len(confidence) and not (confidence.min() >= 0 and confidence.max() <= 1 + 1e-6):
        raise ValueError("confidence must lie in [0, 1]")
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(bins, confidence, n_bins) / count
        accuracy = np.bincount(bins, right, n_bins) / count
    gaps = np.nan_to_num(np.abs(accuracy - mean))
    error = float(gaps @ count / len(confidence)) if len(confidence) else math.nan
    return Calibration(error, mean, accuracy, count)


def mcnemar_exact(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """Exact two-sided McNemar test that two recognisers err equally often on the same clips.

    Parameters
    ----------
    first, second : bool (n,); whether each was right

    Returns
    -------
    only_first, only_second : clips that only one of them got right
    p : probability of a split at least as uneven if both were equally good (McNemar 1947)
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    return only_first, only_second, min(1.0, 2 * tail / 2**discordant)


def acceptance_threshold(scores: np.ndarray, share: float = 0.95) -> float:
    """The highest threshold that at least `share` of the scores (n,) reach; 0 without scores."""
    if not len(scores):
        return 0.0
    ordered = np.sort(np.asarray(scores, float))[::-1]
    return float(ordered[max(math.ceil(share * len(ordered) - 1e-9), 1) - 1])
