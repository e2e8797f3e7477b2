"""The out-of-vocabulary words of the evaluation, which no network is trained with.

They stay as they are: published false-accept rates rest on them. Training takes other words, from
:mod:`synthesis.vocabulary`.

Left out on purpose is all that some accent says like a digit (to, too, do, for, ate, won, tree,
free, fife, nein, sex, and "oh" and the letter O).
"""

from __future__ import annotations

import numpy as np

_WORDS = """
hello hi hey goodbye bye yes no yeah yep nope okay please thanks sorry welcome maybe never
always up down left right stop go start pause play back next last first second third again
cancel open close on off in out over under above below here there where when why how what who
which this that these cat dog bird fish horse cow pig sheep mouse lion tiger bear duck chicken
spider snake monkey rabbit house home door window room table chair bed kitchen garden garage
street city village road bridge happy sad angry tired hungry thirsty hot cold warm cool big
small long short fast slow old new young red green blue yellow black white brown orange purple
pink silver grey water coffee milk juice bread butter cheese apple banana lemon cherry sugar
salt pepper soup rice meat sun moon star sky rain snow wind cloud storm fire river lake sea
mountain hill forest flower grass leaf man woman boy girl child baby mother father sister
brother uncle friend doctor teacher king queen hand foot head face eye ear nose mouth arm leg
heart finger hair skin blood book paper pen letter phone computer screen music song movie game
ball car train bus bike plane ship walk run jump sit stand sleep eat drink read write listen
look watch talk speak think know learn teach give take make break build cut push pull turn throw
catch hold carry bring send buy sell win lose help day night morning evening week month year
today tomorrow yesterday minute hour time clock summer winter north south east west money price
number answer question reason problem idea story word name sick fine nice hive weight wait late
gate line mine wine heaven haven fix mix kicks sticks suck sack sock sink sing see say so sew
show shoe true threw through thread threat fry fly find found fun fan floor fork force wonder
bun gun done gone nun noun nap knife seldom hate hat hit heat it at oat aid age ace ape zebra
zip zoo zone hero euro row low ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million
half double triple dozen um uh ah mm hmm uh-huh er wow ouch oops hush shh ha haha la na ooh aha
"""
WORDS = tuple(_WORDS.split())
"""Short common words, near misses of digits, larger numbers, hesitations."""
LETTERS = tuple("BCDEFGHIJKLMNPQRSTUVWXYZ")
"""Letters of the alphabet; A and O are left out, being near eight and "oh"."""
HOMOPHONES = frozenset({"to", "too", "for", "won", "ate"})
"""Spellings that sound like a digit, which syllables may come upon by chance."""
CHANCE_WORDS = frozenset({"bank", "beep", "most", "wop"})
"""Real words that the syllables of the published evaluation came upon."""
_ONSETS = (
    "b d f g h j k l m n p r s t v w z bl br ch cl cr dr fl gl gr pl pr sh sk sl sm sn sp st str th"
)
_NUCLEI = "a e i o u ay ee oo oy ow ar er ai"
_CODAS = " b d f g k l m n p s t v ck ft ld lk mp nd ng nk nt sh sk st th tch ks"  # first: none


def random_text(rng: np.random.Generator) -> str:
    """Something out of vocabulary: a word, a letter, two words, or syllables that mean nothing."""
    while (text := _any_text(rng)) in HOMOPHONES:
        pass
    return text


def syllables(rng: np.random.Generator) -> str:
    """One or two syllables that mean nothing, unless by chance."""
    return "".join(
        str(rng.choice(part.split(" ")))
        for _ in range(rng.integers(1, 3))
        for part in (_ONSETS, _NUCLEI, _CODAS)
    )


def _any_text(rng: np.random.Generator) -> str:
    kind = rng.random()
    if kind < 0.6:
        return str(rng.choice(WORDS))
    if kind < 0.65:
        return str(rng.choice(LETTERS))
    if kind < 0.8:
        return f"{rng.choice(WORDS)} {rng.choice(WORDS)}"
    return syllables(rng)
