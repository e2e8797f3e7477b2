"""The one way of a recording: remarks, rates, batches, what is told as text and as JSON."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from buzz import word

import audio_io
import config
from audio_io import Recording
from live.endpointing import Endpointer
from recognition.recognizer import Recognizer

MODELS = Path(__file__).resolve().parent.parent / "saved_models"
RATE = 8000


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    if not list(MODELS.glob("*.pt")):
        pytest.skip("no trained networks in saved_models (python train.py makes them)")
    return Recognizer(config.DecisionSettings(models_dir=MODELS))


@pytest.mark.parametrize(
    ("sound", "text"),
    [
        (np.zeros(RATE, np.float32), "zeros"),
        (np.clip(20 * word(), -1, 1), "clipped"),
        (word(level=5e-4), "very quiet"),
        (np.full(RATE // 50, 0.1, np.float32), "too short: 20 ms"),
        (np.zeros(0, np.float32), "too short"),
        (np.random.default_rng(0).normal(0, 0.05, RATE).astype(np.float32), "no speech"),
    ],
)
def test_what_is_wrong_with_a_recording_is_told(recognizer, sound, text):
    (remark,) = recognizer.recognize(Recording(sound, RATE)).remarks
    assert text in remark


def test_advice_on_microphones_is_for_what_a_microphone_recorded(recognizer):
    loud, quiet = np.clip(20 * word(), -1, 1), word(level=5e-4)
    for sound, fault in ((loud, "clipped"), (quiet, "very quiet")):
        assert recognizer.recognize(Recording(sound, RATE)).remarks == [fault]
        (remark,) = recognizer.recognize(Recording(sound, RATE, live=True)).remarks
        assert remark.startswith(fault + ": ") and "gain" in remark


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
    assert {result.rate for result in results} == {recognizer.rate}


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
    assert whole.cleaned is None
    assert len(whole.speech) == len(word()) * recognizer.rate // RATE
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


@pytest.fixture(scope="module")
def spoken(fsdd_archive_path) -> dict[int, np.ndarray]:
    """One real clip of each digit, by one speaker, at a peak of 0.3."""
    with zipfile.ZipFile(fsdd_archive_path) as content:
        (folder,) = {name.rsplit("/", 1)[0] for name in content.namelist() if "0_george_0" in name}
        clips = {
            digit: audio_io.read_audio(content.read(f"{folder}/{digit}_george_0.wav"))[0]
            for digit in range(10)
        }
    return {digit: clip * np.float32(0.3 / np.abs(clip).max()) for digit, clip in clips.items()}


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def room(*parts: np.ndarray) -> Recording:
    """Sounds end to end in a quiet room, as a recording."""
    sound = np.concatenate([silence(0.4), *parts, silence(0.4)])
    noise = np.random.default_rng(0).normal(0, 3e-4, len(sound))
    return Recording((sound + noise).astype(np.float32), RATE)


def beep(seconds: float = 0.3) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)


def click() -> np.ndarray:
    """A key, three times as loud as the word."""
    ring = np.random.default_rng(1).normal(0, 1, 80) * np.exp(-np.arange(80) / 16)
    return (0.9 * ring / np.abs(ring).max()).astype(np.float32)


@pytest.mark.parametrize("other", ["beep", "click", "noise"])
def test_the_word_wins_against_what_sounds_before_it(recognizer, spoken, other):
    noise = np.random.default_rng(2).normal(0, 0.08, 10 * RATE).astype(np.float32)
    sound = {"beep": beep(), "click": click(), "noise": noise}[other]
    results = recognizer.recognize_batch(
        [room(sound, silence(0.25), spoken[digit]) for digit in (1, 3, 4, 7)]
    )
    assert [result.digit for result in results] == [1, 3, 4, 7]
    assert all(result.n_digits == 1 for result in results)
    answers = [next(one for one in result.segments if one.accepted) for result in results]
    assert all(one.end_s > 0.4 + len(sound) / RATE + 0.25 for one in answers)
    for result, one in zip(results, answers, strict=True):
        assert (result.cleaned.speech_start_s, result.cleaned.speech_end_s) == (
            one.start_s,
            one.end_s,
        )


def test_two_digits_in_a_recording_are_both_told(recognizer, spoken):
    result = recognizer.recognize(room(spoken[3], silence(0.5), spoken[7]))
    assert result.digits == [3, 7] and "2 digits: 3, 7" in result.remarks
    assert "3 three" in result.as_text() and "7 seven" in result.as_text()
    values = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert values["n_digits"] == 2
    assert [segment["digit"] for segment in values["segments"]] == [3, 7]
    assert set(values["segments"][0]) == {
        "start_s",
        "end_s",
        "digit",
        "best_guess",
        "confidence",
        "accepted",
    }
    assert values["digit"] in (3, 7) and values["accepted"]


def test_two_digits_hands_free_150_ms_apart_are_both_answered(recognizer, spoken):
    endpointer = Endpointer(RATE)
    for first, second in ((3, 7), (1, 9), (5, 0), (8, 4)):
        sound = room(silence(1), spoken[first], silence(0.15), spoken[second], silence(1))
        heard = [
            utterance
            for start in range(0, len(sound.waveform), 160)
            for utterance in endpointer.feed(sound.waveform[start : start + 160])
        ]
        results = recognizer.recognize_batch([Recording(one.waveform, RATE) for one in heard])
        assert [digit for result in results for digit in result.digits] == [first, second]


def test_no_digit_is_taken_out_of_longer_speech(recognizer, spoken):
    speech = np.concatenate([spoken[digit][400:-400] for digit in (2, 7, 9, 1, 8, 0)])
    result = recognizer.recognize(room(speech))
    assert result.digit is None or result.n_digits > 1


def test_one_word_costs_one_clip_and_keeps_its_answer(recognizer, spoken, monkeypatch):
    sizes = []
    predict = recognizer.predictor.predict_batch
    monkeypatch.setattr(
        recognizer.predictor,
        "predict_batch",
        lambda clips: sizes.append(len(clips)) or predict(clips),
    )
    for digit in (0, 1, 5):
        result = recognizer.recognize(room(spoken[digit]))
        assert result.digit == digit and result.n_digits == 1
        alone = predict([result.speech])[0]
        assert result.confidence == pytest.approx(alone.confidence, abs=1e-5)
    assert max(sizes) <= 4 and min(sizes) == 1


def test_more_confidence_can_be_asked_for(recognizer, spoken):
    strict = Recognizer(recognizer.predictor, least_confidence=1.0)
    result = strict.recognize(room(spoken[3]))
    assert result.digit is None and result.prediction.best_guess == 3
    assert [segment.accepted for segment in result.segments] == [False]
