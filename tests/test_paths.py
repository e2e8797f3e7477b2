"""Where scripts find what they read: the current folder first, then the program's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import config
from corpora import folder

ROOT = Path(config.__file__).parent


@pytest.fixture
def program(tmp_path, monkeypatch) -> Path:
    """A program's folder of our own, and another one to work in."""
    (tmp_path / "program").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(config, "PROGRAM_DIR", tmp_path / "program")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "program"


def test_data_and_own_clips_are_found_beside_the_program_too(program):
    (program / "data").mkdir()
    (program / "live_recordings" / "own").mkdir(parents=True)
    data = config.DataSettings()
    assert data.root == program / "data"
    request = SimpleNamespace(data=data)
    assert folder.own_folder(request) == program / "live_recordings" / "own"
    Path("data").mkdir()
    assert config.DataSettings().root == Path("data")


def networks(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.pt").touch()
    return folder


def test_the_current_folder_comes_first_then_the_programs_own(program):
    default = Path("saved_models")
    assert config.program_path(default) == default
    networks(program / "saved_models")
    assert config.program_path(default) == program / "saved_models"
    networks(Path("saved_models"))
    assert config.program_path(default) == default
    assert config.program_path(program / "nothing") == program / "nothing"


def test_the_networks_are_those_of_the_folder_or_the_one_file(program):
    networks(program / "saved_models", "rnn", "cnn", ".half", "encoder")
    found = config.DecisionSettings().network_files()
    assert [path.name for path in found] == ["cnn.pt", "rnn.pt"]
    one = config.DecisionSettings(models_dir=Path("saved_models/cnn.pt")).network_files()
    assert one == [program / "saved_models" / "cnn.pt"]


def test_training_is_advised_only_where_no_trained_networks_are(program):
    with pytest.raises(config.UserError, match=r"no such folder\); make some with: python train.p"):
        config.DecisionSettings().network_files()
    networks(program / "saved_models", "cnn")
    Path("saved_models").mkdir()
    Path("notes.txt").touch()
    for given, problem in (
        ("saved_models", "there; there"),
        ("a", "folder"),
        ("notes.txt", "file"),
    ):
        with pytest.raises(config.UserError) as error:
            config.DecisionSettings(models_dir=Path(given)).network_files()
        assert problem in str(error.value) and "train.py" not in str(error.value)
        assert str(program / "saved_models") in str(error.value)


@pytest.mark.skipif(
    not (ROOT / "saved_models" / "cnn.pt").is_file(), reason="saved_models holds no cnn.pt"
)
@pytest.mark.parametrize("words", [(), ("--decision.models-dir", "saved_models/cnn.pt")])
def test_scripts_find_the_shipped_networks_from_any_folder(words, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "microphone_inference.py"),
            str(ROOT / "docs" / "seven.wav"),
            "--live.no-plots",
            *words,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert ": 7 seven" in done.stdout and ("BiLSTM" in done.stdout) == (not words)
    assert [path.name for path in tmp_path.iterdir()] == ["live_recordings"], "outputs stay here"
