"""Thousands of sound files decoded by all cores, once, into a file that is mapped.

Samples are appended to one file and described by a journal beside it, a line a chunk; so what was
interrupted, in whatever way, goes on with the next chunk. The files' names hold a digest of the
recordings' paths, sizes and times: other recordings make other files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

import config
import utils
from corpora import storage
from corpora.decoding_workers import Decoded, Workers, decode_files, joined

VERSION = 1
"""Counted up whenever decoding or the files' layout changes, so that old ones are not used."""
PARALLEL_FROM = 400
"""Files that are worth starting processes for."""
KEEP_FROM = 1000
"""Files that are worth keeping decoded."""
CHUNK_FILES, CHUNK_BYTES = 64, 4 << 20
"""Files, and bytes of files, that are decoded together at most."""


def decode(
    paths: Sequence[Path], audio: config.AudioSettings, cache: Path | None = None, what: str = ""
) -> Decoded:
    """Decode files to ``audio.sample_rate``, by all cores where there are many.

    Parameters
    ----------
    paths : the files
    audio : the rate, and the longest recording accepted
    cache : folder to keep many decoded files in; None keeps them in memory
    what : the collection's name: of several versions of one, the latest is kept
    """
    chunks = _chunks(paths)
    if cache is None or len(paths) < KEEP_FROM:
        return joined(list(_decoded(chunks, audio, tqdm(total=len(paths), **_BAR))))
    store = Store(cache, what, _key(paths, audio), audio.sample_rate)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with utils.locked(store.journal):
            return store.complete(chunks, audio)
    except PermissionError as error:
        print(f"warning: decoded in memory: {error.filename}: {error.strerror}", file=sys.stderr)
        return decode(paths, audio)


_BAR: dict[str, Any] = {"unit": "file", "desc": "decoding", "leave": False, "disable": None}


def _chunks(paths: Sequence[Path]) -> list[list[Path]]:
    """The paths in order, in lists of few and small files."""
    chunks: list[list[Path]] = []
    total = 0
    for path in paths:
        size = path.stat().st_size if path.is_file() else 0
        full = total + size > CHUNK_BYTES or bool(chunks) and len(chunks[-1]) == CHUNK_FILES
        if not chunks or full:
            chunks.append([])
            total = 0
        chunks[-1].append(path)
        total += size
    return chunks


def _key(paths: Sequence[Path], audio: config.AudioSettings) -> str:
    """Changes when a file is added, removed, renamed or written to, or is decoded otherwise."""
    digest = hashlib.sha256(f"{VERSION} {audio.sample_rate} {audio.max_seconds}".encode())
    for path in paths:
        facts = path.stat() if path.is_file() else None
        state = (facts.st_size, facts.st_mtime_ns) if facts else ()
        digest.update(f"{path.absolute()} {state}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


class Store:
    """The two files of a decoded collection: samples, and the journal of its chunks."""

    def __init__(self, folder: Path, what: str, key: str, sample_rate: int) -> None:
        name = hashlib.sha256(what.encode(errors="surrogateescape")).hexdigest()[:8]
        self.folder, self.stem = folder, f"decoded-{name}-{sample_rate}"
        self.samples = folder / f"{self.stem}-{key}.int16"
        self.journal = folder / f"{self.stem}-{key}.jsonl"

    def complete(self, chunks: Sequence[Sequence[Path]], audio: config.AudioSettings) -> Decoded:
        """Decode what the files lack, remove earlier versions of the collection, map the samples.

        Raises
        ------
        OSError : no room; what is decoded is kept, and the next call goes on
        """
        lines = self._whole_lines()
        total = sum(map(len, chunks))
        if len(lines) < len(chunks):
            done = sum(len(line["lengths"]) for line in lines)
            with tqdm(total=total, initial=done, **_BAR) as bar:
                lines += self._append(chunks[len(lines) :], audio, bar)
        self._remove_others()
        parts = [_described(line) for line in lines]
        decoded = joined(parts)
        size = int(decoded.lengths.sum())
        samples = np.memmap(self.samples, "<i2", "r", shape=(size,)) if size else decoded.samples
        return Decoded(samples, decoded.lengths, decoded.errors)

    def _whole_lines(self) -> list[dict]:
        """The journal as far as it and the samples are whole; both files end there then.

        Nobody maps unfinished files, so they may be cut; damaged ones are begun anew.
        """
        lines: list[dict] = []
        whole = end = 0
        try:
            with open(self.journal, "rb") as journal, open(self.samples, "rb") as samples:
                for text in journal:
                    if not text.endswith(b"\n"):  # killed while it was written
                        break
                    line = json.loads(text)
                    size = 2 * sum(line["lengths"])
                    if _crc(samples, size) != line["crc"]:
                        raise ValueError
                    lines.append(line)
                    whole, end = whole + len(text), end + size
        except (OSError, ValueError, KeyError, TypeError):
            for path in (self.samples, self.journal):
                path.unlink(missing_ok=True)
            return []
        for path, size in ((self.journal, whole), (self.samples, end)):
            if path.stat().st_size != size:
                os.truncate(path, size)
        return lines

    def _append(
        self, chunks: Sequence[Sequence[Path]], audio: config.AudioSettings, bar: tqdm
    ) -> Iterator[dict]:
        with (
            _named(self.samples),
            open(self.samples, "ab") as samples,
            open(self.journal, "ab") as journal,
        ):
            for part in _decoded(chunks, audio, bar):
                data = part.samples.astype("<i2", copy=False).tobytes()
                line = {
                    "lengths": part.lengths.tolist(),
                    "errors": part.errors,
                    "crc": zlib.crc32(data),
                }
                samples.write(data)
                samples.flush()
                journal.write(json.dumps(line).encode() + b"\n")  # after the samples
                journal.flush()
                yield line

    def _remove_others(self) -> None:
        for path in self.folder.glob(f"{self.stem}-*"):
            if path not in (self.samples, self.journal):
                with contextlib.suppress(OSError):  # mapped by another process, on Windows
                    path.unlink()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """A full disk names no file: name one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _crc(file: BinaryIO, size: int) -> int | None:
    """CRC-32 of the next `size` bytes; None where the file has fewer."""
    value = 0
    while size:
        block = file.read(min(size, storage.BLOCK_BYTES))
        if not block:
            return None
        value, size = zlib.crc32(block, value), size - len(block)
    return value


def _described(line: dict) -> Decoded:
    errors = {int(number): text for number, text in line["errors"].items()}
    return Decoded(np.zeros(0, np.int16), np.array(line["lengths"], np.int64), errors)


def _decoded(
    chunks: Sequence[Sequence[Path]], audio: config.AudioSettings, bar: tqdm
) -> Iterator[Decoded]:
    """Each chunk decoded, in order."""
    files = sum(map(len, chunks))
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(contextlib.closing(bar))
        parts: Iterable[Decoded] = (decode_files(chunk, audio) for chunk in chunks)
        if files >= PARALLEL_FROM:
            workers = stack.enter_context(Workers(utils.available_cores(), audio))
            parts = workers.decode(chunks)
        for part in parts:
            bar.update(len(part.lengths))
            yield part
