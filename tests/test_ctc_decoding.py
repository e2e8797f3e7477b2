"""Posteriors of frames to strings: best path, prefix beam search, alignment."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import config
from recognition import ctc_decoding

BLANK = 11
"""Of folded posteriors."""


def frames_of(labels, sure=0.97):
    """Posteriors, (frames, 12), whose best path is `labels`."""
    rest = (1 - sure) / 11
    return np.array([[sure if item == label else rest for item in range(12)] for label in labels])


def test_repeats_survive_where_a_blank_parts_them():
    found = list(ctc_decoding.best_path(frames_of([2, 2, BLANK, 2, 7, 7])))
    assert [token.label for token in found] == [2, 2, 7]
    assert [(token.first, token.last) for token in found] == [(0, 1), (3, 3), (4, 5)]
    assert all(token.confidence == pytest.approx(0.97) for token in found)


def test_oh_is_zero_or_other_speech():
    posteriors = np.zeros((1, config.N_FRAME_CLASSES))
    posteriors[0, config.OH], posteriors[0, 3] = 0.8, 0.2
    assert ctc_decoding.fold_oh(posteriors, True)[0].argmax() == 0
    assert ctc_decoding.fold_oh(posteriors, False)[0].argmax() == config.REJECT
    assert ctc_decoding.fold_oh(posteriors, True).shape == (1, 12)


def total_probability(posteriors, wanted):
    """Of a string, by adding up every path: only for few frames."""
    total = 0.0
    for path in itertools.product(range(12), repeat=len(posteriors)):
        quiet = [BLANK if label == config.REJECT else label for label in path]
        collapsed = [label for label, _ in itertools.groupby(quiet) if label != BLANK]
        if tuple(collapsed) == wanted:
            total += math.prod(posteriors[frame, label] for frame, label in enumerate(path))
    return total


def test_beam_search_adds_up_all_paths():
    posteriors = np.random.default_rng(0).dirichlet(np.full(12, 0.3), size=4)
    strings = ctc_decoding.n_best(posteriors, beam=10_000)
    best, chance = strings[0]
    assert math.exp(chance) == pytest.approx(total_probability(posteriors, best), rel=2e-3)
    assert [one for _, one in strings] == sorted((one for _, one in strings), reverse=True)


def test_beam_search_finds_what_the_best_path_misses():
    # blank is likelier than 5 in each frame, yet the paths with one 5 are likelier together
    posteriors = np.zeros((2, 12))
    posteriors[:, BLANK], posteriors[:, 5] = 0.6, 0.4
    assert list(ctc_decoding.best_path(posteriors)) == []
    assert ctc_decoding.n_best(posteriors)[0][0] == (5,)


@given(st.lists(st.integers(0, 9), max_size=8), st.lists(st.integers(0, 9), max_size=8))
@settings(max_examples=60, deadline=None)
def test_alignment_counts_as_the_edit_distance_does(said, heard):
    substituted, deleted, inserted = ctc_decoding.align(said, heard)
    assert len(said) - deleted + inserted == len(heard)
    assert (substituted + deleted + inserted == 0) == (said == heard)
    assert sum(ctc_decoding.align(said, heard)) == sum(ctc_decoding.align(heard, said))
    assert sum(ctc_decoding.align(said, heard)) <= max(len(said), len(heard))


def test_a_string_is_found_in_its_frames():
    posteriors = frames_of([BLANK, 4, 4, BLANK, 4, BLANK, 9, BLANK])
    found = ctc_decoding.aligned(posteriors, [4, 4, 9])
    assert [(token.label, token.first) for token in found] == [(4, 1), (4, 4), (9, 6)]
    assert found[0].last == 2
    assert ctc_decoding.aligned(posteriors[:2], [1, 2, 3]) == []
