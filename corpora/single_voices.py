"""A few single voices: digits of twelve people, and 474 short words of one.

Digits: J. Wang's recordings of a Chinese speaker (Apache-2.0), ten speakers of AudioMNIST (MIT),
T. Kahn's (CC BY 4.0). Words: art4apps.org (CC BY-SA), many of them near to digits.
"""

from __future__ import annotations

from corpora import prepared
from corpora.clips import Clips
from corpora.prepared import DIGITS, WORDS, Part
from corpora.registry import Request, register

PARTS = (Part(DIGITS, "single", 70), Part(WORDS, "art4apps", 474))


@register(
    "single_voices",
    licence="see its folders",
    about="digits of twelve people; short words, many near to digits, of one",
    place=lambda request: prepared.place(request.data, PARTS),
    without="twelve people's digits and 474 short near words",
    people=False,
)
def load(request: Request) -> Clips:
    """The parts that are there."""
    return prepared.load("single_voices", PARTS, request)
