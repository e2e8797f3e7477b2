"""Sound files of all kinds, and what disks, transfers and enemies make of their bytes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

import audio_io
from protocols.recordings import FORMATS

SPOKEN = Path(__file__).resolve().parents[2] / "docs" / "seven.wav"
HEADER = 200
"""Bytes at the beginning where most of what steers a decoder stands."""
EXTREMES = (0, 1, 0x7F, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
"""Numbers that programs forget to expect in lengths, counts and rates."""
BEGINNINGS = (b"RIFF\xff\xff\xff\xffWAVE", b"fLaC", b"OggS", b"ID3\4\0\0\x7f\x7f\x7f\x7f", b"FORM")
BEGINNINGS += (b"\0\0\0\x20ftypM4A ", b"\x1aE\xdf\xa3", b"#!AMR\n", b"caff\0\1\0\0", b"\xff\xfb")

Damage = Callable[[bytearray, np.random.Generator], bytes]


@functools.cache
def spoken() -> tuple[np.ndarray, int]:
    """One spoken digit: float32 (samples,), rate in Hz."""
    return audio_io.read_audio(SPOKEN)


@functools.cache
def sound_file(name: str) -> bytes:
    """The digit as a sound file of a format; as WAV where this machine can't make the format."""
    waveform, rate = spoken()
    try:
        return FORMATS[name](waveform, rate, np.random.default_rng(0))
    except (ImportError, ValueError, LookupError):
        return SPOKEN.read_bytes()


def random_sound_file(random: np.random.Generator) -> bytes:
    """A sound file of any format."""
    names = list(FORMATS)
    return sound_file(names[random.integers(len(names))])


def damaged_file(random: np.random.Generator) -> bytes:
    """A sound file after one to three kinds of damage."""
    content = random_sound_file(random)
    for index in random.integers(len(DAMAGES), size=random.integers(1, 4)):
        content = DAMAGES[index](bytearray(content or b"\0"), random)
    return content


def _place(content: bytearray, random: np.random.Generator) -> int:
    """Where damage goes: as often into the header as anywhere."""
    end = len(content) if random.integers(2) else min(HEADER, len(content))
    return int(random.integers(end))


def cut(content: bytearray, random: np.random.Generator) -> bytes:
    """The end is missing."""
    return bytes(content[: random.integers(len(content) + 1)])


def without_beginning(content: bytearray, random: np.random.Generator) -> bytes:
    """The first bytes are missing."""
    return bytes(content[_place(content, random) :])


def other_bytes(content: bytearray, random: np.random.Generator) -> bytes:
    """Some bytes are others."""
    for _ in range(random.integers(1, 30)):
        content[_place(content, random)] = random.integers(256)
    return bytes(content)


def other_bits(content: bytearray, random: np.random.Generator) -> bytes:
    """Some bits have flipped."""
    for _ in range(random.integers(1, 8)):
        content[_place(content, random)] ^= 1 << random.integers(8)
    return bytes(content)


def other_number(content: bytearray, random: np.random.Generator) -> bytes:
    """A number of two, four or eight bytes has a value that nobody expects."""
    width, order = random.choice((2, 4, 8)), random.choice(("little", "big"))
    number = EXTREMES[random.integers(len(EXTREMES))] % (1 << 8 * int(width))
    place = _place(content, random)
    content[place : place + width] = number.to_bytes(int(width), str(order))
    return bytes(content)


def inserted(content: bytearray, random: np.random.Generator) -> bytes:
    """Foreign bytes in between."""
    place = _place(content, random)
    return bytes(content[:place] + random.bytes(random.integers(1, 500)) + content[place:])


def deleted(content: bytearray, random: np.random.Generator) -> bytes:
    """A stretch is missing."""
    place = _place(content, random)
    return bytes(content[:place] + content[place + random.integers(1, 500) :])


def doubled(content: bytearray, random: np.random.Generator) -> bytes:
    """A stretch stands there twice."""
    place = _place(content, random)
    end = place + int(random.integers(1, 500))
    return bytes(content[:end] + content[place:])


def zeroed(content: bytearray, random: np.random.Generator) -> bytes:
    """A stretch is zeros, as a disk's lost sector is."""
    place = _place(content, random)
    size = len(content[place : place + random.choice((16, 512, 4096))])
    content[place : place + size] = bytes(size)
    return bytes(content)


def joined(content: bytearray, random: np.random.Generator) -> bytes:
    """Half of this file and half of one of another kind."""
    other = random_sound_file(random)
    return bytes(content[: random.integers(len(content) + 1)]) + other[len(other) // 2 :]


def pretending(content: bytearray, random: np.random.Generator) -> bytes:
    """It begins as a file of another kind does."""
    beginning = BEGINNINGS[random.integers(len(BEGINNINGS))]
    kept = content if random.integers(2) else content[len(beginning) :]
    return beginning + bytes(kept)


def nonsense(content: bytearray, random: np.random.Generator) -> bytes:
    """No sound at all: noise, text or one byte again and again, perhaps after a beginning."""
    size = int(random.integers(3000))
    noise = (random.bytes(size), b"Dear all,\n" * size, bytes([random.integers(256)]) * size)
    return (
        BEGINNINGS[random.integers(len(BEGINNINGS))] * int(random.integers(2))
        + noise[random.integers(3)]
    )


DAMAGES: tuple[Damage, ...] = (
    cut,
    without_beginning,
    other_bytes,
    other_bytes,
    other_bits,
    other_bits,
    other_number,
    other_number,
    inserted,
    deleted,
    doubled,
    zeroed,
    joined,
    pretending,
    nonsense,
)
"""What may happen; what is named twice happens twice as often."""
