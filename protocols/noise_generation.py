"""Sounds that speech is tested against: noise at a chosen level, and sounds that are no speech.

Training makes its own noise, in :mod:`audio_augmentation`; this is what the scores are taken with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import audio_io
from corpora.clips import Clips

NOISES = ("white", "pink", "babble", "recorded")
"""Kinds of noise that :func:`make_noise` knows."""
BABBLE_TALKERS = 6
"""Talkers at once: fewer leave words to be understood, many more become steady noise."""
ACTIVE_RANGE_DB = 25.0
"""dB below the loudest 20 ms at which a frame still counts as speech."""
NON_SPEECH = ("silence", "hum", "clicks", "white noise", "coloured noise")
"""Kinds of sound that :func:`make_non_speech` knows."""


def speech_rms(waveform: np.ndarray, sample_rate: int) -> float:
    """RMS amplitude of the frames with speech; pauses do not count.

    Parameters
    ----------
    waveform : float32 (samples,)
    sample_rate : Hz
    """
    size = max(1, min(len(waveform), round(0.02 * sample_rate)))
    frames = waveform[: len(waveform) // size * size].reshape(-1, size).astype(np.float64)
    power = np.mean(frames**2, axis=1)
    active = power >= power.max(initial=0.0) * 10 ** (-ACTIVE_RANGE_DB / 10)
    return float(np.sqrt(power[active].mean())) if active.any() else 0.0


def add_noise(
    waveform: np.ndarray, noise: np.ndarray, snr_db: float, sample_rate: int
) -> np.ndarray:
    """Put a clip into the middle of a longer noise.

    Parameters
    ----------
    waveform : float32 (samples,)
    noise : float (at least samples,); what is longer sounds before and after the clip
    snr_db : dB between the clip's speech-active RMS level and the noise's RMS level
    sample_rate : Hz

    Returns
    -------
    float32 (len(noise),) : turned down as a whole where it would exceed full scale
    """
    level = max(speech_rms(waveform, sample_rate), 1e-5)
    mixed = noise * (level / max(audio_io.rms(noise), 1e-9) * 10 ** (-snr_db / 20))
    start = (len(noise) - len(waveform)) // 2
    mixed[start : start + len(waveform)] += waveform
    return (mixed / max(1.0, float(np.abs(mixed).max(initial=0.0)))).astype(np.float32)


def make_noise(
    kind: str,
    length: int,
    random: np.random.Generator,
    talkers: Clips | None = None,
    recordings: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Noise of RMS 1, float64 (length,).

    Parameters
    ----------
    kind : one of :data:`NOISES`
    length : samples
    random : makes it repeatable
    talkers : clips that babble is made of
    recordings : float32 (samples,) each, that recorded noise is cut from

    Raises
    ------
    ValueError : unknown kind, babble without talkers, recorded noise without recordings
    """
    if kind in ("white", "pink"):
        noise = coloured_noise(length, 0.5 if kind == "pink" else 0.0, random)
    elif kind == "babble" and talkers is not None and len(talkers):
        noise = np.sum([_talker(length, talkers, random) for _ in range(BABBLE_TALKERS)], axis=0)
    elif kind == "recorded" and len(recordings):
        noise = _excerpt(length, recordings, random)
    else:
        raise ValueError(f"no {kind} noise can be made of what was given")
    return noise / max(audio_io.rms(noise), 1e-9)


def coloured_noise(length: int, slope: float, random: np.random.Generator) -> np.ndarray:
    """Gaussian noise whose amplitude falls as frequency ** -slope: 0 white, 0.5 pink, 1 brown.

    The lowest 0.5 % of the band is kept flat, so that no drift takes all the power.
    """
    spectrum = np.fft.rfft(random.standard_normal(length))
    frequency = np.maximum(np.arange(len(spectrum)) / len(spectrum), 0.005)
    noise = np.fft.irfft(spectrum * frequency**-slope, length)
    return noise / max(audio_io.rms(noise), 1e-9)


def _talker(length: int, talkers: Clips, random: np.random.Generator) -> np.ndarray:
    """One talker of the babble: clips of RMS 1 end to end, entered somewhere in the middle."""
    parts, total = [], 0
    while total < 2 * length:
        part = talkers.waveform(int(random.integers(len(talkers))))
        parts.append(part / max(audio_io.rms(part), 1e-5))
        total += len(part)
    start = int(random.integers(total - length + 1))
    return np.concatenate(parts)[start : start + length].astype(np.float64)


def _excerpt(
    length: int, recordings: Sequence[np.ndarray], random: np.random.Generator
) -> np.ndarray:
    """A piece of a recording; short recordings are repeated, pauses in them avoided."""
    recording = recordings[int(random.integers(len(recordings)))]
    if len(recording) < length:
        recording = np.tile(recording, -(-length // max(len(recording), 1)))
    starts = random.integers(len(recording) - length + 1, size=8)
    loud = audio_io.rms(recording) / 4
    pieces = [recording[start : start + length] for start in starts]
    chosen = next(
        (piece for piece in pieces if audio_io.rms(piece) >= loud), max(pieces, key=audio_io.rms)
    )
    return chosen.astype(np.float64)


def make_non_speech(kind: str, sample_rate: int, random: np.random.Generator) -> np.ndarray:
    """A sound of 0.3 to 2 s that no recogniser should answer, float32 (samples,).

    Parameters
    ----------
    kind : one of :data:`NON_SPEECH`
    sample_rate : Hz
    random : makes it repeatable
    """
    length = round(random.uniform(0.3, 2.0) * sample_rate)
    floor = 10 ** (random.uniform(-80, -60) / 20)
    level = 10 ** (random.uniform(-50, -15) / 20)
    if kind == "silence":
        sound = random.choice([0.0, 1.0]) * floor * random.standard_normal(length)
    elif kind in ("hum", "clicks"):
        make = _hum if kind == "hum" else _clicks
        sound = level * make(length, sample_rate, random) + floor * random.standard_normal(length)
    elif kind == "white noise":
        sound = level * random.standard_normal(length)
    elif kind == "coloured noise":
        sound = level * coloured_noise(length, random.uniform(0.3, 1.2), random)
    else:
        raise ValueError(f"no sound named {kind}: there are {', '.join(NON_SPEECH)}")
    return np.clip(sound, -1, 1).astype(np.float32)


def _hum(length: int, sample_rate: int, random: np.random.Generator) -> np.ndarray:
    """Mains hum of RMS 1: 50 or 60 Hz and its first dozen harmonics."""
    time = np.arange(length) / sample_rate
    mains = random.choice([50.0, 60.0])
    harmonics = np.arange(1, 13)
    strength = random.uniform(0, 1, 12) / harmonics
    phase = random.uniform(0, 2 * np.pi, (12, 1))
    hum = strength @ np.sin(2 * np.pi * mains * harmonics[:, None] * time + phase)
    return hum / max(audio_io.rms(hum), 1e-9)


def _clicks(length: int, sample_rate: int, random: np.random.Generator) -> np.ndarray:
    """One to six clicks of peak 1 to 5: decaying resonances of a few milliseconds, as of keys."""
    clicks = np.zeros(length)
    for _ in range(random.integers(1, 7)):
        size = min(length, round(random.uniform(0.001, 0.015) * sample_rate) + 2)
        time = np.arange(size) / sample_rate
        ring = np.exp(-5 * np.arange(size) / size) * np.cos(
            2 * np.pi * random.uniform(300, 0.45 * sample_rate) * time
        )
        start = int(random.integers(length - size + 1))
        clicks[start : start + size] += random.uniform(1, 5) * ring
    return clicks
