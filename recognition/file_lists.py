"""Which recordings are to be answered: files, folders, wildcards, manifests, object stores."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import audio_io
import config
from recognition import object_stores
from recognition.object_stores import address_of

COLUMN = "path"
"""The column of a manifest that names the recordings."""
ROWS = 4096
"""Rows of a manifest that are read at a time."""
UNKNOWN = [0, 0]
"""The stamp of a file in a store that a manifest names: asking for millions would take days."""


class Item(NamedTuple):
    """A recording: what it is called, where it lies, and its stamp [bytes, ns]."""

    name: str
    place: str
    """An absolute path, or the address in an object store."""
    stamp: list[int] | None
    """None where there is no such file."""


def find_files(paths: Iterable[Path]) -> audio_io.AudioFiles:
    """All files named, and all sound files below the folders named, each once.

    Raises
    ------
    UserError : there are none
    """
    found = audio_io.expand_paths(paths)
    if not found.paths:
        raise config.UserError(
            f"no sound files in {', '.join(map(str, paths))}: "
            f"{found.remark() or 'looked for ' + ' '.join(audio_io.AUDIO_SUFFIXES)}"
        )
    return found


def stamp(path: Path | str) -> list[int] | None:
    """Size and time of a file, which tell whether it is still the one that was answered."""
    with contextlib.suppress(OSError, ValueError):
        facts = os.stat(path)
        if stat.S_ISREG(facts.st_mode):
            return [facts.st_size, facts.st_mtime_ns]
    return None


def list_items(words: Iterable[Path], manifest: Path | None) -> Iterator[Item]:
    """Recordings that words of a command line and a manifest name, as they are found.

    Raises
    ------
    UserError : there are none, a store refuses, or the manifest is none
    """
    local = [word for word in words if address_of(word) is None]
    for word in words:
        if address := address_of(word):
            found = object_stores.list_audio(address)
            if not found:
                raise config.UserError(f"no sound files in {address}")
            yield from (Item(name, name, facts) for name, facts in found)
    if local:
        files = find_files(local)
        if files.remark():
            print(files.remark(), file=sys.stderr)
        yield from (_local(str(path)) for path in files.paths)
    if manifest is not None:
        for name in manifest_paths(manifest):
            yield Item(name, name, UNKNOWN) if address_of(name) else _local(name)


def _local(name: str) -> Item:
    place = os.path.abspath(name)
    return Item(name, place, stamp(place))


def manifest_paths(manifest: Path) -> Iterator[str]:
    """The column "path" of a CSV or Parquet file, which may lie in an object store.

    A relative path counts from the manifest's folder.

    Raises
    ------
    UserError : it can't be read, or has no such column
    """
    address = address_of(manifest)
    name = address or str(manifest)
    folder = (address or manifest.as_posix()).rpartition("/")[0]
    read = _parquet_column if manifest.suffix.lower() == ".parquet" else _csv_column
    try:
        with _stream(manifest, address) as stream:
            for path in read(stream, name):
                if path and address_of(path) is None and not os.path.isabs(path) and folder:
                    path = f"{folder}/{path}"
                if path:
                    yield path
    except OSError as error:
        said = object_stores.reason(error, address) if address else error.strerror or error
        raise config.UserError(f"{name}: {said}") from None


def _stream(manifest: Path, address: str | None) -> BinaryIO:
    if address is None:
        return manifest.open("rb")
    system, path = object_stores.opened(address)
    return system.open_input_file(path)


def _csv_column(stream: BinaryIO, name: str) -> Iterator[str]:
    lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        first = lines.readline()
        mark = max(",;\t", key=first.count)
        (columns,) = csv.reader([first], delimiter=mark) if first else ([],)
        index = _column(columns, name)
        for row in csv.reader(lines, delimiter=mark):
            if len(row) > index:
                yield row[index]
    except (UnicodeDecodeError, csv.Error) as error:
        raise config.UserError(f"{name}: no CSV in UTF-8: {error}") from None


def _parquet_column(stream: BinaryIO, name: str) -> Iterator[str]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(stream)
        _column(table.schema_arrow.names, name)
        for batch in table.iter_batches(ROWS, columns=[COLUMN]):
            yield from (str(value) for value in batch[COLUMN].to_pylist() if value is not None)
    except pyarrow.ArrowInvalid as error:
        raise config.UserError(f"{name}: no Parquet file: {error}") from None


def _column(columns: list[str], name: str) -> int:
    if COLUMN not in columns:
        there = ", ".join(columns[:10]) or "none"
        raise config.UserError(f"{name}: no column {COLUMN!r} in this manifest; it has: {there}")
    return columns.index(COLUMN)
