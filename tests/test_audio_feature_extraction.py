"""The front end against librosa, and its invariants."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import config
from audio_feature_extraction import AMIN, FrontEnd, fit_duration, is_cut, normalize_level

RATE = 16000
FRAME = RATE // 40
KINDS = ("log_mel", "mfcc", "spectrogram")


def noise(seed: int, samples: int = RATE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def spoken(samples: int = RATE) -> np.ndarray:
    """A vowel-like harmonic sound with silence around it."""
    time = np.arange(samples // 2) / RATE
    tone = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20))
    return fit_duration((0.1 * tone * np.hanning(len(time))).astype(np.float32), samples)


def largest_relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("clip", [noise(0), noise(1), spoken()], ids=["noise", "noise2", "vowel"])
def test_mel_spectrogram_agrees_with_librosa(clip):
    chosen = config.FeaturesSettings()
    front_end = FrontEnd(chosen, RATE)
    ours = front_end.mel_scale(front_end.power(torch.from_numpy(clip)[None]))[0].numpy()
    theirs = librosa.feature.melspectrogram(
        y=clip,
        sr=RATE,
        n_fft=chosen.n_fft,
        hop_length=chosen.hop_length,
        n_mels=chosen.n_mels,
        fmin=chosen.f_min,
        fmax=chosen.f_max,
        norm="slaney",
        pad_mode="constant",
        power=2.0,
    )
    assert largest_relative_error(ours, theirs) < 1e-4


@pytest.mark.parametrize("clip", [noise(2), spoken()], ids=["noise", "vowel"])
def test_mfcc_agrees_with_librosa(clip):
    chosen = config.FeaturesSettings(kind="mfcc", deltas=False, normalization="none", floor_db=80)
    ours = FrontEnd(chosen, RATE)(torch.from_numpy(clip)[None])[0].numpy()
    mel = librosa.feature.melspectrogram(
        y=clip,
        sr=RATE,
        n_fft=chosen.n_fft,
        hop_length=chosen.hop_length,
        n_mels=chosen.n_mels,
        fmin=chosen.f_min,
        fmax=chosen.f_max,
        pad_mode="constant",
    )
    decibels = librosa.power_to_db(mel, amin=AMIN, top_db=80)
    theirs = librosa.feature.mfcc(S=decibels, n_mfcc=chosen.n_mfcc)
    assert largest_relative_error(ours, theirs) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_shape_range_and_batch_independence(kind):
    front_end = FrontEnd(config.FeaturesSettings(kind=kind), RATE)
    batch = torch.from_numpy(np.stack([noise(3), spoken(), np.zeros(RATE, np.float32)]))
    features = front_end(batch)
    assert features.shape == (3, front_end.n_features, RATE // 160 + 1)
    assert features.dtype == torch.float32 and torch.isfinite(features).all()
    torch.testing.assert_close(front_end(batch[1:2])[0], features[1], rtol=1e-4, atol=1e-4)


@given(gain=st.floats(0.01, 1.0), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_loudness_does_not_matter(gain, seed):
    front_end = FrontEnd(config.FeaturesSettings(), RATE)
    clip = torch.from_numpy(noise(seed))[None]
    torch.testing.assert_close(front_end(clip * gain), front_end(clip), rtol=1e-3, atol=1e-3)


@given(samples=st.integers(1, 3 * RATE), length=st.integers(1, 2 * RATE))
@settings(max_examples=50, deadline=None)
def test_fit_duration_keeps_every_sample_that_fits(samples, length):
    clip = noise(samples, samples)
    fitted = fit_duration(clip, length)
    assert fitted.shape == (length,) and fitted.dtype == np.float32
    assert is_cut(clip, length) == (samples > length)
    if samples <= length:
        start = (length - samples) // 2
        assert np.array_equal(fitted[start : start + samples], clip)
        assert np.count_nonzero(fitted) == np.count_nonzero(clip)


def test_fit_duration_keeps_the_loudest_stretch_of_a_long_clip():
    clip = np.zeros(4 * RATE, np.float32)
    clip[3 * RATE : 3 * RATE + 4000] = 1.0
    assert fit_duration(clip, RATE).sum() == 4000


@given(level=st.floats(-50, -20), gain=st.floats(1e-4, 1.0), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_normalize_level_reaches_the_level_without_clipping(level, gain, seed):
    clip = noise(seed) * np.float32(gain)
    scaled = normalize_level(clip, level, FRAME)
    assert np.abs(scaled).max() <= 1.0 + 1e-6
    loud = np.sort(np.mean(scaled.reshape(-1, FRAME) ** 2, axis=1))[-8:].mean()
    assert abs(10 * np.log10(loud) - level) < 0.1


def test_normalize_level_leaves_silence_alone():
    assert not normalize_level(np.zeros(100, np.float32), -25, FRAME).any()


def test_impossible_band_edges_are_refused():
    with pytest.raises(config.UserError, match="features.f-max"):
        FrontEnd(config.FeaturesSettings(f_max=9000), RATE)
