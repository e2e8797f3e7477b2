"""A folder of answers in Parquet parts, each of them whole or absent, here or in an object store.

A part tells in its metadata with which settings it was made and how each file looked (its stamp),
so that a later run answers only what is new or has changed. Any program reads the folder as one
table: ``pandas.read_parquet(folder)``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import config
import utils
from recognition import object_stores
from recognition.answer_table import Row, Tally, arrow_table, path_cell
from recognition.object_stores import address_of

PREFIX = "part-"
READERS = 8
"""Parts that are read at the same time: a store takes its time for each."""
MADE_WITH, STAMPS = b"made_with", b"stamps"
Stamp = list[int] | None


def hashed(text: str) -> int:
    """64 bits of a text: what millions of names are told apart by, in little memory."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def row_hash(cell: str, stamp: Stamp) -> int:
    """64 bits of a file's name and of how it looked."""
    return hashed(f"{cell}\0{json.dumps(stamp)}")


def _among(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Which values a sorted array holds; bool (values,)."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    places = np.searchsorted(ordered, values)
    return ordered[np.minimum(places, len(ordered) - 1)] == values


@dataclass(frozen=True)
class Contents:
    """What a folder of answers holds: for each row hashes of its path, and of path and stamp."""

    parts: list[str]
    lengths: list[int]
    paths: np.ndarray
    rows: np.ndarray
    tally: Tally

    def answered(self, cells: Sequence[str], stamps: Sequence[Stamp]) -> np.ndarray:
        """Which files have an answer, and look as they did then; bool (files,)."""
        hashes = [row_hash(cell, stamp) for cell, stamp in zip(cells, stamps, strict=True)]
        known = _among(np.array(hashes, np.uint64), self._sorted)
        return known & np.array([stamp is not None for stamp in stamps], bool)

    @functools.cached_property
    def _sorted(self) -> np.ndarray:
        """Sorted once: millions of names are looked up, a thousand at a time."""
        return np.sort(self.rows)

    def doubles(self) -> np.ndarray:
        """Rows whose path an earlier row has too; bool (rows,)."""
        mask = np.ones(len(self.paths), bool)
        mask[np.unique(self.paths, return_index=True)[1]] = False
        return mask


class AnswerFolder:
    """The folder that parts are written to and read from.

    Parameters
    ----------
    name : a path, or an address in an object store
    columns : of the table, with the kind of their values
    made_with : the settings that all parts must have been made with
    """

    def __init__(self, name: Path | str, columns: Mapping[str, type], made_with: Row) -> None:
        self.address = address_of(name)
        self.name = self.address or os.path.abspath(name)
        self.columns, self.made_with = columns, json.dumps(made_with, sort_keys=True)

    @functools.cached_property
    def _opened(self) -> tuple[Any, str]:
        from pyarrow import fs

        if self.address:
            return object_stores.opened(self.address)
        return fs.LocalFileSystem(), self.name

    def __reduce__(self) -> tuple:
        """To another process go the name and the settings, never an open connection."""
        return AnswerFolder, (self.name, self.columns, json.loads(self.made_with))

    def prepare(self) -> None:
        """Make the folder, and remove what killed processes left unfinished.

        Raises
        ------
        UserError : it can't be written to
        """
        system, path = self._opened
        with object_stores.told(self.name):
            system.create_dir(path, recursive=True)
        if not self.address:
            for unfinished in Path(self.name).glob(f".{PREFIX}*"):
                with contextlib.suppress(OSError):
                    unfinished.unlink()

    def write(self, number: int, rows: Sequence[Row], stamps: Sequence[Stamp]) -> None:
        """Write a part. The same files make the same name, so doing it again doubles no row."""
        rows = [row | {"path": path_cell(row["path"])} for row in rows]
        table = arrow_table(rows, self.columns).replace_schema_metadata(
            {MADE_WITH: self.made_with, STAMPS: json.dumps(list(stamps))}
        )
        names = "\n".join(row["path"] for row in rows)
        self._put(f"{PREFIX}{number:06d}-{hashed(names):016x}.parquet", table)

    def _put(self, part: str, table: Any) -> None:
        from pyarrow import parquet

        system, path = self._opened
        if not self.address:
            with utils.atomic_path(Path(path, part)) as temporary:
                parquet.write_table(table, temporary)
            return
        content = io.BytesIO()  # a store keeps what it got when writing fails half way
        parquet.write_table(table, content)
        with system.open_output_stream(f"{path}/{part}") as stream:
            stream.write(content.getvalue())

    def _get(self, part: str, columns: list[str] | None = None) -> Any:
        from pyarrow import parquet

        system, path = self._opened
        with system.open_input_file(f"{path}/{part}") as file:
            return parquet.read_table(file, columns=columns)

    def contents(self) -> Contents:
        """What is there.

        Raises
        ------
        UserError : parts that were made with other settings or networks, or are damaged
        """
        from pyarrow import fs

        system, path = self._opened
        with object_stores.told(self.name):
            found = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
            parts = sorted(
                facts.base_name
                for facts in found
                if facts.base_name.startswith(PREFIX) and facts.base_name.endswith(".parquet")
            )
            lengths, tally = [], Tally()
            paths, rows = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
            with ThreadPoolExecutor(READERS) as readers:
                for hashes, counted in readers.map(self._scan, parts):
                    tally.join(counted)
                    lengths.append(hashes.shape[1])
                    paths.append(hashes[0])
                    rows.append(hashes[1])
        return Contents(parts, lengths, np.concatenate(paths), np.concatenate(rows), tally)

    def _scan(self, part: str) -> tuple[np.ndarray, Tally]:
        """Hashes of a part's paths, and of paths with stamps, uint64 (2, rows); and counts."""
        import pyarrow

        wanted = [name for name in ("path", "digit", "digits", "error") if name in self.columns]
        try:
            table = self._get(part, wanted)
            facts = table.schema.metadata
            made_with, stamps = facts[MADE_WITH].decode(), json.loads(facts[STAMPS])
        except (pyarrow.ArrowInvalid, KeyError, TypeError, ValueError):
            raise config.UserError(
                f"{self.name}/{part}: damaged, or no part of ours; remove it"
            ) from None
        if made_with != self.made_with:
            raise config.UserError(
                f"{self.name}: holds answers made with other settings or networks; name another "
                "folder, or remove it"
            )
        rows = table.to_pylist()
        cells = [row["path"] for row in rows]
        pairs = zip(cells, stamps, strict=True)
        hashes = [[hashed(cell) for cell in cells], [row_hash(*pair) for pair in pairs]]
        return np.array(hashes, np.uint64).reshape(2, len(rows)), Tally().add(rows)

    def drop(self, contents: Contents, mask: np.ndarray) -> None:
        """Write those parts anew that hold rows in `mask`, bool (rows,), without these rows."""
        system, path = self._opened
        last = 0
        for part, length in zip(contents.parts, contents.lengths, strict=True):
            kept = ~mask[last : last + length]
            last += length
            if kept.all():
                continue
            if not kept.any():
                system.delete_file(f"{path}/{part}")
                continue
            table = self._get(part)
            stamps = json.loads(table.schema.metadata[STAMPS])
            stamps = [stamp for stamp, keep in zip(stamps, kept, strict=True) if keep]
            metadata = {**table.schema.metadata, STAMPS: json.dumps(stamps)}
            self._put(part, table.filter(kept).replace_schema_metadata(metadata))
