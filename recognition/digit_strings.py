"""Strings of digits in one recording, or while they are spoken: what, when and how sure.

A network tells the classes of frames of 40 ms in windows that overlap. Each frame's posteriors are
taken once, from the window in which enough follows it; so neither memory nor delay grows with the
recording, and it does not matter in what blocks the sound arrives.

    from recognition.digit_strings import StringRecognizer
    print(StringRecognizer().recognize_file("number.wav").digits)
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import audio_io
import config
from audio_io import Recording
from recognition import ctc_decoding
from recognition.ctc_decoding import PathReader, Token

FRAME_S = 0.04
"""s of a frame."""
SHORTEST_S = 0.4
"""s that a window has at least; less is filled up with quiet."""
SILENCE_DBFS = -75.0
"""dBFS under which a window holds no speech, and no network is asked."""
WHOLE_S = 60.0
"""s up to which a recording is one string, whatever pauses it has."""
SOUND_DB = 25.0
"""dB under a digit's loudest frame at which it begins and ends."""
REACH_S = 0.5
"""s by which a digit may begin before its first frame, or end after its last."""
CUT_DB = 12.0
"""dB under the loudest frame; what ends with so much sound was cut off."""
LEAST_SHARE = 1e-5
"""Share of the probability under which a reading is not given, whatever constraint it meets."""
WIDE_BEAM = 64
"""Readings that are searched for one that meets the constraints."""


@dataclass(frozen=True)
class Pace:
    """How windows follow each other; s, multiples of :data:`FRAME_S`."""

    window: float
    """What the network hears at once."""
    hop: float
    """From one window to the next."""
    ahead: float
    """What a frame's window holds after it at least."""


OFFLINE = Pace(window=8.0, hop=6.0, ahead=1.0)
LIVE = Pace(window=2.8, hop=0.16, ahead=0.24)


class FrameNetwork(Protocol):
    """What tells the classes of frames; :mod:`recognition.string_networks` has two."""

    rate: int
    """Hz of the windows."""

    def posteriors(self, window: np.ndarray) -> np.ndarray:
        """float32 (frames, 13) of float32 (samples,), a whole number of frames."""
        ...


@dataclass(frozen=True)
class SpokenDigit:
    """A digit of a string."""

    digit: int
    start_s: float
    end_s: float
    confidence: float
    """0 to 1."""


@dataclass(frozen=True)
class StringResult:
    """A string of digits and what the user should know of it."""

    spoken: list[SpokenDigit]
    source: str = ""
    duration_s: float = 0.0
    remarks: list[str] = field(default_factory=list)
    meets: bool = True
    """Whether the string is what the constraints ask for."""
    posteriors: np.ndarray = field(default_factory=lambda: np.zeros((0, config.BLANK)), repr=False)
    """float32 (frames, 12): ten digits, other speech, blank."""
    n_best: int = 5

    @property
    def digits(self) -> str:
        """The string; empty where no digit was said."""
        return "".join(str(one.digit) for one in self.spoken)

    @property
    def confidence(self) -> float:
        """Geometric mean of the digits' confidences, whatever their number; 0 without digits."""
        if not self.spoken:
            return 0.0
        return math.exp(np.mean([math.log(max(one.confidence, 1e-6)) for one in self.spoken]))

    @functools.cached_property
    def alternatives(self) -> list[tuple[str, float]]:
        """The likeliest readings with their shares of the probability of all, best first."""
        found = readings(self.posteriors, max(self.n_best, ctc_decoding.BEAM))
        return found[: self.n_best]

    def as_text(self) -> str:
        """One line for people, and one more for each remark."""
        answer = "no digits"
        if self.spoken:
            each = ", ".join(f"{one.digit} {one.start_s:.2f} s" for one in self.spoken)
            answer = f"{self.digits} {self.confidence:.0%} ({each})"
        return "\n".join([answer, *(f"  {remark}" for remark in self.remarks)])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a line of JSON."""
        return {
            "source": self.source,
            "digits": self.digits,
            "confidence": round(self.confidence, 4),
            "spoken": [
                {name: round(value, 4) for name, value in dataclasses.asdict(one).items()}
                for one in self.spoken
            ],
            "alternatives": [
                {"digits": digits, "share": round(share, 4)} for digits, share in self.alternatives
            ],
            "meets": self.meets,
            "duration_s": round(self.duration_s, 3),
            "remarks": self.remarks,
        }


def readings(posteriors: np.ndarray, beam: int) -> list[tuple[str, float]]:
    """Strings with their shares of the probability of all that were found, best first."""
    found = ctc_decoding.n_best(condensed(posteriors), beam)
    best = max((chance for _, chance in found), default=0.0)
    weights = [math.exp(chance - best) for _, chance in found]
    return [
        ("".join(map(str, string)), weight / sum(weights))
        for (string, _), weight in zip(found, weights, strict=True)
    ]


def condensed(posteriors: np.ndarray) -> np.ndarray:
    """The same frames with one in place of each run in which nothing is said."""
    quiet = posteriors[:, : config.REJECT].sum(axis=1) < 1e-3
    return posteriors[~(quiet & np.roll(quiet, 1)) | (np.arange(len(quiet)) == 0)]


def meets(digits: str, settings: config.StringsSettings) -> bool:
    """Whether a string is what the constraints ask for."""
    if settings.length is not None and len(digits) != settings.length:
        return False
    if settings.pattern and not re.fullmatch(settings.pattern, digits):
        return False
    return {"none": lambda _: True, "luhn": is_luhn, "isbn": is_isbn}[settings.check](digits)


def is_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return len(digits) > 1 and sum(number - 9 * (number > 9) for number in doubled) % 10 == 0


def is_isbn(digits: str) -> bool:
    """Whether a string of 10 or 13 digits is an ISBN (ISO 2108); X, which is no digit, is none."""
    numbers = [int(digit) for digit in digits]
    if len(numbers) == 10:
        return sum((10 - place) * number for place, number in enumerate(numbers)) % 11 == 0
    checked = sum(number * (1 + 2 * (place % 2)) for place, number in enumerate(numbers))
    return len(numbers) == 13 and checked % 10 == 0


class WindowedFrames:
    """Posteriors of the frames of a stream, each once, in order.

    Parameters
    ----------
    network : hears the windows
    pace : how they follow each other
    """

    def __init__(self, network: FrameNetwork, pace: Pace) -> None:
        self.network, self.frame = network, round(FRAME_S * network.rate)
        self.window, self.hop, self.ahead = (
            round(seconds / FRAME_S) * self.frame for seconds in (pace.window, pace.hop, pace.ahead)
        )
        self.sound = np.zeros(0, np.float32)
        self.begin = 0  # sample of the stream with which `sound` begins: a whole frame
        self.next_end = self.hop + self.ahead
        self.emitted = 0  # frames
        self.samples = 0  # of the stream so far

    def feed(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take float32 (samples,) in.

        Returns posteriors, (frames, 13), and levels, dB (frames,), of the frames that are decided.
        """
        found = [self._nothing()]
        block = np.nan_to_num(block.astype(np.float32, copy=False), posinf=0.0, neginf=0.0)
        place = 0
        while place < len(block):  # no further than a window's end, so that memory is bounded
            taken = block[place : place + self.next_end - self.samples]
            self.sound = np.concatenate([self.sound, taken])
            self.samples += len(taken)
            place += len(taken)
            if self.samples == self.next_end:
                found.append(self._window(self.samples, self.samples - self.ahead))
                self.next_end += self.hop
                self._forget()
        return _joined(found)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """The frames that are left, the last filled up with quiet."""
        wanted = max(self.samples, round(SHORTEST_S * self.network.rate) * (self.begin == 0))
        end = -(-wanted // self.frame) * self.frame
        last = -(-self.samples // self.frame) * self.frame
        if last <= self.emitted * self.frame:
            return self._nothing()
        self.sound = np.pad(self.sound, (0, end - self.samples))
        return self._window(end, last)

    def _window(self, end: int, decided: int) -> tuple[np.ndarray, np.ndarray]:
        """Hear the window up to sample `end`; its frames from the last emitted up to `decided`."""
        begin = max(self.begin, end - self.window)
        window = self.sound[begin - self.begin : end - self.begin]
        levels = levels_db(window, self.frame)
        first, last = self.emitted - begin // self.frame, (decided - begin) // self.frame
        if levels.max(initial=-200.0) < SILENCE_DBFS:
            posteriors = np.zeros((len(levels), config.N_FRAME_CLASSES), np.float32)
            posteriors[:, config.BLANK] = 1.0
        else:
            posteriors = self.network.posteriors(window)
        self.emitted = decided // self.frame
        return posteriors[first:last], levels[first:last]

    def _forget(self) -> None:
        """Drop what no window will hold any more."""
        begin = max(0, self.next_end - self.window)
        self.sound, self.begin = self.sound[begin - self.begin :], begin

    def _nothing(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((0, config.N_FRAME_CLASSES), np.float32), np.zeros(0)


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts])


def levels_db(waveform: np.ndarray, frame: int) -> np.ndarray:
    """Level of each frame, dBFS (frames,)."""
    frames = waveform[: len(waveform) // frame * frame].reshape(-1, frame)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    return 10 * np.log10(np.maximum(power, 1e-20))


class StringStream:
    """A stream of sound on its way to strings.

    Parameters
    ----------
    network : hears windows of it
    settings : constraints, and the pause that closes a string
    pace : how soon a digit is told, and at what cost
    longest_s : s after which a string is closed whatever is said; bounds the memory

    Attributes
    ----------
    digits : the digits of the string that is being spoken, as far as they are known
    """

    def __init__(
        self,
        network: FrameNetwork,
        settings: config.StringsSettings | None = None,
        pace: Pace = LIVE,
        longest_s: float = WHOLE_S,
    ) -> None:
        self.settings = settings or config.StringsSettings()
        self.frames = WindowedFrames(network, pace)
        self.pause = math.ceil(self.settings.pause_ms / 1000 / FRAME_S)
        self.longest = math.ceil(longest_s / FRAME_S)
        self.digits: list[int] = []
        self._begin_string(0)

    def _begin_string(self, frame: int) -> None:
        self.first, self.reader = frame, PathReader()
        self.posteriors: list[np.ndarray] = []
        self.levels: list[float] = []
        self.tokens: list[Token] = []
        self.digits = []

    def feed(self, block: np.ndarray) -> list[StringResult]:
        """Take sound in, float32 (samples,) at the network's rate; the strings that it closed."""
        return self._take(*self.frames.feed(block))

    def finish(self) -> list[StringResult]:
        """The stream has ended: the strings that this closes."""
        closed = self._take(*self.frames.finish())
        if (token := self.reader.flush()) is not None:
            self._add(token)
        if self.tokens:
            closed.append(self._result(ended=True))
        self._begin_string(self.first + len(self.levels))
        return closed

    def _take(self, posteriors: np.ndarray, levels: np.ndarray) -> list[StringResult]:
        closed = []
        folded = ctc_decoding.fold_oh(posteriors, self.settings.oh)
        for frame, level in zip(folded, levels, strict=True):
            self.posteriors.append(frame)
            self.levels.append(level)
            if (token := self.reader.feed(frame)) is not None:
                self._add(token)
            if self._is_over():
                if self.tokens:
                    closed.append(self._result(ended=False))
                self._begin_string(self.first + len(self.levels))
        return closed

    def _add(self, token: Token) -> None:
        if token.label == config.REJECT or token.confidence >= self.settings.least_confidence:
            self.tokens.append(token)
            if token.label != config.REJECT:
                self.digits.append(token.label)

    def _is_over(self) -> bool:
        """Whether the string is closed by a pause, or has to be by its length."""
        last = self.tokens[-1].last if self.tokens else -1
        quiet = len(self.levels) - 1 - last
        return (quiet >= self.pause and not self.reader.speaking) or (
            len(self.levels) >= self.longest
        )

    def _result(self, ended: bool) -> StringResult:
        """The string that is complete."""
        posteriors, levels = np.array(self.posteriors), np.array(self.levels)
        tokens, remarks, fits = constrained(posteriors, self.tokens, self.settings)
        spoken = timed(tokens, levels, self.first)
        if not spoken:
            remarks.append("other words, no digits")
        if ended and is_cut_off(levels):
            remarks.append("sound goes on to the very end: the last digit may be cut off")
        seconds = len(levels) * FRAME_S
        kept = posteriors if seconds <= WHOLE_S else posteriors[:0]
        n_best = self.settings.n_best
        return StringResult(spoken, "", seconds, remarks, fits, kept, n_best)


def constrained(
    posteriors: np.ndarray, tokens: list[Token], settings: config.StringsSettings
) -> tuple[list[Token], list[str], bool]:
    """The best reading that meets the constraints; remarks, and whether there is one.

    Where none of the likeliest readings does, the likeliest is given, and said to be wrong.
    """
    best = "".join(str(token.label) for token in tokens if token.label != config.REJECT)
    if not settings.constrained or meets(best, settings):
        return tokens, [], True
    for digits, share in readings(posteriors, WIDE_BEAM):
        if digits and share >= LEAST_SHARE and meets(digits, settings):
            return ctc_decoding.aligned(posteriors, [int(digit) for digit in digits]), [], True
    return tokens, [f"none of the likeliest readings {wish(settings)}"], False


def wish(settings: config.StringsSettings) -> str:
    """What the constraints ask for, in words."""
    parts = [f"has {settings.length} digits"] * (settings.length is not None)
    parts += [f"matches {settings.pattern}"] * bool(settings.pattern)
    parts += [f"has the check digit of {settings.check}"] * (settings.check != "none")
    return " and ".join(parts)


def timed(tokens: Iterable[Token], levels: np.ndarray, first: int) -> list[SpokenDigit]:
    """Digits with their beginning and end, s since the stream began.

    A digit reaches from the frames that tell it outwards as far as there is sound, and no further
    than the middle between it and its neighbours.
    """
    rows, found = list(tokens), []
    for number, token in enumerate(rows):
        low = rows[number - 1].last if number else -1
        high = rows[number + 1].first if number + 1 < len(rows) else len(levels)
        reach = round(REACH_S / FRAME_S)
        left = max(-(-(low + token.first) // 2), token.first - reach, 0)
        right = min((token.last + high) // 2, token.last + reach, len(levels) - 1)
        least = levels[left : right + 1].max() - SOUND_DB
        start, end = token.first, token.last
        while start > left and levels[start - 1] > least:
            start -= 1
        while end < right and levels[end + 1] > least:
            end += 1
        if token.label != config.REJECT:
            at, until = (first + start) * FRAME_S, (first + end + 1) * FRAME_S
            found.append(SpokenDigit(token.label, at, until, token.confidence))
    return found


def is_cut_off(levels: np.ndarray) -> bool:
    """Whether sound as loud as speech goes on to the last frame."""
    loudest = levels.max(initial=-200.0)
    return len(levels) > 2 and bool(levels[-2:].min() > max(loudest - CUT_DB, SILENCE_DBFS))


class StringRecognizer:
    """Recordings to strings.

    Parameters
    ----------
    network : where it lies, or one that has been loaded
    settings : constraints and so on

    Raises
    ------
    UserError : no such network, or it tells single digits
    """

    def __init__(
        self,
        network: config.DecisionSettings | FrameNetwork | None = None,
        settings: config.StringsSettings | None = None,
    ) -> None:
        if network is None or isinstance(network, config.DecisionSettings):
            from recognition.string_networks import load_network

            network = load_network(network)
        self.network, self.rate = network, network.rate
        self.settings = settings or config.StringsSettings()

    def stream(self, pace: Pace = LIVE) -> StringStream:
        """For sound that is fed block by block."""
        return StringStream(self.network, self.settings, pace)

    def recognize_file(self, path: Path | str) -> StringResult:
        """The string in a sound file; one of hours is read and heard piece by piece.

        Raises
        ------
        AudioError : it can't be read; the text says why
        """
        if audio_io.seconds_of(path) <= WHOLE_S:
            return self.recognize(audio_io.read_recording(path))
        stream = StringStream(self.network, self.settings, OFFLINE)
        closed: list[StringResult] = []
        for block in audio_io.read_blocks(path, self.rate):
            closed += stream.feed(block)
        closed += stream.finish()
        seconds = stream.frames.samples / self.rate
        return as_one(closed, audio_io.source_name(path), seconds)

    def recognize(self, recording: Recording) -> StringResult:
        """The string in one recording."""
        waveform = audio_io.resample(recording.waveform, recording.sample_rate, self.rate)
        whole = recording.seconds <= WHOLE_S
        settings = dataclasses.replace(self.settings, pause_ms=10_000) if whole else self.settings
        stream = StringStream(self.network, settings, OFFLINE, WHOLE_S + 1)
        if whole:
            stream.pause = stream.longest
        closed = [*stream.feed(waveform), *stream.finish()]
        remarks = list(recording.remarks)
        if recording.seconds < 0.1:
            remarks.append(f"too short: {1000 * recording.seconds:.0f} ms hold no word")
        result = as_one(closed, recording.source, recording.seconds)
        return dataclasses.replace(result, remarks=remarks + result.remarks)


def as_one(closed: Sequence[StringResult], source: str, seconds: float) -> StringResult:
    """All strings of a recording in one result; the readings are those of a single string."""
    if len(closed) == 1:
        return dataclasses.replace(closed[0], source=source, duration_s=seconds)
    spoken = [one for string in closed for one in string.spoken]
    remarks = list(dict.fromkeys(remark for string in closed for remark in string.remarks))
    if spoken:
        remarks = [remark for remark in remarks if remark != "other words, no digits"]
        strings = [string.digits for string in closed if string.spoken]
        remarks.append(f"{len(strings)} strings: {', '.join(strings[:20])}")
    if not closed:
        remarks = ["no speech found"]
    fits = all(string.meets for string in closed)
    return StringResult(spoken, source, seconds, remarks, fits)
