"""A labelled set of recordings: one flat array of samples, one row of labels a clip, one file."""

from __future__ import annotations

import dataclasses
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import audio_io
import utils
from corpora import storage


@dataclass
class Clips:
    """Recordings of one rate, with what is known of each.

    The samples lie end to end in one array, so that thousands of clips of different length load,
    copy and hash as quickly as one file. Those of a large set stay in their file, which is mapped,
    and those of its subsets too.
    """

    samples: storage.Samples
    """int16 (total,); all clips end to end; in large sets perhaps a mapped file, or parts of it."""
    offsets: np.ndarray
    """int64 (n + 1,); clip i is samples[offsets[i]:offsets[i + 1]]."""
    labels: np.ndarray
    """int64 (n,); 0 to 9, or config.REJECT for a non-digit."""
    speakers: np.ndarray
    """str (n,); who speaks."""
    names: np.ndarray
    """str (n,); the file's name, or the recipe of a synthetic clip."""
    takes: np.ndarray
    """int64 (n,); number of the recording for this digit and speaker."""
    corpus: np.ndarray
    """str (n,); the collection each clip comes from."""
    sample_rate: int
    """Hz, of every clip."""

    def __post_init__(self) -> None:
        self._handed_out = 0
        if not isinstance(self.samples, storage.Stretches):
            self.samples = np.asarray(self.samples, np.int16)
        self.offsets = np.asarray(self.offsets, np.int64)
        self.labels = np.asarray(self.labels, np.int64)
        self.takes = np.asarray(self.takes, np.int64)
        self.speakers = np.asarray(self.speakers, np.str_)
        self.names = np.asarray(self.names, np.str_)
        self.corpus = np.asarray(self.corpus, np.str_)
        columns = (self.labels, self.speakers, self.names, self.takes, self.corpus)
        if {column.shape for column in columns} != {(len(self.offsets) - 1,)}:
            raise ValueError("each clip needs a digit, speaker, name, take and corpus")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.samples):
            raise ValueError("the offsets don't span the samples")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def durations(self) -> np.ndarray:
        """float64 (n,); seconds."""
        return np.diff(self.offsets) / self.sample_rate

    def stored(self, index: int) -> np.ndarray:
        """Clip `index` as it is stored, int16 (samples,); what lies in a file is read when used.

        Who goes through a large set takes no more memory than :data:`storage.HELD_BYTES` for it.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        index %= len(self)
        samples = self.samples[self.offsets[index] : self.offsets[index + 1]]
        self._handed_out += samples.nbytes
        if self._handed_out > storage.HELD_BYTES:
            storage.release(self.samples)
            self._handed_out = 0
        return samples

    def waveform(self, index: int) -> np.ndarray:
        """Clip `index` as float32 (samples,) in [-1, 1)."""
        return audio_io.to_float(self.stored(index))

    def subset(self, indices: Sequence[int] | np.ndarray) -> Clips:
        """The clips at `indices` (integers, repeats allowed, or a boolean mask), in that order."""
        wanted = np.asarray(indices, dtype=None if len(indices) else np.int64)
        chosen = np.arange(len(self))[wanted]
        starts, lengths = self.offsets[chosen], np.diff(self.offsets)[chosen]
        return Clips(
            storage.pick(self.samples, starts, lengths),
            _offsets(lengths),
            self.labels[chosen],
            self.speakers[chosen],
            self.names[chosen],
            self.takes[chosen],
            self.corpus[chosen],
            self.sample_rate,
        )

    @classmethod
    def from_waveforms(
        cls,
        waveforms: Sequence[np.ndarray],
        labels: Sequence[int],
        speakers: Sequence[str],
        names: Sequence[str],
        takes: Sequence[int],
        corpus: str | Sequence[str],
        sample_rate: int,
    ) -> Clips:
        """Make a set from separate waveforms.

        Parameters
        ----------
        waveforms : n arrays (samples,); float in [-1, 1], or int16, which is kept as it is
        labels, speakers, names, takes : one value a clip
        corpus : one name for all, or one a clip
        sample_rate : Hz
        """
        parts = [audio_io.to_int16(waveform) for waveform in waveforms]
        corpora = [corpus] * len(parts) if isinstance(corpus, str) else corpus
        return cls(
            storage.join(parts),
            _offsets([len(part) for part in parts]),
            np.asarray(labels),
            np.asarray(speakers),
            np.asarray(names),
            np.asarray(takes),
            np.asarray(corpora),
            sample_rate,
        )

    def save(self, path: Path, key: str) -> None:
        """Write one uncompressed .npz file, atomically; `key` says what the set was made of."""
        columns = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        columns["samples"] = np.asarray(self.samples)
        with utils.atomic_path(path) as temporary:
            np.savez(temporary, key=np.asarray(key), **columns)

    @classmethod
    def load(cls, path: Path, key: str) -> Clips | None:
        """Read what :meth:`save` wrote; None where it is missing, damaged or has another key."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                if str(stored["key"]) != key:
                    return None
                large = stored.zip.getinfo("samples.npy").file_size > storage.COPY_BYTES
                columns = {
                    field.name: stored[field.name]
                    for field in dataclasses.fields(cls)
                    if not (large and field.name == "samples")
                }
            if large:
                columns["samples"] = storage.map_array(path, "samples")
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        return cls(**{**columns, "sample_rate": int(columns["sample_rate"])})

    @classmethod
    def cached(cls, path: Path, key: str, make: Callable[[], Clips]) -> Clips:
        """Read the set that `key` describes from its file, or make it and write it there.

        Of several processes one makes it, and the others wait. A file that can't be written costs
        a warning.
        """
        stored = cls.load(path, key)
        if stored is not None:
            return stored
        with utils.locked(path):
            stored = cls.load(path, key)
            if stored is not None:
                return stored
            clips = make()
            try:
                clips.save(path, key)
            except OSError as error:
                reason = error.strerror or error
                print(f"warning: no cache for faster loading: {path}: {reason}", file=sys.stderr)
        return clips


def concatenate(sets: Sequence[Clips]) -> Clips:
    """Join several sets of the same sample rate, in order.

    Raises
    ------
    ValueError : no set given, or different sample rates
    """
    rates = {clips.sample_rate for clips in sets}
    if len(rates) != 1:
        raise ValueError(f"sets of one sample rate are needed, not of {sorted(rates)}")
    starts = np.cumsum([0, *(len(clips.samples) for clips in sets)])
    offsets = [clips.offsets[:-1] + start for clips, start in zip(sets, starts, strict=False)]

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(clips, name) for clips in sets])

    return Clips(
        storage.chain([clips.samples for clips in sets]),
        np.concatenate([*offsets, starts[-1:]]),
        column("labels"),
        column("speakers"),
        column("names"),
        column("takes"),
        column("corpus"),
        rates.pop(),
    )


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
