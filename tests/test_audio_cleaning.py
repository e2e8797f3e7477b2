"""Cleaning: what speech is, what isn't, and that no word loses a sound to it."""

import dataclasses
import io
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

import audio_cleaning
import audio_io
from audio import voice_activity
from audio_cleaning import clean
from config import CleaningSettings

RATE = 8000
ARCHIVE = os.environ.get("FSDD_ARCHIVE")
STRANGERS = os.environ.get("UNSEEN_SPEAKERS_DIR")
needs_fsdd = pytest.mark.skipif(not ARCHIVE, reason="FSDD_ARCHIVE names no FSDD archive")
needs_strangers = pytest.mark.skipif(not STRANGERS, reason="UNSEEN_SPEAKERS_DIR is not set")
SHORT = settings(max_examples=60, deadline=None)


def noise(seconds: float, exponent: float = 0.0, seed: int = 0) -> np.ndarray:
    """Noise with a power spectrum of 1/f^exponent and RMS 1: white 0, pink 1, brown 2."""
    size = round(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(size))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** (exponent / 2)
    waveform = np.fft.irfft(spectrum, size)
    return (waveform / np.sqrt(np.mean(waveform**2))).astype(np.float32)


def word(pitch: float = 120.0, seconds: float = 0.4) -> np.ndarray:
    """A made-up word: a soft fricative, a vowel, a closure, a soft fricative."""
    instants = np.arange(round(seconds * 0.6 * RATE)) / RATE
    pulses = signal.sawtooth(2 * np.pi * pitch * instants)
    vowel = sum(
        signal.lfilter(*signal.iirpeak(formant, 6, fs=RATE), pulses)
        for formant in (600, 1300, 2500)
    ) * np.hanning(len(pulses))
    hiss = (
        signal.sosfilt(
            signal.butter(4, 2500, "highpass", fs=RATE, output="sos"), noise(seconds * 0.15, seed=7)
        )
        * 0.02
    )
    parts = (hiss, 0.2 * vowel / np.abs(vowel).max(), np.zeros(round(seconds * 0.1 * RATE)), hiss)
    return np.concatenate(parts).astype(np.float32)


def padded(
    waveform: np.ndarray,
    before: float = 0.7,
    after: float = 0.8,
    level: float = 1e-4,
    seed: int = 1,
) -> np.ndarray:
    around = np.pad(waveform, (round(before * RATE), round(after * RATE)))
    return around + level * noise(len(around) / RATE, seed=seed)[: len(around)]


def noise_at(snr_db: float) -> float:
    """RMS amplitude of noise that lies `snr_db` below :func:`word`."""
    return audio_io.rms(word()) * 10 ** (-snr_db / 20)


def lost(reference: np.ndarray, start_s: float, cleaned: audio_cleaning.Cleaned) -> float:
    """Share of the energy of a word, placed at `start_s`, that the trim cut off."""
    power = np.square(reference, dtype=np.float64)
    instants = start_s + np.arange(len(reference)) / RATE
    kept = (instants >= cleaned.speech_start_s) & (instants <= cleaned.speech_end_s)
    return 1 - power[kept].sum() / power.sum()


def test_every_stage_is_returned_float32_and_as_long_as_the_recording():
    waveform = padded(word())
    cleaned = clean(waveform, RATE, CleaningSettings(gate="on"))
    for stage in (cleaned.original, cleaned.highpassed, cleaned.gated):
        assert stage.dtype == np.float32 and stage.shape == waveform.shape
    assert np.array_equal(cleaned.original, waveform)
    assert cleaned.speech.dtype == np.float32
    assert len(cleaned.speech) == pytest.approx(
        (cleaned.speech_end_s - cleaned.speech_start_s) * RATE, abs=1
    )
    assert set(cleaned.stage_ms) == {"highpass", "vad", "measure", "gate"}
    assert all(value >= 0 for value in cleaned.stage_ms.values())


@pytest.mark.parametrize("phase", ["zero", "minimum"])
def test_high_pass_has_the_response_of_a_butterworth_filter(phase):
    chosen = CleaningSettings(highpass_phase=phase, highpass_hz=100)
    power = 2 if phase == "zero" else 1  # forwards and backwards squares the response
    for hertz in (25, 50, 100, 200, 1000):
        tone = np.sin(2 * np.pi * hertz * np.arange(2 * RATE) / RATE).astype(np.float32)
        middle = audio_cleaning.high_pass(tone, RATE, chosen)[RATE // 2 : -RATE // 2]
        order = audio_cleaning.HIGHPASS_ORDER
        expected = (1 + (100 / hertz) ** (2 * order)) ** (-power / 2)  # Butterworth, 1930
        assert audio_io.rms(middle) * np.sqrt(2) == pytest.approx(expected, rel=0.03, abs=1e-4)


def test_zero_phase_does_not_delay_and_minimum_phase_does_not_look_ahead():
    click = np.zeros(4000, np.float32)
    click[2000] = 1
    zero = audio_cleaning.high_pass(click, RATE, CleaningSettings())
    assert np.abs(zero).argmax() == 2000
    minimum = audio_cleaning.high_pass(click + 0, RATE, CleaningSettings(highpass_phase="minimum"))
    assert np.abs(minimum[:1999]).max() < 1e-3 < np.abs(minimum[2001:]).max()


def test_dc_is_measured_and_taken_out_even_without_the_filter():
    for hertz in (0.0, 70.0):
        cleaned = clean(padded(word()) + 0.2, RATE, CleaningSettings(highpass_hz=hertz))
        assert cleaned.dc_offset == pytest.approx(0.2, abs=0.01)
        assert abs(cleaned.highpassed.mean()) < 1e-3
        assert lost(word(), 0.7, cleaned) < 1e-3


@pytest.mark.parametrize("seconds", (0.0, 0.001, 0.01, 0.1, 1.0, 5.0))
def test_silence_is_no_speech(seconds):
    random = np.random.default_rng(0)
    for waveform in (
        np.zeros(round(seconds * RATE)),
        random.integers(-1, 2, round(seconds * RATE)) / 32768,
    ):
        cleaned = clean(waveform.astype(np.float32), RATE)
        assert cleaned.speech.size == 0 and cleaned.speech.dtype == np.float32
        assert cleaned.speech_start_s is None and cleaned.speech_end_s is None
        assert cleaned.segments == [] and cleaned.snr_db == 0


@pytest.mark.parametrize("exponent", (0.0, 1.0, 2.0))
@pytest.mark.parametrize("seconds", (0.3, 0.6, 1.0, 2.0, 5.0))
def test_steady_noise_is_no_speech_however_loud(exponent, seconds):
    for seed, level in enumerate((0.2, 0.05, 0.01, 0.001, 0.0003)):
        assert clean(level * noise(seconds, exponent, seed), RATE).segments == []


@pytest.mark.parametrize("hertz", (50, 60, 100, 120, 200, 440))
def test_hum_is_no_speech(hertz):
    instants = np.arange(2 * RATE) / RATE
    hum = sum(np.sin(2 * np.pi * hertz * k * instants) / k for k in range(1, 6)) * 0.05
    for level in (0.0, 1e-5, 1e-3):
        assert clean((hum + level * noise(2)).astype(np.float32), RATE).segments == []


@pytest.mark.parametrize("milliseconds", (1, 5, 10))
def test_a_click_is_no_speech(milliseconds):
    for seed in range(10):
        recording = 1e-3 * noise(2, seed=seed)
        size = milliseconds * RATE // 1000
        start = 1000 + 1111 * seed
        recording[start : start + size] += 0.3 * noise(0.1, seed=seed)[:size]
        assert clean(recording, RATE).segments == []


@pytest.mark.parametrize("level_dbfs", (0, -20, -30, -45))
@pytest.mark.parametrize("snr_db", (60, 30, 20, 10))
def test_a_word_is_found_whole_at_any_level_and_in_noise(level_dbfs, snr_db):
    scale = 10 ** (level_dbfs / 20)
    cleaned = clean(scale * padded(word(), level=noise_at(snr_db)), RATE)
    assert len(cleaned.segments) == 1
    assert lost(word(), 0.7, cleaned) < (1e-6 if snr_db >= 30 else 1e-3)
    assert cleaned.speech_start_s > 0.4 and cleaned.speech_end_s < 1.5


def test_soft_fricatives_and_a_closure_stay_within_the_word():
    cleaned = clean(padded(word(), level=3e-5), RATE)
    assert cleaned.speech_start_s <= 0.70 and cleaned.speech_end_s >= 1.10
    assert len(cleaned.segments) == 1


@pytest.mark.parametrize("snr_db", (0, 5))
def test_a_word_deep_in_noise_is_still_found(snr_db):
    for seed in range(10):
        recording = padded(word(), level=noise_at(snr_db), seed=seed)
        cleaned = clean(recording, RATE)
        assert lost(word(), 0.7, cleaned) < 0.05


def test_a_tightly_trimmed_word_comes_back_whole():
    for seconds in (0.15, 0.3, 0.5, 0.65):
        waveform = word(seconds=seconds)
        assert len(clean(waveform, RATE).speech) == len(waveform)


def test_two_near_parts_are_one_answer_and_two_far_words_are_the_louder():
    gap = np.zeros(round(0.25 * RATE), np.float32)
    near = clean(padded(np.concatenate((word(seconds=0.3), gap, word(seconds=0.3)))), RATE)
    assert near.speech_start_s <= 0.7 and near.speech_end_s >= 0.7 + 0.85
    gap = np.zeros(RATE, np.float32)
    far = clean(padded(np.concatenate((0.4 * word(), gap, word(), gap, 0.6 * word()))), RATE)
    assert len(far.segments) == 3
    assert far.speech_start_s == pytest.approx(0.7 + 1.4, abs=0.2)
    assert far.speech_end_s == pytest.approx(0.7 + 1.8, abs=0.2)


def test_without_trim_the_whole_recording_is_speech_and_the_segments_are_still_told():
    recording = padded(word())
    cleaned = clean(recording, RATE, CleaningSettings(vad=False))
    assert len(cleaned.speech) == len(recording)
    assert (cleaned.speech_start_s, cleaned.speech_end_s) == (0, len(recording) / RATE)
    assert len(cleaned.segments) == 1


@pytest.mark.parametrize("snr_db", (5, 10, 20, 30))
def test_snr_level_and_noise_floor_are_estimated(snr_db):
    cleaned = clean(padded(word(), level=noise_at(snr_db)), RATE)
    assert cleaned.snr_db == pytest.approx(snr_db, abs=3)  # the span holds some silence too
    assert cleaned.noise_floor_dbfs == pytest.approx(audio_io.dbfs(noise_at(snr_db)), abs=1)
    assert cleaned.peak_dbfs == pytest.approx(
        audio_io.dbfs(float(np.abs(cleaned.original).max())), abs=0.01
    )


def test_clipping_is_measured():
    clean_share = clean(padded(word()), RATE).clipped_fraction
    loud = np.clip(10 * padded(word()), -1, 1)
    assert clean_share == 0
    assert clean(loud, RATE).clipped_fraction == pytest.approx(np.mean(np.abs(loud) >= 0.99))


def test_the_gate_runs_when_it_should_and_lowers_the_noise():
    noisy, quiet = padded(word(), level=0.03), padded(word(), level=1e-4)
    for recording, gate, runs in (
        (noisy, "auto", True),
        (quiet, "auto", False),
        (quiet, "on", True),
        (noisy, "off", False),
    ):
        cleaned = clean(recording, RATE, CleaningSettings(gate=gate))
        assert (cleaned.gated is not cleaned.highpassed) == runs
        if runs:
            before = audio_io.rms(cleaned.highpassed[: RATE // 2])
            after = audio_io.rms(cleaned.gated[: RATE // 2])
            assert 0.3 * before < after < 0.6 * before  # strength 0.6 leaves 0.4 of the noise
    cleaned = clean(word(), RATE, CleaningSettings(gate="on"))
    assert cleaned.gated is cleaned.highpassed, "no sound outside the word to learn the noise from"


def test_the_gate_is_automatic_by_default():
    noisy, quiet = padded(word(), level=0.03), padded(word(), level=1e-4)
    gated = clean(noisy, RATE)
    assert audio_io.rms(gated.gated[: RATE // 2]) < 0.6 * audio_io.rms(
        gated.highpassed[: RATE // 2]
    )
    untouched = clean(quiet, RATE)
    assert untouched.gated is untouched.highpassed


@pytest.mark.parametrize("rate", (8000, 16000, 22050, 32000, 44100, 48000))
def test_the_span_does_not_depend_on_the_sample_rate(rate):
    recording = audio_io.resample(padded(word(), level=1e-3), RATE, rate)
    reference, cleaned = clean(padded(word(), level=1e-3), RATE), clean(recording, rate)
    assert len(cleaned.segments) == 1
    assert cleaned.speech_start_s == pytest.approx(reference.speech_start_s, abs=0.1)
    assert cleaned.speech_end_s == pytest.approx(reference.speech_end_s, abs=0.1)


def test_webrtc_gets_whole_frames_at_any_length():
    for size in (*range(160, 500, 7), 8001, 12345):
        verdict = voice_activity._webrtc_frames(0.1 * noise(2)[:size], RATE, 2)
        assert len(verdict) == -(-size // 160)


@given(
    size=st.integers(0, 6000),
    seed=st.integers(0, 1000),
    level=st.floats(0, 1),
    offset=st.floats(-0.5, 0.5),
    gate=st.sampled_from(("on", "auto", "off")),
    phase=st.sampled_from(("zero", "minimum")),
    vad=st.booleans(),
)
@SHORT
def test_any_sound_gives_finite_stages_and_ordered_segments(
    size, seed, level, offset, gate, phase, vad
):
    shape = np.repeat(np.random.default_rng(seed).uniform(0, 1, size // 400 + 1) ** 4, 400)[:size]
    waveform = (
        np.clip(level * shape * noise(1)[:size] + offset, -1, 1).astype(np.float32)
        if size
        else np.zeros(0, np.float32)
    )
    cleaned = clean(waveform, RATE, CleaningSettings(gate=gate, highpass_phase=phase, vad=vad))
    for stage in (cleaned.highpassed, cleaned.gated, cleaned.speech):
        assert stage.dtype == np.float32 and np.isfinite(stage).all()
    edges = [edge for segment in cleaned.segments for edge in segment]
    assert edges == sorted(edges) and all(0 <= edge <= size / RATE for edge in edges)
    assert np.isfinite([cleaned.snr_db, cleaned.level_dbfs, cleaned.noise_floor_dbfs]).all()
    if not vad:
        assert len(cleaned.speech) == size


@given(gain=st.floats(-30, 0))
@SHORT
def test_loudness_does_not_move_the_span(gain):
    recording = padded(word(), level=1e-3)
    quieter = clean((recording * 10 ** (gain / 20)).astype(np.float32), RATE)
    assert quieter.segments == clean(recording, RATE).segments


def test_the_input_is_not_changed():
    recording = padded(word())
    before = recording.copy()
    clean(recording, RATE, CleaningSettings(gate="on"))
    assert np.array_equal(recording, before)


def fsdd(step: int = 1) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(ARCHIVE) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".wav"))[::step]
        return {
            Path(name).name: audio_io.read_audio(io.BytesIO(archive.read(name)), RATE)[0]
            for name in names
        }


@needs_fsdd
@pytest.mark.slow
def test_every_fsdd_recording_holds_speech_and_keeps_it():
    clips = fsdd()
    found = {name: clean(waveform, RATE) for name, waveform in clips.items()}
    silent = [name for name, cleaned in found.items() if not cleaned.speech.size]
    assert len(clips) == 3000
    assert len(silent) <= 0.003 * len(clips), silent
    short = [name for name, waveform in clips.items() if len(waveform) <= 0.6 * RATE]
    assert all(len(found[name].speech) == len(clips[name]) for name in short)
    losses = np.array([lost(cleaned.highpassed, 0.0, cleaned) for cleaned in found.values()])
    assert np.mean(losses > 0.001) < 0.005


@needs_fsdd
@pytest.mark.slow
@pytest.mark.parametrize("snr_db, hurt", ((60, 0.005), (20, 0.02), (10, 0.06)))
def test_fsdd_within_a_longer_noisy_recording_is_found_and_kept(snr_db, hurt):
    losses = []
    for seed, waveform in enumerate(fsdd(10).values()):
        loudness = np.sqrt(np.sort(np.square(waveform))[-len(waveform) // 4 :].mean())
        recording = padded(waveform, level=loudness * 10 ** (-snr_db / 20), seed=seed)
        cleaned = clean(recording, RATE)
        assert cleaned.speech.size
        losses.append(lost(waveform, 0.7, cleaned))
    assert np.mean(np.array(losses) > 0.001) < hurt


@needs_strangers
@pytest.mark.slow
def test_strangers_are_heard_whatever_their_level():
    paths = audio_io.find_audio(STRANGERS)
    silent = [
        path.name
        for path in paths
        if not clean(audio_io.read_audio(path, RATE)[0], RATE).speech.size
    ]
    assert len(paths) > 900
    assert len(silent) <= 0.003 * len(paths), silent


def test_the_stages_times_add_up_to_no_more_than_the_cleaning():
    recording = padded(word(), level=0.03)
    start = time.perf_counter()
    stages = clean(recording, RATE).stage_ms
    assert set(stages) == {"highpass", "vad", "measure", "gate"}
    assert 0 < sum(stages.values()) <= 1000 * (time.perf_counter() - start)


def test_settings_are_frozen_and_none_means_the_defaults():
    recording = padded(word())
    default, explicit = clean(recording, RATE), clean(recording, RATE, CleaningSettings())
    assert default.segments == explicit.segments
    assert np.array_equal(default.speech, explicit.speech)
    with pytest.raises(dataclasses.FrozenInstanceError):
        default.speech = recording
