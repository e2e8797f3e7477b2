"""Connectionist temporal classification read out: from posteriors of frames to strings of digits.

Graves et al. 2006 (best path), Hannun et al. 2014 (prefix beam search). Pure NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import config

BEAM = 12
"""Prefixes that a search keeps."""
LEAST = 1e-4
"""Posterior under which a class is not tried in a frame."""


@dataclass(frozen=True)
class Token:
    """A word in a row of frames: a digit, other speech or "oh"."""

    label: int
    """0 to 9, or config.REJECT."""
    first: int
    """Frame with which it begins."""
    last: int
    """Its last frame."""
    confidence: float
    """The highest posterior that it has in a frame, 0 to 1."""


def fold_oh(posteriors: np.ndarray, as_zero: bool) -> np.ndarray:
    """Add "oh" to zero or to other speech: (frames, 13) -> (frames, 12), the last being blank."""
    target = 0 if as_zero else config.REJECT
    folded = np.delete(posteriors, config.OH, axis=1)
    folded[:, target] += posteriors[:, config.OH]
    return folded


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the posteriors, over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def best_path(posteriors: np.ndarray) -> Iterator[Token]:
    """The words along the likeliest class of each frame, (frames, classes); the last is blank."""
    reader = PathReader()
    for frame in posteriors:
        if (token := reader.feed(frame)) is not None:
            yield token
    if (token := reader.flush()) is not None:
        yield token


class PathReader:
    """The best path of frames that come one at a time."""

    def __init__(self) -> None:
        self.frames = 0
        self._open: Token | None = None

    def feed(self, posteriors: np.ndarray) -> Token | None:
        """Take the next frame, (classes,); returns a word that has ended with the one before."""
        label = int(posteriors.argmax())
        number, self.frames = self.frames, self.frames + 1
        is_blank, confidence = label == len(posteriors) - 1, float(posteriors[label])
        ended = None
        if self._open is not None and not is_blank and label == self._open.label:
            confidence = max(confidence, self._open.confidence)
            self._open = Token(label, self._open.first, number, confidence)
            return None
        ended, self._open = self._open, None
        if not is_blank:
            self._open = Token(label, number, number, confidence)
        return ended

    @property
    def speaking(self) -> bool:
        """Whether a word is under way."""
        return self._open is not None

    def flush(self) -> Token | None:
        """The word that had not ended."""
        ended, self._open = self._open, None
        return ended


def n_best(posteriors: np.ndarray, beam: int = BEAM) -> list[tuple[tuple[int, ...], float]]:
    """The likeliest strings of digits and the logarithm of each one's probability, best first.

    Parameters
    ----------
    posteriors : (frames, 12): ten digits, other speech, blank. Other speech counts as blank that
        parts two digits: only digits are read
    beam : prefixes that are kept

    Returns
    -------
    strings : each string, as digits, with its logarithmic probability
    """
    blank = len(posteriors[0]) - 1 if len(posteriors) else 0
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -math.inf)}
    for frame in posteriors:
        quiet = math.log(max(float(frame[blank] + frame[config.REJECT]), 1e-30))
        candidates = [
            (digit, math.log(float(frame[digit])))
            for digit in range(len(config.DIGITS))
            if frame[digit] > LEAST
        ]
        beams = _best(_extended(beams, quiet, candidates), beam)
    return [(prefix, _total(ends)) for prefix, ends in beams.items()]


def _extended(
    beams: dict[tuple[int, ...], tuple[float, float]],
    quiet: float,
    candidates: Sequence[tuple[int, float]],
) -> dict[tuple[int, ...], tuple[float, float]]:
    """Every prefix with the next frame: probabilities of ending in a blank, and in its digit."""
    following: dict[tuple[int, ...], tuple[float, float]] = {}

    def add(prefix: tuple[int, ...], in_blank: float, in_digit: float) -> None:
        one = following.get(prefix, (-math.inf, -math.inf))
        following[prefix] = (_either(one[0], in_blank), _either(one[1], in_digit))

    for prefix, (in_blank, in_digit) in beams.items():
        add(prefix, _either(in_blank, in_digit) + quiet, -math.inf)
        for digit, chance in candidates:
            if prefix and prefix[-1] == digit:
                add(prefix, -math.inf, in_digit + chance)
                add((*prefix, digit), -math.inf, in_blank + chance)
            else:
                add((*prefix, digit), -math.inf, _either(in_blank, in_digit) + chance)
    return following


def _best(
    beams: dict[tuple[int, ...], tuple[float, float]], count: int
) -> dict[tuple[int, ...], tuple[float, float]]:
    ranked = sorted(beams.items(), key=lambda item: _total(item[1]), reverse=True)
    return dict(ranked[:count])


def _total(ends: tuple[float, float]) -> float:
    return _either(*ends)


def _either(one: float, other: float) -> float:
    """The logarithm of the sum of two probabilities, given as logarithms."""
    high, low = max(one, other), min(one, other)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def align(reference: Sequence[int], heard: Sequence[int]) -> tuple[int, int, int]:
    """Substitutions, deletions and insertions of the cheapest way between two strings."""
    row = [(number, 0, 0, number) for number in range(len(heard) + 1)]  # cost, sub, del, ins
    for wanted in reference:
        above, row = row, [(row[0][0] + 1, row[0][1], row[0][2] + 1, row[0][3])]
        for place, found in enumerate(heard, start=1):
            same = above[place - 1]
            changed = (same[0] + 1, same[1] + 1, same[2], same[3])
            lost, added = above[place], row[place - 1]
            row.append(
                min(
                    same if wanted == found else changed,
                    (lost[0] + 1, lost[1], lost[2] + 1, lost[3]),
                    (added[0] + 1, added[1], added[2], added[3] + 1),
                )
            )
    _, substituted, deleted, inserted = row[-1]
    return substituted, deleted, inserted


def aligned(posteriors: np.ndarray, digits: Sequence[int]) -> list[Token]:
    """Where the digits of a string are said in (frames, 12): the likeliest path that reads so.

    Viterbi's algorithm over the digits with blanks between. Empty where there are too few frames.
    """
    quiet = np.delete(posteriors, range(config.REJECT), axis=1).sum(axis=1)
    columns = np.stack([quiet] + [item for d in digits for item in (posteriors[:, d], quiet)])
    chances = np.log(np.maximum(columns.T, 1e-30))  # (frames, 2 n + 1)
    states = chances.shape[1]
    symbols = [-1] + [item for digit in digits for item in (digit, -1)]
    may_skip = np.array(
        [s > 1 and symbols[s] >= 0 and symbols[s] != symbols[s - 2] for s in range(states)]
    )
    score = np.full(states, -np.inf)
    score[:2] = chances[0, :2]
    steps = np.zeros(chances.shape, np.int64)
    for frame in range(1, len(chances)):
        ways = np.full((3, states), -np.inf)
        ways[0] = score
        ways[1, 1:] = score[:-1]
        ways[2, 2:] = np.where(may_skip[2:], score[:-2], -np.inf)
        steps[frame] = ways.argmax(axis=0)
        score = ways.max(axis=0) + chances[frame]
    state = states - 1 if score[-1] >= score[-2] else states - 2
    if not np.isfinite(score[state]):
        return []
    path = []
    for frame in range(len(chances) - 1, -1, -1):
        path.append(state)
        state -= int(steps[frame, state])
    path.reverse()
    return _tokens_of_path(np.array(path), posteriors, digits)


def _tokens_of_path(path: np.ndarray, posteriors: np.ndarray, digits: Sequence[int]) -> list[Token]:
    tokens = []
    for number, digit in enumerate(digits):
        frames = np.flatnonzero(path == 2 * number + 1)
        confidence = float(posteriors[frames, digit].max())
        tokens.append(Token(digit, int(frames[0]), int(frames[-1]), confidence))
    return tokens
