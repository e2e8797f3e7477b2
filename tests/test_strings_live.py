"""Strings hands-free and from files: what is shown and when; the protocol; the figure."""

from __future__ import annotations

import json
import queue
import random
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tone_strings import RATE, ToneNetwork, tones
from virtual_microphone import (  # noqa: F401  pytest finds the fixture by its name
    ROOT,
    LiveScript,
    VirtualMicrophone,
    speaker_fixture,
)
from waiting import wait_until

import audio_io
import config
import microphone_inference
import visualization
from live.session import LiveScriptSettings, Session
from live.string_listening import StringListening
from protocols import strings
from protocols.common import EvaluationSettings
from recognition.ctc_decoding import align
from recognition.digit_strings import StringRecognizer

needs_network = pytest.mark.skipif(
    not (ROOT / "saved_models" / config.STRINGS_NAME).is_file(),
    reason="no recogniser of strings in saved_models (train.py --models digit_ctc makes it)",
)


class Source:
    """A microphone that gives a sound in blocks of 20 ms."""

    sample_rate = RATE
    device = SimpleNamespace(name="test")

    def __init__(self, sound):
        self.blocks: queue.Queue = queue.Queue()
        for first in range(0, len(sound), RATE // 50):
            self.blocks.put(sound[first : first + RATE // 50])

    def read(self):
        return SimpleNamespace(waveform=self.blocks.get_nowait(), arrived=0.0)


def session(tmp_path, **settings):
    live = config.LiveSettings(recordings_dir=tmp_path)
    made = Session(LiveScriptSettings(strings=True, live=live, **settings))
    made.__dict__["string_recognizer"] = StringRecognizer(ToneNetwork(), made.settings.string)
    return made


def listen(made, sound):
    stream = StringListening(made, Source(sound))
    while not stream.source.blocks.empty():
        stream.step()
    return stream


def test_digits_appear_as_they_are_spoken_and_a_pause_closes_the_string(tmp_path, capsys):
    made = session(tmp_path)
    stream = StringListening(made, Source(tones([1, 2, 3], after=2.0)))
    shown = []
    while not stream.source.blocks.empty():
        stream.step()
        shown.append(capsys.readouterr().out)
    told = [number for number, text in enumerate(shown) if text.strip()]
    assert [shown[number] for number in told[:3]] == ["1 ", "2 ", "3 "]
    assert shown[told[3]].startswith("\n123 ") and len(told) == 4
    assert told[2] - told[0] > 20  # not all at once: 0.64 s between


@pytest.mark.parametrize(
    ("settings", "expected"), [({"quiet": True}, "42"), ({"json": True}, '"digits": "42"')]
)
def test_other_programs_get_whole_strings_only(tmp_path, capsys, settings, expected):
    listen(session(tmp_path, **settings), tones([4, 2, 10, 10], after=2.0))
    (line,) = capsys.readouterr().out.splitlines()
    assert expected in line


def test_other_words_alone_are_no_answer(tmp_path, capsys):
    listen(session(tmp_path), tones([10, 10], after=2.0))
    assert capsys.readouterr().out == ""


def test_what_was_being_said_is_answered_when_the_microphone_vanishes(tmp_path, capsys):
    listen(session(tmp_path, quiet=True), tones([5, 6], after=0.1)).finish()
    assert capsys.readouterr().out == "56\n"


def test_files_are_answered_and_drawn(tmp_path, capsys):
    audio_io.write_audio(tmp_path / "number.wav", tones([7, 0, 7]), RATE)
    (tmp_path / "text.wav").write_text("no sound")
    made = session(tmp_path / "kept", files=(str(tmp_path),))
    assert microphone_inference.recognize_files(made) == 1
    shown = capsys.readouterr()
    assert "number.wav: 707 " in shown.out and "text.wav" in shown.err
    assert (tmp_path / "kept" / "number-digits.png").stat().st_size > 10_000


def test_the_figure_has_the_digits_over_it(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(visualization, "_save", lambda figure, path: drawn.append(figure))
    visualization.plot_string(tones([7, 1]), RATE, [(7, 0.3, 0.5, 0.9), (1, 0.6, 0.8, 0.8)], "x")
    texts = [item.get_text() for axes in drawn[0].axes for item in axes.texts]
    assert texts == ["7\n90%", "1\n80%"]


def test_errors_are_counted_and_strings_wholly_right():
    scores = strings.compared([("1234", "1234"), ("55", "5"), ("9", "19")])
    assert (scores.substituted, scores.deleted, scores.inserted) == (0, 1, 1)
    assert scores.whole.right == 1 and scores.error_rate.right == 2 and scores.digits == 7


def test_joined_strings_are_of_one_speaker_and_know_where_digits_end():
    people = [{d: [tones([d], before=0, after=0)] for d in range(who, who + 3)} for who in (0, 5)]
    for one in strings.joins(people, 20, np.random.default_rng(0)):
        assert 3 <= len(one.digits) <= 10
        assert set(one.digits) <= set("012") or set(one.digits) <= set("567")
        assert list(one.ends) == sorted(one.ends)
        assert one.ends[-1] == pytest.approx(len(one.waveform) / RATE - strings.QUIET_S)


def test_the_protocol_scores_what_is_there(tmp_path, monkeypatch):
    folder = tmp_path / "recorded"
    folder.mkdir()
    audio_io.write_audio(folder / "4o7_ann_0.wav", tones([4, 0, 7]), RATE)
    noise = tmp_path / "noise"
    noise.mkdir()
    audio_io.write_audio(noise / "tone.wav", tones([3]), RATE)
    people = [{digit: [tones([digit], before=0, after=0)] for digit in range(10)}]
    monkeypatch.setattr(strings, "by_speaker", lambda clips: people)
    monkeypatch.setattr(
        strings, "StringRecognizer", lambda settings: StringRecognizer(ToneNetwork())
    )
    monkeypatch.setattr(strings, "load_unseen_speakers", lambda *_: {"some": None})
    monkeypatch.setattr(strings, "single_digits", lambda *_: {})
    settings = EvaluationSettings(
        protocol="strings",
        strings_dirs=(folder,),
        joined_strings=4,
        unseen_dir=tmp_path,
        non_digits_dir=None,
        noise_dir=noise,
        data=config.DataSettings(fsdd_archive=tmp_path / "none.zip"),
        results_dir=tmp_path,
    )
    report = strings.strings(settings)
    scores = report.data["scores"]
    assert scores["recorded"]["whole"].right == 1 and scores["recorded"]["digits"] == 3
    assert scores["unseen speakers, joined"]["error_rate"].value == 0
    delay = report.data["live"]["unseen speakers, joined"]["p95_delay_s"]
    assert 0.1 < delay < 0.6
    assert report.data["false_digits"]["noise"]["digits"] == 1
    report.write(tmp_path)
    cells = [cell.strip() for cell in (tmp_path / "strings.md").read_text().split("|")]
    place = cells.index("recorded")
    assert cells[place + 1 : place + 6] == ["1", "3", "0", "0", "0"]


@needs_network
def test_the_shipped_network_hears_a_joined_string(fsdd_archive_path):
    digits = "3141"
    with zipfile.ZipFile(fsdd_archive_path) as content:
        takes = [
            audio_io.read_audio(content.read(name), RATE)[0]
            for digit in digits
            for name in content.namelist()
            if name.endswith(f"/{digit}_jackson_1.wav")
        ]
    quiet = np.zeros(RATE // 5, np.float32)
    sound = np.concatenate([quiet, *(part for take in takes for part in (take, quiet))])
    recognizer = StringRecognizer(config.DecisionSettings(models_dir=ROOT / "saved_models"))
    assert recognizer.recognize(audio_io.Recording(sound, RATE)).digits == digits


@pytest.mark.slow
@needs_network
def test_twenty_strings_at_a_virtual_microphone(speaker, fsdd_archive_path, tmp_path):
    """Spoken hands-free: all answered once, as right as from files, within a digit in a hundred."""
    chosen = random.Random(3)
    with zipfile.ZipFile(fsdd_archive_path) as content:
        names = [name for name in content.namelist() if name.endswith("_1.wav")]
        spoken = []
        for _ in range(20):
            who = chosen.choice(["george", "jackson", "lucas", "nicolas", "theo", "yweweler"])
            row = chosen.choices([name for name in names if f"_{who}_" in name], k=5)
            takes = [audio_io.read_audio(content.read(name), 8000)[0] for name in row]
            parts = [part for take in takes for part in (take, np.zeros(800, np.float32))]
            label = "".join(Path(name).name[0] for name in row)
            spoken.append((label, np.concatenate(parts)))
    pause = np.zeros(8000 * 2, np.float32)
    sound = np.concatenate([pause, *(part for _, one in spoken for part in (one, pause))])
    words = ["--strings", "--json", "--decision.models-dir", str(ROOT / "saved_models")]
    with LiveScript(words, speaker.environment, tmp_path) as script:
        script.wait_for("ready")
        speaker.play(sound, 8000)
        wait_until(lambda: len(script.answers) >= 20, "20 answers")
        heard = [answer["digits"] for answer in script.answers]
    recognizer = StringRecognizer(config.DecisionSettings(models_dir=ROOT / "saved_models"))
    files = [recognizer.recognize(audio_io.Recording(one, 8000)).digits for _, one in spoken]
    assert len(heard) == 20

    def errors(strings):
        return sum(
            sum(align(list(map(int, label)), list(map(int, one))))
            for (label, _), one in zip(spoken, strings, strict=True)
        )

    assert errors(heard) <= errors(files) + 1
    assert json.dumps(heard)
