"""Hands-free segmentation: pure computing, on made-up voices and on real recordings."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import audio_io
from config import LiveSettings
from live.endpointing import SILENCE_DBFS, Endpointer, LowDelayResampler, Utterance

RATE = 8000
rng = np.random.default_rng(3)


def voice(seconds: float, level: float = 0.1) -> np.ndarray:
    """A buzz with three formants that move: to a detector, speech."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = np.cumsum(110 + 25 * np.sin(9 * time)) / RATE
    sound = np.zeros_like(time)
    for harmonic in range(1, 30):
        frequency = 115 * harmonic
        gain = sum(
            np.exp(-(((frequency - centre) / 150) ** 2))
            for centre in (550 + 150 * np.sin(6 * time), 1400, 2500)
        )
        sound += gain * np.sin(2 * np.pi * harmonic * pitch)
    fade = np.minimum(1, np.minimum(time, seconds - time) / 0.02)
    return (level * fade * sound / np.sqrt(np.mean(sound**2))).astype(np.float32)


def quiet(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def pink(seconds: float, rms: float) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(round(seconds * RATE)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)))
    return (rms * noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def utterances(sound: np.ndarray, block: int = 160, **live: float) -> list[Utterance]:
    endpointer = Endpointer(RATE, LiveSettings(**live))
    found = [
        found
        for start in range(0, len(sound), block)
        for found in endpointer.feed(sound[start : start + block])
    ]
    last = endpointer.flush()
    return found + ([last] if last else [])


def test_one_word_is_one_utterance_with_room_around_it():
    found = utterances(np.concatenate([quiet(1), voice(0.4), quiet(1)]))
    assert len(found) == 1
    assert found[0].complete
    assert found[0].start <= 0.9 * RATE
    assert 1.3 * RATE <= found[0].speech_end < found[0].end


def test_the_waveform_is_the_stream_between_start_and_end():
    sound = np.concatenate([pink(1, 1e-3), voice(0.4), pink(1, 1e-3)])
    (found,) = utterances(sound)
    np.testing.assert_array_equal(found.waveform, sound[found.start : found.end])


@pytest.mark.parametrize("endpoint_ms", [120, 240, 500])
def test_the_hang_over_is_as_long_as_set(endpoint_ms):
    sound = np.concatenate([quiet(1), voice(0.4), quiet(1.5)])
    (found,) = utterances(sound, endpoint_ms=endpoint_ms)
    assert found.end - found.speech_end == endpoint_ms * RATE // 1000


def test_short_pauses_part_words_and_repeats_are_kept():
    word = np.concatenate([voice(0.35), quiet(0.32)])
    assert len(utterances(np.concatenate([quiet(1), np.tile(word, 5)]))) == 5


def test_a_stop_consonant_does_not_part_a_word():
    sound = np.concatenate([quiet(1), voice(0.2), quiet(0.1), voice(0.15), quiet(1)])
    assert len(utterances(sound)) == 1


def test_a_pre_roll_does_not_reach_into_the_word_before():
    sound = np.concatenate([quiet(1), voice(0.35), quiet(0.3), voice(0.35), quiet(1)])
    first, second = utterances(sound)
    assert second.start >= first.speech_end


def test_no_end_of_speech_is_cut_at_the_maximum():
    word = np.concatenate([voice(0.35), quiet(0.1)])
    found = utterances(np.concatenate([quiet(1), np.tile(word, 11)]), max_utterance_seconds=2.0)
    assert len(found) >= 2
    assert not found[0].complete
    assert all(len(one.waveform) <= 2 * RATE for one in found)


def test_flush_gives_what_was_being_said():
    endpointer = Endpointer(RATE)
    assert endpointer.feed(np.concatenate([quiet(1), voice(0.4)])) == []
    assert endpointer.speaking
    last = endpointer.flush()
    assert not last.complete and last.speech_end > 1.3 * RATE
    assert endpointer.flush() is None


@pytest.mark.parametrize("rms", [1e-4, 1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("colour", ["white", "pink", "hum"])
def test_steady_noise_is_no_speech(colour, rms):
    seconds = 60
    sound = {
        "white": rng.standard_normal(seconds * RATE).astype(np.float32) * np.float32(rms),
        "pink": pink(seconds, rms),
        "hum": (
            rms * np.sin(2 * np.pi * 50 * np.arange(seconds * RATE) / RATE)
            + 1e-5 * rng.standard_normal(seconds * RATE)
        ).astype(np.float32),
    }[colour]
    assert utterances(np.clip(sound, -1, 1)) == []


def test_digital_silence_and_clicks_are_no_speech():
    sound = quiet(20)
    sound[RATE::RATE] = 0.9
    for start in range(RATE // 2, len(sound), 2 * RATE):
        sound[start : start + 80] = 0.5 * rng.standard_normal(80)
    assert utterances(sound) == []


@pytest.mark.parametrize("before", [0.0, 1e-3])
def test_a_fan_that_starts_is_no_speech_and_soon_background(before):
    sound = np.concatenate([pink(5, 1.0) * np.float32(before), pink(20, 3e-2)])
    sound[18 * RATE : 18 * RATE + 3200] += voice(0.4, 0.2)
    (found,) = utterances(sound)
    assert found.start < 18 * RATE < found.speech_end


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=20))
def test_blocks_of_any_length_give_the_same(lengths):
    sound = np.concatenate([quiet(0.7), voice(0.3), quiet(0.5), voice(0.3), quiet(0.5)])
    endpointer, found, position, turn = Endpointer(RATE), [], 0, 0
    while position < len(sound):
        length = lengths[turn % len(lengths)]
        found += endpointer.feed(sound[position : position + length])
        position, turn = position + length, turn + 1
    expected = utterances(sound)
    assert [(one.start, one.end) for one in found] == [(one.start, one.end) for one in expected]


def test_memory_does_not_grow():
    endpointer = Endpointer(RATE)
    minute = pink(60, 1e-3)

    def listen() -> int:
        for start in range(0, len(minute), 160):
            endpointer.feed(minute[start : start + 160].copy())
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = listen()
        assert max(listen() for _ in range(3)) - before < 50_000
    finally:
        tracemalloc.stop()


def test_the_background_never_falls_below_the_threshold_of_silence():
    endpointer = Endpointer(RATE)
    endpointer.feed(quiet(5))
    assert endpointer.background_dbfs == SILENCE_DBFS
    assert endpointer.calibrated


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000, 96000])
def test_the_resampler_is_prompt_and_keeps_speech(rate):
    time = np.arange(rate) / rate
    block = rate // 50

    def resample(sound: np.ndarray) -> np.ndarray:
        resampler = LowDelayResampler(rate, RATE)
        parts = []
        for start in range(0, len(sound), block):
            parts.append(resampler.feed(sound[start : start + block].astype(np.float32)))
            late = (start + block) / rate - sum(map(len, parts)) / RATE
            assert late < 0.003
        return np.concatenate(parts)

    for frequency, low, high in ((300, 0.95, 1.05), (2000, 0.9, 1.05), (6500, 0.0, 0.02)):
        gain = np.sqrt(2) * audio_io.rms(resample(np.sin(2 * np.pi * frequency * time))[400:])
        assert low <= gain <= high


def test_the_resampler_leaves_the_same_rate_alone():
    sound = voice(0.2)
    np.testing.assert_array_equal(LowDelayResampler(RATE, RATE).feed(sound), sound)


def fsdd_test_clips() -> list[np.ndarray]:
    archive = os.environ.get("FSDD_ARCHIVE")
    if not archive or not Path(archive).is_file():
        pytest.skip("FSDD_ARCHIVE names no archive of the Free Spoken Digit Dataset")
    with zipfile.ZipFile(archive) as content:
        names = sorted(
            name
            for name in content.namelist()
            if name.endswith(".wav") and int(name[:-4].rsplit("_", 1)[1]) < 5
        )
        return [
            soundfile.read(io.BytesIO(content.read(name)), dtype="float32")[0] for name in names
        ]


@pytest.mark.parametrize(("pause", "snr_db"), [(0.7, None), (0.26, None), (0.7, 20), (0.3, 20)])
def test_each_real_digit_is_one_utterance(pause, snr_db):
    parts, spans = [quiet(1)], []
    for clip in fsdd_test_clips():
        start = sum(map(len, parts))
        spans.append((start, start + len(clip)))
        parts += [clip * np.float32(0.05 / audio_io.rms(clip)), quiet(pause)]
    sound = np.concatenate(parts)
    if snr_db is not None:
        sound = sound + pink(len(sound) / RATE, 0.05 * 10 ** (-snr_db / 20))[: len(sound)]
    found = utterances(sound)
    assert len(found) == len(spans) == 300
    middles = [(start + end) / 2 for start, end in spans]
    assert all(one.start < middle < one.end for one, middle in zip(found, middles, strict=True))


def test_recorded_steady_room_noise_is_no_speech():
    folder = os.environ.get("NOISE_DIR")
    if not folder:
        pytest.skip("NOISE_DIR names no folder of recorded noise")
    names = ("running_tap", "exercise_bike", "white_noise", "pink_noise")
    recordings = [path for path in audio_io.find_audio(folder) if path.stem in names]
    if not recordings:
        pytest.skip(f"no steady noise in {folder}")
    for path in recordings:
        assert utterances(audio_io.read_audio(path, RATE, max_seconds=200)[0]) == [], path.name
