"""The web app's parts: choices, uploads, the stream, batches, what is shown."""

import dataclasses
import json
import socket
import subprocess
import sys

import numpy as np
import pytest
from app_server import ROOT, SEVEN
from conftest import zip_bytes
from tone_strings import RATE, ToneNetwork, tones

import app
import audio_io
import config
from recognition.digit_strings import StringRecognizer
from recognition.recognizer import Recognizer
from webapp import batch, history_figures, pages, shown, uploads
from webapp.continuous import Listener
from webapp.page_single import judgements
from webapp.service import RecognitionService, confusion
from webapp.settings import Choices, ChoiceStore, ServerSettings


@pytest.fixture
def service(tmp_path):
    if not config.DecisionSettings().onnx_file().is_file():
        pytest.skip("no trained networks")
    live = config.LiveSettings(recordings_dir=tmp_path, user="ada")
    made = RecognitionService(ServerSettings(live=live))
    yield made
    made.close()


def test_choices_are_kept_and_what_is_damaged_becomes_the_default(tmp_path):
    path = tmp_path / "app_settings.json"
    chosen = Choices(models="cnn", threshold=0.9, theme="dark", sensitivity=2)
    ChoiceStore(path).save(chosen)
    assert ChoiceStore(path).choices == chosen
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"unknown": 1}))
    assert ChoiceStore(path).choices == chosen
    for text in ("{", "[]", json.dumps(stored | {"theme": "pink"}), '{"threshold": "x"}'):
        path.write_text(text)
        assert ChoiceStore(path).choices == Choices()


def test_default_choices_change_nothing_of_what_the_program_was_started_with():
    cleaning, decision = config.CleaningSettings(), config.DecisionSettings(oh=True)
    assert Choices().cleaning(cleaning) == cleaning
    assert Choices().decision(decision) == decision
    assert Choices(highpass=False, sensitivity=3).cleaning(cleaning) == dataclasses.replace(
        cleaning, highpass_hz=0.0, vad_mode=0
    )
    assert Choices(models="rnn").decision(decision).models_dir.name == "rnn.pt"


def test_a_choice_that_cannot_be_loaded_leaves_the_former(service):
    with pytest.raises(config.UserError):
        service.choose(Choices(models="nowhere"))
    assert service.choices == Choices()
    service.choose(Choices(models="cnn"))
    answer = service.recognize("seven.wav", SEVEN, "upload")
    assert list(answer.result.prediction.predictions) == ["cnn"]


def test_a_higher_threshold_makes_it_no_digit(service):
    service.choose(Choices(threshold=1.0))
    assert service.recognize("seven.wav", SEVEN, "upload").result.digit is None


def test_feedback_goes_to_the_history_and_a_digit_to_the_own_voice(service, tmp_path):
    answer = service.recognize("seven.wav", SEVEN, "upload")
    assert "it was 3" in service.feed_back(answer, 3)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["3_ada_0.wav"]
    service.feed_back(answer, 7)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["7_ada_0.wav"]
    assert service.history.rows()[0]["feedback"] == 7
    service.feed_back(answer, config.REJECT)
    assert service.history.rows()[0]["feedback"] == config.REJECT
    assert judgements(config.Vocabulary()) == ["right", *"0123456789", "no digit"]
    turns = config.Vocabulary(("left", "right"), ("left", "right"))
    assert judgements(turns) == ["as answered", "left", "right", "none of the words"]


def test_the_stream_gives_the_digits_that_files_give(service):
    listener = Listener(service)
    quiet = np.random.default_rng(0).normal(0, 1e-3, 48_000).astype(np.float32)
    parts = [quiet]
    for path in (SEVEN, SEVEN):
        waveform, rate = audio_io.read_audio(path)
        parts += [audio_io.resample(waveform, rate, 48_000), quiet]
    stream = np.concatenate(parts)
    levels = set()
    for start in range(0, len(stream), 9600):
        listener.feed(stream[start : start + 9600], 48_000, 0.5)
        levels.add(listener.speaking)
    listener.stop(0.5)
    assert listener.digits == [7, 7]
    assert levels == {True, False}
    assert {row["kind"] for row in service.history.rows()} == {"continuous"}
    listener.clear()
    assert listener.digits == []


def test_fluent_digits_show_while_they_are_spoken_and_are_kept_once(service, monkeypatch):
    network = ToneNetwork()
    monkeypatch.setattr(
        service, "string_recognizer", lambda settings=None: StringRecognizer(network, settings)
    )
    listener, seen = Listener(service), []
    stream = np.concatenate([tones([4, 2, 2]), np.zeros(2 * RATE, np.float32), tones([7])])
    for start in range(0, len(stream), RATE // 5):
        listener.feed(stream[start : start + RATE // 5], RATE, 0.5, fluent=True)
        if listener.changed:
            seen.append(list(listener.digits))
    listener.stop(0.5)
    assert listener.digits == [4, 2, 2, 7]
    assert [4, 2] in seen or [4] in seen  # before the string was closed
    rows = service.history.rows()
    assert [row["digits"] for row in rows] == ["7", "422"]
    assert history_figures.by_digit(rows)["2"] == 2
    assert listener.last.digits == "7"
    assert "100% sure: 7 100%" in shown.answer_or_string(listener.last)


def test_rows_of_a_batch_are_those_of_batch_inference(service):
    sources = uploads.expand([("7_a_0.wav", SEVEN), ("bad.wav", b"no sound")], 10)
    rows = list(batch.answers(service, sources))
    result = Recognizer().recognize_file(SEVEN)
    assert rows[0]["digit"] == result.digit == 7
    assert rows[0]["confidence"] == round(result.confidence, 4)
    assert rows[1]["error"]
    assert batch.labelled(rows) == [(7, 7)]
    assert batch.shown_row(rows[1])[-1] == rows[1]["error"]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("7_ada_0.wav", 7),
        ("ada-seven.wav", 7),
        ("theo_take12_3.wav", 3),
        ("Nine.WAV", 9),
        ("oh_1.wav", 0),
        ("recording.wav", None),
        ("12_34.wav", None),
        ("²_a.wav", None),
    ],
)
def test_labels_out_of_names(name, label):
    assert uploads.label_of(name) == label


def test_accuracy_and_confusion():
    accuracy, counts = confusion([(7, 7), (7, 1), (3, config.REJECT), (3, 3)])
    assert accuracy == 0.5
    assert counts[7, 1] == 1 and counts[3, config.REJECT] == 1
    assert "Accuracy 50.0%" in shown.confusion(accuracy, counts)


def test_archives_are_read_without_unpacking(tmp_path):
    content = zip_bytes({"in/seven.wav": b"abc", "b.txt": b"x", ".hidden.wav": b"x"})
    assert uploads.expand([("a.zip", content)], 10) == [("seven.wav", b"abc")]
    path = tmp_path / "renamed.wav"  # what it holds counts, not its name
    path.write_bytes(content)
    assert uploads.expand([("renamed.wav", path)], 10) == [("seven.wav", b"abc")]


def test_uploads_from_elsewhere_are_refused(tmp_path):
    inside = tmp_path / "uploads" / "a.wav"
    inside.parent.mkdir()
    inside.write_bytes(b"x")
    assert uploads.uploaded(str(inside), inside.parent) == inside.resolve()
    for path in (str(SEVEN), f"{inside.parent}/../../etc/passwd", f"{inside.parent}/none.wav"):
        with pytest.raises(uploads.Refused):
            uploads.uploaded(path, inside.parent)


def test_what_is_shown_is_escaped_and_names_everything(service):
    answer = service.recognize("<b>&.wav", SEVEN, "upload").result
    shown_answer, bars = shown.answer(answer), shown.posteriors(answer)
    assert '<p class="digit">7</p>' in shown_answer
    for fact in ("Speech", "Level", "SNR", "Time", "CNN 7", "BiLSTM 7"):
        assert fact in shown_answer
    assert bars.count("<tr") == 12 and "no digit" in bars
    assert "<b>" not in shown.refusal("<b>")
    silence = audio_io.Recording(np.zeros(16_000, np.float32), 16_000)
    nothing = service.answer(silence, "upload", service.recognizer()).result
    assert "no digit" in shown.answer(nothing) and "nothing but zeros" in shown.answer(nothing)


def test_no_piece_of_a_stream_takes_the_place_of_another(service, tmp_path):
    wired = {
        event: wiring
        for wiring in pages.build(service, tmp_path).fns.values()
        for _, event in wiring.targets
    }
    feed, stop = wired["stream"], wired["stop_recording"]
    assert (feed.connection, feed.trigger_mode) == ("sse", "multiple")
    assert feed.concurrency_id == stop.concurrency_id  # the end comes after the last piece
    assert feed.concurrency_limit == stop.concurrency_limit == 1


STUBS = """
import inspect, sys
opened = []
sys.addaudithook(lambda event, told: event == "open" and opened.append(str(told[0])))
from webapp.gradio_import import import_gradio
gradio = import_gradio()
print([path for path in opened if path.endswith(".pyi")], inspect.getfile(gradio.Audio))
"""


def test_gradio_makes_no_stub_files_when_the_app_imports_it():
    done = subprocess.run([sys.executable, "-c", STUBS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stubs, place = done.stdout.split(" ", 1)
    assert stubs == "[]" and place.strip().endswith("audio.py")


def test_an_answer_never_waits_for_the_rest_of_a_packet():
    with app.listening_socket(ServerSettings(port=0)) as listening:
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
