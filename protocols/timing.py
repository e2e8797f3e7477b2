"""How long networks take: one clip alone, and many together, always on one thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import numpy as np

from corpora.clips import Clips
from recognition.predictor import Predictor

TIMED_CLIPS = 60
"""Clips recognised one by one to take the time: enough for a 95th percentile."""
WARM_UP = 3
"""Clips recognised before the clock starts."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread, so that cores and other work matter little."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
