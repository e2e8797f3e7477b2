"""Recorded words that are no digits: wake words, orders for coffee, real telephones.

Picovoice's wake-word and speech-to-intent benchmarks (Apache-2.0), whose speakers nobody has told
apart, and the WUW corpus II (CC BY-SA 4.0), by speaker.
"""

from __future__ import annotations

from corpora import prepared
from corpora.clips import Clips
from corpora.prepared import WORDS, Part
from corpora.registry import Request, register

PARTS = (
    Part(WORDS, "wake_words", 1200, group="wake_words"),
    Part(WORDS, "intent_words", 2214, group="intent_words"),
    Part(WORDS, "telephone_words", 1793),
    Part(WORDS, "telephone_cut_words", 1780),
    Part(WORDS, "telephone_phrases", 638),
)
VALIDATION = (Part(WORDS, "validation_community", 506),)
"""Four people's words that never train: recipes and thresholds are chosen on them."""


@register(
    "other_words",
    licence="see its folders",
    about="non-digits: wake words, orders for coffee, words and phrases on the telephone",
    place=lambda request: prepared.place(request.data, PARTS),
    without="600 recorded words that are no digits",
)
def load(request: Request) -> Clips:
    """The parts that are there."""
    return prepared.load("other_words", PARTS, request)


def load_validation(request: Request) -> Clips:
    """The words that never train."""
    return prepared.load("validation_community", VALIDATION, request)
