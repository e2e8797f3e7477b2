"""Bulk recognition without Ray: manifests, addresses, and folders of answers in whole parts."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from waiting import PATIENCE

import batch_inference
import config
from batch_inference import BatchSettings
from recognition import object_stores, ray_batch, ray_cluster
from recognition.answer_parts import AnswerFolder, row_hash
from recognition.answer_table import COLUMNS, STRING_COLUMNS, empty_row, error_row
from recognition.file_lists import Item, list_items, manifest_paths
from recognition.object_stores import address_of

ROOT = Path(batch_inference.__file__).parent


@pytest.mark.parametrize(
    ("word", "address"),
    [
        (Path("s3://calls/2026/a.wav"), "s3://calls/2026/a.wav"),
        (Path("GS://calls"), "gs://calls"),
        ("s3://calls//a.wav", "s3://calls//a.wav"),
        (Path("file:///tmp/a.wav"), None),
        (Path("C:/calls/a.wav"), None),
        (Path("calls/a.wav"), None),
    ],
)
def test_an_address_is_whole_again_after_pathlib(word, address):
    assert address_of(word) == address


def test_a_path_that_exists_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Path("s3:/calls")
    if sys.platform == "win32":
        pytest.skip("Windows has no such names")
    place.mkdir(parents=True)
    assert address_of(place) is None


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_csv_manifest_names_files_from_its_own_folder(tmp_path, mark):
    lines = [["speaker", "path"], ["ada", "deep/1.wav"], ["bob", "s3://calls/2.wav"], ["eve", ""]]
    text = "".join(mark.join(line) + "\r\n" for line in lines)
    (tmp_path / "calls.csv").write_text(text, encoding="utf-8-sig")
    found = list(manifest_paths(tmp_path / "calls.csv"))
    assert found == [f"{tmp_path.as_posix()}/deep/1.wav", "s3://calls/2.wav"]


def test_a_parquet_manifest_says_the_same(tmp_path):
    table = pandas.DataFrame({"path": ["1.wav", None, "/x/2.wav"], "n": [1, 2, 3]})
    table.to_parquet(tmp_path / "calls.parquet")
    found = list(manifest_paths(tmp_path / "calls.parquet"))
    assert found == [f"{tmp_path.as_posix()}/1.wav", "/x/2.wav"]


@pytest.mark.parametrize("name", ["calls.csv", "calls.parquet"])
def test_a_manifest_without_its_column_names_those_it_has(tmp_path, name):
    table = pandas.DataFrame({"file": ["1.wav"], "speaker": ["ada"]})
    (table.to_csv if name.endswith("csv") else table.to_parquet)(tmp_path / name, index=False)
    with pytest.raises(config.UserError, match="no column 'path'.*file, speaker"):
        list(manifest_paths(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.csv", b"", "no column 'path'.*none"),
        ("a.csv", b"path\n\xff\xfe.wav\n", "no CSV in UTF-8"),
        ("a.parquet", b"PAR0", "no Parquet file"),
        ("absent.csv", None, "No such file"),
    ],
)
def test_what_is_no_manifest_is_told_in_one_line(tmp_path, name, content, complaint):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(config.UserError, match=complaint):
        list(manifest_paths(tmp_path / name))


def test_the_local_engine_takes_a_manifest_too(tmp_path):
    (tmp_path / "calls.csv").write_text("path\n2.wav\n1.wav\n2.wav\n")
    settings = BatchSettings((), tmp_path / "out.csv", manifest=tmp_path / "calls.csv")
    assert [path.name for path in batch_inference.named_files(settings)] == ["2.wav", "1.wav"]
    (tmp_path / "calls.csv").write_text("path\ns3://calls/1.wav\n")
    with pytest.raises(config.UserError, match="s3://calls/1.wav: .*--engine ray"):
        batch_inference.named_files(settings)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("s3://calls", "--output", "out.csv"), "s3://calls: object stores need --engine ray"),
        (("a.wav", "--output", "s3://x/out.csv"), "s3://x/out.csv: object stores need"),
        (("a.wav", "--output", "o.csv", "--ray-address", "auto"), "needs --engine ray"),
        (("a.wav", "--output", "o.csv", "--engine", "ray"), "writes a folder of Parquet"),
        (("-", "--output", "out", "--engine", "ray"), "standard input"),
        (("--output", "out.csv"), "no files"),
    ],
)
def test_mistakes_in_the_engine_are_one_line(tmp_path, words, complaint):
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2 and complaint in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_without_ray_it_says_how_to_get_it_and_the_local_engine_works(small_vote_dir, tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError('No module named ray')\n")
    words = (ROOT / "docs", "--decision.models-dir", small_vote_dir)
    done = run(*words, "--output", tmp_path / "out", "--engine", "ray", path=tmp_path)
    assert done.returncode == 1 and "pip install -r requirements-ray.txt" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()
    done = run(*words, "--output", tmp_path / "out.csv", path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(pandas.read_csv(tmp_path / "out.csv")) == 3


def run(*words, cwd=None, path="") -> subprocess.CompletedProcess:
    """The script as a user runs it, with `path` before all other packages."""
    return subprocess.run(
        [sys.executable, str(ROOT / "batch_inference.py"), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(path)},
    )


def rows_of(*names):
    return [empty_row(name) | {"digit": number} for number, name in enumerate(names)]


@pytest.fixture
def folder(tmp_path) -> AnswerFolder:
    folder = AnswerFolder(tmp_path / "answers", COLUMNS, {"clean": True})
    folder.prepare()
    folder.write(0, rows_of("a.wav", "=b.wav"), [[1, 2], [3, 4]])
    folder.write(1, [error_row("c.wav", "no such file")], [None])
    return folder


def test_parts_are_one_table_and_say_what_is_answered(folder):
    table = pandas.read_parquet(folder.name)
    assert list(table.columns) == list(COLUMNS)
    assert list(table.path) == ["a.wav", "./=b.wav", "c.wav"]
    found = folder.contents()
    assert (found.tally.files, found.tally.found, found.tally.unreadable) == (3, 2, 1)
    cells = ["a.wav", "./=b.wav", "c.wav", "d.wav"]
    stamps = [[1, 2], [3, 5], None, [1, 2]]
    assert list(found.answered(cells, stamps)) == [True, False, False, False]


def test_writing_a_part_again_doubles_nothing(folder):
    folder.write(0, rows_of("a.wav", "=b.wav"), [[1, 2], [3, 4]])
    found = folder.contents()
    assert found.tally.files == 3 and not found.doubles().any()


def test_rows_of_changed_files_and_doubles_are_taken_out_of_whole_parts(folder):
    folder.write(7, rows_of("a.wav", "e.wav"), [[1, 2], [5, 6]])
    found = folder.contents()
    assert found.doubles().sum() == 1
    folder.drop(found, found.doubles())
    found = folder.contents()
    assert sorted(pandas.read_parquet(folder.name).path) == ["./=b.wav", "a.wav", "c.wav", "e.wav"]
    folder.drop(found, np.isin(found.rows, np.array([row_hash("c.wav", None)], np.uint64)))
    assert sorted(pandas.read_parquet(folder.name).path) == ["./=b.wav", "a.wav", "e.wav"]
    assert len(list(Path(folder.name).iterdir())) == 2, "a part without rows is no part"
    kept = folder.contents().answered(["a.wav", "./=b.wav", "e.wav"], [[1, 2], [3, 4], [5, 6]])
    assert kept.all()


def test_a_part_that_cannot_be_written_is_absent(folder, monkeypatch):
    from pyarrow import parquet

    original = parquet.write_table

    def half(table, where):
        original(table, where)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", half)
    before = sorted(Path(folder.name).iterdir())
    with pytest.raises(OSError):
        folder.write(2, rows_of("f.wav"), [[1, 2]])
    assert sorted(Path(folder.name).iterdir()) == before


def test_what_killed_processes_left_is_swept_and_never_read(folder):
    left = Path(folder.name, ".part-000009-x.parquet")
    left.write_bytes(b"half")
    assert len(pandas.read_parquet(folder.name)) == 3
    folder.prepare()
    assert not left.exists()


def test_answers_of_other_settings_and_damaged_parts_are_refused(folder):
    other = AnswerFolder(folder.name, COLUMNS, {"clean": False})
    with pytest.raises(config.UserError, match="other settings or networks; name another folder"):
        other.contents()
    part = next(Path(folder.name).glob("part-*"))
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(config.UserError, match=f"{part.name}: damaged"):
        folder.contents()


def test_a_folder_is_found_again_in_another_process(folder):
    import pickle

    again = pickle.loads(pickle.dumps(folder))
    assert again.contents().tally.files == 3


def test_items_of_a_manifest_have_stamps_only_where_asking_is_cheap(tmp_path):
    (tmp_path / "1.wav").write_bytes(b"sound")
    (tmp_path / "calls.csv").write_text("path\n1.wav\n2.wav\ns3://calls/3.wav\n")
    here, absent, stored = list_items((), tmp_path / "calls.csv")
    assert here.stamp == [5, (tmp_path / "1.wav").stat().st_mtime_ns] and absent.stamp is None
    assert stored.name == stored.place == "s3://calls/3.wav" and stored.stamp == [0, 0]


def test_any_store_that_fsspec_knows_is_listed_and_read(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for name in ("deep/2.wav", "1.wav", "notes.txt", ".hidden.wav"):
        store.pipe(f"/bulk/{name}", name.encode())
    names = [name for name, _ in object_stores.list_audio("memory:///bulk")]
    assert [name.rpartition("bulk/")[2] for name in names] == ["1.wav", "deep/2.wav"]
    assert object_stores.read(names[1]) == b"deep/2.wav"
    found = object_stores.list_audio("memory:///bulk/*.wav")
    assert [name for name, _ in found] == names[:1]
    folder = AnswerFolder("memory:///bulk/answers", COLUMNS, {})
    folder.prepare()
    folder.write(0, rows_of("a.wav"), [[1, 2]])
    assert folder.contents().tally.files == 1
    with pytest.raises(config.UserError, match="no such file or folder"):
        object_stores.list_audio("memory:///nothing")


def test_an_unknown_kind_of_store_is_told():
    pytest.importorskip("fsspec")
    with pytest.raises(config.UserError, match="nosuch"):
        object_stores.list_audio("nosuch://calls/a.wav")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "ray://127.0.0.1:1"])
def test_no_cluster_at_an_address_is_told_before_ray_is_asked(address):
    with pytest.raises(config.UserError, match=f"no Ray cluster at {address}: start one"):
        ray_cluster._join(None, address, {})


def test_no_cluster_on_this_machine_is_told():
    def init(**_settings):  # what Ray raises; a real one may run here
        raise ConnectionError("Could not find any running Ray instance.")

    with pytest.raises(config.UserError, match="no Ray cluster at auto: .*RAY_AUTH_MODE"):
        ray_cluster._join(SimpleNamespace(init=init), "auto", {})


def test_what_the_networks_were_is_part_of_the_settings(small_vote_dir, tmp_path):
    settings = BatchSettings(
        (tmp_path,), tmp_path / "x.csv", decision=config.DecisionSettings(models_dir=small_vote_dir)
    )
    strings = dataclasses.replace(settings, strings=True)
    assert batch_inference.fingerprint(settings) != batch_inference.fingerprint(strings)


def blocks_of(folder: AnswerFolder, items) -> tuple[ray_batch.Blocks, list]:
    blocks = ray_batch.Blocks(folder.contents())
    return blocks, list(blocks.tables(iter(items)))


def test_blocks_are_small_at_first_and_leave_out_what_is_answered(folder):
    items = [Item(f"{n}.wav", f"/x/{n}.wav", [n, n]) for n in range(3000)]
    known = Item("a.wav", "/x/a.wav", [1, 2])
    blocks, tables = blocks_of(folder, [known, *items[:7], items[3], *items[7:]])
    sizes = [len(table) for table in tables]
    assert sizes[1:8] == [64] * 7 and sizes[8] == 128 and blocks.known == 1
    assert sizes[0] == 63, "a file named twice is answered once"
    names = [name.decode() for table in tables for name in table["name"].to_pylist()]
    assert names == [item.name for item in items]
    assert not blocks.stale().any()


def test_answers_to_what_a_file_was_before_are_stale(folder):
    changed = Item("a.wav", "/x/a.wav", [1, 3])
    blocks, tables = blocks_of(folder, [changed, Item("=b.wav", "/x/b.wav", [3, 4])])
    assert len(tables) == 1 and tables[0]["stamp"].to_pylist() == [[1, 3]]
    assert list(blocks.stale()) == [True, False, False]


@pytest.mark.parametrize("strings", [None, config.StringsSettings()])
def test_an_actor_writes_a_part_with_a_row_for_each_file(
    small_vote_dir, tmp_path, monkeypatch, strings
):
    """What Ray runs many of, without Ray: the rows are those of the local engine."""
    if strings and not (ROOT / "saved_models/strings.pt").is_file():
        pytest.skip("no trained network of strings")
    monkeypatch.setattr(ray_batch, "node_id", lambda: "here")
    monkeypatch.setattr(ray_batch, "CHUNK", 3)
    monkeypatch.setitem(vars(sys.modules["__main__"]), "__file__", "gone")
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/actor/7.wav", (ROOT / "docs/seven.wav").read_bytes())
    networks = ROOT / "saved_models" if strings else small_vote_dir
    columns = STRING_COLUMNS if strings else COLUMNS
    folder = AnswerFolder(tmp_path / "answers", columns, {})
    folder.prepare()
    decision = config.DecisionSettings(models_dir=networks)
    cleaning = config.CleaningSettings()
    maker = ray_batch.PartMaker(ray_batch.Job(folder, decision, cleaning, strings, 60.0))
    seven = str(ROOT / "docs/seven.wav")
    places = [seven, "memory:///actor/7.wav", "memory:///actor/8.wav", str(tmp_path / "9.wav")]
    blocks, tables = blocks_of(folder, [Item(place, place, [0, 0]) for place in places])
    try:
        counts = [maker(tables[0]).to_pylist() for _ in range(2)]
    finally:
        maker.workers.__exit__()
    assert counts == [[{"files": 4, "node": "here", "process": os.getpid()}]] * 2
    here, stored, gone, absent = pandas.read_parquet(folder.name).to_dict("records")
    assert gone["error"] == absent["error"] == "no such file"
    assert pandas.isna(here["error"]) and here["confidence"] > 0
    assert {**here, "path": ""} == pytest.approx({**stored, "path": ""}, nan_ok=True)
