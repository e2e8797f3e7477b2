"""Which stretches of a recording are digits.

A recording is cut into pieces at its pauses and dips. Every run of pieces that a word might fill is
a candidate; all candidates go through the networks in one batch. The set of candidates that
explains the recording best is found by dynamic programming: each digit costs the logarithm of its
confidence and something for every pause that it bridges, each piece left over costs a constant.

A digit is not accepted out of a stretch that holds more speech: what is left over right beside it,
without a pause, vetoes it, and what is left over elsewhere asks for more confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audio import voice_activity
from audio.voice_activity import FRAME_S
from audio_cleaning import Cleaned
from config import CleaningSettings
from recognition.prediction import Prediction

LONGEST_S, SHORTEST_S = 1.2, 0.18
"""s of sound, without padding, in a candidate of several pieces, and in any."""
LONGEST_UNBROKEN_S = 1.6
"""s of a candidate without a pause: a word may lie in noise that it can't be parted from."""
PIECE_FRAMES = 4
"""Frames (10 ms) of the shortest piece."""
SPEECH_FRAMES = 8
"""Frames of the shortest piece that may be speech: shorter ones are clicks, and veto nothing."""
TONAL_SHARE, TONAL_HZ = 0.97, 350.0
"""Share of a piece's energy within 30 Hz of its strongest frequency from which it is a beep, and
the frequency that this must exceed: below it, a hummed vowel might be one too."""
DIP_DB = (8.0, 12.0, 16.0, 24.0)
"""dB below the peaks on both sides at which sound is cut: more where there are too many pieces."""
CANDIDATES, CANDIDATES_PER_S = 16, 8
"""Candidates of a recording at most: so many, and so many more for each second."""
PAUSE_S, PAUSE_DB = 0.08, 12.0
"""s for which sound stays dB below the peaks on both sides: a pause, which parts two words."""
ISOLATED_S = 0.25
"""s of silence on both sides of a word that has nothing to do with its neighbours."""
SPLIT_CONFIDENCE = 0.8
"""Confidence that each digit needs where several fill the recording, or one for very long."""
ISOLATED_CONFIDENCE = 0.65
"""Confidence that an isolated digit needs beside sounds that are no digits, or beside a beep."""
PART_CONFIDENCE = 0.99
"""Confidence that a digit needs nearer to such sounds."""
REST_COST = 0.7
"""Cost of a piece that is left over; more than any accepted digit's."""
BRIDGE_COST = 0.5
"""Cost of a pause within a digit."""


@dataclass(frozen=True)
class Segment:
    """One stretch of a recording, in s, and what it was taken for."""

    start_s: float
    end_s: float
    digit: int | None
    """The digit; None for sound that is none."""
    best_guess: int
    confidence: float
    """Confidence in the best guess, 0 to 1."""
    accepted: bool


@dataclass(frozen=True)
class Candidate:
    """A run of pieces that may be one digit."""

    first: int
    last: int
    start_s: float
    end_s: float


def whole_recording(seconds: float) -> Candidates:
    """A recording that is one word, or nothing: no pieces to choose from."""
    return Candidates([], np.zeros(1), [Candidate(0, -1, 0.0, seconds)], seconds)


def find_candidates(
    cleaned: Cleaned, seconds: float, longest_s: float, settings: CleaningSettings
) -> Candidates:
    """Cut a cleaned recording of `seconds` into candidates.

    The first candidate is always the span that cleaning found; longer than `longest_s`, it needs
    more confidence, and none makes up for a pause in it.
    """
    span = (cleaned.speech_start_s or 0.0, cleaned.speech_end_s or 0.0)
    limit = CANDIDATES + round(CANDIDATES_PER_S * seconds)
    pieces: list[tuple[int, int]] = []
    runs: list[tuple[int, int]] = []
    long = seconds > voice_activity.FLOOR_SPAN_S  # speech may be hidden by noise elsewhere
    if long or (cleaned.segments and seconds > voice_activity.WHOLE_S):
        for dip_db in DIP_DB:
            pieces = find_pieces(cleaned.contrast, dip_db)
            paused = pauses(cleaned.contrast, pieces)
            runs = _runs(pieces, paused)
            if len(runs) <= limit:
                break
    inside = [
        number
        for number, (start, end) in enumerate(pieces)
        if start * FRAME_S >= span[0] - 0.02 and end * FRAME_S <= span[1] + 0.02
    ]
    main = Candidate(inside[0], inside[-1], *span) if inside else Candidate(0, -1, *span)
    others = [
        Candidate(first, last, *_padded(pieces, first, last, seconds, settings))
        for first, last in sorted(runs, key=lambda run: run[1] - run[0])[:limit]
        if (first, last) != (main.first, main.last)
    ]
    speech = [may_be_speech(cleaned, piece, seconds) for piece in pieces]
    return Candidates(pieces, cleaned.contrast, [main, *others], longest_s, speech)


def may_be_speech(cleaned: Cleaned, piece: tuple[int, int], seconds: float) -> bool:
    """Whether a piece, in frames, is neither a click nor a beep."""
    start, end = piece
    if end - start < SPEECH_FRAMES:
        return False
    rate = len(cleaned.gated) / seconds
    sound = cleaned.gated[round(start * FRAME_S * rate) : round(end * FRAME_S * rate)]
    energy = np.square(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))))
    frequencies = np.fft.rfftfreq(len(sound), 1 / rate)
    strongest = frequencies[energy.argmax()]
    near = np.abs(frequencies - strongest) <= 30.0
    tonal = energy[near].sum() >= TONAL_SHARE * energy.sum() > 0
    return not (tonal and strongest >= TONAL_HZ)


def find_pieces(contrast: np.ndarray, dip_db: float) -> list[tuple[int, int]]:
    """Cut at pauses, and at dips of `dip_db` within sound, dB (frames,): (start, end) in frames."""
    pieces = []
    for start, end in voice_activity.merge(
        voice_activity.runs(contrast > voice_activity.speech_threshold(contrast)), 2
    ):
        if end - start >= PIECE_FRAMES:
            edges = [0, *_dips(contrast[start:end], dip_db), end - start]
            pieces += [
                (start + left, start + right)
                for left, right in zip(edges[:-1], edges[1:], strict=True)
            ]
    return pieces


def _dips(contrast: np.ndarray, dip_db: float) -> list[int]:
    """Frames of the dips, deepest first found, in order."""
    if len(contrast) < 2 * PIECE_FRAMES + 2:
        return []
    left = np.maximum.accumulate(contrast)
    right = np.maximum.accumulate(contrast[::-1])[::-1]
    depth = np.minimum(left, right) - contrast
    lowest = int(depth.argmax())
    if depth[lowest] < dip_db or not PIECE_FRAMES <= lowest <= len(contrast) - PIECE_FRAMES:
        return []
    later = [lowest + dip for dip in _dips(contrast[lowest:], dip_db)]
    return [*_dips(contrast[:lowest], dip_db), lowest, *later]


def pauses(contrast: np.ndarray, pieces: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether there is a pause between each piece and the next, in dB (frames,)."""
    peaks = [start + int(contrast[start:end].argmax()) for start, end in pieces]
    quiet = [
        np.sum(contrast[left:right] < min(contrast[left], contrast[right]) - PAUSE_DB)
        for left, right in zip(peaks[:-1], peaks[1:], strict=True)
    ]
    return [bool(FRAME_S * frames >= PAUSE_S) for frames in quiet]


def _runs(pieces: Sequence[tuple[int, int]], paused: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last piece of every run that a word might fill."""
    runs = []
    for first in range(len(pieces)):
        for last in range(first, len(pieces)):
            seconds = FRAME_S * (pieces[last][1] - pieces[first][0])
            if seconds > (LONGEST_S if any(paused[first:last]) else LONGEST_UNBROKEN_S):
                break
            if seconds >= SHORTEST_S:
                runs.append((first, last))
    return runs


def _padded(
    pieces: Sequence[tuple[int, int]],
    first: int,
    last: int,
    seconds: float,
    settings: CleaningSettings,
) -> tuple[float, float]:
    """Start and end, s, with as much padding as the neighbours leave."""
    start = pieces[first][0] * FRAME_S - settings.speech_pad_before_ms / 1000
    end = pieces[last][1] * FRAME_S + settings.speech_pad_after_ms / 1000
    before = pieces[first - 1][1] * FRAME_S if first > 0 else 0.0
    after = pieces[last + 1][0] * FRAME_S if last + 1 < len(pieces) else seconds
    return max(before, start), min(after, end)


class Candidates:
    """The candidates of one recording.

    Parameters
    ----------
    pieces : (start, end) in frames, in order
    contrast : dB (frames,), from :func:`voice_activity.activity`
    candidates : the first is the span that cleaning found
    longest_s : s from which the first candidate counts as long
    is_speech : whether each piece may be speech
    """

    def __init__(
        self,
        pieces: Sequence[tuple[int, int]],
        contrast: np.ndarray,
        candidates: Sequence[Candidate],
        longest_s: float,
        is_speech: Sequence[bool] = (),
    ) -> None:
        self.pieces, self.candidates, self.longest_s = pieces, candidates, longest_s
        self.is_speech = is_speech
        self.paused = pauses(contrast, pieces)
        self.usable = [one.first <= one.last for one in candidates]
        self.usable[0] = self.usable[0] and self._may_be_a_digit(candidates[0])

    def _may_be_a_digit(self, main: Candidate) -> bool:
        """Whether the span that cleaning found can be one word: it may be of any length."""
        seconds = main.end_s - main.start_s
        unbroken = not any(self.paused[main.first : main.last])
        return seconds <= self.longest_s or (unbroken and seconds <= LONGEST_UNBROKEN_S)

    def accept(self, predictions: Sequence[Prediction], threshold: float) -> list[int]:
        """Indices of the candidates that are digits, in order of time.

        Parameters
        ----------
        predictions : one a candidate
        threshold : confidence that every digit needs at least
        """
        if not self.pieces:
            return [0] if sure(predictions[0], threshold) else []
        chosen = self._best_path(predictions, threshold, alone=True)
        if self._rest(chosen):
            chosen = self._best_path(predictions, threshold, alone=False)
        rest = self._rest(chosen)
        return [index for index in chosen if not self._vetoed(self.candidates[index], rest)]

    def _best_path(
        self, predictions: Sequence[Prediction], threshold: float, alone: bool
    ) -> list[int]:
        """The cheapest way to explain all pieces; `alone`: as if nothing were left over."""
        ending: dict[int, list[int]] = {}
        for index, one in enumerate(self.candidates):
            needed = max(threshold, self._needed(index, alone))
            part = self._within_a_word(one, predictions, threshold)
            if self.usable[index] and not part and sure(predictions[index], needed):
                ending.setdefault(one.last + 1, []).append(index)
        costs: list[float] = [0.0]
        paths: list[list[int]] = [[]]
        for end, speech in enumerate(self.is_speech, start=1):
            ways = [(costs[-1] + REST_COST * speech, paths[-1])]
            for index in ending.get(end, []):
                one = self.candidates[index]
                bridged = sum(self.paused[one.first : one.last])
                cost = BRIDGE_COST * bridged - float(np.log(predictions[index].confidence))
                ways.append((costs[one.first] + cost, [*paths[one.first], index]))
            cost, path = min(ways, key=lambda way: way[0])
            costs.append(cost)
            paths.append(path)
        return paths[-1]

    def _needed(self, index: int, alone: bool) -> float:
        """Confidence that a candidate needs, besides the threshold."""
        one = self.candidates[index]
        long = one.end_s - one.start_s > self.longest_s
        outside = any(self.is_speech[: one.first]) or any(self.is_speech[one.last + 1 :])
        if not outside and not long:
            return 0.0 if index == 0 else ISOLATED_CONFIDENCE
        if (alone and not self._adjoined(one)) or not outside:
            return SPLIT_CONFIDENCE
        return ISOLATED_CONFIDENCE if self._isolated(one) else PART_CONFIDENCE

    def _adjoined(self, one: Candidate) -> bool:
        """Whether speech goes on beside a candidate without a pause."""
        before = one.first > 0 and self.is_speech[one.first - 1] and not self.paused[one.first - 1]
        after = one.last + 1 < len(self.pieces) and self.is_speech[one.last + 1]
        return before or (after and not self.paused[one.last])

    def _within_a_word(
        self, one: Candidate, predictions: Sequence[Prediction], threshold: float
    ) -> bool:
        """Whether a candidate is a part of an unbroken span that is a digit as a whole."""
        main = self.candidates[0]
        inside = one is not main and main.first <= one.first and one.last <= main.last
        unbroken = self.usable[0] and not any(self.paused[main.first : main.last])
        needed = max(threshold, self._needed(0, alone=True))
        return inside and unbroken and sure(predictions[0], needed)

    def _isolated(self, one: Candidate) -> bool:
        (start, _), (_, end) = self.pieces[one.first], self.pieces[one.last]
        before = start - self.pieces[one.first - 1][1] if one.first else np.inf
        after = self.pieces[one.last + 1][0] - end if one.last + 1 < len(self.pieces) else np.inf
        return FRAME_S * min(before, after) >= ISOLATED_S

    def _rest(self, chosen: Sequence[int]) -> set[int]:
        """Pieces of speech that no chosen candidate holds."""
        rest = {number for number, speech in enumerate(self.is_speech) if speech}
        for index in chosen:
            rest -= set(range(self.candidates[index].first, self.candidates[index].last + 1))
        return rest

    def _vetoed(self, one: Candidate, rest: set[int]) -> bool:
        """Whether speech is left over beside a candidate, without a pause between."""
        before = one.first - 1 in rest and not self.paused[one.first - 1]
        return before or (one.last + 1 in rest and not self.paused[one.last])

    def segments(self, predictions: Sequence[Prediction], accepted: Sequence[int]) -> list[Segment]:
        """The digits, and what else there is, in order of time."""
        if not self.pieces:
            return [self._segment(0, predictions, bool(accepted))]
        found = [self._segment(index, predictions, True) for index in accepted]
        for group in self._groups(self._rest(accepted)):
            inside = [
                index
                for index, one in enumerate(self.candidates)
                if group[0] <= one.first <= one.last <= group[-1]
            ]
            if inside:
                best = max(inside, key=lambda index: predictions[index].confidence)
                found.append(self._segment(0 if 0 in inside else best, predictions, False))
        return sorted(found, key=lambda segment: segment.start_s)

    def _groups(self, rest: set[int]) -> list[list[int]]:
        """Neighbouring pieces of the rest, parted where a word would be."""
        groups: list[list[int]] = []
        for number in sorted(rest):
            near = groups and groups[-1][-1] == number - 1 and not self.paused[number - 1]
            if near:
                groups[-1].append(number)
            else:
                groups.append([number])
        return groups

    def _segment(self, index: int, predictions: Sequence[Prediction], accepted: bool) -> Segment:
        one, item = self.candidates[index], predictions[index]
        digit = item.best_guess if accepted else None
        return Segment(one.start_s, one.end_s, digit, item.best_guess, item.confidence, accepted)


def sure(prediction: Prediction, threshold: float) -> bool:
    """Whether a prediction's digit wins and has at least that confidence."""
    confidence = prediction.confidence
    return confidence > 0 and confidence >= max(threshold, prediction.reject_probability)
