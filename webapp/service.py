"""Recognising for many at once: one set of networks, one history, a bounded queue."""

from __future__ import annotations

import threading
import time
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import config
import utils
from audio_io import Recording
from live.recording_store import RecordingStore
from recognition.digit_strings import StringRecognizer, StringResult
from recognition.recognizer import RecognitionResult, Recognizer
from recognition.runtime import load_predictor, use_one_core
from recognition.string_networks import can_load, load_network
from recognition.string_windows import FrameNetwork
from webapp import uploads
from webapp.history import History
from webapp.monitoring import Metrics
from webapp.settings import VOTE, Choices, ChoiceStore, ServerSettings
from webapp.uploads import Refused


@dataclass(frozen=True)
class Answer:
    """A result and its number in the history."""

    result: RecognitionResult
    values: dict[str, Any]
    """What went on record: the result as plain values, for JSON."""
    number: int
    store: RecordingStore
    """Keeps the clip where the user says what it was; a second word replaces the first."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values with the number, for JSON."""
        return self.values | {"id": self.number}


class RecognitionService:
    """The networks as they are chosen now, and what is kept of their answers.

    Attributes
    ----------
    history, choices, metrics : shared by the pages and the API
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.history = History(settings.folder / "history.db")
        self.choice_store = ChoiceStore(settings.folder / "app_settings.json")
        self.metrics = Metrics()
        self._lock = threading.RLock()
        self._labelling = threading.Lock()
        self._recognizers: dict[str, Recognizer] = {}
        self._string_network: FrameNetwork | None = None

    @property
    def choices(self) -> Choices:
        """What the page of settings holds."""
        return self.choice_store.choices

    def recognizer(self, models: str = "") -> Recognizer:
        """All networks or the one named, loaded when first asked for.

        Raises
        ------
        Refused : no network of that name
        UserError : no trained networks, or they can't be loaded
        """
        models = models or self.choices.models
        with self._lock:
            if models not in self._recognizers:
                if models != VOTE and models not in self.network_names():
                    known = ", ".join([VOTE, *self.network_names()])
                    raise Refused(f"{utils.printable(models)[:40]}: no such model; use {known}")
                self._recognizers[models] = self._load(self.choices, models)
            return self._recognizers[models]

    def _load(self, choices: Choices, models: str) -> Recognizer:
        networks = load_predictor(choices.decision(self.settings.decision, models))
        recognizer = Recognizer(
            networks, choices.cleaning(self.settings.cleaning), choices.threshold
        )
        use_one_core()
        recognizer.warm_up()
        return recognizer

    def network_names(self) -> list[str]:
        """The networks that vote."""
        with self._lock:
            if VOTE not in self._recognizers:
                self._recognizers[VOTE] = self._load(self.choices, VOTE)
            return list(self._recognizers[VOTE].predictor.names)

    def choose(self, choices: Choices) -> None:
        """Take other choices, if the networks can be loaded with them, and keep them.

        Raises
        ------
        UserError : they can't; the former choices stay
        """
        loaded = self._load(choices, choices.models)
        self.choice_store.save(choices)
        with self._lock:
            self._recognizers = {choices.models: loaded}

    def continuous_recognizer(self, threshold: float) -> Recognizer:
        """The networks, with the confidence that a digit out of a stream needs."""
        shared = self.recognizer()
        return Recognizer(shared.predictor, shared.cleaning, threshold)

    def recognize(self, name: str, source: Path | bytes, kind: str, models: str = "") -> Answer:
        """Read a recording, answer it and put it on record.

        Raises
        ------
        Refused : it can't be read or answered
        """
        recognizer = self.recognizer(models)
        recording = uploads.read(uploads.safe_name(name), source, self.settings.max_seconds)
        return self.answer(recording, kind, recognizer)

    def string_recognizer(self, settings: config.StringsSettings | None = None) -> StringRecognizer:
        """What hears whole strings; its network is loaded when first asked for.

        Raises
        ------
        UserError : there is none, or it can't be loaded
        """
        with self._lock:
            if self._string_network is None:
                self._string_network = load_network(self.settings.decision)
        return StringRecognizer(self._string_network, settings)

    def hears_strings(self) -> bool:
        """Whether there is a network that hears whole strings, to judge by the files."""
        return can_load(self.settings.decision)

    def recognize_string(
        self, name: str, source: bytes, settings: config.StringsSettings
    ) -> dict[str, Any]:
        """Read a recording, answer the string in it and put it on record; plain values.

        Raises
        ------
        Refused : it can't be read
        UserError : no network hears strings
        """
        recognizer = self.string_recognizer(settings)
        recording = uploads.read(uploads.safe_name(name), source, self.settings.max_seconds)
        begun = time.perf_counter()
        result = recognizer.recognize(recording)
        return self.record_string(result, "api", 1000 * (time.perf_counter() - begun))

    def record_string(
        self, result: StringResult, kind: str, computing_ms: float = 0.0
    ) -> dict[str, Any]:
        """Put a string on record; plain values with its number."""
        digit = result.spoken[0].digit if result.spoken else None
        timing = {"computing": round(computing_ms, 2)}
        values = utils.json_value(result.as_dict() | {"timing_ms": timing})
        single = {
            "digit": digit,
            "best_guess": config.REJECT if digit is None else digit,
            "segments": values["spoken"],
            "models": {},
        }
        number = self.history.add(kind, values | single)
        self.metrics.answered(kind, digit, computing_ms)
        return values | {"id": number}

    def answer(self, recording: Recording, kind: str, recognizer: Recognizer) -> Answer:
        """Answer a recording and put it on record."""
        return self.record(recognizer.recognize(recording), kind)

    def record(self, result: RecognitionResult, kind: str) -> Answer:
        """Put a result on record."""
        values = utils.json_value(result.as_dict())
        number = self.history.add(kind, values)
        self.metrics.answered(kind, result.digit, result.timing_ms["computing"])
        silent: list[str] = []
        store = RecordingStore(self._labelled_clips(), silent.append, False)
        return Answer(result, values, number, store)

    def _labelled_clips(self) -> config.LiveSettings:
        live = self.settings.live
        return config.LiveSettings(recordings_dir=live.recordings_dir, plots=False, user=live.user)

    def feed_back(self, answer: Answer, label: int) -> str:
        """Note what was really said; a digit's clip joins the user's own voice. One line on it."""
        vocabulary = answer.result.vocabulary
        none = label == vocabulary.reject  # which the history calls so, whatever the labels
        self.history.feed_back(answer.number, config.REJECT if none else label)
        if none:
            return f'Noted in the history: it was "{vocabulary.none}".'
        name = vocabulary.labels[label]
        with self._labelling:
            path = answer.store.label(answer.result, label)
        if path is None:
            return f"Noted in the history as {name}; the clip can't be saved."
        return f"Noted: it was {name}. The clip was kept as {path.name} among your own."

    def models(self) -> list[dict[str, Any]]:
        """The networks there are: files, sizes and scores."""
        recognizer = self.recognizer(VOTE)
        predictor, decision = recognizer.predictor, self.settings.decision
        files = {path.stem: path for path in decision.there()}
        rows = [
            {
                "name": VOTE,
                "display_name": "vote of all",
                "networks": list(predictor.names),
                "threshold": round(predictor.threshold, 4),
                "megabytes": _megabytes(decision.onnx_file()),
                "parameters": None,
                "validation_accuracy": None,
            }
        ]
        for name in predictor.names:
            validation = predictor.records.get(name, {}).get("validation") or {}
            rows.append(
                {
                    "name": name,
                    "display_name": config.display_name(name),
                    "networks": [name],
                    "threshold": None,
                    "megabytes": _megabytes(files.get(name)),
                    "parameters": _stored_values(files.get(name)),
                    "validation_accuracy": validation.get("validation_accuracy"),
                }
            )
        return rows

    def close(self) -> None:
        """Let go of the database."""
        self.history.close()


def _megabytes(path: Path | None) -> float | None:
    return round(path.stat().st_size / 1e6, 2) if path is not None and path.is_file() else None


def _stored_values(path: Path | None) -> int | None:
    """How many float32 values a network's file stores; its archive tells, without PyTorch."""
    if path is None:
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            stored = [item for item in archive.infolist() if "/data/" in item.filename]
            return sum(item.file_size for item in stored) // 4
    except (OSError, zipfile.BadZipFile):
        return None


def confusion(pairs: list[tuple[int, int]]) -> tuple[float, Counter[tuple[int, int]]]:
    """Accuracy, and how often each label (first) got each answer (second)."""
    counts = Counter(pairs)
    right = sum(count for (label, answer), count in counts.items() if label == answer)
    return right / max(1, len(pairs)), counts
