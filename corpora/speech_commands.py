"""Google Speech Commands v0.02: digits and other words on some 900 people's own microphones.

P. Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition" (2018),
https://arxiv.org/abs/1804.03209, CC BY 4.0. ``speech_commands_cuts.txt`` lists the clips that are
trained on; nobody in it is among the speakers that are only scored on. Fetching brings the whole
archive: these clips, and all else below ``speech_commands_v0.02`` for its own protocol, with
35 words, the official lists and backgrounds for noise.
"""

from __future__ import annotations

import functools
from pathlib import PurePosixPath

from corpora import archives, cuts, download, layouts, prepared, sources
from corpora.clips import Clips
from corpora.prepared import DIGITS, WORDS, Part
from corpora.registry import Request, register

PARTS = (Part(DIGITS, "speech_commands", 1141), Part(WORDS, "speech_commands", 924))
FOLDER = "speech_commands_v0.02"
"""The whole archive, unpacked, below ``data.root``."""
TABLE = sources.TABLES / "speech_commands_cuts.txt"


def _chosen(name: str) -> bool:
    """Whether a file is of a word and a speaker in the table."""
    path = PurePosixPath(name)
    match = layouts.SPEECH_COMMANDS_NAME.fullmatch(path.stem)
    word = path.parent.name
    label = str(layouts.label_of(word)) if layouts.is_digit(word) else word
    return match is not None and (label, f"sc{match['speaker']}") in _speakers()


@functools.cache
def _speakers() -> frozenset[tuple[str, str]]:
    """Word, or figure, and speaker of every clip in the table."""
    rows = (layouts.CLIP_NAME.fullmatch(cut.name) for cut in cuts.read_table(TABLE))
    return frozenset((row["label"], row["speaker"]) for row in rows if row)


SOURCE = sources.Source(
    url="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    file="speech_commands_v0.02.tar.gz",
    table=TABLE.name,
    folders=tuple(f"{part.kind}/{part.name}" for part in PARTS),
    wanted=_chosen,
    limits=archives.Limits(total_bytes=6_000_000_000, members=200_000),
    expected=download.Expected(
        max_bytes=2_500_000_000,
        size=2_428_923_189,
        sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    ),
)


def fetch(request: Request) -> None:
    """Fetch the archive, keep all of it unpacked, and take the clips that are trained on."""
    sources.fetch([SOURCE], request.data, unpacked=FOLDER)


@register(
    "speech_commands",
    licence="CC BY 4.0",
    about="Google Speech Commands: digits and 25 other words on many microphones",
    place=lambda request: prepared.place(request.data, PARTS),
    without="some 900 people on their own microphones",
    fetch=fetch,
    megabytes=2430,
)
def load(request: Request) -> Clips:
    """The parts of Speech Commands that are there."""
    return prepared.load("speech_commands", PARTS, request)
