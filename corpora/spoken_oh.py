"""Recorded "oh" for zero, cut from the fluent strings of CMU AN4 between their known neighbours.

The digits of the same recordings lie beside them as clips of their own (``more_speakers/an4``),
cut where a forced alignment put them, 15 ms over at either side. Each is found again in the string
by its very samples; what lies between two of them, where the string's name has an ``o``, is "oh".
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import audio_io
import config
from corpora.clips import Clips

MARGIN = 0.03
"""s that neighbouring cuts share."""
DURATION = (0.1, 0.6)
"""s; what is shorter was swallowed, what is longer holds a pause."""
AUDIBLE_DB = -26.0
"""dB; an "oh" whose RMS is further below that of the string is a pause."""
SAMPLE_RATE = 16000
"""Hz of AN4."""
_FILE_NAME = re.compile(r"(?P<label>[0-9o]+)_(?P<speaker>.+)_(?P<take>\d+)")

Interval = tuple[int, int]
"""First sample, and the one after the last."""


def spoken_oh(strings: Path, digits: Path, sample_rate: int) -> Clips:
    """Every "oh" that stands between two digits which are found in the string.

    Parameters
    ----------
    strings : folder of whole strings, named STRING_SPEAKER_TAKE with ``o`` for "oh"
    digits : folder of the digits cut from them, named DIGIT_SPEAKER_TAKE
    sample_rate : Hz of the clips

    Returns
    -------
    clips : labelled 0, named ``oh_SPEAKER_TAKE``, of the corpus "an4_oh"

    Raises
    ------
    config.UserError : no such folder, or an unreadable recording
    """
    cuts = _by_speaker(digits)
    waveforms, speakers = [], []
    for path in _recordings(strings):
        name = _name(path)
        if "o" not in name["label"]:
            continue
        string = audio_io.to_int16(audio_io.read_audio(path, SAMPLE_RATE)[0])
        for start, end in intervals(string, name["label"], cuts.get(name["speaker"], [])):
            cut = audio_io.to_float(string[start:end])
            waveforms.append(audio_io.resample(cut, SAMPLE_RATE, sample_rate))
            speakers.append(name["speaker"])
    takes = [speakers[:i].count(speaker) for i, speaker in enumerate(speakers)]
    names = [f"oh_{speaker}_{take}" for speaker, take in zip(speakers, takes, strict=True)]
    return Clips.from_waveforms(
        waveforms, [0] * len(names), speakers, names, takes, "an4_oh", sample_rate
    )


def intervals(
    string: np.ndarray, spoken: str, cuts: Sequence[tuple[str, np.ndarray]]
) -> Iterator[Interval]:
    """Where "oh" is said in a string: int16 (samples,), with the cuts of this speaker's digits."""
    found = sorted(
        (start, start + len(cut), digit)
        for digit, cut in cuts
        if (start := find(string, cut)) is not None
    )
    if "".join(digit for _, _, digit in found) != spoken.replace("o", ""):
        return  # a cut is missing, or said twice alike
    places = iter(found)
    row = [None if symbol == "o" else next(places) for symbol in spoken]
    margin = round(MARGIN * SAMPLE_RATE)
    for before, here, after in zip(row, row[1:], row[2:], strict=False):
        if here is None and before is not None and after is not None:
            start, end = before[1] - margin, after[0] + margin
            if _is_speech(string, start, end):
                yield start, end


def _is_speech(string: np.ndarray, start: int, end: int) -> bool:
    if not DURATION[0] <= (end - start) / SAMPLE_RATE <= DURATION[1]:
        return False
    loudness = [np.mean(np.square(part.astype(float))) for part in (string[start:end], string)]
    return bool(loudness[0] > loudness[1] * 10 ** (AUDIBLE_DB / 10))


def find(string: np.ndarray, cut: np.ndarray) -> int | None:
    """Where the samples `cut` occur in `string`; None where they don't."""
    if not 0 < len(cut) <= len(string):
        return None
    loudest = int(np.argmax(np.abs(cut.astype(int))))  # a value that is rare in the string
    for start in (np.flatnonzero(string == cut[loudest]) - loudest).tolist():
        if start >= 0 and np.array_equal(string[start : start + len(cut)], cut):
            return start
    return None


def _by_speaker(folder: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """The digits of each speaker: label, and int16 (samples,)."""
    named = [(_name(path), path) for path in _recordings(folder)]
    named.sort(key=lambda item: item[0]["speaker"])
    return {
        speaker: [
            (name["label"], audio_io.to_int16(audio_io.read_audio(path, SAMPLE_RATE)[0]))
            for name, path in group
        ]
        for speaker, group in itertools.groupby(named, key=lambda item: item[0]["speaker"])
    }


def _recordings(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise config.UserError(f"{folder}: no such folder")
    return audio_io.find_audio(folder).paths


def _name(path: Path) -> re.Match[str]:
    match = _FILE_NAME.fullmatch(path.stem)
    if match is None:
        raise config.UserError(f"{path}: not named STRING_SPEAKER_TAKE")
    return match
