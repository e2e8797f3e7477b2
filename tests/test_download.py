"""The download against a real HTTP server that misbehaves in every way servers do."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import zip_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from misbehaving_server import CONTENT, HALF, Server
from waiting import PATIENCE

import config
import dataset_loader
import utils
from corpora import download, fsdd
from corpora.download import DownloadError, Expected, fetch

ROOT = Path(__file__).parent.parent


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "fsdd.zip"


def partial_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def test_a_whole_file_arrives_under_its_name_with_a_bar_in_bytes(server, target, capsys):
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == ["fsdd.zip"]
    assert re.search(r"512k/512k .*B/s", capsys.readouterr().err)


@pytest.mark.parametrize("word", ["cut", "stall"])
def test_a_broken_or_stalled_connection_is_resumed_where_it_broke(server, target, word):
    server.plan = [word, "range"]
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    first, second = server.requests
    assert first is None
    start = int(re.fullmatch(r"bytes=(\d+)-", second)[1])
    assert HALF - download.CHUNK_BYTES < start <= HALF


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(CONTENT) - 1))
def test_a_connection_may_break_at_any_byte(server, tmp_path, cut_at):
    target = tmp_path / f"{cut_at}.zip"
    target.unlink(missing_ok=True)
    server.requests.clear()
    server.plan, server.cut_at = ["cut", "rest"], cut_at
    assert fetch(server.url, target).read_bytes() == CONTENT
    arrived = int(server.requests[1][6:-1]) if server.requests[1] else 0
    assert cut_at - download.CHUNK_BYTES < arrived <= cut_at


WHOLE = Expected(size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
FAULTS = ["cut", "unannounced", "short", "rubbish", "wrongrange", "complete", "503", "429", "404"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from([*FAULTS, "rest"]), min_size=1, max_size=4),
    st.integers(0, len(CONTENT)),
    st.none() | st.tuples(st.booleans(), st.integers(0, len(CONTENT) + 10)),
)
def test_whatever_a_server_does_nothing_but_the_whole_file_gets_the_name(
    server, tmp_path, monkeypatch, plan, cut_at, left
):
    """Any series of faults, on top of what an earlier run left: right beginning or wrong."""
    monkeypatch.setattr(download, "BACK_OFF_SECONDS", 0.0)
    target = tmp_path / "file.bin"
    for path in (target, partial_of(target)):
        path.unlink(missing_ok=True)
    if left is not None:
        right, length = left
        partial_of(target).write_bytes((CONTENT + b"x" * 10)[:length] if right else b"x" * length)
    server.plan, server.cut_at = [*plan, "500"], cut_at
    with contextlib.suppress(DownloadError):
        fetch(server.url, target, WHOLE)
    assert not target.exists() or target.read_bytes() == CONTENT
    server.plan = ["rest"]
    assert fetch(server.url, target, WHOLE).read_bytes() == CONTENT
    assert not partial_of(target).exists()


@pytest.mark.parametrize("status", ["401", "403", "404", "410", "451"])
def test_a_refusal_is_final_and_told_with_the_address(server, target, status):
    server.plan = [status]
    with pytest.raises(DownloadError, match=rf"{re.escape(server.url)}: HTTP status {status}"):
        fetch(server.url, target)
    assert len(server.requests) == 1 and not target.exists()


def test_a_server_that_asks_for_a_pause_gets_it(server, target, monkeypatch):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.plan, server.retry_after = ["429", "503", "whole"], "7"
    assert fetch(server.url, target).read_bytes() == CONTENT
    assert pauses == [7.0, 7.0]


def test_a_server_that_asks_for_an_hour_is_not_waited_for(server, target, monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: pytest.fail("waited"))
    server.plan, server.retry_after = ["429"], "3600"
    with pytest.raises(DownloadError, match="HTTP status 429.*asks to wait 3600 s"):
        fetch(server.url, target)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120), (" 5 ", 5), (None, 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert download.retry_after(header) == seconds
    later = email.utils.formatdate(time.time() + 1000, usegmt=True)
    assert 900 < download.retry_after(later) <= 1000


def test_a_redirect_is_followed_and_resumed_behind(server, target):
    server.plan = ["redirect", "cut", "redirect", "range"]
    assert fetch(server.url, target).read_bytes() == CONTENT
    assert server.requests[:2] == [None, None] and server.requests[2] == server.requests[3]


@pytest.mark.parametrize("word", ["loop", "elsewhere"])
def test_a_redirect_that_leads_nowhere_is_told(server, target, word):
    server.plan = [word]
    with pytest.raises(DownloadError, match=re.escape(server.url)):
        fetch(server.url, target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("word", "expected", "message"),
    [
        ("short", WHOLE, f"ended after {len(CONTENT) - 1000} of {len(CONTENT)} bytes"),
        ("unannounced", WHOLE, f"ended after {HALF} of {len(CONTENT)} bytes"),
        ("whole", Expected(size=1000), "has 512000 bytes, not the 1000 that were published"),
        ("whole", Expected(sha256="0" * 64), "has other content than was published"),
        ("whole", Expected(max_bytes=1000), "more than 0 MB"),
    ],
)
def test_a_wrong_length_or_content_never_gets_the_name(server, target, word, expected, message):
    server.plan = [word]
    with pytest.raises(DownloadError, match=message):
        fetch(server.url, target, expected)
    assert not target.exists()


def test_a_wrong_beginning_of_an_earlier_run_costs_one_more_attempt(server, target):
    target.parent.mkdir()
    partial_of(target).write_bytes(b"x" * 1000)
    server.plan = ["range", "whole"]
    assert fetch(server.url, target, WHOLE).read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-", None]


def test_a_disk_without_room_is_told_before_anything_is_written(server, target, monkeypatch):
    usage = shutil.disk_usage(target.parent.parent)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(download.DiskError, match="has room for 0; free 2 MB, or choose another"):
        fetch(server.url, target)
    assert list(target.parent.iterdir()) == [] and len(server.requests) == 1


def test_a_server_without_ranges_sends_it_all_again(server, target):
    server.plan = ["cut", "whole"]
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT


def test_what_an_earlier_run_left_is_resumed(server, target):
    target.parent.mkdir()
    partial_of(target).write_bytes(CONTENT[:1000])
    server.plan = ["range"]
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT and server.requests == ["bytes=1000-"]


def test_a_partial_file_that_is_complete_is_taken(server, target):
    target.parent.mkdir()
    partial_of(target).write_bytes(CONTENT)
    server.plan = ["complete"]
    assert fetch(server.url, target).read_bytes() == CONTENT


@pytest.mark.parametrize("word", ["wrongrange", "complete"])
def test_a_partial_file_that_does_not_fit_is_dropped(server, target, word):
    target.parent.mkdir()
    partial_of(target).write_bytes(b"x" * 1000)
    server.plan = [word, "whole"]
    assert fetch(server.url, target).read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-", None]


def test_503_is_tried_again(server, target, capsys):
    server.plan = ["503", "503", "whole"]
    assert fetch(server.url, target).read_bytes() == CONTENT
    assert "503" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["503", "mute", "stall", "cut"])
def test_three_failures_are_enough(server, target, word):
    server.plan = [word]
    with pytest.raises(DownloadError, match="failed 3 times, last: ") as caught:
        fetch(server.url, target)
    assert len(server.requests) == 3 and not target.exists()
    assert "\n" not in str(caught.value)


def test_the_back_off_doubles(server, target, capsys):
    server.plan = ["503"]
    with pytest.raises(DownloadError):
        fetch(server.url, target)
    assert re.findall(r"in ([\d.]+) s", capsys.readouterr().err) == ["0.02", "0.04"]


def test_nobody_listening_is_told(server, target):
    with pytest.raises(DownloadError, match="the connection broke .refused"):
        fetch("http://127.0.0.1:1/fsdd.zip", target)


@pytest.mark.parametrize("url", ["fsdd.zip", "ftp://127.0.0.1/fsdd.zip", "http://"])
def test_an_impossible_address_is_told_at_once(target, url):
    with pytest.raises(DownloadError, match=re.escape(url)):
        fetch(url, target)


def test_too_large_a_file_is_refused(server, target, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 100_000)
    with pytest.raises(DownloadError, match="more than"):
        fetch(server.url, target)
    assert not target.exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_is_told_and_leaves_no_file(server, target):
    target.parent.mkdir()
    partial_of(target).symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="No space left on device; free 50 MB, or choose"):
        fetch(server.url, target)
    assert not target.exists() and len(server.requests) == 1


def test_a_data_folder_that_can_not_be_made_is_told(server, tmp_path):
    (tmp_path / "data").write_text("a file, not a folder")
    with pytest.raises(DownloadError, match="can't write .*--data.root"):
        fetch(server.url, tmp_path / "data" / "fsdd.zip")


def seen(folder: Path) -> list[str]:
    """What lies in a folder, locks left out."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def data_settings(server: Server, root: Path) -> config.DataSettings:
    return config.DataSettings(root=root, fsdd_archive=None, fsdd_url=server.url)


def test_fetched_verified_unpacked_and_not_fetched_again(server, small_release, tmp_path):
    server.content = zip_bytes(small_release)
    server.plan = ["cut", "range"]
    data = data_settings(server, tmp_path / "data")
    first = dataset_loader.load_fsdd(data, config.AudioSettings())
    second = dataset_loader.load_fsdd(data, config.AudioSettings())
    assert len(first) == len(small_release) - 1 and len(server.requests) == 2
    assert (first.samples == second.samples).all() and (first.names == second.names).all()
    unpacked = data.root / fsdd.FSDD_FOLDER
    assert fsdd.read_verified(unpacked).keys() == set(fsdd.NAMES)
    assert seen(data.root) == ["cache", unpacked.name]


FIRST_RUN = """
import sys
from pathlib import Path
import config
from corpora import fsdd
data, table, url, digest = sys.argv[1:]
fsdd.DIGEST_TABLE, fsdd.CONTENT_SHA256 = Path(table), digest
fsdd.NAMES = tuple(sorted(fsdd.digest_table(Path(table))))
settings = config.DataSettings(root=Path(data), fsdd_archive=None, fsdd_url=url)
print(len(fsdd.load_fsdd(settings, config.AudioSettings())))
"""


@pytest.mark.parametrize("given", ["address", "archive"])
def test_three_first_runs_at_once_share_one_download(server, small_release, tmp_path, given):
    data = tmp_path / "data"
    if given == "archive":
        data.mkdir()
        (data / "fsdd-1.0.10.zip").write_bytes(zip_bytes(small_release))
    server.content, server.plan = zip_bytes(small_release), ["whole"]
    words = [str(data), str(fsdd.DIGEST_TABLE), server.url, fsdd.CONTENT_SHA256]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_RUN, *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [run.communicate(timeout=PATIENCE) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], outputs
    assert [output for output, _ in outputs] == ["200\n"] * 3
    assert len(server.requests) == (given == "address")
    assert seen(data) == ["cache", fsdd.FSDD_FOLDER] and seen(data / "cache") == ["fsdd-16000.npz"]


def test_an_altered_download_is_named_and_fetched_again_next_time(server, small_release, tmp_path):
    altered = {name: content for name, content in small_release.items() if "3_ada_4" not in name}
    server.content = zip_bytes(altered)
    data = data_settings(server, tmp_path / "data")
    with pytest.raises(config.UserError, match=r"1 missing \(3_ada_4\)"):
        dataset_loader.load_fsdd(data, config.AudioSettings())
    assert seen(data.root) == []
    server.content = zip_bytes(small_release)
    assert len(dataset_loader.load_fsdd(data, config.AudioSettings())) == len(small_release) - 1


def test_an_error_page_instead_of_the_archive_is_told(server, tmp_path):
    server.content = b"<html>please log in</html>"
    with pytest.raises(config.UserError, match="neither a folder nor a zip"):
        fsdd.find_fsdd(data_settings(server, tmp_path / "data"))
    assert seen(tmp_path / "data") == []


def test_no_network_and_no_archive_says_the_three_ways(server, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("FSDD_ARCHIVE", raising=False)
    monkeypatch.setattr(
        "sys.argv",
        [
            "dataset_loader.py",
            "--data.root",
            str(tmp_path / "data"),
            "--data.fsdd-url",
            "http://127.0.0.1:1/v1.0.10.zip",
        ],
    )
    with pytest.raises(SystemExit) as stop:
        utils.main(dataset_loader.run, dataset_loader.LoaderSettings, "test")
    assert stop.value.code == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    for way in ("connect to the internet", "FSDD_ARCHIVE", "--data.fsdd-archive", "unpack it"):
        assert way in last
