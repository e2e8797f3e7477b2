"""FSDD from its copies on the Hugging Face hub: the same verified samples, whatever goes wrong."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import WRAPPER, beep, data_path, wav_bytes, zip_bytes
from misbehaving_server import Server
from pyarrow import parquet

import config
from corpora import archives, download, fsdd, huggingface
from corpora.archives import DataError
from corpora.fsdd import read_verified

MTEB, MATTHIJS = (mirror.name for mirror in fsdd.MIRRORS)


def parquet_bytes(
    sounds: list[bytes], labels: list[int], paths: list[str | None] | None = None
) -> bytes:
    """A table as the hub holds audio: a structure of bytes and path, and a class label."""
    audio = [
        {"bytes": sound, "path": path}
        for sound, path in zip(sounds, paths or [None] * len(sounds), strict=True)
    ]
    structure = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"audio": pa.array(audio, structure), "label": pa.array(labels, pa.int64())})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, row_group_size=100)
    return buffer.getvalue()


def as_published(members: dict[str, bytes]) -> dict[str, dict[str, bytes]]:
    """The two copies: shuffled and split with paths that say nothing, and in one file without."""
    sounds = {
        Path(name).stem: content for name, content in members.items() if name.endswith(".wav")
    }
    names = list(np.random.default_rng(0).permutation(sorted(sounds)))
    test = len(names) // 10

    def part(chosen: list[str], named: bool) -> bytes:
        paths = [f"clip_{i}.wav" if named else None for i in range(len(chosen))]
        return parquet_bytes([sounds[n] for n in chosen], [int(n[0]) for n in chosen], paths)

    return {
        MTEB: {
            "README.md": b"---\nlicense: cc-by-sa-4.0\n---",
            "data/test-00000-of-00001.parquet": part(names[:test], True),
            "data/train-00000-of-00001.parquet": part(names[test:], True),
        },
        MATTHIJS: {"data/train-00000-of-00001-abc.parquet": part(names, False)},
    }


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server as the hub, and as a GitHub that has nothing."""
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    server.files["/v1.0.10.zip"] = b"not found, says a page"
    server.plan = ["rest"]
    return server


def settings(server: Server, root: Path) -> config.DataSettings:
    return config.DataSettings(root=root, fsdd_archive=None, fsdd_url=server.url)


def load(server: Server, root: Path) -> np.ndarray:
    clips = fsdd.load_fsdd(settings(server, root), config.AudioSettings(sample_rate=8000))
    assert clips.names.tolist() == list(fsdd.NAMES)
    left = sorted(path.name for path in root.iterdir() if not path.name.endswith(".lock"))
    assert left == ["cache", fsdd.FSDD_FOLDER]
    return clips.samples


def test_every_source_gives_the_same_verified_samples(hub, small_release, tmp_path):
    copies = as_published(small_release)
    for name in copies:
        hub.hub.clear()
        hub.publish(name, copies[name])
        first = load(hub, tmp_path / name.replace("/", "-"))
    hub.files["/v1.0.10.zip"] = zip_bytes(small_release)
    assert np.array_equal(first, load(hub, tmp_path / "github"))
    assert len(first) > 0


@pytest.mark.slow
def test_the_real_recordings_come_whole_from_every_source(hub, tmp_path):
    archive = data_path("FSDD_ARCHIVE")
    members = archives.read_archive(archive)
    copies = as_published({name: members[name] for name in members if "/recordings/" in name})
    for name in copies:
        hub.hub.clear()
        hub.publish(name, copies[name])
        load(hub, tmp_path / name.replace("/", "-"))  # verified against the release's own digests
    hub.files["/v1.0.10.zip"] = archive.read_bytes()
    load(hub, tmp_path / "github")


@pytest.mark.parametrize("github", ["403", "404", "429", "503", "rubbish", "stall", "cut", "loop"])
def test_the_next_source_is_tried_whatever_the_first_answers(
    hub, small_release, tmp_path, capsys, github
):
    hub.publish(MTEB, as_published(small_release)[MTEB])
    hub.cut_at = 5
    passing = github in ("429", "503", "stall", "cut")
    hub.plan = [github] * (download.TRIES if passing else 1 + 30 * (github == "loop")) + ["rest"]
    load(hub, tmp_path / "data")
    told = capsys.readouterr().err
    assert f"next source: hugging face, {MTEB}" in told


@pytest.mark.parametrize("fault", ["404", "rubbish", "other", "altered", "unlike", "503"])
def test_a_copy_that_answers_rubbish_is_passed_over(hub, small_release, tmp_path, capsys, fault):
    copies = as_published(small_release)
    hub.publish(MATTHIJS, copies[MATTHIJS])
    if fault == "other":
        hub.publish(MTEB, {"data/train.parquet": parquet_bytes([wav_bytes(beep(1, 5, 5))], [1])})
    elif fault == "altered":
        hub.publish(MTEB, copies[MTEB])
        address = next(path for path in hub.files if MTEB in path and "train" in path)
        hub.files[address] = hub.files[address][:-1] + b"?"
    elif fault == "unlike":
        hub.publish(MTEB, {"a.parquet": b"PAR1 and no more", "b.parquet": b""})
    else:
        hub.hub_plan = [fault] * (download.TRIES if fault == "503" else 1) + ["whole"]
    load(hub, tmp_path / "data")
    assert f"next source: hugging face, {MATTHIJS}" in capsys.readouterr().err


def test_where_nothing_answers_every_source_is_named_with_the_three_ways(hub, tmp_path):
    hub.plan, hub.hub_plan = ["404"], ["404"]
    with pytest.raises(config.UserError) as caught:
        fsdd.find_fsdd(settings(hub, tmp_path / "data"))
    for part in (hub.url, MTEB, MATTHIJS, "three ways to get FSDD", "HTTP status 404"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not any(path.is_dir() for path in (tmp_path / "data").iterdir())


def test_a_full_disk_asks_no_other_source(hub, small_release, tmp_path, monkeypatch):
    hub.publish(MTEB, as_published(small_release)[MTEB])
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(config.UserError, match="has room for 0; free .* MB"):
        fsdd.find_fsdd(settings(hub, tmp_path / "data"))
    assert not hub.listings


def test_a_broken_copy_is_gone_on_with_by_the_next_run(hub, small_release, tmp_path):
    hub.publish(MTEB, as_published(small_release)[MTEB])
    hub.cut_at = 40_000
    hub.plan = ["404", "rest", *["cut"] * 3, "404"]  # the zip; one file whole, the other broken off
    with pytest.raises(config.UserError):
        fsdd.find_fsdd(settings(hub, tmp_path / "data"))
    assert [*(tmp_path / "data").glob("**/recordings")] == []
    hub.requests.clear()
    hub.plan = ["404", "rest"]
    load(hub, tmp_path / "data")
    assert any(request for request in hub.requests)  # a range


def test_the_pinned_revision_is_asked_for_and_what_it_stands_for_is_fetched(
    hub, small_release, tmp_path
):
    hub.publish(MTEB, as_published(small_release)[MTEB], sha="b" * 40)
    load(hub, tmp_path / "data")
    assert f"/api/datasets/{MTEB}/revision/{fsdd.MIRRORS[0].revision}" in hub.listings[0]
    assert not any("README" in path for path in hub.files if "moved" in path)


@pytest.mark.parametrize("place", ["file", "folder", "snapshot"])
def test_parquet_files_that_somebody_has_are_taken_as_an_archive(small_release, tmp_path, place):
    files = as_published(small_release)[MATTHIJS if place == "file" else MTEB]
    folder = tmp_path / ("snapshot/data" if place == "snapshot" else "folder")
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / Path(name).name).write_bytes(content)
    source = next(folder.glob("*.parquet")) if place == "file" else tmp_path / place
    assert list(read_verified(source)) == list(fsdd.NAMES)
    data = config.DataSettings(root=tmp_path / "data", fsdd_archive=source)
    audio = config.AudioSettings(sample_rate=8000)
    assert len(fsdd.load_fsdd(data, audio)) == len(fsdd.NAMES)
    next(folder.glob("*.parquet")).write_bytes(parquet_bytes([b"RIFF"], [3]))
    with pytest.raises(DataError, match=r"missing .*row \d+"):
        fsdd.load_fsdd(data, audio)  # the cache isn't taken for files that changed


def test_missing_and_doubled_rows_are_told(small_release, tmp_path):
    sounds = [content for name, content in small_release.items() if name.endswith(".wav")]
    path = tmp_path / "fsdd.parquet"
    path.write_bytes(parquet_bytes([*sounds[:-1], sounds[0]], [0] * len(sounds)))
    with pytest.raises(DataError, match=r"1 missing \(.*1 stray \(row 199\)"):
        read_verified(path)


def test_labels_and_paths_of_a_copy_are_not_believed(small_release, tmp_path):
    names = [name for name in small_release if name.endswith(".wav")]
    path = tmp_path / "fsdd.parquet"
    wrong = [name.removeprefix(WRAPPER) for name in reversed(names)]
    path.write_bytes(parquet_bytes([small_release[name] for name in names], [7] * 200, wrong))
    expected = fsdd.decode({Path(name).name: small_release[name] for name in names})
    found = read_verified(path)
    assert all(np.array_equal(found[name], expected[name]) for name in fsdd.NAMES)


@pytest.mark.parametrize("fault", ["cut", "empty", "columns", "large", "many"])
def test_parquet_files_that_are_no_recordings_are_one_line(tmp_path, monkeypatch, fault):
    content = parquet_bytes([wav_bytes(beep(1, 0, take)) for take in range(9)], [1] * 9)
    if fault == "columns":
        buffer = io.BytesIO()
        parquet.write_table(pa.table({"text": ["one"], "label": [1]}), buffer)
        content = buffer.getvalue()
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 500 if fault == "large" else 10**8)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5 if fault == "many" else 10**4)
    path = tmp_path / "fsdd.parquet"
    path.write_bytes({"cut": content[:-40], "empty": b""}.get(fault, content))
    with pytest.raises(DataError) as caught:
        huggingface.read_sounds([path])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
