"""Strings in recordings and streams: times, confidence, constraints, long and bad recordings."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from tone_strings import GAP_S, RATE, TONE_S, ToneNetwork, tones

import audio_io
import config
from audio_io import Recording
from recognition import string_constraints
from recognition.digit_strings import StringRecognizer, StringStream
from recognition.string_windows import FRAME_S, LIVE, OFFLINE, WindowedFrames

OTHER = 10


def heard(waveform, **settings):
    recognizer = StringRecognizer(ToneNetwork(), config.StringsSettings(**settings))
    return recognizer.recognize(Recording(waveform.astype(np.float32), RATE, "test"))


def test_a_string_with_its_times_and_confidences():
    result = heard(tones([4, 2, 2, 7]))
    assert result.digits == "4227"
    for number, one in enumerate(result.spoken):
        begin = 0.3 + number * (TONE_S + GAP_S)
        assert one.start_s == pytest.approx(begin, abs=0.06)
        assert one.end_s == pytest.approx(begin + TONE_S, abs=0.06)
        assert 0.9 < one.confidence < 1
    assert 0.9 < result.confidence < 1
    assert result.alternatives[0][0] == "4227" and result.alternatives[0][1] > 0.9
    assert json.loads(json.dumps(result.as_dict()))["digits"] == "4227"
    assert result.as_text().startswith("4227 ")


def test_confidence_does_not_fall_with_the_length():
    short, long = heard(tones([1, 2, 3])), heard(tones([1, 2, 3] * 5))
    assert long.digits == "123" * 5
    assert long.confidence == pytest.approx(short.confidence, abs=0.01)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=7),
    st.lists(st.integers(RATE // 100, RATE), min_size=1, max_size=40),
)
@limits(max_examples=40, deadline=None)
def test_the_same_digits_for_any_block_size(labels, sizes):
    sound = tones(labels)
    told = []
    for blocks in ([len(sound)], sizes):
        stream = StringStream(ToneNetwork())
        closed, place, number = [], 0, 0
        while place < len(sound):
            size = blocks[number % len(blocks)]
            closed += stream.feed(sound[place : place + size])
            place, number = place + size, number + 1
        closed += stream.finish()
        told.append([(one.digits, one.spoken) for one in closed])
    assert told[0] == told[1]
    assert "".join(digits for digits, _ in told[0]) == "".join(map(str, labels))


@pytest.mark.parametrize("labels", [[1, 2, 3], [5] * 30, list(range(10)) * 4])
def test_live_and_offline_agree(labels):
    sound, digits = tones(labels), "".join(map(str, labels))
    assert heard(sound).digits == digits
    stream = StringStream(ToneNetwork(), pace=LIVE)
    closed = [*stream.feed(sound), *stream.finish()]
    assert "".join(one.digits for one in closed) == digits


def test_digits_are_told_while_the_string_goes_on():
    sound, stream = tones([3, 1, 4, 1, 5]), StringStream(ToneNetwork())
    ends = 0.3 + (TONE_S + GAP_S) * np.arange(5) + TONE_S
    arrivals: list[float] = []
    for first in range(0, len(sound), RATE // 50):
        stream.feed(sound[first : first + RATE // 50])
        arrivals += [first / RATE + 0.02] * (len(stream.digits) - len(arrivals))
    delays = np.array(arrivals) - ends[: len(arrivals)]
    assert len(arrivals) >= 4  # the last is told once the stream goes on
    assert delays.max() < LIVE.hop + LIVE.ahead + 3 * FRAME_S


def test_every_frame_is_decided_once_and_the_memory_is_bounded():
    network = ToneNetwork()
    frames = WindowedFrames(network, OFFLINE)
    count, kept = 0, 0
    sound = tones([1, 2, 3, 4] * 5)
    for _ in range(40):
        posteriors, levels = frames.feed(sound)
        assert len(posteriors) == len(levels)
        count, kept = count + len(posteriors), max(kept, len(frames.sound))
    count += len(frames.finish()[0])
    assert count == -(-40 * len(sound) // 640)
    assert kept <= (OFFLINE.window + OFFLINE.hop) * RATE
    assert network.longest <= OFFLINE.window * RATE


def test_a_pause_closes_a_string():
    sound = np.concatenate([tones([1, 2], after=1.5), tones([3, 4], after=1.5)])
    stream = StringStream(ToneNetwork())
    closed = stream.feed(sound)
    assert [one.digits for one in closed] == ["12", "34"]
    assert closed[1].spoken[0].start_s == pytest.approx(0.3 + 0.72 + 1.5 - 0.2 + 0.3, abs=0.3)


@pytest.mark.parametrize(
    ("settings", "digits", "meets"),
    [
        ({}, "4227", True),
        ({"length": 4}, "4227", True),
        ({"pattern": r"42\d+"}, "4227", True),
        ({"length": 9}, "4227", False),
        ({"pattern": "0.*"}, "4227", False),
        ({"check": "isbn"}, "4227", False),
    ],
)
def test_constraints_met_and_not(settings, digits, meets):
    result = heard(tones([4, 2, 2, 7]), **settings)
    assert (result.digits, result.meets) == (digits, meets)
    assert any("none of the likeliest readings" in remark for remark in result.remarks) != meets


class UnsureNetwork(ToneNetwork):
    """Hears every seven as one, just so; a word is in one frame, as after training."""

    def posteriors(self, window):
        found = super().posteriors(window)
        later = (found[:, :10].max(axis=1) > 0.5) & np.roll(found[:, :10].max(axis=1) > 0.5, 1)
        found[later] = np.eye(config.N_FRAME_CLASSES)[config.BLANK]
        sevens = found[:, 7] > 0.5
        found[sevens, 7], found[sevens, 1] = 0.4, 0.55
        return found


def test_a_check_digit_chooses_among_the_readings():
    number = [4, 9, 9, 2, 7, 3, 9, 8, 7, 1, 6]  # Luhn's own example: 4992 7398 716
    assert string_constraints.is_luhn("".join(map(str, number)))
    recording = Recording(tones(number), RATE)
    unconstrained = StringRecognizer(UnsureNetwork()).recognize(recording)
    assert unconstrained.digits == "49921398116"
    settings = config.StringsSettings(check="luhn", length=11, pattern="4992739.*")
    result = StringRecognizer(UnsureNetwork(), settings).recognize(recording)
    assert (result.digits, result.meets) == ("49927398716", True)
    assert len(result.spoken) == 11


@pytest.mark.parametrize(
    ("digits", "luhn", "isbn"),
    [
        ("79927398713", True, False),
        ("79927398710", False, False),
        ("0306406152", False, True),
        ("9780306406157", False, True),
        ("9780306406158", False, False),
        ("", False, False),
    ],
)
def test_check_digits(digits, luhn, isbn):
    assert string_constraints.is_luhn(digits) == luhn
    assert string_constraints.is_isbn(digits) == isbn


def test_impossible_settings_are_refused():
    with pytest.raises(config.UserError, match=r"strings\.pattern is no regular expression"):
        config.StringsSettings(pattern="(")
    with pytest.raises(config.UserError, match=r"strings\.length is 0"):
        config.StringsSettings(length=0)


@pytest.mark.parametrize(
    ("waveform", "remark"),
    [
        (np.zeros(RATE * 3), "no digits found"),
        (0.01 * np.random.default_rng(0).standard_normal(RATE * 3), "no digits found"),
        (tones([OTHER, OTHER]), "other words, no digits"),
        (np.zeros(RATE // 20), "too short"),
        (np.zeros(0), "too short"),
        (np.full(RATE, np.nan), "no digits found"),
    ],
)
def test_nothing_is_invented(waveform, remark):
    result = heard(waveform)
    assert result.digits == "" and result.confidence == 0
    assert any(remark in item for item in result.remarks)


def test_other_words_between_digits_are_left_out():
    assert heard(tones([1, OTHER, 2, OTHER])).digits == "12"


def test_a_string_that_is_cut_within_a_digit_is_told():
    whole = tones([1, 2, 3])
    cut = whole[: round((0.3 + 2 * (TONE_S + GAP_S) + 0.08) * RATE)]
    assert any("cut off" in remark for remark in heard(cut).remarks)
    assert not any("cut off" in remark for remark in heard(whole).remarks)


def test_a_long_file_is_heard_piece_by_piece(tmp_path, monkeypatch):
    path = tmp_path / "hours.wav"
    spoken = [tones([digit] * 3, after=2.0) for digit in range(10)]
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for number in range(80):  # three minutes
            file.write(spoken[number % 10])
    monkeypatch.setattr(
        audio_io, "read_recording", lambda *_: pytest.fail("the whole file was read")
    )
    network = ToneNetwork()
    result = StringRecognizer(network).recognize_file(path)
    assert result.digits == "".join(str(number % 10) * 3 for number in range(80))
    assert network.longest <= OFFLINE.window * RATE
    assert result.duration_s == pytest.approx(len(spoken[0]) * 80 / RATE)
    assert "80 strings" in result.remarks[-1]
    assert not len(result.posteriors) and result.alternatives == []


def test_two_hours_of_silence_ask_no_network():
    network, block = ToneNetwork(), np.zeros(10 * RATE, np.float32)
    stream = StringStream(network, pace=OFFLINE)
    for _ in range(720):
        assert stream.feed(block) == []
    assert stream.finish() == [] and network.windows == 0
    assert len(stream.posteriors) <= stream.longest


def test_a_short_file_of_another_rate(tmp_path):
    path = tmp_path / "number.wav"
    audio_io.write_audio(path, audio_io.resample(tones([8, 6]), RATE, 44100), 44100)
    result = StringRecognizer(ToneNetwork()).recognize_file(path)
    assert (result.digits, result.source) == ("86", str(path))


def test_a_file_that_is_no_sound(tmp_path):
    path = tmp_path / "text.wav"
    path.write_text("no sound")
    with pytest.raises(audio_io.AudioError, match=r"text\.wav"):
        StringRecognizer(ToneNetwork()).recognize_file(path)


def test_results_are_plain_values():
    result = dataclasses.replace(heard(tones([1])), source="x")
    assert result.as_dict()["spoken"][0]["digit"] == 1
