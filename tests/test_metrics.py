"""Scores against independent references and by property."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from protocols import metrics


@pytest.mark.parametrize(("right", "total"), [(0, 1), (0, 300), (298, 300), (300, 300), (7, 10)])
def test_wilson_agrees_with_scipy(right, total):
    expected = stats.binomtest(right, total).proportion_ci(method="wilson")
    assert metrics.wilson_interval(right, total) == pytest.approx(tuple(expected), abs=1e-12)


@given(st.integers(1, 5000), st.data())
def test_wilson_encloses_the_share_and_mirrors(total, data):
    right = data.draw(st.integers(0, total))
    low, high = metrics.wilson_interval(right, total)
    assert 0 <= low <= right / total <= high <= 1
    mirrored = metrics.wilson_interval(total - right, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_of_nothing_and_of_nonsense():
    assert all(math.isnan(value) for value in metrics.wilson_interval(0, 0))
    with pytest.raises(ValueError, match="no proportion"):
        metrics.wilson_interval(4, 3)


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


def _answers(seed=0, size=400):
    random = np.random.default_rng(seed)
    spoken = random.integers(0, 10, size)
    answered = np.where(random.random(size) < 0.7, spoken, random.integers(-1, 10, size))
    return spoken, answered


def test_confusion_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    spoken, answered = _answers()
    ours = metrics.confusion_matrix(spoken, answered)
    theirs = sklearn.confusion_matrix(
        spoken, np.where(answered < 0, 10, answered), labels=range(11)
    )
    np.testing.assert_array_equal(ours, theirs[:10])


def test_report_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    spoken, answered = _answers()
    labels = [str(digit) for digit in range(10)]
    ours = metrics.classification_report(metrics.confusion_matrix(spoken, answered), labels)
    theirs = sklearn.classification_report(
        spoken, answered, labels=range(10), output_dict=True, zero_division=0
    )
    for label in labels:
        for name, other in (
            ("precision", "precision"),
            ("recall", "recall"),
            ("f1", "f1-score"),
            ("support", "support"),
        ):
            assert ours["classes"][label][name] == pytest.approx(theirs[label][other])
    for average in ("macro", "weighted"):
        for name, other in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert ours[average][name] == pytest.approx(theirs[f"{average} avg"][other])
    assert ours["accuracy"] == pytest.approx(np.mean(spoken == answered))


def test_report_of_a_class_never_answered_has_no_nan():
    matrix = metrics.confusion_matrix(np.array([0, 0, 1]), np.array([0, 0, 0]))
    report = metrics.classification_report(matrix, [str(digit) for digit in range(10)])
    assert report["classes"]["1"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert report["macro"]["recall"] == pytest.approx(0.5)  # of two spoken classes, not of ten
    text = metrics.report_text(report, "three clips")
    assert "nan" not in text and text.startswith("three clips\n") and "0.6667" in text


def test_confusion_refuses_unknown_classes():
    with pytest.raises(ValueError, match="classes"):
        metrics.confusion_matrix(np.array([10]), np.array([0]))


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
def test_mcnemar_agrees_with_the_binomial_test(only_first, only_second):
    both = [True] * 50
    first = np.array(both + [True] * only_first + [False] * only_second)
    second = np.array(both + [False] * only_first + [True] * only_second)
    discordant = only_first + only_second
    expected = stats.binomtest(only_first, discordant).pvalue if discordant else 1.0
    result = metrics.mcnemar_exact(first, second)
    assert result[:2] == (only_first, only_second)
    assert result[2] == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.floats(0.05, 1))
def test_acceptance_threshold_is_the_highest_that_keeps_the_share(scores, share):
    threshold = metrics.acceptance_threshold(np.array(scores), share)
    kept = np.mean(np.array(scores) >= threshold)
    assert kept >= share - 1e-9
    higher = [score for score in scores if score > threshold]
    assert len(higher) / len(scores) < share + 1e-9


def test_acceptance_threshold_without_scores_accepts_everything():
    assert metrics.acceptance_threshold(np.zeros(0)) == 0.0
