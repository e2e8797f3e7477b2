"""From the command line to settings, and from a script to its exit code."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from typing import TypeVar

import config

Settings = TypeVar("Settings")


def parse_arguments(settings: type[Settings], description: str,
                    arguments: list[str] | None = None) -> Settings:
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
            raise
        words = re.sub(r"[^\x20-\x7e]+", " ", complaint.getvalue())
        words = re.sub(r"-{4,}", " ", words)
        raise config.UserError(re.sub(r"\s+", " ", words).strip() + " (see --help)") from None


def main(script: Callable[[Settings], int | None], settings: type[Settings],
         description: str) -> None:
    """Run a script: read its settings, call it, and end with an exit code instead of a traceback.

    Exit codes: 0 done, 1 a :class:`config.UserError` while running, 2 a mistake in the settings,
    130 stopped by Ctrl-C.
    """
    try:
        chosen = parse_arguments(settings, description)
    except config.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        sys.exit(script(chosen) or 0)
    except config.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        sys.exit(1)
