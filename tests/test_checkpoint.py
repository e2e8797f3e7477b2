"""Checkpoints: round trips, damage, what an earlier version wrote."""

import dataclasses
import pickle
from pathlib import Path

import pytest
import torch
from untrained import checkpoint

import config
from recognition.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

SHIPPED = Path(__file__).resolve().parent.parent / "saved_models"


@pytest.fixture
def folder(tmp_path):
    for name in ("cnn", "rnn"):
        save_checkpoint(tmp_path / f"{name}.pt", checkpoint(name))
    return tmp_path


def test_a_checkpoint_comes_back_as_it_went(folder):
    loaded, made = load_checkpoint(folder / "cnn.pt"), checkpoint("cnn")
    for item in dataclasses.fields(Checkpoint):
        if item.name != "weights":
            assert getattr(loaded, item.name) == getattr(made, item.name), item.name
    assert all(torch.equal(loaded.weights[key], value) for key, value in made.weights.items())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(folder, share):
    path = folder / "cnn.pt"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(config.UserError, match="cnn.pt: truncated, altered"):
        load_checkpoint(path)


def test_an_altered_checkpoint_is_refused(folder):
    path = folder / "cnn.pt"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(config.UserError, match="cnn.pt"):
        load_checkpoint(path)


class Sneaky:
    def __reduce__(self):
        return (print, ("code from a checkpoint ran",))


def test_foreign_files_are_refused_and_run_no_code(tmp_path, capsys):
    (tmp_path / "cnn.pt").write_bytes(pickle.dumps(Sneaky()))
    torch.save({"weights": Sneaky()}, tmp_path / "rnn.pt")
    torch.save({"old": 1}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    for name in ("cnn", "rnn", "other", "legacy"):
        with pytest.raises(config.UserError, match=f"{name}.pt"):
            load_checkpoint(tmp_path / f"{name}.pt")
    assert "ran" not in capsys.readouterr().out


def test_weights_of_another_size_are_refused(tmp_path):
    save_checkpoint(tmp_path / "cnn.pt", checkpoint(arguments={"width": 24}))
    with pytest.raises(config.UserError, match="do not fit"):
        load_checkpoint(tmp_path / "cnn.pt")


@pytest.mark.parametrize("name", ["cnn", "rnn"])
def test_shipped_networks_load(name):
    if not (SHIPPED / f"{name}.pt").exists():
        pytest.skip("no trained networks in saved_models (python train.py makes them)")
    assert load_checkpoint(SHIPPED / f"{name}.pt").record["protocol"] == "official"


@pytest.mark.parametrize(("mel_scale", "loads"), [("slaney", True), ("htk", False)])
def test_a_checkpoint_of_the_time_when_the_mel_scale_was_a_setting(folder, mel_scale, loads):
    content = torch.load(folder / "cnn.pt", weights_only=True)
    content["features"]["mel_scale"] = mel_scale
    torch.save(content, folder / "cnn.pt")
    if loads:
        assert load_checkpoint(folder / "cnn.pt").features == config.FeaturesSettings()
    else:
        with pytest.raises(config.UserError, match="do not fit"):
            load_checkpoint(folder / "cnn.pt")
