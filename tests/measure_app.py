"""What the web app costs: requests a second beside the bare recogniser's, and its times.

    python tests/measure_app.py CLIPS [requests] [clients]

CLIPS is a folder of sound files. Everything is measured in one run: the bare recogniser before and
after the app. Every answer is compared with batch_inference.py's. Prints one JSON object.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import csv
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from app_server import running_app  # noqa: E402
from waiting import PATIENCE  # noqa: E402

from recognition.recognizer import Recognizer  # noqa: E402

COMPARED = ("digit", "best_guess", "confidence", "accepted")
"""What the app's answers and batch_inference.py's have in common."""


def bare(files: list[Path], count: int) -> np.ndarray:
    """Recordings a second, and a second of processor time, of the recogniser alone, with reading.

    One after another, as a program would that does nothing else.
    """
    recognizer = Recognizer()
    recognizer.warm_up()
    begun, worked = time.perf_counter(), time.process_time()
    for number in range(count):
        recognizer.recognize_file(files[number % len(files)])
    seconds = time.perf_counter() - begun, time.process_time() - worked
    return count / np.array(seconds)


def cpu_seconds(process: int) -> float:
    """Processor time that a process has taken; 0 where the system does not tell it so."""
    told = Path(f"/proc/{process}/stat")
    if not told.is_file():
        return 0.0
    fields = told.read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def expected(files: list[Path], folder: Path) -> dict[str, dict[str, str]]:
    """Rows of batch_inference.py by file."""
    table = folder / "answers.csv"
    command = [sys.executable, str(ROOT / "batch_inference.py"), *map(str, files)]
    subprocess.run([*command, "--output", str(table)], check=True, capture_output=True)
    with table.open(newline="", encoding="utf-8") as rows:
        return {row["path"]: row for row in csv.DictReader(rows)}


def asked(base: str, files: list[Path], requests: int, clients: int) -> tuple[float, list, list]:
    """Requests a second, their times (ms), and (file, reply) of each.

    The clients share the cores with the app: so they do little themselves.
    """
    forms = [httpx.Request("POST", base, files={"file": path.open("rb")}) for path in files]
    bodies = [(form.read(), {"Content-Type": form.headers["content-type"]}) for form in forms]

    def ask(client_number: int) -> list[tuple[Path, dict, float]]:
        replies = []
        address = base.removeprefix("http://")
        with contextlib.closing(http.client.HTTPConnection(address, timeout=PATIENCE)) as client:
            for number in range(client_number, requests, clients):
                begun = time.perf_counter()
                client.request("POST", "/v1/recognize", *bodies[number % len(files)])
                reply = client.getresponse()
                content = reply.read()
                elapsed = 1000 * (time.perf_counter() - begun)
                assert reply.status == 200, content
                replies.append((files[number % len(files)], json.loads(content), elapsed))
        return replies

    begun = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        replies = [item for part in pool.map(ask, range(clients)) for item in part]
    speed = requests / (time.perf_counter() - begun)
    return speed, [item[2] for item in replies], [item[:2] for item in replies]


def as_cell(value: object) -> str:
    """A value as a table holds it."""
    return "" if value is None else str(value)


def measure(files: list[Path], requests: int, clients: int) -> dict[str, float]:
    """All figures."""
    with tempfile.TemporaryDirectory() as name:
        folder, few = Path(name), max(50, requests // 5)
        rows = expected(files, folder)
        begun = time.perf_counter()
        with running_app(folder, "--requests-per-minute", "0") as app:
            httpx.get(app.base, timeout=PATIENCE).raise_for_status()
            ready = time.perf_counter() - begun
            httpx.get(f"{app.base}/healthz", timeout=PATIENCE)
            asked(app.base, files, few, clients)
            before, alone = app.memory_mb(), bare(files, few)
            worked = cpu_seconds(app.process.pid)
            speed, times, replies = asked(app.base, files, requests, clients)
            worked = cpu_seconds(app.process.pid) - worked
            after = app.memory_mb()
        alone = (alone + bare(files, few)) / 2
    wrong = sum(
        as_cell(reply[name]) != rows[str(path)][name]
        for path, reply in replies
        for name in COMPARED
    )
    p50, p95, p99 = np.percentile(times, (50, 95, 99))
    return {
        "requests": len(replies),
        "clients": clients,
        "answers_that_differ": wrong,
        "p50_ms": round(p50, 1),
        "p95_ms": round(p95, 1),
        "p99_ms": round(p99, 1),
        "requests_per_s": round(speed, 1),
        "bare_per_s": round(alone[0], 1),
        "share": round(speed / alone[0], 3),
        "share_by_processor_time": round(requests / worked / alone[1], 3) if worked else 0.0,
        "page_ready_s": round(ready, 2),
        "memory_before_mb": round(before),
        "memory_after_mb": round(after),
    }


if __name__ == "__main__":
    found = sorted(Path(sys.argv[1]).rglob("*.wav"))
    clips = found[:: max(1, len(found) // 200)]
    numbers = [int(word) for word in sys.argv[2:]]
    print(json.dumps(measure(clips, *(numbers + [1000, 16][len(numbers) :])), indent=2))
