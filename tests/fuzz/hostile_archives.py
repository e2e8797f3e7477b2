"""Archives that say of themselves what is not true, point elsewhere, or are broken."""

from __future__ import annotations

import functools
import gzip
import io
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable

import numpy as np
from conftest import WRAPPER, beep, tar_bytes, wav_bytes, zip_bytes

from fuzz.damage import DAMAGES, damaged_file

RECORDINGS = WRAPPER + "recordings/"
OUTSIDE = ("../x.wav", "/tmp/x.wav", "C:/x.wav", "..\\x.wav", "\\\\host\\x.wav", "a/../../x.wav")
ODD = (".", "/", "a\0b.wav", "a" * 5000, "\u202egpj.wav", "a\r\nb.wav", "CON", "a/" * 300)
BOMB = 150_000_000
"""Bytes that a bomb unpacks to: more than any archive may."""

Maker = Callable[[np.random.Generator], bytes]


@functools.cache
def sound_members() -> dict[str, bytes]:
    """Twelve sound recordings by their names in an archive."""
    return {
        f"{RECORDINGS}{digit}_ada_{take}.wav": wav_bytes(beep(digit, 0, take))
        for digit in range(4)
        for take in range(3)
    }


def _packed(members: dict[str, bytes], random: np.random.Generator) -> bytes:
    return (zip_bytes if random.integers(2) else tar_bytes)(members)


def damaged(random: np.random.Generator) -> bytes:
    """A sound archive whose bytes are damaged as those of sound files are."""
    content = _packed(sound_members(), random)
    for index in random.integers(len(DAMAGES), size=random.integers(1, 4)):
        content = DAMAGES[index](bytearray(content or b"\0"), random)
    return content


def damaged_directory(random: np.random.Generator) -> bytes:
    """A zip with other numbers in its list of files, which stands at the end."""
    content = bytearray(zip_bytes(sound_members()))
    start = content.index(b"PK\1\2")
    for _ in range(random.integers(1, 6)):
        content[random.integers(start, len(content))] = random.choice((0, 1, 127, 128, 255))
    return bytes(content)


def damaged_headers(random: np.random.Generator) -> bytes:
    """A tar.gz that unpacks, with other bytes in one member's header, and the sum right again."""
    content = bytearray(gzip.decompress(tar_bytes(sound_members())))
    for _ in range(random.integers(1, 8)):
        content[random.integers(512)] = random.integers(256)
    content[148:156] = b"        "
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return gzip.compress(bytes(content), 1)


def damaged_members(random: np.random.Generator) -> bytes:
    """A sound archive of damaged recordings."""
    members = {name: damaged_file(random) for name in list(sound_members())[:6]}
    return _packed(sound_members() | members, random)


def odd_names(random: np.random.Generator) -> bytes:
    """Members that point outside, or have names that no file has."""
    names = OUTSIDE + ODD
    odd = {names[index]: b"x" for index in random.integers(len(names), size=3)}
    try:
        return _packed(sound_members() | odd, random)
    except (ValueError, OSError):
        return zip_bytes(sound_members() | {OUTSIDE[0]: b"x"})


def twice(random: np.random.Generator) -> bytes:
    """The same member twice, with other content."""
    buffer = io.BytesIO(zip_bytes(sound_members()))
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(next(iter(sound_members())), random.bytes(50))
    return buffer.getvalue()


def links(random: np.random.Generator) -> bytes:
    """A link, a device or a pipe among the members."""
    buffer = io.BytesIO()
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(f"{RECORDINGS}0_ada_0.wav")
        member.type = kinds[random.integers(len(kinds))]
        member.linkname = "../../../etc/passwd"
        archive.addfile(member)
    return buffer.getvalue()


@functools.cache
def _bomb(method: int) -> bytes:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", method) as archive,
        archive.open(f"{RECORDINGS}0_ada_0.wav", "w") as member,
    ):
        for _ in range(BOMB // 1_000_000):
            member.write(bytes(1_000_000))
    return buffer.getvalue()


def lying_bomb(random: np.random.Generator) -> bytes:
    """A zip that unpacks to more than it may and promises something else."""
    content = bytearray(_bomb((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)[random.integers(2)]))
    promise = int(random.choice((0, 1, 100, 90_000_000, BOMB, 0xFFFFFFFE)))
    for header, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(header) + place, promise)
    return bytes(content)


@functools.cache
def tar_bomb() -> bytes:
    """A tar.gz of zeros."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(f"{RECORDINGS}0_ada_0.wav")
        member.size = BOMB
        archive.addfile(member, io.BytesIO(bytes(BOMB)))
    return buffer.getvalue()


def sharing(random: np.random.Generator) -> bytes:
    """A zip whose members all lie at the same place: more to unpack than there is."""
    content = bytearray(zip_bytes(sound_members()))
    place = content.index(b"PK\1\2")
    while content[place : place + 4] == b"PK\1\2":
        content[place + 42 : place + 46] = bytes(4)
        place += 46 + sum(struct.unpack_from("<3H", content, place + 28))
    return bytes(content)


MAKERS: tuple[Maker, ...] = (
    damaged,
    damaged,
    damaged_directory,
    damaged_headers,
    damaged_members,
    odd_names,
    twice,
    links,
    sharing,
)
RARE: tuple[Maker, ...] = (lying_bomb, lambda random: tar_bomb())
"""What takes a second: once in 20."""


def hostile_archive(number: int, random: np.random.Generator) -> bytes:
    """An archive of the kind whose turn it is."""
    if number % 20 == 19:
        return RARE[number // 20 % len(RARE)](random)
    return MAKERS[number % len(MAKERS)](random)
