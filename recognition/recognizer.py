"""The way of a recording to its answer, written once: resample, clean, recognise, remark.

The live script, files, batches, evaluation and other programs all come through here:

    from recognition.recognizer import Recognizer
    result = Recognizer().recognize_file("docs/seven.wav")
    print(result.digit, result.confidence)
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import audio_cleaning
import audio_io
import config
from audio_cleaning import Cleaned
from audio_io import Recording
from recognition import segmentation
from recognition.prediction import Prediction, VotingPredictor
from recognition.segmentation import Candidates, Segment

SHORTEST_SECONDS = 0.1
"""s. Less holds no word."""
LONGEST_EXTRA_S = 0.25
"""s by which a word may exceed the networks' window: the padding around speech does not count."""
DEFAULT_CLEANING = config.CleaningSettings()


@dataclass(frozen=True)
class RecognitionResult:
    """The answer to one recording, and what the user should know of it.

    `speech`, float32 (samples,) at `rate` Hz, is what the answer was given to; it is empty where
    there was no speech. `cleaned` holds every stage, and is None where cleaning was off.
    `prediction` is the surest digit of `segments`, which holds every stretch of sound in order.
    `timing_ms` has a value for each stage; in a batch, the networks' is this recording's share.
    """

    recording: Recording
    cleaned: Cleaned | None
    speech: np.ndarray
    rate: int
    prediction: Prediction
    remarks: list[str]
    timing_ms: dict[str, float]
    segments: list[Segment] = field(default_factory=list)
    vetoed: bool = False
    """Whether the best guess is sure enough, but holds more than one digit, or half a word."""
    when: float = field(default_factory=time.time)

    @property
    def digit(self) -> int | None:
        """The digit, or None for "no digit"."""
        return self.prediction.digit

    @property
    def vocabulary(self) -> config.Vocabulary:
        """What the networks tell apart."""
        return self.prediction.vocabulary

    @property
    def confidence(self) -> float:
        """Calibrated confidence in the best digit, 0 to 1."""
        return self.prediction.confidence

    @property
    def digits(self) -> list[int]:
        """Every digit in the recording, in the order in which they were spoken."""
        return [segment.digit for segment in self.segments if segment.digit is not None]

    @property
    def n_digits(self) -> int:
        """How many digits were found: none, one, or more."""
        return len(self.digits)

    def as_text(self) -> str:
        """One line for people, and one more for each remark."""
        vocabulary = self.vocabulary
        said = ", ".join(
            f"{config.display_name(name)} {vocabulary.labels[item.digit]} {item.confidence:.0%}"
            for name, item in self.prediction.predictions.items()
        )
        best = self.prediction.best_guess
        if self.n_digits > 1:
            answer = ", ".join(
                f"{vocabulary.title(segment.digit)} {segment.confidence:.0%}"
                for segment in self.segments
                if segment.digit is not None
            )
        elif self.digit is not None:
            answer = f"{vocabulary.title(best)} {self.confidence:.0%} ({said})"
        else:
            answer = vocabulary.none
            if self.speech.size:
                guess = vocabulary.labels[best]
                answer += f" (best guess {guess}, {self.confidence:.0%}; {said})"
        answer += f"  in {self.timing_ms['computing']:.0f} ms"
        return "\n".join([answer, *(f"  {remark}" for remark in self.remarks)])

    def timing_text(self) -> str:
        """The stages' times in one line."""
        return "  " + ", ".join(
            f"{name.replace('_', ' ')} {value:.1f} ms" for name, value in self.timing_ms.items()
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a line of JSON."""
        answer = self.prediction
        models = {
            name: {"digit": item.digit, "confidence": round(item.confidence, 4)}
            for name, item in answer.predictions.items()
        }
        named = {} if self.vocabulary.is_digits else {"label": answer.label}
        return {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self.when)),
            "source": self.recording.source,
            **named,
            "digit": answer.digit,
            "best_guess": answer.best_guess,
            "confidence": round(answer.confidence, 4),
            "accepted": answer.accepted,
            "reject_probability": round(answer.reject_probability, 4),
            "models": models,
            "n_digits": self.n_digits,
            "segments": [_rounded_segment(segment) for segment in self.segments],
            **self.measured(),
            "duration_s": round(self.recording.seconds, 3),
            "remarks": self.remarks,
            "timing_ms": {name: round(value, 2) for name, value in self.timing_ms.items()},
        }

    def measured(self) -> dict[str, float | None]:
        """Where the speech is and how good it is; None where that is not known."""
        cleaned = self.cleaned
        if cleaned is None:
            return dict.fromkeys(("speech_start_s", "speech_end_s", "snr_db", "level_dbfs"))
        return {
            "speech_start_s": _rounded(cleaned.speech_start_s),
            "speech_end_s": _rounded(cleaned.speech_end_s),
            "snr_db": round(cleaned.snr_db, 1),
            "level_dbfs": round(cleaned.level_dbfs, 1),
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _rounded_segment(segment: Segment) -> dict[str, Any]:
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in dataclasses.asdict(segment).items()
    }


@dataclass(frozen=True)
class _Prepared:
    """A recording on its way: its stages, a waveform for each candidate, and ms by stage."""

    cleaned: Cleaned | None
    waveforms: list[np.ndarray]
    found: Candidates
    timing: dict[str, float]


class Recognizer:
    """The trained networks and the cleaning before them.

    Parameters
    ----------
    networks : where the networks lie, or a predictor that has loaded them
    cleaning : how recordings are cleaned; None takes them as they are, for trimmed clips
    least_confidence : below it nothing is a digit, whatever the networks' own threshold

    Raises
    ------
    UserError : no trained networks; the text says the command that makes them
    """

    def __init__(
        self,
        networks: config.DecisionSettings | VotingPredictor | None = None,
        cleaning: config.CleaningSettings | None = DEFAULT_CLEANING,
        least_confidence: float = 0.0,
    ) -> None:
        if networks is None or isinstance(networks, config.DecisionSettings):
            from recognition.runtime import load_predictor

            networks = load_predictor(networks)
        self.predictor, self.cleaning = networks, cleaning
        self.rate = self.predictor.audio.sample_rate
        self.threshold = max(least_confidence, self.predictor.threshold)
        self.longest = self.predictor.audio.clip_seconds + LONGEST_EXTRA_S

    @property
    def vocabulary(self) -> config.Vocabulary:
        """What the networks tell apart."""
        return self.predictor.vocabulary

    def warm_up(self) -> None:
        """Import and prepare now what the first answer would wait for."""
        tone = (0.1 * np.sin(np.arange(self.rate))).astype(np.float32)
        self.recognize(Recording(tone, self.rate))
        self.predictor.predict(tone)

    def recognize_file(self, path: Path | str) -> RecognitionResult:
        """Answer one sound file.

        Raises
        ------
        AudioError : it can't be read; the text says why
        """
        return self.recognize(audio_io.read_recording(path))

    def recognize(self, recording: Recording) -> RecognitionResult:
        """Answer one recording."""
        return self.recognize_batch([recording])[0]

    def recognize_batch(self, recordings: Sequence[Recording]) -> list[RecognitionResult]:
        """Answer recordings together; each gets the answer that it would get alone."""
        prepared = [self._prepare(recording) for recording in recordings]
        waveforms = [waveform for one in prepared for waveform in one.waveforms]
        predictions = iter(self.predictor.predict_batch(waveforms))
        return [
            self._result(recording, one, list(itertools.islice(predictions, len(one.waveforms))))
            for recording, one in zip(recordings, prepared, strict=True)
        ]

    def _prepare(self, recording: Recording) -> _Prepared:
        """Resample, clean, and find what the networks get."""
        begun = time.perf_counter()
        speech = audio_io.resample(recording.waveform, recording.sample_rate, self.rate)
        timing = {"resample": 1000 * (time.perf_counter() - begun)}
        seconds = len(speech) / self.rate
        if self.cleaning is None:
            return _Prepared(None, [speech], segmentation.whole_recording(seconds), timing)
        cleaned = audio_cleaning.clean(speech, self.rate, self.cleaning)
        timing |= cleaned.stage_ms
        if not self.cleaning.vad:
            return _Prepared(
                cleaned, [cleaned.speech], segmentation.whole_recording(seconds), timing
            )
        found = segmentation.find_candidates(cleaned, seconds, self.longest, self.cleaning)
        others = [
            audio_cleaning.cut(cleaned.gated, self.rate, (one.start_s, one.end_s))
            for one in found.candidates[1:]
        ]
        return _Prepared(cleaned, [cleaned.speech, *others], found, timing)

    def _result(
        self, recording: Recording, prepared: _Prepared, predictions: list[Prediction]
    ) -> RecognitionResult:
        """Choose among a recording's candidates, and say what was chosen."""
        found, cleaned = prepared.found, prepared.cleaned
        accepted = found.accept(predictions, self.threshold)
        best = max(accepted, key=lambda index: predictions[index].confidence, default=0)
        speech, prediction = prepared.waveforms[best], predictions[best]
        prediction = dataclasses.replace(
            prediction,
            digit=prediction.best_guess if accepted else None,
            accepted=bool(accepted),
            latency_ms=sum(one.latency_ms for one in predictions),
        )
        segments = found.segments(predictions, accepted) if accepted or speech.size else []
        if cleaned is not None and best:
            span = found.candidates[best]
            cleaned = dataclasses.replace(
                cleaned,
                speech=speech,
                speech_start_s=span.start_s,
                speech_end_s=span.end_s,
                level_dbfs=audio_io.dbfs(audio_io.rms(speech)),
            )
        stages = prepared.timing | {"networks": prediction.latency_ms}
        remarks = [*recording.remarks, *self._remarks(recording, cleaned, speech)]
        labels, kind = self.vocabulary.labels, "digits" if self.vocabulary.is_digits else "words"
        said = [labels[one.digit] for one in segments if one.accepted and one.digit is not None]
        if len(said) > 1:
            remarks.append(f"{len(said)} {kind}: {', '.join(said)}")
        return RecognitionResult(
            recording,
            cleaned,
            speech,
            self.rate,
            prediction,
            remarks,
            stages | {"computing": sum(stages.values())},
            segments,
            not accepted and segmentation.sure(prediction, self.threshold),
        )

    def _remarks(
        self, recording: Recording, cleaned: Cleaned | None, speech: np.ndarray
    ) -> list[str]:
        """What is wrong with a recording, in plain words; empty where nothing is."""
        if recording.seconds < SHORTEST_SECONDS:
            return [f"too short: {1000 * recording.seconds:.0f} ms hold no word"]
        if not np.any(recording.waveform):
            return [] if recording.remarks else ["nothing but zeros"]
        found = []
        if cleaned is not None:
            faults = audio_cleaning.level_faults(recording.waveform, cleaned.level_dbfs)
            found = audio_cleaning.as_advice(faults, recording.live)
            if not found and not speech.size:
                found = ["no speech found"]
        return found + self._too_long(speech)

    def _too_long(self, speech: np.ndarray) -> list[str]:
        seconds, longest = len(speech) / self.rate, self.predictor.audio.clip_seconds
        if seconds <= self.longest:
            return []
        if self.cleaning is not None and self.cleaning.vad:
            return [
                f"too long: {seconds:.1f} s of speech without a digit that stands alone; say one "
                "digit at a time"
            ]
        return [
            f"too long: {seconds:.1f} s, of which the loudest {longest:g} s counted; say one "
            "digit at a time"
        ]
