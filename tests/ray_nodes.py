"""A Ray cluster of several nodes on this machine, and the processes that a process started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import PATIENCE, unmeasured, wait_until

from recognition.ray_cluster import ENVIRONMENT

CLUSTER = """
import pathlib, sys
from ray.cluster_utils import Cluster
count, place = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
for _ in range(int(count) - 1):
    cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
pathlib.Path(place).write_text(cluster.address + "\\n")
sys.stdin.read()
cluster.shutdown()
"""


@contextmanager
def nodes(count: int, folder: Path) -> Iterator[tuple[str, int]]:
    """The address and the process of a cluster of nodes with one core each; it then ends.

    What it says, and its address, are written into `folder`.
    """
    place, said = folder / "address", folder / "cluster.log"
    with (
        said.open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", CLUSTER, str(count), str(place)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=unmeasured() | ENVIRONMENT,
        ) as cluster,
    ):

        def address() -> str:
            return place.read_text() if place.is_file() else ""

        try:
            wait_until(lambda: address().endswith("\n") or cluster.poll() is not None, "a cluster")
            assert cluster.poll() is None, said.read_text()
            yield address().strip(), cluster.pid
        finally:
            try:
                cluster.communicate(b"", timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                cluster.terminate()
                raise


def descendants(number: int) -> dict[int, bytes]:
    """The processes that a process started, directly or not, with their command lines (Linux)."""
    parents, lines = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
            lines[int(place.name)] = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if state != "Z":
            parents[int(place.name)] = int(parent)
    found, new = set(), {number}
    while new := {child for child, parent in parents.items() if parent in new}:
        found |= new
    return {child: lines[child] for child in found}
