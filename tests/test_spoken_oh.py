"""Recorded "oh", cut from fluent strings between digits that are known by their samples."""

import os
from pathlib import Path

import numpy as np
import pytest

import audio_io
import config
from corpora import spoken_oh

RATE = spoken_oh.SAMPLE_RATE
MARGIN = round(spoken_oh.MARGIN * RATE)


def said(spoken, seconds, gain=0.1):
    """A string of noises and where each begins: (samples,), and the cuts of its digits."""
    rng = np.random.default_rng(1)
    parts = [
        audio_io.to_int16(gain * rng.standard_normal(round(s * RATE)).clip(-3, 3)) for s in seconds
    ]
    string, starts = np.concatenate(parts), np.cumsum([0, *map(len, parts)])
    cuts = [
        (symbol, string[max(starts[i] - MARGIN // 2, 0) : starts[i + 1] + MARGIN // 2])
        for i, symbol in enumerate(spoken)
        if symbol != "o"
    ]
    return string, starts, cuts


def test_oh_is_what_lies_between_its_neighbours():
    string, starts, cuts = said("1o25o3", [0.3, 0.2, 0.3, 0.4, 0.25, 0.3])
    found = list(spoken_oh.intervals(string, "1o25o3", cuts[::-1]))
    wanted = [(starts[i] - MARGIN // 2, starts[i + 1] + MARGIN // 2) for i in (1, 4)]
    np.testing.assert_allclose(found, wanted, atol=1)


@pytest.mark.parametrize(
    ("spoken", "seconds"),
    [
        ("o12", [0.3, 0.3, 0.3]),  # nothing known before it
        ("12o", [0.3, 0.3, 0.3]),
        ("1oo2", [0.3, 0.2, 0.2, 0.3]),  # where the second begins is not known
        ("1o2", [0.3, 0.03, 0.3]),  # swallowed
        ("1o2", [0.3, 1.0, 0.3]),  # a pause in it
    ],
)
def test_an_oh_that_can_not_be_told_is_left_out(spoken, seconds):
    string, _, cuts = said(spoken, seconds)
    assert list(spoken_oh.intervals(string, spoken, cuts)) == []


def test_a_string_with_a_digit_missing_or_a_silent_oh_is_left_out():
    string, starts, cuts = said("1o23", [0.3, 0.2, 0.3, 0.3])
    assert len(list(spoken_oh.intervals(string, "1o23", cuts))) == 1
    assert list(spoken_oh.intervals(string, "1o23", cuts[:-1])) == []
    string[starts[1] - MARGIN : starts[2] + MARGIN] //= 100
    cuts = [
        (digit, string[starts[i] : starts[i + 1]]) for i, digit in ((0, "1"), (2, "2"), (3, "3"))
    ]
    assert list(spoken_oh.intervals(string, "1o23", cuts)) == []


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(config.UserError, match="nowhere: no such folder"):
        spoken_oh.spoken_oh(tmp_path, tmp_path / "nowhere", RATE)


def test_the_recorded_ones_sound_like_oh():
    folders = [os.environ.get(name) for name in ("MORE_STRINGS_DIR", "MORE_SPEAKERS_DIR")]
    if not all(folder and (Path(folder) / "an4").is_dir() for folder in folders):
        pytest.skip("MORE_STRINGS_DIR and MORE_SPEAKERS_DIR name no copies of AN4")
    clips = spoken_oh.spoken_oh(*(Path(folder) / "an4" for folder in folders), RATE)
    assert len(clips) >= 30 and len(set(clips.speakers)) >= 25 and set(clips.labels) == {0}
    assert all(name.startswith("oh_an4") for name in clips.names)
    for i in range(len(clips)):  # a back vowel: its energy lies below 1 kHz
        power = np.abs(np.fft.rfft(clips.waveform(i))) ** 2
        hertz = np.fft.rfftfreq(len(clips.waveform(i)), 1 / RATE)
        assert (power * hertz).sum() / power.sum() < 800, clips.names[i]
