"""Made-up speakers of four synthesisers, and what each of them says.

eSpeak NG has any number of vocal tracts and accents, SVOX Pico recorded speakers, the neural Piper
voice "joe" a lively sound, and the neural Kokoro whole mixtures of people; each reaches voices that
the others don't.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

import config
from synthesis import espeak, espeak_voices, voice_engines

KOKORO_READINGS = 3
"""Rates at which each of Kokoro's utterances is read: it is slow, and a reading costs nothing."""
PICO_ACCENTS = {
    "de-DE": "siro wann tu sri fohr faif sicks sewwen ehjt nain oh noht faif nainer",
    "es-ES": "siro uan tuu zri foor faif six séven eit nain oh not faif náiner",
    "it-IT": "siro uan tuu sriì foor faif six sèven eit nàin oh not faif nàiner",
}
"""Digits for Pico's other voices, spelled so that their own language's rules make them English:
first :data:`config.DIGIT_WORDS`, then :data:`config.ALTERNATIVE_NAMES`.
"""
_DIGIT_NAMES = (*config.DIGIT_WORDS, *config.ALTERNATIVE_NAMES)


@dataclass(frozen=True)
class SpokenText:
    """One thing said, as the synthesiser gave it."""

    waveform: np.ndarray
    """float32 (samples,)."""
    rate: float
    """Hz at which it is to be read; synthetic speakers have odd ones."""
    digit: int
    """0 to 9, or config.REJECT."""
    text: str
    """What was said."""
    speaker: str
    """Who said it."""


@dataclass(frozen=True)
class Line:
    """What a speaker is to say."""

    digit: int
    text: str
    speaker: int
    """Number of the speaker of this synthesiser."""
    language: str = ""
    """eSpeak's voice to say a numeral in, where it isn't English."""


def _intonation(rng: np.random.Generator) -> str:
    """Punctuation makes a voice fall or rise."""
    return str(rng.choice(("", "", ".", "?", "!", ",")))


def espeak_speech(plan: list[Line], seed: int, instead_of: str = "") -> Iterator[SpokenText]:
    """Speakers of :mod:`synthesis.espeak_voices`; `instead_of` (an engine) makes
    others than the usual.
    """
    engine = espeak.Espeak()
    rng = np.random.default_rng([seed, 10, *instead_of.encode()])
    for number, lines in itertools.groupby(plan, key=lambda line: line.speaker):
        speaker = espeak_voices.make_speaker(engine, rng, number)
        engine.seed(int(rng.integers(2**31)))
        name = f"{instead_of}-{speaker.name}" if instead_of else speaker.name
        rate = espeak.SAMPLE_RATE * speaker.scale
        digits = {speaker.pronounce(word) for word in config.DIGIT_WORDS}
        for line in lines:
            if line.language:
                text, voice = line.text, speaker.voice_of(line.language)
            else:
                text, voice = speaker.pronounce(line.text), speaker.voice
            if line.digit == config.REJECT and text in digits:
                continue  # with this accent, "tree" is "three"
            waveform = _utter(engine, speaker, text + _intonation(rng), voice, rng)
            said = f"{line.language}-{line.text}" if line.language else line.text
            yield SpokenText(waveform, rate, line.digit, said, name)


def _utter(
    engine: espeak.Espeak,
    speaker: espeak_voices.Speaker,
    text: str,
    voice: str,
    rng: np.random.Generator,
) -> np.ndarray:
    """A text in one of eSpeak's voices, at a pace and pitch that vary from one to the next."""
    return engine.speak(
        text,
        voice,
        rate=round(speaker.rate * rng.uniform(0.85, 1.2)),
        pitch=int(np.clip(speaker.pitch + rng.integers(-12, 13), 0, 99)),
        pitch_range=int(rng.integers(20, 90)),
    )


def language_speech(plan: list[Line], voices: Sequence[str], seed: int) -> Iterator[SpokenText]:
    """Speakers of another language, in `voices` of its regions; every text as it stands."""
    engine = espeak.Espeak(voices[0])
    rng = np.random.default_rng([seed, 70])
    for number, lines in itertools.groupby(plan, key=lambda line: line.speaker):
        speaker = espeak_voices.make_speaker(engine, rng, number, voices)
        engine.seed(int(rng.integers(2**31)))
        for line in lines:
            waveform = _utter(engine, speaker, line.text + _intonation(rng), speaker.voice, rng)
            rate = espeak.SAMPLE_RATE * speaker.scale
            yield SpokenText(waveform, rate, line.digit, line.text, speaker.name)


def _body(rng: np.random.Generator, male: bool) -> tuple[float, float]:
    """Pitch and throat of a man, woman or child, as factors on a man's or a woman's voice."""
    kind = rng.choice(3, p=(0.45, 0.42, 0.13))
    throat = rng.uniform(*((0.9, 1.06), (1.07, 1.2), (1.18, 1.3))[kind])
    pitch = rng.uniform(*((0.8, 1.2), (1.4, 1.9), (1.9, 2.4))[kind])
    return (pitch, throat) if male else (pitch / 1.75, throat / 1.15)


def pico_speech(plan: list[Line], seed: int) -> Iterator[SpokenText]:
    """Pico's women, also as men and children: two of them English, three with an accent.

    ImportError is raised where Pico is missing.
    """
    rng, requests, readings, number = np.random.default_rng([seed, 20]), [], [], None
    for line in plan:
        if line.speaker != number:
            number = line.speaker
            voice = str(rng.choice(["en-US"] * 4 + ["en-GB"] * 4 + list(PICO_ACCENTS)))
            (pitch, throat), tempo = _body(rng, male=False), rng.uniform(0.8, 1.35)
        text = line.text
        if voice in PICO_ACCENTS and line.digit != config.REJECT:
            text = PICO_ACCENTS[voice].split()[_DIGIT_NAMES.index(line.text)]
        # reading faster shortens the throat but raises pitch and tempo too: Pico undoes these two
        requests.append(
            (
                text + _intonation(rng),
                voice,
                tempo * rng.uniform(0.85, 1.2) / throat,
                float(np.clip(pitch * rng.uniform(0.92, 1.08) / throat, 0.5, 2)),
            )
        )
        readings.append(
            (
                voice_engines.PICO_RATE * throat,
                line.digit,
                line.text,
                f"pico-{voice}-{line.speaker}",
            )
        )
    waveforms = voice_engines.pico_speak(requests) if requests else ()
    for waveform, reading in zip(waveforms, readings, strict=True):
        yield SpokenText(waveform, *reading)


def pronunciations(plan: list[Line], accent: str = "en-us") -> dict[str, str]:
    """IPA of every text in the plan."""
    engine = espeak.Espeak(accent)
    return {
        text: engine.phonemes(text, accent, ipa=True)
        for text in sorted({line.text for line in plan})
    }


def piper_speech(
    plan: list[Line], joe: Callable[[], voice_engines.Piper], ipa: dict[str, str], seed: int
) -> Iterator[SpokenText]:
    """Joe, also as a woman and a child; `ipa` from :func:`pronunciations`.

    ImportError is raised where joe or ONNX Runtime is missing.
    """
    if not plan:
        return
    engine, rng, number = joe(), np.random.default_rng([seed, 30]), None
    for line in plan:
        if line.speaker != number:
            number = line.speaker
            (pitch, throat), length = _body(rng, male=True), rng.uniform(0.75, 1.4)
            noise = rng.uniform(0.3, 1.2), rng.uniform(0.3, 1.2)
        # reading faster raises pitch and tempo: joe speaks more slowly, and the throat is set apart
        faster = pitch * rng.uniform(0.92, 1.08)
        length_now = length * rng.uniform(0.85, 1.2) * faster
        waveform = engine.speak(ipa[line.text] + _intonation(rng), length_now, *noise)
        waveform = voice_engines.move_formants(waveform, throat / faster)
        yield SpokenText(
            waveform,
            voice_engines.PIPER_RATE * faster,
            line.digit,
            line.text,
            f"piper-joe-{line.speaker}",
        )


def kokoro_speech(
    plan: list[Line],
    engine: Future[voice_engines.Kokoro],
    ipa: list[dict[str, str]],
    seed: int,
    part: int = 0,
) -> Iterator[SpokenText]:
    """Mixtures of Kokoro's voices; `ipa` from :func:`pronunciations`, for each accent.

    What is said once is read at several rates, which moves pitch, throat and tempo together; these
    count as one speaker. `part` numbers the shares of a plan that is worked on side by side.
    ImportError is raised where Kokoro or ONNX Runtime is missing.
    """
    if not plan:
        return
    kokoro, rng, number = engine.result(), np.random.default_rng([seed, 50, part]), None
    for line in plan:
        if line.speaker != number:
            number = line.speaker
            mixture, accent = rng.dirichlet(np.full(kokoro.n_voices, 0.5)), rng.integers(len(ipa))
            if rng.random() < 0.5:  # only the last voice is a man's
                mixture[-1] += rng.uniform(0.3, 1.0)
                mixture /= mixture.sum()
            speed = rng.uniform(1.0, 1.5)
            readings = rng.uniform((0.88, 0.97, 1.05), (0.95, 1.03, 1.15))
        waveform = kokoro.speak(
            ipa[accent][line.text] + _intonation(rng), mixture, speed * rng.uniform(0.9, 1.1)
        )
        for reading in readings:
            yield SpokenText(
                waveform,
                voice_engines.KOKORO_RATE * reading,
                line.digit,
                line.text,
                f"kokoro-{line.speaker}",
            )
