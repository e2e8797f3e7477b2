"""Every answer, in an SQLite database that survives restarts and kills.

An answer is on record before it is given. Write-ahead logging lets several tabs, and several
processes, read and write at once.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import config

MIGRATIONS = (
    """
    CREATE TABLE answers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time REAL NOT NULL,
        kind TEXT NOT NULL,
        source TEXT NOT NULL,
        digit INTEGER,
        digits TEXT NOT NULL,
        best_guess INTEGER NOT NULL,
        confidence REAL NOT NULL,
        models TEXT NOT NULL,
        latency_ms REAL NOT NULL,
        duration_s REAL NOT NULL,
        remarks TEXT NOT NULL,
        feedback INTEGER
    );
    CREATE INDEX answers_time ON answers (time);
    """,
)
"""What brings the database from each schema version to the next; the version is their number."""
COLUMNS = (
    "id",
    "time",
    "kind",
    "source",
    "digit",
    "digits",
    "best_guess",
    "confidence",
    "models",
    "latency_ms",
    "duration_s",
    "remarks",
    "feedback",
)
KINDS = ("microphone", "upload", "continuous", "batch", "api")
"""Ways that recordings come in."""
BUSY_SECONDS = 30.0
"""s that a write waits for another process's."""


@dataclass(frozen=True)
class Filter:
    """Which answers."""

    kind: str = ""
    """One of :data:`KINDS`; "" is any."""
    digit: str = ""
    """A digit, "no digit", or "" for any."""
    feedback: str = ""
    """"right", "wrong", "none" or "" for any."""
    text: str = ""
    """Part of the source's name."""
    days: float = 0.0
    """Not older than so many days; 0 is any."""

    def condition(self) -> tuple[str, list[Any]]:
        """An SQL condition and its values."""
        parts = ["1"]
        values: list[Any] = []
        if self.kind:
            parts.append("kind = ?")
            values.append(self.kind)
        if self.digit == "no digit":
            parts.append("digit IS NULL")
        elif self.digit:
            parts.append("digit = ?")
            values.append(int(self.digit))
        parts.append(
            {
                "right": f"feedback = ifnull(digit, {config.REJECT})",
                "wrong": f"feedback <> ifnull(digit, {config.REJECT})",
                "none": "feedback IS NULL",
            }.get(self.feedback, "1")
        )
        if self.text:
            parts.append("instr(lower(source), lower(?))")
            values.append(self.text)
        if self.days:
            parts.append("time >= ?")
            values.append(time.time() - 86_400 * self.days)
        return " AND ".join(parts), values


class History:
    """The database; one object serves all threads.

    Raises
    ------
    UserError : the file is no such database, of a newer version, or can't be written
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
            )
            self._database.row_factory = sqlite3.Row
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._migrate()
        except (OSError, sqlite3.Error) as error:
            raise config.UserError(
                f"{path}: can't be used as the history ({error}); move it away for a new one"
            ) from None

    def _migrate(self) -> None:
        """Bring the database to the newest version; another process may be about the same."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                raise config.UserError(
                    f"{self.path}: written by a newer version of this program; update it"
                )
            for step in MIGRATIONS[version:]:
                for statement in filter(str.strip, step.split(";")):
                    self._database.execute(statement)
            self._database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        except BaseException:
            self._database.execute("ROLLBACK")
            self._database.close()
            raise
        self._database.execute("COMMIT")

    def add(self, kind: str, answer: dict[str, Any]) -> int:
        """Keep an answer, as :meth:`RecognitionResult.as_dict` gives it; returns its number."""
        values = {
            "time": time.time(),
            "kind": kind,
            "source": answer["source"],
            "digit": answer["digit"],
            "digits": "".join(
                str(item["digit"]) for item in answer["segments"] if item["digit"] is not None
            ),
            "best_guess": answer["best_guess"],
            "confidence": answer["confidence"],
            "models": json.dumps(answer["models"]),
            "latency_ms": answer["timing_ms"]["computing"],
            "duration_s": answer["duration_s"],
            "remarks": "; ".join(answer["remarks"]),
        }
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        with self._lock:
            added = self._database.execute(
                f"INSERT INTO answers ({names}) VALUES ({marks})", list(values.values())
            )
        return int(added.lastrowid or 0)

    def feed_back(self, number: int, label: int) -> None:
        """Note what was really said: a digit, or :data:`config.REJECT` for no digit."""
        self._write("UPDATE answers SET feedback = ? WHERE id = ?", [label, number])

    def delete(self, number: int) -> bool:
        """Forget one answer; False where there is none of that number."""
        return self._write("DELETE FROM answers WHERE id = ?", [number]) > 0

    def delete_all(self) -> int:
        """Forget every answer; returns how many there were."""
        return self._write("DELETE FROM answers", [])

    def _write(self, statement: str, values: Sequence[Any]) -> int:
        with self._lock:
            return self._database.execute(statement, values).rowcount

    def rows(self, chosen: Filter | None = None, limit: int = -1) -> list[dict[str, Any]]:
        """Answers, the newest first."""
        condition, values = (chosen or Filter()).condition()
        with self._lock:
            found = self._database.execute(
                f"SELECT {', '.join(COLUMNS)} FROM answers WHERE {condition} "
                "ORDER BY id DESC LIMIT ?",
                [*values, limit],
            ).fetchall()
        return [dict(row) | {"models": json.loads(row["models"])} for row in found]

    def count(self) -> int:
        """Answers on record."""
        with self._lock:
            return self._database.execute("SELECT count(*) FROM answers").fetchone()[0]

    def close(self) -> None:
        """Write everything into the one file, and let go of it."""
        with self._lock:
            self._database.close()
