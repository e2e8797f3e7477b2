"""A sound file of a digit as rooms, devices and people alter it, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import audio_io
from fuzz.damage import spoken
from protocols.noise_generation import coloured_noise
from protocols.recordings import with_libsndfile

Alteration = Callable[[np.ndarray, int, np.random.Generator], bytes]


def wav(samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> bytes:
    """A WAV file of float (samples,) or (samples, channels)."""
    return with_libsndfile(samples, rate, "WAV", subtype)


def clipped(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    gain = 10 ** (random.uniform(15, 40) / 20) / np.abs(waveform).max()
    return wav(np.clip(gain * waveform, -1, 1), rate)


def other_speed(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    return wav(audio_io.resample(waveform, rate * random.uniform(0.4, 2.5), rate), rate)


def other_rate(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    own = int(random.choice((100, 4000, 11025, 22050, 96000, 192000)))
    return wav(audio_io.resample(waveform, rate, own), own)


def inverted_stereo(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    other = -random.uniform(0.9, 1.0) * waveform
    return wav(np.stack([waveform, other], axis=1), rate)


def one_of_many_channels(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    samples = np.zeros((len(waveform), random.integers(2, 17)), np.float32)
    samples[:, random.integers(samples.shape[1])] = waveform
    return wav(samples, rate)


def beep_before(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    time = np.arange(round(random.uniform(0.05, 1.0) * rate)) / rate
    beep = np.abs(waveform).max() * np.sin(2 * np.pi * random.uniform(200, 3000) * time)
    return wav(np.concatenate([beep, np.zeros(rate // 5), waveform]), rate)


def noise_before(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    noise = coloured_noise(round(random.uniform(0.5, 10) * rate), random.uniform(0, 1.5), random)
    return wav(np.concatenate([random.uniform(0.01, 0.5) * noise / 3, waveform]), rate)


def noise_over_it(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    noise = coloured_noise(len(waveform), random.uniform(0, 1.5), random)
    return wav(waveform + random.uniform(0.5, 5) * audio_io.rms(waveform) * noise, rate)


def hum_and_offset(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    hum = np.sin(2 * np.pi * random.choice((50, 60)) * np.arange(len(waveform)) / rate)
    return wav(waveform / 2 + random.uniform(0, 0.3) * hum + random.uniform(-0.3, 0.3), rate)


def again_and_again(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    return wav(np.tile(waveform, random.integers(2, 30)), rate)


def with_gaps(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    samples = waveform.copy()
    for start in random.integers(len(samples), size=random.integers(1, 40)):
        samples[start : start + rate // 50] = 0
    return wav(samples, rate)


def backwards(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    return wav(waveform[::-1], rate)


def part_of_it(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    start, end = np.sort(random.integers(len(waveform), size=2))
    return wav(waveform[start : end + 1], rate)


def file_cut_off(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    content = wav(waveform, rate)
    return content[: round(random.uniform(0.3, 0.9) * len(content))]


def length_missing(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    content = wav(waveform, rate)
    return content[:40] + bytes(4) + content[44:]


def too_loud(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    return wav(waveform * 10 ** random.uniform(1, 6), rate, "FLOAT")


def too_quiet(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    return wav(waveform * 10 ** random.uniform(-8, -3.5), rate, "FLOAT")


def too_short(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    return wav(waveform[rate // 2 :][: random.integers(1, rate // 12)], rate)


def too_long(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    return wav(np.resize(waveform, round(random.uniform(61, 90) * rate)), rate)


def zeros(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    return wav(np.zeros(random.integers(rate // 5, 3 * rate)), rate)


def impulses(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    samples = np.zeros(2 * rate)
    samples[random.integers(len(samples), size=random.integers(1, 50))] = random.choice((-1, 1))
    return wav(samples, rate)


def absurd_samples(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    samples = waveform.astype(np.float64)
    value = random.choice((np.nan, np.inf, -np.inf, 1e300, 3e38, 1e13))
    samples[random.integers(len(samples), size=random.integers(1, 9))] = value
    return wav(samples, rate, "DOUBLE")


def denormal(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
    return wav(waveform.astype(np.float64) * 1e-310, rate, "DOUBLE")


ALTERATIONS: dict[Alteration, str] = {
    clipped: "clipped",
    other_speed: "",
    other_rate: "",
    inverted_stereo: "cancel each other",
    one_of_many_channels: "",
    beep_before: "",
    noise_before: "",
    noise_over_it: "",
    hum_and_offset: "",
    again_and_again: "",
    with_gaps: "",
    backwards: "",
    part_of_it: "",
    file_cut_off: "file shorter than its header says",
    length_missing: "header says length 0",
    too_loud: "scaled down",
    too_quiet: "very quiet",
    too_short: "too short",
    too_long: "refused",
    zeros: "nothing but zeros",
    impulses: "",
    absurd_samples: "refused",
    denormal: "",
}
"""What is altered -> what the user must be told of it ("refused": why there is no answer)."""


def altered_file(number: int, random: np.random.Generator) -> tuple[bytes, str]:
    """The file of the alteration whose turn it is, and what must be told of it."""
    alteration, told = list(ALTERATIONS.items())[number % len(ALTERATIONS)]
    return alteration(*spoken(), random), told
