"""Processes that decode sound files, beside the script that reads on as they are done.

They are started from this file (``python -m corpora.decoding_workers``): they import neither the
script that started them nor torch, hear no Ctrl-C, and end when their input ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import audio_io
import config
import utils

AHEAD = 2
"""Chunks begun for each process before they are asked for."""
LOST_IN_A_ROW = 20
"""Processes that may end without one decoded file between them: then nothing works here."""
ENDED = "ended the process that read it: damaged, or too large"


@dataclass(frozen=True)
class Decoded:
    """Files decoded to one rate, in order; those that can't be read have no samples.

    `samples`, int16 (total,), holds all end to end, `lengths`, int64 (files,), how many each has;
    `errors` says by the file's number why it can't be read.
    """

    samples: np.ndarray
    lengths: np.ndarray
    errors: dict[int, str]


def joined(parts: Sequence[Decoded]) -> Decoded:
    """Several parts as one, in order."""
    starts = np.cumsum([0, *(len(part.lengths) for part in parts)])
    nothing = Decoded(np.zeros(0, np.int16), np.zeros(0, np.int64), {})
    return Decoded(
        np.concatenate([part.samples for part in (nothing, *parts)]),
        np.concatenate([part.lengths for part in (nothing, *parts)]),
        {
            int(start) + number: error
            for start, part in zip(starts, parts, strict=False)
            for number, error in part.errors.items()
        },
    )


def decode_files(paths: Sequence[Path], audio: config.AudioSettings) -> Decoded:
    """Decode files here, one after the other."""
    parts, errors = [np.zeros(0, np.int16)], {}
    for number, path in enumerate(paths):
        try:
            waveform, _ = audio_io.read_audio(path, audio.sample_rate, audio.max_seconds)
            parts.append(audio_io.to_int16(waveform))
        except config.UserError as error:
            errors[number] = str(error)
            parts.append(parts[0])
    lengths = np.array([len(part) for part in parts[1:]], np.int64)
    return Decoded(np.concatenate(parts), lengths, errors)


class Workers:
    """Processes that decode; a context manager that leaves none behind.

    One that a file ends is replaced, and costs that file alone.
    """

    def __init__(self, count: int, audio: config.AudioSettings) -> None:
        self._audio, self._count = audio, count
        self._threads = ThreadPoolExecutor(count)  # each has a process
        self._own = threading.local()
        self._processes: list[subprocess.Popen] = []
        self._lock = threading.Lock()
        self._ending = False
        self._lost = 0

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._ending = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            _end(process)

    def decode(self, chunks: Sequence[Sequence[Path]]) -> Iterator[Decoded]:
        """The chunks in order; a few are decoded ahead.

        Raises
        ------
        UserError : no process stays alive
        """
        todo = deque(chunks)
        begun: deque[Future[Decoded]] = deque()
        while todo or begun:
            while todo and len(begun) < AHEAD * self._count:
                begun.append(self._threads.submit(self._decode, todo.popleft()))
            yield begun.popleft().result()

    def _decode(self, paths: Sequence[Path]) -> Decoded:
        answer = self._ask(paths)
        if answer is not None or self._ending:
            return answer or joined([])
        self._lost += 1
        if self._lost > LOST_IN_A_ROW:
            raise config.UserError(
                "the processes that decode end unexpectedly (out of memory?); the same command "
                "goes on where it stopped"
            )
        if len(paths) == 1:
            error = f"{utils.printable(paths[0])}: {ENDED}"
            return Decoded(np.zeros(0, np.int16), np.zeros(1, np.int64), {0: error})
        return joined([self._decode([path]) for path in paths])

    def _ask(self, paths: Sequence[Path]) -> Decoded | None:
        """The answer of this thread's process, or None where it has ended."""
        process: Any = getattr(self._own, "process", None)
        try:
            if process is None:
                process = self._own.process = self._start()
            pickle.dump((list(paths), self._audio), process.stdin)
            process.stdin.flush()
            answer = Decoded(*pickle.load(process.stdout))
            self._lost = 0
            return answer
        except (EOFError, OSError, pickle.UnpicklingError):
            self._own.process = None
            return None

    def _start(self) -> subprocess.Popen:
        path = os.pathsep.join(
            filter(None, [str(config.PROGRAM_DIR), os.environ.get("PYTHONPATH")])
        )
        # a group of its own: a Ctrl-C at the terminal is for the script alone
        group: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        with self._lock:
            if self._ending:
                raise EOFError
            process = subprocess.Popen(
                [sys.executable, "-m", "corpora.decoding_workers"],
                env=os.environ | {"PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                **group,
            )
            self._processes.append(process)
        return process


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for pipe in filter(None, (process.stdin, process.stdout)):
        with contextlib.suppress(OSError):
            pipe.close()


def _work() -> None:
    """The process: decode chunks until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints must not get among the answers
    while True:
        try:
            paths, audio = pickle.load(sys.stdin.buffer)
            decoded = decode_files(paths, audio)
            pickle.dump((decoded.samples, decoded.lengths, decoded.errors), answers)
            answers.flush()
        except (EOFError, BrokenPipeError):
            return


if __name__ == "__main__":
    _work()
