"""The one way of a recording: remarks, rates, batches, what is told as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import audio_io
import config
from audio_io import Recording
from recognition.recognizer import Recognizer

MODELS = Path(__file__).resolve().parent.parent / "saved_models"
RATE = 8000


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    if not list(MODELS.glob("*.pt")):
        pytest.skip("no trained networks in saved_models (python train.py makes them)")
    return Recognizer(config.DecisionSettings(models_dir=MODELS))


def word(seconds: float = 0.5, level: float = 0.1, around: float = 0.4) -> np.ndarray:
    """A buzz with formants between two pauses with a little noise; no digit, but a voice."""
    time = np.arange(round(seconds * RATE)) / RATE
    sound = sum(
        np.sin(2 * np.pi * 120 * n * time + n)
        * (np.exp(-(((120 * n - 600) / 200) ** 2)) + 0.5 * np.exp(-(((120 * n - 1500) / 200) ** 2)))
        for n in range(1, 25)
    )
    sound *= np.hanning(len(time)) * level / np.sqrt(np.mean(sound**2))
    pause = np.zeros(round(around * RATE))
    noise = np.random.default_rng(0).normal(0, level / 300, len(sound) + 2 * len(pause))
    return (np.concatenate([pause, sound, pause]) + noise).astype(np.float32)


@pytest.mark.parametrize(
    ("sound", "text"),
    [
        (np.zeros(RATE, np.float32), "zeros"),
        (np.clip(20 * word(), -1, 1), "clipped"),
        (word(level=5e-4), "too quiet"),
        (np.full(RATE // 50, 0.1, np.float32), "too short: 20 ms"),
        (np.zeros(0, np.float32), "too short"),
        (np.random.default_rng(0).normal(0, 0.05, RATE).astype(np.float32), "no speech"),
    ],
)
def test_what_is_wrong_with_a_recording_is_told(recognizer, sound, text):
    (remark,) = recognizer.recognize(Recording(sound, RATE)).remarks
    assert text in remark


def test_a_good_recording_needs_no_remark(recognizer):
    assert recognizer.recognize(Recording(word(), RATE)).remarks == []


def test_too_long_speech_is_told(recognizer):
    result = recognizer.recognize(Recording(word(seconds=2.5), RATE))
    assert any("too long: 2." in remark for remark in result.remarks)


def test_any_rate_is_answered_alike(recognizer):
    sound = word()
    results = [
        recognizer.recognize(Recording(audio_io.resample(sound, RATE, rate), rate))
        for rate in (RATE, 16000, 44100, 48000)
    ]
    assert len({result.prediction.best_guess for result in results}) == 1
    assert {result.rate for result in results} == {RATE}


def test_a_batch_answers_as_one_by_one(recognizer):
    recordings = [Recording(word(seconds), RATE) for seconds in (0.3, 0.5, 0.9)]
    recordings.append(Recording(np.zeros(RATE, np.float32), RATE))
    for together, alone in zip(
        recognizer.recognize_batch(recordings), map(recognizer.recognize, recordings), strict=True
    ):
        assert together.digit == alone.digit and together.remarks == alone.remarks
        np.testing.assert_allclose(
            together.prediction.posteriors, alone.prediction.posteriors, atol=1e-5
        )


def test_without_cleaning_the_whole_clip_is_recognised(recognizer):
    whole = Recognizer(recognizer.predictor, cleaning=None).recognize(Recording(word(), RATE))
    assert whole.cleaned is None and len(whole.speech) == len(word())
    assert whole.as_dict()["speech_start_s"] is None


def test_a_file_is_one_line(recognizer, tmp_path):
    audio_io.write_audio(tmp_path / "a.wav", word(), RATE)
    result = recognizer.recognize_file(tmp_path / "a.wav")
    assert result.recording.source.endswith("a.wav") and 0 <= result.confidence <= 1


def test_an_answer_is_readable_as_text_and_as_json(recognizer):
    result = recognizer.recognize(Recording(word(), RATE, "microphone", ("so it is",)))
    assert "so it is" in result.as_text() and "BiLSTM" in result.as_text()
    assert "networks" in result.timing_text()
    values = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert values["duration_s"] == pytest.approx(1.3)
    silent = recognizer.recognize(Recording(np.zeros(RATE, np.float32), RATE))
    assert silent.as_text().startswith("no digit")
    assert json.loads(json.dumps(silent.as_dict(), allow_nan=False))["speech_start_s"] is None
