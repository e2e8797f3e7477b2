"""What speakers of any language are to tell from its digits, or from other labels.

A third of the draws are words by how often they are, a third by how near they sound to a label
(package ``wordfreq``), the rest invented ones: random walks over the sounds of the language's own
numerals, of which eSpeak NG knows all. Languages that ``wordfreq`` lacks get invented words alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthesis import espeak, phonemes
from synthesis.foreign_digits import arpabet
from synthesis.phonemes import Pronunciation
from synthesis.vocabulary import AS_NEAR, NEARNESS, Vocabulary, cumulative, missing_package

N_WORDS = 4000
"""The commonest words of a language that are drawn from."""
LONGEST = 12
"""Letters."""
NEAREST = 0.7
"""Words whose sounds are nearer to a label's are left out (:func:`phonemes.distances`)."""
NO_SOUND = "',%=|:;0123456789"
"""Stress, length and tone in eSpeak's writing."""
NUMERALS = (*range(10, 21), *range(30, 100, 10), 100, 1000)
"""Numbers that are no digits, which people say all the same."""
WALKED = range(11, 500, 7)
"""Numerals whose sounds invented words are made of."""
LIST_NAMES = {"sr": "sh", "hr": "sh", "bs": "sh", "cmn": "zh"}
"""How ``wordfreq`` calls some languages."""


@dataclass(frozen=True)
class OtherWords:
    """Texts for eSpeak NG that are no label."""

    listed: Vocabulary | None
    """Words of the language; None where there is no list."""
    numerals: tuple[str, ...]
    walk: dict[str, list[str]]
    """Sound -> the sounds that follow it, as often as they do; "" begins and ends."""
    labels: tuple[tuple[str, ...], ...]
    """The labels' sounds, as eSpeak writes them."""
    near_words: tuple[str, ...] = ()

    def text(self, rng: np.random.Generator) -> str:
        """One text."""
        kind = rng.random()
        if self.near_words and kind < 0.15:
            return str(rng.choice(self.near_words))
        if kind < 0.25 and self.numerals:
            return str(rng.choice(self.numerals))
        if self.listed is None or kind < 0.4:
            return self.invented(rng)
        if kind < 0.9:
            return self.listed.word(rng)
        return f"{self.listed.frequent_word(rng)} {self.listed.frequent_word(rng)}"

    def invented(self, rng: np.random.Generator) -> str:
        """A word that means nothing, in the language's sounds and clearly no label."""
        while True:
            sounds: list[str] = []
            following = self.walk[""]
            while (sound := following[rng.integers(len(following))]) and len(sounds) < LONGEST:
                sounds.append(sound)
                following = self.walk[sound]
            if len(sounds) >= 2 and all(differs(sounds, label) for label in self.labels):
                return f"[[{''.join(sounds)}]]"


def differs(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two words share less than half of their sounds, in order."""
    one, other = ([sound.strip(NO_SOUND) for sound in word] for word in (one, other))
    row = list(range(len(other) + 1))
    for i, sound in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, theirs in enumerate(other, 1):
            exchanged = before + (sound != theirs)
            before, row[j] = row[j], min(exchanged, row[j] + 1, row[j - 1] + 1)
    return row[-1] >= 0.5 * max(len(one), len(other), 2)


def other_words(
    engine: espeak.Espeak, voice: str, labels: Sequence[str], near_words: tuple[str, ...] = ()
) -> OtherWords:
    """What is no label in the language of `voice`.

    Parameters
    ----------
    engine : knows the voice
    labels : what is said for each label
    near_words : words that come often, whatever they sound like

    Raises
    ------
    config.UserError : a package is missing
    """
    said = [arpabet(engine.phonemes(text, voice, ipa=True)) for text in labels]
    numerals = tuple(
        str(number)
        for number in NUMERALS
        if not holds_label(arpabet(engine.phonemes(str(number), voice, ipa=True)), said)
    )
    walk: dict[str, list[str]] = {"": []}
    for number in WALKED:
        for word in engine.phonemes(str(number), voice).split("  "):
            sounds = ["", *word.split(), ""]
            for sound, following in zip(sounds, sounds[1:], strict=False):
                walk.setdefault(sound, []).append(following)
    spelled = tuple(tuple(engine.phonemes(text, voice).split()) for text in labels)
    return OtherWords(_listed(engine, voice, said), numerals, walk, spelled, near_words)


def holds_label(sounds: Pronunciation, labels: Sequence[Pronunciation]) -> bool:
    """Whether a word is a label, or begins or ends with one."""
    return any(
        phonemes.distances([part], label)[0] < NEAREST
        for label in labels
        for part in (sounds, sounds[: len(label)], sounds[-len(label) :])
    )


def _listed(
    engine: espeak.Espeak, voice: str, labels: Sequence[Pronunciation]
) -> Vocabulary | None:
    """The language's commonest words, with their chances; None where there is no list."""
    frequencies = _frequencies(voice.split("-")[0])
    if not frequencies:
        return None
    words = [
        word
        for word in list(frequencies)[: 2 * N_WORDS]
        if 1 < len(word) <= LONGEST and word.isalpha()
    ][:N_WORDS]
    said = [arpabet(engine.phonemes(word, voice, ipa=True)) for word in words]
    distance = np.array([phonemes.distances(said, label) for label in labels])
    usable = (distance.min(axis=0) >= NEAREST) & np.array([len(one) > 0 for one in said])
    common = np.array([frequencies[word] for word in words]) ** 0.6 * usable
    near = np.exp(-np.maximum(distance - AS_NEAR, 0) / NEARNESS) * usable
    near += 1e-9 * usable
    return Vocabulary(tuple(words), cumulative(common), cumulative(near))


@functools.cache
def _frequencies(language: str) -> dict[str, float]:
    """Share that each word makes up, the commonest first; nothing where there is no list."""
    try:
        import wordfreq
    except ImportError:
        raise missing_package("wordfreq") from None
    name = LIST_NAMES.get(language, language)
    if name not in wordfreq.available_languages():
        return {}
    return wordfreq.get_frequency_dict(name)
