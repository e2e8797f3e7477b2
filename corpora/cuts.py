"""Short clips that were cut from published recordings, cut again from anybody's copy of these.

Nobody needs to repeat the forced alignment or the choice of clips: a table gives each clip's
length, a fingerprint of 64 samples in its middle and a digest of all its samples. In a recording
the fingerprints of all places are compared with the table (Rabin-Karp), so neither names nor
places of the recordings matter, and what is cut is the clip to the last sample.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import audio_io
from corpora import archives
from corpora.archives import DataError

WINDOW = 64
"""Samples in a fingerprint."""
FACTOR = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2 ** 64."""
DROPPED_BITS = 16
"""Low bits of a fingerprint that are left out: they are the least mixed."""
MAX_SECONDS = 60.0
"""s. Longer recordings are passed over."""
NAMED_CLIPS = 3
"""Clips named in a message; the rest is counted."""


@dataclass(frozen=True)
class Cut:
    """A clip, and how it is told."""

    folder: str
    """Where it goes, such as more_speakers/an4."""
    name: str
    """WORD_SPEAKER_TAKE, without suffix."""
    length: int
    """Samples."""
    fingerprint: int
    """Of the samples from length // 2 on, see :func:`fingerprints`."""
    digest: str
    """The first six hexadecimal digits of the SHA-256 of its samples."""


def cut_of(folder: str, name: str, samples: np.ndarray) -> Cut:
    """The table's entry of a clip, int16 (samples,)."""
    middle = samples[len(samples) // 2 :][:WINDOW]
    return Cut(folder, name, len(samples), int(fingerprints(middle)[0]), _digest(samples))


def fingerprints(samples: np.ndarray) -> np.ndarray:
    """A 48-bit number for each stretch of 64 samples: uint64 (samples - 63,) of int16 (samples,).

    The sum of sample i times FACTOR ** i, modulo 2 ** 64.
    """
    places = len(samples) - WINDOW + 1
    if places < 1:
        return np.zeros(0, np.uint64)
    powers, inverses = _powers(1 << (len(samples) - 1).bit_length())
    terms = samples.astype(np.int64).view(np.uint64) * powers[: len(samples)]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])
    return ((sums[WINDOW:] - sums[:-WINDOW]) * inverses[:places]) >> np.uint64(DROPPED_BITS)


@functools.lru_cache(maxsize=2)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The powers of FACTOR and of its inverse, uint64 (count,) each."""

    def powers(factor: int) -> np.ndarray:
        factors = np.full(count, factor, np.uint64)
        factors[0] = 1
        return np.cumprod(factors, dtype=np.uint64)

    return powers(FACTOR), powers(pow(FACTOR, -1, 1 << 64))


def _is(samples: np.ndarray, cut: Cut) -> bool:
    return _digest(samples) == cut.digest


def _digest(samples: np.ndarray) -> str:
    return hashlib.sha256(samples.astype("<i2", copy=False).tobytes()).hexdigest()[:6]


def write_table(path: Path, cuts: Iterable[Cut]) -> None:
    """A line for each folder, and below it one for each of its clips."""
    lines: list[str] = []
    folder = ""
    for cut in cuts:
        if cut.folder != folder:
            folder = cut.folder
            lines.append(f"{folder}:")
        lines.append(f"{cut.name} {cut.length} {cut.fingerprint:012x} {cut.digest}")
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def read_table(path: Path) -> list[Cut]:
    """What :func:`write_table` wrote."""
    cuts, folder = [], ""
    for line in path.read_text(encoding="ascii").splitlines():
        if line.endswith(":"):
            folder = line[:-1]
        else:
            name, length, fingerprint, digest = line.split()
            cuts.append(Cut(folder, name, int(length), int(fingerprint, 16), digest))
    return cuts


class Finder:
    """Finds the clips of a table in recordings, one recording after the other."""

    def __init__(self, cuts: Sequence[Cut]) -> None:
        self.cuts: dict[int, list[Cut]] = {}
        for cut in cuts:
            self.cuts.setdefault(cut.fingerprint, []).append(cut)
        self.wanted = np.array(sorted(self.cuts), np.uint64)
        self.found: dict[Cut, np.ndarray] = {}

    def search(self, samples: np.ndarray) -> None:
        """Cut from a recording, int16 (samples,), all clips that are in it."""
        marks = fingerprints(samples)
        for place in np.flatnonzero(np.isin(marks, self.wanted)):
            for cut in self.cuts[int(marks[place])]:
                start = int(place) - cut.length // 2
                clip = samples[max(start, 0) : start + cut.length]
                if len(clip) == cut.length and cut not in self.found and _is(clip, cut):
                    self.found[cut] = clip.copy()


def cut_archive(
    archive: Path, cuts: Sequence[Cut], wanted: Callable[[str], bool], limits: archives.Limits
) -> dict[Cut, np.ndarray]:
    """All clips of a table, int16 (samples,) each, from the recordings in an archive.

    Parameters
    ----------
    archive : zip or tar.gz
    cuts : the table
    wanted : whether a file of the archive, by its full name, may hold some of them
    limits : of the archive

    Raises
    ------
    DataError : unsafe, damaged or too large; a clip isn't in it
    """
    finder = Finder(cuts)
    for name, content in archives.select(archive, wanted, limits):
        try:
            waveform, _ = audio_io.read_audio(content, max_seconds=MAX_SECONDS)
        except audio_io.AudioError as error:
            raise DataError(f"{archive}: {name}: {error}") from None
        finder.search(audio_io.to_int16(waveform))
    lost = [f"{cut.folder}/{cut.name}" for cut in cuts if cut not in finder.found]
    if lost:
        some = ", ".join(lost[:NAMED_CLIPS]) + (", ..." if len(lost) > NAMED_CLIPS else "")
        raise DataError(f"{archive}: {len(lost)} of {len(cuts)} clips are not in it ({some})")
    return finder.found


def write_clips(clips: Mapping[Cut, np.ndarray], base: Path, sample_rate: int) -> None:
    """Write clips as WAV files below a folder; each folder of the table whole or not at all."""
    for folder in dict.fromkeys(cut.folder for cut in clips):
        with archives.new_folder(base / folder) as temporary:
            for cut, samples in clips.items():
                if cut.folder == folder:
                    path = temporary / f"{cut.name}.wav"
                    audio_io.write_audio(path, samples, sample_rate)
