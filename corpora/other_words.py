"""Recorded words that are no digits: wake words, orders for coffee, real telephones.

Picovoice's wake-word and speech-to-intent benchmarks (Apache-2.0), whose speakers nobody has told
apart, and the WUW corpus II (CC BY-SA 4.0), by speaker.

Fetching brings the first two, cut by ``other_words_cuts.txt``. The telephone words can't be cut
again from what is published to the last sample, so they are had as a prepared copy or not at all.
"""

from __future__ import annotations

from corpora import archives, prepared, sources
from corpora.clips import Clips
from corpora.download import Expected
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
LIMITS = archives.Limits(total_bytes=2_000_000_000, members=10_000)
EXPECTED = Expected(max_bytes=1_000_000_000)
SOURCES = (
    sources.Source(
        url="https://github.com/Picovoice/wake-word-benchmark/archive/8491919.zip",
        file="wake-word-benchmark.zip",
        table="other_words_cuts.txt",
        folders=(f"{WORDS}/wake_words",),
        wanted=lambda name: "/audio/" in name and name.endswith((".flac", ".wav")),
        limits=LIMITS,
        expected=EXPECTED,
    ),
    sources.Source(
        url="https://github.com/Picovoice/speech-to-intent-benchmark/archive/HEAD.zip",
        file="speech-to-intent-benchmark.zip",
        table="other_words_cuts.txt",
        folders=(f"{WORDS}/intent_words",),
        wanted=lambda name: "/data/speech/clean/" in name and name.endswith((".flac", ".wav")),
        limits=LIMITS,
        expected=EXPECTED,
    ),
)


def fetch(request: Request) -> None:
    """Fetch the two benchmarks and cut them."""
    sources.fetch(SOURCES, request.data)


@register(
    "other_words",
    licence="see its folders",
    about="non-digits: wake words, orders for coffee, words and phrases on the telephone",
    place=lambda request: prepared.place(request.data, PARTS),
    without="600 recorded words that are no digits",
    fetch=fetch,
    megabytes=300,
)
def load(request: Request) -> Clips:
    """The parts that are there."""
    return prepared.load("other_words", PARTS, request)


def load_validation(request: Request) -> Clips:
    """The words that never train."""
    return prepared.load("validation_community", VALIDATION, request)
