"""Temperatures and thresholds on logits whose right answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import config
from recognition import calibration


def draw(temperature: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits `temperature` times too large, with targets drawn from the true posteriors."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (count, config.N_ANSWERS))
    cumulated = calibration.softmax(logits).cumsum(axis=1)
    targets = (random.random((count, 1)) > cumulated).sum(axis=1)
    return logits * temperature, targets


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_was_put_in_is_found(temperature, monkeypatch):
    logits, targets = draw(temperature)
    monkeypatch.setattr(calibration, "NO_DIGIT_SHARE", (targets == config.REJECT).mean())
    found, bias = calibration.fit(logits, targets)
    assert found == pytest.approx(temperature, rel=0.05) and abs(bias) < 0.1


def test_the_bias_undoes_a_validation_set_full_of_other_words(monkeypatch):
    logits, targets = draw(1.0)
    monkeypatch.setattr(calibration, "NO_DIGIT_SHARE", 0.02)
    temperature, bias = calibration.fit(logits, targets)
    share = (targets == config.REJECT).mean()
    expected = np.log(0.02 / 0.98) - np.log(share / (1 - share))
    assert bias == pytest.approx(expected, abs=0.15) and temperature == pytest.approx(1, rel=0.1)
    posteriors = calibration.calibrated(logits, temperature, bias)
    assert posteriors[:, config.REJECT].mean() < share / 2
    np.testing.assert_allclose(posteriors.sum(1), 1)


def test_no_clips_and_clips_of_one_kind_leave_the_bias_alone():
    assert calibration.fit(np.zeros((0, 11)), np.zeros(0, int)) == (1.0, 0.0)
    logits, targets = draw(2.0)
    digits = targets != config.REJECT
    assert calibration.fit(logits[digits], targets[digits])[1] == 0.0


@given(share=st.floats(0.5, 0.99))
@settings(max_examples=20, deadline=None)
def test_the_threshold_accepts_the_share_asked_for(share):
    logits, targets = draw(1.0, 4000)
    posteriors = calibration.softmax(logits)
    threshold = calibration.fit_threshold(posteriors, targets, share)
    digits = posteriors[:, : config.REJECT]
    right = (digits.argmax(1) == targets) & (targets != config.REJECT)
    assert (digits[right].max(1) >= threshold).mean() == pytest.approx(share, abs=0.01)


def test_softmax_survives_large_logits():
    assert calibration.softmax(np.array([[1000.0, 0.0]])).tolist() == [[1.0, 0.0]]
