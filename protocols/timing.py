"""How long things take: clips alone and many together on one thread, whole processes, in turns."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import config
from corpora.clips import Clips
from recognition.predictor import Predictor

TIMED_CLIPS = 60
"""Clips recognised one by one to take the time: enough for a 95th percentile."""
WARM_UP = 3
"""Clips recognised before the clock starts."""
MATRIX = 1024
"""Rows and columns of the matrices whose product shows what a core can compute."""
LAUNCH = """
import json, subprocess, sys, time
begun = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, capture_output=True, text=True)
figures = {"s": time.perf_counter() - begun}
try:
    import resource
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    figures["peak MB"] = peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
except ImportError:
    pass
print(json.dumps([done.returncode, done.stderr, figures]))
"""
"""A small program that starts another: the system counts the memory of who starts it, too."""

Figures = dict[str, float]
"""Unit -> figure."""


@dataclass(frozen=True)
class Line:
    """One thing that is timed, with the others of its group in turns."""

    group: str
    name: str
    measure: Callable[[], Figures]
    """Does it once and returns a figure for each unit; a UserError is why it can't be done."""


@dataclass(frozen=True)
class Measured:
    """The figures of one line in one unit, one a round."""

    group: str
    name: str
    unit: str
    all: list[float]

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return float(np.median(self.all))


def take_turns(lines: Sequence[Line], rounds: int) -> tuple[list[Measured], dict[Line, str]]:
    """Measure every line once a round: a busy machine meets all alike.

    Returns
    -------
    measured : in the order of the lines
    absent : line -> why it can't be measured here
    """
    from tqdm import tqdm

    figures: dict[tuple[Line, str], list[float]] = {}
    absent: dict[Line, str] = {}
    for _ in tqdm(range(rounds), unit="round", disable=None, leave=False):
        for line in lines:
            if line not in absent:
                try:
                    for unit, value in line.measure().items():
                        figures.setdefault((line, unit), []).append(value)
                except config.UserError as error:
                    absent[line] = str(error)
    measured = [
        Measured(line.group, line.name, unit, values)
        for (line, unit), values in figures.items()
        if line not in absent
    ]
    return measured, absent


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch and NumPy compute on one thread, so that cores and other work matter little."""
    import threadpoolctl

    with threads(1), threadpoolctl.threadpool_limits(1):
        yield


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch compute on so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds(
    work: Callable[[], object], times: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Mean seconds of a call on one thread, after a first call that does not count."""
    with one_thread():
        work()
        begun = clock()
        for _ in range(times):
            work()
        return (clock() - begun) / times


def matrix_product() -> Figures:
    """Multiply-adds a second of processor time, of a float32 matrix product: what a core can do."""
    import torch

    matrix = torch.ones(MATRIX, MATRIX)
    best = min(seconds(lambda: matrix @ matrix, 1, time.process_time) for _ in range(3))
    return {"billion multiply-adds a second": MATRIX**3 / best / 1e9}


def whole_process(command: Sequence[str]) -> Figures:
    """Seconds of a process from start to end, and, not on Windows, its largest resident memory.

    Raises
    ------
    UserError : it failed; the text is the last line of what it said
    """
    launch = [sys.executable, "-c", LAUNCH, *command]
    done = subprocess.run(launch, capture_output=True, text=True, cwd=config.PROGRAM_DIR)
    code, said, figures = json.loads(done.stdout)
    if code:
        last = (said.strip().splitlines() or [f"exit code {code}"])[-1]
        raise config.UserError(last.removeprefix("error: "))
    return figures


def some_waveforms(clips: Clips, count: int) -> list[np.ndarray]:
    """At most `count` waveforms, evenly from the whole set."""
    chosen = np.linspace(0, len(clips) - 1, min(count, len(clips))).astype(int)
    return [clips.waveform(index) for index in chosen]


def time_clips(predictor: Predictor, clips: Clips, count: int = TIMED_CLIPS) -> dict[str, float]:
    """Milliseconds that one clip takes alone, on one thread: median and 95th percentile."""
    waveforms, times = some_waveforms(clips, count), []
    with one_thread():
        for waveform in waveforms[:WARM_UP]:
            predictor.predict(waveform)
        for waveform in waveforms:
            start = time.perf_counter()
            predictor.predict(waveform)
            times.append(1000 * (time.perf_counter() - start))
    return {
        "median": float(np.median(times)),
        "p95": float(np.percentile(times, 95)),
        "clips": len(times),
    }


def throughput(predictor: Predictor, clips: Clips, count: int = 64) -> float:
    """Clips a second that are answered in one batch, on one thread."""
    waveforms = some_waveforms(clips, count)
    with one_thread():
        predictor.predict_batch(waveforms[:WARM_UP])
        start = time.perf_counter()
        predictor.predict_batch(waveforms)
        return len(waveforms) / (time.perf_counter() - start)


def in_turns(
    predictors: dict[str, Predictor], clips: Clips, rounds: int
) -> dict[str, dict[str, float]]:
    """Latency and throughput of each, taken in turns: ratios hold on a noisy machine.

    Returns
    -------
    name -> ``latency_ms`` and ``clips_per_second``, medians over the rounds
    """
    latency: dict[str, list[float]] = {name: [] for name in predictors}
    speed: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(rounds):
        for name, predictor in predictors.items():
            latency[name].append(time_clips(predictor, clips, 20)["median"])
            speed[name].append(throughput(predictor, clips))
    return {
        name: {
            "latency_ms": float(np.median(latency[name])),
            "clips_per_second": float(np.median(speed[name])),
        }
        for name in predictors
    }
