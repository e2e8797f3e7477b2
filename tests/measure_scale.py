"""What many clips cost: decoding, memory, training throughput, and what cached features gain.

    python tests/measure_scale.py 40000               made-up recordings of 0.4 to 1 s

Ratios are of processor time, within one run, between steps that take turns. Prints one JSON object.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import audio_io
import config
from corpora.folder import load_folder

RATE = 16000
FEW = 3000
"""Clips that the many are compared with."""
STEPS = 60
"""Training steps of each kind that take turns."""


def write_recordings(folder: Path, count: int) -> None:
    """Tones in noise, named by digit, speaker and take."""
    random = np.random.default_rng(0)
    noise = 0.05 * random.standard_normal(2 * RATE)
    for number in range(count):
        digit, speaker, take = number % 10, number // 10 % 200, number // 2000
        time_s = np.arange(int(RATE * random.uniform(0.4, 1.0))) / RATE
        start = random.integers(0, RATE)
        waveform = 0.2 * np.sin(2 * np.pi * (300 + 100 * digit + speaker) * time_s)
        waveform += noise[start : start + len(waveform)]
        path = folder / str(digit) / f"{digit}_s{speaker:03d}_{take}.wav"
        audio_io.write_audio(path, waveform.astype(np.float32), RATE)


def peak_mb(who: int = resource.RUSAGE_SELF) -> float:
    """Largest resident memory so far, MB."""
    return resource.getrusage(who).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def measure(folder: Path, count: int) -> dict[str, float]:
    """All figures for `count` recordings made below `folder`."""
    write_recordings(folder / "recordings", count)
    audio = config.AudioSettings(sample_rate=RATE)
    figures: dict[str, float] = {"clips": count, "peak_mb_before": peak_mb()}
    for name in ("decode_s", "load_again_s"):
        begun = time.perf_counter()
        clips = load_folder(folder / "recordings", audio, cache=folder / "data/cache")
        figures[name] = time.perf_counter() - begun
    figures |= {
        "decoded_mb": 2 * len(clips.samples) / (1 << 20),
        "peak_mb_decoding": peak_mb(),
        "peak_mb_of_a_worker": peak_mb(resource.RUSAGE_CHILDREN),
    }

    from training.data import TrainLoader
    from training.feature_cache import FeatureLoader
    from training.settings import TrainingData, TrainSettings, window
    from training.trainer import Trainer

    settings = TrainSettings(data=config.DataSettings(root=folder / "data"), models=("cnn",))
    plain = dataclasses.replace(settings, augmentation=config.AugmentationSettings(off=True))

    def stepper(kind: type[TrainLoader], chosen: TrainSettings, size: int) -> Callable[[], None]:
        """One step of training on `size` clips, every time it is called."""
        subset = clips.subset(np.linspace(0, len(clips) - 1, size).astype(int))
        windows = window(subset, audio, folder / "data/cache")
        few = slice(0, 64)
        data = TrainingData(
            windows, subset.labels, windows[few], subset.labels[few], "tones", subset.corpus
        )
        loader = kind(chosen, data, chosen.features)
        loader.prepare()
        trainer = Trainer("cnn", chosen, loader, folder / "run")
        random = np.random.default_rng(0)
        return lambda: trainer.train_step(*loader.make(random.integers(0, size, 128)))

    few, many = (stepper(TrainLoader, settings, size) for size in (FEW, count))
    computed, cached = (stepper(kind, plain, FEW) for kind in (TrainLoader, FeatureLoader))
    seconds = take_turns({"few": few, "many": many, "computed": computed, "cached": cached})
    figures["throughput_many_to_few"] = seconds["few"] / seconds["many"]
    figures["epoch_uncached_to_cached"] = seconds["computed"] / seconds["cached"]
    figures["peak_mb"] = peak_mb()
    return figures


def take_turns(steps: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median seconds of processor time of each step; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(STEPS + 1):
        for name, step in steps.items():
            begun = time.process_time()
            step()
            times[name].append(time.process_time() - begun)
    return {name: float(np.median(values[1:])) for name, values in times.items()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        result = measure(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else 40_000)
    print(json.dumps({name: round(value, 3) for name, value in result.items()}, indent=2))
