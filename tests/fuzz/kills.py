"""A batch that is killed at random moments, again and again: nothing lost, nobody left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from untrained import save_networks
from waiting import PATIENCE

from fuzz.damage import damaged_file, sound_file

ROOT = Path(__file__).resolve().parents[2]
FILES = 600
"""Files of a batch: more than one process answers, so that there are workers."""
DAMAGED = 40
"""How many of them are damaged."""


@dataclass
class Toll:
    """What the kills cost."""

    kills: dict[str, int] = field(default_factory=lambda: {"SIGTERM": 0, "SIGKILL": 0})
    rows_kept: int = 0
    """Rows that lay on the disk when the batch was killed."""
    rows_lost: int = 0
    """Of those, the ones that later were not there; and files without a row at the end."""
    rows_changed: int = 0
    """Rows that differ from those of a batch that nobody killed."""
    orphans: int = 0
    """Kills after which a process was left."""
    tracebacks: int = 0
    """Ends by SIGTERM that printed one."""
    failures: int = 0
    """Ends with an exit code that is neither that of the signal nor 0."""

    def faults(self) -> int:
        """0 if all is well."""
        return self.rows_lost + self.rows_changed + self.orphans + self.tracebacks + self.failures

    def table(self) -> str:
        """Markdown: one row."""
        signals = " + ".join(f"{count} {name}" for name, count in self.kills.items())
        cells = (
            *(signals, self.rows_kept, self.rows_lost, self.rows_changed),
            *(self.orphans, self.tracebacks, self.failures),
        )
        return (
            "| Kills of a batch | Rows on disk when killed | Rows lost | Rows changed "
            "| Orphans | Tracebacks | Going on failed |\n|---|---|---|---|---|---|---|\n"
            f"| {' | '.join(map(str, cells))} |"
        )


class KilledBatch:
    """A folder of sound and damaged files, and the batch over it."""

    def __init__(self, folder: Path, seed: int, files: int = FILES) -> None:
        self.folder, self.random, self.toll = folder, random.Random(seed), Toll()
        self.files = make_files(folder / "files", files, seed)
        self.networks = save_networks(folder / "networks")
        self.output = folder / "out.jsonl"
        self.partial = folder / "out.jsonl.partial.jsonl"
        begun = time.monotonic()
        self.start().communicate(timeout=PATIENCE)
        self.seconds = time.monotonic() - begun
        self.expected = self.table()

    def start(self) -> subprocess.Popen:
        """The batch, in a process group of its own."""
        command = [sys.executable, "batch_inference.py", self.files, "--output", self.output]
        command += ["--decision.models-dir", self.networks, "--workers", "2"]
        return subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def table(self) -> dict[str, dict]:
        """The finished table's rows by path, which is then removed."""
        rows = [json.loads(line) for line in self.output.read_text().splitlines()]
        self.output.unlink()
        return {row["path"]: row for row in rows}

    def journal(self) -> set[str]:
        """Paths that have a whole row on the disk."""
        try:
            lines = self.partial.read_text().split("\n")[1:-1]
        except FileNotFoundError:
            return set()
        return {json.loads(line)[1]["path"] for line in lines}

    def kill_and_resume(self, kills: int) -> Toll:
        """Kill so many times, at any moment of a batch's life; whenever it is done, begin anew."""
        kept: set[str] = set()
        while sum(self.toll.kills.values()) < kills:
            name = self.random.choice(list(self.toll.kills))
            if self.killed(name):
                self.toll.kills[name] += 1
                self.toll.rows_lost += len(kept - self.journal())
                kept = self.journal()
                self.toll.rows_kept += len(kept)
            else:
                self.finished()
                kept = set()
        process = self.start()
        process.communicate(timeout=PATIENCE)
        self.toll.failures += process.returncode != 0
        self.finished()
        return self.toll

    def wait(self, process: subprocess.Popen) -> None:
        """Wait for the moment of a kill: any, or one after which rows have come to the disk."""
        moment = self.random.uniform(0, self.seconds)
        if self.random.random() < 0.7:
            wanted = len(self.journal()) + self.random.randrange(1, 200)
            while process.poll() is None and len(self.journal()) < wanted:
                time.sleep(0.02)
            moment = self.random.uniform(0, 0.1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=moment)

    def killed(self, name: str) -> bool:
        """Start, wait, kill; whether it still had work to do then."""
        process = self.start()
        self.wait(process)
        process.send_signal(getattr(signal, name))
        complaint = process.communicate(timeout=PATIENCE)[1]
        self.toll.orphans += not ended(process.pid)
        if process.returncode == 0 or self.output.exists():  # its table was whole already
            return False
        # before Python is set up, nobody can answer SIGTERM in another way than the system's
        expected = (143, -signal.SIGTERM) if name == "SIGTERM" else (-signal.SIGKILL,)
        if process.returncode not in expected:
            self.toll.failures += 1
            print(complaint, file=sys.stderr)
        elif name == "SIGTERM" and "Traceback" in complaint:
            self.toll.tracebacks += 1
            print(complaint, file=sys.stderr)
        return True

    def finished(self) -> None:
        """Compare a finished table with that of the batch that nobody killed."""
        rows = self.table()
        self.toll.rows_lost += len(self.expected.keys() - rows.keys())
        self.toll.rows_changed += sum(row != self.expected.get(path) for path, row in rows.items())


def make_files(folder: Path, count: int, seed: int) -> Path:
    """A folder of short sound files, some of them damaged."""
    folder.mkdir(parents=True)
    sound = sound_file("WAV mu-law, 8 kHz")
    for number in range(count):
        hurt = number < DAMAGED
        generator = np.random.default_rng([seed, number])
        (folder / f"{number}.wav").write_bytes(damaged_file(generator) if hurt else sound)
    return folder


def ended(group: int) -> bool:
    """Whether a process group ends within the time that is given; else it is killed."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    os.killpg(group, signal.SIGKILL)
    return False


def kill_batches(folder: Path, kills: int, seed: int = 0, files: int = FILES) -> Toll:
    """Kill a batch so many times and count what that costs (not on Windows)."""
    return KilledBatch(folder, seed, files).kill_and_resume(kills)
