"""Protocol interference: other sounds around the word, two digits at once, a living room.

Hands-free listening is simulated: the sound is fed to the endpointer in blocks, without waiting,
and every utterance goes to the recogniser. An even seed takes the recordings of noise that are kept
aside for the score, an odd seed those that the rules were developed on.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import audio_io
import config
import visualization
from audio_io import Recording
from corpora.clips import Clips, concatenate
from live.endpointing import Endpointer
from protocols import metrics, noise_generation, rejection, scoring, tables
from protocols.common import (
    EvaluationSettings,
    ProtocolReport,
    about,
    held_out_clips,
    load_unseen_speakers,
    required_folder,
    trained_on,
)
from recognition.predictor import Predictor
from recognition.recognizer import RecognitionResult, Recognizer

logger = logging.getLogger(__name__)
WORDS = 50
"""Words of a scene, five of each digit where the corpora hold as many."""
PAIRS = 40
"""Pairs of digits for hands-free listening."""
PAUSE_S = 0.4
"""s of room before and after what is said."""
GAPS_S = (0.1, 0.2, 0.3, 0.5)
"""s between the other sound and the word, each as often."""
PAIR_GAPS_S = (0.15, 0.25, 0.5)
"""s between the digits of a pair, hands-free."""
PEAK = 0.3
"""Amplitude that every word is brought to."""
ROOM_RMS = 3e-4
"""RMS amplitude of the room's own noise."""
NOISE_S, MAX_NOISE_S = 10.0, 200.0
"""s of noise before the word, and of the longest recording of noise that is read."""
SHORT_NOISE, LONG_NOISE = 20, 120
"""Recordings of 5 s in the living room: 100 s, and ten minutes."""
HANDS_FREE = config.LiveSettings()
"""How hands-free listening is set."""
LIVING_ROOM = ("Dog_bark", "Rain", "Baby_cry", "miaowing")
"""What sounds in 100 s of living room; ten minutes hold all classes."""

Scene = Callable[[np.ndarray, np.random.Generator, "Sounds"], np.ndarray]


@dataclass(frozen=True)
class Sounds:
    """Recorded sounds at one rate, float32 (samples,) each, by the name of their file."""

    by_name: dict[str, np.ndarray]
    rate: int

    def of(self, *parts: str) -> list[np.ndarray]:
        """Those with one of `parts` in their name; all without any."""
        return [
            sound
            for name, sound in self.by_name.items()
            if not parts or any(part in name for part in parts)
        ]

    def long(self, seconds: float) -> list[np.ndarray]:
        """Those of at least that length."""
        return [sound for sound in self.by_name.values() if len(sound) >= seconds * self.rate]


def load_sounds(folder: Path, rate: int, seed: int) -> Sounds:
    """Half of the recordings below `folder`; the seed's parity says which.

    Of the clips, named ``CLASS__ID``, every second; of longer recordings one half each.

    Raises
    ------
    UserError : none of a dog's bark, or no long recording of noise
    """
    sounds = {}
    clips = [path for path in audio_io.find_audio(folder) if "__" in path.name]
    for path in clips[seed % 2 :: 2]:
        sounds[path.stem] = audio_io.read_audio(path, rate)[0]
    for path in audio_io.find_audio(folder):
        if "__" not in path.name:
            sound = audio_io.read_audio(path, rate, max_seconds=MAX_NOISE_S)[0]
            sounds[path.stem] = np.array_split(sound, 2)[1 - seed % 2]
    found = Sounds(sounds, rate)
    if not found.of("Dog_bark") or not found.long(NOISE_S):
        raise config.UserError(
            f"{folder}: clips of a dog's bark (*Dog_bark__*) and {2 * NOISE_S:g} s of some noise "
            "are needed there"
        )
    return found


def interference(settings: EvaluationSettings) -> ProtocolReport:
    """Words among other sounds, two digits in a file, and hands-free listening."""
    predictor = Predictor(settings.decision)
    recognizer = Recognizer(predictor, settings.cleaning)
    listener = Recognizer(predictor, settings.cleaning, HANDS_FREE.hands_free_confidence)
    folder = required_folder(settings.noise_dir, "recorded noise", "--noise-dir", "NOISE_DIR")
    sounds = load_sounds(folder, predictor.audio.sample_rate, settings.seed)
    rows: list[dict[str, Any]] = []
    for name, clips in word_sets(settings, predictor).items():
        for scene in SCENES:
            rows.append(score_scene(recognizer, name, scene, clips, sounds, settings.seed))
        rows.append(score_file_pairs(recognizer, name, clips, settings.seed))
        for apart_s in PAIR_GAPS_S:
            rows.append(score_live_pairs(listener, name, clips, apart_s, settings.seed))
        logger.info(f"{name}: {told(rows)}")
    rooms = [
        score_living_room(listener, "100 s", sounds.of(*LIVING_ROOM), SHORT_NOISE, settings.seed),
        score_living_room(listener, "ten minutes", sounds.of(), LONG_NOISE, settings.seed),
    ]
    rooms += [
        score_no_digits(recognizer, name, clips)
        for name, clips in rejection.non_digit_clips(settings, predictor).items()
    ]
    return interference_report(settings, predictor, rows, rooms)


def word_sets(settings: EvaluationSettings, predictor: Predictor) -> dict[str, Clips]:
    """The words to find: held-out takes, and unseen speakers' where a folder was named."""
    sets = {"held-out takes": held_out_clips(settings, predictor).validation}
    if settings.unseen_dir is not None:
        corpora = load_unseen_speakers(settings, predictor.audio)
        sets |= {"unseen speakers": balanced(corpora, settings.seed)}
    return {name: by_digit(clips, settings.seed) for name, clips in sets.items()}


def balanced(corpora: dict[str, Clips], seed: int) -> Clips:
    """The same number of clips of each digit from each corpus, as far as it holds them."""
    return concatenate([by_digit(clips, seed, 2) for clips in corpora.values()])


def by_digit(clips: Clips, seed: int, count: int = WORDS // 10) -> Clips:
    """At most `count` clips of each digit, of as many speakers as there are."""
    random = np.random.default_rng([seed, 1])
    chosen: list[int] = []
    for digit in range(config.REJECT):
        order = random.permutation(np.flatnonzero(clips.labels == digit))
        speakers: dict[str, int] = {}
        turns = []  # a speaker's second clip comes after everybody's first
        for index in order:
            speaker = str(clips.speakers[index])
            turns.append(speakers.get(speaker, 0))
            speakers[speaker] = turns[-1] + 1
        chosen += [int(order[i]) for i in np.argsort(turns, kind="stable")[:count]]
    return clips.subset(chosen)


def at_peak(waveform: np.ndarray, peak: float = PEAK) -> np.ndarray:
    """Float32 (samples,) brought to an amplitude."""
    return waveform * np.float32(peak / max(float(np.abs(waveform).max(initial=0.0)), 1e-6))


def in_room(parts: Sequence[np.ndarray], random: np.random.Generator, rate: int) -> np.ndarray:
    """Sounds end to end in a quiet room, with :data:`PAUSE_S` around them."""
    pause = np.zeros(round(PAUSE_S * rate), np.float32)
    sound = np.concatenate([pause, *parts, pause])
    room = ROOM_RMS * noise_generation.coloured_noise(len(sound), 0.5, random)
    return np.clip(sound + room, -1, 1).astype(np.float32)


def gap(random: np.random.Generator, rate: int) -> np.ndarray:
    """A pause of one of :data:`GAPS_S`."""
    return np.zeros(round(random.choice(GAPS_S) * rate), np.float32)


def alone(word: np.ndarray, random: np.random.Generator, sounds: Sounds) -> np.ndarray:
    """The word in a quiet room."""
    return in_room([word], random, sounds.rate)


def after_beep(word: np.ndarray, random: np.random.Generator, sounds: Sounds) -> np.ndarray:
    """0.3 s of a pure tone of the word's peak before it."""
    time = np.arange(round(0.3 * sounds.rate)) / sounds.rate
    beep = np.sin(2 * np.pi * random.uniform(500, 2000) * time) * np.minimum(
        1, np.minimum(time, 0.3 - time) / 0.005
    )
    return in_room([at_peak(beep), gap(random, sounds.rate), word], random, sounds.rate)


def after_bark(word: np.ndarray, random: np.random.Generator, sounds: Sounds) -> np.ndarray:
    """The loudest half second of a dog's bark before it, of the word's peak."""
    barks = sounds.of("Dog_bark")
    bark = loudest(barks[int(random.integers(len(barks)))], 0.5, sounds.rate)
    return in_room([at_peak(bark), gap(random, sounds.rate), word], random, sounds.rate)


def loudest(sound: np.ndarray, seconds: float, rate: int) -> np.ndarray:
    """The loudest stretch of that length."""
    size = round(seconds * rate)
    energy = np.concatenate(([0.0], np.cumsum(np.square(sound, dtype=np.float64))))
    start = int(np.argmax(energy[size:] - energy[:-size]))
    return sound[start : start + size]


def after_noise(word: np.ndarray, random: np.random.Generator, sounds: Sounds) -> np.ndarray:
    """Ten seconds of recorded noise before it, as loud as the word while it is spoken."""
    noise = noise_generation.make_noise(
        "recorded", round(NOISE_S * sounds.rate), random, None, sounds.long(NOISE_S)
    )
    noise = noise * noise_generation.speech_rms(word, sounds.rate)
    return in_room([noise, gap(random, sounds.rate), word], random, sounds.rate)


def after_click(word: np.ndarray, random: np.random.Generator, sounds: Sounds) -> np.ndarray:
    """A key pressed and released before it, three times as loud."""
    parts = []
    for peak in (3 * PEAK, 1.5 * PEAK):
        size = round(random.uniform(0.005, 0.015) * sounds.rate)
        ring = np.exp(-5 * np.arange(size) / size) * random.standard_normal(size)
        parts += [at_peak(ring, peak), np.zeros(round(random.uniform(0.06, 0.12) * sounds.rate))]
    return in_room([*parts, gap(random, sounds.rate), word], random, sounds.rate)


SCENES: dict[str, Scene] = {
    "alone": alone,
    "after a beep": after_beep,
    "after a bark": after_bark,
    "after 10 s of loud noise": after_noise,
    "after a key's click": after_click,
}


def score_scene(
    recognizer: Recognizer, words: str, scene: str, clips: Clips, sounds: Sounds, seed: int
) -> dict[str, Any]:
    """How many words are answered with their digit."""
    recordings = []
    for index in range(len(clips)):
        random = np.random.default_rng([seed, index, *scene.encode()])
        sound = SCENES[scene](at_peak(clips.waveform(index)), random, sounds)
        recordings.append(Recording(sound, sounds.rate))
    results = recognizer.recognize_batch(recordings)
    right = [result.digit == label for result, label in zip(results, clips.labels, strict=True)]
    wrong = [
        result.digit not in (None, label)
        for result, label in zip(results, clips.labels, strict=True)
    ]
    return row(words, scene, right, wrong)


def row(words: str, scene: str, right: Sequence[bool], wrong: Sequence[bool]) -> dict[str, Any]:
    """One line of the table."""
    return {
        "words": words,
        "scene": scene,
        "right": metrics.proportion(right),
        "wrong": metrics.proportion(wrong),
    }


def pairs(clips: Clips, count: int, seed: int) -> Iterator[tuple[int, int]]:
    """Indices of two clips of different digits, by one speaker where there are two."""
    random = np.random.default_rng([seed, 2])
    for number in range(count):
        first = number % len(clips)
        others = np.flatnonzero(clips.labels != clips.labels[first])
        same = others[clips.speakers[others] == clips.speakers[first]]
        yield first, int(random.choice(same if len(same) else others))


def score_file_pairs(recognizer: Recognizer, words: str, clips: Clips, seed: int) -> dict[str, Any]:
    """Two digits in a file, 0.3 to 0.8 s apart: both answered, in order."""
    random, right, wrong = np.random.default_rng([seed, 3]), [], []
    for first, second in pairs(clips, PAIRS, seed):
        apart = np.zeros(round(random.uniform(0.3, 0.8) * clips.sample_rate), np.float32)
        sound = in_room(
            [at_peak(clips.waveform(first)), apart, at_peak(clips.waveform(second))],
            random,
            clips.sample_rate,
        )
        found = recognizer.recognize(Recording(sound, clips.sample_rate)).digits
        right.append(found == [clips.labels[first], clips.labels[second]])
        wrong.append(not right[-1] and len(found) > 0)
    return row(words, "two digits in a file", right, wrong)


def hands_free(recognizer: Recognizer, sound: np.ndarray) -> list[RecognitionResult]:
    """What hands-free listening answers to float32 (samples,) at the networks' rate."""
    endpointer = Endpointer(recognizer.rate, HANDS_FREE)
    block = recognizer.rate // 50
    utterances = [
        utterance
        for start in range(0, len(sound), block)
        for utterance in endpointer.feed(sound[start : start + block])
    ]
    last = endpointer.flush()
    utterances += [last] if last else []
    return recognizer.recognize_batch(
        [Recording(utterance.waveform, recognizer.rate) for utterance in utterances]
    )


def score_live_pairs(
    recognizer: Recognizer, words: str, clips: Clips, apart_s: float, seed: int
) -> dict[str, Any]:
    """Two digits one shortly after the other, hands-free: both answered, and nothing else."""
    random, right, wrong = np.random.default_rng([seed, 4]), [], []
    apart = np.zeros(round(apart_s * clips.sample_rate), np.float32)
    still = np.zeros(clips.sample_rate, np.float32)
    for first, second in pairs(clips, PAIRS, seed):
        parts = [
            still,
            at_peak(clips.waveform(first)),
            apart,
            at_peak(clips.waveform(second)),
            still,
        ]
        results = hands_free(recognizer, in_room(parts, random, clips.sample_rate))
        found = [digit for result in results for digit in result.digits]
        right.append(found == [clips.labels[first], clips.labels[second]])
        wrong.append(not right[-1] and len(found) > 0)
    return row(words, f"pair {1000 * apart_s:.0f} ms apart, hands-free", right, wrong)


def score_living_room(
    recognizer: Recognizer, name: str, sounds: list[np.ndarray], count: int, seed: int
) -> dict[str, Any]:
    """How many digits are heard where none is said."""
    random = np.random.default_rng([seed, 5])
    size, order = 5 * recognizer.rate, random.permutation(len(sounds))
    parts = []
    for number in range(count):
        sound = sounds[order[number % len(sounds)]]
        start = int(random.integers(max(1, len(sound) - size)))
        parts.append(sound[start : start + size])
    results = hands_free(recognizer, np.concatenate(parts).astype(np.float32))
    accepted = [digit for result in results for digit in result.digits]
    return {
        "sound": f"living room, {name}",
        "recordings": len(results),
        "accepted": len(accepted),
        "digits": accepted,
    }


def score_no_digits(recognizer: Recognizer, name: str, clips: Clips) -> dict[str, Any]:
    """How many recordings without a digit are answered with one, not hands-free."""
    digits: list[int] = []
    for start in range(0, len(clips), scoring.CHUNK):
        numbers = range(start, min(start + scoring.CHUNK, len(clips)))
        batch = [Recording(clips.waveform(number), clips.sample_rate) for number in numbers]
        digits += [one.digit for one in recognizer.recognize_batch(batch) if one.digit is not None]
    return {"sound": name, "recordings": len(clips), "accepted": len(digits), "digits": digits}


def told(rows: list[dict[str, Any]]) -> str:
    """Scores in one line."""
    return ", ".join(f"{one['scene']} {one['right'].right}/{one['right'].total}" for one in rows)


def interference_report(
    settings: EvaluationSettings,
    predictor: Predictor,
    rows: list[dict[str, Any]],
    others: list[dict[str, Any]],
) -> ProtocolReport:
    """Tables of the words found among other sounds, and of what a living room is taken for."""
    title = f"Among other sounds: {told(rows[1:5])}"
    table = [
        [
            one["words"],
            one["scene"],
            f"{one['right'].right} of {one['right'].total}",
            tables.percent(one["right"]),
            one["wrong"].right,
        ]
        for one in rows
    ]
    text = "\n".join(
        [
            f"# {title}\n",
            trained_on(predictor),
            f"Words at a peak of {PEAK:g} in a quiet room; the other sound ends {GAPS_S[0]:g} to "
            f"{GAPS_S[-1]:g} s before the word. Right: the right digit, or both, and no other.\n",
            tables.table(["words", "scene", "right", "percent", "wrong digits"], table),
            "Nobody says a digit (living room: hands-free, its utterances):\n",
            tables.table(
                ["sound", "recordings", "digits accepted"],
                [[one["sound"], one["recordings"], one["accepted"]] for one in others],
            ),
        ]
    )
    figure = [
        {
            "group": one["scene"],
            "series": one["words"],
            **{
                key: value
                for key, value in dataclasses.asdict(one["right"]).items()
                if key != "right"
            },
        }
        for one in rows
    ]
    data = about(settings, predictor) | {"scenes": rows, "no_digits": others}
    return ProtocolReport(
        "interference", text, data, lambda path: visualization.plot_proportions(figure, path, title)
    )
