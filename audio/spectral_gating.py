"""Stationary spectral gating with NumPy alone: it turns down what does not stand out of the noise.

Sainburg et al. 2020, "Finding, visualizing, and quantifying latent structure across diverse animal
vocal repertoires". The package noisereduce, whose stationary mode this is, imports PyTorch,
matplotlib and SciPy, which take seconds; the tests compare with it.
"""

from __future__ import annotations

import functools

import numpy as np

DEVIATIONS = 1.5
"""Standard deviations (dB) over the noise's mean level that sound must exceed in a bin."""
SMOOTH_HZ, SMOOTH_S = 500.0, 0.05
"""Half widths of the triangles over which the mask is smoothed."""
RANGE_DB = 80.0
"""dB below the loudest frame of a bin at which levels end."""
PADDING_FRAMES = 8
"""Windows of silence on either side of the sound."""
NOISE_SAMPLES = 600_000
"""Samples of noise that are looked at, at most."""


def spectral_gate(
    waveform: np.ndarray, sample_rate: int, noise: np.ndarray, strength: float, size: int
) -> np.ndarray:
    """Turn down, by `strength`, the parts of the spectrogram that don't stand out of `noise`.

    Parameters
    ----------
    waveform, noise : float32 (samples,); `noise` is sound without speech from the same recording
    strength : 0 to 1, share of the noise that is taken away
    size : samples of a Fourier window, a multiple of 4

    Returns
    -------
    float32 (samples,)
    """
    levels = decibels(spectrogram(noise[:NOISE_SAMPLES], size))
    threshold = levels.mean(axis=0) + DEVIATIONS * levels.std(axis=0)
    padding = PADDING_FRAMES * size
    spectrum = spectrogram(np.pad(waveform.astype(np.float64), padding), size)
    stands_out = decibels(spectrum) > threshold
    mask = stands_out * strength + (1.0 - strength)
    hop_s, bin_hz = size // 4 / sample_rate, 2 * sample_rate / size
    mask = smooth(mask, max(1, int(SMOOTH_S / hop_s)), max(1, int(SMOOTH_HZ / bin_hz)))
    gated = waveform_of(spectrum * mask, size)
    gated = np.pad(gated, (0, size))  # the last samples may fill no window
    return gated[padding : padding + len(waveform)].astype(np.float32)


@functools.lru_cache(maxsize=8)
def hann(size: int) -> np.ndarray:
    """The periodic Hann window, float64 (size,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def spectrogram(waveform: np.ndarray, size: int) -> np.ndarray:
    """Short-time Fourier transform, complex (frames, size // 2 + 1), a quarter of `size` apart.

    The sound is preceded and followed by half a window of silence. Of the waveform's own precision.
    """
    window = hann(size).astype(waveform.dtype)
    padded = np.pad(waveform, size // 2)
    padded = np.pad(padded, (0, max(0, size - len(padded))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 4]
    return np.fft.rfft(frames * window, axis=1) / window.sum()


def waveform_of(spectrum: np.ndarray, size: int) -> np.ndarray:
    """The waveform whose spectrogram comes nearest (Griffin and Lim 1984), float64 (samples,)."""
    window, hop = hann(size), size // 4
    frames = np.fft.irfft(spectrum, size, axis=1) * window.sum() * window
    quarters = np.zeros((len(frames) + 3, hop))
    weights = np.zeros((len(frames) + 3, hop))
    for number in range(4):
        part = slice(number * hop, (number + 1) * hop)
        quarters[number : number + len(frames)] += frames[:, part]
        weights[number : number + len(frames)] += np.square(window[part])
    weights[weights <= 1e-10] = 1.0
    return (quarters / weights).reshape(-1)[size // 2 : -(size // 2)]


def decibels(spectrum: np.ndarray) -> np.ndarray:
    """Levels in dB, float64 (frames, bins), at most :data:`RANGE_DB` below each bin's loudest."""
    levels = 20 * np.log10(np.abs(spectrum) + np.finfo(np.float64).eps)
    return np.maximum(levels, levels.max(axis=0) - RANGE_DB)


def smooth(mask: np.ndarray, frames: int, bins: int) -> np.ndarray:
    """Average (frames, bins) over triangles that reach so many frames and bins; zeros outside."""
    if frames == bins == 1:
        return mask
    for axis, reach in ((0, frames), (1, bins)):
        taps = reach + 1 - np.abs(np.arange(-reach, reach + 1.0))
        taps /= taps.sum()
        room = [(0, 0), (0, 0)]
        room[axis] = (reach, reach)
        padded = np.lib.stride_tricks.sliding_window_view(
            np.pad(mask, room), 2 * reach + 1, axis=axis
        )
        mask = padded @ taps
    return mask
