"""The web app as a real process, for tests: started on a free port, ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from waiting import PATIENCE

import config

ROOT = Path(__file__).parent.parent
SEVEN = ROOT / "docs" / "seven.wav"
NINE = ROOT / "docs" / "noisy_nine.wav"


@dataclass
class AppProcess:
    """A running web app."""

    process: subprocess.Popen
    folder: Path
    base: str = ""
    lines: list[str] = field(default_factory=list)

    def memory_mb(self) -> float:
        """Resident memory, MB."""
        told = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.process.pid)], capture_output=True, text=True
        )
        return int(told.stdout) / 1024

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """Ask it to end; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def running_app(folder: Path, *options: str, **environment: str) -> Iterator[AppProcess]:
    """The web app, which keeps its history below `folder`."""
    if not config.DecisionSettings().onnx_file().is_file():
        pytest.skip("no trained networks")
    command = [sys.executable, str(ROOT / "app.py"), "--no-browser", "--port", "0"]
    command += ["--live.recordings-dir", str(folder / "kept"), *options]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    app, said = AppProcess(process, folder), queue.Queue()

    def listen() -> None:
        for line in process.stdout:
            app.lines.append(line)
            said.put(line)
        said.put(None)

    threading.Thread(target=listen, daemon=True).start()
    try:
        deadline = time.monotonic() + PATIENCE
        while not app.base:
            line = said.get(timeout=max(0.1, deadline - time.monotonic()))
            assert line is not None, f"the app has ended: {''.join(app.lines)}"
            if line.startswith("ready: "):
                app.base = line.split()[1]
        yield app
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
