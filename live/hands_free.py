"""Hands-free listening: from a microphone's stream to results, one for each utterance."""

from __future__ import annotations

import dataclasses
import time
from collections import deque

import numpy as np

from live import devices, microphone
from live.endpointing import Endpointer, LowDelayResampler, Utterance
from live.session import Session, microphone_recording

SILENT_SECONDS = 3.0
"""s of nothing but zeros after which the user is told which permission to look at."""
ASLEEP_SECONDS = 1.0
"""s of zeros at the beginning after which the user is told when sound arrives."""
OVERFLOW_SECONDS = 10.0
"""s between two warnings about lost sound."""
HELP = "type the right digit to keep the last answer as your own; q or Ctrl-C ends"


class HandsFree:
    """A microphone's stream on its way to results: resampled, cut into utterances, recognised.

    Its memory is bounded: what is not part of an utterance is forgotten.
    """

    def __init__(self, session: Session, source: microphone.Microphone) -> None:
        self.session, self.source = session, source
        self.rate = session.recognizer.rate
        self.resampler = LowDelayResampler(source.sample_rate, self.rate)
        self.endpointer = Endpointer(self.rate, session.live)
        kept = session.live.max_utterance_seconds + 1
        self.blocks: deque[np.ndarray] = deque(maxlen=round(1000 * kept / session.live.block_ms))
        self.position = 0  # samples read so far, at the microphone's rate
        self.zeros = 0  # of them at the beginning, all zero
        self.overflows, self.told_at = source.overflows, -OVERFLOW_SECONDS
        self.ready = False

    def step(self) -> None:
        """Wait for a block of sound and take it in."""
        block = self.source.read()
        self.blocks.append(block.channels)
        self.position += len(block.waveform)
        self.session.terminal.level(
            block.waveform, "speech" if self.endpointer.speaking else "listening"
        )
        for utterance in self.endpointer.feed(self.resampler.feed(block.waveform)):
            self.recognize(utterance, block.arrived)
        self._tell_ready()
        self._watch_zeros(block.waveform)
        self._watch_overflows()

    def recognize(self, utterance: Utterance, arrived: float) -> None:
        """Recognise an utterance whose last block `arrived` then, s on the monotonic clock."""
        rate = self.source.sample_rate
        speech_end = arrived - self.position / rate + utterance.speech_end / self.rate
        remarks = () if utterance.complete else ("cut off before it ended",)
        result = self.session.recognizer.recognize(
            microphone_recording(self.sound(utterance), rate, remarks)
        )
        if not result.speech.size:
            return  # a noise that began: with its end known, there is no speech in it
        waited = {"end_of_speech_to_answer": 1000 * (time.monotonic() - speech_end)}
        self.session.present(dataclasses.replace(result, timing_ms=result.timing_ms | waited))

    def sound(self, utterance: Utterance) -> np.ndarray:
        """The utterance, float32 (samples,), at the microphone's own rate."""
        recent = np.concatenate(self.blocks)  # (samples, channels)
        first = self.position - len(recent)
        start, end = (
            round(position * self.source.sample_rate / self.rate) - first
            for position in (utterance.start, utterance.end)
        )
        waveform = self.source.mix_down([recent[max(0, start) : end]])
        self.session.tell_channel(self.source)
        return waveform

    def finish(self) -> None:
        """Recognise what was being said when the microphone vanished."""
        utterance = self.endpointer.flush()
        if utterance is not None:
            self.recognize(utterance, time.monotonic())

    def _tell_ready(self) -> None:
        if not self.ready and self.endpointer.calibrated:
            self.ready = True
            self.session.terminal.say(
                f"ready: speak to {self.source.device.name!r} "
                f"({self.source.sample_rate} Hz); {HELP}"
            )

    def _watch_zeros(self, waveform: np.ndarray) -> None:
        """Tell when nothing but zeros has come for long, and when sound arrives after all."""
        before = self.position - len(waveform)
        if self.zeros < before:  # there has been sound
            return
        rate, say = self.source.sample_rate, self.session.terminal.say
        if waveform.any():
            if before >= ASLEEP_SECONDS * rate:
                say("sound has arrived from the microphone, which gave only zeros at first")
            return
        self.zeros = self.position
        if before < SILENT_SECONDS * rate <= self.zeros:
            say("nothing but zeros from the microphone so far: " + devices.permission_hint())

    def _watch_overflows(self) -> None:
        lost = self.source.overflows - self.overflows
        if lost and time.monotonic() - self.told_at > OVERFLOW_SECONDS:
            self.session.terminal.say(f"{lost} blocks of sound were lost: the computer is too busy")
            self.overflows, self.told_at = self.source.overflows, time.monotonic()
