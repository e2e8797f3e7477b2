"""Try damaged and hostile input, kill batches, and print what became of it as Markdown.

    python -m tests.fuzz                               5,000 inputs and 20 kills, some minutes
    python -m tests.fuzz --inputs 500 --kills 0
    python -m tests.fuzz --only "hostile checkpoints" 123      one input again, by its number

The same seed makes the same inputs. The exit code is 1 if anything crashed, hung or was lost.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).resolve().parents[parent]) for parent in (2, 1)]

from fuzz import harness, kills  # noqa: E402  (the path must be set first)
from fuzz.trials import KINDS, attempt, planned  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--inputs", type=int, default=5000, help="damaged and hostile inputs")
    parser.add_argument("--kills", type=int, default=20, help="kills of a batch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--only", nargs=2, metavar=("KIND", "NUMBER"), help=f"one input: {', '.join(KINDS)}"
    )
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    if chosen.only:
        outcome = attempt(chosen.only[0], chosen.seed, int(chosen.only[1]))
        print(f"{outcome.verdict}: {outcome.detail}")
        return int(outcome.verdict not in harness.GOOD)
    begun = time.monotonic()
    faults = 0
    if chosen.inputs:
        outcomes = harness.run(planned(chosen.inputs), chosen.seed, chosen.workers)
        for outcome in harness.bad(outcomes):
            print(
                f'{outcome.verdict}, --seed {chosen.seed} --only "{outcome.kind}" '
                f"{outcome.number}: {outcome.detail}",
                file=sys.stderr,
            )
        faults += len(harness.bad(outcomes))
        print(harness.table(outcomes), "\n", sep="")
    if chosen.kills and hasattr(os, "killpg"):
        with tempfile.TemporaryDirectory() as folder:
            toll = kills.kill_batches(Path(folder), chosen.kills, chosen.seed)
        faults += toll.faults()
        print(toll.table(), "\n", sep="")
    print(f"{time.monotonic() - begun:.0f} s, seed {chosen.seed}")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
