"""The strings that the network digit_ctc learns from: planned, then put together when wanted.

A line is a row of takes with the places where they begin. Strings that somebody spoke whole are
lines of one take; others join takes of one speaker, digits and words, from overlap to a pause.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import audio_io
import config
from corpora import an4
from corpora.clips import Clips, concatenate
from corpora.spoken_strings import OH, speak_strings
from training.settings import HELD_OUT_FRACTION, ClipSplit, TrainSettings, load_split

FRAME_S = 0.01
"""s. Frames over which the ends of a take are looked for."""
EDGE_DB = -32.0
"""dB of a take's loudest frame under which its ends are cut off."""
MARGIN_S = 0.03
"""s left before and after."""
FADE_S = 0.005
"""s in which a take begins and ends, so that joins don't click."""
LEVEL = 0.06
"""RMS that takes are brought to before they are joined."""
QUIET_S = (0.1, 0.8)
"""s before the first and after the last word."""
GAP_S = (-0.06, 0.3)
"""s between two joined words; negative ones overlap."""
PAUSE_S = (0.3, 0.8)
"""s of a longer pause, and :data:`PAUSE_SHARE` how often there is one."""
PAUSE_SHARE = 0.15
WORD_SHARE = 0.25
"""Joined strings with other words in them."""
BEGINNINGS_CUT, ENDS_CUT = 0.1, 0.25
"""Shares of the lines that begin with the end of a word, or end with the beginning of one, as
windows of a stream do: such a piece counts as nothing."""
FRAGMENT = 0.35
"""Share of the word that such a piece has at most."""
NOISE_S = (1.5, 6.0)
"""s of a line in which nobody speaks, or too many at once."""
TALKERS = (4, 8)
"""Talkers who make babble together."""


@dataclass(frozen=True)
class Placed:
    """A take in a line."""

    clip: int
    """Its number among the clips of the material."""
    start: int
    """Sample of the line with which it begins; may lie before the line or end after it."""
    gain_db: float


@dataclass(frozen=True)
class Line:
    """What is heard together, and what is said in it."""

    kind: str
    """real, joined, alone, spoken, other, noise or babble."""
    tokens: tuple[int, ...]
    """Class indices: digits, config.REJECT for each other word, config.OH."""
    takes: tuple[Placed, ...]
    samples: int


class Material:
    """Clips that lines are made of.

    Attributes
    ----------
    clips : digits, other words and whole strings
    tokens : what each clip says
    bounds : int64 (n, 2); where the sound of each clip begins and ends, in samples
    kinds : str (n,); digit, word, real or spoken
    """

    def __init__(self, singles: Clips, real: Clips, spoken: Clips) -> None:
        self.clips = concatenate([singles, real, spoken])
        self.tokens: list[tuple[int, ...]] = [(int(label),) for label in singles.labels]
        self.tokens += [tokens_of(name) for part in (real, spoken) for name in part.names]
        kinds = np.where(singles.labels == config.REJECT, "word", "digit").tolist()
        self.kinds = np.array(kinds + ["real"] * len(real) + ["spoken"] * len(spoken))
        self.bounds = np.array(
            [
                sound_bounds(self.clips.waveform(index), self.clips.sample_rate)
                for index in range(len(self.clips))
            ]
        ).reshape(-1, 2)
        self._by_speaker: dict[tuple[str, str], list[int]] = {}
        for index in np.flatnonzero(np.isin(self.kinds, ("digit", "word"))):
            key = str(self.clips.corpus[index]), str(self.clips.speakers[index])
            self._by_speaker.setdefault(key, []).append(int(index))

    def of_kind(self, kind: str) -> np.ndarray:
        """Numbers of the clips of a kind."""
        return np.flatnonzero(self.kinds == kind)

    def speakers(self) -> dict[str, list[list[int]]]:
        """The digits of each speaker who said three or more, by corpus."""
        found: dict[str, list[list[int]]] = {}
        for (corpus, _), clips in self._by_speaker.items():
            digits = [clip for clip in clips if self.kinds[clip] == "digit"]
            if len({self.tokens[clip] for clip in digits}) >= 3:
                found.setdefault(corpus, []).append(digits)
        return found

    def words_beside(self, clip: int) -> list[int]:
        """Other words that the speaker of a clip says; perhaps none."""
        key = str(self.clips.corpus[clip]), str(self.clips.speakers[clip])
        return [other for other in self._by_speaker[key] if self.kinds[other] == "word"]

    def sound(self, clip: int) -> np.ndarray:
        """A clip without the quiet around it, float32 (samples,), at :data:`LEVEL`, faded."""
        start, end = self.bounds[clip]
        waveform = self.clips.waveform(clip)[start:end].copy()
        fade = min(round(FADE_S * self.clips.sample_rate), len(waveform) // 2)
        ramp = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)
        waveform[:fade] *= ramp
        waveform[len(waveform) - fade :] *= ramp[::-1]
        return waveform * np.float32(LEVEL / max(audio_io.rms(waveform), 1e-5))

    def length(self, clip: int) -> int:
        """Samples of a clip without the quiet around it."""
        return int(self.bounds[clip, 1] - self.bounds[clip, 0])

    def waveform(self, line: Line) -> np.ndarray:
        """A line put together, float32 (samples,)."""
        whole = np.zeros(line.samples, np.float32)
        for take in line.takes:
            sound = self.sound(take.clip) * np.float32(10 ** (take.gain_db / 20))
            first, last = max(0, take.start), min(line.samples, take.start + len(sound))
            whole[first:last] += sound[first - take.start : last - take.start]
        return whole


def tokens_of(name: str) -> tuple[int, ...]:
    """What a string says whose name begins with it: ``40o2_speaker_0``."""
    return tuple(config.OH if item == OH else int(item) for item in str(name).split("_")[0])


def sound_bounds(waveform: np.ndarray, rate: int) -> tuple[int, int]:
    """Where the sound begins and ends in float32 (samples,), :data:`MARGIN_S` around it."""
    frame = round(FRAME_S * rate)
    count = len(waveform) // frame
    if count < 3:
        return 0, len(waveform)
    power = np.square(waveform[: count * frame].reshape(count, frame)).mean(axis=1)
    floor = 4 * np.quantile(power, 0.05)
    least = max(power.max() * 10 ** (EDGE_DB / 10), min(floor, power.max() / 10))
    loud = np.flatnonzero(power > least)
    if not len(loud):
        return 0, len(waveform)
    margin = round(MARGIN_S * rate)
    return (
        max(0, int(loud[0]) * frame - margin),
        min(len(waveform), int(loud[-1] + 1) * frame + margin),
    )


def load_material(train_settings: TrainSettings) -> tuple[Material, Material, str]:
    """Training and validation material that shares no speaker, and the corpora it is from.

    AN4's strings follow their speakers; FSDD's official test takes are in neither.

    Raises
    ------
    UserError : no corpus, or none that validates
    """
    split = load_split(train_settings)
    rate, settings = train_settings.audio.sample_rate, train_settings.strings
    real = real_strings(train_settings)
    aside = kept_aside(real, split)
    spoken = speak_strings(
        settings.spoken,
        settings.longest,
        train_settings.seed,
        rate,
        train_settings.data.root / "cache",
    )
    nothing = spoken.subset([])
    training = Material(split.training, real.subset(~aside), spoken)
    validation = Material(split.validation, real.subset(aside), nothing)
    names = split.corpora + "+an4_strings" * bool(len(real)) + "+spoken_strings" * bool(len(spoken))
    return training, validation, names


def kept_aside(real: Clips, split: ClipSplit) -> np.ndarray:
    """Strings, bool (n,), of the speakers whose digits are kept aside.

    Where nobody's digits are there, of a tenth of the speakers.
    """
    aside = ~np.isin(real.speakers, split.training.speakers)
    if aside.all():
        speakers = np.unique(real.speakers)
        aside = np.isin(real.speakers, speakers[:: round(1 / HELD_OUT_FRACTION)])
    return aside


def real_strings(train_settings: TrainSettings) -> Clips:
    """AN4's fluent strings, named STRING_SPEAKER_TAKE; none where they aren't there."""
    folder = an4.strings_folder(train_settings.data)
    rate = train_settings.audio.sample_rate
    paths = audio_io.find_audio(folder).paths if folder is not None else []
    named = [path.stem.split("_") for path in paths]
    return Clips.from_waveforms(
        [audio_io.read_audio(path, rate)[0] for path in paths],
        [0] * len(paths),
        [parts[1] for parts in named],
        [path.stem for path in paths],
        list(range(len(paths))),
        "an4_strings",
        rate,
    )


class Planner:
    """Draws lines at random, the same ones for the same seed."""

    def __init__(self, material: Material, longest: int, seed: int) -> None:
        self.material, self.longest = material, longest
        self.rng = np.random.default_rng([seed, 80])
        self.rate = material.clips.sample_rate
        self.people = material.speakers()

    def lines(self, settings: config.StringMaterialSettings) -> list[Line]:
        """The lines of all kinds that the settings ask for."""
        return [
            *self.whole("real", settings.real_views * len(self.material.of_kind("real"))),
            *self.whole("spoken", settings.spoken),
            *(self.joined() for _ in range(settings.joined if self.people else 0)),
            *self.alone(settings.alone),
            *self.other(settings.other),
            *(Line("noise", (), (), self._noise_samples()) for _ in range(settings.noise)),
            *(self.babble() for _ in range(settings.babble)),
        ]

    def whole(self, kind: str, count: int) -> Iterator[Line]:
        """Strings spoken whole, each as often as any other."""
        clips = self.material.of_kind(kind)
        for number in range(count if len(clips) else 0):
            yield self._row(kind, [int(clips[number % len(clips)])])

    def alone(self, count: int) -> Iterator[Line]:
        """Digits alone: every corpus, and in it every digit, as often as its speakers allow."""
        clips = self.material.of_kind("digit")
        if not len(clips):
            return
        chance = self._evened(clips)
        for clip in self.rng.choice(clips, count, p=chance):
            yield self._row("alone", [int(clip)])

    def _evened(self, clips: np.ndarray) -> np.ndarray:
        """Chances of clips, such that large corpora and frequent digits are drawn less often."""
        corpus, labels = self.material.clips.corpus[clips], [self.material.tokens[c] for c in clips]
        cells = [f"{one} {label}" for one, label in zip(corpus, labels, strict=True)]
        _, places, counts = np.unique(cells, return_inverse=True, return_counts=True)
        chance = 1 / np.sqrt(counts[places])
        return chance / chance.sum()

    def other(self, count: int) -> Iterator[Line]:
        """Other words alone, and now and then up to three in a row."""
        clips = self.material.of_kind("word")
        count = count if len(clips) else 0
        for clip in self.rng.choice(clips, count):
            more = self.material.words_beside(int(clip)) if self.rng.random() < 0.2 else []
            row = [int(clip), *(int(one) for one in self._some(more))]
            yield self._row("other", row)

    def joined(self) -> Line:
        """Takes of one speaker in a row; any digit is as likely."""
        people = self.people[str(self.rng.choice(sorted(self.people)))]
        digits = people[int(self.rng.integers(len(people)))]
        by_label: dict[tuple[int, ...], list[int]] = {}
        for clip in digits:
            by_label.setdefault(self.material.tokens[clip], []).append(clip)
        labels = sorted(by_label)
        length = 1 + int(self.longest * self.rng.random() ** 1.3)
        row = [
            int(self.rng.choice(by_label[labels[int(number)]]))
            for number in self.rng.integers(len(labels), size=length)
        ]
        if self.rng.random() < WORD_SHARE:
            for word in self._some(self.material.words_beside(row[0])):
                row.insert(int(self.rng.integers(len(row) + 1)), int(word))
        return self._row("joined", row)

    def babble(self) -> Line:
        """Many talk at once, and none of them to us: no digit, whatever they say."""
        samples, placed = self._noise_samples(), []
        for _ in range(self.rng.integers(*TALKERS, endpoint=True)):
            position = self._samples(self.rng.uniform(0, PAUSE_S[0]))
            level = self.rng.uniform(-4, 4)
            while position < samples:
                clip = int(self.rng.integers(len(self.material.clips)))
                placed.append(Placed(clip, position, level))
                position += self.material.length(clip) + self._samples(self.rng.uniform(*QUIET_S))
        return Line("babble", (), tuple(placed), samples)

    def _noise_samples(self) -> int:
        return self._samples(self.rng.uniform(*NOISE_S))

    def _some(self, clips: Sequence[int]) -> np.ndarray:
        """One or two of some clips, if there are any."""
        return self.rng.choice(clips, int(self.rng.integers(1, 3)) if len(clips) else 0)

    def _row(self, kind: str, row: Sequence[int]) -> Line:
        """Place takes one after the other, quiet around them, or pieces of words at the ends."""
        level, placed = self.rng.uniform(-3, 3), []
        position = self._samples(self.rng.uniform(*QUIET_S))
        if self._cut(kind, BEGINNINGS_CUT):
            clip, part = self._fragment(row)
            placed.append(Placed(clip, part - self.material.length(clip), level))
            position = part + self._samples(self.rng.uniform(0, GAP_S[1]))
        for number, clip in enumerate(row):
            if number:
                position += self._samples(self._gap())
            placed.append(Placed(clip, position, level + self.rng.uniform(-3, 3)))
            position += self.material.length(clip)
        samples = position + self._samples(self.rng.uniform(*QUIET_S))
        if self._cut(kind, ENDS_CUT):
            clip, part = self._fragment(row)
            start = position + self._samples(self.rng.uniform(0, GAP_S[1]))
            placed.append(Placed(clip, start, level))
            samples = start + part
        tokens = tuple(token for clip in row for token in self.material.tokens[clip])
        return Line(kind, tokens, tuple(placed), samples)

    def _cut(self, kind: str, share: float) -> bool:
        return kind in ("joined", "alone") and self.rng.random() < share

    def _gap(self) -> float:
        return self.rng.uniform(*(PAUSE_S if self.rng.random() < PAUSE_SHARE else GAP_S))

    def _fragment(self, row: Sequence[int]) -> tuple[int, int]:
        """A take, and samples of it that are heard at one end of a line."""
        clip = int(self.rng.choice(row))
        return clip, round(self.material.length(clip) * self.rng.uniform(0.05, FRAGMENT))

    def _samples(self, seconds: float) -> int:
        return round(seconds * self.rate)
