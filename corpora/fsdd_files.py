"""FSDD's sound files, out of the folder or archive in which they lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import audio_io
from corpora import archives


def read_files(source: Path) -> dict[str, bytes]:
    """The files that lie in the folder of recordings within `source`: file name -> content."""
    if source.is_dir():
        return _read_folder(source)
    return _recordings_of(archives.read_archive(source), source)


def find_recordings(folder: Path) -> Path | None:
    """The folder of recordings: `folder`, its "recordings", or those of a folder within it."""
    for place in (folder, folder / "recordings", *sorted(folder.glob("*/recordings"))):
        if place.is_dir() and any(place.glob("[0-9]_*_*.*")):
            return place
    return None


def is_sound(name: str) -> bool:
    """Whether a file is a recording; notes, thumbnails and hidden files may lie beside them."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in audio_io.AUDIO_SUFFIXES and not name.startswith(".")


def _read_folder(folder: Path) -> dict[str, bytes]:
    place = find_recordings(folder)
    if place is None:
        raise archives.DataError(
            f'{folder}: no recordings such as 0_george_0.wav in it or its "recordings" folder'
        )
    found, total = {}, 0
    for path in sorted(place.iterdir()):
        if is_sound(path.name):
            size = path.stat().st_size if path.is_file() else 0
            total += size
            if total > archives.MAX_TOTAL_BYTES:
                raise archives.DataError(
                    f"{folder}: refused, more than {archives.MAX_TOTAL_BYTES // 1_000_000} MB"
                )
            found[path.name] = path.read_bytes() if size else b""
    return found


def _recordings_of(contents: Mapping[str, bytes], archive: Path) -> dict[str, bytes]:
    """Of an archive's files, those of the folder that has the most recordings, by bare name."""
    folders = Counter(
        PurePosixPath(name).parent
        for name in contents
        if re.fullmatch(r"\d_[a-z]+_\d+\.\w+", PurePosixPath(name).name)
    )
    if not folders:
        raise archives.DataError(f"{archive}: holds no recordings such as 0_george_0.wav")
    chosen = folders.most_common(1)[0][0]
    paths = {PurePosixPath(name): content for name, content in contents.items()}
    return {
        path.name: content
        for path, content in paths.items()
        if path.parent == chosen and is_sound(path.name)
    }
