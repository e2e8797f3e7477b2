"""What people send: names made harmless, sizes bounded, archives looked into without unpacking."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import audio_io
import config
import utils
from audio import decoding
from audio_io import Recording
from recognition.recognizer import SHORTEST_SECONDS

NAME_LENGTH = 100
"""Letters of a name that are kept."""
MAX_UNPACKED = 512 * 2**20
"""Bytes that an archive may hold, unpacked."""
MAX_RATIO = 200
"""Times that an archive's members may be larger than the archive; sound shrinks to a half."""
LABELS = {**dict(zip(config.DIGIT_WORDS, range(10), strict=True)), **config.ALTERNATIVE_NAMES}

Source = tuple[str, Path | bytes]
"""A recording's name, and the file or the bytes that hold it."""


class Refused(config.UserError):
    """What was sent can't be answered; `status` is the HTTP status that says so."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def safe_name(name: str | None) -> str:
    """The last part of a file's name, on one line and not longer than a line."""
    last = re.split(r"[/\\]", name or "")[-1].strip()
    text = utils.printable(last) or "recording"
    return text if len(text) <= NAME_LENGTH else text[: NAME_LENGTH - 1] + "…"


def uploaded(path: str, folder: Path) -> Path:
    """The path of what was uploaded into `folder`; a request may name any other file.

    Raises
    ------
    Refused : it lies elsewhere
    """
    place = Path(path).resolve()
    if not place.is_relative_to(folder.resolve()) or not place.is_file():
        raise Refused("no such upload", 403)
    return place


def read(name: str, source: Path | bytes, max_seconds: float) -> Recording:
    """A recording that was sent.

    Raises
    ------
    Refused : not sound, empty, its end missing, too short, too long
    """
    try:
        read = audio_io.read_recording(source, max_seconds=max_seconds)
    except audio_io.AudioError as error:
        place = utils.printable(source) if isinstance(source, Path) else "recording"
        raise Refused(f"{name}: {str(error).removeprefix(f'{place}: ')}") from None
    if decoding.END_MISSING in read.remarks:
        raise Refused(f"{name}: {decoding.END_MISSING}; send it again")
    if read.seconds < SHORTEST_SECONDS:
        raise Refused(f"{name}: too short: {1000 * read.seconds:.0f} ms hold no word")
    return Recording(read.waveform, read.sample_rate, name, read.remarks)


def expand(sources: list[Source], max_files: int) -> list[Source]:
    """The recordings among files, some of which may be zip archives.

    Raises
    ------
    Refused : too many; an archive is damaged, locked, too large or names places outside it
    """
    found: list[Source] = []
    for name, source in sources:
        if _is_zip(source):
            found += _members(name, source, max_files)
        else:
            found.append((name, source))
        if len(found) > max_files:
            raise Refused(f"more than {max_files} files at a time", 413)
    if not found:
        raise Refused("no sound files in what was sent")
    return found


def _is_zip(source: Path | bytes) -> bool:
    if isinstance(source, bytes):
        return source[:2] == b"PK"
    with source.open("rb") as file:
        return file.read(2) == b"PK"


def _members(name: str, source: Path | bytes, max_files: int) -> Iterator[Source]:
    """The sound files in an archive, read one by one into memory."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            items = [item for item in opened.infolist() if not item.is_dir()]
            _check_archive(name, items, size, max_files)
            for item in filter(_is_sound, items):
                with opened.open(item) as file:  # never more than the directory says
                    yield safe_name(item.filename), file.read(item.file_size)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        reason = "locked by a password" if "password" in str(error) else "damaged archive"
        raise Refused(f"{name}: {reason}") from None
    except Exception as error:  # decompressors raise classes of their own
        if isinstance(error, Refused):
            raise
        raise Refused(f"{name}: damaged archive") from None


def _check_archive(name: str, items: list[zipfile.ZipInfo], size: int, max_files: int) -> None:
    if len(items) > max_files:
        raise Refused(f"{name}: holds {len(items)} files; at most {max_files} at a time", 413)
    for item in items:
        place = PurePosixPath(item.filename.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in place.parts[0]:
            raise Refused(f"{name}: names places outside the archive")
    unpacked = sum(item.file_size for item in items)
    if unpacked > MAX_UNPACKED or unpacked > MAX_RATIO * max(size, 1000):
        raise Refused(f"{name}: would unpack to {unpacked / 1e6:.0f} MB", 413)


def _is_sound(item: zipfile.ZipInfo) -> bool:
    place = PurePosixPath(item.filename.replace("\\", "/"))
    hidden = any(
        part.startswith(".") or part.lower() in audio_io.SYSTEM_FILES for part in place.parts
    )
    return not hidden and place.suffix.lower() in audio_io.AUDIO_SUFFIXES


def label_of(name: str) -> int | None:
    """The digit that a file's name carries: 7_ada_0.wav, ada-seven.wav, theo_7.wav; else None.

    Where several parts name digits, the first counts.
    """
    for part in re.split(r"[^a-z0-9]+", PurePosixPath(name).stem.lower()):
        if part in LABELS or (part.isdigit() and len(part) == 1 and part.isascii()):
            return LABELS.get(part, int(part) if part.isdigit() else None)
    return None
