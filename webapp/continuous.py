"""Digits out of a browser's microphone, as they are spoken."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

import audio_io
from audio_io import Recording
from live.endpointing import Endpointer, LowDelayResampler, Utterance
from recognition.digit_strings import StringResult
from recognition.recognizer import RecognitionResult
from webapp.service import RecognitionService

KEPT_DIGITS = 500
"""Digits of the running string that are kept."""
Result = RecognitionResult | StringResult


class Hearing(Protocol):
    """What makes answers of a stream's samples, float32 (samples,) at the stream's own rate."""

    last: Result | None
    """The latest answer."""

    @property
    def speaking(self) -> bool:
        """Whether something is being said."""
        ...

    @property
    def begun(self) -> Sequence[int]:
        """Digits of what is not complete yet."""
        ...

    def feed(self, block: np.ndarray, threshold: float) -> list[int]:
        """Take samples in; the digits that are complete."""
        ...

    def stop(self, threshold: float) -> list[int]:
        """The stream has ended; the digits that this completes."""
        ...


class Listener:
    """One tab's stream: resampled, cut, recognised; its memory is bounded.

    Attributes
    ----------
    level_dbfs : of the latest block
    changed : whether the latest block brought something
    last : the latest answer
    """

    def __init__(self, service: RecognitionService) -> None:
        self.service = service
        self.complete: list[int] = []
        self.level_dbfs, self.changed = -120.0, False
        self.last: Result | None = None
        self.hearing: Hearing | None = None
        self._kind = (0, False)

    @property
    def digits(self) -> list[int]:
        """The running string."""
        return [*self.complete, *(self.hearing.begun if self.hearing else ())]

    @property
    def speaking(self) -> bool:
        """Whether something is being said."""
        return self.hearing is not None and self.hearing.speaking

    def feed(self, block: np.ndarray, rate: int, threshold: float, fluent: bool = False) -> None:
        """Take the next samples, float32 (samples,); `fluent`: digits need no pause between them.

        Raises
        ------
        UserError : no network hears fluent digits
        """
        hearing = self.hearing
        if hearing is None or self._kind != (rate, fluent):
            self.stop(threshold)
            self.hearing = hearing = make_hearing(self.service, rate, fluent)
            self._kind = rate, fluent
        self.level_dbfs = audio_io.dbfs(audio_io.rms(block))
        before, last = self.digits, self.last
        self._add(hearing.feed(block, threshold))
        self.changed = self.digits != before or self.last is not last

    def stop(self, threshold: float) -> None:
        """The stream has ended: answer what was being said."""
        if self.hearing is not None:
            self._add(self.hearing.stop(threshold))
        self.hearing, self.level_dbfs = None, -120.0

    def clear(self) -> None:
        """Begin a new string."""
        self.complete, self.hearing, self.last = [], None, None

    def _add(self, digits: list[int]) -> None:
        """Append complete digits of what is being heard, and note its latest answer."""
        self.complete = [*self.complete, *digits][-KEPT_DIGITS:]
        if self.hearing is not None:
            self.last = self.hearing.last or self.last


class SingleDigits:
    """Digits with short pauses: the stream is cut into utterances, and each is recognised."""

    def __init__(self, service: RecognitionService, rate: int) -> None:
        self.service, self.rate = service, rate
        self.last: Result | None = None
        live, self._networks_rate = service.settings.live, service.recognizer().rate
        self._resampler = LowDelayResampler(rate, self._networks_rate)
        self._endpointer = Endpointer(self._networks_rate, live)
        self._recent = np.zeros(0, np.float32)
        self._position = 0
        self._kept = round((live.max_utterance_seconds + 1) * rate)

    @property
    def begun(self) -> Sequence[int]:
        """None: a digit is told when its utterance is over."""
        return ()

    @property
    def speaking(self) -> bool:
        """Whether an utterance has begun."""
        return self._endpointer.speaking

    def feed(self, block: np.ndarray, threshold: float) -> list[int]:
        """Take samples in; the digits that are complete."""
        self._position += len(block)
        self._recent = np.concatenate([self._recent, block])[-(self._kept + len(block)) :]
        utterances = self._endpointer.feed(self._resampler.feed(block))
        return [digit for one in utterances for digit in self._answer(one, threshold)]

    def stop(self, threshold: float) -> list[int]:
        """The stream has ended; the digits that this completes."""
        utterance = self._endpointer.flush()
        return [] if utterance is None else self._answer(utterance, threshold)

    def _answer(self, utterance: Utterance, threshold: float) -> list[int]:
        """Recognise an utterance, cut from the stream at its own rate."""
        first = self._position - len(self._recent)
        start, end = (
            max(0, round(place * self.rate / self._networks_rate) - first)
            for place in (utterance.start, utterance.end)
        )
        remarks = () if utterance.complete else ("cut off before it ended",)
        recording = Recording(self._recent[start:end], self.rate, "microphone", remarks, True)
        result = self.service.continuous_recognizer(threshold).recognize(recording)
        if not result.speech.size:
            return []  # a noise that began: with its end known, there is no speech in it
        self.last = self.service.record(result, "continuous").result
        return result.digits


class FluentDigits:
    """Digits in one breath: shown while they are spoken, on record when a pause closes them."""

    def __init__(self, service: RecognitionService, rate: int) -> None:
        self.service = service
        recognizer = service.string_recognizer()
        self.last: Result | None = None
        self._resampler = LowDelayResampler(rate, recognizer.rate)
        self._stream = recognizer.stream()
        self._computing_ms = 0.0

    @property
    def begun(self) -> Sequence[int]:
        """Digits of the string that is being spoken."""
        return self._stream.digits

    @property
    def speaking(self) -> bool:
        """Whether a string has begun."""
        return bool(self._stream.digits)

    def feed(self, block: np.ndarray, threshold: float) -> list[int]:
        """Take samples in; the digits of the strings that are complete."""
        begun = time.perf_counter()
        closed = self._stream.feed(self._resampler.feed(block))
        self._computing_ms += 1000 * (time.perf_counter() - begun)
        return self._keep(closed)

    def stop(self, threshold: float) -> list[int]:
        """The stream has ended; the digits of the string that this closes."""
        return self._keep(self._stream.finish())

    def _keep(self, closed: list[StringResult]) -> list[int]:
        digits: list[int] = []
        for result in closed:
            if result.spoken:
                self.last = result
                self.service.record_string(result, "continuous", self._computing_ms)
                digits += [one.digit for one in result.spoken]
            self._computing_ms = 0.0
        return digits


def make_hearing(service: RecognitionService, rate: int, fluent: bool) -> Hearing:
    """What hears a stream at `rate` Hz."""
    return FluentDigits(service, rate) if fluent else SingleDigits(service, rate)
