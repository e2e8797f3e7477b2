"""Thousands of inputs through processes that are watched, and the table of what became of them."""

from __future__ import annotations

import functools
import math
import multiprocessing
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

from waiting import PATIENCE

from fuzz.trials import Outcome, attempt

VERDICTS = ("refused", "answered", "untold", "crashed", "hung")
GOOD = ("refused", "answered")
Attempt = Callable[[str, int, int], Outcome]


class Watched:
    """A process that tries inputs, and the one that it has in hand.

    What it prints counts as a crash: a reader that is given damaged bytes has nothing to print.
    """

    def __init__(self, attempt: Attempt, seed: int, folder: Path, patience: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.printed = folder / f"printed-{time.monotonic_ns()}"
        self.process = context.Process(
            target=_work, args=(theirs, attempt, seed, self.printed), daemon=True
        )
        self.process.start()
        theirs.close()
        self.current: tuple[str, int] | None = None
        self.deadline = math.inf
        self.patience = patience

    def give(self, item: tuple[str, int]) -> None:
        """Hand over an input; the time that it may take begins when the process begins with it."""
        self.current = item
        self.pipe.send(item)

    def outcome(self) -> Outcome | None:
        """What became of its input; None while nobody knows. After a bad end it is of no use."""
        assert self.current is not None
        try:
            if self.pipe.poll():
                outcome: Outcome | None = self.pipe.recv()
                self.deadline = math.inf if outcome else time.monotonic() + self.patience
                self.current = None if outcome else self.current
                return outcome
        except (EOFError, OSError):
            self.process.join()
            detail = f"the process ended with {self.process.exitcode}\n{self.said()}"
            return Outcome(*self.current, "crashed", detail)
        if time.monotonic() > self.deadline:
            return Outcome(*self.current, "hung", self.said())
        return None

    def said(self) -> str:
        """The end of what it has printed."""
        text = self.printed.read_bytes() if self.printed.exists() else b""
        return text[-2000:].decode(errors="replace")

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(pipe: Connection, attempt: Attempt, seed: int, printed: Path) -> None:
    """The process: try what comes until nothing comes any more."""
    descriptor = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    warnings.simplefilter("always")
    while True:
        try:
            kind, number = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(None)
        before = printed.stat().st_size
        outcome = attempt(kind, seed, number)
        told = printed.read_bytes()[before:]
        if told and outcome.verdict in GOOD:
            text = told[-2000:].decode(errors="replace")
            outcome = Outcome(kind, number, "crashed", f"printed: {text}")
        pipe.send(outcome)


def run(
    inputs: Iterable[tuple[str, int]],
    seed: int = 0,
    workers: int = 1,
    attempt: Attempt = attempt,
    patience: float = PATIENCE,
) -> list[Outcome]:
    """Try all inputs in `workers` processes; one that takes longer than `patience` s has hung."""
    todo = list(reversed(list(inputs)))
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        start = functools.partial(Watched, attempt, seed, Path(folder), patience)
        processes = [start() for _ in range(max(1, min(workers, len(todo))))]
        try:
            while todo or any(process.current for process in processes):
                for process in processes:
                    if process.current is None and todo:
                        process.give(todo.pop())
                busy = [process for process in processes if process.current]
                soonest = min(process.deadline for process in busy) - time.monotonic()
                limit = None if soonest == math.inf else max(0.0, soonest) + 0.01
                wait([process.pipe for process in busy], limit)
                for process in busy:
                    outcome = process.outcome()
                    if outcome is not None:
                        outcomes.append(outcome)
                    if process.current is not None and outcome is not None:
                        process.end()
                        processes[processes.index(process)] = start()
        finally:
            for process in processes:
                process.end()
    return outcomes


def bad(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that must not be."""
    return [outcome for outcome in outcomes if outcome.verdict not in GOOD]


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: one row for each kind of input, and their sum."""
    kinds = list(dict.fromkeys(outcome.kind for outcome in outcomes))
    lines = [
        "| Input | Tried | Refused with a reason | Answered | Remark missing | Crashed | Hung "
        "| Memory on top, at most |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in [*kinds, "all"]:
        rows = [outcome for outcome in outcomes if kind in (outcome.kind, "all")]
        counts = Counter(outcome.verdict for outcome in rows)
        numbers = [len(rows), *(counts[verdict] for verdict in VERDICTS)]
        memory = max(outcome.memory_mb for outcome in rows)
        cells = [kind, *(f"{number:,}" for number in numbers), f"{memory:.0f} MB"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
