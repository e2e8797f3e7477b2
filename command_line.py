"""From the command line to settings, and from a script to its exit code."""

from __future__ import annotations

import contextlib
import io
import os
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
            print(end="", flush=True)
            raise
        # A box: its title says the same as its first line.
        words = re.sub(r"(?m)^╭.*|For full helptext.*", "", complaint.getvalue())
        words = re.sub(r"[^\x20-\x7e]+|-{4,}", " ", words)
        raise config.UserError(" ".join(words.split()) + " (see --help)") from None


def main(script: Callable[[Settings], int | None], settings: type[Settings],
         description: str) -> None:
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
