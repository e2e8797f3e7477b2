"""Results, groups, the vote's ablation, and tables."""

import json

import numpy as np
import pytest

import utils
from protocols import metrics, scoring, tables
from protocols.scoring import ClipResults


def results(cnn, rnn, vote, digits=None, **changes):
    """Results of as many clips as `vote` has entries; all zeros spoken by default."""
    count = len(vote)
    guesses = {"cnn": cnn, "rnn": rnn, "vote": vote}
    values = {
        "labels": np.zeros(count, np.int64) if digits is None else np.array(digits),
        "speakers": np.array(["ada", "bob"] * count)[:count],
        "names": np.array([f"clip {index}" for index in range(count)]),
        "guesses": {name: np.array(column) for name, column in guesses.items()},
        "confidence": {name: np.linspace(0.5, 0.9, count) for name in guesses},
        "reject": np.full(count, 0.05),
        "accepted": np.ones(count, bool),
    }
    return ClipResults(**(values | changes))


def test_accuracies_and_groups_count_the_best_digit():
    given = results([0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, -1])
    assert {name: item.right for name, item in scoring.accuracies(given).items()} == {
        "cnn": 3,
        "rnn": 2,
        "vote": 2,
    }
    groups = scoring.grouped(given, given.speakers)
    assert groups["ada"]["cnn"].right == 1 and groups["bob"]["rnn"].right == 1
    assert list(groups) == ["ada", "bob"] and groups["ada"]["vote"].total == 2


def test_silence_is_never_right_even_where_zero_was_spoken():
    given = results([-1], [-1], [-1])
    assert not given.right("vote").any()


def test_json_and_back():
    given = results([0, 1], [1, 1], [0, 1], digits=[0, 1])
    back = ClipResults.from_json(json.loads(json.dumps(given.to_json())))
    np.testing.assert_array_equal(back.guesses["rnn"], [1, 1])
    np.testing.assert_array_equal(back.right("cnn"), given.right("cnn"))
    assert back.accepted.dtype == bool and scoring.accuracies(back) == scoring.accuracies(given)


def test_folds_saved_when_labels_were_called_digits_are_read():
    saved = results([0, 1], [1, 1], [0, 1], digits=[0, 1]).to_json()
    saved["digits"] = saved.pop("labels")
    np.testing.assert_array_equal(ClipResults.from_json(saved).labels, [0, 1])


def test_joined_results_are_those_of_the_parts():
    first, second = results([0], [0], [0]), results([1, 1], [0, 1], [0, 1])
    joined = scoring.join([first, second])
    assert len(joined) == 3
    np.testing.assert_array_equal(joined.guesses["cnn"], [0, 1, 1])
    assert scoring.accuracies(joined)["vote"].right == 2


@pytest.mark.parametrize(
    ("vote", "expected"),
    [
        ([0] * 30, "Voting helps here."),
        ([0] * 3 + [1] * 27, "Voting gains no more than chance may give."),
        ([1] * 30, "Voting gains nothing here."),
    ],
)
def test_the_vote_against_the_better_network(vote, expected):
    gain = scoring.vote_gain(results([1] * 30, [1] * 30, vote))
    assert gain["statement"].endswith(expected)
    assert gain["only_vote_right"] == vote.count(0) and gain["only_better_right"] == 0


@pytest.mark.parametrize(
    ("wrong", "expected"), [(2, "loses here (which may be chance)."), (20, "Voting loses here.")]
)
def test_a_vote_that_loses_says_so(wrong, expected):
    gain = scoring.vote_gain(results([0] * 30, [1] * 30, [1] * wrong + [0] * (30 - wrong)))
    assert gain["statement"].endswith(expected)
    assert gain["better"] == "cnn" and gain["difference_points"] == pytest.approx(-100 * wrong / 30)


def test_equal_exchange_gains_nothing():
    gain = scoring.vote_gain(results([0, 1, 0], [1, 1, 1], [1, 0, 0]))
    assert (gain["only_vote_right"], gain["only_better_right"]) == (1, 1)
    assert gain["statement"].endswith("Voting gains nothing here.") and gain["p"] == 1


def test_one_network_has_nothing_to_vote_on():
    given = results([0], [0], [0])
    given.guesses.pop("rnn")
    assert "only one network" in scoring.vote_gain(given)["statement"]


def test_score_is_zero_where_no_digit_won():
    given = results([0, 0], [0, 0], [0, 0], reject=np.array([0.1, 0.95]))
    np.testing.assert_allclose(given.score(), [0.5, 0.0])


def test_wrong_clips_hold_every_prediction():
    wrong = scoring.wrong_clips(results([0, 0], [0, 3], [0, 0]))
    assert wrong.to_dict("records") == [
        {
            "name": "clip 1",
            "speaker": "bob",
            "spoken": 0,
            "cnn": 0,
            "cnn_confidence": 0.9,
            "rnn": 3,
            "rnn_confidence": 0.9,
            "vote": 0,
            "vote_confidence": 0.9,
            "accepted": True,
        }
    ]


def test_without_a_wrong_clip_the_csv_file_still_has_its_columns():
    wrong = scoring.wrong_clips(results([0, 0], [0, 0], [0, 0]))
    columns = "cnn,cnn_confidence,rnn,rnn_confidence,vote,vote_confidence"
    assert tables.csv(wrong, index=False) == f"name,speaker,spoken,{columns},accepted\n"
    assert utils.json_value({"wrong": wrong}) == {"wrong": []}


def test_tables_line_up():
    text = tables.accuracy_table(
        "corpus", {"long name": scoring.accuracies(results([0, 1], [0, 0], [0, 0]))}
    )
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines) == 3
    assert "50.00 [9.5, 90.5]" in text and "BiLSTM %" in text


def test_plain_values_are_strict_json():
    values = {"share": metrics.proportion([]), 3: np.float32(0.5), "list": (np.arange(2), None)}
    text = json.dumps(utils.json_value(values), allow_nan=False)
    assert json.loads(text) == {
        "share": {"right": 0, "total": 0, "value": None, "low": None, "high": None},
        "3": 0.5,
        "list": [[0, 1], None],
    }
