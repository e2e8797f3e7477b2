"""Strings of digits that eSpeak NG speaks whole, in the groups and the pace of telephone numbers.

Joined takes have no coarticulation; a synthesiser that is given the whole string has: the "six
seven" with one s, the hurried "two" before "eight".
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

import audio_io
import config
from corpora.clips import Clips
from synthesis import espeak, espeak_voices

VERSION = 1
"""Counted up when the same settings make other strings."""
STRINGS_PER_SPEAKER = 5
OH_SHARE = 0.35
"""Strings in which every zero is an "oh"."""
PEAK = 0.5
OH = "o"
"""How "oh" is written in the name of a string, as in AN4's."""


def speak_strings(
    count: int, longest: int, seed: int, sample_rate: int, cache_dir: Path | None = None
) -> Clips:
    """Make strings, or read them from the cache.

    Parameters
    ----------
    count : strings
    longest : digits in a string at most
    seed : the same seed gives the same samples
    sample_rate : Hz of the clips

    Returns
    -------
    clips : named STRING_SPEAKER, with "o" for "oh"; their labels mean nothing

    Raises
    ------
    config.UserError : eSpeak NG is missing
    """
    if cache_dir is None:
        return _make(count, longest, seed, sample_rate)
    key = hashlib.sha256(json.dumps([VERSION, count, longest, seed, sample_rate]).encode())
    name = key.hexdigest()[:16]
    return Clips.cached(
        cache_dir / f"spoken-strings-{name}.npz",
        name,
        lambda: _make(count, longest, seed, sample_rate),
    )


def _make(count: int, longest: int, seed: int, sample_rate: int) -> Clips:
    engine, rng = espeak.Espeak(), np.random.default_rng([seed, 70])
    waveforms: list[np.ndarray] = []
    names: list[str] = []
    speakers: list[str] = []
    while len(waveforms) < count:
        number = len(waveforms)
        speaker = espeak_voices.make_speaker(engine, rng, number)
        engine.seed(int(rng.integers(2**31)))
        for _ in range(STRINGS_PER_SPEAKER):
            string = random_string(longest, rng)
            waveform = engine.speak(
                spoken_text(string, speaker, rng),
                speaker.voice,
                rate=round(speaker.rate * rng.uniform(1.0, 1.9)),
                pitch=int(np.clip(speaker.pitch + rng.integers(-12, 13), 0, 99)),
                pitch_range=int(rng.integers(20, 90)),
            )
            peak = np.abs(waveform).max(initial=0)
            if peak < 1e-3:
                continue
            scaled = waveform * np.float32(PEAK / peak)
            rate = espeak.SAMPLE_RATE * speaker.scale
            waveforms.append(audio_io.to_int16(audio_io.resample(scaled, rate, sample_rate)))
            names.append(f"{string}_{speaker.name}")
            speakers.append(speaker.name)
    zeros = [0] * len(names)
    return Clips.from_waveforms(
        waveforms, zeros, speakers, names, list(range(len(names))), "spoken_strings", sample_rate
    ).subset(np.arange(count))


def random_string(longest: int, rng: np.random.Generator) -> str:
    """A string of 2 to `longest` digits, short ones more often; any digit is as likely."""
    length = 2 + int((longest - 1) * rng.random() ** 1.5)
    digits = "".join(str(digit) for digit in rng.integers(0, 10, length))
    return digits.replace("0", OH) if rng.random() < OH_SHARE else digits


def spoken_text(string: str, speaker: espeak_voices.Speaker, rng: np.random.Generator) -> str:
    """What the synthesiser is given: words, with a comma now and then where a group ends."""
    group = int(rng.integers(2, 5)) if rng.random() < 0.5 else len(string)
    parts = [string[first : first + group] for first in range(0, len(string), group)]
    words = [" ".join("oh" if digit == OH else name(digit) for digit in part) for part in parts]
    return ", ".join(speaker.pronounce(text) for text in words)


def name(digit: str) -> str:
    """A digit as a word."""
    return config.DIGIT_WORDS[int(digit)]
