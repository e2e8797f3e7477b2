"""The web app's history: what was answered stays on record, through restarts, tabs and kills."""

import concurrent.futures
import contextlib
import csv
import random
import sqlite3
import threading
import time

import httpx
import pytest
from app_server import SEVEN, running_app
from waiting import PATIENCE, wait_until

import config
from webapp import history_figures
from webapp.history import MIGRATIONS, Filter, History

KILLS = 20


def answer(digit=7, source="a.wav", confidence=0.9, computing=12.0):
    segments = [] if digit is None else [{"digit": digit}]
    return {
        "source": source,
        "digit": digit,
        "best_guess": digit or 0,
        "confidence": confidence,
        "models": {"cnn": {"digit": digit or 0, "confidence": confidence}},
        "segments": segments,
        "timing_ms": {"computing": computing},
        "duration_s": 1.0,
        "remarks": ["quiet"],
    }


@pytest.fixture
def history(tmp_path):
    opened = History(tmp_path / "history.db")
    yield opened
    opened.close()


def test_answers_survive_a_restart(tmp_path):
    path = tmp_path / "deep" / "history.db"
    first = History(path)
    number = first.add("upload", answer())
    first.feed_back(number, 7)
    first.close()
    again = History(path)
    (row,) = again.rows()
    again.close()
    assert (row["id"], row["digit"], row["feedback"], row["source"]) == (number, 7, 7, "a.wav")
    assert row["models"]["cnn"] == {"digit": 7, "confidence": 0.9}
    assert row["remarks"] == "quiet"


def test_filters(history):
    for kind, digit, source in (
        ("upload", 7, "seven.wav"),
        ("api", None, "noise.wav"),
        ("upload", 3, "Three.WAV"),
    ):
        history.add(kind, answer(digit, source))
    history.feed_back(1, 7)
    history.feed_back(2, config.REJECT)
    history.feed_back(3, 8)

    def found(**chosen):
        return sorted(row["id"] for row in history.rows(Filter(**chosen)))

    assert found() == [1, 2, 3]
    assert found(kind="upload") == [1, 3]
    assert found(digit="3") == [3]
    assert found(digit="no digit") == [2]
    assert found(feedback="right") == [1, 2]
    assert found(feedback="wrong") == [3]
    assert found(text="three") == [3]
    assert found(text="%") == []
    assert found(text="' OR 1=1 --") == []
    assert found(days=1) == [1, 2, 3]
    history._database.execute("UPDATE answers SET time = time - 200000 WHERE id = 1")
    assert found(days=1) == [2, 3]


def test_deleting_one_and_all(history):
    numbers = [history.add("api", answer()) for _ in range(3)]
    assert history.delete(numbers[1])
    assert not history.delete(numbers[1])
    assert [row["id"] for row in history.rows()] == [numbers[2], numbers[0]]
    assert history.delete_all() == 2
    assert history.add("api", answer()) > numbers[2]  # no number is given twice


def test_two_programs_write_at_once(tmp_path):
    both = [History(tmp_path / "history.db") for _ in range(2)]

    def write(number):
        return both[number % 2].add("api", answer())

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(write, range(400)))
    assert len(set(numbers)) == 400
    assert both[0].count() == both[1].count() == 400
    for one in both:
        one.close()


def test_a_newer_or_foreign_file_is_told_in_one_line(tmp_path):
    path = tmp_path / "history.db"
    History(path).close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        database.commit()
    with pytest.raises(config.UserError, match="newer version"):
        History(path)
    for left in tmp_path.glob("history.db-*"):
        left.unlink()
    path.write_text("this is no database, but a long enough text to look at" * 50)
    with pytest.raises(config.UserError, match="can't be used"):
        History(path)


def test_export_is_a_table_without_formulas(history, tmp_path):
    history.add("upload", answer(source="=cmd()"))
    history.add("upload", answer(None, source="a, b.wav"))
    path = history_figures.export(history.rows(), tmp_path / "history.csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == ["a, b.wav", "'=cmd()"]
    assert [row["digit"] for row in rows] == ["", "7"]


def test_statistics(history):
    for digit, said, confidence, computing in (
        (7, 7, 0.995, 4.0),
        (7, 1, 0.72, 15.0),
        (None, config.REJECT, 0.3, 2000.0),
        (3, None, 0.92, 15.0),
    ):
        number = history.add("api", answer(digit, confidence=confidence, computing=computing))
        if said is not None:
            history.feed_back(number, said)
    rows = history.rows()
    digits = history_figures.by_digit(rows)
    assert (digits["7"], digits["3"], digits["no digit"], digits["0"]) == (2, 1, 1, 0)
    assert sum(history_figures.by_confidence(rows).values()) == 4
    assert history_figures.by_confidence(rows)["99% to 100%"] == 1
    assert history_figures.by_latency(rows)["more"] == 1
    assert history_figures.by_latency(rows)["10 to 20 ms"] == 2
    (share,) = history_figures.accuracy_by_day(rows).values()
    assert share == pytest.approx(200 / 3)
    assert "2 of 3 judged ones were right" in history_figures.summary(rows)
    assert history_figures.by_digit([]) == {}


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_answered_request_is_missing_after_kills(tmp_path):
    """Killed at any moment while it writes, twenty times."""
    random_source, answered = random.Random(0), []
    for _ in range(KILLS):
        with running_app(tmp_path, "--requests-per-minute", "0") as app:
            ended = threading.Event()

            def ask(base=app.base, ended=ended):
                content = SEVEN.read_bytes()
                with httpx.Client(timeout=PATIENCE) as client:
                    while not ended.is_set():
                        try:
                            files = {"file": ("seven.wav", content)}
                            reply = client.post(f"{base}/v1/recognize", files=files)
                            answered.append(reply.json()["id"])
                        except (httpx.HTTPError, ValueError):
                            return

            threads = [threading.Thread(target=ask) for _ in range(4)]
            before = len(answered)
            for thread in threads:
                thread.start()
            wait_until(lambda before=before: len(answered) > before, "an answer")
            time.sleep(random_source.uniform(0, 0.5))
            app.kill()
            ended.set()
            for thread in threads:
                thread.join()
        history = History(tmp_path / "kept" / "history.db")
        (whole,) = history._database.execute("PRAGMA integrity_check").fetchone()
        on_record = {row["id"] for row in history.rows()}
        history.close()
        assert whole == "ok"
        assert set(answered) <= on_record
    assert len(answered) == len(set(answered)) >= KILLS
