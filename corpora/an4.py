"""CMU AN4: 74 people spell and give numbers, fluently; digits and other words cut from it.

A census database of Carnegie Mellon University (1991), cmusphinx/an4 at commit b567d13; its
licence lets anybody use it for any purpose. Its own test speakers are in none of the parts.

The words were cut by forced alignment (PocketSphinx); ``an4_cuts.txt`` has the result, by which the
archive is cut to the same samples again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import config
from corpora import archives, prepared, sources
from corpora.clips import Clips, concatenate
from corpora.download import Expected
from corpora.prepared import DIGITS, WORDS, Part
from corpora.registry import Request, register
from corpora.spoken_oh import spoken_oh

PARTS = (
    Part(DIGITS, "an4", 1557),
    Part(WORDS, "an4_letters", 1266),
    Part(WORDS, "an4_numerals", 365),
    Part(WORDS, "an4_words", 300),
)
SOURCE = sources.Source(
    url="https://github.com/cmusphinx/an4/archive/b567d132f43304e70a2b2eca6077f22255311812.zip",
    file="an4-b567d13.zip",
    table="an4_cuts.txt",
    folders=tuple(f"{part.kind}/{part.name}" for part in PARTS),
    wanted=lambda name: "/an4_clstk/" in name and name.endswith((".wav", ".sph")),
    limits=archives.Limits(total_bytes=400_000_000, members=5_000),
    expected=Expected(max_bytes=200_000_000),
)


def fetch(request: Request) -> None:
    """Fetch the archive and cut it."""
    sources.fetch([SOURCE], request.data)


@register(
    "an4",
    licence="BSD-like (CMU)",
    about="CMU AN4: digits cut from fluent numbers; letters, numerals and words as non-digits",
    place=lambda request: prepared.place(request.data, PARTS),
    without="74 people's fluent digits and letters",
    fetch=fetch,
    megabytes=60,
)
def load(request: Request) -> Clips:
    """The parts of AN4 that are there, and "oh" (labelled 0) where the strings are there too."""
    clips = prepared.load("an4", PARTS, request)
    strings = strings_folder(request.data)
    digits = prepared.find_parts(request.data, PARTS).get(PARTS[0])
    if strings is None or digits is None:
        return clips
    ohs = spoken_oh(strings, digits, request.audio.sample_rate)
    ohs.corpus = np.full(len(ohs), "an4")  # one corpus, so that a speaker stays on one side
    return concatenate([clips, ohs])


def strings_folder(data: config.DataSettings) -> Path | None:
    """Where AN4's whole strings lie; None where they are not there.

    Raises
    ------
    UserError : the folder that is named isn't there
    """
    named = data.more_strings_dir
    if named is not None and not named.is_dir():
        raise config.UserError(f"{named}: no such folder (MORE_STRINGS_DIR names it)")
    folder = (named or data.root / "more_strings") / "an4"
    return folder if folder.is_dir() else None
