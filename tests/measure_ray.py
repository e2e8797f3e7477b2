"""The local engine and Ray over the same generated files: equal rows, throughput, memory.

    python tests/measure_ray.py 100000              with one worker a core
    python tests/measure_ray.py 3000 2 4            with two workers and with four
    python tests/measure_ray.py 3000 2 --networks saved_models --only local ray

Ray runs in a cluster of its own, and with the last number of workers also in one of as many nodes
(``ray.cluster_utils.Cluster``). Throughput is timed here, in the same way for both engines: from
the moment that a tenth of the rows is on disk until nine tenths are. So is processor time, which
tells more on a machine that does other things as well. Memory is what the processes of a run hold
for themselves alone (Linux only). Prints one line of JSON as soon as a step is done; the files are
removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure_scale import write_recordings
from ray_nodes import descendants, nodes

import batch_inference
import utils

SCRIPT = Path(batch_inference.__file__)
PAGE_MB = (os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096) / 2**20
STEPS = ("local", "ray", "nodes")
FROM, TO = 0.1, 0.9
"""Between these shares of all rows throughput is timed: neither start-up nor the last few."""


def used(roots: list[int]) -> tuple[float, float]:
    """What processes and those that they started use: MB that they share with nobody, and CPU s."""
    memory, seconds = 0.0, 0.0
    for number in {child for root in roots for child in (root, *descendants(root))}:
        try:
            _, resident, shared, *_ = Path(f"/proc/{number}/statm").read_text().split()
            facts = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        memory += PAGE_MB * (int(resident) - int(shared))
        seconds += (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")
    return memory, seconds


class Rows:
    """How many rows a run has on disk: lines of the local engine's journal, or rows of parts."""

    def __init__(self, output: Path) -> None:
        self.output, self.journal = output, output.with_name(f"{output.name}.partial.jsonl")
        self.count, self.place, self.parts = 0, 0, set()

    def look(self) -> int:
        """The number by now."""
        if self.output.suffix:
            if self.journal.is_file():
                with self.journal.open("rb") as file:
                    file.seek(self.place)
                    new = file.read()
                self.count, self.place = self.count + new.count(b"\n"), self.place + len(new)
            return max(0, self.count - 1)  # the first line holds the settings
        from pyarrow import parquet

        for part in set(self.output.glob("part-*")) - self.parts:
            self.count += parquet.read_metadata(part).num_rows
            self.parts.add(part)
        return self.count


@dataclass
class Measurement:
    """What all runs have in common, and what they found so far."""

    folder: Path
    count: int
    networks: str

    def run(self, output: str, *words: str, cluster: int = 0) -> dict[str, float]:
        """One run of the script; its throughput, and its memory in the middle and near the end."""
        place = self.folder / output
        command = [sys.executable, str(SCRIPT), str(self.folder / "recordings")]
        command += ["--output", str(place), *words]
        command += ["--decision.models-dir", self.networks] * bool(self.networks)
        begun, rows = time.perf_counter(), Rows(place)
        samples: list[tuple[float, int, float, float]] = []
        with (self.folder / "told").open("w+") as told:
            running = subprocess.Popen(command, stdout=told, stderr=told, cwd=self.folder)
            try:
                while running.poll() is None:
                    now = used([running.pid] + [cluster] * bool(cluster))
                    samples.append((time.perf_counter() - begun, rows.look(), *now))
                    time.sleep(0.2)
            finally:  # cut short: it must not go on
                running.terminate()
                running.wait()
            told.seek(0)
            said = told.read().strip()
        if running.returncode:
            sys.exit(said)
        own = re.search(r"(\d+) files/s", said)
        return {
            **figures(samples, self.count),
            "files_per_s_it_told": float(own[1]) if own else 0.0,
            "seconds_in_all": round(time.perf_counter() - begun, 1),
        }

    def equal(self, one: str, other: str) -> bool:
        """Whether two tables hold the same rows, in whatever order."""
        tables = [pandas.read_parquet(self.folder / name) for name in (one, other)]
        one, other = (table.sort_values("path", ignore_index=True) for table in tables)
        return len(one) == self.count and one.equals(other)


def figures(samples: list[tuple[float, int, float, float]], count: int) -> dict[str, float]:
    """Throughput and memory from samples (s, rows, MB, CPU s) of a run."""
    within = [sample for sample in samples if FROM * count <= sample[1] <= TO * count]
    seconds = within[-1][0] - within[0][0] if within else 0.0
    rows = within[-1][1] - within[0][1] if within else 0
    cpu = within[-1][3] - within[0][3] if within else 0.0

    def largest(start: float, end: float) -> int:
        return round(
            max((mb for _, n, mb, _ in samples if start * count <= n <= end * count), default=0)
        )

    return {
        "files_per_s": round(rows / seconds, 1) if seconds else 0.0,
        "cpu_ms_per_file": round(1000 * cpu / rows, 2) if rows else 0.0,
        "start_up_s": round(next((s for s, n, *_ in samples if n), 0.0), 1),
        "mb_at_a_third": largest(0.2, 0.45),
        "mb_at_the_end": largest(0.7, 1.0),
    }


def measure(at: Measurement, workers: list[int], steps: list[str], tell: Callable) -> None:
    """Every figure, told as soon as it is known."""
    write_recordings(at.folder / "recordings", at.count)
    tell("made", {"files": at.count, "cores": utils.available_cores()})
    for number in workers:
        asked, found = ["--workers", str(number)], {}
        for name, more in (("local", []), ("ray", ["--engine", "ray"])):
            if name in steps:
                output = f"{name}{number}" + ".parquet" * (name == "local")
                found[name] = at.run(output, *asked, *more)
                tell(f"{name}, {number} workers", found[name])
        if len(found) == 2:
            rates = [found[name]["files_per_s"] for name in ("ray", "local")]
            equal = at.equal(f"local{number}.parquet", f"ray{number}")
            ratio = round(rates[0] / rates[1], 2) if rates[1] else None
            tell(f"{number} workers", {"ray_to_local": ratio, "rows_equal": equal})
    if "nodes" in steps:
        with nodes(workers[-1], at.folder) as (address, process):
            words = ["--engine", "ray", "--ray-address", address]
            found = at.run("nodes", *words, cluster=process)
        if "local" in steps:
            found["rows_equal"] = at.equal(f"local{workers[-1]}.parquet", "nodes")
        tell(f"{workers[-1]} nodes", found)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=3000, help="files")
    parser.add_argument("workers", type=int, nargs="*", default=[utils.available_cores()])
    parser.add_argument("--networks", default="", help="their folder; by default saved_models")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS))
    words = parser.parse_args()
    networks = os.path.abspath(words.networks) if words.networks else ""

    def tell(name: str, found: dict[str, float]) -> None:
        print(json.dumps({name: found}), flush=True)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the files go then, too
    with tempfile.TemporaryDirectory() as place:
        at = Measurement(Path(place), words.count, networks)
        measure(at, words.workers or [utils.available_cores()], words.only, tell)


if __name__ == "__main__":
    main()
