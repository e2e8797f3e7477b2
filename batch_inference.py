"""Recognise any number of files: one row for each, in a table.

    python batch_inference.py recordings/ --output answers.csv
    python batch_inference.py a.wav b.flac more/ --output answers.parquet --cleaning.gate on
    python batch_inference.py clips/ --output answers.jsonl --no-clean     trimmed clips: quicker

Folders are searched to the bottom. The table has the columns path, digit (empty: "no digit"),
best_guess, confidence, accepted, cnn_digit, cnn_confidence, rnn_digit, rnn_confidence,
speech_start_s, speech_end_s, snr_db and error. A bad file gets a row with nothing but its error.
Stopped half way, the same command goes on where it was.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import tyro

import audio_io
import config
import utils
from audio_io import Recording

if TYPE_CHECKING:  # torch takes seconds to import, and --help does without it
    from recognition.recognizer import RecognitionResult, Recognizer

COLUMNS = {
    "path": str,
    "digit": int,
    "best_guess": int,
    "confidence": float,
    "accepted": bool,
    "cnn_digit": int,
    "cnn_confidence": float,
    "rnn_digit": int,
    "rnn_confidence": float,
    "speech_start_s": float,
    "speech_end_s": float,
    "snr_db": float,
    "error": str,
}
"""The table's columns and the kind of their values; any value may be missing but the path."""
FORMATS = (".csv", ".jsonl", ".parquet")
CHUNK = 64
"""Files read, answered and put on disk together: more fall out of the processor's cache."""
IN_PROCESS = 256
"""Up to so many files are answered here: starting other processes would take longer."""

Row = dict[str, Any]


@dataclass(frozen=True)
class BatchSettings:
    """What to recognise and where to write it."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Sound files and folders with sound files."""
    output: Path
    """The table: a name that ends in .csv, .jsonl or .parquet."""
    clean: bool = True
    """High-pass, trim to the speech and so on; --no-clean for clips that are trimmed already."""
    workers: int = 0
    """Processes that read, clean and answer; 0 is one for each core."""
    cleaning: config.CleaningSettings = field(default_factory=config.CleaningSettings)
    """How recordings are cleaned."""
    decision: config.DecisionSettings = field(default_factory=config.DecisionSettings)
    """Which networks answer, and when they say "no digit"."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise config.UserError("no files: name sound files or folders")
        if self.output.suffix.lower() not in FORMATS:
            raise config.UserError(
                f"{self.output}: the table's name must end in .csv, .jsonl or .parquet"
            )
        if self.workers < 0:
            raise config.UserError(f"workers is {self.workers}: use 0 or more")


def run(settings: BatchSettings) -> int:
    """Answer all files that have no answer yet, then write the table; 1 if no file was readable."""
    files = find_files(settings.paths)
    paths = files.paths
    partial = settings.output.with_name(settings.output.name + ".partial.jsonl")
    rows = read_partial(partial, fingerprint(settings))
    todo = [path for path in paths if str(path) not in rows]
    if len(todo) < len(paths):
        print(
            f"going on: {len(paths) - len(todo)} of {len(paths)} files are answered already",
            file=sys.stderr,
        )
    try:
        speed = answer_files(todo, settings, partial, rows) if todo else 0.0
    finally:
        if not rows:  # nothing to go on from, for instance without networks
            partial.unlink(missing_ok=True)
    table = [rows[str(path)] for path in paths]
    write_table(table, settings.output)
    partial.unlink(missing_ok=True)
    if files.remark():
        print(files.remark(), file=sys.stderr)
    return summarise(table, speed, settings.output)


def find_files(paths: Iterable[Path]) -> audio_io.AudioFiles:
    """All files named, and all sound files below the folders named, each once.

    Raises
    ------
    UserError : there are none
    """
    found = audio_io.expand_paths(paths)
    if not found.paths:
        raise config.UserError(
            f"no sound files in {', '.join(map(str, paths))}: "
            f"{found.remark() or 'looked for ' + ' '.join(audio_io.AUDIO_SUFFIXES)}"
        )
    return found


def fingerprint(settings: BatchSettings) -> Row:
    """What an earlier run must have in common with this one for its rows to be used."""
    models = [(path, path.stat()) for path in settings.decision.network_files()]
    return {
        "clean": settings.clean,
        "cleaning": dataclasses.asdict(settings.cleaning),
        "threshold": settings.decision.threshold,
        "models": [[str(path), facts.st_size, facts.st_mtime_ns] for path, facts in models],
    }


def read_partial(path: Path, wanted: Row) -> dict[str, Row]:
    """Rows by path that a stopped run left, if it ran with the same settings; else start over.

    The file then exists, opens with the settings, and ends with a whole line.
    """
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    rows: dict[str, Row] = {}
    with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):  # cut by a crash
        if lines and json.loads(lines[0]) == wanted:
            for line in lines[1:]:
                row = json.loads(line)
                rows[row["path"]] = row
        elif lines:
            print(
                f"{path.name} was made with other settings or networks: starting over",
                file=sys.stderr,
            )
    utils.write_text(path, "".join(json.dumps(item) + "\n" for item in [wanted, *rows.values()]))
    return rows


def answer_files(
    paths: list[Path], settings: BatchSettings, partial: Path, rows: dict[str, Row]
) -> float:
    """Answer files chunk by chunk; each chunk's rows go to `rows` and to the end of `partial`.

    Returns files per second, counted from the first chunk that was done: start-up is over by then.
    """
    from tqdm import tqdm

    arrivals: list[tuple[float, int]] = []
    with (
        working_processes(len(paths), settings) as pool,
        partial.open("a", encoding="utf-8") as journal,
        tqdm(total=len(paths), unit=" files", disable=not sys.stderr.isatty()) as bar,
    ):
        try:
            for done in answer_chunks(paths, settings, pool):
                append(journal, done)
                rows.update((row["path"], row) for row in done)
                bar.update(len(done))
                arrivals.append((time.perf_counter(), len(done)))
        except KeyboardInterrupt:
            print(
                f"\n{len(rows)} files are answered; the same command goes on from there",
                file=sys.stderr,
            )
            raise
        except BrokenProcessPool:
            raise config.UserError(
                "a working process ended unexpectedly (out of memory?); the "
                "same command goes on, --workers 1 takes less memory"
            ) from None
    seconds = arrivals[-1][0] - arrivals[0][0]
    return sum(count for _, count in arrivals[1:]) / seconds if seconds else 0.0


@contextlib.contextmanager
def working_processes(n_files: int, settings: BatchSettings) -> Iterator[Executor | None]:
    """Processes that answer files, or None where starting them does not pay."""
    workers = settings.workers or available_cores()
    if workers == 1 or n_files <= IN_PROCESS:
        yield None
        return
    # spawned on every system: a fork would copy threads and locks in an unknown state
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), ignore_interrupt)
    try:
        # they inherit that Ctrl-C is ignored: one that is still starting would print a traceback
        listening = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for _ in range(workers):
                pool.submit(warm_up, settings)
        finally:
            signal.signal(signal.SIGINT, listening)
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def ignore_interrupt() -> None:
    """Leave Ctrl-C to the main process, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def warm_up(settings: BatchSettings) -> None:
    """Load the networks, so that every process is busy with that at once."""
    load_recognizer(settings.decision, settings.cleaning if settings.clean else None)


def available_cores() -> int:
    """Cores this process may use, which containers and schedulers limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def answer_chunks(
    paths: list[Path], settings: BatchSettings, pool: Executor | None
) -> Iterator[list[Row]]:
    """Rows of `CHUNK` files at a time, in order; with a pool, some chunks are worked on ahead."""
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    if pool is None:
        yield from (answer_chunk(chunk, settings) for chunk in chunks)
        return
    waiting: deque = deque()
    ahead = 2 * (settings.workers or available_cores())  # bounded: a million files don't fit
    for chunk in chunks:
        waiting.append(pool.submit(answer_chunk, chunk, settings))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def answer_chunk(paths: list[Path], settings: BatchSettings) -> list[Row]:
    """Read a chunk of files and recognise them together; a bad one's row holds only its error."""
    recognizer = load_recognizer(settings.decision, settings.cleaning if settings.clean else None)
    audio = recognizer.predictor.audio
    rows: list[Row] = [dict.fromkeys(COLUMNS) | {"path": str(path)} for path in paths]
    read: list[tuple[Row, Recording]] = []
    for row, path in zip(rows, paths, strict=True):
        try:
            read.append((row, audio_io.read_recording(path, audio.sample_rate, audio.max_seconds)))
        except (config.UserError, OSError, MemoryError) as error:
            row["error"] = (
                str(error).removeprefix(f"{utils.printable(path)}: ") or type(error).__name__
            )
    results = recognizer.recognize_batch([recording for _, recording in read])
    for (row, _), result in zip(read, results, strict=True):
        row |= answer_columns(result)
    return rows


@functools.cache
def load_recognizer(
    decision: config.DecisionSettings, cleaning: config.CleaningSettings | None
) -> Recognizer:
    """The networks and the cleaning before them, loaded once in each process."""
    import torch

    from recognition.recognizer import Recognizer

    torch.set_num_threads(1)  # processes share the cores; threads that wait for others cost more
    return Recognizer(decision, cleaning)


def answer_columns(result: RecognitionResult) -> Row:
    """The columns that hold the answer to one recording."""
    answer = result.prediction
    row: Row = {
        "digit": answer.digit,
        "best_guess": answer.best_guess,
        "confidence": round(answer.confidence, 4),
        "accepted": answer.accepted,
    }
    for name in ("cnn", "rnn"):
        if name in answer.predictions:
            by_model = answer.predictions[name]
            row |= {
                f"{name}_digit": by_model.digit,
                f"{name}_confidence": round(by_model.confidence, 4),
            }
    if result.speech.size and result.cleaned is not None:
        measured = result.measured()
        row |= {name: measured[name] for name in ("speech_start_s", "speech_end_s", "snr_db")}
    return row


def append(journal: TextIO, rows: list[Row]) -> None:
    """Add rows to the file of a run in progress and see that they are on disk."""
    journal.writelines(json.dumps(row) + "\n" for row in rows)
    journal.flush()
    os.fsync(journal.fileno())


def write_table(rows: list[Row], path: Path) -> None:
    """Write rows as CSV, JSON lines or Parquet, atomically."""
    with utils.atomic_path(path) as temporary:
        if path.suffix.lower() == ".parquet":
            write_parquet(rows, temporary)
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            if path.suffix.lower() == ".jsonl":
                file.writelines(json.dumps(row) + "\n" for row in rows)
            else:
                table = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
                table.writeheader()
                table.writerows(rows)


def write_parquet(rows: list[Row], path: Path) -> None:
    """Write rows as Parquet; whole numbers stay whole where some are missing."""
    import pyarrow
    from pyarrow import parquet

    kinds = {
        str: pyarrow.string(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        bool: pyarrow.bool_(),
    }
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path)


def summarise(table: list[Row], speed: float, output: Path) -> int:
    """Print what came out; the exit code is 1 if no file was readable."""
    bad = [row for row in table if row["error"] is not None]
    for row in bad[:10]:
        print(f"skipped {row['path']}: {row['error']}", file=sys.stderr)
    if len(bad) > 10:
        print(f"skipped {len(bad) - 10} more; see the column error", file=sys.stderr)
    digits = sum(row["digit"] is not None for row in table)
    rate = f"; {speed:.0f} files/s after start-up" if speed else ""
    print(
        f"{output}: {len(table)} files, {digits} digits, "
        f"{len(table) - digits - len(bad)} without a digit, {len(bad)} unreadable{rate}"
    )
    return int(len(bad) == len(table))


if __name__ == "__main__":
    utils.main(run, BatchSettings, __doc__)
