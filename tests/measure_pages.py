"""What the pages cost in a real browser: upload to shown answer, first answer, bytes sent.

    python tests/measure_pages.py [rounds]

Prints one JSON object. The app's page gets two recordings in turns; the page without a server is
built first (npm), opened from a file server on this machine, and given the same.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from app_server import NINE, SEVEN, running_app  # noqa: E402
from browser import browser_page, upload  # noqa: E402
from test_web_page import STUDENT, build, opened, served  # noqa: E402

ANSWER_MS = """async () => {
  const content = await (await fetch(new URL("seven.wav", location))).arrayBuffer();
  window.recognizer ??= await (await import("./recognizer.js")).load();
  const { cleaning, network } = await recognizer.recognize(await recognizer.decode(content));
  return cleaning + network;
}"""


def uploads_ms(page: Any, rounds: int) -> Iterator[float]:
    """Time from choosing a file to its digit on the app's page, each round."""
    for number in range(rounds):
        path, digit = ((SEVEN, "7"), (NINE, "9"))[number % 2]
        begun = time.perf_counter()
        upload(page, path)
        page.locator("#single-answer .digit").filter(has_text=digit).wait_for()
        yield 1000 * (time.perf_counter() - begun)
        page.wait_for_timeout(1500)  # in which the figures come


def app_figures(folder: Path, rounds: int) -> dict[str, float]:
    with running_app(folder) as app, browser_page(app.base) as page:
        times = list(uploads_ms(page, rounds + 1))[1:]  # the first loads what the page shows
    return {"upload_median_ms": statistics.median(times), "upload_longest_ms": max(times)}


def web_figures(folder: Path, rounds: int) -> dict[str, float]:
    built = build("--model", STUDENT, "--to", folder)
    if built.returncode:
        sys.exit(built.stderr)
    (folder / "seven.wav").write_bytes(SEVEN.read_bytes())
    with served(folder) as server, opened(server.address) as tab:
        tab.get_by_label("Open a recording").set_input_files(SEVEN)
        tab.locator("#digit").filter(has_text="7").wait_for()
        first_answer = tab.evaluate("performance.now()")
        sent = sum(size for _, size in server.sent)
        answers = [tab.evaluate(ANSWER_MS) for _ in range(rounds + 1)][1:]
    return {
        "first_answer_after_opening_s": first_answer / 1000,
        "answer_median_ms": statistics.median(answers),
        "sent_mb": sent / 1e6,
    }


def main(rounds: int = 20) -> None:
    with tempfile.TemporaryDirectory() as app, tempfile.TemporaryDirectory() as web:
        figures = {
            "app": app_figures(Path(app), rounds),
            "web": web_figures(Path(web, "dist"), rounds),
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
