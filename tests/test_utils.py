"""Files are whole or absent; scripts end with a code and a line, whatever happens to them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from waiting import PATIENCE, unmeasured

import config
import utils

SCRIPT = """
import os, signal, sys, time
from dataclasses import dataclass
sys.path.insert(0, {root!r})
import config, utils

@dataclass(frozen=True)
class Settings:
    \"\"\"Nothing much.\"\"\"

    word: str = "x"
    \"\"\"What to do.\"\"\"

def run(settings):
    try:
        if settings.word == "wait":
            print("waiting", flush=True)
            time.sleep(60)
        if settings.word == "fail":
            raise config.UserError("\u0446\u0438\u0444\u0440\u0430.wav\\r\\x1b[2J: bad")
        print(settings.word)
    finally:
        if settings.word == "wait":
            os.kill(os.getpid(), signal.SIGTERM)  # a second one, meanwhile
        print("tidied up", flush=True)

if __name__ == "__main__":
    utils.main(run, Settings, "A script.")
"""


@pytest.fixture
def script(tmp_path) -> list[str]:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(root=str(Path(utils.__file__).parent)), encoding="utf-8")
    return [sys.executable, str(path), "--word"]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437"])
def test_a_name_that_the_console_cannot_show_ends_nothing(script, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*script, "цифра"], env=environment, capture_output=True, timeout=PATIENCE
    )
    shown = "цифра".encode(encoding, "backslashreplace")
    assert done.returncode == 0 and done.stdout.split()[0] == shown and done.stderr == b""
    done = subprocess.run([*script, "fail"], env=environment, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 1 and done.stderr.splitlines() == [
        b"error: " + shown + rb".wav\r\x1b[2J: bad"
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")
def test_sigterm_ends_with_143_after_tidying_up(script):
    running = subprocess.Popen(
        [*script, "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=unmeasured(),
    )
    assert running.stdout.readline() == "waiting\n"
    running.send_signal(signal.SIGTERM)
    told, complaint = running.communicate(timeout=PATIENCE)
    assert (running.returncode, told, complaint) == (143, "tidied up\n", "")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("7_ a\u00a0b цифра 😀.wav", "7_ a\u00a0b цифра 😀.wav"),
        ("a\rb\n\x1b[31m\x07", r"a\rb\n\x1b[31m\x07"),
        (os.fsdecode(b"\xff.wav") if os.name != "nt" else "\udcff.wav", r"\udcff.wav"),
        ("safe\u202egpj.wav", r"safe\u202egpj.wav"),
    ],
)
def test_names_are_printed_on_one_line_without_tricks(name, shown):
    assert utils.printable(name) == shown


def test_the_help_knows_each_kind_of_value():
    own, groups = utils.options(config.AugmentationSettings, "augmentation.")
    by_flag = {item.flag: str(item) for item in own}
    assert by_flag["--augmentation.snr-db"] == "--augmentation.snr-db FLOAT FLOAT"
    assert by_flag["--augmentation.noise-dir"] == "--augmentation.noise-dir PATH" and not groups


def test_a_failure_leaves_the_old_file_and_no_scraps(tmp_path):
    path = tmp_path / "kept.txt"
    utils.write_text(path, "old")
    with pytest.raises(RuntimeError), utils.atomic_path(path) as temporary:
        temporary.write_text("half of the new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["kept.txt"]


def test_folders_are_made_and_the_content_arrives(tmp_path):
    path = tmp_path / "a" / "b" / "value.json"
    utils.write_json(path, {"array": np.arange(3), "scalar": np.float32(0.5), "path": tmp_path})
    assert json.loads(path.read_text()) == {
        "array": [0, 1, 2],
        "scalar": 0.5,
        "path": str(tmp_path),
    }


def test_the_record_names_commit_and_versions():
    record = utils.run_record()
    assert record["commit"] and record["versions"]["torch"] and record["python"]


def test_json_holds_no_nan(tmp_path):
    path = tmp_path / "value.json"
    scores = {"loss": float("nan"), "all": (np.float32("inf"), [np.array([1.5, np.nan])], True)}
    utils.write_json(path, scores)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read == {"loss": None, "all": [None, [[1.5, None]], True]}


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path):
    with pytest.raises(OSError) as complaint, utils.atomic_path(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")
    assert complaint.value.filename == str(tmp_path / "a.txt")


def test_a_by_product_that_fails_is_told_and_costs_nothing(tmp_path, capsys):
    (tmp_path / "figure.png").mkdir()
    with utils.by_product(tmp_path / "figure.png"):
        utils.write_text(tmp_path / "figure.png", "not there")
    assert capsys.readouterr().err.startswith(f"warning: {tmp_path / 'figure.png'} not written")
    with pytest.raises(ValueError), utils.by_product(tmp_path):
        raise ValueError


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")
def test_ctrl_c_waits_until_what_is_done_is_whole():
    done = []
    with pytest.raises(KeyboardInterrupt), utils.ctrl_c_waits():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("saved")
    assert done == ["saved"]
    with utils.ctrl_c_waits():
        done.append("saved")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
