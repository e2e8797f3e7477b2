"""Many files at once: a table, and where names carry labels, how many answers are right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import config
from recognition.answer_table import Row, answer_row, error_row, write_table
from webapp import uploads
from webapp.service import RecognitionService
from webapp.uploads import Refused, Source

COLUMNS = ("file", "digit", "confidence", "spoken", "CNN", "BiLSTM", "remarks")
"""Columns of the table on the page; the CSV has those of batch_inference.py."""


def answers(service: RecognitionService, sources: list[Source]) -> Iterator[Row]:
    """A row for each recording, as batch_inference.py has them."""
    for name, source in sources:
        try:
            answer = service.recognize(name, source, "batch")
            yield answer_row(answer.result.recording.source, answer.result)
        except Refused as error:
            name = uploads.safe_name(name)
            yield error_row(name, str(error).removeprefix(f"{name}: "))


def shown_row(row: Row) -> list[Any]:
    """A row as the page shows it."""
    label = uploads.label_of(row["path"])
    digit = row["digit"]
    return [
        row["path"],
        "" if row["error"] else "no digit" if digit is None else str(digit),
        row["confidence"],
        "" if label is None else str(label),
        row["cnn_digit"],
        row["rnn_digit"],
        row["error"] or row["remarks"] or "",
    ]


def labelled(rows: list[Row]) -> list[tuple[int, int]]:
    """Label and answer of the rows whose names carry a label; "no digit" is an answer too."""
    pairs = []
    for row in rows:
        label = uploads.label_of(row["path"])
        if label is not None and row["error"] is None:
            pairs.append((label, config.REJECT if row["digit"] is None else row["digit"]))
    return pairs


def write_csv(rows: list[Row], folder: Path) -> Path:
    """The table as a file."""
    path = folder / "answers.csv"
    write_table(rows, path)
    return path
