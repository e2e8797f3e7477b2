"""Damaged and hostile input: a few hundred each time, thousands with ``pytest -m fuzz``."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fuzz import alterations, damage, harness, kills, trials
from fuzz.trials import KINDS, Outcome, planned
from waiting import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"damaged recordings": 240, "hostile archives": 36, "hostile checkpoints": 50}
SMALL["altered recordings"] = 2 * len(alterations.ALTERATIONS)
"""Inputs of each kind in the quick run."""
needs_groups = pytest.mark.skipif(not hasattr(os, "killpg"), reason="has no process groups")


def complaints(outcomes) -> str:
    """What was wrong, and how to see each again."""
    return "\n".join(
        f'python -m tests.fuzz --only "{item.kind}" {item.number}: {item.verdict}: {item.detail}'
        for item in harness.bad(outcomes)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_input_is_answered_or_refused_in_one_line(kind, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)  # where code in a model file would leave its mark
    outcomes = [trials.attempt(kind, 0, number) for number in range(SMALL[kind])]
    assert not complaints(outcomes), complaints(outcomes)
    assert {item.verdict for item in outcomes} == {"answered", "refused"}
    assert max(item.memory_mb for item in outcomes) < 400
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""


@pytest.mark.fuzz
def test_thousands_of_hostile_inputs():
    seed = int(os.environ.get("FUZZ_SEED", "0"))
    outcomes = harness.run(planned(5000), seed, workers=2)
    print(harness.table(outcomes))  # pytest -rP shows it
    assert len(outcomes) == 5000 and not complaints(outcomes), complaints(outcomes)


@pytest.mark.fuzz
@needs_groups
def test_twenty_kills_lose_nothing_and_leave_nobody(tmp_path):
    toll = kills.kill_batches(tmp_path, 20, int(os.environ.get("FUZZ_SEED", "0")))
    print(toll.table())
    assert sum(toll.kills.values()) == 20 and toll.rows_kept and not toll.faults(), toll


# --- the harness itself: what is wrong would be noticed -------------------------------------------


def misbehave(kind: str, seed: int, number: int) -> Outcome:
    """An attempt that crashes, ends its process, hangs, prints or is fine."""
    if kind == "ends":
        os._exit(3)
    while kind == "hangs":
        pass
    if kind == "prints":
        print("note: part2_3_length too large", file=sys.stderr, flush=True)
    return Outcome(kind, number, *trials.judged(lambda: raising(kind)))


def raising(kind: str) -> None:
    errors = {"raises": ZeroDivisionError(), "exits": SystemExit(1), "untold": trials.Untold("x")}
    errors |= {"lines": trials.config.UserError("a\nb"), "refuses": trials.config.UserError("no")}
    if kind in errors:
        raise errors[kind]


@pytest.mark.slow
def test_the_harness_notices_every_bad_end_and_goes_on():
    expected = {"fine": "answered", "refuses": "refused", "untold": "untold", "hangs": "hung"}
    expected |= dict.fromkeys(("ends", "prints", "raises", "exits", "lines"), "crashed")
    inputs = [(kind, number) for number in range(1) for kind in expected if kind != "hangs"]
    outcomes = harness.run([*inputs, ("fine", 2)], attempt=misbehave)
    outcomes += harness.run([("hangs", 0), ("fine", 3)], attempt=misbehave, patience=10)
    assert all(item.verdict == expected[item.kind] for item in outcomes), outcomes
    assert len(outcomes) == len(inputs) + 3
    assert "part2_3" in next(item.detail for item in outcomes if item.kind == "prints")
    last = harness.table(outcomes).splitlines()[-1]
    assert last == "| all | 11 | 1 | 3 | 1 | 5 | 1 | 0 MB |"


def test_the_same_seed_makes_the_same_inputs_and_another_one_others():
    def made(seed: int) -> list[bytes]:
        return [damage.damaged_file(np.random.default_rng([seed, n])) for n in range(30)]

    assert made(0) == made(0) and sum(a == b for a, b in zip(made(0), made(1), strict=True)) < 5
    assert [kind for kind, _ in planned(5000)].count("damaged recordings") == 3800


def test_one_input_again_by_its_number():
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--only", "damaged recordings", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0 and done.stdout.startswith(("answered", "refused: ")), done.stderr


def test_lost_and_changed_rows_are_counted(tmp_path):
    batch = object.__new__(kills.KilledBatch)  # as it is after the batch that nobody killed
    batch.output, batch.toll = tmp_path / "out.jsonl", kills.Toll()
    batch.expected = {name: {"path": name, "digit": 1} for name in "abc"}
    batch.output.write_text('{"path": "a", "digit": 1}\n{"path": "b", "digit": 2}\n')
    batch.finished()
    assert (batch.toll.rows_lost, batch.toll.rows_changed) == (1, 1)
    assert batch.toll.faults() == 2 and "| 1 | 1 |" in batch.toll.table()
    for name in ("orphans", "tracebacks", "failures"):
        assert kills.Toll(**{name: 1}).faults() == 1


@needs_groups
def test_a_process_that_is_left_over_is_noticed_and_killed(monkeypatch):
    monkeypatch.setattr(kills, "PATIENCE", 0.5)
    code = "import subprocess, sys; subprocess.Popen(['sleep', '1000'])"
    parent = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    parent.wait()
    assert not kills.ended(parent.pid)
    monkeypatch.setattr(kills, "PATIENCE", PATIENCE)
    assert kills.ended(parent.pid)
