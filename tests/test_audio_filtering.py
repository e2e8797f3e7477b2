"""The high-pass without SciPy, against SciPy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

import audio_cleaning
import config
from audio import filtering


def scipys(waveform, rate, hz, phase):
    centred = waveform - waveform.mean(dtype=np.float64)
    sections = signal.butter(audio_cleaning.HIGHPASS_ORDER, hz, "highpass", fs=rate, output="sos")
    if phase == "minimum":
        return signal.sosfilt(sections, centred)
    padding = min(len(centred) - 1, round(rate / hz))
    return signal.sosfiltfilt(sections, centred, padlen=padding)


@given(
    seed=st.integers(0, 999),
    length=st.integers(2, 6000),
    rate=st.sampled_from([8000, 11025, 16000, 48000]),
    hz=st.floats(20, 1000),
    phase=st.sampled_from(["zero", "minimum"]),
)
@settings(max_examples=60, deadline=None)
def test_any_recording_is_filtered_as_scipy_does(seed, length, rate, hz, phase):
    random = np.random.default_rng(seed)
    waveform = (random.normal(0, 0.2, length) + random.uniform(-0.5, 0.5)).astype(np.float32)
    chosen = config.CleaningSettings(highpass_hz=hz, highpass_phase=phase)
    ours = audio_cleaning.high_pass(waveform, rate, chosen)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, scipys(waveform, rate, hz, phase), atol=1e-6)


@pytest.mark.parametrize("order", [2, 4, 6])
def test_impulse_response_is_butterworths(order):
    linear = filtering.butterworth_high_pass(order, 70.0, 16000)
    impulse = np.zeros(5000)
    impulse[0] = 1
    sections = signal.butter(order, 70.0, "highpass", fs=16000, output="sos")
    expected = signal.sosfilt(sections, impulse)
    np.testing.assert_allclose(filtering.forwards(linear, impulse), expected, atol=1e-12)


def test_a_minute_of_rumble_does_not_grow():
    rumble = 0.9 * np.sin(2 * np.pi * 20 * np.arange(60 * 16000) / 16000)
    cleaned = audio_cleaning.high_pass(rumble.astype(np.float32), 16000, config.CleaningSettings())
    assert np.abs(cleaned[16000:-16000]).max() < 1e-3
    assert np.abs(cleaned).max() < 1
