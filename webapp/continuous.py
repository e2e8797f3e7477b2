"""Digits out of a browser's microphone, as they are spoken."""

from __future__ import annotations

import numpy as np

import audio_io
from audio_io import Recording
from live.endpointing import Endpointer, LowDelayResampler, Utterance
from webapp.service import Answer, RecognitionService

KEPT_DIGITS = 500
"""Digits of the running string that are kept."""


class Listener:
    """One tab's stream: resampled, cut into utterances, recognised; its memory is bounded.

    Attributes
    ----------
    digits : the running string
    level_dbfs, speaking : of the latest block
    """

    def __init__(self, service: RecognitionService) -> None:
        self.service = service
        self.digits: list[int] = []
        self.last: Answer | None = None
        self.level_dbfs, self.speaking = -120.0, False
        self._rate = 0

    def _begin(self, rate: int) -> None:
        """Begin with a stream at `rate` Hz."""
        self._rate, self._networks_rate = rate, self.service.recognizer().rate
        live = self.service.settings.live
        self._resampler = LowDelayResampler(rate, self._networks_rate)
        self._endpointer = Endpointer(self._networks_rate, live)
        self._recent = np.zeros(0, np.float32)  # at the stream's own rate
        self._position = 0
        self._kept = round((live.max_utterance_seconds + 1) * rate)

    def feed(self, block: np.ndarray, rate: int, threshold: float) -> None:
        """Take the next samples, float32 (samples,)."""
        if rate != self._rate:
            self._begin(rate)
        self._position += len(block)
        self._recent = np.concatenate([self._recent, block])[-(self._kept + len(block)) :]
        self.level_dbfs = audio_io.dbfs(audio_io.rms(block))
        for utterance in self._endpointer.feed(self._resampler.feed(block)):
            self._answer(utterance, threshold)
        self.speaking = self._endpointer.speaking

    def stop(self, threshold: float) -> None:
        """The stream has ended: answer what was being said."""
        if self._rate and (utterance := self._endpointer.flush()) is not None:
            self._answer(utterance, threshold)
        self.level_dbfs, self.speaking, self._rate = -120.0, False, 0

    def clear(self) -> None:
        """Begin a new string."""
        self.digits, self.last = [], None

    def _answer(self, utterance: Utterance, threshold: float) -> None:
        """Recognise an utterance, cut from the stream at its own rate."""
        first = self._position - len(self._recent)
        start, end = (
            max(0, round(place * self._rate / self._networks_rate) - first)
            for place in (utterance.start, utterance.end)
        )
        remarks = () if utterance.complete else ("cut off before it ended",)
        recording = Recording(self._recent[start:end], self._rate, "microphone", remarks, True)
        result = self.service.continuous_recognizer(threshold).recognize(recording)
        if not result.speech.size:
            return  # a noise that began: with its end known, there is no speech in it
        self.last = self.service.record(result, "continuous")
        self.digits = [*self.digits, *result.digits][-KEPT_DIGITS:]
