"""Google Speech Commands v0.02: digits and other words on some 900 people's own microphones.

P. Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition" (2018),
https://arxiv.org/abs/1804.03209, CC BY 4.0. These parts are the clips that are trained on.
"""

from __future__ import annotations

from corpora import prepared
from corpora.clips import Clips
from corpora.prepared import DIGITS, WORDS, Part
from corpora.registry import Request, register

PARTS = (Part(DIGITS, "speech_commands", 1141), Part(WORDS, "speech_commands", 924))


@register(
    "speech_commands",
    licence="CC BY 4.0",
    about="Google Speech Commands: digits and 25 other words on many microphones",
    place=lambda request: prepared.place(request.data, PARTS),
    without="some 900 people on their own microphones (2.3 GB)",
)
def load(request: Request) -> Clips:
    """The parts of Speech Commands that are there."""
    return prepared.load("speech_commands", PARTS, request)
