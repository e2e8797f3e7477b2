"""Noise, rejection and calibration, on untrained networks and synthetic recordings."""

import numpy as np
import pytest
from conftest import RATE
from untrained import read_result, save_networks, settings_maker, write_beeps

import audio_io
import config
import evaluation
from protocols import common, noise, noise_generation, rejection
from recognition.predictor import Predictor


@pytest.fixture
def make_settings(tmp_path, small_release):
    return settings_maker(tmp_path, small_release)


@pytest.mark.slow
def test_noise_covers_every_condition(make_settings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(noise, "SNR_DB", (10, 0))
    noises = tmp_path / "noise"
    audio_io.write_audio(noises / "short.wav", np.random.default_rng(0).normal(0, 0.1, 100), RATE)
    settings = make_settings(protocol="noise", noise_dir=noises)
    evaluation.run(settings)
    rows = read_result(settings, "noise")["conditions"]
    conditions = {(row["noise"], row["snr_db"], row["cleaning"]) for row in rows}
    assert conditions == {("none", None, True), ("none", None, False)} | {
        (kind, snr, chain)
        for kind in noise_generation.NOISES
        for snr in (10, 0)
        for chain in (True, False)
    }
    assert all(row["low"] <= row["accuracy"] <= row["high"] and row["total"] == 100 for row in rows)
    assert "Change of the vote by cleaning" in capsys.readouterr().out


def test_noise_is_repeatable_and_the_same_at_every_level(small_clips):
    clips = small_clips.subset([0, 1])

    def noisy(snr, seed=0):
        return list(noise.in_noise(clips, "pink", snr, seed, []))

    first = noisy(0)
    np.testing.assert_array_equal(first[1], noisy(0)[1])
    assert not np.array_equal(first[1], noisy(0, seed=1)[1])
    clean = list(noise.in_noise(clips, "none", None, 0, []))
    ratio = (first[0] - clean[0]) / (noisy(20)[0] - clean[0])
    np.testing.assert_allclose(ratio, 10, rtol=1e-2)
    assert len(clean[0]) == len(clips.waveform(0)) + 2 * 2000


def test_noise_that_was_trained_on_is_warned_of(make_settings, tmp_path, caplog):
    noises = tmp_path / "noise"
    audio_io.write_audio(noises / "a" / "x.wav", np.ones(100, np.float32) / 2, RATE)
    save_networks(tmp_path / "models", settings={"augmentation": {"noise_dir": str(noises / "a")}})
    settings = make_settings(noise_dir=noises)
    noise.noise_recordings(settings, Predictor(settings.decision), noise.MIXING_RATE)
    assert "too good" in caplog.text


@pytest.mark.slow
def test_reject_counts_what_is_accepted_at_both_thresholds(make_settings, tmp_path):
    pytest.importorskip("espeakng_loader")
    unseen_speakers = write_beeps(tmp_path / "speakers", [f"{digit}_eve_0" for digit in range(10)])
    words = write_beeps(tmp_path / "words", ["dog_eve_0", "cat_eve_1", "7_eve_0"])
    settings = make_settings(protocol="reject", unseen_dir=unseen_speakers, non_digits_dir=words)
    evaluation.run(settings)
    result = read_result(settings, "reject")
    accepted, thresholds = result["accepted"], result["thresholds"]
    assert accepted["other words"]["stored"]["total"] == 2  # "7" is a digit
    assert accepted["all made-up sounds"]["stored"]["total"] == 500
    assert accepted["synthetic other words"]["stored"]["total"] == 300
    assert thresholds["stored"] == pytest.approx(0.1)
    low, high = sorted(thresholds, key=thresholds.get)
    assert all(item[high]["right"] <= item[low]["right"] for item in accepted.values())


def test_acceptance_needs_confidence_and_that_no_digit_did_not_win():
    shares = rejection.acceptance(np.array([0.0, 0.2, 0.9]), {"all": 0.0, "half": 0.5})
    assert [item.right for item in shares.values()] == [2, 1]


def test_calibration_before_and_after_temperature(make_settings):
    settings = make_settings(protocol="calibration")
    evaluation.run(settings)
    result = read_result(settings, "calibration")
    assert set(result["calibration"]) == {"validation", "FSDD official test"}
    test = result["calibration"]["FSDD official test"]
    predictor = Predictor(settings.decision)
    held = common.held_out_clips(settings, predictor)
    clips = np.stack([predictor.prepare(held.test.waveform(i)) for i in range(len(held.test))])
    for stage, calibrated in (("before", False), ("after", True)):
        posteriors = predictor.posteriors(clips, calibrated=calibrated)["cnn"][:, : config.REJECT]
        counted = np.array(test[stage]["cnn"]["count"])
        mean = (
            np.nansum(
                np.array([value or 0 for value in test[stage]["cnn"]["confidence"]]) * counted
            )
            / counted.sum()
        )
        assert mean == pytest.approx(posteriors.max(axis=1).mean(), abs=1e-5)
    assert predictor.checkpoints["cnn"].temperature == 2.0
