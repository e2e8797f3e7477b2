"""The answers of a run in progress, on disk: a stopped one goes on, and any number of them fit."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import utils
from recognition.answer_table import COLUMNS, LABEL, Row, columns_of

Stamps = Mapping[str, list[int] | None]
"""What tells whether a file is still the same, by the file's name; None where there is no file."""
NOWHERE = -1


class AnswerJournal:
    """JSON lines: what the run was asked, then [stamp, row] for each answered file.

    In memory is only where each row lies. A context manager; without an answer it leaves no file.

    Parameters
    ----------
    path : the file; if a stopped run left one, it is taken over without the rows of files that have
        changed since
    asked : what both runs must have in common for that; else this one starts over
    stamps : of all files, taken before they are read: a later change is then noticed
    """

    def __init__(self, path: Path, asked: Row, stamps: Stamps) -> None:
        self.path = path
        self.columns: Mapping[str, type] = COLUMNS
        """Those of the rows so far."""
        self._stamps = stamps
        self._places: dict[str, int] = dict.fromkeys(stamps, NOWHERE)
        self._count = 0
        self._file: BinaryIO
        with utils.atomic_path(path) as temporary, temporary.open("wb") as self._file:
            self._file.write(json.dumps(asked).encode() + b"\n")
            self._write(self._left(asked))
        self._file = path.open("r+b")
        self._file.seek(0, os.SEEK_END)

    def __enter__(self) -> AnswerJournal:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if not self._count:  # nothing to go on from, for instance without networks
            self.path.unlink(missing_ok=True)

    def __contains__(self, name: str) -> bool:
        return self._places.get(name, NOWHERE) != NOWHERE

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows, and see that they are on disk."""
        self._write(rows)
        self._file.flush()
        os.fsync(self._file.fileno())

    def rows(self, names: Iterable[str]) -> Iterator[Row]:
        """The rows of answered files, in the order of their names here.

        Raises
        ------
        KeyError : a file that has no answer
        """
        with self.path.open("rb") as file:
            for name in names:
                if name not in self:
                    raise KeyError(name)
                file.seek(self._places[name])
                yield json.loads(file.readline())[1]

    def _write(self, rows: Iterable[Row]) -> None:
        """Add lines where the file is, and note where they lie."""
        place = self._file.tell()
        for row in rows:
            line = json.dumps([self._stamps.get(row["path"]), row]).encode() + b"\n"
            self._count += row["path"] not in self
            self._places[row["path"]] = place
            place += self._file.write(line)
            if LABEL in row:
                self.columns = columns_of([row])

    def _left(self, asked: Row) -> Iterator[Row]:
        """What a stopped run left that can be used."""
        changed = 0
        with (
            contextlib.suppress(FileNotFoundError),
            self.path.open("rb") as file,
            contextlib.suppress(ValueError, KeyError, TypeError),  # cut by a crash
        ):
            first = file.readline()
            if first.endswith(b"\n") and json.loads(first) != asked:
                name = self.path.name
                print(
                    f"{name} was made with other settings or networks: starting over",
                    file=sys.stderr,
                )
                return
            for line in file:
                answered, row = json.loads(line)
                now = self._stamps.get(row["path"])
                if answered is not None and answered == now:
                    yield row
                changed += answered != now is not None
        if changed:
            print(f"{changed} files have changed since: answered anew", file=sys.stderr)
