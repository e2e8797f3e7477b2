"""How much faster several processes train, and whether they come to the same: no test, a measure.

    python tests/measure_processes.py --processes 2 --models cnn --rounds 2

Three ways take turns on FSDD, so that what else the machine does meets all: one process; several
that train one network together, under torchrun; and as many that train a network each at the same
time and never wait for each other, which is what the cores allow. Told are the seconds of an epoch
(median, and the quickest), the first left out, how many times as many clips in a second that is as
one process takes, the processor's seconds for a network from start to end, which others that use
the machine change little, and the best validation accuracy.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINE = re.compile(r"epoch +(\d+)/.* validation loss ([\d.]+) accuracy ([\d.]+)%  ([\d.]+) s")

Epochs = list[tuple[int, float, float]]
"""Number, validation accuracy in percent, seconds."""


def start(launcher: list[str], folder: Path, number: int, more: list[str]) -> subprocess.Popen:
    """A training from the start; those that run at the same time share nothing but cached views."""
    places = {"--data.root": "data", "--runs-dir": f"runs{number}", "--save-dir": f"models{number}"}
    words = [word for option, name in places.items() for word in (option, str(folder / name))]
    return subprocess.Popen(
        [sys.executable, *launcher, "train.py", *words, "--no-onnx", "--overwrite", *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def epochs_of(training: subprocess.Popen) -> Epochs:
    """What it tells of its epochs."""
    told, trouble = training.communicate()
    if training.returncode:
        sys.exit(trouble)
    found = [LINE.search(line) for line in told.splitlines()]
    return [(int(line[1]), float(line[3]), float(line[4])) for line in found if line]


def processor_s() -> float:
    """Seconds that the processor has worked for the trainings that have ended; 0 on Windows."""
    return os.times().children_user + os.times().children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--models", default="cnn")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", default="6")
    chosen, more = parser.parse_known_args()
    settings = ["--data.corpora", "fsdd", "--models", chosen.models]
    settings += ["--training.epochs", chosen.epochs, "--training.views", "2", *more]
    count = chosen.processes
    several = f"-m torch.distributed.run --standalone --nproc-per-node {count}".split()
    kinds: dict[str, tuple[list[str], int]] = {
        "one process": ([], 1),
        f"{count} processes together": (several, 1),
        f"{count} processes apart": ([], count),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as place:
        for number in range(chosen.rounds):
            for name, (launcher, runs) in kinds.items():
                before = processor_s()
                begun = [start(launcher, Path(place), run, settings) for run in range(runs)]
                epochs = [epoch for training in begun for epoch in epochs_of(training)]
                took = [time for epoch, _, time in epochs if epoch > 1]
                seconds[name] += took
                print(
                    f"round {number + 1}, {name}: validation accuracy "
                    f"{max(score for _, score, _ in epochs):.2f} %, "
                    f"{statistics.median(took):.1f} s an epoch, "
                    f"{(processor_s() - before) / runs:.0f} processor seconds a network",
                    flush=True,
                )
    alone = seconds["one process"]
    for name, (_, runs) in kinds.items():
        middle, least = statistics.median(seconds[name]), min(seconds[name])
        print(
            f"{name}: {middle:.2f} s an epoch, {least:.2f} s the quickest; throughput times "
            f"{runs * statistics.median(alone) / middle:.2f}, {runs * min(alone) / least:.2f}"
        )


if __name__ == "__main__":
    main()
