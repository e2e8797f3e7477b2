"""Archives from anywhere, read safely: nothing that a zip or tar.gz says of itself is trusted.

Each member is judged before it is read: ordinary files only, within the archive's own tree, and no
more of them than the limits below.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import config

MAX_TOTAL_BYTES = 100_000_000
"""Unpacked size at most; FSDD has 21 MB."""
MAX_MEMBERS = 20_000
"""Files in an archive at most; FSDD has 3,000 and a few."""
MAX_DIRECTORY_BYTES = 200 * MAX_MEMBERS
"""Size of a zip's list of files at most, which is read whole before a file is; FSDD has 0.4 MB."""
END_RECORD = struct.Struct("<4s4H2IH")
"""The record at the end of a zip: signature, disks, counts, directory size and place, comment."""
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    NotImplementedError,
    struct.error,
    RecursionError,
)
"""What the archive modules raise where bytes are missing or wrong."""


class DataError(config.UserError):
    """Recordings that can't be used; the text names the archive or file and says why."""


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to."""

    total_bytes: int
    """Of all its files together, also of those that nobody asks for."""
    members: int
    """Files and folders."""


def usual_limits() -> Limits:
    """Those of an archive that is read at once."""
    return Limits(MAX_TOTAL_BYTES, MAX_MEMBERS)


def select(
    archive: Path, wanted: Callable[[str], bool], limits: Limits
) -> Iterator[tuple[str, bytes]]:
    """The files of a large zip or tar.gz archive whose name is `wanted`, in the archive's order.

    One file is in memory at a time.

    Raises
    ------
    DataError : unsafe, damaged, too large, or no such archive
    """
    try:
        if zipfile.is_zipfile(archive):
            yield from _select_zip(archive, wanted, limits)
        else:
            yield from _select_tar(archive, wanted, limits)
    except DAMAGE as error:
        raise DataError(f"{archive}: truncated or damaged archive ({error})") from None
    except OSError as error:
        raise DataError(f"{archive}: can't be read ({error.strerror or error})") from None


def read_archive(archive: Path) -> dict[str, bytes]:
    """All files of a zip or tar.gz archive: full name within it -> content.

    Raises
    ------
    DataError : unsafe, damaged, too large, or no such archive
    """
    try:
        if zipfile.is_zipfile(archive):
            return _read_zip(archive)
        with open(archive, "rb") as stream:
            gzipped = stream.read(2) == b"\x1f\x8b"
        if gzipped:
            return _read_tar(archive)
    except DAMAGE as error:
        raise DataError(f"{archive}: truncated or damaged archive ({error})") from None
    except OSError as error:
        raise DataError(f"{archive}: can't be read ({error.strerror or error})") from None
    raise DataError(f"{archive}: truncated, or neither a folder nor a zip or tar.gz archive")


def _read_zip(archive: Path) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for name, content in _select_zip(archive, lambda name: True, usual_limits()):
        _add(contents, archive, name, content)
    return contents


def _select_zip(
    archive: Path, wanted: Callable[[str], bool], limits: Limits
) -> Iterator[tuple[str, bytes]]:
    _check_directory(archive)
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        _check_size(archive, len(members), sum(member.file_size for member in members), limits)
        for member in members:
            mode = member.external_attr >> 16
            plain = stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
            # orig_filename: zipfile cuts at NUL; some Windows programs write backslashes
            name = member.orig_filename.replace("\\", "/")
            _check_member(archive, name, plain and not member.flag_bits & 1)
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"{archive}: refused, {name!r} is neither stored nor deflated")
            if not name.endswith("/") and wanted(name):
                with opened.open(member) as stream:
                    # never more than was promised: without a limit zipfile inflates all there is
                    yield name, stream.read(member.file_size)


def _check_directory(archive: Path) -> None:
    """Refuse a zip whose list of files alone would fill the memory."""
    with open(archive, "rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - (1 << 16) - END_RECORD.size))
        tail = stream.read()
    place = tail.rfind(b"PK\x05\x06")
    size = END_RECORD.unpack_from(tail, place)[5]
    large_format = tail[max(0, place - 20) : place].startswith(b"PK\x06\x07")
    if large_format or size > MAX_DIRECTORY_BYTES:
        raise too_large(archive)


def _read_tar(archive: Path) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    with gzip.open(archive) as packed:
        unpacked = packed.read(MAX_TOTAL_BYTES + 1)
    _check_size(archive, 0, len(unpacked))
    total = 0
    with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as opened:
        for count, member in enumerate(opened, start=1):
            total += abs(member.size)
            _check_size(archive, count, total)  # a file with holes may promise any size
            _check_member(archive, member.name, member.isreg() or member.isdir())
            stream = opened.extractfile(member) if member.isreg() else None
            if stream is not None:
                _add(contents, archive, member.name, stream.read())
    return contents


def _select_tar(
    archive: Path, wanted: Callable[[str], bool], limits: Limits
) -> Iterator[tuple[str, bytes]]:
    """As a stream, from the first byte to the last: what lies between is unpacked, but not kept."""
    total = 0
    with tarfile.open(archive, mode="r|gz") as opened:
        for count, member in enumerate(opened, start=1):
            total += abs(member.size)
            _check_size(archive, count, total, limits)  # before its content is unpacked
            _check_member(archive, member.name, member.isreg() or member.isdir())
            stream = opened.extractfile(member) if member.isreg() else None
            if stream is not None and wanted(member.name):
                yield member.name, stream.read()


def _check_size(archive: Path, members: int, size: int, limits: Limits | None = None) -> None:
    limits = limits or usual_limits()
    if members > limits.members or size > limits.total_bytes:
        raise too_large(archive, limits)


def too_large(archive: Path, limits: Limits | None = None) -> DataError:
    """The refusal of an archive that holds more than any corpus."""
    limits = limits or usual_limits()
    return DataError(
        f"{archive}: refused, would unpack to more than {limits.members} files or "
        f"{limits.total_bytes // 1_000_000} MB"
    )


def _check_member(archive: Path, name: str, plain: bool) -> None:
    """Refuse a member that isn't an ordinary file or folder within the archive's own tree."""
    if not plain:
        raise DataError(f"{archive}: refused, {name!r} is a link, a device or encrypted")
    if (
        name.startswith("/")
        or "\\" in name
        or "\0" in name
        or re.match(r"[A-Za-z]:", name)
        or ".." in PurePosixPath(name).parts
    ):
        raise DataError(f"{archive}: refused, {name!r} points outside the archive")


def _add(contents: dict[str, bytes], archive: Path, name: str, content: bytes) -> None:
    if name in contents:
        raise DataError(f"{archive}: refused, holds {name!r} twice")
    contents[name] = content


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` at the end, unless somebody else made it first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o755)  # mkdtemp makes folders that only their owner may enter
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
