"""Augmentation: seeded, switchable, and doing what it says."""

import dataclasses

import numpy as np
import pytest
import torch

import audio_augmentation
import config
from audio_augmentation import Augmenter
from audio_feature_extraction import warp

RATE = 8000
OFF = dataclasses.replace(
    config.AugmentationSettings(),
    **{
        item.name: 0.0
        for item in dataclasses.fields(config.AugmentationSettings)
        if isinstance(item.default, float) and not item.name.endswith("_range")
    },
)
WAVEFORM_PARTS = (
    "shift",
    "gain",
    "clipping",
    "band_limit",
    "codec",
    "noise",
    "babble",
    "room",
    "trim",
    "non_speech",
)
SPECTRUM_PARTS = ("speed", "tempo", "vtlp", "pitch")


def batch(count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    clips = torch.zeros(count, RATE)
    clips[:, 2000:5000] = torch.randn(count, 3000, generator=torch.Generator().manual_seed(0)) * 0.1
    return clips, torch.arange(count) % 10


def power(count: int = 16) -> torch.Tensor:
    return torch.rand(count, 129, 101, generator=torch.Generator().manual_seed(0)) + 0.1


def test_everything_off_changes_nothing():
    clips, labels = batch()
    augmenter = Augmenter(OFF, RATE)
    changed, same = augmenter.waveforms(clips, labels)
    # the level is brought to full scale; the shape stays
    expected = clips / clips.abs().amax(1, keepdim=True)
    torch.testing.assert_close(changed, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(same, labels)
    torch.testing.assert_close(augmenter.spectrograms(power()), power(), rtol=1e-3, atol=1e-3)
    features = torch.randn(4, 40, 101)
    assert torch.equal(augmenter.spec_augmented(features), features)


@pytest.mark.parametrize("part", WAVEFORM_PARTS)
def test_each_waveform_part_changes_the_sound_alone(part):
    settings = dataclasses.replace(OFF, **{part: 1.0})
    clips, labels = batch()
    if part == "trim":  # it removes noise around the word, so there must be some
        clips = clips + 0.0005
    changed, _ = Augmenter(settings, RATE).waveforms(clips, labels)
    plain, _ = Augmenter(OFF, RATE).waveforms(clips, labels)
    assert changed.shape == clips.shape and torch.isfinite(changed).all()
    assert (changed - plain).abs().amax(1).gt(1e-4).float().mean() > 0.8


@pytest.mark.parametrize("part", SPECTRUM_PARTS)
def test_each_spectrum_part_changes_the_spectrum(part):
    changed = Augmenter(dataclasses.replace(OFF, **{part: 1.0}), RATE).spectrograms(power())
    assert changed.shape == power().shape and (changed >= 0).all()
    assert not torch.allclose(changed, power(), rtol=0.01)


def test_same_seed_same_clips_other_seed_other_clips():
    def run(seed: int) -> torch.Tensor:
        return Augmenter(config.AugmentationSettings(), RATE, seed=seed).waveforms(*batch())[0]

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_reseeding_repeats_an_epoch():
    augmenter = Augmenter(config.AugmentationSettings(), RATE)
    augmenter.reseed(5)
    first = augmenter.waveforms(*batch())[0]
    augmenter.waveforms(*batch())
    augmenter.reseed(5)
    assert torch.equal(augmenter.waveforms(*batch())[0], first)


def test_shift_never_pushes_the_word_out():
    clips, _ = batch(200)
    moved = Augmenter(dataclasses.replace(OFF, shift=1.0), RATE).shifted(clips)
    torch.testing.assert_close(moved.square().sum(1), clips.square().sum(1))
    first = (moved != 0).float().argmax(1)
    assert first.min() < 500 and first.max() > 4500
    for before, after, start in zip(clips, moved, first.tolist(), strict=True):
        assert torch.equal(after[start : start + 3000], before[2000:5000])


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_noise_comes_at_the_snr_asked_for(snr):
    settings = dataclasses.replace(OFF, noise=1.0, snr_db=(snr, snr))
    clips, _ = batch()
    added = Augmenter(settings, RATE).noisy(clips) - clips
    speech = clips[:, 2000:5000].square().mean(1)
    measured = 10 * torch.log10(speech / added.square().mean(1))
    assert (measured - snr).abs().max() < 0.5


def test_recorded_noise_is_used_and_short_recordings_are_repeated():
    noises = [np.full(300, 0.2, np.float32), np.full(50_000, 0.2, np.float32)]
    settings = dataclasses.replace(OFF, recorded=1.0, snr_db=(0.0, 0.0))
    clips, _ = batch()
    added = Augmenter(settings, RATE, noises).noisy(clips) - clips
    assert (added > 0.01).all()


def test_coloured_noise_differs_in_colour_and_swells():
    clips = torch.zeros(200, RATE)
    noise = Augmenter(OFF, RATE).coloured(clips, 200)
    power = torch.fft.rfft(noise).abs().square()
    tilt = (power[:, :1000].mean(1) / power[:, -1000:].mean(1)).log10()
    assert tilt.min() < 0.5 and tilt.max() > 2
    loudness = noise.view(200, 10, -1).square().mean(2).log10()
    assert 0.3 < ((loudness.amax(1) - loudness.amin(1)) > 1).float().mean() < 0.8


def test_babble_is_made_of_few_or_many_others():
    clips = torch.zeros(40, RATE)
    clips[torch.arange(40), 100 * torch.arange(40)] = 1.0  # a click tells whose clip it is
    words = (Augmenter(OFF, RATE).babble(clips, 40) > 0).sum(1)
    assert 1 <= words.min() <= 3 and 12 <= words.max() <= audio_augmentation.BABBLE_WORDS


def test_spliced_and_reversed_words_are_no_digit_but_a_reversed_six_stays_six():
    clips, _ = batch(300)
    clips *= torch.linspace(1, 2, RATE)
    sixes = torch.full((300,), 6)
    augmenter = Augmenter(dataclasses.replace(OFF, spliced_reversed=1.0), RATE)
    same, labels = augmenter.spliced_or_reversed(clips, sixes)
    assert torch.equal(same, clips) and torch.equal(labels, sixes)
    changed, labels = augmenter.spliced_or_reversed(clips, torch.arange(300) % 10)
    negative = labels == config.REJECT
    assert 0.8 < negative.float().mean() < 1
    assert (changed[negative] != clips[negative]).any(1).all()
    assert torch.equal(changed[~negative], clips[~negative])


def test_oh_backwards_is_oh_and_halves_of_zero_and_oh_are_no_negatives():
    clips, _ = batch(300)
    clips *= torch.linspace(1, 2, RATE)
    augmenter = Augmenter(dataclasses.replace(OFF, spliced_reversed=1.0), RATE)
    ohs = torch.full((300,), config.OH)
    same, labels = augmenter.spliced_or_reversed(clips, ohs)
    assert torch.equal(same, clips) and torch.equal(labels, ohs)
    mixed = torch.where(torch.arange(300) % 2 > 0, config.OH, 0)
    changed, labels = augmenter.spliced_or_reversed(clips, mixed)
    negative = labels == config.REJECT
    assert 0 < negative.float().mean() < 0.3 and (mixed[negative] == 0).all()  # zeros backwards
    assert torch.equal(changed[~negative], clips[~negative])


def test_removed_speech_becomes_no_digit():
    settings = dataclasses.replace(OFF, non_speech=1.0)
    _, labels = Augmenter(settings, RATE).waveforms(*batch())
    assert (labels == config.REJECT).all()


def test_warp_moves_a_line_to_where_the_factor_says():
    spectrogram = torch.zeros(1, 129, 101)
    spectrogram[0, 50] = 1.0
    higher = warp(spectrogram, torch.tensor([[1.2]]), torch.ones(1, 1))
    assert higher[0, :, 50].argmax() == 60
    spectrogram = torch.zeros(1, 129, 101)
    spectrogram[0, :, 90] = 1.0  # 40 frames after the middle
    faster = warp(spectrogram, torch.ones(1, 1), torch.tensor([[2.0]]))
    assert faster[0, 5].argmax() == 70


def test_rooms_start_with_the_direct_sound_and_decay():
    rooms = audio_augmentation.simulate_rooms(32, RATE, torch.Generator().manual_seed(0))
    assert (rooms[:, 0] == 1).all()
    early, late = rooms[:, 16:400].square().mean(1), rooms[:, -400:].square().mean(1)
    assert (early > late).all()


@pytest.mark.parametrize(("rate", "edge_hz"), [(8000, 3000), (16000, 4000)])
def test_band_limits_take_the_high_frequencies_of_some_clips_and_leave_those_of_others(
    rate, edge_hz
):
    """What only wideband recordings hold must not tell who or what is heard."""
    clips = torch.randn(400, rate, generator=torch.Generator().manual_seed(0)) * 0.1
    settings = dataclasses.replace(OFF, band_limit=1.0)
    limited = Augmenter(settings, rate).through_microphone(clips)
    powers = torch.fft.rfft(limited).abs().square()
    edge = edge_hz * powers.shape[1] // (rate // 2)
    ratio = powers[:, edge:].mean(1) / powers[:, edge // 2 : edge].mean(1)
    lost_db = -10 * ratio.log10()
    assert 0.2 < (lost_db > 15).float().mean() < 0.6
    assert 0.2 < (lost_db < 6).float().mean() < 0.7


def test_everything_at_once_at_16_khz_is_finite_and_seeded():
    clips, labels = batch(32)
    clips = torch.nn.functional.interpolate(clips[:, None], 2 * RATE)[:, 0]
    spectrum = torch.rand(32, 257, 101, generator=torch.Generator().manual_seed(0)) + 0.1
    runs = []
    for _ in range(2):
        augmenter = Augmenter(config.AugmentationSettings(), 2 * RATE, seed=3)
        changed, _ = augmenter.waveforms(clips, labels)
        runs.append((changed, augmenter.spectrograms(spectrum)))
    assert runs[0][0].shape == clips.shape and runs[0][1].shape == spectrum.shape
    assert all(torch.isfinite(part).all() for part in runs[0])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))
