"""How much faster several processes train, and whether they come to the same: no test, a measure.

    python tests/measure_processes.py --processes 2 --models cnn --rounds 2

One process and several train on FSDD in turns, so that what else the machine does meets both.
Told are the median seconds of an epoch, the first left out, their ratio, and the best validation
accuracy of each.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINE = re.compile(r"epoch +(\d+)/.* validation loss ([\d.]+) accuracy ([\d.]+)%  ([\d.]+) s")


def train(launcher: list[str], folder: Path, more: list[str]) -> list[tuple[int, float, float]]:
    """Epochs of a training from the start: number, validation accuracy in percent, seconds."""
    places = {"--data.root": "data", "--runs-dir": "runs", "--save-dir": "models"}
    words = [word for option, name in places.items() for word in (option, str(folder / name))]
    done = subprocess.run(
        [sys.executable, *launcher, "train.py", *words, "--no-onnx", "--overwrite", *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr)
    found = [LINE.search(line) for line in done.stdout.splitlines()]
    return [(int(line[1]), float(line[3]), float(line[4])) for line in found if line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--models", default="cnn")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", default="6")
    chosen, more = parser.parse_known_args()
    settings = ["--data.corpora", "fsdd", "--models", chosen.models]
    settings += ["--training.epochs", chosen.epochs, "--training.views", "2", *more]
    several = f"-m torch.distributed.run --standalone --nproc-per-node {chosen.processes}".split()
    kinds: dict[str, list[str]] = {"1 process": [], f"{chosen.processes} processes": several}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as place:
        for number in range(chosen.rounds):
            for name, launcher in kinds.items():
                epochs = train(launcher, Path(place), settings)
                seconds[name] += [time for epoch, _, time in epochs if epoch > 1]
                accuracy = max(score for _, score, _ in epochs)
                print(
                    f"round {number + 1}, {name}: validation accuracy {accuracy:.2f} %, "
                    f"{statistics.median(time for _, _, time in epochs):.1f} s an epoch",
                    flush=True,
                )
    one, many = (statistics.median(values) for values in seconds.values())
    print(f"an epoch: {one:.2f} s, {many:.2f} s; throughput times {one / many:.2f}")


if __name__ == "__main__":
    main()
