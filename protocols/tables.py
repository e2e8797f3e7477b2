"""Scores as the tables, figures and files that a report consists of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import config
import utils
import visualization
from config import display_name
from protocols import metrics
from protocols.metrics import Proportion
from protocols.scoring import ClipResults

if TYPE_CHECKING:
    import pandas as pd

LISTED = 50
"""Wrong clips listed in a summary; all are in its CSV."""
CONFUSION_COLUMNS = [*config.DIGITS, "none"]
"""Columns of a confusion matrix; the last counts recordings in which no speech was found."""

Files = dict[str, "str | Callable[[Path], Any]"]
"""File name -> its text, or a function that draws it."""


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


def network_accuracies(scores: Mapping[str, Proportion]) -> str:
    """The single networks' accuracies in words: "CNN 99.00%, BiLSTM 98.67%"."""
    return ", ".join(
        f"{display_name(name)} {item.value:.2%}" for name, item in scores.items() if name != "vote"
    )


def accuracy_figure(
    groups: Mapping[str, Mapping[str, Proportion]], title: str, xlabel: str = "accuracy (%)"
) -> Callable[[Path], Any]:
    """A function that draws the groups' proportions."""
    rows = [
        {"group": group, "series": name} | dataclasses.asdict(item)
        for group, scores in groups.items()
        for name, item in scores.items()
        if item.total
    ]
    return lambda path: visualization.plot_proportions(rows, path, title, xlabel)


def class_reports(results: ClipResults) -> dict[str, Any]:
    """The classification report of each network and of the vote."""
    return {
        name: metrics.classification_report(results.labels, guesses)
        for name, guesses in results.guesses.items()
    }


def report_files(reports: Mapping[str, Any], test_set: str) -> Files:
    """The classification reports as one text and one JSON file."""
    text = "\n".join(
        f"{display_name(name)}, {test_set}\n{report_text(report)}\n"
        for name, report in reports.items()
    )
    return {
        "classification_report.txt": text,
        "classification_report.json": json.dumps(utils.json_value(reports), indent=2) + "\n",
    }


def report_text(report: Mapping[str, Any]) -> str:
    """A classification report as aligned columns."""
    import pandas as pd

    total = {"support": report["total"]}
    rows = report["classes"] | {name: report[name] | total for name in ("macro", "weighted")}
    rows["accuracy"] = {"f1": report["accuracy"]} | total
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.to_string(float_format="{:.4f}".format, na_rep="")


def digit_table(report: Mapping[str, Any]) -> str:
    """Precision, recall and F1 by digit as Markdown."""
    rows = [
        [digit, *(f"{100 * row[key]:.1f}" for key in ("precision", "recall", "f1")), row["support"]]
        for digit, row in report["classes"].items()
    ]
    return table(["digit", "precision %", "recall %", "F1 %", "clips"], rows)


def confusion_files(results: ClipResults, test_set: str, stem: str = "confusion") -> Files:
    """The confusion matrix of each network and of the vote, as PNG and CSV."""
    import pandas as pd

    files: Files = {}
    for name, guesses in results.guesses.items():
        matrix = metrics.confusion_matrix(results.labels, guesses)
        right = metrics.proportion(results.right(name))
        title = f"{display_name(name)}: {right.value:.2%} of {right.total} clips right, {test_set}"
        files[f"{stem}_{name}.png"] = partial(
            visualization.plot_confusion,
            matrix,
            config.DIGITS,
            title=title,
            answers=CONFUSION_COLUMNS,
        )
        spoken = pd.Index(config.DIGITS, name="spoken")
        files[f"{stem}_{name}.csv"] = csv(pd.DataFrame(matrix, spoken, CONFUSION_COLUMNS))
    return files


def csv(table: pd.DataFrame, index: bool = True) -> str:
    """A table as CSV text with the same line ends on every system."""
    return table.to_csv(index=index, lineterminator="\n")


def wrong_table(wrong: pd.DataFrame) -> str:
    """Wrong clips with every prediction as Markdown."""
    if wrong.empty:
        return "None.\n"
    series = [name.removesuffix("_confidence") for name in wrong if name.endswith("_confidence")]
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
        for row in wrong[:LISTED].to_dict("records")
    ]
    more = f"\nand {len(wrong) - LISTED} more.\n" if len(wrong) > LISTED else ""
    header = ["clip", "spoken", *map(display_name, series), "accepted"]
    return table(header, rows) + more
