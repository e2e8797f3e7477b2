"""Many files: the same answers as one by one, nothing lost when stopped, bad files told."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
import torch
from waiting import PATIENCE, wait_until

import audio_cleaning
import audio_io
import batch_inference
import config
import models
from batch_inference import COLUMNS, BatchSettings
from recognition.checkpoint import Checkpoint, save_checkpoint
from recognition.predictor import Predictor

ROOT = Path(batch_inference.__file__).parent
ARCHIVE = os.environ.get("FSDD_ARCHIVE")
needs_fsdd = pytest.mark.skipif(not ARCHIVE, reason="FSDD_ARCHIVE names no FSDD archive")
needs_models = pytest.mark.skipif(
    not list((ROOT / "saved_models").glob("*.pt")), reason="saved_models holds no trained networks"
)


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    """A folder with two untrained networks: what they answer is arbitrary, but always the same."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("cnn", "rnn")):
        torch.manual_seed(seed)
        arguments = {"width": 16}
        weights = models.create_model(name, 40, **arguments).state_dict()
        save_checkpoint(
            folder / f"{name}.pt",
            Checkpoint(name, arguments, weights, config.AudioSettings(), config.FeaturesSettings()),
        )
    return folder


def sound(seed: int, rate: int = 8000) -> np.ndarray:
    random = np.random.default_rng(seed)
    time_s = np.arange(int(rate * random.uniform(0.3, 1.2))) / rate
    buzz = sum(np.sin(2 * np.pi * random.uniform(90, 200) * k * time_s) / k for k in range(1, 9))
    return (0.1 * buzz * np.hanning(len(time_s))).astype(np.float32)


@pytest.fixture
def clips(tmp_path) -> Path:
    """A tree of 12 sound files of several kinds, and 3 bad ones."""
    folder = tmp_path / "clips"
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


def batch(networks: Path, output: Path, *paths: Path, **changes) -> int:
    return batch_inference.run(
        BatchSettings(
            paths, output, decision=config.DecisionSettings(models_dir=networks), **changes
        )
    )


def script(networks: Path, *words: str | Path) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "batch_inference.py"),
        *map(str, words),
        "--decision.models-dir",
        str(networks),
    ]


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_equal_the_answers_one_by_one(networks, clips, tmp_path):
    predictor = Predictor(config.DecisionSettings(models_dir=networks))
    assert batch(networks, tmp_path / "out.jsonl", clips) == 0
    rows = read(tmp_path / "out.jsonl")
    assert [Path(row["path"]).name for row in rows] == [
        *(f"{n}.wav" for n in range(10)),
        "silent.wav",
        "stereo.flac",
        "empty.wav",
        "long.wav",
        "text.wav",
    ]
    for row in rows:
        assert list(row) == list(COLUMNS)
        if row["error"] is not None:
            continue
        cleaned = audio_cleaning.clean(audio_io.read_audio(row["path"], 8000)[0], 8000)
        answer = predictor.predict(cleaned.speech)
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


def test_bad_files_are_told_counted_and_skipped(networks, clips, tmp_path, capsys):
    assert batch(networks, tmp_path / "out.jsonl", clips, tmp_path / "none.wav") == 0
    told = capsys.readouterr()
    bad = {Path(row["path"]).name: row for row in read(tmp_path / "out.jsonl") if row["error"]}
    assert set(bad) == {"empty.wav", "text.wav", "long.wav", "none.wav"}
    assert bad["none.wav"]["error"] == "no such file" and "61 s long" in bad["long.wav"]["error"]
    for name, row in bad.items():
        assert all(row[column] is None for column in COLUMNS if column not in ("path", "error"))
        assert name in told.err
    assert "16 files" in told.out and "4 unreadable" in told.out
    assert batch(networks, tmp_path / "bad.csv", clips / "empty.wav") == 1


def test_silence_has_a_best_guess_but_no_digit(networks, clips, tmp_path):
    batch(networks, tmp_path / "out.jsonl", clips / "deep" / "silent.wav")
    (row,) = read(tmp_path / "out.jsonl")
    assert row["digit"] is None and row["best_guess"] == 0 and row["accepted"] is False
    assert row["speech_start_s"] is None and row["error"] is None


def test_the_three_formats_say_the_same(networks, clips, tmp_path):
    for suffix in ("csv", "jsonl", "parquet"):
        batch(networks, tmp_path / f"out.{suffix}", clips)
    rows = read(tmp_path / "out.jsonl")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [["" if value is None else str(value) for value in row.values()] for row in rows] == [
        list(row.values()) for row in table
    ]
    parquet = pandas.read_parquet(tmp_path / "out.parquet", dtype_backend="numpy_nullable")
    assert list(parquet.columns) == list(COLUMNS)
    assert str(parquet.dtypes["digit"]) == "Int64" and str(parquet.dtypes["accepted"]) == "boolean"
    for row, other in zip(rows, parquet.to_dict("records"), strict=True):
        assert row == {key: None if pandas.isna(value) else value for key, value in other.items()}


def test_without_cleaning_nothing_is_trimmed_and_nothing_claimed(networks, clips, tmp_path):
    batch(networks, tmp_path / "out.jsonl", clips / "1.wav", clean=False)
    (row,) = read(tmp_path / "out.jsonl")
    answer = Predictor(config.DecisionSettings(models_dir=networks)).predict(
        audio_io.read_audio(clips / "1.wav")[0]
    )
    assert row["speech_start_s"] is None and row["snr_db"] is None
    assert row["confidence"] == pytest.approx(answer.confidence, abs=1e-3)


def test_files_named_twice_are_answered_once(networks, clips, tmp_path):
    batch(networks, tmp_path / "out.jsonl", clips / "1.wav", clips, clips / "1.wav")
    assert len(read(tmp_path / "out.jsonl")) == 15


def test_a_stopped_run_goes_on_and_a_cut_line_is_done_again(networks, clips, tmp_path, monkeypatch):
    output, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial.jsonl"
    batch(networks, output, clips)
    whole = output.read_text()
    output.unlink()
    settings = BatchSettings(
        (clips,), output, decision=config.DecisionSettings(models_dir=networks)
    )
    first = [json.dumps(batch_inference.fingerprint(settings)), *whole.splitlines()[:5]]
    partial.write_text("\n".join(first) + '\n{"path": "half a li')
    read_again = []
    original = audio_io.read_recording
    monkeypatch.setattr(
        audio_io,
        "read_recording",
        lambda path, *rest: read_again.append(path) or original(path, *rest),
    )
    batch(networks, output, clips)
    assert output.read_text() == whole
    assert len(read_again) == 10, "five of the fifteen files were answered before"
    assert not partial.exists()


def test_rows_made_with_other_settings_are_not_used(networks, clips, tmp_path, capsys):
    output = tmp_path / "out.jsonl"
    partial = output.with_name("out.jsonl.partial.jsonl")
    other = BatchSettings(
        (clips,), output, clean=False, decision=config.DecisionSettings(models_dir=networks)
    )
    fake = dict.fromkeys(COLUMNS) | {"path": str(clips / "1.wav"), "digit": 99}
    partial.write_text(
        json.dumps(batch_inference.fingerprint(other)) + "\n" + json.dumps(fake) + "\n"
    )
    batch(networks, output, clips)
    assert "starting over" in capsys.readouterr().err
    assert all(row["digit"] != 99 for row in read(output))


def wait_for_end(group: int) -> None:
    """Wait until no process of a group is left."""

    def ended() -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(ended, "processes are left over")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT as a terminal does")
def test_ctrl_c_keeps_what_was_answered_and_ends_every_process(networks, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    soundfile.write(folder / "first.wav", sound(0), 8000)
    for n in range(3000):
        os.link(folder / "first.wav", folder / f"{n}.wav")
    output, partial = tmp_path / "out.csv", tmp_path / "out.csv.partial.jsonl"
    command = script(networks, folder, "--output", output, "--workers", "2")
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not partial.exists() or partial.read_bytes().count(b"\n") < 200:
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)
    complaint = running.communicate(timeout=PATIENCE)[1]
    assert running.returncode == 130 and "Traceback" not in complaint
    assert "goes on from there" in complaint
    wait_for_end(running.pid)
    answered = partial.read_bytes().count(b"\n") - 1
    assert 190 < answered < 3001 and not output.exists()
    again = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert again.returncode == 0 and f"going on: {answered} of 3001" in again.stderr
    assert len(pandas.read_csv(output)) == 3001 and not partial.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT as a terminal does")
def test_ctrl_c_while_processes_start_prints_no_traceback(networks, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    soundfile.write(folder / "first.wav", sound(0), 8000)
    for n in range(300):
        os.link(folder / "first.wav", folder / f"{n}.wav")
    partial = tmp_path / "out.csv.partial.jsonl"
    for delay in (0.02, 0.2, 0.6):
        running = subprocess.Popen(
            script(networks, folder, "--output", tmp_path / "out.csv", "--workers", "2"),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while not partial.exists():  # the script is at work from here on
            time.sleep(0.005)
        time.sleep(0.15 + delay)
        os.killpg(running.pid, signal.SIGINT)
        complaint = running.communicate(timeout=PATIENCE)[1]
        assert running.returncode == 130 and "Traceback" not in complaint
        wait_for_end(running.pid)
        partial.unlink(missing_ok=True)


def test_processes_answer_as_one_process_does(networks, tmp_path, clips):
    paths = [clips / f"{n}.wav" for n in range(10)]
    copies = [shutil.copy(path, tmp_path / f"{n}_{path.name}") for n in range(30) for path in paths]
    (tmp_path / "all").mkdir()
    for copy in copies:
        shutil.move(copy, tmp_path / "all")
    for workers in (1, 2):
        done = subprocess.run(
            script(
                networks,
                tmp_path / "all",
                "--output",
                tmp_path / f"{workers}.jsonl",
                "--workers",
                workers,
            ),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1 and "files/s" in done.stdout
    one, two = read(tmp_path / "1.jsonl"), read(tmp_path / "2.jsonl")
    assert len(one) == 300 and one == two


@pytest.mark.parametrize(
    "words, code, complaint",
    [
        (("CLIPS", "--output", "table.xlsx"), 2, "must end in .csv, .jsonl or .parquet"),
        (("CLIPS",), 2, "output"),
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
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
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
