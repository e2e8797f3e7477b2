"""Waiting for other processes, and so long that only what hangs is given up.

How fast anything is depends on the machine and on what else it does, so no test asserts seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

PATIENCE = 300.0 * float(os.environ.get("TEST_PATIENCE", "1"))
"""s after which something counts as hung; the variable TEST_PATIENCE multiplies it."""


def unmeasured(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables without coverage.py's, for a process that will be interrupted.

    An interrupt that finds coverage.py with its lock taken leaves it taken, and the process hangs.
    """
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}


def wait_until(happened: Callable[[], object], what: str) -> None:
    """Look again and again until something has happened; fails with `what` if it never does."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)
