"""What people bring and do, through the scripts themselves and with the shipped networks.

The parts have tests of their own; here each habit is tried from its command to its answer.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_sounddevice import FakeSoundDevice
from test_recordings_people_bring import encode

import audio_io
import audio_recorder_analyzer
import batch_inference
import config
import microphone_inference
import utils
from audio_recorder_analyzer import AnalyzerSettings
from batch_inference import BatchSettings
from live.session import LiveScriptSettings
from protocols.common import ProtocolReport
from training.run_log import RunLog

ROOT = Path(config.__file__).parent
SEVEN = ROOT / "docs" / "seven.wav"
PATIENCE = 300

needs_networks = pytest.mark.skipif(
    not (ROOT / "saved_models" / "cnn.pt").is_file(), reason="saved_models holds no cnn.pt"
)

# --- recordings -----------------------------------------------------------------------------------

FORMATS = {
    "voicemail.wav": ("WAV GSM 6.10 (voicemail)", ""),
    "phone.m4a": ("m4a, AAC (iPhone)", ""),
    "browser.webm": ("WebM, Opus (browser)", ""),
    "m4a_named.mp3": ("m4a, AAC (iPhone)", ""),
    "recorder.w64": ("W64", ""),
    "data_size_zero.wav": ("WAV whose header says length 0", "read to the end"),
    "float_x8.WAV": ("float, 8 times too loud", "8 times full scale: scaled down"),
}
"""A name for a file, how it is made, and the remark beside its answer."""


@pytest.fixture
def inbox(tmp_path) -> Path:
    """A folder with the digit seven in many formats."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    seven, rate = audio_io.read_audio(SEVEN, 16000)
    for name, (kind, _) in FORMATS.items():
        (folder / name).write_bytes(encode(kind, seven))
    return folder


def answers(capsys, *words: str | Path) -> list[str]:
    """What the live script prints for files and folders: one entry for each answer."""
    settings = LiveScriptSettings(files=tuple(map(str, words)), save=False)
    capsys.readouterr()
    code = microphone_inference.run(settings)
    printed = capsys.readouterr().out
    assert code == 0, printed
    return printed.replace("\n  ", ": ").splitlines()


@needs_networks
def test_recordings_of_every_kind_are_answered_one_by_one_and_in_a_batch(inbox, tmp_path, capsys):
    shown = {line.split(":")[0]: line for line in answers(capsys, *sorted(inbox.iterdir()))}
    for name, (_, remark) in FORMATS.items():
        assert ": 7 seven" in shown[str(inbox / name)] and remark in shown[str(inbox / name)]
    (inbox / "cut.m4a").write_bytes((inbox / "phone.m4a").read_bytes()[:40])
    (inbox / "notes.txt").write_text("notes")
    (inbox / "Thumbs.db").write_bytes(b"")
    output = tmp_path / "o.jsonl"
    assert batch_inference.run(BatchSettings((inbox,), output, workers=1)) == 0
    rows = {Path(row["path"]).name: row for row in map(json.loads, output.open())}
    assert {name for name, row in rows.items() if row["digit"] == 7} == set(FORMATS)
    assert set(rows) == {*FORMATS, "cut.m4a"} and rows["cut.m4a"]["error"]
    told = capsys.readouterr().err
    assert "1 left out, no sound files" in told and "notes.txt" in told and "Thumbs" not in told


# --- ways to name them ----------------------------------------------------------------------------


@needs_networks
def test_every_way_to_name_a_recording_leads_to_its_answer(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "clips"
    folder.mkdir()
    seven = shutil.copy(SEVEN, folder / "my seven.wav")
    (tmp_path / "linked").mkdir()
    names = [folder, f"{folder}/*.wav", f'"{seven}"', Path(seven).as_uri(), "~/clips/my seven.wav"]
    try:
        (tmp_path / "linked" / "inside").symlink_to(folder, target_is_directory=True)
        names.append(tmp_path / "linked")
    except OSError:
        pass  # Windows wants a privilege for links
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name in names:
        assert [": 7 seven" in line for line in answers(capsys, name)] == [True], name
        output = tmp_path / "o.jsonl"
        assert batch_inference.run(BatchSettings((Path(name),), output, workers=1)) == 0, name
        assert [json.loads(line)["digit"] for line in output.open()] == [7]


@needs_networks
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_name_beyond_the_console_in_another_folder_and_a_pipe(tmp_path, encoding):
    name = "цифра семь.wav"
    shutil.copy(SEVEN, tmp_path / name)
    done = subprocess.run(
        [sys.executable, ROOT / "microphone_inference.py", "--no-save", "--wav", name, "-"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        input=SEVEN.read_bytes(),
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    file, pipe = (line for line in done.stdout.splitlines() if not line.startswith(b"  "))
    assert file.startswith(name.encode(encoding, "backslashreplace") + b": 7 seven")
    assert pipe.startswith(b"standard input: 7 seven") and b"Traceback" not in done.stderr


# --- microphones ----------------------------------------------------------------------------------

DEVICES = {
    "a headset on input 3 of 8": (8, 3, lambda rate, channels, kind: None),
    "all channels or none": (
        4,
        1,
        lambda rate, channels, kind: None if channels == 4 else "Invalid number of channels",
    ),
    "8 kHz alone": (1, 1, lambda rate, channels, kind: None if rate == 8000 else "Invalid rate"),
}
"""Number of channels, the one that is spoken on, and what the device refuses."""


@pytest.mark.parametrize("name", DEVICES)
def test_the_analyser_hears_the_word_on_awkward_devices(name, monkeypatch, capsys):
    channels, spoken, takes = DEVICES[name]
    rate = 8000 if name == "8 kHz alone" else 48000
    seven, _ = audio_io.read_audio(SEVEN, rate)
    random = np.random.default_rng(0)
    sound = random.normal(0, 2e-4, (3 * rate, channels)).astype(np.float32)
    sound[rate : rate + len(seven), spoken - 1] += seven[: 2 * rate]
    fake = FakeSoundDevice(channels, 48000, sound, takes)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    settings = AnalyzerSettings(seconds=3.0, save=False, json=True)
    assert audio_recorder_analyzer.run(settings) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["segments"] and report["snr_db"] > 20 and report["sample_rate"] == rate


# --- what other programs hold open ----------------------------------------------------------------


@pytest.fixture
def locked(monkeypatch):
    """Makes files of some names impossible to replace, as Windows does with open ones."""
    replace = os.replace

    def lock(ending: str) -> None:
        def guarded(source, target, *others, **named):
            if str(target).endswith(ending):
                raise PermissionError(13, "Access is denied", str(source), None, str(target))
            return replace(source, target, *others, **named)

        monkeypatch.setattr(os, "replace", guarded)

    return lock


def test_a_locked_figure_costs_no_other_result_of_an_evaluation(tmp_path, locked, capsys):
    locked(".png")
    report = ProtocolReport(
        "some", "text", {"a": 1}, lambda path: utils.write_text(path, "drawn"), {"b.csv": "1,2"}
    )
    report.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"some.md", "some.json", "b.csv"}
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "some.png not written: Access is denied" in told


def test_a_locked_figure_costs_no_report_of_the_analyser(tmp_path, locked, capsys):
    locked("comparison.png")
    settings = AnalyzerSettings(files=(str(SEVEN),), recordings_dir=tmp_path / "out")
    assert audio_recorder_analyzer.run(settings) == 0
    printed = capsys.readouterr()
    assert "SNR" in printed.out and "Access is denied" in printed.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "seven_original.wav",
        "seven_cleaned.wav",
    }


def test_locked_learning_curves_cost_no_training(tmp_path, locked, capsys):
    locked("learning_curves.png")
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    line = {"epoch": 1, **dict.fromkeys(names, 0.5)}
    RunLog(tmp_path, 1, {}).write_history({"cnn": [line]}, finished=True)
    assert [path.name for path in tmp_path.iterdir()] == ["history.json"]
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "learning_curves.png not written: Access is denied" in told


@needs_networks
def test_a_table_that_is_open_in_excel_keeps_the_answers(tmp_path, locked):
    output = tmp_path / "o.csv"
    locked("o.csv")
    with pytest.raises(config.UserError, match="o.csv: Access is denied; the answers are kept"):
        batch_inference.run(BatchSettings((SEVEN,), output, workers=1))
    (kept,) = (path for path in tmp_path.iterdir() if path.name.startswith("o.csv"))
    assert '"digit": 7' in kept.read_text(encoding="utf-8")


# --- networks -------------------------------------------------------------------------------------


@needs_networks
def test_one_file_of_networks_is_used_and_another_file_is_told(tmp_path, capsys):
    one = config.DecisionSettings(models_dir=ROOT / "saved_models" / "cnn.pt")
    settings = LiveScriptSettings(files=(str(SEVEN),), save=False, decision=one)
    assert microphone_inference.run(settings) == 0
    printed = capsys.readouterr().out
    assert ": 7 seven" in printed and "CNN" in printed and "BiLSTM" not in printed
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8000)
    wrong = config.DecisionSettings(models_dir=tmp_path / "a.wav")
    with pytest.raises(config.UserError) as error:
        microphone_inference.run(LiveScriptSettings(files=(str(SEVEN),), decision=wrong))
    assert "a.wav" in str(error.value) and "train.py" not in str(error.value)
