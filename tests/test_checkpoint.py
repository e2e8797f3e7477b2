"""Checkpoints: round trips, damage, what an earlier version wrote."""

import dataclasses
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from untrained import FEATURES as SMALL_FEATURES
from untrained import checkpoint
from waiting import PATIENCE

import config
from models import registry
from recognition.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "saved_models"


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
        assert load_checkpoint(folder / "cnn.pt").features == SMALL_FEATURES
    else:
        with pytest.raises(config.UserError, match="do not fit"):
            load_checkpoint(folder / "cnn.pt")


def spoil(path: Path, **changes) -> None:
    """Change values of a checkpoint's dictionary as somebody with a hex editor could not."""
    content = torch.load(path, weights_only=True)
    for name, value in changes.items():
        content[name] = value
    torch.save(content, path)


FEATURES = dataclasses.asdict(config.FeaturesSettings())
AUDIO = dataclasses.asdict(config.AudioSettings())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"temperature": 0.0}, "its temperature is 0.0"),
        ({"temperature": -1.0}, "its temperature is -1.0"),
        ({"temperature": float("nan")}, "its temperature is nan"),
        ({"temperature": "1.0"}, "its temperature is '1.0'"),
        ({"temperature": True}, "its temperature is True"),
        ({"temperature": torch.tensor(1.0)}, "its temperature is tensor"),
        ({"reject_bias": float("inf")}, "its reject_bias is inf"),
        ({"reject_bias": 10**400}, "its reject_bias is 1000"),
        ({"threshold": None}, "its threshold is None"),
        ({"vote_threshold": 1.5}, "its vote_threshold is 1.5"),
        ({"labels": ["nul", "een"]}, "its n_classes is"),
        ({"labels": 3}, "do not fit"),
        ({"record": [1]}, "its record is damaged"),
        ({"record": {"seed": "x"}}, "its record is damaged"),
        ({"name": "nosuch"}, "no model named 'nosuch'"),
        ({"name": ["cnn"]}, "do not fit"),
        ({"arguments": {"width": 10**6}}, "do not fit"),
        ({"arguments": [16]}, "do not fit"),
        ({"weights": {}}, "do not fit"),
        ({"weights": [1]}, "do not fit"),
        ({"features": FEATURES | {"kind": "wavelet"}}, "its kind is 'wavelet'"),
        ({"features": FEATURES | {"n_fft": 256.0}}, "its n_fft is 256.0"),
        ({"features": FEATURES | {"f_max": float("nan")}}, "its f_max is nan"),
        ({"features": FEATURES | {"f_max": 9000.0}}, "features.f-max"),
        ({"features": FEATURES | {"tempos": ("1",)}}, "its tempos is"),
        ({"features": 7}, "do not fit"),
        ({"audio": AUDIO | {"sample_rate": 1}}, "audio.sample-rate is 1"),
        ({"audio": AUDIO | {"nosuch": 1}}, "do not fit"),
        ({"nosuch": 1}, "do not fit"),
        ({"audio": AUDIO | {"max_seconds": torch.zeros(4, 4)}}, "its max_seconds is tensor"),
        ({"format": torch.zeros(0)}, "not a checkpoint of this version"),
        ({"labels": torch.zeros(1).expand(10**12)}, "truncated, altered"),
        ({"format": torch.zeros(1).expand(10**12)}, "truncated, altered"),
    ],
    ids=str,
)
def test_values_that_no_training_gives_are_named_in_one_line(folder, changes, problem):
    spoil(folder / "cnn.pt", **changes)
    with pytest.raises(config.UserError) as complaint:
        load_checkpoint(folder / "cnn.pt")
    line = str(complaint.value)
    assert line.startswith(str(folder / "cnn.pt")) and problem in line and "\n" not in line
    assert "python train.py" in line


def test_weights_of_a_wide_network_that_the_file_does_not_hold_are_refused(folder):
    with torch.device("meta"):
        wide = registry.create_model("cnn", 40, width=2**14).state_dict()
    weights = {
        name: torch.zeros((), dtype=item.dtype).expand(item.shape) for name, item in wide.items()
    }
    spoil(folder / "cnn.pt", arguments={"width": 2**14}, weights=weights)  # tens of gigabytes
    with pytest.raises(config.UserError, match="truncated, altered"):
        load_checkpoint(folder / "cnn.pt")


def test_a_list_of_lists_without_end_is_refused(folder):
    nested: list = [0.0]
    for _ in range(40):  # small in a file, endless for what walks through it
        nested = [nested] * 4
    spoil(folder / "cnn.pt", temperature=nested)
    with pytest.raises(config.UserError, match="truncated, altered"):
        load_checkpoint(folder / "cnn.pt")


def test_a_compressed_file_is_refused_unread(folder):
    spoil(folder / "cnn.pt", more=torch.zeros(10_000_000))
    with zipfile.ZipFile(folder / "cnn.pt") as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(folder / "cnn.pt", "w", zipfile.ZIP_DEFLATED) as small:
        for name, content in members.items():
            small.writestr(name, content)
    with pytest.raises(config.UserError, match="truncated, altered"):
        load_checkpoint(folder / "cnn.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(folder, value):
    weights = checkpoint().weights
    next(iter(weights.values())).view(-1)[0] = value
    spoil(folder / "cnn.pt", weights=weights)
    with pytest.raises(config.UserError, match="NaN or infinity"):
        load_checkpoint(folder / "cnn.pt")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of a file")
def test_a_disk_that_is_full_leaves_the_old_checkpoint(folder):
    code = f"""
import resource, torch, config
from recognition.checkpoint import load_checkpoint, save_checkpoint
checkpoint = load_checkpoint({str(folder / "cnn.pt")!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save_checkpoint({str(folder / "rnn.pt")!r}, checkpoint)
except OSError as error:
    print(error.filename)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stdout.strip() == str(folder / "rnn.pt"), done.stderr
    assert load_checkpoint(folder / "rnn.pt").name == "rnn"
    assert sorted(path.name for path in folder.iterdir()) == ["cnn.pt", "rnn.pt"]
