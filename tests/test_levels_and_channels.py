"""Levels and channels that files really have: any scale, inverted, noisy and silent channels."""

import io

import numpy as np
import pytest
import soundfile
from test_recordings_people_bring import RATE, tone

import audio_io
from protocols.recordings import with_libsndfile

# --- levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", (16.0, 32767.0, 2.0**31, 1e-5, 1e-8))
def test_float_files_of_any_scale_keep_their_shape(gain):
    content = with_libsndfile(tone() * gain, RATE, "WAV", "DOUBLE")
    waveform, _ = audio_io.read_audio(content)
    scaled = tone() * np.abs(waveform).max() / np.abs(tone()).max()
    assert 0.05 < np.abs(waveform).max() < 0.95  # neither clipped nor lost
    assert np.abs(waveform - scaled).max() < 1e-5


@pytest.mark.parametrize("value", (3e38, 1e300, float("nan"), -float("inf")))
@pytest.mark.parametrize("n_channels", (1, 2))
def test_one_absurd_sample_is_refused_before_it_becomes_nan(value, n_channels):
    samples = np.stack([tone().astype(np.float64)] * n_channels, axis=1)
    samples[100] = value
    content = io.BytesIO()
    soundfile.write(content, samples, RATE, format="WAV", subtype="DOUBLE")
    with pytest.raises(audio_io.AudioError, match="NaN or infinite|not sound"):
        audio_io.read_audio(content.getvalue(), 8000)


def test_quiet_coarse_files_and_silence_stay_as_they_are():
    quiet = (0.004 * tone()).astype(np.float32)
    recording = audio_io.read_recording(with_libsndfile(quiet, RATE))
    assert np.abs(recording.waveform).max() < 0.005 and recording.remarks == ()
    for subtype in ("FLOAT", "PCM_24"):
        silence = audio_io.read_recording(with_libsndfile(np.zeros(800), RATE, "WAV", subtype))
        assert not silence.waveform.any() and silence.remarks == ()


# --- channels -------------------------------------------------------------------------------------


def speech_like(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (tone(1.0) + 0.002 * random.standard_normal(RATE)).astype(np.float32)


def test_ordinary_stereo_is_the_mean():
    left, right = speech_like(0), 0.6 * speech_like(1)
    waveform, remark = audio_io.mix_down(np.stack([left, right], axis=1))
    assert remark is None and np.allclose(waveform, (left + right) / 2, atol=1e-6)


def test_silent_channels_don_t_halve_the_level():
    samples = np.zeros((RATE, 6), np.float32)
    samples[:, 2] = speech_like()
    waveform, remark = audio_io.mix_down(samples)
    assert remark is None and np.array_equal(waveform, samples[:, 2])
    assert not audio_io.mix_down(np.zeros((50, 2), np.float32))[0].any()
    assert audio_io.mix_down(np.zeros((0, 2), np.float32))[0].shape == (0,)


@pytest.mark.parametrize("loudest", (0, 1))
def test_channels_that_cancel_give_the_loudest(loudest):
    samples = np.stack([speech_like(), -speech_like()], axis=1)
    samples[:, 1 - loudest] *= 0.9
    waveform, remark = audio_io.mix_down(samples)
    assert np.array_equal(waveform, samples[:, loudest])
    assert f"channel {loudest + 1} of 2" in remark


@pytest.mark.parametrize("level", (0.2, 1.0))
def test_the_clean_one_of_two_channels_is_taken(level):
    noise = level * np.random.default_rng(5).standard_normal(RATE).astype(np.float32)
    for gain in (1.0, 0.1):  # also where the noisy one is far louder
        samples = np.stack([speech_like() + noise, gain * speech_like(1)], axis=1)
        waveform, remark = audio_io.mix_down(samples)
        assert np.array_equal(waveform, samples[:, 1]) and "channel 2 of 2" in remark
