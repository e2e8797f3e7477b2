"""Sound files: read anything to mono float32, resample, write."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

import config
import utils

INT16_SCALE = 32768.0
"""A 16-bit sample of -32768 is -1.0 in float, as libsndfile has it."""
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus")


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

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.waveform) / self.sample_rate


class AudioError(config.UserError):
    """A sound file that can't be used; the text names it and says why."""


def read_audio(
    source: Path | str | bytes | BinaryIO,
    sample_rate: int | None = None,
    max_seconds: float = config.AudioSettings.max_seconds,
) -> tuple[np.ndarray, int]:
    """Read WAV, FLAC, OGG or MP3 of any rate, width and channel count as mono.

    Parameters
    ----------
    source : a path, the file's bytes, or an open binary file
    sample_rate : Hz to resample to; None keeps the file's own rate
    max_seconds : longer recordings are refused before they are decoded

    Returns
    -------
    waveform : float32 (samples,), in [-1, 1]; the mean of the channels
    sample_rate : Hz

    Raises
    ------
    AudioError : missing, empty, not audio, NaN or infinite samples, longer than `max_seconds`
    """
    import soundfile

    name = str(source) if isinstance(source, (str, Path)) else "recording"
    stream = _Memory(source) if isinstance(source, bytes) else source
    if isinstance(source, (str, Path)) and not Path(source).is_file():
        raise AudioError(f"{name}: no such file")
    if source == b"" or (isinstance(source, (str, Path)) and Path(source).stat().st_size == 0):
        raise AudioError(f"{name}: empty file")
    try:
        with soundfile.SoundFile(stream) as sound:
            rate, seconds = sound.samplerate, sound.frames / sound.samplerate
            if seconds > max_seconds:
                raise AudioError(
                    f"{name}: {seconds:.0f} s long; at most {max_seconds:g} s are accepted"
                )
            samples = sound.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, TypeError, OSError) as error:
        raise AudioError(f"{name}: not a readable sound file ({_reason(error)})") from None
    waveform = samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(waveform).all():
        raise AudioError(f"{name}: holds NaN or infinite samples")
    if sample_rate is not None and sample_rate != rate:
        waveform, rate = resample(waveform, rate, sample_rate), sample_rate
    if waveform.size == 0:  # also where a damaged header claims a rate of gigahertz
        raise AudioError(f"{name}: holds no samples")
    return np.clip(waveform, -1.0, 1.0), rate


def read_recording(
    path: Path | str,
    sample_rate: int | None = None,
    max_seconds: float = config.AudioSettings.max_seconds,
) -> Recording:
    """Read one sound file with :func:`read_audio`, as a :class:`Recording` of that name."""
    return Recording(*read_audio(path, sample_rate, max_seconds), str(path))


class _Memory(io.BytesIO):
    """Bytes as a file in which a damaged header's seek before the start stops at the start.

    libsndfile then finds nothing and says so; an exception could not pass through it, and would be
    printed with its traceback.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: len(self.getbuffer())}
        return super().seek(max(0, start[whence] + offset))


def _reason(error: Exception) -> str:
    return str(error).rsplit(":", 1)[-1].strip().rstrip(".") or type(error).__name__


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
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

    Encoded in memory: libsndfile would not say whether the disk is full or read-only.
    """
    import soundfile

    encoded = io.BytesIO()
    soundfile.write(encoded, np.clip(waveform, -1, 1), sample_rate, subtype="PCM_16", format="WAV")
    with utils.atomic_path(path) as temporary:
        temporary.write_bytes(encoded.getvalue())


def find_audio(folder: Path | str) -> list[Path]:
    """All sound files below `folder`, sorted, hidden ones left out."""
    return sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and path.is_file()
        and not path.name.startswith(".")
    )


def rms(waveform: np.ndarray) -> float:
    """Root mean square of (samples,); 0 for an empty array."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if waveform.size else 0.0


def dbfs(amplitude: float) -> float:
    """Amplitude in [0, 1] to decibels relative to full scale; never below -120."""
    return float(20 * np.log10(max(amplitude, 1e-6)))
