"""Speakers of other languages, and of other words: what each says, by eSpeak NG and by joe."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

import config
import languages
from synthesis import espeak, voice_engines
from synthesis.language_words import OtherWords, other_words
from synthesis.speakers import Line, SpokenText, language_speech, piper_speech, pronunciations

VOICES = {
    "en": ("en-us", "en-us", "en", "en-gb-scotland", "en-gb-x-rp"),
    "es": ("es", "es-419"),
    "pt": ("pt", "pt-br"),
    "vi": ("vi", "vi-vn-x-central", "vi-vn-x-south"),
    "zh": ("cmn",),
}
"""eSpeak's voices of languages whose regions sound unlike each other, or that it calls otherwise;
all others have one, which is called like the language."""
ALTERNATIVES = {
    "ar": {4: ("[[?'arbaAa]]",), 7: ("[[s'abAa]]",), 9: ("[[t'isAa]]",)},
    "de": {2: ("zwo",)},
    "ja": {0: ("ぜろ",), 4: ("よん",), 7: ("なな",), 9: ("く",)},
    "ko": {0: ("공",)},
    "ru": {0: ("нуль",)},
    "zh": {1: ("yao1",)},
}
"""Other names of some digits, each said as often as the first."""
UNVOWELLED = frozenset({"ar", "fa", "he", "ja", "th", "ur"})
"""Languages whose words eSpeak NG reads badly, most for want of written vowels; from all others it
says the word as often as the numeral, and often a little otherwise."""
LABELS_PER_SPEAKER = 10
"""Utterances of labels by each speaker."""


def wanted(settings: config.SyntheticSettings) -> bool:
    """Whether other words than the English digits are to be spoken."""
    return languages.code(settings.language) != "en" or bool(settings.words)


def voices_of(language: str) -> tuple[str, ...]:
    """eSpeak's voices of a language.

    Raises
    ------
    UserError : it has none; the text lists the languages it has
    """
    name = languages.code(language)
    found = VOICES.get(name, (name,))
    lacking = [voice for voice in found if voice not in espeak.voices()]
    if lacking:
        known = " ".join(sorted({voice for voice in espeak.voices() if len(voice) < 6}))
        raise config.UserError(
            f"language {language!r}: eSpeak NG has no such voice; it has {known}"
        )
    return found


def texts_of(settings: config.SyntheticSettings) -> list[tuple[str, ...]]:
    """What is said for each label: the words asked for, or numerals and their names."""
    if settings.words:
        return [(word,) for word in settings.words]
    language = languages.code(settings.language)
    more = ALTERNATIVES.get(language, {})
    words: tuple[str, ...] = config.DIGITS
    if language not in UNVOWELLED:
        words = languages.vocabulary(language).words
    return [
        tuple(dict.fromkeys((digit, word, *more.get(int(digit), ()))))
        for digit, word in zip(config.DIGITS, words, strict=True)
    ]


def speech(settings: config.SyntheticSettings, seed: int) -> Iterator[SpokenText]:
    """Labels, and words that are none, by made-up speakers of ``synthetic.language``.

    Each of joe's lines makes two clips (:func:`readings`). He, an American, reads the language's
    sounds as IPA, with an accent but more like a person than eSpeak NG, which says his lines where
    he is missing.

    Raises
    ------
    UserError : eSpeak NG is missing, lacks the language, or lacks its digits
    """
    voices, texts = voices_of(settings.language), texts_of(settings)
    said = [text for label in texts for text in label]
    engine, others = espeak.Espeak(voices[0]), None
    refuse_unsaid(engine, voices[0], texts, settings.language)
    if settings.other_words:
        others = other_words(engine, voices[0], said, settings.near_words)
    lines = plan(settings, texts, others, seed)
    joe = _joe(seed) if settings.piper_clips else None
    share = settings.piper_clips / (settings.espeak_clips + settings.piper_clips) if joe else 0.0
    joes = [line for line in lines if int((line.speaker + 1) * share) > int(line.speaker * share)]
    taken = {line.speaker for line in joes}
    yield from language_speech([one for one in lines if one.speaker not in taken], voices, seed)
    if joe is None:
        return
    for number, voice in enumerate(voices):
        part = [line for line in joes if line.speaker % len(voices) == number]
        spoken = piper_speech(part, lambda: joe, pronunciations(part, voice), seed + number)
        yield from readings(spoken, np.random.default_rng([seed, 72, number]))


def refuse_unsaid(
    engine: espeak.Espeak, voice: str, texts: list[tuple[str, ...]], language: str
) -> None:
    """Refuse a language whose digits eSpeak NG has no words for.

    Raises
    ------
    UserError : names them, and what can be done
    """
    unsaid = [label[0] for label in texts if not engine.phonemes(label[0], voice)]
    if unsaid:
        raise config.UserError(
            f"eSpeak NG has no words for {', '.join(unsaid)} in {language!r}: train on recordings "
            "(--data.corpora folder:PATH)"
        )


def readings(spoken: Iterable[SpokenText], rng: np.random.Generator) -> Iterator[SpokenText]:
    """Each utterance as it is, and once more from another throat, at another pitch and pace.

    A network's speech takes fifty times as long as this; both count as one speaker.
    """
    for one in spoken:
        yield one
        pace = rng.uniform(0.85, 1.18)
        waveform = voice_engines.move_formants(one.waveform, rng.uniform(0.88, 1.14) / pace)
        yield dataclasses.replace(one, waveform=waveform, rate=one.rate * pace)


def _joe(seed: int) -> voice_engines.Piper | None:
    """Piper's voice; None, with a warning, where it is missing."""
    try:
        return voice_engines.Piper(seed)
    except ImportError as error:
        print(f"warning: no piper voices ({error}): eSpeak NG speaks instead")
        return None


def plan(
    settings: config.SyntheticSettings,
    texts: list[tuple[str, ...]],
    others: OtherWords | None,
    seed: int,
) -> list[Line]:
    """Labels in turn, :data:`LABELS_PER_SPEAKER` a speaker, and other words by the same people."""
    rng = np.random.default_rng([seed, 71])
    count = settings.espeak_clips + settings.piper_clips
    speakers = max(1, -(-(count or settings.other_words) // LABELS_PER_SPEAKER))
    lines = [
        Line(i % len(texts), str(rng.choice(texts[i % len(texts)])), i // LABELS_PER_SPEAKER)
        for i in range(count)
    ]
    if others is not None:
        lines += [
            Line(len(texts), others.text(rng), i % speakers) for i in range(settings.other_words)
        ]
    return sorted(lines, key=lambda line: line.speaker)
