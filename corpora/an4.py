"""CMU AN4: 74 people spell and give numbers, fluently; digits and other words cut from it.

A census database of Carnegie Mellon University (1991), cmusphinx/an4 at commit b567d13; its
licence lets anybody use it for any purpose. Its own test speakers are in none of the parts.
"""

from __future__ import annotations

from corpora import prepared
from corpora.clips import Clips
from corpora.prepared import DIGITS, WORDS, Part
from corpora.registry import Request, register

PARTS = (
    Part(DIGITS, "an4", 1557),
    Part(WORDS, "an4_letters", 1266),
    Part(WORDS, "an4_numerals", 365),
    Part(WORDS, "an4_words", 300),
)


@register(
    "an4",
    licence="BSD-like (CMU)",
    about="CMU AN4: digits cut from fluent numbers; letters, numerals and words as non-digits",
    place=lambda request: prepared.place(request.data, PARTS),
    without="74 people's fluent digits and letters (60 MB)",
)
def load(request: Request) -> Clips:
    """The parts of AN4 that are there."""
    return prepared.load("an4", PARTS, request)
