"""How far apart two pronunciations are: a weighted edit distance over ARPAbet phonemes.

A phoneme costs :data:`GAP` to put in or leave out (weak ones less), and to exchange what its
articulation differs by: place, manner and voicing of consonants, height, backness and glide of
vowels. Stress counts for nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

GAP = 0.8
"""Cost of one phoneme more or fewer; an exchange costs between 0.1 and 1."""
WEAK_GAP = 0.5
"""The same for sounds that quick speech drops: h, y, w, r, schwa, and t and d."""
_WEAK = frozenset(["HH", "Y", "W", "R", "AH", "T", "D"])
_VOWELS = {  # height and backness, 0 to 1, of the beginning and of the end
    "IY": (1.0, 0.0, 1.0, 0.0),
    "IH": (0.8, 0.2, 0.8, 0.2),
    "EY": (0.65, 0.1, 0.95, 0.05),
    "EH": (0.5, 0.15, 0.5, 0.15),
    "AE": (0.2, 0.2, 0.2, 0.2),
    "AA": (0.0, 0.7, 0.0, 0.7),
    "AO": (0.35, 0.95, 0.35, 0.95),
    "OW": (0.55, 0.9, 0.85, 0.95),
    "UH": (0.8, 0.8, 0.8, 0.8),
    "UW": (1.0, 0.95, 1.0, 0.95),
    "AH": (0.4, 0.55, 0.4, 0.55),
    "ER": (0.5, 0.5, 0.5, 0.5),
    "AY": (0.05, 0.5, 0.85, 0.1),
    "AW": (0.05, 0.5, 0.8, 0.85),
    "OY": (0.4, 0.9, 0.85, 0.1),
}
_CONSONANTS = {  # manner, place (0 lips to 1 throat), voiced
    "P": ("stop", 0.0, 0),
    "B": ("stop", 0.0, 1),
    "T": ("stop", 0.4, 0),
    "D": ("stop", 0.4, 1),
    "K": ("stop", 0.8, 0),
    "G": ("stop", 0.8, 1),
    "CH": ("affricate", 0.55, 0),
    "JH": ("affricate", 0.55, 1),
    "F": ("fricative", 0.1, 0),
    "V": ("fricative", 0.1, 1),
    "TH": ("fricative", 0.25, 0),
    "DH": ("fricative", 0.25, 1),
    "S": ("fricative", 0.4, 0),
    "Z": ("fricative", 0.4, 1),
    "SH": ("fricative", 0.55, 0),
    "ZH": ("fricative", 0.55, 1),
    "HH": ("fricative", 1.0, 0),
    "M": ("nasal", 0.0, 1),
    "N": ("nasal", 0.4, 1),
    "NG": ("nasal", 0.8, 1),
    "L": ("liquid", 0.4, 1),
    "R": ("liquid", 0.55, 1),
    "W": ("glide", 0.2, 1),
    "Y": ("glide", 0.6, 1),
}
PHONEMES = (*_VOWELS, *_CONSONANTS)
"""The 39 of CMUdict, without stress."""
_CODES = {phoneme: code for code, phoneme in enumerate(PHONEMES)}
_NEAR_MANNERS = frozenset(
    map(frozenset, (("stop", "affricate"), ("affricate", "fricative"), ("liquid", "glide")))
)

Pronunciation = tuple[str, ...]
"""Phonemes without stress."""
DIGITS: tuple[tuple[Pronunciation, ...], ...] = tuple(
    tuple(tuple(sounds.split()) for sounds in variants.split("|"))
    for variants in (
        "Z IY R OW|Z IH R OW",
        "W AH N|HH W AH N",
        "T UW",
        "TH R IY",
        "F AO R|F AO",
        "F AY V",
        "S IH K S",
        "S EH V AH N",
        "EY T",
        "N AY N",
    )
)
"""How each digit is said, from 0; British "four" has no r."""
ALTERNATIVES = {
    "oh": ("OW",),
    "nought": ("N", "AO", "T"),
    "niner": ("N", "AY", "N", "ER"),
    "fife": ("F", "AY", "F"),
}
"""How the other names of digits (:data:`config.ALTERNATIVE_NAMES`) are said."""


def without_stress(phonemes: Sequence[str]) -> Pronunciation:
    """CMUdict's phonemes without the stress digits of their vowels."""
    return tuple(phoneme.rstrip("012") for phoneme in phonemes)


def is_vowel(phoneme: str) -> bool:
    """Whether it makes a syllable."""
    return phoneme in _VOWELS


def merged(pronunciation: Pronunciation) -> Pronunciation:
    """One form for what sounds the same in one accent or another.

    No r where no vowel follows (non-rhotic), "not" as "nought", "tew" as "too".
    """
    sounds = []
    for i, sound in enumerate(pronunciation):
        after = pronunciation[i + 1] if i + 1 < len(pronunciation) else ""
        if sound == "AA" and after != "R":
            sounds.append("AO")
        elif not (sound == "R" and not is_vowel(after)) and not (sound == "Y" and after == "UW"):
            sounds.append(sound)
    return tuple(sounds)


def exchange_cost(one: str, other: str) -> float:
    """Cost of saying `other` for `one`, 0 to 1."""
    if one == other:
        return 0.0
    if is_vowel(one) != is_vowel(other):
        return 1.0
    if is_vowel(one):
        far = np.subtract(_VOWELS[one], _VOWELS[other])
        return min(1.0, 0.1 + (float(np.hypot(*far[:2])) + float(np.hypot(*far[2:]))) / 2)
    (manner, place, voiced), (manner2, place2, voiced2) = _CONSONANTS[one], _CONSONANTS[other]
    kind = frozenset((manner, manner2))
    step = 0.0 if len(kind) == 1 else 0.25 if kind in _NEAR_MANNERS else 0.5
    return min(1.0, 0.1 + step + 0.6 * abs(place - place2) + 0.15 * (voiced != voiced2))


@functools.cache
def _costs() -> tuple[np.ndarray, np.ndarray]:
    """Costs to exchange (39, 39) and to leave out (39,) phonemes."""
    exchange = np.array([[exchange_cost(one, other) for other in PHONEMES] for one in PHONEMES])
    return exchange, np.array([WEAK_GAP if name in _WEAK else GAP for name in PHONEMES])


def distances(words: Sequence[Pronunciation], target: Pronunciation) -> np.ndarray:
    """Weighted edit distance (n,) of each of n pronunciations to `target`.

    Wagner & Fischer (1974), a column of the table at a time for all words at once.
    """
    exchange, gap = _costs()
    lengths = np.array([len(word) for word in words], int)
    codes = np.zeros((len(words), lengths.max(initial=0)), int)
    for row, word in zip(codes, words, strict=True):
        row[: len(word)] = [_CODES[phoneme] for phoneme in word]
    goal = [_CODES[phoneme] for phoneme in target]
    column = np.tile(np.cumsum([0.0, *gap[goal]]), (len(words), 1))
    result = column[:, -1].copy()
    for position in range(codes.shape[1]):
        said = codes[:, position]
        new = np.empty_like(column)
        new[:, 0] = column[:, 0] + gap[said]
        for i, code in enumerate(goal, 1):
            new[:, i] = np.minimum(
                np.minimum(column[:, i] + gap[said], new[:, i - 1] + gap[code]),
                column[:, i - 1] + exchange[said, code],
            )
        column = new
        ended = lengths == position + 1
        result[ended] = column[ended, -1]
    return result
