"""Files are whole or absent."""

import json

import numpy as np
import pytest

import utils


def test_a_failure_leaves_the_old_file_and_no_scraps(tmp_path):
    path = tmp_path / "kept.txt"
    utils.write_text(path, "old")
    with pytest.raises(RuntimeError), utils.atomic_path(path) as temporary:
        temporary.write_text("half of the new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["kept.txt"]


def test_folders_are_made_and_the_content_arrives(tmp_path):
    path = tmp_path / "a" / "b" / "value.json"
    utils.write_json(path, {"array": np.arange(3), "scalar": np.float32(0.5), "path": tmp_path})
    assert json.loads(path.read_text()) == {
        "array": [0, 1, 2],
        "scalar": 0.5,
        "path": str(tmp_path),
    }


def test_the_record_names_commit_and_versions():
    record = utils.run_record()
    assert record["commit"] and record["versions"]["torch"] and record["python"]
