"""Draws comparison plots in a process of its own, so that drawing never holds up listening.

The parent writes pickled jobs, each after its length, to this script's standard input. That ends
when the parent ends, in whatever way, on every system, and ends the script once it has drawn what
it got. (The worker of a ``ProcessPoolExecutor`` stays
for ever when its parent is killed, imports torch with the main script, and can't be ended after a
time before Python 3.14.)
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audio_cleaning import Cleaned
    from recognition.prediction import Prediction

LENGTH = "<Q"
"""How the length of a job, in bytes, is written."""
WAITING_JOBS = 16
"""Plots that may wait to be drawn, about 5 MB; more are left out while somebody speaks."""
END_SECONDS = 2.0
"""s that the process has to tidy up once it is told to end; then it is killed."""


class PlotProcess:
    """A queue of plots in front of one process, which starts with the first of them.

    Attributes
    ----------
    skipped : plots left out because too many were waiting
    broken : the process has died; no more plots are drawn
    """

    def __init__(self) -> None:
        self.skipped = 0
        self.broken = False
        self._jobs: queue.Queue[tuple | None] = queue.Queue(WAITING_JOBS)
        self._process: subprocess.Popen | None = None
        self._thread: threading.Thread | None = None

    def draw(
        self, cleaned: Cleaned, rate: int, prediction: Prediction, path: Path, wait: bool = False
    ) -> None:
        """Ask for ``visualization.plot_comparison``; `wait` for room instead of skipping."""
        if self.broken:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, daemon=True)
            self._thread.start()
        try:
            self._jobs.put((cleaned, rate, prediction, path), block=wait)
        except queue.Full:
            self.skipped += 1

    @property
    def waiting(self) -> int:
        """Plots that have not been taken up yet."""
        return self._jobs.qsize()

    def _deliver(self) -> None:
        try:
            self._process = _start()
            assert self._process.stdin is not None
            while (job := self._jobs.get()) is not None:
                content = pickle.dumps(job)
                self._process.stdin.write(struct.pack(LENGTH, len(content)) + content)
                self._process.stdin.flush()
        except (OSError, ValueError):
            self.broken = True
            with contextlib.suppress(queue.Empty):  # nobody must wait for room in vain
                while True:
                    self._jobs.get_nowait()

    def close(self, patience: float, wait: bool = True) -> bool:
        """Let the waiting plots be drawn for at most `patience` s; True where all were.

        Without `wait` they need only be handed over in that time, and are drawn after the end.
        """
        if self._thread is None:
            return True
        handed_over = False
        deadline = time.monotonic() + patience

        def left() -> float:
            return max(0.05, deadline - time.monotonic())

        try:
            self._jobs.put(None, timeout=left())
            self._thread.join(left())
            if self._process is None or self._process.stdin is None or self._thread.is_alive():
                return False
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            handed_over = not wait and self._process.poll() is None
            return handed_over or self._process.wait(left()) == 0
        except (queue.Full, subprocess.TimeoutExpired):
            return False
        finally:
            if handed_over and self._process is not None:
                self._process.returncode = 0  # it is nobody's to wait for
            else:
                self._end()

    def _end(self) -> None:
        """End the process, which removes the file that it is writing."""
        if self._process is None:
            return
        try:
            self._process.terminate()
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _start() -> subprocess.Popen:
    # on other systems it lowers its priority itself; a session of its own would make that void
    priority: dict[str, Any] = {}
    if sys.platform == "win32":
        priority = {
            "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP
            | subprocess.BELOW_NORMAL_PRIORITY_CLASS
        }
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-m", "live.plot_process"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **priority,
    )


def main() -> None:
    """Draw what comes in on standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # half a file is removed on the way
    if hasattr(os, "nice"):
        os.nice(15)
    jobs: queue.Queue[bytes | None] = queue.Queue(WAITING_JOBS)
    threading.Thread(target=_receive, args=(jobs,), daemon=True).start()
    import visualization  # takes a second, in which jobs arrive already

    while (content := jobs.get()) is not None:
        cleaned, rate, prediction, path = pickle.loads(content)
        with contextlib.suppress(OSError):  # a full disk: the parent tells
            visualization.plot_comparison(cleaned, rate, prediction, path)


def _receive(jobs: queue.Queue[bytes | None]) -> None:
    """Take jobs off standard input until it ends, also in the middle of one."""
    with contextlib.suppress(OSError, struct.error):
        while True:
            (length,) = struct.unpack(LENGTH, sys.stdin.buffer.read(struct.calcsize(LENGTH)))
            content = sys.stdin.buffer.read(length)
            if len(content) < length:
                break
            jobs.put(content)
    jobs.put(None)


if __name__ == "__main__":
    main()
