"""Which network for which use, by a rule that is written down and from measured figures only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from config import display_name

UseCase = Literal["speed", "accuracy", "balanced", "production"]
GOOD_POINTS = 2.0
"""Points below the most accurate up to which a fast network counts as good."""
LIVE_MS = 15.0
"""ms of computing that a live answer may take."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Recommendation:
    """One network or the ensemble for a use, and why."""

    use_case: str
    name: str
    reason: str


def accuracy_of(row: Row) -> float:
    """The accuracy that counts, in percent: on unseen speakers, or the official test's."""
    value = row.get("unseen")
    return float(row["official"] if value is None else value)


def accuracy_name(row: Row) -> str:
    """What :func:`accuracy_of` was measured on."""
    return "the official test" if row.get("unseen") is None else "unseen speakers"


def recommend(rows: Sequence[Row], use_case: UseCase) -> Recommendation:
    """The best of `rows` for a use.

    Parameters
    ----------
    rows : one a network: ``model``, ``latency_ms``, ``megabytes``, and in percent ``official``,
        ``calibration_error``, and where they were measured ``unseen``, ``noise_10_db`` and
        ``false_accepts_words``
    """
    rules: dict[str, Callable[[Sequence[Row]], tuple[Row, str]]] = {
        "accuracy": most_accurate,
        "speed": fastest_good,
        "balanced": most_balanced,
        "production": most_dependable,
    }
    row, reason = rules[use_case](rows)
    return Recommendation(use_case, row["model"], f"{display_name(row['model'])}: {reason}.")


def most_accurate(rows: Sequence[Row]) -> tuple[Row, str]:
    """The highest accuracy; of equals the faster."""
    row = max(rows, key=lambda item: (accuracy_of(item), -item["latency_ms"]))
    return row, (
        f"{accuracy_of(row):.2f} % on {accuracy_name(row)} is the most of {len(rows)}, "
        f"at {row['latency_ms']:.1f} ms a clip"
    )


def fastest_good(rows: Sequence[Row]) -> tuple[Row, str]:
    """The shortest latency of those within :data:`GOOD_POINTS` of the most accurate."""
    best = max(map(accuracy_of, rows))
    good = [row for row in rows if accuracy_of(row) >= best - GOOD_POINTS]
    row = min(good, key=lambda item: item["latency_ms"])
    return row, (
        f"{row['latency_ms']:.2f} ms a clip is the least of the {len(good)} that come within "
        f"{GOOD_POINTS:g} points of the best accuracy ({accuracy_of(row):.2f} % against "
        f"{best:.2f} % on {accuracy_name(row)})"
    )


def most_balanced(rows: Sequence[Row]) -> tuple[Row, str]:
    """The least sum of points lost, and one point for each tenfold of latency and of size."""
    best = max(map(accuracy_of, rows))
    quickest = min(row["latency_ms"] for row in rows)
    smallest = min(row["megabytes"] for row in rows)

    def price(row: Row) -> float:
        slower = math.log10(row["latency_ms"] / quickest)
        return best - accuracy_of(row) + slower + math.log10(row["megabytes"] / smallest)

    row = min(rows, key=price)
    return row, (
        f"{accuracy_of(row):.2f} % on {accuracy_name(row)}, {row['latency_ms']:.2f} ms and "
        f"{row['megabytes']:.2f} MB cost {price(row):.2f} points, the least, where a tenfold of "
        "latency or of size counts as one point of accuracy"
    )


def most_dependable(rows: Sequence[Row]) -> tuple[Row, str]:
    """The least mean of what goes wrong in use, of those quick enough to answer live."""
    live = [row for row in rows if row["latency_ms"] <= LIVE_MS]
    row = min(live or rows, key=lambda item: float(np.mean([*troubles(item).values()])))
    parts = ", ".join(f"{name} {value:.2f} %" for name, value in troubles(row).items())
    quick = f"of those that answer within {LIVE_MS:g} ms"
    if not live:
        quick = f"though none answers within {LIVE_MS:g} ms"
    return row, f"the least mean of {parts}, {quick}; {row['latency_ms']:.1f} ms a clip"


def troubles(row: Row) -> dict[str, float]:
    """Percent of what goes wrong, of what was measured."""
    parts = {f"errors on {accuracy_name(row)}": 100 - accuracy_of(row)}
    if row.get("noise_10_db") is not None:
        parts["errors in noise at 10 dB"] = 100 - row["noise_10_db"]
    if row.get("false_accepts_words") is not None:
        parts["other words taken for digits"] = row["false_accepts_words"]
    return parts | {"calibration error": row["calibration_error"]}


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Indices of the points that no other beats in both, by rising cost (Pareto front)."""
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda item: (costs[item], -gains[item])):
        if not front or gains[index] > gains[front[-1]]:
            front.append(index)
    return front
