"""The local engine and Ray over the same generated files: equal rows, throughput, memory.

    python tests/measure_ray.py 100000              with one worker a core
    python tests/measure_ray.py 3000 2 4            with two workers and with four

Ray runs in a cluster of its own, and with the last number of workers also in one of as many nodes
(``ray.cluster_utils.Cluster``). Memory is what the processes of a run hold for themselves alone
(Linux only). Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure_scale import write_recordings
from test_ray_batch import CLUSTER, descendants

import batch_inference
import utils

SCRIPT = Path(batch_inference.__file__)
PAGE_MB = (os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096) / 2**20


def private_mb(roots: list[int]) -> float:
    """Memory that processes and those that they started share with nobody, MB."""
    total = 0.0
    for number in {child for root in roots for child in (root, *descendants(root))}:
        try:
            _, resident, shared, *_ = Path(f"/proc/{number}/statm").read_text().split()
        except OSError:
            continue
        total += PAGE_MB * (int(resident) - int(shared))
    return total


def run(recordings: Path, output: Path, *words: str, cluster: int = 0) -> dict[str, float]:
    """One run of the script; its throughput, and its memory in the middle and near the end."""
    command = [sys.executable, str(SCRIPT), str(recordings), "--output", str(output), *words]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=output.parent
    )
    samples = []
    while running.poll() is None:
        samples.append(private_mb([running.pid] + [cluster] * bool(cluster)))
        time.sleep(0.5)
    told, complaint = running.communicate()
    if running.returncode:
        sys.exit(complaint)
    print(told.strip(), file=sys.stderr)
    middle = samples[len(samples) // 3 : len(samples) // 2] or [0.0]
    last = samples[-len(samples) // 5 : -len(samples) // 10] or [0.0]
    rate = re.search(r"(\d+) files/s", told)
    return {
        "files_per_s": float(rate[1]) if rate else 0.0,
        "mb_in_the_middle": round(max(middle)),
        "mb_near_the_end": round(max(last)),
    }


@contextmanager
def nodes(count: int) -> Iterator[tuple[str, int]]:
    """The address and the process of a cluster of nodes with one core each."""
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as cluster:
        address = ""
        while not re.fullmatch(r"\S+:\d+", address.strip()):
            address = cluster.stdout.readline()
        yield address.strip(), cluster.pid
        cluster.communicate("")


def measure(folder: Path, count: int, workers: list[int]) -> dict[str, object]:
    """Every figure, for `count` recordings made below `folder`."""
    recordings = folder / "recordings"
    write_recordings(recordings, count)
    figures: dict[str, object] = {"files": count, "cores": utils.available_cores()}
    for number in workers:
        together = {}
        ways = {"local": ("local.parquet",), "ray": (f"ray{number}", "--engine", "ray")}
        for name, (output, *words) in ways.items():
            words = [*words, "--workers", str(number)]
            together[name] = run(recordings, folder / output, *words)
        figures[f"{number} workers"] = together
        together["ray_to_local"] = round(
            together["ray"]["files_per_s"] / together["local"]["files_per_s"], 2
        )
        together["rows_equal"] = equal(folder / "local.parquet", folder / f"ray{number}")
    with nodes(workers[-1]) as (address, process):
        words = ["--engine", "ray", "--ray-address", address]
        figures[f"{workers[-1]} nodes"] = run(
            recordings, folder / "nodes", *words, cluster=process
        ) | {"rows_equal": equal(folder / "local.parquet", folder / "nodes")}
    return figures


def equal(one: Path, other: Path) -> bool:
    """Whether two tables hold the same rows, in whatever order."""
    tables = [pandas.read_parquet(path) for path in (one, other)]
    one, other = (table.sort_values("path", ignore_index=True) for table in tables)
    return one.equals(other)


if __name__ == "__main__":
    numbers = list(map(int, sys.argv[1:])) or [3000]
    with tempfile.TemporaryDirectory() as place:
        result = measure(Path(place), numbers[0], numbers[1:] or [utils.available_cores()])
    print(json.dumps(result, indent=2))
