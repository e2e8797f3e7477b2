"""Samples that stay where they are, in arrays or in mapped files, and are read as if joined."""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

COPY_BYTES = 64 << 20
"""Bytes up to which samples are copied: quicker to read, and what they came from can be freed."""
HELD_BYTES = 32 << 20
"""Bytes read from a mapped file after which the system may take back their memory."""
BLOCK_BYTES = 1 << 20
"""Bytes of a file that are read together."""


class Stretches:
    """int16 (total,): stretches of arrays, end to end, none of them copied.

    It is indexed by slices and turned into an array like one; only what is asked for is read.

    Parameters
    ----------
    sources : int16 arrays, perhaps mapped files
    source : int64 (k,); number of the array that each stretch lies in
    starts, lengths : int64 (k,); where it begins there, and its samples
    """

    dtype = np.dtype(np.int16)

    def __init__(
        self,
        sources: Sequence[np.ndarray],
        source: np.ndarray,
        starts: np.ndarray,
        lengths: np.ndarray,
    ) -> None:
        self.sources, self.source, self.starts = tuple(sources), source, starts
        self.ends = np.concatenate([[0], np.cumsum(lengths)])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, wanted: slice) -> np.ndarray:
        first, last, _ = wanted.indices(len(self))
        parts = []
        number = int(np.searchsorted(self.ends, first, "right")) - 1
        while first < last:
            stop = min(last, int(self.ends[number + 1]))
            start = int(self.starts[number]) + first - int(self.ends[number])
            parts.append(self.sources[self.source[number]][start : start + stop - first])
            first, number = stop, number + 1
        return join(parts)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)


Samples = np.ndarray | Stretches
"""int16 (total,)."""


def join(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays end to end; a single one as it is."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)


def pick(samples: Samples, starts: np.ndarray, lengths: np.ndarray) -> Samples:
    """The stretches that begin at `starts`, end to end; many are referred to, few copied."""
    if 2 * lengths.sum() <= COPY_BYTES:
        parts = zip(starts, starts + lengths, strict=True)
        return np.concatenate([samples[:0], *(samples[start:end] for start, end in parts)])
    if isinstance(samples, np.ndarray):
        return Stretches([samples], np.zeros(len(starts), np.int64), starts, lengths)
    # a clip lies in one stretch, since sets are joined and picked from clip by clip
    number = np.searchsorted(samples.ends[1:-1], starts, "right")
    inner = samples.starts[number] + starts - samples.ends[number]
    return Stretches(samples.sources, samples.source[number], inner, lengths)


def chain(sets: Sequence[Samples]) -> Samples:
    """Several sets of samples end to end; large ones are referred to."""
    if 2 * sum(map(len, sets)) <= COPY_BYTES:
        return np.concatenate([np.asarray(samples) for samples in sets])
    sources: list[np.ndarray] = []
    columns: list[tuple[np.ndarray, ...]] = []
    for samples in sets:
        if isinstance(samples, np.ndarray):
            nothing = np.zeros(1, np.int64)
            samples = Stretches([samples], nothing, nothing, nothing + len(samples))
        columns.append((samples.source + len(sources), samples.starts, np.diff(samples.ends)))
        sources += samples.sources
    source, starts, lengths = map(np.concatenate, zip(*columns, strict=True))
    return Stretches(sources, source, starts, lengths)


def release(samples: Samples) -> None:
    """Let the system take back the memory of what was read from mapped files; nothing is lost."""
    for source in samples.sources if isinstance(samples, Stretches) else (samples,):
        owner: Any = source
        while owner is not None and not isinstance(owner, mmap.mmap):
            owner = getattr(owner, "base", None)
        if owner is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            owner.madvise(mmap.MADV_DONTNEED)


def map_array(path: Path, name: str) -> np.ndarray:
    """An array of an uncompressed .npz file, mapped rather than read, after its CRC was compared.

    Raises
    ------
    ValueError, KeyError, BadZipFile, OSError : it is damaged, or not there
    """
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0) or member.compress_type != zipfile.ZIP_STORED:
                raise ValueError
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            header = stream.tell()
            while stream.read(BLOCK_BYTES):  # raises BadZipFile at the end
                pass
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        local = file.read(30)  # APPNOTE 4.3.7: its last four bytes are two lengths
    names = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    return np.memmap(path, dtype, "r", member.header_offset + 30 + names + header, shape)
