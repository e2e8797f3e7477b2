"""How fast is it? Everything is timed in turns in one run: ratios hold on a noisy machine.

    python benchmark.py                            about a minute; table and results/benchmark.json
    python benchmark.py --files 8000               a longer measurement of batch_inference.py

Times are medians over the rounds; the ratio compares with the first line of each group. The clips
are synthetic speech, so no data is needed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

import audio_cleaning
import audio_io
import batch_inference
import config
import utils
from corpora import synthetic
from corpora.clips import Clips
from protocols import tables
from protocols.noise import in_noise
from training.settings import TrainingData, TrainSettings, window

VOICES = config.SyntheticSettings.only(espeak_clips=300)
"""Synthetic speech for the measurement."""


@dataclass(frozen=True)
class BenchmarkSettings:
    """What to measure with."""

    rounds: int = 5
    """Rounds in which everything takes its turn."""
    files: int = 2000
    """Sound files for the measurement of batch_inference.py."""
    results_dir: Path = Path("results")
    """Folder for benchmark.json and benchmark.md."""
    decision: config.DecisionSettings = field(default_factory=config.DecisionSettings)

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.files < 1000:
            raise config.UserError("use at least 1 round and 1000 files")


@dataclass(frozen=True)
class Line:
    """One thing that is timed, with the others of its group in turns."""

    group: str
    name: str
    measure: Callable[[], float]
    """Does it once and returns the figure."""


def run(settings: BenchmarkSettings) -> None:
    """Time everything, print and write the table."""
    from tqdm import tqdm

    clips = synthetic.synthesize(VOICES, 0, config.AudioSettings().sample_rate)
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            *answering(settings, clips),
            *speaking(),
            *learning(clips),
            *batches(settings, clips, Path(folder)),
        ]
        figures: dict[tuple[str, str], list[float]] = {(x.group, x.name): [] for x in lines}
        for _ in tqdm(range(settings.rounds), unit="round", disable=None, leave=False):
            for line in lines:
                figures[line.group, line.name].append(line.measure())
    write(figures, settings.results_dir)


def milliseconds(work: Callable[[], object], times: int) -> float:
    """Mean time of one call on one thread, after a first call that does not count."""
    import torch

    work()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        begun = time.perf_counter()
        for _ in range(times):
            work()
        return 1000 * (time.perf_counter() - begun) / times
    finally:
        torch.set_num_threads(threads)


def answering(settings: BenchmarkSettings, clips: Clips) -> Iterator[Line]:
    """One clip at a time, as in the live script."""
    from recognition.predictor import Predictor

    def turn(work: Callable[[np.ndarray], object]) -> Callable[[], float]:
        waveforms = iter(np.random.default_rng(0).permutation(len(clips)).tolist() * 1000)
        return lambda: milliseconds(lambda: work(clips.waveform(next(waveforms))), 30)

    everyone = Predictor(settings.decision)
    group = "one clip on one core, ms"
    yield Line(group, "all networks and the vote", turn(everyone.predict))
    for name in everyone.names:
        yield Line(group, f"{name} alone", turn(Predictor(settings.decision, (name,)).predict))
    noisy = list(in_noise(clips.subset(range(60)), "white", 10, 0, [])) * 1000
    for gate in ("off", "on"):
        chosen, sounds = config.CleaningSettings(gate=gate), iter(noisy)
        yield Line(
            group,
            f"cleaning 1 s, spectral gating {gate}",
            partial(milliseconds, partial(cleaned, sounds, clips.sample_rate, chosen), 30),
        )


def cleaned(
    sounds: Iterator[np.ndarray], sample_rate: int, settings: config.CleaningSettings
) -> None:
    """Clean the next sound."""
    audio_cleaning.clean(next(sounds), sample_rate, settings)


def speaking() -> Iterator[Line]:
    """Synthesising speech, trimming included."""

    def speed(engine: str, count: int) -> float:
        begun = time.perf_counter()
        wanted = config.SyntheticSettings.only(**{f"{engine}_clips": count})
        clips = synthetic.synthesize(wanted, 0, config.AudioSettings().sample_rate)
        return len(clips) / (time.perf_counter() - begun)

    for engine, count in (("espeak", 500), ("pico", 100), ("piper", 50), ("kokoro", 20)):
        yield Line("synthetic speech, clips a second", engine, partial(speed, engine, count))


def learning(clips: Clips) -> Iterator[Line]:
    """One batch of training: making it, and a step of each network with it."""
    from training.data import TrainLoader
    from training.trainer import Trainer

    train_settings = TrainSettings()
    rows = np.arange(train_settings.training.batch_size) % len(clips)
    training_data = TrainingData(
        window(clips, train_settings.audio)[rows],
        clips.labels[rows],
        window(clips, train_settings.audio)[rows],
        clips.labels[rows],
        "synthetic",
    )
    making = TrainLoader(train_settings, training_data)
    features, targets = making.make(np.arange(len(rows)))
    group = f"one training batch of {len(rows)} clips, ms"
    for name in train_settings.models:
        trainer = Trainer(name, train_settings, making, Path())
        yield Line(
            group,
            f"{name} trains on it",
            partial(milliseconds, partial(trainer.train_step, features, targets), 8),
        )
    yield Line(
        group,
        "augmentation and features",
        lambda: milliseconds(lambda: making.make(np.arange(len(rows))), 8),
    )
    yield Line(
        group,
        "features alone, as in validation",
        lambda: milliseconds(lambda: list(making.validation()), 8),
    )


def batches(settings: BenchmarkSettings, clips: Clips, folder: Path) -> Iterator[Line]:
    """batch_inference.py on all cores, after start-up."""
    for number in range(settings.files):
        audio_io.write_audio(
            folder / f"{number}.wav", clips.waveform(number % len(clips)), clips.sample_rate
        )
    paths = sorted(folder.glob("*.wav"))

    def speed(clean: bool) -> float:
        chosen = batch_inference.BatchSettings(
            (folder,), folder / "table.jsonl", clean=clean, decision=settings.decision
        )
        return batch_inference.answer_files(paths, chosen, folder / "partial.jsonl", {})

    group = f"batch_inference.py on {utils.available_cores()} cores, files a second"
    yield Line(group, "without cleaning", lambda: speed(False))
    yield Line(group, "with cleaning", lambda: speed(True))


def write(figures: dict[tuple[str, str], list[float]], folder: Path) -> None:
    """Print the table; write it with its figures as JSON and Markdown."""
    first: dict[str, float] = {}
    rows, values = [], []
    for (group, name), measured in figures.items():
        median = statistics.median(measured)
        ratio = median / first.setdefault(group, median)
        rows.append(
            [
                group,
                name,
                f"{median:.3g}",
                f"{min(measured):.3g} to {max(measured):.3g}",
                f"{ratio:.2f}",
            ]
        )
        values.append(
            {
                "group": group,
                "name": name,
                "median": median,
                "all": measured,
                "ratio_to_first": ratio,
            }
        )
    table = tables.table(["what", "of that", "median", "from .. to", "ratio"], rows)
    print(table)
    utils.write_json(folder / "benchmark.json", {"figures": values, "record": utils.run_record()})
    utils.write_text(folder / "benchmark.md", f"# How fast it is\n\n{table}")


if __name__ == "__main__":
    utils.main(run, BenchmarkSettings, __doc__)
