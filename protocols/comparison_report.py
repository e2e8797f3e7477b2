"""A comparison as one table (Markdown, CSV, JSON), a figure, and a recommendation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

import visualization
from config import display_name
from protocols import tables
from protocols.common import ProtocolReport
from protocols.comparison import Row
from protocols.comparison_scores import NOISE_LEVELS
from protocols.metrics import Proportion, macro_average
from protocols.recommendation import UseCase, accuracy_name, accuracy_of, pareto_front, recommend

PERCENTAGES = {
    "official": "official test %",
    "unseen": "unseen speakers %",
    "speaker": "speaker left out %",
    **{f"noise_{level}_db": f"noise {level} dB %" for level in NOISE_LEVELS},
    "false_accepts_words": "words accepted %",
    "false_accepts_sounds": "sounds accepted %",
    "calibration_error": "calibration error %",
}
"""Scores in percent -> their column; those that nothing was measured of are left out."""
SEVERAL = ("official", "unseen")
"""Scores whose spread over seeds is told."""
ABOUT = """The best digit counts, whatever its confidence; accepted is the share of non-digits that
is taken for a digit at the network's own threshold; the calibration error is that on unseen
speakers, or the official test's without them. Parameters, multiply-adds and MB include the
pretrained encoder where a network listens through one; multiply-adds are those of an answer, with
its test-time augmentation. Latency is one clip alone and throughput one batch, both on one thread,
all taken in turns in one run: their ratios hold, the figures are this machine's. The ensemble's
members and weights are chosen on validation clips.
"""


def merged(rows: Sequence[Row]) -> Row:
    """One row of the trainings of one network: means, and the spread of its accuracies."""
    first = dict(rows[0])
    scores = {
        name: macro_average([Proportion(**row["scores"][name]) for row in rows], same_clips=True)
        for name in first.pop("scores")
    }
    first.pop("seed")
    first["seeds"] = [row["seed"] for row in rows]
    first["calibration_error"] = float(np.mean([row["calibration_error"] for row in rows]))
    first["intervals"] = {name: [100 * item.low, 100 * item.high] for name, item in scores.items()}
    first["standard_deviation"] = {
        name: 100 * float(np.std([row["scores"][name]["value"] for row in rows], ddof=1))
        for name in SEVERAL
        if name in scores and len(rows) > 1
    }
    return first | {name: 100 * item.value for name, item in scores.items()}


def comparison_report(
    rows: Sequence[Row], failed: dict[str, str], use_case: UseCase
) -> ProtocolReport:
    """The table of all entries, sorted by accuracy, and what is recommended."""
    rows = sorted(rows, key=accuracy_of, reverse=True)
    advice = recommend(rows, use_case)
    best = rows[0]
    title = (
        f"{len(rows)} recognisers compared: {display_name(best['model'])} is the most accurate "
        f"({accuracy_of(best):.2f} % on {accuracy_name(best)})"
    )
    text = "\n".join(
        [
            f"# {title}\n",
            table(rows),
            ABOUT,
            *(f"{display_name(row['model'])}: {members(row)}.\n" for row in rows if members(row)),
            *(f"{display_name(name)} is missing: {why}.\n" for name, why in failed.items()),
            f"**Recommended for {use_case}** – {advice.reason}\n",
        ]
    )
    points = [
        {
            "name": display_name(row["model"]),
            "accuracy": accuracy_of(row),
            "latency_ms": row["latency_ms"],
            "megabytes": row["megabytes"],
        }
        for row in rows
    ]
    gains = [point["accuracy"] for point in points]
    fronts = {
        cost: pareto_front([point[cost] for point in points], gains)
        for cost in ("latency_ms", "megabytes")
    }
    axis = f"accuracy on {accuracy_name(best)} (%)"
    data = {"protocol": "model_comparison", "rows": rows, "failed": failed}
    data["pareto"] = {cost: [rows[i]["model"] for i in front] for cost, front in fronts.items()}
    return ProtocolReport(
        "model_comparison",
        text,
        data | {"recommendation": dataclasses.asdict(advice)},
        partial(visualization.plot_trade_offs, points, fronts, title=title, ylabel=axis),
        {"model_comparison.csv": csv(rows)},
    )


def members(row: Row) -> str:
    """What an ensemble consists of, in words; empty for a single network."""
    weights = row["members"]
    if len(weights) == 1 and row["model"] in weights:
        return ""
    return ", ".join(f"{display_name(name)} {weight:.2f}" for name, weight in weights.items())


def table(rows: Sequence[Row]) -> str:
    """A row a network: scores, sizes, times."""
    measured = [name for name in PERCENTAGES if any(row.get(name) is not None for row in rows)]
    header = ["network", *(PERCENTAGES[name] for name in measured)]
    header += ["parameters", "multiply-adds", "MB", "ms a clip", "clips/s", "training, min"]
    body = [
        [
            network(row),
            *(percent(row, name) for name in measured),
            f"{row['parameters']:,}",
            f"{row['multiply_adds'] / 1e6:.1f} M",
            f"{row['megabytes']:.2f}",
            f"{row['latency_ms']:.2f}",
            f"{row['clips_per_second']:.0f}",
            number(row["training_minutes"], 1),
        ]
        for row in rows
    ]
    return tables.table(header, body)


def network(row: Row) -> str:
    """A row's name, with the number of seeds where there are several."""
    several = f" ({len(row['seeds'])} seeds)" if len(row["seeds"]) > 1 else ""
    return display_name(row["model"]) + several


def percent(row: Row, name: str) -> str:
    """A score, with its spread over seeds or its 95 % interval."""
    value, spread = row.get(name), row["standard_deviation"].get(name)
    if value is None:
        return "–"
    if spread is not None:
        return f"{value:.2f} ± {spread:.2f}"
    interval = row["intervals"].get(name)
    return f"{value:.2f}" + (f" [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else "")


def number(value: float | None, digits: int) -> str:
    """A figure, or a dash for none."""
    return "–" if value is None else f"{value:.{digits}f}"


def csv(rows: Sequence[Row]) -> str:
    """The plain figures of each row as CSV text."""
    import pandas as pd

    columns: list[dict[str, Any]] = []
    for row in rows:
        plain = {name: value for name, value in row.items() if not isinstance(value, dict | list)}
        spread = {f"{name}_sd": value for name, value in row["standard_deviation"].items()}
        seeds = {"seeds": " ".join(map(str, row["seeds"]))}
        columns.append(plain | seeds | {"members": members(row)} | spread)
    return tables.csv(pd.DataFrame(columns), index=False)
