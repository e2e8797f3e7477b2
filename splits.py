"""Who trains and who is tested: splits of labelled clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import config
from corpora.clips import Clips

OFFICIAL_TEST_TAKES = 5
"""Takes 0 to 4 of each digit and speaker are FSDD's test set, says its README."""
RANDOM_TEST_FRACTION = 0.2
"""Share of the clips that the random split tests on."""


@dataclass(frozen=True)
class Split:
    """Three sets of clips that share none; each holds sorted indices, int64."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def make_split(clips: Clips, data: config.DataSettings, seed: int) -> Split:
    """The split that ``data.split`` names."""
    if data.split == "speaker":
        return speaker_split(clips, data.test_speaker, data.validation_fraction, seed)
    split = {"official": official_split, "random": random_split}[data.split]
    return split(clips, data.validation_fraction, seed)


def official_split(clips: Clips, validation_fraction: float, seed: int) -> Split:
    """Test on takes 0 to 4 of each digit and speaker; validate on some of the other takes.

    Parameters
    ----------
    clips : the recordings
    validation_fraction : share of the other takes, balanced over digits and speakers
    seed : of the choice of the validation takes; the test set doesn't depend on it

    Raises
    ------
    UserError : no such takes, or nothing else
    """
    return _carve(
        clips, clips.takes < OFFICIAL_TEST_TAKES, validation_fraction, seed, "takes 0 to 4"
    )


def speaker_split(clips: Clips, speaker: str, validation_fraction: float, seed: int) -> Split:
    """Leave one speaker out: test on all clips of `speaker`, train and validate on the others.

    Raises
    ------
    UserError : nobody of that name, or nobody else
    """
    if speaker not in clips.speakers:
        known = ", ".join(np.unique(clips.speakers)[:20])
        raise config.UserError(f"no speaker {speaker!r} in the data; there are {known}")
    return _carve(clips, clips.speakers == speaker, validation_fraction, seed, f"{speaker}'s clips")


def random_split(clips: Clips, validation_fraction: float, seed: int) -> Split:
    """Test on a fifth of the clips, drawn by digit and speaker.

    The same speakers are in training and test and the takes are near-copies of one another, so
    this flatters; it is here to compare with others' figures only.
    """
    rng = np.random.default_rng([seed, 1])  # another stream than that of the validation set
    test = np.zeros(len(clips), bool)
    test[_stratified(clips, np.arange(len(clips)), RANDOM_TEST_FRACTION, rng)] = True
    return _carve(clips, test, validation_fraction, seed, "a fifth of the clips")


def _carve(clips: Clips, test: np.ndarray, fraction: float, seed: int, what: str) -> Split:
    """Share out what is not in `test`, bool (n,), between training and validation."""
    rest = np.flatnonzero(~test)
    validation = _stratified(clips, rest, fraction, np.random.default_rng(seed))
    train = np.setdiff1d(rest, validation)
    if not (test.any() and len(validation) and len(train)):
        raise config.UserError(
            f"{len(clips)} clips are too few to test on {what}: the test, "
            "validation or training set would be empty"
        )
    return Split(train, validation, np.flatnonzero(test))


def _stratified(
    clips: Clips, indices: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw round(fraction x size) clips of each digit and speaker; sorted indices.

    Where that would give none of some digit and speaker, the speakers are pooled; where it would
    give none of some digit, so are the digits.
    """
    digits = np.unique(clips.labels[indices], return_inverse=True)[1]
    speakers = np.unique(clips.speakers[indices], return_inverse=True)[1]
    for cells in (digits * (speakers.max(initial=0) + 1) + speakers, digits, np.zeros_like(digits)):
        sizes = np.unique(cells, return_counts=True)[1]
        if fraction * sizes.min(initial=len(indices)) >= 0.5:
            break
    drawn = []
    for cell in np.unique(cells):
        members = rng.permutation(indices[cells == cell])
        drawn.append(members[: int(fraction * len(members) + 0.5)])  # halves are rounded up
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, np.int64)
