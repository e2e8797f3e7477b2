"""Strings of digits in one recording, or while they are spoken: what, when and how sure.

A network tells the classes of frames of 40 ms, in windows that overlap
(:mod:`recognition.string_windows`), and the likeliest path through them is the string.

    from recognition.digit_strings import StringRecognizer
    print(StringRecognizer().recognize_file("number.wav").digits)
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import audio_io
import config
from audio_io import Recording
from recognition import ctc_decoding
from recognition.ctc_decoding import PathReader, Token
from recognition.string_constraints import constrained, readings
from recognition.string_windows import (
    FRAME_S,
    LIVE,
    OFFLINE,
    SILENCE_DBFS,
    FrameNetwork,
    Pace,
    WindowedFrames,
)

WHOLE_S = 60.0
"""s up to which a recording is one string, whatever pauses it has."""
SOUND_DB = 25.0
"""dB under a digit's loudest frame at which it begins and ends."""
REACH_S = 0.5
"""s by which a digit may begin before its first frame, or end after its last."""
CUT_DB = 12.0
"""dB under the loudest frame; what ends with so much sound was cut off."""


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
        """The likeliest readings with their shares of the probability of all, best first.

        Empty where the frames were not kept: of several strings, and of long recordings.
        """
        if not len(self.posteriors):
            return []
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
            closed += map(without_frames, stream.feed(block))
        closed += map(without_frames, stream.finish())
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


def without_frames(result: StringResult) -> StringResult:
    """The same without what grows with the recording."""
    return dataclasses.replace(result, posteriors=result.posteriors[:0])


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
        remarks = ["no digits found"]
    fits = all(string.meets for string in closed)
    return StringResult(spoken, source, seconds, remarks, fits)
