"""Serves every script: command lines from dataclasses, exit codes, whole-or-absent files."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import config

Settings = TypeVar("Settings")
RECORDED_PACKAGES = ("torch", "torchaudio", "librosa", "numpy", "scipy", "soundfile", "noisereduce")


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    The rename is atomic, so a reader, a crash or a full disk never meets half a file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically; NumPy values are converted."""

    def convert(item: Any) -> Any:
        if hasattr(item, "tolist"):
            return item.tolist()
        return str(item)

    write_text(path, json.dumps(value, indent=2, default=convert) + "\n")


def commit() -> str:
    """The commit of this checkout, with "+" for local changes; "unknown" without git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def printable(text: str) -> str:
    """One line that any terminal can show: control characters and broken bytes are escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def run_record() -> dict[str, Any]:
    """What made a result: commit, Python, platform, library versions and command line."""
    versions = {}
    for package in RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def parse_arguments(
    settings: type[Settings], description: str, arguments: list[str] | None = None
) -> Settings:
    """Make a command line from a dataclass and read it.

    Parameters
    ----------
    settings : a dataclass; each field, and each field of its groups, becomes an option
    description : the text that ``--help`` opens with
    arguments : words of the command line; ``sys.argv[1:]`` by default

    Raises
    ------
    config.UserError : unknown option, unreadable or impossible value
    """
    import tyro  # 0.2 s to import: only scripts pay

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(settings, description=description, args=arguments)
    except SystemExit as stop:
        if stop.code in (0, None):
            print(end="", flush=True)
            raise
        # A box: its title says the same as its first line.
        words = re.sub(r"(?m)^╭.*|For full helptext.*", "", complaint.getvalue())
        words = re.sub(r"[^\x20-\x7e]+|-{4,}", " ", words)
        raise config.UserError(" ".join(words.split()) + " (see --help)") from None


def main(
    script: Callable[[Settings], int | None], settings: type[Settings], description: str
) -> None:
    """Run a script: read its settings, call it, and end with an exit code instead of a traceback.

    Exit codes: 0 done, 1 a :class:`config.UserError` while running, 2 a mistake in the settings,
    130 stopped by Ctrl-C, 141 stopped because nobody reads the output any more (``| head``).
    """
    mistake = 2
    try:
        chosen = parse_arguments(settings, description)
        mistake = 1
        code = script(chosen) or 0
        print(end="", flush=True)
        sys.exit(code)
    except config.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(mistake)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # What is still in the buffer must go somewhere, or Python complains as it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        sys.exit(1)
