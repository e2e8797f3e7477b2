"""Scores and their uncertainty, from arrays: no model, no file, no figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import config

CALIBRATION_BINS = 15
"""Equal-width confidence bins, as in Guo et al. (2017)."""
REPORT_COLUMNS = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
"""Our names of the columns of a classification report -> scikit-learn's."""


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


def proportion(hits: np.ndarray | Sequence[bool]) -> Proportion:
    """Share of true values in bool (n,), with its Wilson score interval (Wilson 1927).

    Unlike the normal approximation the interval stays inside [0, 1] and is not empty at 100 %.
    """
    from scipy.stats import binomtest  # a second to import

    hits = np.asarray(hits, bool)
    right, total = int(hits.sum()), len(hits)
    if not total:
        return Proportion(0, 0, math.nan, math.nan, math.nan)
    low, high = binomtest(right, total).proportion_ci(confidence_level=0.95, method="wilson")
    return Proportion(right, total, right / total, float(low), float(high))


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


def confusion_matrix(labels: np.ndarray, guesses: np.ndarray) -> np.ndarray:
    """Count guesses by label.

    Parameters
    ----------
    labels : int (n,), 0 to 9; at least one
    guesses : int (n,), 0 to 9, or -1 where no speech was found

    Returns
    -------
    int64 (10, 11) : rows are labels, columns guesses, the last "no speech"
    """
    from sklearn import metrics

    n_digits = len(config.DIGITS)
    columns = np.where(guesses < 0, n_digits, guesses)
    return metrics.confusion_matrix(labels, columns, labels=range(n_digits + 1))[:n_digits]


def classification_report(labels: np.ndarray, guesses: np.ndarray) -> dict[str, Any]:
    """Precision, recall, F1 and support by digit, their averages, and the accuracy.

    A digit that was never guessed has precision 0.

    Parameters
    ----------
    labels, guesses : as for :func:`confusion_matrix`

    Returns
    -------
    dict : ``classes`` (digit -> precision, recall, f1, support), ``macro``, ``weighted`` (the same
        three), ``accuracy``, ``total``
    """
    from sklearn import metrics

    report = metrics.classification_report(
        labels,
        guesses,
        labels=range(len(config.DIGITS)),
        target_names=config.DIGITS,
        output_dict=True,
        zero_division=0,
    )

    def scores(row: Mapping[str, float]) -> dict[str, float]:
        return {name: float(row[key]) for name, key in REPORT_COLUMNS.items()}

    return {
        "classes": {
            digit: scores(report[digit]) | {"support": int(report[digit]["support"])}
            for digit in config.DIGITS
        },
        "macro": scores(report["macro avg"]),
        "weighted": scores(report["weighted avg"]),
        "accuracy": float(np.mean(labels == guesses)),
        "total": len(labels),
    }


@dataclass(frozen=True)
class Calibration:
    """How well confidence predicts accuracy; arrays hold a value for each bin, NaN if empty."""

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
    from scipy.stats import binomtest

    first, second = np.asarray(first, bool), np.asarray(second, bool)
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    discordant = only_first + only_second
    p = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return only_first, only_second, p


def acceptance_threshold(scores: np.ndarray, share: float = 0.95) -> float:
    """The highest threshold that at least `share` of the scores (n,) reach; 0 without scores."""
    if not len(scores):
        return 0.0
    ordered = np.sort(np.asarray(scores, float))[::-1]
    return float(ordered[max(math.ceil(share * len(ordered) - 1e-9), 1) - 1])
