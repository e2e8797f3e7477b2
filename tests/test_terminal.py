"""Keyboard, level meter and quiet libraries, on pipes and on a real terminal."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from virtual_microphone import (  # noqa: F401  pytest finds the fixture by its name
    ROOT,
    VirtualMicrophone,
    hear_ctrl_c,
    speaker_fixture,
)
from waiting import PATIENCE, unmeasured, wait_until

from live import terminal


def test_the_meter_shows_level_and_clipping():
    assert terminal.meter(0.0).startswith("[------")
    assert terminal.meter(1.0).startswith("[######") and "CLIPPED" in terminal.meter(1.0)
    half = terminal.meter(10 ** (-30 / 20))
    assert half.count("#") == terminal.METER_WIDTH // 2 and "-30 dBFS" in half


class Screen(io.StringIO):
    """A terminal to write on."""

    def isatty(self) -> bool:
        return True


def test_the_meter_is_only_for_terminals_and_leaves_its_line_empty():
    screen, file = Screen(), io.StringIO()
    for stream in (screen, file):
        shown = terminal.Terminal(stream)
        shown.level(np.full(100, 0.1, np.float32))
        shown.say("hello")
        shown.clear()
    assert file.getvalue() == "hello\n"
    assert "dBFS" in screen.getvalue()
    line = screen.getvalue().rpartition("hello")[0]
    assert line.endswith("\r") and line.split("\r")[-2].strip() == ""


def test_the_keyboard_gives_lines_and_then_the_end():
    reading, writing = os.pipe()
    keyboard = terminal.Keyboard(reading)
    assert keyboard.poll() is None and not keyboard.ended
    os.write(writing, b"3\r\n\nse")
    assert keyboard.wait() == "3"
    assert keyboard.wait() == ""
    os.write(writing, b"ven\n")
    os.close(writing)
    assert keyboard.wait() == "seven"
    assert keyboard.wait() is None and keyboard.wait() is None and keyboard.poll() is None
    os.close(reading)


def test_libraries_are_quiet_and_python_is_not(tmp_path):
    code = (
        "import os, sys\nfrom live import terminal\n"
        "with terminal.quiet_libraries():\n"
        "    os.write(2, b'ALSA lib pcm.c: underrun\\n')\n"
        "    print('a message', file=sys.stderr)\n"
        "os.write(2, b'after\\n')\nprint('last', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.split("\n") == ["a message", "after", "last", ""]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.skipif(
    not list((ROOT / "saved_models").glob("*.pt")),
    reason="no trained networks in saved_models (python train.py makes them)",
)
def test_the_terminal_is_restored_after_ctrl_c(speaker: VirtualMicrophone, tmp_path):
    import pty
    import termios

    parent, child = pty.openpty()
    before = termios.tcgetattr(child)
    process = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "microphone_inference.py"),
            "--continuous",
            "--no-save",
            "--decision.models-dir",
            str(ROOT / "saved_models"),
        ],
        cwd=tmp_path,
        env=unmeasured(speaker.environment),
        stdin=child,
        stdout=child,
        stderr=child,
        preexec_fn=hear_ctrl_c,
    )
    shown = io.BytesIO()

    def collect() -> None:
        while True:
            shown.write(os.read(parent, 4096))

    threading.Thread(target=collect, daemon=True).start()
    wait_until(lambda: b"listening" in shown.getvalue(), "it does not listen")
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    wait_until(lambda: shown.getvalue().rstrip().endswith(b"stopped"), "it does not say so")
    assert termios.tcgetattr(child) == before
    text = shown.getvalue().decode()
    assert "dBFS" in text and "Traceback" not in text
    last_meter = text.rindex("dBFS")
    assert text[last_meter:].rstrip().endswith("stopped")
    assert "\r" + " " * 40 in text[last_meter:]
