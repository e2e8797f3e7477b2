"""Digits of other languages, which eSpeak says from the numeral: speech that is no English digit.

Left out are those that sound like an English digit of any value (Dutch "vijf", Norwegian "to",
French "six"): nobody could tell them apart, whatever is trained.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from synthesis import espeak, phonemes

LANGUAGES = (*sorted({*espeak.LANGUAGES} - {"en", "no", "ne"}), "nb")
"""eSpeak's voices; its Nepali reads numerals in English."""
NEAREST = 0.7
"""A word nearer than this to any English digit (:func:`phonemes.distances`) is left out."""
NEAREST_COGNATE = 1.1
"""The same for the English digit of its own value, which it is often related to."""
_IPA_TABLE = """
aɪ=AY aj=AY eɪ=EY ei=EY ɛɪ=EY ɔø=OY oɪ=OY aʊ=AW au=AW oʊ=OW ou=OW dʒ=JH dʑ=JH tʃ=CH tɕ=CH dz=Z
ts=S a=AA ɑ=AA ɐ=AH æ=AE e=EH ɛ=EH ε=EH ə=AH ɜ=ER i=IY ɪ=IH ɨ=IH y=IY ʏ=IH o=OW ɔ=AO ɒ=AA ø=ER
œ=ER u=UW ʊ=UH ʉ=UW ɯ=UH ɵ=UH ʌ=AH b=B β=V c=CH ɕ=SH d=D ɖ=D ð=DH f=F ɡ=G ɣ=G h=HH ħ=HH j=Y ɟ=JH
k=K l=L ɫ=L ɭ=L ʎ=L m=M n=N ɲ=N ɳ=N ŋ=NG p=P q=K r=R ɹ=R ɻ=R ɾ=R ʁ=R s=S ʃ=SH t=T ʈ=T v=V ʋ=V
w=W x=HH χ=HH z=Z ʑ=ZH ʒ=ZH θ=TH
"""
_IPA = dict(pair.split("=") for pair in _IPA_TABLE.split())
"""IPA in the English phonemes next to them; length, tone and the like are passed over."""


@dataclass(frozen=True)
class ForeignDigit:
    """A digit and the language that it is said in."""

    language: str
    """eSpeak's voice."""
    numeral: str
    """"0" to "9", from which eSpeak finds the word."""


def arpabet(ipa: str) -> phonemes.Pronunciation:
    """eSpeak's IPA of any language in the nearest English phonemes."""
    text = ipa.replace("ˈ", "").replace("ˌ", "")
    sounds: list[str] = []
    i = 0
    while i < len(text):
        length = 2 if text[i : i + 2] in _IPA else 1
        sounds += filter(None, [_IPA.get(text[i : i + length])])
        i += length
    return tuple(sounds)


def sounds_english(ipa: str, value: int) -> bool:
    """Whether a digit of this value, in eSpeak's IPA, sounds like an English digit."""
    if "(en)" in ipa:  # eSpeak has no word of its own
        return True
    sounds = [arpabet(ipa)]
    distance = [
        min(float(phonemes.distances(sounds, said)[0]) for said in digit)
        for digit in phonemes.DIGITS
    ]
    return min(distance) < NEAREST or distance[value] < NEAREST_COGNATE


@functools.cache
def foreign_digits() -> tuple[ForeignDigit, ...]:
    """All that can be said, in a fixed order."""
    engine = espeak.Espeak()
    return tuple(
        ForeignDigit(language, str(value))
        for language in LANGUAGES
        for value in range(10)
        if not sounds_english(engine.phonemes(str(value), language, ipa=True), value)
    )
