"""Sound files: read anything to mono float32, resample, write; find them, and what names them.

A file is judged by what it holds, never by its name (:mod:`audio.decoding`).
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import re
import sys
import urllib.parse
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

import config
import utils
from audio import decoding
from audio.decoding import AudioError

INT16_SCALE = 32768.0
"""A 16-bit sample of -32768 is -1.0 in float, as libsndfile has it."""
_SUFFIXES = (
    "wav wave bwf flac ogg oga opus mp3 mp2 aif aiff aifc au snd caf w64 rf64 sph nist voc xi m4a "
    "m4b mp4 mov 3gp 3g2 amr aac webm weba mka mkv wma asf spx ac3"
)
AUDIO_SUFFIXES = tuple(f".{name}" for name in _SUFFIXES.split())
"""Names of the files that a folder is searched for."""
SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")
"""What Windows and macOS leave in folders, besides names that begin with a dot; in lower case."""
NAMED_FILES = 5
"""Files left out that are named before they are only counted."""
LOUD, OVERSHOOT = 0.9, 1.12
"""Peak that samples beyond full scale are brought to, and the peak (1 dB over) worth a remark."""
QUIET, AUDIBLE = 0.01, 0.1
"""Peak (-40 dBFS) under which finely quantised sound is brought up, and to what."""
FAINTEST, ABSURD = 1e-10, 1e12
"""Peaks beyond which no scale of samples goes: 32-bit integers have steps of 5e-10, end at 2e9."""
SILENT_CHANNEL = 1e-3
"""Level, of the loudest channel's, under which a channel holds no sound."""
CANCELLED = 0.25
"""Level of the mix, of the loudest channel's, under which channels cancel each other: -12 dB."""
BLOCK_S = 10.0
"""s of a long recording that are read at once."""
CLEANER_DB = 6.0
"""dB by which a channel must stand out of its noise further than the mix, to be taken alone."""


@dataclass(frozen=True)
class Recording:
    """One recording on its way to an answer."""

    waveform: np.ndarray
    """float32 (samples,), mono, in [-1, 1]."""
    sample_rate: int
    """Hz."""
    source: str = "recording"
    """The file's name, or where else it came from."""
    remarks: tuple[str, ...] = ()
    """What is known of it already, in plain words."""
    live: bool = False
    """Whether a microphone here has just recorded it: only then does advice on microphones help."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.waveform) / self.sample_rate


@dataclass(frozen=True)
class AudioFiles:
    """Sound files by name; iterating gives their paths."""

    paths: list[Path]
    left_out: list[Path]
    """Files that are no sound files by their names."""
    unreadable: list[Path]
    """Folders that could not be looked into."""

    def __iter__(self) -> Iterator[Path]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def remark(self) -> str:
        """One line on what was left out; "" where nothing was."""
        parts = []
        if self.left_out:
            parts.append(f"{len(self.left_out)} left out, no sound files: {_some(self.left_out)}")
        if self.unreadable:
            parts.append(f"{len(self.unreadable)} folders can't be read: {_some(self.unreadable)}")
        return "; ".join(parts)


def _some(paths: list[Path]) -> str:
    names = [utils.printable(path) for path in paths[:NAMED_FILES]]
    return ", ".join(names) + (" ..." if len(paths) > NAMED_FILES else "")


def read_audio(
    source: Path | str | bytes | BinaryIO,
    sample_rate: int | None = None,
    max_seconds: float = config.AudioSettings.max_seconds,
) -> tuple[np.ndarray, int]:
    """Read sound of any format, rate, width and channel count as mono.

    Parameters
    ----------
    source : a path ("-" is standard input), the file's bytes, or an open binary file or pipe
    sample_rate : Hz to resample to; None keeps the file's own rate
    max_seconds : longer recordings are refused before they are decoded whole

    Returns
    -------
    waveform : float32 (samples,), in [-1, 1]; the channels as :func:`mix_down` joins them
    sample_rate : Hz

    Raises
    ------
    AudioError : missing, empty, not audio, NaN or infinite samples, longer than `max_seconds`
    """
    recording = read_recording(source, sample_rate, max_seconds)
    return recording.waveform, recording.sample_rate


def read_recording(
    source: Path | str | bytes | BinaryIO,
    sample_rate: int | None = None,
    max_seconds: float = config.AudioSettings.max_seconds,
) -> Recording:
    """Read as :func:`read_audio` does, with the name and with remarks on what is odd about it."""
    name = source_name(source)
    try:
        with _opened(source) as file:
            decoded = decoding.decode(file, max_seconds)
        waveform, remarks = _to_mono(decoded)
        rate = decoded.sample_rate
        if sample_rate is not None and sample_rate != rate:
            waveform, rate = resample(waveform, rate, sample_rate), sample_rate
        if waveform.size == 0:  # also where a damaged header claims a rate of gigahertz
            raise AudioError("holds no samples")
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from None
    except OSError as error:
        raise AudioError(f"{name}: {error.strerror or error}") from None
    return Recording(np.clip(waveform, -1.0, 1.0), rate, name, (*decoded.remarks, *remarks))


def source_name(source: Path | str | bytes | BinaryIO) -> str:
    """How a recording is called in answers and errors."""
    name = utils.printable(source) if isinstance(source, (str, Path)) else "recording"
    return "standard input" if name == "-" else name


def seconds_of(path: Path | str) -> float:
    """Length of a sound file as its header tells; 0 where only decoding it would."""
    import soundfile

    with contextlib.suppress(OSError, RuntimeError, ValueError):
        return float(soundfile.info(str(path)).duration)
    return 0.0


def read_blocks(path: Path | str, sample_rate: int) -> Iterator[np.ndarray]:
    """A sound file of any length, piece by piece: float32 (samples,), mono, at `sample_rate` Hz.

    Raises
    ------
    AudioError : it can't be read so; only what libsndfile reads can
    """
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(str(path)) as file:
            resampler = None
            if file.samplerate != sample_rate:
                resampler = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32")
            size = round(BLOCK_S * file.samplerate)
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                mono = np.clip(np.nan_to_num(block.mean(axis=1)), -1.0, 1.0)
                yield mono if resampler is None else resampler.resample_chunk(mono)
            if resampler is not None:
                yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise AudioError(f"{source_name(path)}: not a readable sound file ({error})") from None


@contextlib.contextmanager
def _opened(source: Path | str | bytes | BinaryIO) -> Iterator[BinaryIO]:
    """The source as a binary file that can seek; pipes are read into memory, up to a bound."""
    with contextlib.ExitStack() as stack:
        if isinstance(source, bytes):
            file: BinaryIO = io.BytesIO(source)
        elif str(source) == "-":
            file = sys.stdin.buffer
        elif isinstance(source, (str, Path)):
            file = stack.enter_context(_open(str(source)))
        else:
            file = source
        if not file.seekable():
            content = file.read(decoding.MAX_STREAM_BYTES + 1)
            if len(content) > decoding.MAX_STREAM_BYTES:
                raise AudioError(f"more than {decoding.MAX_STREAM_BYTES >> 20} MB in a pipe")
            file = io.BytesIO(content)
        yield file


def _open(path: str) -> BinaryIO:
    if os.path.isdir(path):
        raise AudioError("is a folder, not a sound file: name the files in it")
    try:
        return open(path, "rb")
    except (FileNotFoundError, ValueError):  # a null character is in no file's name
        missing = "no file matches" if glob.has_magic(path) else "no such file"
        raise AudioError(missing) from None


def _to_mono(decoded: decoding.Decoded) -> tuple[np.ndarray, tuple[str, ...]]:
    """Channels joined and levels brought into range, float32 (samples,); remarks."""
    samples, remarks = decoded.samples, []
    peak = float(np.abs(samples).max(initial=0))
    if not np.isfinite(peak):
        raise AudioError("holds NaN or infinite samples")
    if peak > ABSURD:
        raise AudioError(f"holds samples of {peak:.0e}, where 1 is full scale: not sound")
    if peak > 1:
        samples = samples * np.float32(LOUD / peak)
        if peak > OVERSHOOT:
            remarks.append(f"samples up to {peak:.3g} times full scale: scaled down")
    waveform, remark = mix_down(samples)
    remarks += [remark] if remark else []
    peak = float(np.abs(waveform).max(initial=0))
    if decoded.fine and FAINTEST < peak < QUIET:
        waveform = waveform * np.float32(AUDIBLE / peak)
        remarks.append(f"very quiet ({dbfs(peak):.0f} dBFS at most): brought up")
    return waveform, tuple(remarks)


def mix_down(samples: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Join the channels of a recording.

    Parameters
    ----------
    samples : float32 (frames, channels)

    Returns
    -------
    waveform : float32 (frames,), the mean of the channels with sound; where they cancel each other,
        or one has far less noise than the mix, the loudest of the clear ones
    remark : which channel was taken and why; None for the mean
    """
    levels = np.array([rms(channel) for channel in samples.T])
    sounding = np.flatnonzero(levels > SILENT_CHANNEL * levels.max(initial=0))
    if sounding.size == 0:
        return np.zeros(len(samples), np.float32), None
    if sounding.size == 1:
        return np.ascontiguousarray(samples[:, sounding[0]]), None
    mixed = samples[:, sounding].mean(axis=1, dtype=np.float32)
    contrasts = np.array([_contrast_db(samples[:, channel]) for channel in sounding])
    drowned = rms(mixed) < CANCELLED * levels.max()
    if not drowned and contrasts.max() < _contrast_db(mixed) + CLEANER_DB:
        return mixed, None
    clear = sounding[contrasts > contrasts.max() - CLEANER_DB]  # never hum, however loud
    chosen = int(clear[levels[clear].argmax()])
    reason = "the mix is far noisier"
    if drowned and len(clear) > 1:
        reason = "the channels cancel each other"
    remark = f"channel {chosen + 1} of {samples.shape[1]} alone: {reason}"
    return np.ascontiguousarray(samples[:, chosen]), remark


def _contrast_db(waveform: np.ndarray) -> float:
    """dB between the loud and the quiet stretches of (samples,): how far speech is above noise."""
    size = max(1, min(512, len(waveform) // 8))
    power = np.square(waveform[: len(waveform) // size * size], dtype=np.float64)
    quiet, loud = np.percentile(power.reshape(-1, size).mean(axis=1), (10, 95))
    return float(10 * np.log10(max(loud, 1e-20) / max(quiet, 1e-6 * loud, 1e-20)))


def resample(waveform: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Resample float32 (samples,) with soxr's high-quality band-limited filter."""
    if from_rate == to_rate:
        return waveform
    import soxr

    return soxr.resample(waveform, from_rate, to_rate).astype(np.float32, copy=False)


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Float (samples,) in [-1, 1] to int16, rounded and limited; int16 is returned as it is."""
    if waveform.dtype == np.int16:
        return waveform
    return np.clip(np.rint(waveform * INT16_SCALE), -32768, 32767).astype(np.int16)


def to_float(samples: np.ndarray) -> np.ndarray:
    """Int16 samples of any shape to float32 in [-1, 1)."""
    return samples.astype(np.float32) / np.float32(INT16_SCALE)


def write_audio(path: Path | str, waveform: np.ndarray, sample_rate: int) -> None:
    """Write float32 (samples,) in [-1, 1] as a 16-bit mono WAV file, atomically.

    Encoded by Python and in memory: libsndfile would not say whether the disk is full or read-only,
    and where it calls back into Python a Ctrl-C is printed and lost.
    """
    encoded = io.BytesIO()
    with wave.open(encoded, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(to_int16(waveform).astype("<i2").tobytes())
    with utils.atomic_path(path) as temporary:
        temporary.write_bytes(encoded.getvalue())


def find_audio(folder: Path | str) -> AudioFiles:
    """All sound files below `folder`, sorted, and what else is there.

    Linked folders are followed, each folder once. Hidden files and folders and what systems leave
    behind are passed over quietly.
    """
    files: list[Path] = []
    unreadable: list[OSError] = []
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=unreadable.append, followlinks=True):
        facts = os.stat(place)
        if (facts.st_dev, facts.st_ino) in seen:
            folders.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        folders[:] = sorted(filter(_is_visible, folders))
        files += [Path(place, name) for name in names if _is_visible(name)]
    sound, left_out = _by_suffix(files)
    return AudioFiles(sound, left_out, [Path(error.filename) for error in unreadable])


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in SYSTEM_FILES


def _by_suffix(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Sound files and others, each sorted."""
    files = sorted(files)
    sound = [
        path for path in files if path.suffix.lower() in AUDIO_SUFFIXES and os.path.isfile(path)
    ]
    chosen = set(sound)
    return sound, [path for path in files if path not in chosen]


def expand_paths(words: Iterable[Path | str]) -> AudioFiles:
    """The sound files that words of a command line name, each once.

    A word is a file, a folder (searched to the bottom), "-" (standard input), a wildcard (which
    Windows leaves to programs), or any of them in quotes, with ``~`` or as a ``file:`` address.
    Files that don't exist are kept: reading them says so.
    """
    paths: list[Path] = []
    left_out: list[Path] = []
    unreadable: list[Path] = []
    for word in words:
        for path in _named(str(word), left_out):
            if os.path.isdir(path):
                found = find_audio(path)
                paths += found.paths
                left_out += found.left_out
                unreadable += found.unreadable
            else:
                paths.append(path)
    return AudioFiles(*(list(dict.fromkeys(part)) for part in (paths, left_out, unreadable)))


def _named(word: str, left_out: list[Path]) -> list[Path]:
    """What one word names; of a wildcard's matches, those that are no sound are left out."""
    if word == "-" or os.path.lexists(word):
        return [Path(word)]
    word = word.strip().strip("\"'\u2018\u2019\u201c\u201d")
    if word.lower().startswith("file:"):
        word = urllib.parse.unquote(word[5:], errors="surrogateescape").replace("\\", "/")
        word = re.sub("^/+(?:localhost/)?", "/", word)
        word = word[1:] if re.match("/[A-Za-z]:", word) else word  # a drive of Windows
    word = os.path.expanduser(word)
    if os.path.lexists(word) or not glob.has_magic(word):
        return [Path(word)]
    matches = [Path(match) for match in glob.glob(word, recursive=True)]
    folders = [path for path in matches if os.path.isdir(path)]
    sound, others = _by_suffix(path for path in matches if path not in folders)
    left_out += others
    return sorted(folders + sound) or ([] if others else [Path(word)])


def rms(waveform: np.ndarray) -> float:
    """Root mean square of (samples,); 0 for an empty array."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if waveform.size else 0.0


def dbfs(amplitude: float) -> float:
    """Amplitude in [0, 1] to decibels relative to full scale; never below -120."""
    return float(20 * np.log10(max(amplitude, 1e-6)))
