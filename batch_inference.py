"""Recognise any number of files: one row for each, in a table.

    python batch_inference.py recordings/ --output answers.csv
    python batch_inference.py a.wav b.flac more/ --output answers.parquet --cleaning.gate on
    python batch_inference.py numbers/ --output strings.csv --strings      whole strings of digits
    python batch_inference.py clips/ --output answers.jsonl --no-clean     trimmed clips: quicker

Folders are searched to the bottom. The table has the columns path, digit (empty: "no digit"),
best_guess, confidence, accepted, cnn_digit, cnn_confidence, rnn_digit, rnn_confidence,
speech_start_s, speech_end_s, snr_db, error, n_digits and remarks. A bad file gets a row with
nothing but its error. A name that begins with =, +, - or @ is written as ./name, and one that a
table can't hold as a file: address; both name the same file. Stopped half way, the same command
goes on where it was; files that have changed since are answered anew. Networks for other words
than digits (--decision.models-dir) add a column label, and digit is the label's number.

With --strings the columns are path, digits, confidence, starts, ends, error and remarks.

    python batch_inference.py s3://calls/2026/ --output s3://answers/2026/ --engine ray
    python batch_inference.py --manifest calls.csv --output answers/ --engine ray --ray-address auto

For millions of recordings: Ray (pip install -r requirements-ray.txt) spreads the work over the
cores of this machine or of a cluster and writes a folder of Parquet parts. The same command goes on
where it was stopped and answers what is new. docs/bulk.md says more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

import audio_io
import config
import utils
from audio import decoding
from recognition.answer_journal import AnswerJournal
from recognition.answer_table import (
    COLUMNS,
    FORMATS,
    STRING_COLUMNS,
    CsvDialect,
    Row,
    Tally,
    write_table,
)
from recognition.file_lists import find_files, manifest_paths, stamp
from recognition.file_workers import FileWorkers, Source
from recognition.object_stores import address_of

CHUNK = 64
"""Files read, answered and put on disk together: more fall out of the processor's cache."""
ONE_PROCESS = 256
"""Up to so many files are answered by one process: starting others would take longer."""


@dataclass(frozen=True)
class BatchSettings:
    """What to recognise and where to write it."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Sound files and folders with sound files; with --engine ray also addresses like s3://."""
    output: Path
    """The table: a name that ends in .csv, .jsonl or .parquet; of --engine ray a folder."""
    manifest: Path | None = None
    """A CSV or Parquet file whose column "path" names recordings."""
    engine: Literal["local", "ray"] = "local"
    """local: processes of this machine; ray: Ray, here or on a cluster, writes Parquet parts."""
    ray_address: str = ""
    """A running Ray cluster: host:port, or auto for this machine's; by default one is started."""
    clean: bool = True
    """High-pass, trim to the speech and so on; --no-clean for clips that are trimmed already."""
    strings: bool = False
    """Hear whole strings of digits; in one process, unless --engine ray."""
    workers: int = 0
    """Processes that read, clean and answer; 0 is one for each core (ray: of the cluster)."""
    file_seconds: float = 60.0
    """s. A file that takes longer is given up, and its row says so."""
    csv_dialect: CsvDialect = "plain"
    """plain: UTF-8, commas; excel: marked as UTF-8 for Excel; excel-semicolon: for Excel where
    lists have semicolons and numbers decimal commas."""
    cleaning: config.CleaningSettings = field(default_factory=config.CleaningSettings)
    """How recordings are cleaned."""
    decision: config.DecisionSettings = field(default_factory=config.DecisionSettings)
    """Which networks answer, and when they say "no digit"."""
    string: Annotated[config.StringsSettings, tyro.conf.arg(name="strings")] = field(
        default_factory=config.StringsSettings
    )
    """What is asked of a string of digits (--strings)."""

    def __post_init__(self) -> None:
        if not self.paths and self.manifest is None:
            raise config.UserError("no files: name sound files or folders")
        self._check_engine()
        if self.workers < 0:
            raise config.UserError(f"workers is {self.workers}: use 0 or more")
        if not 0.1 <= self.file_seconds <= 86_400:
            raise config.UserError(f"file-seconds is {self.file_seconds:g}: use 0.1 to 86400")

    def _check_engine(self) -> None:
        suffix = self.output.suffix.lower()
        if self.engine == "ray":
            if suffix in (".csv", ".jsonl"):
                raise config.UserError(f"{self.output}: --engine ray writes a folder of Parquet")
            if Path("-") in self.paths:
                raise config.UserError("standard input: --engine ray can't read it")
            return
        if self.ray_address:
            raise config.UserError("--ray-address needs --engine ray")
        for path in (*self.paths, self.output):
            if address := address_of(path):
                raise config.UserError(f"{address}: object stores need --engine ray")
        if suffix not in FORMATS:
            raise config.UserError(
                f"{self.output}: the table's name must end in .csv, .jsonl or .parquet"
            )


def run(settings: BatchSettings) -> int:
    """Answer all files that have no answer yet, then write the table.

    Returns 1 if no file was readable, or a folder was not.
    """
    if settings.engine == "ray":
        return answer_on_ray(settings)
    files = named_files(settings)
    paths = files.paths
    if settings.strings:
        return answer_strings(files, settings)
    partial = settings.output.with_name(settings.output.name + ".partial.jsonl")
    tally, speed = Tally(), 0.0
    with AnswerJournal(partial, fingerprint(settings), stamps_of(paths)) as journal:
        todo = [path for path in paths if str(path) not in journal]
        if len(todo) < len(paths):
            print(
                f"going on: {len(paths) - len(todo)} of {len(paths)} files are answered already",
                file=sys.stderr,
            )
        if todo:
            speed = answer_files(todo, settings, journal)
        try:
            rows = tally.counted(journal.rows(map(str, paths)))
            write_table(rows, settings.output, settings.csv_dialect, journal.columns)
        except OSError as error:
            raise config.UserError(
                f"{settings.output}: {error.strerror or error}; the answers are kept in "
                f"{partial.name}, and the same command writes the table from them"
            ) from None
    partial.unlink(missing_ok=True)
    if files.remark():
        print(files.remark(), file=sys.stderr)
    rate = f"{speed:.0f} files/s after start-up" if speed else ""
    code = summarise(tally, rate, str(settings.output), settings.strings)
    return code or int(bool(files.unreadable))


def answer_strings(files: audio_io.AudioFiles, settings: BatchSettings) -> int:
    """Hear the string in each file and write the table; returns 1 if no file was readable."""
    from tqdm import tqdm

    from recognition import file_workers
    from recognition.paused_strings import string_recognizer
    from recognition.runtime import use_one_core

    recognizer, table = string_recognizer(settings.decision, settings.string), []
    use_one_core()
    for path in tqdm(files.paths, unit=" files", disable=not sys.stderr.isatty()):
        table += file_workers.answer_strings([(str(path), path)], recognizer)
    write_table(table, settings.output, settings.csv_dialect, STRING_COLUMNS)
    if files.remark():
        print(files.remark(), file=sys.stderr)
    code = summarise(Tally().add(table), "", str(settings.output), True)
    return code or int(bool(files.unreadable))


def answer_on_ray(settings: BatchSettings) -> int:
    """Answer on Ray what has no answer yet; returns 1 if no file was readable."""
    from recognition import ray_batch
    from recognition.answer_parts import AnswerFolder
    from recognition.file_lists import list_items

    columns: Mapping[str, type] = STRING_COLUMNS if settings.strings else COLUMNS
    folder = AnswerFolder(settings.output, columns, fingerprint(settings))
    job = ray_batch.Job(
        folder,
        dataclasses.replace(
            settings.decision,
            models_dir=config.program_path(settings.decision.models_dir).absolute(),
        ),
        settings.cleaning if settings.clean else None,
        settings.string if settings.strings else None,
        settings.file_seconds,
    )
    items = list_items(settings.paths, settings.manifest)
    tally, speed = ray_batch.answer(items, job, settings.ray_address, settings.workers)
    return summarise(tally, speed, folder.name, settings.strings)


def named_files(settings: BatchSettings) -> audio_io.AudioFiles:
    """The files that the command line and the manifest name.

    Raises
    ------
    UserError : there are none, or the manifest is none, or names what lies in an object store
    """
    listed = list(map(Path, manifest_paths(settings.manifest))) if settings.manifest else []
    for path in listed:
        if address := address_of(path):
            raise config.UserError(f"{address}: object stores need --engine ray")
    if listed and not settings.paths:
        return audio_io.AudioFiles(list(dict.fromkeys(listed)), [], [])
    found = find_files(settings.paths)
    return dataclasses.replace(found, paths=list(dict.fromkeys([*found.paths, *listed])))


def stamps_of(paths: Iterable[Path]) -> dict[str, list[int] | None]:
    """Each file's stamp, by its name."""
    return {str(path): stamp(path) for path in paths}


def fingerprint(settings: BatchSettings) -> Row:
    """What an earlier run must have in common with this one for its rows to be used."""
    models = [(path, path.stat()) for path in settings.decision.model_files()]
    asked = {"strings": dataclasses.asdict(settings.string)} if settings.strings else {}
    return asked | {
        "columns": list(STRING_COLUMNS if settings.strings else COLUMNS),
        "clean": settings.clean,
        "cleaning": dataclasses.asdict(settings.cleaning),
        "threshold": settings.decision.threshold,
        "runtime": settings.decision.runtime,
        "oh": settings.decision.oh,
        "models": [[str(path), facts.st_size, facts.st_mtime_ns] for path, facts in models],
    }


def answer_files(paths: list[Path], settings: BatchSettings, journal: AnswerJournal) -> float:
    """Answer files chunk by chunk; each chunk's rows go to the journal.

    Returns files per second, counted from the first chunk that was done: start-up is over by then.
    """
    from tqdm import tqdm

    arrivals: list[tuple[float, int]] = []
    sources = [source_of(path) for path in paths]
    chunks = [sources[i : i + CHUNK] for i in range(0, len(sources), CHUNK)]
    count = 1 if len(paths) <= ONE_PROCESS else settings.workers or utils.available_cores()
    count = min(count, len(chunks))
    cleaning = settings.cleaning if settings.clean else None
    try:
        with (
            FileWorkers(count, settings.decision, cleaning, settings.file_seconds) as workers,
            tqdm(total=len(paths), unit=" files", disable=not sys.stderr.isatty()) as bar,
        ):
            for done in workers.answer(chunks):
                journal.add(done)
                bar.update(len(done))
                arrivals.append((time.perf_counter(), len(done)))
    except (KeyboardInterrupt, SystemExit):
        print(
            f"\n{len(journal)} files are answered; the same command goes on from there",
            file=sys.stderr,
        )
        raise
    seconds = arrivals[-1][0] - arrivals[0][0]
    return sum(count for _, count in arrivals[1:]) / seconds if seconds else 0.0


def source_of(path: Path) -> Source:
    """A file's name and place; of standard input and pipes, which only this process has, the bytes.

    Of more than ``audio.decoding.MAX_STREAM_BYTES`` the rest is left unread.
    """
    if str(path) == "-":
        return "-", sys.stdin.buffer.read(decoding.MAX_STREAM_BYTES)
    with contextlib.suppress(OSError, ValueError):
        if path.parts[:2] == (os.sep, "dev") or stat.S_ISFIFO(path.stat().st_mode):
            with path.open("rb") as file:
                return str(path), file.read(decoding.MAX_STREAM_BYTES)
    return str(path), path


def summarise(tally: Tally, speed: str, output: str, strings: bool) -> int:
    """Print what came out; the exit code is 1 if no file was readable."""
    for row in tally.bad:
        print(f"skipped {utils.printable(row['path'])}: {row['error']}", file=sys.stderr)
    if tally.unreadable > len(tally.bad):
        more = tally.unreadable - len(tally.bad)
        print(f"skipped {more} more; see the column error", file=sys.stderr)
    empty = tally.files - tally.found - tally.unreadable
    found = f"{tally.found} {'with digits' if strings else 'digits'}"
    print(
        f"{output}: {tally.files} files, {found}, {empty} without a digit, "
        f"{tally.unreadable} unreadable{'; ' if speed else ''}{speed}"
    )
    return int(tally.unreadable == tally.files)


if __name__ == "__main__":
    utils.main(run, BatchSettings, __doc__)
