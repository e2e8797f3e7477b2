"""Processes that answer files: one that hangs, or ends its process, costs only its own row.

Each worker gets a chunk of files at a time through a pipe and tells when it begins with a file. One
that takes too long, or ends, is replaced; its other files are answered by the next. Workers end
when the process that started them ends, in whatever way.
"""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import audio_io
import config
import utils
from recognition.answer_table import STRING_COLUMNS, Row, answer_row, error_row, string_row

if TYPE_CHECKING:  # torch takes seconds to import: only the workers do
    from recognition.digit_strings import StringRecognizer
    from recognition.paused_strings import PausedStrings
    from recognition.recognizer import Recognizer

Source = tuple[str, Path | bytes]
"""A recording's name, and the file or the bytes that hold it."""
Answer = Callable[[Sequence[Source], Callable[[int | None], Any]], list[Row]]
"""Recordings to rows; what it is given tells where it is: see :func:`answer_sources`."""
ENDED = "ended the process that read it: damaged, or too large"
LOST_IN_A_ROW = 20
"""Workers that may be lost without one answered file between them: then nothing works here."""


class FileWorkers:
    """Processes that answer files; a context manager that leaves none behind.

    Parameters
    ----------
    count : processes
    decision, cleaning : the networks and the cleaning before them, as for :class:`Recognizer`
    file_seconds : s that one file may take
    strings : what is asked of strings of digits; None hears single digits
    """

    def __init__(
        self,
        count: int,
        decision: config.DecisionSettings,
        cleaning: config.CleaningSettings | None,
        file_seconds: float,
        strings: config.StringsSettings | None = None,
    ) -> None:
        self._start = functools.partial(_Worker, (decision, cleaning, strings), file_seconds)
        self._workers: list[_Worker] = []
        self._count = count
        self._lost = 0

    def __enter__(self) -> FileWorkers:
        self._workers = []
        try:
            for _ in range(self._count):
                self._workers.append(self._start())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.end()

    def answer(self, chunks: Iterable[Sequence[Source]]) -> Iterator[list[Row]]:
        """Rows of some files at a time, as they are done.

        Raises
        ------
        UserError : the networks can't be loaded, or no worker stays alive
        """
        todo = deque(list(chunk) for chunk in chunks)
        self._give(todo)  # those that are ready already say nothing more
        while todo or any(worker.sources for worker in self._workers):
            soonest = min(worker.deadline for worker in self._workers) - time.monotonic()
            pipes = [worker.pipe for worker in self._workers]
            heard = wait(pipes, None if soonest == math.inf else max(0.0, soonest))
            rows: list[Row] = []
            for number, worker in enumerate(self._workers):
                if worker.pipe in heard:
                    rows += self._hear(number, worker, todo)
                if worker.deadline < time.monotonic() and worker is self._workers[number]:
                    late = f"took longer than {worker.file_seconds:g} s"
                    rows += self._replace(number, todo, late)
            self._give(todo)
            if rows:
                yield rows

    def _give(self, todo: deque[list[Source]]) -> None:
        """Hand a chunk to each worker that has none."""
        for worker in self._workers:
            if todo and worker.ready and not worker.sources:
                worker.give(todo.popleft())

    def _hear(self, number: int, worker: _Worker, todo: deque[list[Source]]) -> list[Row]:
        """Take one message of a worker; the rows in it, if it holds any."""
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            return self._replace(number, todo)
        if kind == "refused":
            raise config.UserError(value)
        if kind == "rows":
            self._lost = 0
            worker.done()
            return value
        worker.ready = True
        if kind == "at":
            worker.at(value)
        return []

    def _replace(self, number: int, todo: deque[list[Source]], late: str = "") -> list[Row]:
        """Put a new worker in the place of a lost one, and its files back; rows of lost files."""
        worker = self._workers[number]
        worker.end()
        self._lost += not late
        if not worker.ready or self._lost > LOST_IN_A_ROW:
            raise config.UserError(
                "the processes that answer end unexpectedly (out of memory?); the same command "
                "goes on, --workers 1 takes less memory"
            )
        self._workers[number] = self._start()
        sources = worker.sources
        if len(sources) == 1 or (late and worker.index is not None):
            name, _ = sources.pop(worker.index or 0)
            if sources:
                todo.appendleft(sources)
            return [error_row(name, late or ENDED)]
        # each alone, to learn which it is; the others together where it is known
        alone = sources if worker.index is None else [sources.pop(worker.index)]
        todo.extendleft([source] for source in alone)
        if sources is not alone and sources:
            todo.append(sources)
        return []


_Settings = tuple[
    config.DecisionSettings, config.CleaningSettings | None, config.StringsSettings | None
]


class _Worker:
    """One process, the files that it has in hand, and until when it must be heard of."""

    def __init__(self, settings: _Settings, file_seconds: float) -> None:
        # spawned on every system: a fork would copy threads and locks in an unknown state
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, *settings), daemon=True)
        with _signals_held(), _one_thread():
            self.process.start()
        theirs.close()
        self.file_seconds = file_seconds
        self.ready = False
        self.sources: list[Source] = []
        self.index: int | None = None
        self.deadline = math.inf

    def give(self, sources: list[Source]) -> None:
        """Hand over a chunk of files."""
        self.sources = sources
        self.deadline = time.monotonic() + self.file_seconds
        with contextlib.suppress(OSError):  # it has ended: the next look at its pipe says so
            self.pipe.send(sources)

    def at(self, index: int | None) -> None:
        """It begins with a file, or with the networks for all of them (None)."""
        self.index = index
        seconds = self.file_seconds * (len(self.sources) if index is None else 1)
        self.deadline = time.monotonic() + seconds

    def done(self) -> None:
        """It has nothing to do, and any time for that."""
        self.sources, self.index, self.deadline = [], None, math.inf

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Have a process that is started here compute matrices in one thread, unless told otherwise.

    NumPy's library else takes a thread a core in each, which wait for each other by spinning.
    """
    name = "OMP_NUM_THREADS"
    given = os.environ.get(name)
    os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM: a process that is started here never gets them.

    A worker that is still starting would print a traceback; the main process ends it. Blocking is
    inherited by the new process, but in this one other threads may take a signal, which Python then
    handles in the main thread; so what comes meanwhile is noted, and raised afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # the first process starts it, which would unblock both
    held, came = {signal.SIGINT, signal.SIGTERM}, []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {
            number: signal.signal(number, lambda number, _frame: came.append(number))
            for number in held
        }
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for caught in came:
            signal.raise_signal(caught)


def _work(
    pipe: Connection,
    decision: config.DecisionSettings,
    cleaning: config.CleaningSettings | None,
    strings: config.StringsSettings | None,
) -> None:
    """The worker's process: load the networks, then answer chunks until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        try:
            answer = _load(decision, cleaning, strings)
        except config.UserError as error:
            pipe.send(("refused", str(error)))
            return
        pipe.send(("ready", None))
        while True:
            sources = pipe.recv()
            pipe.send(("rows", answer(sources, lambda at: pipe.send(("at", at)))))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _load(
    decision: config.DecisionSettings,
    cleaning: config.CleaningSettings | None,
    strings: config.StringsSettings | None,
) -> Answer:
    from recognition.runtime import use_one_core

    if strings is not None:
        from recognition.paused_strings import string_recognizer

        hearer = string_recognizer(decision, strings)
        use_one_core()
        return lambda sources, begin: answer_strings(sources, hearer, begin)
    from recognition.recognizer import Recognizer

    recognizer = Recognizer(decision, cleaning)
    use_one_core()
    return lambda sources, begin: answer_sources(sources, recognizer, begin)


def answer_sources(
    sources: Sequence[Source],
    recognizer: Recognizer,
    begin: Callable[[int | None], Any] = lambda at: None,
) -> list[Row]:
    """Read recordings and recognise them together; whatever goes wrong with one is its error.

    `begin` is told the index of each file that is read, and None before the networks' turn.
    """
    longest = recognizer.predictor.audio.max_seconds
    rows: list[Row] = []
    recordings: dict[int, audio_io.Recording] = {}
    for index, (name, source) in enumerate(sources):
        begin(index)
        rows.append(error_row(name, ""))
        try:
            # at its own rate: the recognizer resamples it, as it does for every other way in
            recordings[index] = audio_io.read_recording(source, max_seconds=longest)
        except Exception as error:
            rows[index]["error"] = _reason(error, source)
    begin(None)
    try:
        results = recognizer.recognize_batch(list(recordings.values()))
        for index, result in zip(recordings, results, strict=True):
            rows[index] = answer_row(sources[index][0], result)
    except Exception:  # one of them: each alone
        for index, recording in recordings.items():
            try:
                rows[index] = answer_row(sources[index][0], recognizer.recognize(recording))
            except Exception as error:
                rows[index]["error"] = _reason(error, sources[index][1])
    return rows


def answer_strings(
    sources: Sequence[Source],
    recognizer: StringRecognizer | PausedStrings,
    begin: Callable[[int | None], Any] = lambda at: None,
) -> list[Row]:
    """Hear the string in each recording, as :func:`answer_sources` does single digits."""
    rows = []
    for index, (name, source) in enumerate(sources):
        begin(index)
        with _on_disk(source) as path:
            try:
                rows.append(string_row(name, recognizer.recognize_file(path)))
            except Exception as error:
                rows.append(error_row(name, _reason(error, path), STRING_COLUMNS))
    return rows


@contextlib.contextmanager
def _on_disk(source: Path | bytes) -> Iterator[Path]:
    """A file for what can be read piece by piece from files only: recordings of hours."""
    if isinstance(source, Path):
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recording")
        path.write_bytes(source)
        yield path


def _reason(error: Exception, source: Path | bytes) -> str:
    """Why a file can't be answered, in one line and without its name."""
    if isinstance(error, config.UserError):
        name = utils.printable(source) if isinstance(source, Path) else "recording"
        return str(error).removeprefix(f"{name}: ").removeprefix(f"{source!s}: ")
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return utils.printable(f"{type(error).__name__}: {text}" if text else type(error).__name__)
