"""Which stretches are digits: pieces, candidates and the choice among them, without networks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import audio_cleaning
import config
from recognition import segmentation
from recognition.prediction import Prediction
from recognition.segmentation import Candidates

RATE = 8000
CLEANING = config.CleaningSettings()


def sounds(*parts: tuple[float, float]) -> np.ndarray:
    """Contrast in dB (frames,) of parts of (seconds, dB)."""
    return np.concatenate([np.full(round(100 * seconds), level) for seconds, level in parts])


def predicted(digit: int, confidence: float, reject: float = 0.0) -> Prediction:
    silent = np.zeros(config.REJECT, np.float32)
    return Prediction(None, digit, confidence, False, silent, reject, {}, 1.0)


def found(contrast: np.ndarray, span: tuple[float, float] | None = None) -> Candidates:
    """The candidates of a recording with that contrast, and with that span as its speech."""
    noise = np.random.default_rng(0).normal(0, 0.1, 80 * len(contrast)).astype(np.float32)
    cleaned = audio_cleaning.clean(noise, RATE)
    span = span or (0.0, len(contrast) / 100)
    cleaned = dataclasses.replace(
        cleaned, contrast=contrast, segments=[span], speech_start_s=span[0], speech_end_s=span[1]
    )
    return segmentation.find_candidates(cleaned, len(contrast) / 100, 1.25, CLEANING)


def answer(
    candidates: Candidates, said: dict[tuple[int, int], tuple[int, float]], threshold: float = 0.5
) -> list[int]:
    """The digits accepted where the networks say that of runs of pieces, and reject all else."""
    predictions = [
        predicted(*said.get((one.first, one.last), (0, 0.1)), 0.05) for one in candidates.candidates
    ]
    return [
        segment.digit
        for segment in candidates.segments(predictions, candidates.accept(predictions, threshold))
        if segment.accepted
    ]


TWO_WORDS = sounds((0.3, 0), (0.4, 30), (0.15, 0), (0.4, 30), (0.3, 0))
WORD_WITH_A_DIP = sounds((0.3, 0), (0.3, 30), (0.04, 15), (0.3, 30), (0.3, 0))
BEEP_AND_WORD = sounds((0.3, 0), (0.3, 40), (0.5, 0), (0.4, 30), (0.3, 0))


def test_sound_is_cut_at_pauses_and_dips():
    assert segmentation.find_pieces(TWO_WORDS, 8.0) == [(30, 70), (85, 125)]
    pieces = segmentation.find_pieces(WORD_WITH_A_DIP, 8.0)
    assert len(pieces) == 2 and pieces[0][1] == pieces[1][0]
    assert segmentation.find_pieces(WORD_WITH_A_DIP, 20.0) == [(30, 94)]
    assert segmentation.find_pieces(sounds((1.0, 0)), 8.0) == []


def test_the_first_candidate_is_what_cleaning_found():
    candidates = found(TWO_WORDS, (0.24, 1.33)).candidates
    assert (candidates[0].start_s, candidates[0].end_s) == (0.24, 1.33)
    assert {(one.first, one.last) for one in candidates} == {(0, 0), (0, 1), (1, 1)}


def test_padding_does_not_reach_into_the_neighbour():
    left, right = sorted(
        found(sounds((0.3, 0), (0.4, 30), (0.04, 0), (0.4, 30), (0.3, 0))).candidates[1:],
        key=lambda one: one.start_s,
    )
    assert left.end_s == pytest.approx(0.74) and right.start_s == pytest.approx(0.70)


def test_two_digits_are_both_accepted_even_if_the_whole_is_taken_for_one():
    said = {(0, 0): (3, 0.95), (1, 1): (7, 0.97), (0, 1): (7, 0.999)}
    assert answer(found(TWO_WORDS), said) == [3, 7]


def test_a_word_with_a_closure_stays_one():
    said = {(0, 0): (6, 0.9), (1, 1): (8, 0.9), (0, 1): (6, 0.97)}
    assert answer(found(WORD_WITH_A_DIP), said) == [6]


def test_a_word_that_is_a_digit_as_a_whole_is_not_cut_without_a_pause():
    said = {(0, 0): (8, 0.999), (1, 1): (2, 0.999), (0, 1): (3, 0.69)}
    assert answer(found(WORD_WITH_A_DIP), said) == [3]
    assert answer(found(TWO_WORDS), said) == [8, 2]


def test_digits_without_a_pause_between_need_more_confidence():
    assert answer(found(WORD_WITH_A_DIP), {(0, 0): (2, 0.95), (1, 1): (1, 0.95)}) == []
    assert answer(found(WORD_WITH_A_DIP), {(0, 0): (2, 0.995), (1, 1): (1, 0.995)}) == [2, 1]


def test_half_of_a_word_is_no_digit():
    assert answer(found(WORD_WITH_A_DIP), {(0, 0): (7, 0.999)}) == []


def test_a_digit_after_another_sound_is_accepted():
    assert answer(found(BEEP_AND_WORD), {(1, 1): (4, 0.7)}) == [4]
    near = sounds((0.3, 0), (0.3, 40), (0.12, 0), (0.4, 30), (0.3, 0))
    assert answer(found(near), {(1, 1): (4, 0.7)}) == [], "so near, it may be half of a word"
    assert answer(found(near), {(1, 1): (4, 0.995)}) == [4]


def test_the_whole_needs_the_threshold_only():
    said = {(0, 1): (6, 0.58)}
    assert answer(found(WORD_WITH_A_DIP), said, 0.57) == [6]
    assert answer(found(WORD_WITH_A_DIP), said, 0.75) == []


def test_a_click_beside_a_word_vetoes_nothing():
    clicked = sounds((0.3, 0), (0.06, 40), (0.02, 0), (0.4, 30), (0.3, 0))
    candidates = found(clicked, (0.32, 0.84))
    assert answer(candidates, {(0, 0): (4, 0.99), (1, 1): (4, 0.99)}) == [4]


def test_a_beep_is_no_speech_and_vetoes_nothing():
    time = np.arange(RATE) / RATE
    beep = (0.1 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    vowel = sum(0.1 / n * np.sin(2 * np.pi * 120 * n * time + n) for n in range(1, 20))
    for sound, speech in ((beep, False), (vowel.astype(np.float32), True)):
        cleaned = audio_cleaning.clean(sound, RATE)
        assert segmentation.may_be_speech(cleaned, (20, 50), 1.0) == speech
        assert not segmentation.may_be_speech(cleaned, (20, 25), 1.0), "as short as a click"


def test_long_speech_with_a_pause_is_no_single_digit():
    long = sounds((0.3, 0), (0.7, 30), (0.2, 0), (0.7, 30), (0.3, 0))
    assert answer(found(long, (0.24, 1.98)), {(0, 1): (5, 0.999)}) == []


def test_what_is_left_over_is_told_as_no_digit():
    candidates = found(BEEP_AND_WORD)
    predictions = [predicted(4, 0.99 if one.first == 1 else 0.2) for one in candidates.candidates]
    segments = candidates.segments(predictions, candidates.accept(predictions, 0.5))
    assert [segment.digit for segment in segments] == [None, 4]
    assert segments[0].end_s <= segments[1].start_s


def test_candidates_are_bounded():
    chatter = sounds(*[(0.1, 30), (0.05, 0)] * 400)
    candidates = found(chatter).candidates
    limit = segmentation.CANDIDATES + segmentation.CANDIDATES_PER_S * 60
    assert 100 < len(candidates) <= limit + 1


def test_trimmed_and_silent_recordings_have_one_candidate():
    assert len(found(sounds((0.3, 30), (0.1, 0), (0.25, 30))).candidates) == 1
    assert len(segmentation.whole_recording(1.0).candidates) == 1


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.03, 0.6), st.floats(-5, 50)), min_size=1, max_size=12),
    st.integers(0, 100),
)
def test_accepted_digits_never_overlap(parts, seed):
    candidates = found(sounds(*parts, (0.1, 0)))
    random = np.random.default_rng(seed)
    predictions = [
        predicted(int(random.integers(10)), float(random.uniform(0.3, 1)))
        for _ in candidates.candidates
    ]
    accepted = [candidates.candidates[i] for i in candidates.accept(predictions, 0.5)]
    assert all(a.last < b.first for a, b in zip(accepted[:-1], accepted[1:], strict=True))
    segments = candidates.segments(predictions, candidates.accept(predictions, 0.5))
    assert sum(segment.accepted for segment in segments) == len(accepted)
