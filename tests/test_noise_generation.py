"""Noise at the level asked for, and sounds that are no speech."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import audio_io
from corpora.clips import Clips
from protocols import noise_generation

RATE = 8000


def random(seed=0):
    return np.random.default_rng(seed)


def word(seconds=0.4, level=0.1):
    """A buzz with a pause in the middle, float32 (samples,)."""
    time = np.arange(round(seconds * RATE)) / RATE
    buzz = level * np.sign(np.sin(2 * np.pi * 150 * time))
    buzz[len(buzz) // 3 : len(buzz) // 2] = 0
    return buzz.astype(np.float32)


def test_level_while_speaking_ignores_pauses():
    spoken = np.full(1600, 0.1, np.float32)
    with_pauses = np.concatenate([np.zeros(8000, np.float32), spoken, np.zeros(8000, np.float32)])
    assert noise_generation.speech_rms(with_pauses, RATE) == pytest.approx(0.1, rel=1e-4)
    assert audio_io.rms(with_pauses) < 0.04


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_level_of_scraps_and_silence(samples):
    assert noise_generation.speech_rms(np.zeros(samples, np.float32), RATE) == 0
    loud = np.full(samples, 0.5, np.float32)
    assert noise_generation.speech_rms(loud, RATE) == (0.5 if samples else 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(-5, 30), st.integers(0, 1000), st.sampled_from([0, 1, 2000]))
def test_noise_has_the_level_asked_for(snr_db, seed, padding):
    clip = word(level=0.02)
    noise = noise_generation.make_noise("pink", len(clip) + 2 * padding, random(seed))
    mixed = noise_generation.add_noise(clip, noise, snr_db, RATE)
    assert mixed.dtype == np.float32 and len(mixed) == len(noise)
    added = mixed - np.pad(clip, padding)
    measured = audio_io.dbfs(noise_generation.speech_rms(clip, RATE)) - audio_io.dbfs(
        audio_io.rms(added)
    )
    assert measured == pytest.approx(snr_db, abs=0.05)


def test_loud_mixtures_are_turned_down_not_clipped():
    clip = word(level=0.9)
    noise = noise_generation.make_noise("white", len(clip), random())
    mixed = noise_generation.add_noise(clip, noise, -5, RATE)
    assert np.abs(mixed).max() == pytest.approx(1.0)
    assert np.mean(np.abs(mixed) > 0.999) < 0.001


def test_mixing_leaves_its_inputs_alone():
    clip, noise = word(), noise_generation.make_noise("white", 8000, random())
    before = clip.copy(), noise.copy()
    noise_generation.add_noise(clip, noise, 0, RATE)
    np.testing.assert_array_equal(clip, before[0])
    np.testing.assert_array_equal(noise, before[1])


@pytest.mark.parametrize(("kind", "decibels_per_octave"), [("white", 0), ("pink", -3)])
def test_colour_of_noise(kind, decibels_per_octave):
    noise = noise_generation.make_noise(kind, 1 << 17, random())
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[len(power) >> k + 1 : len(power) >> k].mean() for k in range(6)]
    slope = np.polyfit(range(6), 10 * np.log10(octaves), 1)[0]
    assert -slope == pytest.approx(decibels_per_octave, abs=0.3)


def talkers():
    return Clips.from_waveforms(
        [word(0.3, 0.1), word(0.5, 0.01)], [1, 2], ["a", "b"], ["x", "y"], [0, 0], "small", RATE
    )


@pytest.mark.parametrize("kind", noise_generation.NOISES)
def test_every_noise_is_repeatable_and_of_unit_level(kind):
    recordings = [random(1).normal(0, 0.1, 30_000).astype(np.float32)]
    made = [
        noise_generation.make_noise(kind, 5000, random(seed), talkers(), recordings)
        for seed in (3, 3, 4)
    ]
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert len(made[0]) == 5000 and audio_io.rms(made[0]) == pytest.approx(1)


@pytest.mark.parametrize("length", [1, 10, 100])
def test_recordings_shorter_than_the_clip_are_repeated(length):
    noise = noise_generation.make_noise(
        "recorded", 5000, random(), recordings=[np.linspace(0.1, 0.2, length, dtype=np.float32)]
    )
    assert len(noise) == 5000 and np.isfinite(noise).all() and audio_io.rms(noise) > 0.99


def test_pauses_in_a_recording_are_avoided():
    recording = np.zeros(80_000, np.float32)
    recording[40_000:] = 0.1
    for seed in range(20):
        noise = noise_generation.make_noise("recorded", 4000, random(seed), recordings=[recording])
        assert audio_io.rms(noise) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["babble", "recorded", "green"])
def test_noise_of_nothing_is_refused(kind):
    with pytest.raises(ValueError, match=kind):
        noise_generation.make_noise(kind, 100, random())


@pytest.mark.parametrize("kind", noise_generation.NON_SPEECH)
def test_sounds_that_are_no_speech(kind):
    made = [noise_generation.make_non_speech(kind, RATE, random(seed)) for seed in range(30)]
    assert all(sound.dtype == np.float32 and np.abs(sound).max() <= 1 for sound in made)
    assert all(0.3 * RATE <= len(sound) <= 2 * RATE for sound in made)
    np.testing.assert_array_equal(made[5], noise_generation.make_non_speech(kind, RATE, random(5)))
    loudest = audio_io.dbfs(max(float(np.abs(sound).max()) for sound in made))
    assert loudest < -40 if kind == "silence" else loudest > -20


def test_hum_is_mains_and_harmonics():
    sound = noise_generation.make_non_speech("hum", RATE, random(2))
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 16)) ** 2
    strongest = power.argmax() * RATE / (1 << 16)
    assert min(strongest % 50, -strongest % 50, strongest % 60, -strongest % 60) < 2


def test_an_unknown_sound_is_refused():
    with pytest.raises(ValueError, match="silence"):
        noise_generation.make_non_speech("song", RATE, random())
