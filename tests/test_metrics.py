"""Scores against independent references and by property."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from protocols import metrics, tables


@pytest.mark.parametrize(("right", "total"), [(0, 1), (0, 300), (298, 300), (300, 300), (7, 10)])
def test_interval_is_wilsons(right, total):
    z = stats.norm.ppf(0.975)
    share, square = right / total, z * z / total
    centre = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / total + square / (4 * total))
    result = metrics.proportion(np.arange(total) < right)
    assert (result.right, result.total, result.value) == (right, total, share)
    assert (result.low, result.high) == pytest.approx((centre - half, centre + half), abs=1e-12)


@given(st.integers(1, 5000), st.data())
def test_interval_encloses_the_share_and_mirrors(total, data):
    right = data.draw(st.integers(0, total))
    result = metrics.proportion(np.arange(total) < right)
    assert 0 <= result.low <= right / total <= result.high <= 1
    mirrored = metrics.proportion(np.arange(total) >= right)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - result.high, 1 - result.low))


def test_interval_of_nothing():
    empty = metrics.proportion([])
    assert empty.total == 0 and all(map(math.isnan, (empty.value, empty.low, empty.high)))


def test_macro_average_counts_each_part_the_same():
    parts = [metrics.proportion(np.arange(10) < 9), metrics.proportion(np.arange(1000) < 500)]
    macro = metrics.macro_average(parts)
    assert macro.value == pytest.approx(0.7)
    assert (macro.right, macro.total) == (509, 1010)
    assert macro.low < 0.7 < macro.high
    # half as wide as the ten clips' own interval, and a little more for the thousand
    assert 0.5 < (macro.high - macro.low) / (parts[0].high - parts[0].low) < 0.6


def test_macro_average_of_one_part_is_that_part_and_skips_empty_ones():
    part, empty = metrics.proportion([True, False, True]), metrics.proportion([])
    macro = metrics.macro_average([part, empty])
    assert (macro.value, macro.low, macro.high) == pytest.approx((part.value, part.low, part.high))
    assert math.isnan(metrics.macro_average([empty]).value)


def _guesses(seed=0, size=400):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, size)
    return labels, np.where(random.random(size) < 0.7, labels, random.integers(-1, 10, size))


def test_confusion_counts_every_clip_and_keeps_no_speech_apart():
    labels, guesses = _guesses()
    matrix = metrics.confusion_matrix(labels, guesses)
    assert matrix.shape == (10, 11) and matrix.sum() == len(labels)
    for label, guess in ((3, 3), (3, 7), (9, 0)):
        assert matrix[label, guess] == np.sum((labels == label) & (guesses == guess))
    np.testing.assert_array_equal(
        matrix[:, 10], [np.sum(guesses[labels == label] == -1) for label in range(10)]
    )


def test_report_follows_from_the_confusion_matrix():
    labels, guesses = _guesses()
    matrix, report = (
        metrics.confusion_matrix(labels, guesses),
        metrics.classification_report(labels, guesses),
    )
    hits = matrix.diagonal()
    precision, recall = hits / matrix[:, :10].sum(axis=0), hits / matrix.sum(axis=1)
    f1 = 2 * precision * recall / (precision + recall)
    for index, row in enumerate(report["classes"].values()):
        expected = (precision[index], recall[index], f1[index], matrix[index].sum())
        assert tuple(row.values()) == pytest.approx(expected)
    assert list(report["macro"].values()) == pytest.approx(
        [values.mean() for values in (precision, recall, f1)]
    )
    assert report["weighted"]["recall"] == pytest.approx(report["accuracy"])
    assert report["accuracy"] == pytest.approx(hits.sum() / 400) and report["total"] == 400


def test_report_of_a_digit_never_guessed_has_no_nan():
    report = metrics.classification_report(np.array([0, 0, 1]), np.array([0, 0, -1]))
    assert report["classes"]["1"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    text = tables.report_text(report)
    assert "nan" not in text.lower() and "0.6667" in text and len(text.splitlines()) == 14


def test_calibration_error_by_hand():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([1, 1, 1, 0, 1, 0])
    result = metrics.expected_calibration_error(confidence, right, n_bins=10)
    assert result.error == pytest.approx((4 * 0.20 + 2 * 0.05) / 6)
    assert result.count[9] == 4 and result.count[5] == 2 and result.count.sum() == 6
    assert result.accuracy[9] == pytest.approx(0.75) and math.isnan(result.accuracy[0])


def test_calibration_bins_close_at_the_top():
    result = metrics.expected_calibration_error(np.array([0.0, 0.2, 0.2001, 1.0]), np.ones(4), 5)
    np.testing.assert_array_equal(result.count, [2, 1, 0, 0, 1])


@given(st.integers(0, 10_000))
def test_drawn_from_its_own_confidence_a_recogniser_is_calibrated(seed):
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.1, 1, 20_000)
    result = metrics.expected_calibration_error(confidence, random.random(20_000) < confidence)
    assert result.error < 0.025
    assert metrics.expected_calibration_error(confidence, np.zeros(20_000)).error == pytest.approx(
        confidence.mean()
    )


def test_calibration_of_nothing_and_of_nonsense():
    assert math.isnan(metrics.expected_calibration_error(np.zeros(0), np.zeros(0)).error)
    with pytest.raises(ValueError, match="confidence"):
        metrics.expected_calibration_error(np.array([1.5]), np.array([True]))


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (3, 0), (5, 2), (10, 30), (1, 1)])
def test_mcnemar_is_the_exact_test_of_the_discordant_clips(only_first, only_second):
    both = [True] * 50
    first = np.array(both + [True] * only_first + [False] * only_second)
    second = np.array(both + [False] * only_first + [True] * only_second)
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    *counts, p = metrics.mcnemar_exact(first, second)
    assert counts == [only_first, only_second]
    assert p == pytest.approx(min(1.0, 2 * tail / 2**discordant))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.floats(0.05, 1))
def test_acceptance_threshold_is_the_highest_that_keeps_the_share(scores, share):
    threshold = metrics.acceptance_threshold(np.array(scores), share)
    kept = np.mean(np.array(scores) >= threshold)
    assert kept >= share - 1e-9
    higher = [score for score in scores if score > threshold]
    assert len(higher) / len(scores) < share + 1e-9


def test_acceptance_threshold_without_scores_accepts_everything():
    assert metrics.acceptance_threshold(np.zeros(0)) == 0.0
