"""The terminal of the live script: a level meter, lines typed by the user, quiet libraries."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

import numpy as np

import audio_io

METER_WIDTH = 30
"""Characters of the level meter."""
METER_FLOOR_DBFS = -60.0
"""dBFS at which the meter is empty."""
METER_SECONDS = 0.1
"""s between two drawings: faster only flickers."""


class Terminal:
    """Messages on standard error, and a level meter below them where that is a terminal.

    The cursor and the keyboard's mode are left alone, so that an interrupted program has nothing to
    restore but the meter's line.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.shows_meter = self.stream.isatty()
        self._drawn_at = 0.0
        self._drawn = False
        self._loudest = 0.0

    def level(self, waveform: np.ndarray, label: str = "") -> None:
        """Show the peak level of the sound, float32 (samples,), since the last drawing."""
        if not self.shows_meter or not waveform.size:
            return
        self._loudest = max(self._loudest, float(np.abs(waveform).max()))
        if time.monotonic() - self._drawn_at < METER_SECONDS:
            return
        self.stream.write("\r" + meter(self._loudest) + f" {label:<12}")
        self.stream.flush()
        self._drawn_at, self._drawn, self._loudest = time.monotonic(), True, 0.0

    def clear(self) -> None:
        """Remove the meter's line, if there is one."""
        if self._drawn:
            self.stream.write("\r" + " " * (METER_WIDTH + 28) + "\r")
            self.stream.flush()
            self._drawn = False

    def say(self, text: str) -> None:
        """Print one message above the meter."""
        self.clear()
        print(text, file=self.stream, flush=True)


def meter(peak: float) -> str:
    """A bar for a peak amplitude in [0, 1]: ``[######----] -23 dBFS``."""
    level = audio_io.dbfs(peak)
    filled = round(METER_WIDTH * float(np.clip(1 - level / METER_FLOOR_DBFS, 0, 1)))
    note = " CLIPPED" if peak >= 0.999 else ""
    return f"[{'#' * filled}{'-' * (METER_WIDTH - filled)}] {level:4.0f} dBFS{note:8}"


class Keyboard:
    """Lines from standard input, read by a thread so that listening goes on meanwhile."""

    def __init__(self, descriptor: int = 0) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.ended = False
        threading.Thread(target=self._read, args=(descriptor,), daemon=True).start()

    def _read(self, descriptor: int) -> None:
        # not sys.stdin: a daemon thread that holds its lock makes the interpreter's exit fail
        pending = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(descriptor, 4096):
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    self._lines.put(line.decode(errors="replace").strip())
        self._lines.put(None)

    def poll(self) -> str | None:
        """A line if one was typed, without waiting; None otherwise, and for ever after the end."""
        with contextlib.suppress(queue.Empty):
            line = self._lines.get_nowait()
            self.ended = self.ended or line is None
            return line
        return None

    def wait(self) -> str | None:
        """The next line; None when the input has ended."""
        while not self.ended:
            try:
                # short waits: on Windows, Ctrl-C does not interrupt a wait without an end
                line = self._lines.get(timeout=0.2)
            except queue.Empty:
                continue
            self.ended = line is None
            return line
        return None


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep what ALSA and PortAudio print themselves, dozens of lines at a time, off the terminal.

    They write to file descriptor 2 past Python; ``sys.stderr`` goes on to where it went.
    """
    original = sys.stderr
    try:
        kept = os.dup(2)
    except OSError:  # no standard error at all, as under pythonw
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    encoding = getattr(original, "encoding", None) or "utf-8"
    with os.fdopen(
        kept, "w", buffering=1, encoding=encoding, errors="backslashreplace"
    ) as replacement:
        sys.stderr = replacement
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            replacement.flush()
            os.dup2(kept, 2)
            os.close(nowhere)
            sys.stderr = original
