"""Who says what in a recording, told by its name, its folder, a pattern or a table.

Without a pattern or a table these are understood, by file:

- Speech Commands: ``word/hash_nohash_n.wav``; the folder is the label, the hash the speaker;
- ``label_speaker_take.wav``, also below a folder for each speaker, as AudioMNIST has it;
- a folder for each label, ``7/anything.wav`` or ``seven/anything.wav``, words beside the digits.

A label is a digit, its English word, or any other word, which is a non-digit.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import config

UNKNOWN_SPEAKER = "unknown"
"""Who speaks where nothing says it."""
NON_DIGIT_LABELS = ("other", "non-digit", "no digit")
"""Labels of a table that stand for an out-of-vocabulary word."""
CLIP_NAME = re.compile(r"(?P<label>[^\W\d_]+|\d)_(?P<speaker>.+)_(?P<take>\d+)")
NUMBERED_NAME = re.compile(r"(?P<speaker>.*?)[_\-. ()]*(?P<take>\d*)[)]?")
SPEECH_COMMANDS_NAME = re.compile(r"(?P<speaker>.+)_nohash_(?P<take>\d+)")
HASH = re.compile(r"[a-f]{7,}")
"""A word that is more likely a hash, of the kind that Speech Commands calls its speakers by."""
MAX_TABLE_BYTES = 50_000_000
"""Of a table of labels: half a million clips."""
MAX_HEADER_BYTES = 10_000
"""Of its first line."""
BACKGROUND_FOLDER = "_background_noise_"
"""Of Speech Commands: noise, not words."""
PATTERN_WORDS = {
    "label": r"(?P<label>[^\W\d_]+|\d)",
    "speaker": r"(?P<speaker>[^/]+?)",
    "take": r"(?P<take>\d+)",
    "any": r"[^/]*?",
}
"""What may stand in a pattern, each at most once except "any"."""
DIGIT_LABELS = {
    **{name: int(name) for name in config.DIGITS},
    **{name: digit for digit, name in enumerate(config.DIGIT_WORDS)},
}
"""Digits in figures and in letters -> class index."""


class NoLabel(config.UserError):
    """A recording whose label can't be told."""


@dataclass(frozen=True)
class Labelled:
    """What is known of one recording."""

    label: int
    """Class index; 0 to 9, or config.REJECT for a non-digit."""
    speaker: str
    take: int
    group: str
    """The first folder on the way to it that is neither label nor speaker; else ""."""


@dataclass(frozen=True)
class Folders:
    """Folders whose name says something of every file directly in them."""

    labels: frozenset[PurePosixPath] = frozenset()
    speakers: frozenset[PurePosixPath] = frozenset()


@dataclass(frozen=True)
class Labels:
    """Which words are labels, by default the digits; everything else is none of them."""

    names: Mapping[str, int]
    """Labels and their words, in lower case -> class index."""
    reject: int
    """Class index of all other words."""

    def of(self, word: str) -> int:
        """The class index of a label or a word."""
        return self.names.get(word.lower(), self.reject)

    def __contains__(self, word: str) -> bool:
        return word.lower() in self.names


DIGITS = Labels(DIGIT_LABELS, config.REJECT)


def label_of(word: str) -> int:
    """The class index of a digit or a word."""
    return DIGITS.of(word)


def is_digit(word: str) -> bool:
    """Whether a word is a digit, in figures or in letters."""
    return word.lower() in DIGIT_LABELS


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern such as ``speaker_label_take`` or ``label/speaker-take`` as an expression.

    Raises
    ------
    UserError : no label in it, or a part twice
    """
    parts = re.split(r"(label|speaker|take|any)", pattern.replace("\\", "/").strip("/"))
    counts = {word: parts.count(word) for word in PATTERN_WORDS if word != "any"}
    if counts["label"] != 1 or max(counts.values()) > 1:
        raise config.UserError(
            f"data.pattern is {pattern!r}: use label once, speaker and take at most once, and any, "
            "as in speaker_label_take or label/speaker_take"
        )
    return re.compile("".join(PATTERN_WORDS.get(part, re.escape(part)) for part in parts))


def by_pattern(path: PurePosixPath, pattern: str, known: Labels = DIGITS) -> Labelled:
    """Label, speaker and take of a path within its folder, by a pattern.

    Raises
    ------
    NoLabel : the path doesn't fit
    """
    depth = pattern.replace("\\", "/").strip("/").count("/") + 1
    match = compile_pattern(pattern).fullmatch("/".join(path.with_suffix("").parts[-depth:]))
    if match is None:
        raise NoLabel(f"not named {pattern}")
    found = match.groupdict()
    return Labelled(
        known.of(found["label"]),
        found.get("speaker") or UNKNOWN_SPEAKER,
        int(found.get("take") or 0),
        path.parts[0] if len(path.parts) > depth else "",
    )


def by_layout(
    path: PurePosixPath, folder: str, folders: Folders, known: Labels = DIGITS
) -> Labelled:
    """Label, speaker and take of a path within `folder`, by the layouts that are usual.

    Parameters
    ----------
    path : of the recording, within the folder
    folder : the folder's own name, the label of Speech Commands' files directly in it
    folders : what :func:`find_folders` found
    known : the labels

    Raises
    ------
    NoLabel : none fits
    """
    parent, stem = path.parent, path.stem
    in_digit_folder = parent in folders.labels and parent.name in known
    match, label = SPEECH_COMMANDS_NAME.fullmatch(stem), parent.name or folder
    described = match is not None or parent in folders.labels | folders.speakers
    if match is None:
        match = CLIP_NAME.fullmatch(stem)
        if match is not None and (match["label"] in known or not in_digit_folder):
            label = match["label"]
        elif parent in folders.labels:  # 7/ann_b_3 is a seven
            match = NUMBERED_NAME.fullmatch(stem)
    if match is None:
        raise NoLabel("not named like 7_speaker_0 or word_speaker_0")
    groups = parent.parts[:-1] if described else parent.parts
    return Labelled(
        known.of(label),
        match["speaker"] or UNKNOWN_SPEAKER,
        int(match["take"] or 0),
        groups[0] if groups else "",
    )


def find_folders(paths: Iterable[PurePosixPath], known: Labels = DIGITS) -> Folders:
    """Tell folders of labels and of speakers from folders that mean something else.

    Folders are named after labels where they are digits, or words beside digits'; after speakers
    where several lie side by side and every file in each names its folder as the speaker.
    """
    speakers: dict[PurePosixPath, set[str]] = {}
    for path in paths:
        match = CLIP_NAME.fullmatch(path.stem)
        if path.parent.name:
            speakers.setdefault(path.parent, set()).add(match["speaker"] if match else "")
    beside: dict[PurePosixPath, list[PurePosixPath]] = {}
    for folder in speakers:
        beside.setdefault(folder.parent, []).append(folder)
    of_labels, of_speakers = set(), set()
    for folders in beside.values():
        if any(folder.name in known for folder in folders):
            of_labels |= {item for item in folders if item.name in known or item.name.isalpha()}
        if len(folders) > 1 and all(speakers[folder] == {folder.name} for folder in folders):
            of_speakers |= set(folders)
    return Folders(frozenset(of_labels), frozenset(of_speakers))


def table_words(path: Path) -> set[str]:
    """The labels in a table of recordings, in lower case.

    Raises
    ------
    UserError : unreadable
    """
    words = {row.get("label", "").lower() for _, row in _table_rows(path)[1]}
    return words - {"", *NON_DIGIT_LABELS}


def words_of(paths: Iterable[PurePosixPath], pattern: str = "") -> set[str]:
    """The labels of recordings, by the pattern, their folders or their names, in lower case."""
    paths = [path for path in paths if BACKGROUND_FOLDER not in path.parts]
    if pattern:
        depth = pattern.replace("\\", "/").strip("/").count("/") + 1
        compiled = compile_pattern(pattern)
        names = ["/".join(path.with_suffix("").parts[-depth:]) for path in paths]
        return {match["label"].lower() for match in map(compiled.fullmatch, names) if match}
    matches = [CLIP_NAME.fullmatch(path.stem) for path in paths]
    folders = {path.parent.name for path in paths}
    in_names = all(
        match and match["speaker"] == path.parent.name
        for match, path in zip(matches, paths, strict=True)
    )
    if len(folders) == 1 or in_names:
        return {match["label"].lower() for match in matches if match}
    return {folder.lower() for folder in folders if folder}


def find_table(folder: Path) -> Path | None:
    """The CSV file in `folder` that tells the labels: one with the columns file and label.

    Raises
    ------
    UserError : there are several; or it is called labels.csv and lacks them
    """
    found = []
    for path in sorted(folder.glob("*.csv")):
        columns: list[str] = []
        with contextlib.suppress(config.UserError):  # somebody else's table, in any encoding
            columns = _table_rows(path, MAX_HEADER_BYTES)[0]
        if {"file", "label"} <= set(columns) or path.name.lower() == "labels.csv":
            found.append(path)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise config.UserError(f"{folder}: several tables of labels ({names}): name one of them")
    return found[0] if found else None


def read_table(path: Path, known: Labels = DIGITS) -> dict[Path, Labelled]:
    """A table of recordings: columns file, label and, if known, speaker; comma, ; or tab.

    Files are named from the table's own folder. A label is a digit, its word or "other".

    Raises
    ------
    UserError : unreadable, missing columns, an unknown label, or a path that leaves the folder
    """
    columns, rows = _table_rows(path)
    missing = [name for name in ("file", "label") if name not in columns]
    if missing:
        raise config.UserError(
            f"{path}: no column {' or '.join(missing)}: file,label and perhaps speaker are needed"
        )
    found: dict[Path, Labelled] = {}
    for number, row in rows:
        where = f"{path}, line {number}"
        name = _inner_path(row["file"], where)
        if path.parent / name in found:
            raise config.UserError(f"{where}: {row['file']!r} stands there twice")
        found[path.parent / name] = Labelled(
            _table_label(row["label"], where, known), row.get("speaker") or UNKNOWN_SPEAKER, 0, ""
        )
    return found


def _table_rows(
    path: Path, limit: int | None = None
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Column names in lower case, and the rows that aren't empty with the number of their line.

    With a limit only the column names are read, of so many bytes at most.
    """
    if limit is None and path.stat().st_size > MAX_TABLE_BYTES:
        raise config.UserError(f"{path}: more than {MAX_TABLE_BYTES // 1_000_000} MB")
    try:
        with open(path, "rb") as stream:
            content = stream.read() if limit is None else stream.readline(limit)
        text = content.decode("utf-8-sig")
        first = text.splitlines()[0] if text.strip() else ""
        separator = max(",;\t", key=first.count)
        header, *lines = list(csv.reader(text.splitlines(), delimiter=separator)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise config.UserError(f"{path}: not a readable table ({error})") from None
    columns = [name.strip().lower() for name in header]
    padding = [""] * len(columns)
    rows = [
        (number, dict(zip(columns, map(str.strip, line + padding), strict=False)))
        for number, line in enumerate(lines, start=2)
    ]
    return columns, [(number, row) for number, row in rows if any(row.values())]


def _inner_path(name: str, where: str) -> PurePosixPath:
    """A path that a table gives, if it stays within the table's folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not name or path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        raise config.UserError(f"{where}: {name!r} isn't a path within the table's own folder")
    return path


def _table_label(word: str, where: str, known: Labels) -> int:
    """A label that a table gives; spreadsheets write 7 as 7.0."""
    word = word.lower().removesuffix(".0")
    if word in known or word in NON_DIGIT_LABELS:
        return known.of(word)
    if known is not DIGITS:
        raise config.UserError(f"{where}: unknown label {word!r}: use {', '.join(known.names)}")
    raise config.UserError(
        f"{where}: unknown label {word!r}: use 0 to 9, zero to nine, or other for a non-digit"
    )
