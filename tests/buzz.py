"""A buzz with the formants of a vowel: no digit, but a voice."""

import numpy as np

RATE = 8000


def word(seconds: float = 0.5, level: float = 0.1, around: float = 0.4) -> np.ndarray:
    """A buzz with formants between two pauses with a little noise; no digit, but a voice."""
    time = np.arange(round(seconds * RATE)) / RATE
    sound = sum(
        np.sin(2 * np.pi * 120 * n * time + n)
        * (np.exp(-(((120 * n - 600) / 200) ** 2)) + 0.5 * np.exp(-(((120 * n - 1500) / 200) ** 2)))
        for n in range(1, 25)
    )
    sound *= np.hanning(len(time)) * level / np.sqrt(np.mean(sound**2))
    pause = np.zeros(round(around * RATE))
    noise = np.random.default_rng(0).normal(0, level / 300, len(sound) + 2 * len(pause))
    return (np.concatenate([pause, sound, pause]) + noise).astype(np.float32)
