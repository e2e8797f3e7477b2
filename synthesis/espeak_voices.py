"""Synthetic speakers for eSpeak NG: invented vocal tracts, and foreign accents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from synthesis import espeak

ENGLISH_ACCENTS = (
    "en-us",
    "en-us",
    "en-us",
    "en",
    "en",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)
"""eSpeak's English voices ("en" is British); the commonest are listed more than once."""
UNNATURAL = frozenset(
    {
        "Demonic",
        "UniRobot",
        "anikaRobot",
        "Tweaky",
        "croak",
        "fast",
        "AnxiousAndy",
        "whisper",
        "whisperf",
        *(f"robosoft{i}" for i in ("", *range(2, 9))),
    }
)
"""Variants that nobody sounds like."""
_VOWEL_TABLE = """
i@=i oU=o V=a u:=u i:=i o@=or aI=aj I=i E=e eI=ej 0=o O:=o A:=a aU=aw OI=oj U=u 3:=er
e@=er @r=er A@=ar O=o O@=or 3=er aI@=aja I2=i a#=a @L=@l @2=@ @5=@ A:@=ar e=e a=a @=@
i=i aI3=ajer aU@=awer U@=ur oU#=o E2=e i@3=i 0#=o I#=i aa=a o=o u=u
"""
_VOWELS = dict(pair.split("=") for pair in _VOWEL_TABLE.split())
"""English vowels, as eSpeak writes them, in the five vowels (and schwa) that all languages have."""
_CONSONANTS = frozenset(("tS", "dZ", *"bdfghjklmnNprsStTvwzZD"))
_STRESS = "'"
_VOWEL_LETTERS = tuple("aeiouAEIOUV0@3")


@dataclass(frozen=True)
class Accent:
    """How speakers of another language say English words."""

    kept: str = ""
    """English vowels that the language has; all others move to the nearest of a, e, i, o, u."""
    changed: dict[str, str] = field(default_factory=dict)
    """Consonants, each with the sounds it may become, one of which a speaker always uses."""


_INDIC = Accent(
    "E I U V O i: u: aI aU", {"t": "t. t. t", "d": "d. d", "T": "t[ t[ T", "D": "d[", "w": "v w"}
)
FOREIGN_ACCENTS = {
    "de": Accent("E I U O i: u: aI aU oU", {"T": "s s T f", "D": "z d", "w": "v v w"}),
    "fr": Accent("E I O u: oU", {"T": "s s f t", "D": "z", "h": ""}),
    "es": Accent("E U O eI aI aU", {"T": "t T", "D": "d", "z": "s", "h": "x"}),
    "it": Accent("E I U O eI aI aU", {"T": "t f", "D": "d"}),
    "pt": Accent("E I U O eI aI aU", {"T": "t s f", "D": "d"}),
    "nl": Accent("E I O", {"T": "s t T", "D": "d", "w": "v w"}),
    "sv": Accent("E I U O i: u: oU", {"T": "t T", "D": "d", "z": "s", "w": "v w"}),
    "nb": Accent("E I U O i: u: aI aU", {"T": "t T", "D": "d", "z": "s", "w": "v w"}),
    "da": Accent("E I O aI", {"T": "t s T", "D": "d", "z": "s", "w": "v w"}),
    "pl": Accent("E O", {"T": "f s t", "D": "d z", "w": "v w"}),
    "cs": Accent("E O oU aU i: u:", {"T": "s t f", "D": "d z", "w": "v"}),
    "ru": Accent("E I O", {"T": "s t f", "D": "z d", "w": "v w", "h": "x"}),
    "uk": Accent("E I", {"T": "s t f", "D": "z d", "w": "v w"}),
    "ro": Accent("E U O oU eI aI aU", {"T": "t s", "D": "d", "w": "v w"}),
    "hu": Accent("E i: u:", {"T": "s t", "D": "d z", "w": "v"}),
    "fi": Accent("", {"T": "t s", "D": "d", "z": "s z", "w": "v"}),
    "el": Accent("E U O eI aI aU", {}),
    "tr": Accent("E I U O eI aI aU", {"T": "t s", "D": "d", "w": "v w"}),
    "ar": Accent("", {"T": "T s", "p": "b p"}),
    "fa": Accent("oU eI", {"T": "s t", "D": "z d", "w": "v w"}),
    **dict.fromkeys(("hi", "bn", "ta", "te", "mr", "gu", "kn", "ml", "pa", "ur", "ne"), _INDIC),
    "id": Accent("E U O eI aI aU", {"T": "t", "D": "d", "z": "z s"}),
    "sw": Accent("", {}),
    "bg": Accent("E O", {"T": "t s", "D": "d", "w": "v w"}),
    "hr": Accent("E I U O oU eI aI aU i: u:", {"T": "t s", "D": "d", "w": "v"}),
    "et": Accent("i: u:", {"T": "t s", "D": "d", "z": "s z", "w": "v"}),
    "ko": Accent("E", {"T": "s", "D": "d", "z": "dZ z", "f": "p f", "v": "b v"}),
    "cmn": Accent("E", {"T": "s", "D": "d", "v": "w v"}),
    "he": Accent("", {"T": "t s", "D": "d z", "w": "v w"}),
}


@dataclass(frozen=True)
class Speaker:
    """Somebody who speaks through eSpeak NG."""

    name: str
    """Unique, for the ``speakers`` column of a set."""
    voice: str
    """eSpeak's name: language+variant."""
    pronounce: Callable[[str], str]
    """What to give eSpeak for an English text."""
    pitch: int
    """0 to 100."""
    rate: int
    """Words a minute."""
    scale: float
    """Factor on all frequencies, applied by resampling; shorter vocal tracts are above 1."""

    def voice_of(self, language: str) -> str:
        """eSpeak's name of this speaker's vocal tract in another language."""
        return f"{language}+{self.voice.partition('+')[2]}"


def make_speaker(
    engine: espeak.Espeak, rng: np.random.Generator, number: int, voices: Sequence[str] = ()
) -> Speaker:
    """Invent a speaker: a variant of eSpeak's or an invented vocal tract, with one accent.

    Parameters
    ----------
    engine : gets the invented voice, if it is one
    rng : rules all that is chosen
    number : makes the name unique
    voices : the speaker's language in its regions; by default English, perhaps with an accent
    """
    made_up = rng.random() < 0.6
    if made_up:
        variant = f"made-up-{number}"
        engine.add_voice(variant, vocal_tract(rng))
    else:
        natural = [
            name
            for name in engine.variants()
            if name not in UNNATURAL and not name.startswith("made-up-")
        ]
        variant = str(rng.choice(natural + ["whisper", "whisperf"]))
    pronounce: Callable[[str], str] = str
    language = str(rng.choice(voices or ENGLISH_ACCENTS))
    if not voices and rng.random() < 0.4:
        language = str(rng.choice(list(FOREIGN_ACCENTS)))
        pronounce = _foreign(engine, language, rng)
    name = f"espeak-{language}-{variant}-{number}".replace(" ", "").replace("_", "")
    return Speaker(
        name,
        f"{language}+{variant}",
        pronounce,
        int(rng.integers(25, 80)),
        int(rng.integers(95, 200)),
        1.0 if made_up else float(rng.uniform(0.88, 1.14)),
    )


def vocal_tract(rng: np.random.Generator) -> list[str]:
    """Lines of a voice file for an invented man, woman or child.

    Pitch in Hz; formant frequency, height and width in per cent of eSpeak's own. Spread around the
    adult male, female and child means of Peterson & Barney (1952).
    """
    kind = rng.choice(3, p=(0.48, 0.4, 0.12))
    base = rng.uniform(*((72, 135), (150, 235), (215, 300))[kind])
    scale = rng.uniform(*((0.88, 1.04), (1.02, 1.2), (1.14, 1.3))[kind])
    lines = [f"pitch {base:.0f} {base * rng.uniform(1.1, 1.6):.0f}"]
    for formant in range(9):
        frequency = 100 * scale * rng.uniform(0.95, 1.05)
        height, width = rng.uniform(65, 130), rng.uniform(75, 165)
        lines.append(f"formant {formant} {frequency:.0f} {height:.0f} {width:.0f}")
    tilt = rng.uniform(120, 255, 5)
    lines.append(
        "tone "
        + " ".join(
            f"{hz} {h:.0f}" for hz, h in zip((150, 600, 1200, 2000, 3000), tilt, strict=True)
        )
    )
    lines += [
        f"roughness {rng.integers(0, 4)}",
        f"flutter {rng.integers(0, 12)}",
        f"voicing {rng.integers(75, 115)}",
        f"intonation {rng.integers(1, 5)}",
        f"consonants {rng.integers(75, 160)} {rng.integers(75, 160)}",
    ]
    if rng.random() < 0.3:
        lines.append("breath " + " ".join(str(value) for value in rng.integers(0, 6, 8)))
    if rng.random() < 0.2:
        lines.append(f"klatt {rng.integers(1, 6)}")
    return lines


def _foreign(
    engine: espeak.Espeak, language: str, rng: np.random.Generator
) -> Callable[[str], str]:
    """A function from English text to mnemonics in the sounds of `language`."""
    accent = FOREIGN_ACCENTS[language]
    habits = {
        sound: str(rng.choice(options.split())) if options else ""
        for sound, options in accent.changed.items()
    }
    kept, model = set(accent.kept.split()), str(rng.choice(("en-us", "en")))

    def pronounce(text: str) -> str:
        return f"[[{respell(engine.phonemes(text, model), kept, habits)}]]"

    return pronounce


def respell(mnemonics: str, kept: set[str], habits: dict[str, str]) -> str:
    """Put English phonemes into the sounds of another language.

    Parameters
    ----------
    mnemonics : eSpeak's, a space between any two, two spaces between words
    kept : vowels that stay
    habits : what becomes of consonants

    Returns
    -------
    text : mnemonics for use in double brackets
    """
    words = []
    for word in mnemonics.split("  "):
        sounds = [_respell_sound(sound, kept, habits) for sound in word.split()]
        if not any(sound.startswith(_STRESS) for sound in sounds):  # "one" has none of its own
            vowel = next((i for i, sound in enumerate(sounds) if sound[:1] in _VOWEL_LETTERS), 0)
            sounds[vowel : vowel + 1] = [_STRESS + sound for sound in sounds[vowel : vowel + 1]]
        words.append("".join(sounds))
    return "|| ".join(words)


def _respell_sound(sound: str, kept: set[str], habits: dict[str, str]) -> str:
    stress, bare = _STRESS if sound.startswith(_STRESS) else "", sound.lstrip("',%=|")
    if bare in habits or bare in _CONSONANTS:
        return stress + habits.get(bare, bare)
    return stress + (bare if bare in kept else _VOWELS.get(bare, "@"))
