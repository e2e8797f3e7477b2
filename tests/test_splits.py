"""Splits: nothing in two sets, nothing left out, balanced, and repeatable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import config
from corpora.clips import Clips
from dataset_loader import Split, make_split, official_split, random_split, speaker_split

FRACTIONS = st.floats(0.02, 0.5)
SEEDS = st.integers(0, 2**31)


def labelled(digits, speakers, takes) -> Clips:
    """Clips of one sample each with these labels."""
    count = len(digits)
    names = [f"clip{i}" for i in range(count)]
    return Clips(
        np.zeros(count),
        np.arange(count + 1),
        digits,
        speakers,
        names,
        takes,
        ["test"] * count,
        8000,
    )


def full(n_speakers: int, n_takes: int, seed: int = 0) -> Clips:
    """Every digit by every speaker in every take, in random order."""
    grid = np.indices((10, n_speakers, n_takes)).reshape(3, -1)
    digits, speakers, takes = np.random.default_rng(seed).permutation(grid, axis=1)
    return labelled(digits, np.array([f"speaker{i}" for i in speakers]), takes)


FULL = st.builds(full, st.integers(2, 6), st.integers(6, 30), SEEDS)
ROWS = st.lists(
    st.tuples(st.integers(0, 10), st.sampled_from("abcdef"), st.integers(0, 12)),
    min_size=1,
    max_size=80,
)


def assert_partition(split: Split, clips: Clips) -> None:
    together = np.concatenate([split.train, split.validation, split.test])
    assert np.array_equal(np.sort(together), np.arange(len(clips)))
    for part in (split.train, split.validation, split.test):
        assert len(part) and part.dtype == np.int64 and (np.diff(part) > 0).all()


def cell_counts(clips: Clips, indices: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Clips of each digit and speaker that occurs in `of`."""
    cells = {(clips.labels[i], clips.speakers[i]) for i in of}
    return np.array(
        [sum((clips.labels[i], clips.speakers[i]) == cell for i in indices) for cell in cells]
    )


@given(FULL, FRACTIONS, SEEDS)
def test_official_tests_on_takes_0_to_4_and_shares_out_the_rest_evenly(clips, fraction, seed):
    takes = len(set(clips.takes))
    assume(fraction * (takes - 5) >= 0.5 and takes > 6)
    split = official_split(clips, fraction, seed)
    assert_partition(split, clips)
    assert set(clips.takes[split.test]) == {0, 1, 2, 3, 4}
    assert (clips.takes[split.train] > 4).all() and (clips.takes[split.validation] > 4).all()
    counts = cell_counts(clips, split.validation, split.train)
    assert counts.min() == counts.max()
    assert abs(counts[0] - fraction * (takes - 5)) <= 0.5 + 1e-6


@given(FULL, FRACTIONS, SEEDS)
def test_speaker_keeps_one_speaker_out_of_training_and_validation(clips, fraction, seed):
    assume(fraction * len(set(clips.takes)) >= 0.5)
    split = speaker_split(clips, "speaker1", fraction, seed)
    assert_partition(split, clips)
    assert set(clips.speakers[split.test]) == {"speaker1"}
    assert "speaker1" not in clips.speakers[np.append(split.train, split.validation)]
    per_digit = np.bincount(clips.labels[split.validation], minlength=10)
    assert per_digit.min() == per_digit.max()


@given(FULL, FRACTIONS, SEEDS)
def test_random_tests_on_a_fifth_of_each_digit_and_speaker(clips, fraction, seed):
    split = random_split(clips, fraction, seed)
    assert_partition(split, clips)
    counts = cell_counts(clips, split.test, split.train)
    assert counts.min() == counts.max()
    assert abs(counts[0] - 0.2 * len(set(clips.takes))) <= 0.5 + 1e-6


@given(ROWS, FRACTIONS, SEEDS, st.sampled_from(["official", "speaker", "random"]))
def test_any_set_is_split_without_overlap_or_refused(rows, fraction, seed, chosen):
    clips = labelled(*map(np.array, zip(*rows, strict=True)))
    data = config.DataSettings(split=chosen, validation_fraction=fraction, test_speaker="a")
    try:
        split = make_split(clips, data, seed)
    except config.UserError:
        return
    assert_partition(split, clips)


@given(SEEDS)
def test_the_same_seed_gives_the_same_split_and_the_test_set_is_fixed(seed):
    clips = full(3, 20)
    once, again, other = (official_split(clips, 0.2, s) for s in (seed, seed, seed + 1))
    assert np.array_equal(once.validation, again.validation)
    assert not np.array_equal(once.validation, other.validation)
    assert np.array_equal(once.test, other.test)


def test_sizes_on_a_set_of_the_size_of_fsdd():
    clips = full(6, 50)
    for split, sizes in (
        (official_split(clips, 0.1, 0), (2400, 300, 300)),
        (speaker_split(clips, "speaker5", 0.1, 0), (2250, 250, 500)),
        (random_split(clips, 0.1, 0), (2160, 240, 600)),
    ):
        assert (len(split.train), len(split.validation), len(split.test)) == sizes


def test_speakers_who_say_each_digit_once_are_pooled():
    clips = full(40, 1)
    split = random_split(clips, 0.25, 3)
    assert_partition(split, clips)
    assert np.bincount(clips.labels[split.test]).tolist() == [8] * 10


def test_an_unknown_speaker_is_refused_with_the_known_ones():
    with pytest.raises(config.UserError, match="no speaker 'nobody'.*speaker0, speaker1"):
        speaker_split(full(2, 6), "nobody", 0.1, 0)


def test_one_speaker_alone_can_not_be_left_out():
    with pytest.raises(config.UserError, match="too few to test on speaker0's clips"):
        speaker_split(full(1, 6), "speaker0", 0.1, 0)
