"""The live script ended from outside: no process and no half file stays, however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import PATIENCE, SELDOM, unmeasured, wait_until

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.skipif(shutil.which("ps") is None, reason="needs the command ps"),
    pytest.mark.skipif(
        not list((ROOT / "saved_models").glob("*.pt")), reason="no trained networks in saved_models"
    ),
]


def figure_processes(parent: int) -> list[int]:
    """Process ids of the figure processes that `parent` has started."""
    table = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split(None, 2) for line in table.splitlines())
    return [int(row[0]) for row in rows if int(row[1]) == parent and "live.plot_process" in row[2]]


def is_alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


@pytest.fixture
def live(tmp_path) -> Iterator[subprocess.Popen]:
    """The script, which has recognised one file and waits for another on standard input."""
    words = [str(ROOT / "docs" / "seven.wav"), "-", "--live.recordings-dir", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "microphone_inference.py"), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=unmeasured(),
    )
    assert ": 7 seven" in process.stdout.readline()
    wait_until(lambda: figure_processes(process.pid), "no figure process", SELDOM)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
@pytest.mark.slow
def test_the_figure_process_ends_with_the_script(live, tmp_path, end, drawn):
    (figures,) = figure_processes(live.pid)
    if drawn:
        wait_until(lambda: list(tmp_path.glob("*.png")), "no figure")
    os.kill(live.pid, getattr(signal, end))
    assert live.wait(PATIENCE) == {"SIGTERM": 143, "SIGKILL": -signal.SIGKILL}[end]
    wait_until(lambda: not is_alive(figures), "the figure process goes on", SELDOM)
    assert live.stderr.read() in ("", "not all plots could be drawn\n")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    for path in tmp_path.glob("*.png"):
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
