"""Where prepared clips come from: archives that are fetched, cut to clips, and removed again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import config
from corpora import archives, cuts, download

TABLES = Path(__file__).parent
"""Folder of the tables of clips."""


@dataclass(frozen=True)
class Source:
    """A published archive that holds the recordings of some clips."""

    url: str
    file: str
    """Name of the archive below ``data.root`` while it is there."""
    table: str
    """The table of its clips, and which of the table's folders it has."""
    folders: tuple[str, ...]
    wanted: Callable[[str], bool]
    """Whether a file of the archive, by its full name, may hold some of them."""
    limits: archives.Limits
    expected: download.Expected
    sample_rate: int = 16000
    """Hz, of its recordings."""


def fetch(sources: Sequence[Source], data: config.DataSettings, unpacked: str = "") -> None:
    """Fetch what isn't below ``data.root`` yet and cut it; each folder whole or not at all.

    Parameters
    ----------
    sources : all archives of a corpus
    data : settings
    unpacked : folder below ``data.root`` that all else in the archives is kept in; "" drops it

    Raises
    ------
    DownloadError : an archive can't be had
    DataError : it is damaged, or isn't what the clips were cut from; it is then removed
    """
    for source in sources:
        if all((data.root / folder).is_dir() for folder in source.folders):
            continue
        archive = data.root / source.file
        if not archive.exists():
            print(f"fetching {source.url}", flush=True)
            download.fetch(source.url, archive, source.expected)
        try:
            if unpacked:
                unpack(source, archive, data.root / unpacked)
            cut(source, archive, data.root)
        except archives.DataError:
            archive.unlink()  # so that the next attempt fetches it anew
            raise
        archive.unlink()


def cut(source: Source, archive: Path, base: Path) -> None:
    """Write the clips of a source's table, cut from its archive, below a folder.

    Raises
    ------
    DataError : the archive is damaged, or lacks some of them
    """
    table = [
        item for item in cuts.read_table(TABLES / source.table) if item.folder in source.folders
    ]
    clips = cuts.cut_archive(archive, table, source.wanted, source.limits)
    cuts.write_clips(clips, base, source.sample_rate)


def unpack(source: Source, archive: Path, folder: Path) -> None:
    """Write all files of an archive below a new folder; whole or not at all."""
    with archives.new_folder(folder) as temporary:
        for name, content in archives.select(archive, lambda name: True, source.limits):
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
