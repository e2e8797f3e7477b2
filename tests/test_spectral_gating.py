"""The spectral gate without SciPy, against the package whose algorithm it is."""

import noisereduce
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.spectral_gating import PADDING_FRAMES, spectral_gate


def noisereduces(waveform, rate, noise, strength, size):
    return noisereduce.reduce_noise(
        y=waveform,
        sr=rate,
        y_noise=noise,
        stationary=True,
        prop_decrease=strength,
        n_fft=size,
        padding=PADDING_FRAMES * size,
    )


def noisy_word(rate: int, seconds: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Half of it a tone in noise, float32, and the noise alone."""
    random = np.random.default_rng(seed)
    noise = random.normal(0, 0.02, round(seconds * rate)).astype(np.float32)
    time = np.arange(len(noise)) / rate
    tone = 0.2 * np.sin(2 * np.pi * 440 * time) * (time > seconds / 2)
    return (noise + tone).astype(np.float32), noise[: len(noise) // 2]


@given(
    seed=st.integers(0, 999),
    seconds=st.floats(0.3, 3),
    rate=st.sampled_from([8000, 11025, 16000, 44100]),
    strength=st.sampled_from([0.3, 0.6, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_any_recording_is_gated_as_noisereduce_does(seed, seconds, rate, strength):
    size = 2 ** round(np.log2(0.032 * rate))
    waveform, noise = noisy_word(rate, seconds, seed)
    ours = spectral_gate(waveform, rate, noise, strength, size)
    theirs = noisereduces(waveform, rate, noise, strength, size)
    assert ours.dtype == np.float32 and ours.shape == waveform.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_steady_noise_is_turned_down_more_than_a_tone():
    waveform, noise = noisy_word(16000, 2.0, 0)
    gated = spectral_gate(waveform, 16000, noise, 1.0, 512)
    assert gated[:12000].std() < 0.3 * waveform[:12000].std()
    assert gated[20000:].std() > 0.3 * waveform[20000:].std()


def test_digital_silence_stays_silent():
    nothing = np.zeros(8000, np.float32)
    assert not spectral_gate(nothing, 16000, nothing[:1600], 0.6, 512).any()
