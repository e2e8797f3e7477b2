"""Waiting for other processes, and so long that only what hangs is given up.

How fast anything is depends on the machine and on what else it does, so no test asserts seconds.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping

PATIENCE = 300.0 * float(os.environ.get("TEST_PATIENCE", "1"))
"""s after which something counts as hung; the variable TEST_PATIENCE multiplies it."""

SELDOM = 0.5
"""s between looks that cost much."""


def unmeasured(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables without coverage.py's, for a process that will be interrupted.

    An interrupt that finds coverage.py with its lock taken leaves it taken, and the process hangs.
    """
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Let coverage.py look away: PyTorch's exporter takes twice as long under its eyes."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


def wait_until(happened: Callable[[], object], what: str, every: float = 0.02) -> None:
    """Look again every so many s until something has happened; fails with `what` if it never does.

    A look that starts a process, or goes through all of them, is for `every` of SELDOM: what is
    waited for wants the processor too.
    """
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(every)
