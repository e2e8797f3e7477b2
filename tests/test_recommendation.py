"""What is recommended for which use, from figures that were measured."""

import pytest

from protocols.recommendation import pareto_front, recommend


def row(model, unseen, latency_ms, megabytes, **more):
    return {
        "model": model,
        "official": 99.0,
        "unseen": unseen,
        "latency_ms": latency_ms,
        "megabytes": megabytes,
        "calibration_error": 2.0,
        **more,
    }


ROWS = [
    row("resnet", 95.0, 20.0, 10.0, noise_10_db=90.0, false_accepts_words=5.0),
    row("cnn", 94.5, 4.0, 0.6, noise_10_db=92.0, false_accepts_words=9.0),
    row("lightweight", 93.5, 1.0, 0.25, noise_10_db=85.0, false_accepts_words=20.0),
    row("mlp", 70.0, 0.2, 1.4, noise_10_db=50.0, false_accepts_words=50.0),
]


@pytest.mark.parametrize(
    ("use_case", "name", "because"),
    [
        ("accuracy", "resnet", "95.00 % on unseen speakers is the most of 4"),
        ("speed", "lightweight", "1.00 ms a clip is the least of the 3"),
        ("balanced", "cnn", "cost 2.18 points"),
        ("production", "cnn", "of those that answer within 15 ms"),
    ],
)
def test_each_use_has_its_rule(use_case, name, because):
    advice = recommend(ROWS, use_case)
    assert (advice.use_case, advice.name) == (use_case, name)
    assert because in advice.reason


def test_without_unseen_speakers_the_official_test_counts():
    rows = [row("cnn", None, 5, 1) | {"official": 98.0}, row("mlp", None, 1, 1) | {"official": 97}]
    advice = recommend(rows, "accuracy")
    assert advice.name == "cnn" and "the official test" in advice.reason
    assert recommend(rows, "production").name == "cnn"


def test_where_nothing_answers_in_time_the_reason_says_so():
    advice = recommend([row("resnet", 95.0, 200.0, 10.0)], "production")
    assert "none answers within 15 ms" in advice.reason


def test_equally_accurate_means_the_faster():
    rows = [row("resnet", 95.0, 20.0, 10.0), row("cnn", 95.0, 4.0, 0.6)]
    assert recommend(rows, "accuracy").name == "cnn"


def test_the_pareto_front_holds_what_nothing_beats_in_both():
    costs, gains = [4, 1, 2, 3, 1], [9, 5, 8, 7, 4]
    assert pareto_front(costs, gains) == [1, 2, 0]
    for index in set(range(5)) - {0, 1, 2}:
        assert any(costs[i] <= costs[index] and gains[i] > gains[index] for i in (0, 1, 2))
