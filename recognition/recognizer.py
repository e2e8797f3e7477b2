"""From a recording to an answer, the same for microphone and file: clean, predict, remark."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import audio_cleaning
import audio_io
import config
import visualization
from audio_cleaning import Cleaned
from live import microphone

if TYPE_CHECKING:
    from recognition.predictor import Prediction

SHORTEST_SECONDS = 0.1
"""s. Less holds no word."""


@dataclass(frozen=True)
class Answer:
    """What was heard, what was made of it, and what the user should know.

    `waveform`, float32 (samples,), is the recording at `sample_rate` Hz; `cleaned` is at `rate` Hz.
    `timing_ms` has a value for each stage.
    """

    source: str
    waveform: np.ndarray
    sample_rate: int
    cleaned: Cleaned
    rate: int
    prediction: Prediction
    remarks: list[str]
    timing_ms: dict[str, float]
    when: float = field(default_factory=time.time)

    def as_text(self) -> str:
        """One line for people, and one more for each remark."""
        opinions = ", ".join(
            f"{visualization.display_name(name)} {said.digit} {said.confidence:.0%}"
            for name, said in self.prediction.per_model.items())
        best = self.prediction.best_guess
        if self.prediction.digit is None:
            answer = "no digit"
            if self.cleaned.speech.size:
                answer += f" (best guess {best}, {self.prediction.confidence:.0%}; {opinions})"
        else:
            answer = (f"{best} {config.DIGIT_WORDS[best]} {self.prediction.confidence:.0%} "
                      f"({opinions})")
        answer += f"  in {self.timing_ms['computing']:.0f} ms"
        return "\n".join([answer, *(f"  {remark}" for remark in self.remarks)])

    def timing_text(self) -> str:
        """The stages' times in one line."""
        return "  " + ", ".join(f"{name.replace('_', ' ')} {value:.1f} ms"
                                for name, value in self.timing_ms.items())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a line of JSON."""
        said = self.prediction
        models = {name: {"digit": opinion.digit, "confidence": round(opinion.confidence, 4)}
                  for name, opinion in said.per_model.items()}
        span = (self.cleaned.speech_start_s, self.cleaned.speech_end_s)
        start, end = (None if value is None else round(value, 3) for value in span)
        return {"time": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self.when)),
                "source": self.source, "digit": said.digit, "best_guess": said.best_guess,
                "confidence": round(said.confidence, 4), "accepted": said.accepted,
                "reject_probability": round(said.reject_probability, 4), "models": models,
                "speech_start_s": start, "speech_end_s": end,
                "duration_s": round(len(self.waveform) / self.sample_rate, 3),
                "snr_db": round(self.cleaned.snr_db, 1),
                "level_dbfs": round(self.cleaned.level_dbfs, 1), "remarks": self.remarks,
                "timing_ms": {name: round(value, 2) for name, value in self.timing_ms.items()}}


class Listener:
    """The trained networks and the cleaning before them, loaded and warmed up.

    Raises
    ------
    UserError : no trained networks; the text says the command that makes them
    """

    def __init__(self, decision: config.DecisionSettings,
                 cleaning: config.CleaningSettings) -> None:
        import torch

        from recognition.predictor import Predictor

        torch.set_num_threads(1)  # a second thread costs more than it gains on one clip
        self.cleaning = cleaning
        self.predictor = Predictor(decision)
        self.rate = self.predictor.audio.sample_rate
        self._warm_up()

    def _warm_up(self) -> None:
        """What is imported and prepared at the first use must not delay the first answer."""
        tone = 0.1 * np.sin(np.arange(self.rate, dtype=np.float32))
        self.hear(tone.astype(np.float32), self.rate)
        self.predictor.predict(tone.astype(np.float32))

    def hear(self, waveform: np.ndarray, sample_rate: int, source: str = "microphone",
             remarks: tuple[str, ...] = ()) -> Answer:
        """Answer one recording.

        Parameters
        ----------
        waveform : float32 (samples,), in [-1, 1]
        sample_rate : Hz
        source : "microphone", or the file's name
        remarks : what is known of the recording already
        """
        start = time.perf_counter()
        resampled = audio_io.resample(waveform, sample_rate, self.rate)
        between = time.perf_counter()
        cleaned = audio_cleaning.clean(resampled, self.rate, self.cleaning)
        prediction = self.predictor.predict(cleaned.speech)
        timing = {"resample": 1000 * (between - start), **cleaned.stage_ms,
                  "networks": prediction.latency_ms,
                  "computing": 1000 * (time.perf_counter() - start)}
        found = remark(waveform, sample_rate, cleaned, source == "microphone")
        found += too_long(cleaned, self.rate, self.predictor.audio.clip_seconds)
        return Answer(source, waveform, sample_rate, cleaned, self.rate, prediction,
                      [*remarks, *found], timing)


def add_timing(answer: Answer, **milliseconds: float) -> Answer:
    """The same answer with more times, in ms."""
    return dataclasses.replace(answer, timing_ms=answer.timing_ms | milliseconds)


def remark(waveform: np.ndarray, sample_rate: int, cleaned: Cleaned, live: bool) -> list[str]:
    """What is wrong with a recording, in plain words; empty where nothing is.

    `live` tells a microphone from a file: its user can be told which permission to look at.
    """
    if len(waveform) < SHORTEST_SECONDS * sample_rate:
        return [f"too short: {1000 * len(waveform) / sample_rate:.0f} ms hold no word"]
    if not np.any(waveform):
        if not live:
            return ["nothing but zeros in this file"]
        return [f"nothing but zeros from the microphone: {microphone.permission_hint()}"]
    level = audio_cleaning.level_advice(waveform, cleaned.level_dbfs)
    if level:
        return level
    return [] if cleaned.speech.size else ["no speech found"]


def too_long(cleaned: Cleaned, rate: int, longest: float) -> list[str]:
    """A remark where the speech, at `rate` Hz, outlasts the `longest` s that the networks hear."""
    seconds = len(cleaned.speech) / rate
    if seconds <= longest + 0.25:  # pre-roll and hang-over are no speech
        return []
    return [f"too long: {seconds:.1f} s of speech, of which the loudest {longest:g} s counted; "
            "say one digit at a time"]
