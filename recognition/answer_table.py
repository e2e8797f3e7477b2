"""Answers as a table: one row a file, as CSV, JSON lines or Parquet.

Names of files are written so that any table holds them and any program gets them back: a name that
begins with =, +, - or @ (a formula for a spreadsheet) is written as ./name, which is the same file,
and one with control characters or with bytes that are not UTF-8 as a file: address (RFC 8089).
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import utils

if TYPE_CHECKING:  # torch takes seconds to import
    from recognition.digit_strings import StringResult
    from recognition.recognizer import RecognitionResult

COLUMNS = {
    "path": str,
    "digit": int,
    "best_guess": int,
    "confidence": float,
    "accepted": bool,
    "cnn_digit": int,
    "cnn_confidence": float,
    "rnn_digit": int,
    "rnn_confidence": float,
    "speech_start_s": float,
    "speech_end_s": float,
    "snr_db": float,
    "error": str,
    "n_digits": int,
    "remarks": str,
}
"""The table's columns and the kind of their values; any value may be missing but the path."""
LABEL = "label"
"""The column, only where labels are no digits, that names the label; digit is its number."""
STRING_COLUMNS = {
    "path": str,
    "digits": str,
    "confidence": float,
    "starts": str,
    "ends": str,
    "error": str,
    "remarks": str,
}
"""The same of whole strings; starts and ends are s, one a digit, with spaces between."""
FORMATS = (".csv", ".jsonl", ".parquet")
GROUP = 8192
"""Rows of a Parquet file that are kept in memory and written together."""
FORMULA = ("=", "+", "-", "@")
"""A cell that begins so is a formula for a spreadsheet."""

Row = dict[str, Any]
CsvDialect = Literal["plain", "excel", "excel-semicolon"]


BAD_SHOWN = 10
"""Unreadable files that are told one by one."""


@dataclass
class Tally:
    """What a table holds: rows, rows with a digit, unreadable files and the first of them."""

    files: int = 0
    found: int = 0
    unreadable: int = 0
    bad: list[Row] = field(default_factory=list)

    def add(self, rows: Iterable[Row]) -> Tally:
        """Count rows of digits or of strings."""
        for row in rows:
            self.files += 1
            self.found += row.get("digit") is not None or bool(row.get("digits"))
            if row["error"] is not None:
                self.unreadable += 1
                self.bad += [row][: BAD_SHOWN - len(self.bad)]
        return self

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The same rows, counted as they go by."""
        for row in rows:
            self.add([row])
            yield row

    def join(self, other: Tally) -> None:
        """Add what another one counted."""
        self.files += other.files
        self.found += other.found
        self.unreadable += other.unreadable
        self.bad += other.bad[: BAD_SHOWN - len(self.bad)]


def answer_row(name: str, result: RecognitionResult) -> Row:
    """The row of one recording."""
    answer = result.prediction
    row = empty_row(name) | {
        "digit": answer.digit,
        "best_guess": answer.best_guess,
        "confidence": round(answer.confidence, 4),
        "accepted": answer.accepted,
        "n_digits": result.n_digits,
        "remarks": "; ".join(result.remarks) or None,
    }
    for network in ("cnn", "rnn"):
        if network in answer.predictions:
            said = answer.predictions[network]
            row[f"{network}_digit"] = said.digit
            row[f"{network}_confidence"] = round(said.confidence, 4)
    if not result.vocabulary.is_digits:
        row[LABEL] = answer.label
    if result.speech.size and result.cleaned is not None:
        measured = result.measured()
        row |= {name: measured[name] for name in ("speech_start_s", "speech_end_s", "snr_db")}
    return row


def string_row(name: str, result: StringResult) -> Row:
    """The row of one recording that may hold a whole string."""
    return empty_row(name, STRING_COLUMNS) | {
        "digits": result.digits,
        "confidence": round(result.confidence, 4) if result.spoken else None,
        "starts": " ".join(f"{one.start_s:.2f}" for one in result.spoken),
        "ends": " ".join(f"{one.end_s:.2f}" for one in result.spoken),
        "remarks": "; ".join(result.remarks) or None,
    }


def error_row(name: str, error: str, columns: Iterable[str] = COLUMNS) -> Row:
    """The row of a file that could not be answered: nothing but why."""
    return empty_row(name, columns) | {"error": error}


def columns_of(rows: Iterable[Row]) -> dict[str, type]:
    """The columns of answers: one more where labels are no digits."""
    return COLUMNS | ({LABEL: str} if any(LABEL in row for row in rows) else {})


def empty_row(name: str, columns: Iterable[str] = COLUMNS) -> Row:
    """A row in which only the file's name is known."""
    return dict.fromkeys(columns) | {"path": name}


def path_cell(name: str) -> str:
    """A file's name as the table holds it; as a path or an address it names the same file."""
    if utils.printable(name) != name:
        return Path(os.path.abspath(name)).as_uri()
    return f"./{name}" if name.startswith(FORMULA) and name != "-" else name


def write_table(
    rows: Iterable[Row],
    path: Path,
    dialect: CsvDialect = "plain",
    columns: Mapping[str, type] = COLUMNS,
) -> None:
    """Write rows, atomically, in the format that the name of `path` ends in.

    CSV is UTF-8 with commas. Excel takes it for the system's old encoding unless it begins with a
    byte-order mark: dialect "excel" writes one. Where Excel's lists have semicolons (and decimal
    commas), "excel-semicolon" does as well.
    """
    rows = (row | {"path": path_cell(row["path"])} for row in rows)
    with utils.atomic_path(path) as temporary:
        if path.suffix.lower() == ".parquet":
            write_parquet(rows, temporary, columns)
        elif path.suffix.lower() == ".jsonl":
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            write_csv(rows, temporary, dialect, columns)


def write_csv(
    rows: Iterable[Row], path: Path, dialect: CsvDialect, columns: Mapping[str, type] = COLUMNS
) -> None:
    """Write rows as CSV; see :func:`write_table`."""
    plain, semicolon = dialect == "plain", dialect == "excel-semicolon"
    with path.open("w", encoding="utf-8" if plain else "utf-8-sig", newline="") as file:
        table = csv.writer(
            file, delimiter=";" if semicolon else ",", lineterminator="\n" if plain else "\r\n"
        )
        table.writerow(columns)
        for row in rows:
            cells = [row.get(name) for name in columns]
            table.writerow(map(_with_comma, cells) if semicolon else cells)


def _with_comma(value: Any) -> Any:
    return str(value).replace(".", ",") if isinstance(value, float) else value


def write_parquet(rows: Iterable[Row], path: Path, columns: Mapping[str, type] = COLUMNS) -> None:
    """Write rows as Parquet, a group at a time; whole numbers stay whole where some are missing."""
    from pyarrow import parquet

    rows = iter(rows)
    with parquet.ParquetWriter(path, arrow_table([], columns).schema) as writer:
        while group := list(itertools.islice(rows, GROUP)):
            writer.write_table(arrow_table(group, columns))


def arrow_table(rows: list[Row], columns: Mapping[str, type] = COLUMNS) -> Any:
    """Rows as a pyarrow table; what a row lacks is missing in it."""
    import pyarrow

    kinds = {
        str: pyarrow.string(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        bool: pyarrow.bool_(),
    }
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    return pyarrow.Table.from_pylist(rows, schema)
