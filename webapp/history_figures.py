"""The history in figures: by digit, confidence, latency, and how often users said "right"."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import config
import utils
from webapp.history import COLUMNS

CONFIDENCES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.01)
LATENCIES = (0, 5, 10, 20, 50, 100, 200, 1000)
"""ms."""

Rows = list[dict[str, Any]]


def by_digit(rows: Rows) -> dict[str, float]:
    """How often each digit was answered, alone or in a string."""
    counts = Counter(digit for row in rows for digit in (row["digits"] or ["no digit"]))
    return {name: counts[name] for name in (*config.DIGITS, "no digit")} if rows else {}


def by_confidence(rows: Rows) -> dict[str, float]:
    """How often each confidence."""
    values = [row["confidence"] for row in rows]
    edges = zip(CONFIDENCES, CONFIDENCES[1:], strict=False)
    return (
        {
            f"{low:.0%} to {min(high, 1):.0%}": sum(low <= value < high for value in values)
            for low, high in edges
        }
        if rows
        else {}
    )


def by_latency(rows: Rows) -> dict[str, float]:
    """How often each computing time."""
    values = [row["latency_ms"] for row in rows]
    bins = {
        f"{low} to {high} ms": sum(low <= value < high for value in values)
        for low, high in zip(LATENCIES, LATENCIES[1:], strict=False)
    }
    return bins | {"more": sum(value >= LATENCIES[-1] for value in values)} if rows else {}


def right(row: dict[str, Any]) -> bool:
    """Whether the user confirmed the answer."""
    answer = config.REJECT if row["digit"] is None else row["digit"]
    return row["feedback"] == answer


def accuracy_by_day(rows: Rows, days: int = 14) -> dict[str, float]:
    """Percent right among the answers that users judged, day by day, the latest days."""
    judged: dict[str, list[bool]] = {}
    for row in sorted(rows, key=lambda row: row["time"]):
        if row["feedback"] is not None:
            day = time.strftime("%Y-%m-%d", time.localtime(row["time"]))
            judged.setdefault(day, []).append(right(row))
    shares = {day: 100 * sum(values) / len(values) for day, values in judged.items()}
    return dict(list(shares.items())[-days:])


def summary(rows: Rows) -> str:
    """All in one line."""
    if not rows:
        return "No answers."
    judged = [row for row in rows if row["feedback"] is not None]
    latencies = sorted(row["latency_ms"] for row in rows)
    text = f"{len(rows)} answers; median {latencies[len(rows) // 2]:.0f} ms"
    if judged:
        text += f"; {sum(map(right, judged))} of {len(judged)} judged ones were right"
    return text + "."


def shown_row(row: dict[str, Any]) -> list[Any]:
    """A row as the page shows it."""
    models = row["models"]
    said = ", ".join(
        f"{config.display_name(name)} {item['digit']} ({item['confidence']:.0%})"
        for name, item in models.items()
    )
    feedback = row["feedback"]
    judged = "" if feedback is None else "right" if right(row) else f"it was {label(feedback)}"
    return [
        row["id"],
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["time"])),
        row["kind"],
        row["source"],
        " ".join(row["digits"]) if len(row["digits"]) > 1 else label(row["digit"]),
        round(row["confidence"], 3),
        said,
        round(row["latency_ms"], 1),
        judged,
    ]


SHOWN = ("no.", "time", "way", "source", "digit", "confidence", "networks", "ms", "feedback")


def label(digit: int | None) -> str:
    """A digit's name, or that it is none."""
    return "no digit" if digit in (None, config.REJECT) else str(digit)


def export(rows: Rows, path: Path) -> Path:
    """Write the answers as CSV; a text that a spreadsheet would take for a formula is quoted."""
    with (
        utils.atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows([_cell(row[name]) for name in COLUMNS] for row in rows)
    return path


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@")):
        return f"'{value}"
    return value
