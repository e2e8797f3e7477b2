"""AudioMNIST: 60 speakers say each digit 50 times, in quiet rooms, at 48 kHz.

    python -m corpora.audiomnist     says how large it is, fetches and verifies it

It lies as ``data/NN/D_NN_T.wav`` (speaker, digit, take), or, in an archive of ten speakers that
courses hand out, without ``data``. S. Becker et al., "AudioMNIST: Exploring Explainable Artificial
Intelligence for audio analysis on a simple benchmark", https://arxiv.org/abs/1807.03418,
github.com/soerenab/AudioMNIST, MIT.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

import config
import utils
from corpora import archives, download
from corpora.clips import Clips
from corpora.folder import load_folder
from corpora.registry import Request, Unavailable, register

URL = "https://github.com/soerenab/AudioMNIST/archive/refs/heads/master.zip"
VARIABLE = "AUDIOMNIST_DIR"
"""Environment variable that names a copy: a folder or an archive."""
SIZE = "about 1 GB to fetch, 2 GB unpacked"
LIMITS = archives.Limits(total_bytes=4_000_000_000, members=50_000)
"""Of its archive; it holds 30,000 clips."""
CLIPS = 30_000
SPEAKER_CLIPS = 500
"""Ten digits, fifty takes."""
CLIP_PATH = re.compile(r"(?P<speaker>\d\d)/\d_(?P=speaker)_\d+\.wav")
METADATA = "audioMNIST_meta.txt"
"""JSON beside the speakers' folders: age, gender, accent, origin, room."""
GROUPS = (
    (28, 56, 7, 19, 35, 1, 6, 16, 23, 34, 46, 53),
    (36, 57, 9, 24, 37, 2, 8, 17, 29, 39, 48, 54),
    (43, 58, 14, 25, 38, 3, 10, 20, 30, 40, 49, 55),
    (12, 47, 59, 15, 27, 41, 4, 11, 21, 31, 44, 50),
    (26, 52, 60, 18, 32, 42, 5, 13, 22, 33, 45, 51),
)
"""The speakers of the paper's five splits, as its code groups them."""


@dataclass(frozen=True)
class Fold:
    """One of the paper's speaker-disjoint splits; each is indices (n,) into the clips."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@register(
    "audiomnist",
    licence="MIT",
    about="AudioMNIST: 60 speakers, mostly German, 50 takes of each digit",
    place=lambda request: find(request.data),
    without=f"60 speakers in quiet rooms; python -m corpora.audiomnist fetches them ({SIZE})",
)
def load(request: Request) -> Clips:
    """All clips, sorted by path; kept decoded below ``data.root``."""
    folder = find(request.data)
    if folder is None:
        raise Unavailable(
            f"AudioMNIST lies nowhere: name a copy with {VARIABLE}, or fetch it ({SIZE}): "
            "python -m corpora.audiomnist"
        )
    _report_missing(folder, clip_paths(folder))
    cache = request.data.root / "cache"
    return load_folder(
        folder, request.audio, "audiomnist", pattern="label_speaker_take", cache=cache
    )


def find(data: config.DataSettings) -> Path | None:
    """The folder of the speakers' folders: of the copy that is named, else of a fetched one.

    Raises
    ------
    UserError : the copy that is named doesn't exist or holds nothing of AudioMNIST
    """
    named = config.from_environment(VARIABLE)
    if named is None:
        return speakers_folder(data.root / "audiomnist")
    if named.is_file():
        named = _unpacked(named, data.root)
    folder = speakers_folder(named)
    if folder is None:
        problem = "no clips such as 01/7_01_0.wav in it" if named.is_dir() else "no such folder"
        raise config.UserError(f"{named}: {problem} ({VARIABLE})")
    return folder


def _unpacked(archive: Path, root: Path) -> Path:
    """Where an archive that somebody names is unpacked, which is done once."""
    facts = archive.stat()
    state = hashlib.sha256(f"{archive.resolve()} {facts.st_size} {facts.st_mtime_ns}".encode())
    folder = root / f"audiomnist-{state.hexdigest()[:8]}"
    with utils.locked(folder):
        return folder if folder.is_dir() else unpack(archive, folder)


def speakers_folder(folder: Path) -> Path | None:
    """`folder`, its ``data``, or those of a folder within it, where speakers' folders lie."""
    inner = [*sorted(folder.glob("*/data")), *sorted(folder.glob("*"))]
    for place in (folder, folder / "data", *inner):
        if any(place.glob("[0-9][0-9]/[0-9]_[0-9][0-9]_*.wav")):
            return place
    return None


def clip_paths(folder: Path) -> list[Path]:
    """The clips in the speakers' folders directly in `folder`, sorted."""
    return [
        path
        for path in sorted(folder.glob("[0-9][0-9]/*.wav"))
        if CLIP_PATH.fullmatch(path.relative_to(folder).as_posix())
    ]


def _report_missing(folder: Path, paths: Iterable[Path]) -> None:
    """Say on standard error which speakers have fewer clips than were published."""
    speakers = [path.parent.name for path in paths]
    names, counts = np.unique(speakers, return_counts=True)
    short = [
        f"{name} ({count} of {SPEAKER_CLIPS})"
        for name, count in zip(names, counts, strict=True)
        if count < SPEAKER_CLIPS
    ]
    if short:
        more = ", ..." if len(short) > 5 else ""
        print(
            f"warning: {folder}: half a copy of AudioMNIST? Clips are missing of "
            f"{len(short)} speakers: {', '.join(short[:5])}{more}",
            file=sys.stderr,
        )


def unpack(archive: Path, folder: Path, clips: int | None = None) -> Path:
    """Unpack the clips and the speakers' metadata of an archive; whole or not at all.

    Raises
    ------
    DataError : unsafe, damaged or too large an archive; no clips in it, or not as many as `clips`
    OSError : no room for them
    """
    with archives.new_folder(folder) as temporary:
        for name, content in archives.select(archive, lambda name: bool(_place(name)), LIMITS):
            path = temporary / _place(name)
            if path.exists():
                raise archives.DataError(f"{archive}: refused, holds {_place(name)!r} twice")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        count = len(clip_paths(temporary))
        if not count or count != (clips or count):
            wanted = f"{clips or 'some'} of AudioMNIST, such as 01/7_01_0.wav"
            raise archives.DataError(f"{archive}: {count} clips in it, not {wanted}")
    return folder


def _place(name: str) -> str:
    """Where a file of the archive goes: ``NN/D_NN_T.wav``, the metadata; "" for all else."""
    path = PurePosixPath(name)
    inner = "/".join(path.parts[-2:])
    if path.name == METADATA:
        return METADATA
    return inner if CLIP_PATH.fullmatch(inner) else ""


def fetch(data: config.DataSettings) -> Path:
    """Fetch AudioMNIST below ``data.root``, unless it lies there; the speakers' folders' place.

    Raises
    ------
    Unavailable : the download fails, or brings something else
    """
    folder, archive = data.root / "audiomnist", data.root / "audiomnist.zip"
    with utils.locked(folder):
        if (found := speakers_folder(folder)) is not None:
            return found
        try:
            if not archive.exists():
                download.fetch(URL, archive, download.Expected(LIMITS.total_bytes))
            unpack(archive, folder, CLIPS)
        except download.DownloadError as error:
            raise Unavailable(f"{error}; or name a copy with {VARIABLE}") from None
        except OSError as error:
            reason = error.strerror or error
            raise Unavailable(f"can't unpack {archive}: {reason}; {SIZE}") from None
        except archives.DataError as error:
            archive.unlink()  # so that the next attempt fetches it anew
            raise Unavailable(f"{error}; run this again, or name a copy with {VARIABLE}") from None
        archive.unlink()
        return folder


def folds(clips: Clips) -> list[Fold]:
    """The paper's five splits: three groups of speakers train, one validates, one tests.

    Fold k trains on groups k, k + 1 and k + 2, validates on k + 3 and tests on k + 4, each modulo
    5. Of ten speakers each fold has what there is.
    """
    group = {f"{speaker:02d}": place for place, part in enumerate(GROUPS) for speaker in part}
    places = np.array([group.get(str(speaker), -1) for speaker in clips.speakers])

    def members(*chosen: int) -> np.ndarray:
        return np.flatnonzero(np.isin(places, [number % len(GROUPS) for number in chosen]))

    return [
        Fold(members(k, k + 1, k + 2), members(k + 3), members(k + 4)) for k in range(len(GROUPS))
    ]


def speaker_facts(folder: Path) -> dict[str, dict[str, str]]:
    """What the metadata say of each speaker, such as gender and accent; empty where unreadable."""
    try:
        stored = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        return {
            str(speaker): {str(key): str(value) for key, value in facts.items()}
            for speaker, facts in stored.items()
        }
    except (OSError, ValueError, AttributeError):
        return {}


@dataclass(frozen=True)
class FetchSettings:
    """Where AudioMNIST goes."""

    data: config.DataSettings = field(default_factory=config.DataSettings)


def run(settings: FetchSettings) -> None:
    """Say how large it is, fetch it, and count what came."""
    print(f"AudioMNIST, {SIZE}, from {URL} to {settings.data.root / 'audiomnist'}", flush=True)
    folder = fetch(settings.data)
    print(f"{len(clip_paths(folder))} clips of {len(list(folder.glob('[0-9][0-9]')))} speakers")


if __name__ == "__main__":
    utils.main(run, FetchSettings, __doc__)
