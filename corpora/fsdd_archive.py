"""FSDD v1.0.10 as it comes - folder, zip or tar.gz - read safely and checked to the last sample.

Nothing that an archive says is trusted: each member is judged before it is read, and the recordings
are compared, decoded, with the digests of the published release. Z. Jackson et al., "Free Spoken
Digit Dataset" v1.0.10, https://doi.org/10.5281/zenodo.1342401, CC BY-SA 4.0.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
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
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

import audio_io
import config

SAMPLE_RATE = 8000
"""Hz, of every recording."""
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = 50
"""Recordings of each digit by each speaker."""
NAMES = tuple(
    sorted(
        f"{digit}_{speaker}_{take}"
        for digit in config.DIGITS
        for speaker in SPEAKERS
        for take in range(TAKES)
    )
)
"""The 3,000 recordings, without suffix."""
CONTENT_SHA256 = "fbf77c5e2e80e5dacab77db4063117dc77b573a60babb054408d7d40fc993eb4"
"""SHA-256 of :func:`content_digest` over the release."""
DIGEST_TABLE = Path(__file__).with_name("fsdd_digests.txt")
"""The first six hexadecimal digits of each recording's own digest: they name what was altered."""
MAX_TOTAL_BYTES = 200_000_000
"""Unpacked size at most; the release has 21 MB."""
MAX_MEMBERS = 20_000
"""Files in an archive at most; the release has 3,000 and a few."""
NAMED_FILES = 5
"""Files named in a message; the rest is counted."""
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
)
"""What the archive modules raise where bytes are missing or wrong."""


class DataError(config.UserError):
    """Recordings that can't be used; the text names the archive or file and says why."""


def read_verified(source: Path) -> dict[str, np.ndarray]:
    """Read FSDD from a folder, a zip or a tar.gz archive and check every sample of it.

    Returns
    -------
    recordings : name without suffix -> int16 (samples,) at 8 kHz, sorted by name

    Raises
    ------
    DataError : unsafe or damaged archive; missing, stray or altered recordings, by name
    """
    return verify(decode(read_files(source)), source)


def read_files(source: Path) -> dict[str, bytes]:
    """The files that lie in the folder of recordings within `source`: file name -> content."""
    try:
        if source.is_dir():
            return _read_folder(source)
        if zipfile.is_zipfile(source):
            return _recordings_of(_read_zip(source), source)
        with open(source, "rb") as stream:
            gzipped = stream.read(2) == b"\x1f\x8b"
        if gzipped:
            return _recordings_of(_read_tar(source), source)
    except DAMAGE as error:
        raise DataError(f"{source}: truncated or damaged archive ({error})") from None
    except OSError as error:
        raise DataError(f"{source}: can't be read ({error.strerror or error})") from None
    raise DataError(f"{source}: truncated, or neither a folder nor a zip or tar.gz archive")


def find_recordings(folder: Path) -> Path | None:
    """The folder of recordings: `folder`, its "recordings", or those of a folder within it."""
    for place in (folder, folder / "recordings", *sorted(folder.glob("*/recordings"))):
        if place.is_dir() and any(place.glob("[0-9]_*_*.*")):
            return place
    return None


def _read_folder(folder: Path) -> dict[str, bytes]:
    place = find_recordings(folder)
    if place is None:
        raise DataError(
            f'{folder}: no recordings such as 0_george_0.wav in it or its "recordings" folder'
        )
    found = {}
    for path in sorted(place.iterdir()):
        if not path.name.startswith("."):
            small = path.is_file() and path.stat().st_size <= MAX_TOTAL_BYTES // 10
            found[path.name] = path.read_bytes() if small else b""
    return found


def _read_zip(archive: Path) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        _check_size(archive, len(members), sum(member.file_size for member in members))
        for member in members:
            mode = member.external_attr >> 16
            plain = stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
            # orig_filename: zipfile itself mends backslashes and cuts at NUL
            _check_member(archive, member.orig_filename, plain and not member.flag_bits & 1)
            if not member.is_dir():
                _add(contents, archive, member.filename, opened.read(member))
    return contents


def _read_tar(archive: Path) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    with gzip.open(archive) as stream:
        unpacked = stream.read(MAX_TOTAL_BYTES + 1)
    _check_size(archive, 0, len(unpacked))
    with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as opened:
        for count, member in enumerate(opened, start=1):
            _check_size(archive, count, member.size)
            _check_member(archive, member.name, member.isreg() or member.isdir())
            if member.isreg():
                _add(contents, archive, member.name, opened.extractfile(member).read())
    return contents


def _check_size(archive: Path, members: int, size: int) -> None:
    if members > MAX_MEMBERS or size > MAX_TOTAL_BYTES:
        raise DataError(
            f"{archive}: refused, would unpack to more than {MAX_MEMBERS} files or "
            f"{MAX_TOTAL_BYTES // 1_000_000} MB"
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


def _recordings_of(contents: Mapping[str, bytes], archive: Path) -> dict[str, bytes]:
    """Of an archive's files, those of the folder that has the most recordings, by bare name."""
    folders = Counter(
        PurePosixPath(name).parent
        for name in contents
        if re.fullmatch(r"\d_[a-z]+_\d+\.\w+", PurePosixPath(name).name)
    )
    if not folders:
        raise DataError(f"{archive}: holds no recordings such as 0_george_0.wav")
    chosen = folders.most_common(1)[0][0]
    paths = {PurePosixPath(name): content for name, content in contents.items()}
    return {
        path.name: content
        for path, content in paths.items()
        if path.parent == chosen and not path.name.startswith(".")
    }


def decode(contents: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """Sound files to int16 (samples,), by name without suffix; unreadable ones become empty.

    Other rates than 8 kHz count as unreadable. What isn't a sound file keeps its suffix, so that it
    shows up as stray.
    """
    recordings = {}
    for name, content in contents.items():
        path = PurePosixPath(name)
        sound = path.suffix.lower() in audio_io.AUDIO_SUFFIXES and path.stem not in recordings
        samples = np.zeros(0, np.int16)
        with contextlib.suppress(audio_io.AudioError):
            waveform, rate = audio_io.read_audio(content) if sound else (samples, 0)
            samples = audio_io.to_int16(waveform) if rate == SAMPLE_RATE else samples
        recordings[path.stem if sound else name] = samples
    return dict(sorted(recordings.items()))


def verify(recordings: Mapping[str, np.ndarray], source: Path) -> dict[str, np.ndarray]:
    """Return `recordings`, sorted by name, if they are FSDD v1.0.10 to the last sample.

    Raises
    ------
    DataError : names what is missing, stray or altered
    """
    expected = digest_table(DIGEST_TABLE)
    faults = {
        "missing": [name for name in NAMES if name not in recordings],
        "stray": [name for name in recordings if name not in expected],
        "altered or unreadable": [
            name
            for name, samples in recordings.items()
            if name in expected and recording_digest(samples) != expected[name]
        ],
    }
    found = [f"{len(names)} {kind} ({_some(names)})" for kind, names in faults.items() if names]
    if found:
        raise DataError(
            f"{source} isn't FSDD v1.0.10: {'; '.join(found)}. Delete it and get it "
            "again, or name another copy with --data.fsdd-archive or FSDD_ARCHIVE"
        )
    if content_digest(recordings) != CONTENT_SHA256:
        raise DataError(f"{source} isn't FSDD v1.0.10: its samples have another digest")
    return {name: recordings[name] for name in NAMES}


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED_FILES]) + (", ..." if len(names) > NAMED_FILES else "")


def content_digest(recordings: Mapping[str, np.ndarray]) -> str:
    """SHA-256, hexadecimal, over the sorted names, lengths and little-endian int16 samples."""
    digest = hashlib.sha256()
    for name in sorted(recordings):
        samples = recordings[name].astype("<i2", copy=False)
        digest.update(f"{name} {len(samples)}\n".encode())
        digest.update(samples.tobytes())
    return digest.hexdigest()


def recording_digest(samples: np.ndarray) -> str:
    """The first six hexadecimal digits of the SHA-256 of int16 (samples,)."""
    return hashlib.sha256(samples.astype("<i2", copy=False).tobytes()).hexdigest()[:6]


def digest_table(path: Path) -> dict[str, str]:
    """Read name -> digest from the table: a line holds ten takes of a digit by a speaker."""
    table = {}
    for line in path.read_text(encoding="ascii").splitlines():
        first, *digests = line.split()
        stem, take = first.rsplit("_", 1)
        table.update({f"{stem}_{int(take) + i}": digest for i, digest in enumerate(digests)})
    return table


def format_digest_table(recordings: Mapping[str, np.ndarray]) -> str:
    """The text of :data:`DIGEST_TABLE` for `recordings`, which hold all of :data:`NAMES`."""
    lines = []
    for first in (name for name in NAMES if name.endswith("0")):
        stem, take = first.rsplit("_", 1)
        names = [f"{stem}_{int(take) + i}" for i in range(10)]
        lines.append(" ".join([first, *(recording_digest(recordings[name]) for name in names)]))
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
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


def unpack(archive: Path, folder: Path) -> Path:
    """Verify `archive`, then write its recordings to ``folder/recordings``; whole or not at all.

    Only bare file names are taken from the archive, and only after they have been verified.
    """
    contents = read_files(archive)
    verify(decode(contents), archive)
    with _new_folder(folder) as temporary:
        (temporary / "recordings").mkdir()
        for name, content in contents.items():
            (temporary / "recordings" / name).write_bytes(content)
    return folder
