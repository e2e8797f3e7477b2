"""Many files: the same answers as one by one, nothing lost when stopped, bad files told."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet
import pytest
import soundfile
import torch
from untrained import AUDIO, FEATURES
from waiting import PATIENCE, unmeasured, wait_until

import audio_cleaning
import audio_io
import batch_inference
import config
from batch_inference import BatchSettings
from models import registry
from recognition import answer_table, file_workers
from recognition.answer_journal import AnswerJournal
from recognition.answer_table import COLUMNS, path_cell, write_table
from recognition.checkpoint import Checkpoint, save_checkpoint
from recognition.recognizer import Recognizer

ROOT = Path(batch_inference.__file__).parent
ARCHIVE = os.environ.get("FSDD_ARCHIVE")
needs_fsdd = pytest.mark.skipif(not ARCHIVE, reason="FSDD_ARCHIVE names no FSDD archive")
needs_models = pytest.mark.skipif(
    not list((ROOT / "saved_models").glob("*.pt")), reason="saved_models holds no trained networks"
)
not_windows = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
STOPS = [
    pytest.param(getattr(signal, name), id=name)
    for name in ("SIGINT", "SIGTERM", "SIGKILL")
    if hasattr(signal, name)
]
ODD_NAMES = () if os.name == "nt" else ("cr\rlf\n.wav", os.fsdecode(b"\xff\xfe.wav"), "=1+1.wav")
"""Names that Windows does not have."""


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    """A folder with two untrained networks: what they answer is arbitrary, but always the same."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("cnn", "rnn")):
        torch.manual_seed(seed)
        arguments = {"width": 16}
        weights = registry.create_model(name, FEATURES.n_mels, **arguments).state_dict()
        save_checkpoint(
            folder / f"{name}.pt", Checkpoint(name, arguments, weights, AUDIO, FEATURES)
        )
    return folder


def sound(seed: int, rate: int = 8000) -> np.ndarray:
    random = np.random.default_rng(seed)
    time_s = np.arange(int(rate * random.uniform(0.3, 1.2))) / rate
    buzz = sum(np.sin(2 * np.pi * random.uniform(90, 200) * k * time_s) / k for k in range(1, 9))
    return (0.1 * buzz * np.hanning(len(time_s))).astype(np.float32)


def make_clips(folder: Path) -> Path:
    """A tree of 12 sound files of several kinds, and 3 bad ones."""
    (folder / "deep").mkdir(parents=True)
    for n in range(10):
        soundfile.write(folder / f"{n}.wav", sound(n), 8000)
    soundfile.write(
        folder / "deep" / "stereo.flac", np.stack([sound(20, 44100)] * 2, axis=1), 44100
    )
    soundfile.write(folder / "deep" / "silent.wav", np.zeros(8000), 8000)
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("not sound")
    soundfile.write(folder / "long.wav", np.zeros(61 * 8000), 8000)
    (folder / "notes.txt").write_text("not even a sound file's name")
    return folder


@pytest.fixture
def clips(tmp_path) -> Path:
    return make_clips(tmp_path / "clips")


def script(networks: Path, *words: str | Path, program: Path | None = None) -> list[str]:
    program = program or ROOT / "batch_inference.py"
    return [sys.executable, str(program), *map(str, words), "--decision.models-dir", str(networks)]


def batch(networks: Path, *words: str | Path, **more) -> subprocess.CompletedProcess:
    command = script(networks, *words, **more)
    return subprocess.run(command, capture_output=True, timeout=PATIENCE, text=True)


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Answered:
    """What one run over good, bad and oddly named files printed and wrote."""

    def __init__(self, folder: Path, networks: Path) -> None:
        self.clips, self.output = make_clips(folder / "clips"), folder / "out.jsonl"
        (folder / "odd").mkdir()
        for name in ODD_NAMES:
            shutil.copy(self.clips / "1.wav", folder / "odd" / name)
        odd = [folder / "odd"] if ODD_NAMES else []
        words = (self.clips, folder / "none.wav", *odd, "--output", self.output)
        self.done = batch(networks, *words)
        rows = read(self.output)
        self.odd = [row for row in rows if "odd" in row["path"]]
        self.rows = [row for row in rows if "odd" not in row["path"]]


@pytest.fixture(scope="module")
def answered(networks, tmp_path_factory) -> Answered:
    return Answered(tmp_path_factory.mktemp("answered"), networks)


def test_rows_equal_the_answers_one_by_one(networks, answered):
    recognizer = Recognizer(config.DecisionSettings(models_dir=networks))
    assert answered.done.returncode == 0
    assert [Path(row["path"]).name for row in answered.rows] == [
        *(f"{n}.wav" for n in range(10)),
        "silent.wav",
        "stereo.flac",
        "empty.wav",
        "long.wav",
        "text.wav",
        "none.wav",
    ]
    for row in answered.rows:
        assert list(row) == list(COLUMNS)
        if row["error"] is not None:
            continue
        result = recognizer.recognize_file(row["path"])
        cleaned, answer = result.cleaned, result.prediction
        assert row["n_digits"] == result.n_digits
        assert row["digit"] == answer.digit and row["best_guess"] == answer.best_guess
        assert row["accepted"] == answer.accepted == (row["digit"] is not None)
        assert row["confidence"] == pytest.approx(answer.confidence, abs=1e-3)
        for name in ("cnn", "rnn"):
            assert row[f"{name}_digit"] == answer.predictions[name].digit
            assert row[f"{name}_confidence"] == pytest.approx(
                answer.predictions[name].confidence, abs=1e-3
            )
        if cleaned.segments:
            assert row["speech_end_s"] == pytest.approx(cleaned.speech_end_s, abs=1e-3)
            assert row["snr_db"] == pytest.approx(cleaned.snr_db, abs=0.06)


def test_a_clipped_recording_is_answered_alike_by_every_way_in(networks, clips, tmp_path):
    loud = np.clip(
        30 * audio_io.resample(audio_io.read_audio(clips / "1.wav")[0], 8000, 48000), -1, 1
    )
    audio_io.write_audio(tmp_path / "loud.wav", loud, 48000)
    batch(networks, tmp_path / "loud.wav", "--output", tmp_path / "out.jsonl")
    (row,) = read(tmp_path / "out.jsonl")
    alone = Recognizer(config.DecisionSettings(models_dir=networks)).recognize_file(
        tmp_path / "loud.wav"
    )
    assert row["confidence"] == round(alone.confidence, 4)
    assert "clipped" in row["remarks"] and "clipped" in alone.remarks


def test_bad_files_are_told_counted_and_skipped(answered):
    bad = {Path(row["path"]).name: row for row in answered.rows if row["error"]}
    assert set(bad) == {"empty.wav", "text.wav", "long.wav", "none.wav"}
    assert bad["none.wav"]["error"] == "no such file" and "61 s long" in bad["long.wav"]["error"]
    for name, row in bad.items():
        assert all(row[column] is None for column in COLUMNS if column not in ("path", "error"))
        assert name in answered.done.stderr
    assert f"{16 + len(ODD_NAMES)} files" in answered.done.stdout


def test_silence_has_a_best_guess_no_digit_and_a_remark(answered):
    row = next(row for row in answered.rows if "silent" in row["path"])
    assert row["digit"] is None and row["best_guess"] == 0 and row["accepted"] is False
    assert row["speech_start_s"] is None and row["error"] is None
    assert row["n_digits"] == 0 and row["remarks"]


@pytest.mark.skipif(not ODD_NAMES, reason="Windows has no such names")
def test_any_name_is_one_row_that_leads_back_to_its_file(answered, tmp_path):
    assert len(answered.odd) == len(ODD_NAMES)
    for row in answered.odd:
        assert row["path"].isprintable() and row["path"].isascii()
        path = row["path"]
        if path.startswith("file://"):
            path = os.fsdecode(urllib.parse.unquote_to_bytes(path.removeprefix("file://")))
        assert Path(path).read_bytes() == (answered.clips / "1.wav").read_bytes()
    write_table(answered.odd, tmp_path / "out.csv")
    assert b"\r" not in (tmp_path / "out.csv").read_bytes()
    assert len(pandas.read_csv(tmp_path / "out.csv")) == len(ODD_NAMES)


@pytest.mark.parametrize("name", ["=1+1.wav", "+7.wav", "-7.wav", "@seven.wav"])
def test_a_name_is_no_formula_and_still_the_same_path(name):
    assert path_cell(name)[0] not in "=+-@" and Path(path_cell(name)) == Path(name)
    assert path_cell("плюс + 7.wav") == "плюс + 7.wav"


def test_the_three_formats_say_the_same(answered, tmp_path):
    for suffix in ("csv", "parquet"):
        write_table(answered.rows, tmp_path / f"out.{suffix}")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [
        ["" if value is None else str(value) for value in row.values()] for row in answered.rows
    ] == [list(row.values()) for row in table]
    parquet = pandas.read_parquet(tmp_path / "out.parquet", dtype_backend="numpy_nullable")
    assert list(parquet.columns) == list(COLUMNS)
    assert str(parquet.dtypes["digit"]) == "Int64" and str(parquet.dtypes["accepted"]) == "boolean"
    for row, other in zip(answered.rows, parquet.to_dict("records"), strict=True):
        assert row == {key: None if pandas.isna(value) else value for key, value in other.items()}


def test_rows_beyond_what_is_kept_in_memory_are_written_in_their_order(
    answered, tmp_path, monkeypatch
):
    monkeypatch.setattr(answer_table, "GROUP", 3)
    paths = [row["path"] for row in answered.rows]
    with AnswerJournal(tmp_path / "journal", {}, dict.fromkeys(paths)) as journal:
        journal.add(answered.rows[::-1])
        write_table(journal.rows(paths), tmp_path / "out.parquet")
    written = pyarrow.parquet.ParquetFile(tmp_path / "out.parquet")
    assert written.num_row_groups == -(-len(paths) // 3) > 1
    assert written.read()["path"].to_pylist() == paths


@pytest.mark.parametrize(
    ("dialect", "marks"),
    [("excel", {"sep": ","}), ("excel-semicolon", {"sep": ";", "decimal": ","})],
)
def test_excel_knows_its_csv_as_utf8_and_its_numbers(answered, tmp_path, dialect, marks):
    row = answered.rows[1] | {"path": "цифра.wav"}
    write_table([row], tmp_path / "out.csv", dialect)
    content = (tmp_path / "out.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf") and content.count(b"\r\n") == 2
    (read_back,) = pandas.read_csv(io.BytesIO(content), **marks).to_dict("records")
    assert read_back["path"] == "цифра.wav" and read_back["confidence"] == row["confidence"]


def test_without_cleaning_nothing_is_trimmed_and_nothing_claimed(networks, clips):
    recognizer = Recognizer(config.DecisionSettings(models_dir=networks), None)
    (row,) = file_workers.answer_sources([("1", clips / "1.wav")], recognizer)
    answer = recognizer.predictor.predict(audio_io.read_audio(clips / "1.wav")[0])
    assert row["speech_start_s"] is None and row["snr_db"] is None
    assert row["confidence"] == pytest.approx(answer.confidence, abs=1e-3)


def test_files_named_twice_are_answered_once(clips):
    found = batch_inference.find_files([clips / "1.wav", clips, clips / "1.wav"])
    assert len(found) == len(set(found)) == 15 and found.left_out == [clips / "notes.txt"]


def test_what_the_networks_raise_is_the_error_of_the_recording_that_raised_it(
    networks, clips, monkeypatch
):
    recognizer = Recognizer(config.DecisionSettings(models_dir=networks))
    original = audio_cleaning.clean

    def clean(waveform, *rest):
        if len(waveform) == len(sound(3)):
            raise ZeroDivisionError("third\nfile")
        return original(waveform, *rest)

    monkeypatch.setattr(audio_cleaning, "clean", clean)
    sources = [(f"{n}", clips / f"{n}.wav") for n in range(5)]
    rows = file_workers.answer_sources(sources, recognizer)
    assert [row["error"] for row in rows] == [
        None,
        None,
        None,
        r"ZeroDivisionError: third\nfile",
        None,
    ]


DISTURBED = """
import os, sys, time
sys.path.insert(0, {root!r})
import audio_io, batch_inference, utils

original = audio_io.read_recording

def read_recording(path, **more):
    if "hang" in os.path.basename(path):
        time.sleep(600)
    if "crash" in os.path.basename(path):
        os._exit(11)
    if "raise" in os.path.basename(path):
        raise RecursionError("too deep")
    return original(path, **more)

audio_io.read_recording = read_recording
if __name__ == "__main__":
    utils.main(batch_inference.run, batch_inference.BatchSettings, "disturbed")
"""


@pytest.mark.slow
def test_a_decoder_that_hangs_crashes_or_raises_costs_its_own_row_only(networks, clips, tmp_path):
    """Worker processes import the script that started them, so they are disturbed as it is."""
    program = tmp_path / "disturbed.py"
    program.write_text(DISTURBED.format(root=str(ROOT)), encoding="utf-8")
    for name in ("hang", "crash", "raise"):
        shutil.copy(clips / "1.wav", clips / f"4_{name}.wav")
    output = tmp_path / "out.jsonl"
    done = batch(networks, clips, "--output", output, "--file-seconds", "8", program=program)
    assert done.returncode == 0, done.stderr
    rows = {Path(row["path"]).name: row for row in read(output)}
    assert len(rows) == 18 and sum(row["error"] is None for row in rows.values()) == 12
    assert rows["4_hang.wav"]["error"] == "took longer than 8 s"
    assert "ended the process" in rows["4_crash.wav"]["error"]
    assert rows["4_raise.wav"]["error"] == "RecursionError: too deep"
    assert "Traceback" not in done.stderr


def test_standard_input_is_answered_as_a_file_is(networks, clips, tmp_path):
    output = tmp_path / "out.jsonl"
    with (clips / "1.wav").open("rb") as file:
        piped = subprocess.run(
            script(networks, "-", clips / "1.wav", "--output", output),
            stdin=file,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert piped.returncode == 0, piped.stderr
    piped_row, file_row = read(output)
    assert piped_row["path"] == "-" and piped_row["error"] is None
    assert piped_row | {"path": ""} == file_row | {"path": ""}


def test_a_stopped_run_goes_on_and_what_changed_or_was_cut_is_done_again(
    networks, answered, tmp_path
):
    output, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial.jsonl"
    shutil.copytree(answered.clips, tmp_path / "clips")
    names = [tmp_path / "clips" / f"{n}.wav" for n in range(8)]
    settings = BatchSettings(
        tuple(names), output, decision=config.DecisionSettings(models_dir=networks)
    )
    fake = [
        [batch_inference.stamp(name), dict.fromkeys(COLUMNS) | {"path": str(name), "digit": 99}]
        for name in names[:5]
    ]
    lines = map(json.dumps, [batch_inference.fingerprint(settings), *fake])
    partial.write_text("\n".join(lines) + '\n[[1, 2], {"path": "half a li')
    soundfile.write(names[1], sound(100), 8000)  # replaced after it was answered
    os.utime(names[2], ns=(0, 0))
    done = batch(networks, *names, "--output", output)
    assert "going on: 3 of 8" in done.stderr and "2 files have changed" in done.stderr
    kept = [row["digit"] == 99 for row in read(output)]
    assert kept == [True, False, False, True, True, False, False, False]
    assert not partial.exists()


def test_rows_made_with_other_settings_are_not_used(networks, clips, tmp_path, capsys):
    partial = tmp_path / "out.jsonl.partial.jsonl"
    settings = BatchSettings((clips,), tmp_path / "out.jsonl")
    other = batch_inference.fingerprint(settings) | {"clean": False}
    fake = [[1, 2], dict.fromkeys(COLUMNS) | {"path": "a.wav", "digit": 99}]
    partial.write_text(json.dumps(other) + "\n" + json.dumps(fake) + "\n")
    wanted = batch_inference.fingerprint(settings)
    with AnswerJournal(partial, wanted, {"a.wav": [1, 2]}) as journal:
        assert len(journal) == 0 and "a.wav" not in journal
        assert "starting over" in capsys.readouterr().err
        assert partial.read_text() == json.dumps(wanted) + "\n"
    assert not partial.exists()


def test_a_table_that_cannot_be_written_keeps_the_answers(networks, clips, tmp_path):
    output = tmp_path / "out.csv"
    output.mkdir()
    done = batch(networks, clips / "1.wav", "--output", output)
    assert done.returncode == 1 and "the answers are kept" in done.stderr
    assert done.stderr.count("\n") == 1
    output.rmdir()
    done = batch(networks, clips / "1.wav", "--output", output)
    assert done.returncode == 0 and "going on: 1 of 1" in done.stderr
    assert len(pandas.read_csv(output)) == 1


def wait_for_end(group: int) -> None:
    """Wait until no process of a group is left."""

    def ended() -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(ended, "processes are left over")


def many_files(folder: Path, count: int) -> Path:
    folder.mkdir()
    soundfile.write(folder / "first.wav", sound(0), 8000)
    for n in range(count):
        os.link(folder / "first.wav", folder / f"{n}.wav")
    return folder


@pytest.mark.slow
@not_windows
@pytest.mark.parametrize("number", STOPS)
def test_a_stopped_batch_keeps_what_was_answered_and_leaves_no_process(networks, tmp_path, number):
    folder = many_files(tmp_path / "many", 1500)
    output, partial = tmp_path / "out.csv", tmp_path / "out.csv.partial.jsonl"
    command = script(networks, folder, "--output", output, "--workers", "2")
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=unmeasured()
    )
    while not partial.exists() or partial.read_bytes().count(b"\n") < 200:
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.01)
    if number == signal.SIGINT:  # as a terminal does: to all of them
        os.killpg(running.pid, number)
    else:
        running.send_signal(number)
    complaint = running.communicate(timeout=PATIENCE)[1]
    assert running.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number)
    assert "Traceback" not in complaint
    assert ("goes on from there" in complaint) == (number != signal.SIGKILL)
    wait_for_end(running.pid)
    answered = partial.read_bytes().count(b"\n") - 1
    assert 190 < answered < 1501 and not output.exists()
    if number == signal.SIGTERM:
        again = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert again.returncode == 0 and f"going on: {answered} of 1501" in again.stderr
        assert len(pandas.read_csv(output)) == 1501 and not partial.exists()


@pytest.mark.slow
@not_windows
@pytest.mark.parametrize("number", STOPS)
def test_a_batch_stopped_while_processes_start_leaves_none_and_no_traceback(
    networks, tmp_path, number
):
    folder = many_files(tmp_path / "many", 300)
    partial = tmp_path / "out.csv.partial.jsonl"
    for delay in (0.02, 0.2, 0.6):
        running = subprocess.Popen(
            script(networks, folder, "--output", tmp_path / "out.csv", "--workers", "2"),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=unmeasured(),
        )
        while not partial.exists():  # the script is at work from here on
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.005)
        time.sleep(delay)
        (os.kill if number == signal.SIGKILL else os.killpg)(running.pid, number)
        complaint = running.communicate(timeout=PATIENCE)[1]
        assert running.returncode in (130, 143, -number)
        # of a process that was being started, the interpreter itself says that nothing came
        assert "Traceback" not in complaint or number == signal.SIGKILL
        wait_for_end(running.pid)
        partial.unlink(missing_ok=True)


def test_processes_answer_as_one_process_does(networks, tmp_path):
    (tmp_path / "all").mkdir()
    for n in range(10):
        soundfile.write(tmp_path / "all" / f"{n}.wav", sound(n), 8000)
        for copy in range(29):
            os.link(tmp_path / "all" / f"{n}.wav", tmp_path / "all" / f"{n}_{copy}.wav")
    for workers in (1, 2):
        output = tmp_path / f"{workers}.jsonl"
        done = batch(networks, tmp_path / "all", "--output", output, "--workers", str(workers))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1 and "files/s" in done.stdout
    one, two = read(tmp_path / "1.jsonl"), read(tmp_path / "2.jsonl")
    assert len(one) == 300 and one == two


@pytest.mark.parametrize(
    "words, code, complaint",
    [
        (("CLIPS", "--output", "table.xlsx"), 2, "must end in .csv, .jsonl or .parquet"),
        (("CLIPS",), 2, "output"),
        (("CLIPS", "--output", "OUT", "--file-seconds", "0"), 2, "file-seconds is 0"),
        (("NOTHING", "--output", "OUT"), 1, "no sound files"),
        (
            ("CLIPS", "--output", "OUT", "--decision.models-dir", "NOTHING"),
            1,
            "no trained networks",
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(clips, networks, tmp_path, words, code, complaint):
    places = {"CLIPS": clips, "NOTHING": tmp_path / "nothing", "OUT": tmp_path / "out.csv"}
    (tmp_path / "nothing").mkdir()
    command = [
        sys.executable,
        str(ROOT / "batch_inference.py"),
        *(str(places.get(word, word)) for word in words),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path)
    assert done.returncode == code and complaint in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "nothing"]


@needs_fsdd
@needs_models
@pytest.mark.slow
def test_the_official_test_set_is_right_with_and_without_cleaning(tmp_path):
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in archive.namelist():
            if name.endswith(".wav"):
                (tmp_path / Path(name).name).write_bytes(archive.read(name))
    for switch in ("--no-clean", "--clean"):
        output = tmp_path / f"out{switch}.csv"
        done = subprocess.run(
            script(ROOT / "saved_models", tmp_path, "--output", output, switch, "--workers", "2"),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        table = pandas.read_csv(output)
        truth = table.path.map(lambda path: int(Path(path).name[0]))
        test = table.path.map(lambda path: int(Path(path).stem.split("_")[-1]) < 5)
        assert len(table) == 3000 and test.sum() == 300
        assert (table.best_guess == truth)[test].mean() >= 0.97
