"""A folder of labelled sound files as a corpus; your own recordings are one of these."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

import audio_io
import config
from corpora import decoding, layouts
from corpora.clips import Clips
from corpora.layouts import Labelled
from corpora.registry import Request, register

NAMED_FILES = 10
"""Skipped files that are named; the rest is counted."""
MAX_NOISE_SECONDS = 3600.0
"""s. Backgrounds may be longer than words."""


@register(
    "own",
    licence="yours",
    about="your own labelled clips, made by microphone_inference.py",
    place=lambda request: folder if (folder := own_folder(request)).is_dir() else None,
    people=False,
)
def load_own(request: Request) -> Clips:
    """The clips that the live script has kept, below ``data.own_dir``."""
    folder = own_folder(request)
    if not folder.is_dir():
        raise config.UserError(
            f"{folder}: no recordings of your own yet; microphone_inference.py makes some"
        )
    return load_folder(folder, request.audio, corpus="own", vocabulary=request.vocabulary)


def own_folder(request: Request) -> Path:
    """``data.own_dir`` in the current folder, or in the program's own."""
    return config.program_path(request.data.own_dir)


def load_folder(
    folder: Path,
    audio: config.AudioSettings,
    corpus: str | None = None,
    label_from_name: bool = True,
    pattern: str = "",
    cache: Path | None = None,
    vocabulary: config.Vocabulary | None = None,
) -> Clips:
    """All recordings below `folder`, or in a table of recordings, resampled.

    Labels come from the pattern, from the folder's table (a CSV with the columns file and label)
    or from one of the layouts of :mod:`corpora.layouts`. Files without label, without sound or
    unreadable are named on standard error, and skipped.

    Parameters
    ----------
    folder : searched with its subfolders; or a CSV file
    audio : the sample rate, and the longest clip accepted
    corpus : name for all clips; by default that of the first folder on the way to each that is
        neither label nor speaker, which is `folder` itself for files directly in it
    label_from_name : False takes any name, and non-digit as label
    pattern : how files are named, such as "speaker_label_take"; "" finds out
    cache : where a folder of thousands is kept decoded; None keeps it in memory
    vocabulary : the labels, by default the ten digits in English

    Returns
    -------
    clips : sorted by path; words that are no label are ``vocabulary.reject``

    Raises
    ------
    UserError : no such folder, a bad table or pattern, or no usable recording
    """
    paths, labelled = _labels(folder, pattern, label_from_name, labels_of(vocabulary))
    known: dict[Path, Labelled] = {}
    skipped: dict[Path, str] = {}
    for path in paths:
        try:
            known[path] = labelled(path)
        except layouts.NoLabel as error:
            skipped[path] = f"{path}: {error}"
    files = list(known)
    decoded = decoding.decode(files, audio, cache, str(folder.absolute()))
    skipped |= {files[number]: error for number, error in decoded.errors.items()}
    _report_skipped(folder, [skipped[path] for path in paths if path in skipped], len(paths))
    whole = corpus or folder.resolve().stem
    rows, lengths = [], []
    for (path, item), length in zip(known.items(), decoded.lengths, strict=True):
        if path not in skipped:
            group = corpus or item.group or whole
            rows.append((item.label, item.speaker, path.stem, item.take, group))
            lengths.append(length)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    labels, speakers, names, takes, groups = map(np.array, zip(*rows, strict=True))
    return Clips(
        decoded.samples, offsets, labels, speakers, names, takes, groups, audio.sample_rate
    )


def labels_of(vocabulary: config.Vocabulary | None) -> layouts.Labels:
    """The words that are labels in names and tables."""
    if vocabulary is None or vocabulary == config.ENGLISH_DIGITS:
        return layouts.DIGITS
    return layouts.Labels(vocabulary.by_name, vocabulary.reject)


def label_words(folder: Path, pattern: str = "") -> set[str]:
    """Every label in a folder or a table of recordings, in lower case.

    They are in the table's column, where the pattern has them, in the names of the folders around
    the files, or, where there are no folders or these are the speakers', in the files' names.

    Raises
    ------
    UserError : no such folder, or a bad table or pattern
    """
    table = folder if folder.is_file() else layouts.find_table(folder)
    if table is not None and not pattern:
        return layouts.table_words(table)
    paths = [PurePosixPath(path.relative_to(folder).as_posix()) for path in _sound_files(folder)]
    return layouts.words_of(paths, pattern)


def _labels(
    folder: Path, pattern: str, label_from_name: bool, known: layouts.Labels
) -> tuple[list[Path], Callable[[Path], Labelled]]:
    """The recordings of a folder or a table, and what tells the label of each."""

    def inner(path: Path) -> PurePosixPath:
        return PurePosixPath(path.relative_to(folder).as_posix())

    if folder.is_file():
        return _table(folder, [], known)
    table = layouts.find_table(folder) if label_from_name and not pattern else None
    paths = _sound_files(folder, table)
    if table is not None:
        return _table(table, paths, known)
    if not label_from_name:
        return paths, lambda path: Labelled(config.REJECT, "", 0, _first_folder(inner(path)))
    if pattern:
        layouts.compile_pattern(pattern)
        return paths, lambda path: layouts.by_pattern(inner(path), pattern, known)
    paths = [path for path in paths if layouts.BACKGROUND_FOLDER not in path.parts]
    folders = layouts.find_folders(map(inner, paths), known)
    name = folder.resolve().name
    return paths, lambda path: layouts.by_layout(inner(path), name, folders, known)


def _first_folder(path: PurePosixPath) -> str:
    return path.parts[0] if len(path.parts) > 1 else ""


def _table(
    table: Path, paths: list[Path], known: layouts.Labels
) -> tuple[list[Path], Callable[[Path], Labelled]]:
    """The recordings that a table names; those of `paths` that it doesn't are counted."""
    found = layouts.read_table(table, known)
    left = len(set(paths) - set(found))
    if left:
        _warn(f"{left} sound files in {table.parent} are not in {table.name}: left out")
    return sorted(found), found.__getitem__


def doubts(clips: Clips) -> list[str]:
    """What speaks against the labels of a folder, in plain words; empty where nothing does."""
    found, pattern = [], "say how the files are named with --data.pattern, as in speaker_label_take"
    other = clips.labels == config.REJECT
    if other.all():
        found.append(f"ALL {len(clips)} CLIPS ARE NON-DIGITS. If they are digits, {pattern}")
    digits = [str(speaker) for speaker in np.unique(clips.speakers) if layouts.is_digit(speaker)]
    if digits:
        found.append(f"SPEAKERS ARE CALLED {', '.join(digits)}. If these are the labels, {pattern}")
    words = {str(name).split("_")[0] for name in clips.names[other] if "_nohash_" not in name}
    hashes = sorted(word for word in words if layouts.HASH.fullmatch(word))
    if hashes:
        found.append(
            f"HASHES ARE TAKEN FOR WORDS: {', '.join(hashes[:3])}. If the label stands elsewhere, "
            + pattern
        )
    return found


def load_noise(folder: Path, sample_rate: int) -> list[np.ndarray]:
    """All sound files below `folder` as float32 (samples,), resampled, sorted by path.

    Raises
    ------
    UserError : no such folder, or no usable sound in it
    """
    noises, skipped = [], []
    paths = _sound_files(folder)
    for path in paths:
        try:
            noises.append(audio_io.read_audio(path, sample_rate, MAX_NOISE_SECONDS)[0])
        except config.UserError as error:
            skipped.append(str(error))
    _report_skipped(folder, skipped, len(paths))
    return noises


def _sound_files(folder: Path, table: Path | None = None) -> list[Path]:
    if not folder.is_dir():
        raise config.UserError(f"{folder}: no such folder")
    files = audio_io.find_audio(folder)
    files = replace(files, left_out=[path for path in files.left_out if path != table])
    if files.remark():
        _warn(f"{folder}: {files.remark()}")
    return files.paths


def _report_skipped(folder: Path, skipped: list[str], total: int) -> None:
    for message in skipped[:NAMED_FILES]:
        _warn(f"skipped {message}")
    if skipped:
        _warn(f"{len(skipped)} of {total} files in {folder} skipped")
    if len(skipped) == total:
        raise config.UserError(f"{folder}: no usable sound file in it ({total} found)")


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
