"""Prepared folders of short clips named WORD_SPEAKER_TAKE, and where they lie.

A corpus consists of several such folders, which lie below ``data.more_speakers_dir`` (digits) and
``data.other_words_dir`` (other words), or below ``data.root`` where fetching has put them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import audio_io
import config
from corpora import decoding, layouts
from corpora.clips import Clips
from corpora.registry import Request, Unavailable

DIGITS, WORDS = "more_speakers", "other_words"
"""The two folders that parts lie in."""
VARIABLES = {DIGITS: "MORE_SPEAKERS_DIR", WORDS: "OTHER_WORDS_DIR"}
"""Environment variables that name them."""

MISLABELLED = ("1_sc019fa366_0", "1_sc2f0a410b_0", "9_sc40738a2d_0")
"""Clips that are left out: two unrelated recognisers hear the same other digit. Of 39 that one of
them doubts, the other confirms 29: they are hard, not wrong, and stay."""


@dataclass(frozen=True)
class Part:
    """One folder of clips that belongs to a corpus."""

    kind: str
    """DIGITS or WORDS: which of the two folders it lies in; all clips of WORDS are non-digits."""
    name: str
    """Of the folder."""
    clips: int
    """How many a whole copy has."""
    group: str = ""
    """Name for all its speakers where they are not told apart."""


def bases(data: config.DataSettings, kind: str) -> list[Path]:
    """The folders that parts of a kind may lie in: the one that is named, and where fetching puts.

    Raises
    ------
    UserError : the named one isn't there, or holds no folder at all
    """
    named = data.more_speakers_dir if kind == DIGITS else data.other_words_dir
    fetched = data.root / kind
    if named is None:
        return [fetched]
    if not named.is_dir():
        raise config.UserError(f"{named}: no such folder ({VARIABLES[kind]} names it)")
    if not any(path.is_dir() for path in named.iterdir()):
        raise config.UserError(
            f"{named}: no folders of clips in it ({VARIABLES[kind]} names an empty copy?)"
        )
    return [named, fetched]


def find_parts(data: config.DataSettings, parts: Sequence[Part]) -> dict[Part, Path]:
    """The parts that are there, and where."""
    found = {}
    for part in parts:
        for path in (base / part.name for base in bases(data, part.kind)):
            if part not in found and path.is_dir():
                found[part] = path
    return found


def place(data: config.DataSettings, parts: Sequence[Part]) -> Path | None:
    """Where the first part that is there lies; None where none is."""
    return next(iter(find_parts(data, parts).values()), None)


def load(corpus: str, parts: Sequence[Part], request: Request) -> Clips:
    """The clips of all parts that are there, in the order of the parts and sorted by name.

    Raises
    ------
    Unavailable : none is there
    UserError : a part is empty or incomplete, or a clip can't be read
    """
    found = find_parts(request.data, parts)
    if not found:
        kinds = dict.fromkeys(part.kind for part in parts)
        folders = " or ".join(str(base) for kind in kinds for base in bases(request.data, kind))
        raise Unavailable(f"{corpus}: not in {folders}")
    files = [(part, path) for part, folder in found.items() for path in _whole(part, folder)]
    named = [_labelled(part, path) for part, path in files]
    paths = [path for _, path in files]
    decoded = decoding.decode(paths, request.audio, request.data.root / "cache", corpus)
    for error in decoded.errors.values():
        raise config.UserError(f"{error}; copy it again")
    clips = Clips(
        decoded.samples,
        np.concatenate([[0], np.cumsum(decoded.lengths, dtype=np.int64)]),
        np.array([item.label for item in named]),
        np.array([item.speaker for item in named]),
        np.array([path.stem for path in paths]),
        np.array([item.take for item in named]),
        np.full(len(paths), corpus),
        request.audio.sample_rate,
    )
    wrong = np.isin(clips.names, MISLABELLED)
    return clips.subset(~wrong) if wrong.any() else clips


def _whole(part: Part, folder: Path) -> list[Path]:
    """The sound files of a part, sorted, if there are as many as there should be."""
    paths = [path for path in audio_io.find_audio(folder).paths if path.parent == folder]
    if len(paths) < part.clips:
        raise config.UserError(
            f"{folder}: {len(paths)} of {part.clips} clips: empty or half copied; copy it again, "
            f"or leave {VARIABLES[part.kind]} unset"
        )
    return paths


def _labelled(part: Part, path: Path) -> layouts.Labelled:
    """Label, speaker and take by the name; speakers who are not told apart are one, unknown."""
    match = layouts.CLIP_NAME.fullmatch(path.stem)
    if match is None:
        raise config.UserError(f"{path}: not named WORD_SPEAKER_TAKE")
    label = layouts.label_of(match["label"]) if part.kind == DIGITS else config.REJECT
    speaker = f"{layouts.UNKNOWN_SPEAKER}-{part.group}" if part.group else match["speaker"]
    return layouts.Labelled(label, speaker, int(match["take"]), part.name)
