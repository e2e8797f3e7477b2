"""Bulk recognition on Ray: the processes that answer files, spread over a cluster by Ray Data.

Names of recordings go through Ray Data to a pool of actors. Each holds one process that answers
files (:mod:`recognition.file_workers`), so a row is what the local engine gives, and a file that
hangs or ends its process costs its own row only. An actor writes the rows of a block as a part of
an :class:`~recognition.answer_parts.AnswerFolder` and sends only counts back; sound and answers
never pass through Ray's object store, so memory does not grow with the number of files. Where an
actor or a machine is lost, Ray gives its block to another, which writes the same part again.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import config
from audio import decoding
from recognition import object_stores
from recognition.answer_parts import AnswerFolder, hashed
from recognition.answer_table import Row, Tally, error_row, path_cell
from recognition.file_lists import Item
from recognition.file_workers import FileWorkers, Source
from recognition.ray_cluster import TOKENS, cluster, import_ray

SMALLEST_PART, LARGEST_PART = 64, 1024
"""Rows of a part: few at first, so that few files keep all actors busy and progress shows; then
more, so that ten million rows are ten thousand parts."""
CHUNK = 64
"""Files that are fetched and answered together."""
FETCHERS = 8
"""Files that an actor fetches from a store at the same time."""


@dataclass(frozen=True)
class Job:
    """What an actor needs to know; goes to every node."""

    folder: AnswerFolder
    decision: config.DecisionSettings
    cleaning: config.CleaningSettings | None
    strings: config.StringsSettings | None
    file_seconds: float


class PartMaker:
    """An actor: answers the recordings of a block and writes them as a part."""

    def __init__(self, job: Job) -> None:
        # the processes that it starts are ours: they must not import Ray's program
        vars(sys.modules["__main__"]).pop("__file__", None)
        self.job = job
        self.workers = FileWorkers(1, job.decision, job.cleaning, job.file_seconds, job.strings)
        self.workers.__enter__()
        self.fetchers = ThreadPoolExecutor(FETCHERS)

    def __call__(self, block: Any) -> Any:
        """A block of items, as a pyarrow table, to one row of counts."""
        import pyarrow

        items = [
            (text_of(name), text_of(place))
            for name, place in zip(*map(pyarrow.Array.to_pylist, _columns(block)), strict=True)
        ]
        rows: dict[str, Row] = {}
        for sources, lost in self._chunks(items):
            rows.update((row["path"], row) for row in lost)
            for done in self.workers.answer([sources] if sources else []):
                rows.update((row["path"], row) for row in done)
        stamps = block["stamp"].to_pylist()
        self.job.folder.write(block["number"][0].as_py(), [rows[name] for name, _ in items], stamps)
        return pyarrow.table({"files": [len(rows)], "node": [node_id()], "process": [os.getpid()]})

    def _chunks(self, items: list[tuple[str, str]]) -> Iterator[tuple[list[Source], list[Row]]]:
        """Recordings of some items at a time; the next are fetched while these are answered."""
        waiting: list[Future] = []
        for start in range(0, len(items) + CHUNK, CHUNK):
            coming = [self.fetchers.submit(fetch, *item) for item in items[start : start + CHUNK]]
            got = [one.result() for one in waiting]
            if got:
                yield (
                    [one for one in got if isinstance(one, tuple)],
                    [one for one in got if isinstance(one, dict)],
                )
            waiting = coming


def node_id() -> str:
    """The node of the cluster that this process is on."""
    import ray

    return ray.get_runtime_context().get_node_id()


def fetch(name: str, place: str) -> Source | Row:
    """A recording's name and its file, or what a store holds; or the row that says why not."""
    if object_stores.address_of(place) is None:
        return name, Path(place)
    try:
        return name, object_stores.read(place, decoding.MAX_STREAM_BYTES)
    except (OSError, config.UserError) as error:
        return error_row(name, object_stores.reason(error, place))


def text_of(content: bytes) -> str:
    """A name again, which may hold bytes that are not UTF-8."""
    return content.decode("utf-8", "surrogateescape")


def _columns(block: Any) -> list[Any]:
    return [block[name].combine_chunks() for name in ("name", "place")]


def answer(items: Iterable[Item], job: Job, address: str, workers: int) -> tuple[Tally, str]:
    """Answer all items that have no answer yet in the job's folder.

    Parameters
    ----------
    items : recordings
    job : settings
    address : of a running cluster, "auto" for the one on this machine; empty starts one
    workers : actors; 0 is one for each core of the cluster

    Returns what the folder then holds, and how fast it went, in words.

    Raises
    ------
    UserError : no Ray, no cluster, a store refuses, the networks can't be loaded, ...
    """
    ray = import_ray()
    items = iter(items)
    first = next(items, None)  # what is wrong with names or stores is told before Ray starts
    if first is None:
        raise config.UserError("no files: the manifest names none")
    items = itertools.chain([first], items)
    job.folder.prepare()
    found, speed = job.folder.contents(), ""
    blocks = Blocks(found)
    tables = blocks.tables(items)
    if (table := next(tables, None)) is not None:
        with cluster(ray, address, workers) as actors:
            refs = [ray.put(one) for one in itertools.chain([table], tables)]
            blocks.tell()
            # an answer to what a file was before: gone before there is a new one
            job.folder.drop(found, blocks.stale())
            speed = run(ray, refs, job, actors, blocks.count)
    else:
        blocks.tell()
    found = job.folder.contents()
    if (doubles := found.doubles()).any():
        job.folder.drop(found, doubles)
        found = job.folder.contents()
    return found.tally, speed


class Blocks:
    """Items that have no answer yet, as tables, each of which becomes a part.

    Attributes
    ----------
    count : items that are to be answered
    known : items that are answered already
    """

    def __init__(self, found: Any) -> None:
        self.found, self.count, self.known = found, 0, 0
        self._hashes: list[int] = []

    def tables(self, items: Iterable[Item]) -> Iterator[Any]:
        """The tables, as the items are found."""
        import pyarrow

        todo = self._todo(iter(items))
        for number in itertools.count():
            size = min(LARGEST_PART, SMALLEST_PART * (1 + number // 8))
            some = {item.name: item for item in itertools.islice(todo, size)}
            if not some:
                return
            names, places, stamps = zip(*some.values(), strict=True)
            yield pyarrow.table(
                {
                    "name": pyarrow.array(map(_bytes, names), pyarrow.binary()),
                    "place": pyarrow.array(map(_bytes, places), pyarrow.binary()),
                    "stamp": pyarrow.array(stamps, pyarrow.list_(pyarrow.int64())),
                    "number": pyarrow.array([number] * len(names), pyarrow.int64()),
                }
            )

    def _todo(self, items: Iterator[Item]) -> Iterator[Item]:
        while some := list(itertools.islice(items, LARGEST_PART)):
            cells = [path_cell(item.name) for item in some]
            answered = self.found.answered(cells, [item.stamp for item in some])
            for item, cell, known in zip(some, cells, answered, strict=True):
                self.known += bool(known)
                if not known:
                    self.count += 1
                    if len(self.found.paths):
                        self._hashes.append(hashed(cell))
                    yield item

    def tell(self) -> None:
        """Say, after the last table, that the run goes on where it does."""
        if self.known:
            told = f"{self.known} of {self.known + self.count} files are answered already"
            print(f"going on: {told}", file=sys.stderr)

    def stale(self) -> Any:
        """Rows of the folder whose files are to be answered anew; bool (rows,)."""
        import numpy as np

        return np.isin(self.found.paths, np.array(self._hashes, np.uint64))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def run(ray: Any, refs: list[Any], job: Job, actors: int, count: int) -> str:
    """Let the actors work; shows progress. Returns how fast it went after start-up."""
    from tqdm import tqdm

    arrivals: list[tuple[float, int]] = []
    seen: set[tuple[str, int]] = set()
    try:
        with tqdm(total=count, unit=" files", disable=not sys.stderr.isatty()) as bar:
            for files, node, process in _counts(ray, refs, job, actors):
                bar.update(files)
                arrivals.append((time.perf_counter(), files))
                seen.add((node, process))
    except (KeyboardInterrupt, SystemExit):
        done = sum(files for _, files in arrivals)
        print(f"\n{done} files were answered; the same command goes on", file=sys.stderr)
        raise
    except ray.exceptions.RayError as error:
        raise _in_one_line(error) from None
    seconds = arrivals[-1][0] - arrivals[0][0]
    nodes = len({node for node, _ in seen})
    rate = sum(files for _, files in arrivals[1:]) / seconds if seconds else 0.0
    speed = f"{rate:.0f} files/s after start-up, " if rate else ""
    return f"{speed}{len(seen)} processes on {nodes} nodes"


def _counts(ray: Any, refs: list[Any], job: Job, actors: int) -> Iterator[tuple[int, str, int]]:
    """Files, node and process of each part, as they are done."""
    from ray.data import ActorPoolStrategy, DataContext, from_arrow_refs

    for handler in logging.getLogger("ray.data").handlers:
        handler.setLevel(logging.CRITICAL)
    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.raise_original_map_exception = True
    parts = from_arrow_refs(refs).map_batches(
        PartMaker,
        fn_constructor_args=(job,),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=min(actors, len(refs)), max_tasks_in_flight_per_actor=2),
        num_cpus=1,
    )
    done: Iterable[Any] = parts.iter_batches(batch_size=None, batch_format="pyarrow")
    for part in done:
        for row in part.to_pylist():
            yield row["files"], row["node"], row["process"]


def _in_one_line(error: Exception) -> config.UserError:
    """What stopped Ray: ours, where one of our own errors is behind it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, config.UserError):
            return config.UserError(str(getattr(cause, "cause", cause)))
        cause = getattr(cause, "cause", None) or cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    if "ModuleNotFoundError" in last:
        last += "; every node needs this program at the same place, and its requirements"
    if "never ran" in last:  # what Ray says where one side wants a token and the other has none
        last += f" ({TOKENS})"
    return config.UserError(f"Ray gave up: {last}")
