"""Trained networks never replace better ones silently, and what is replaced is kept."""

import dataclasses

import pytest
from untrained import checkpoint

import config
from recognition.checkpoint import load_checkpoint, save_checkpoint
from recognition.predictor import Predictor
from training import saving
from training.settings import TrainSettings


def network(name: str, loss: float | None, corpora: str = "fsdd+synthetic", seed: int = 0):
    """A checkpoint with a validation loss, and weights that its seed decides."""
    made = checkpoint(name)
    for value in made.weights.values():
        if value.is_floating_point():
            value.add_(seed)
    scores = {} if loss is None else {"validation": {"validation_loss": loss}}
    return dataclasses.replace(made, record={"seed": seed, "corpora": corpora} | scores)


def networks(cnn: float | None, rnn: float | None, seed: int, corpora: str = "fsdd+synthetic"):
    losses = {"cnn": cnn, "rnn": rnn}
    return {name: network(name, loss, corpora, seed) for name, loss in losses.items()}


@pytest.fixture
def there(tmp_path):
    """A folder with two networks of seed 1 and validation losses 0.2 and 0.3."""
    for name, item in networks(0.2, 0.3, seed=1).items():
        save_checkpoint(tmp_path / "saved" / f"{name}.pt", item)
    return tmp_path / "saved"


def settings(save_dir, **changes) -> TrainSettings:
    return TrainSettings(save_dir=save_dir, **changes)


def save(there, checkpoints, reason="", **changes):
    return saving.save_networks(
        settings(there, **changes), checkpoints, there.parent / "run" / "models", reason
    )


def seeds(folder) -> dict[str, int]:
    return {path.stem: load_checkpoint(path).record["seed"] for path in folder.glob("[cr]nn.pt")}


def test_better_networks_replace_and_the_old_ones_are_kept(there):
    assert save(there, networks(0.2, 0.1, seed=2)) == saving.Saved(there)
    assert seeds(there) == {"cnn": 2, "rnn": 2}
    assert seeds(there / "previous") == {"cnn": 1, "rnn": 1}
    assert seeds(there.parent / "run" / "models") == {"cnn": 2, "rnn": 2}
    assert Predictor(config.DecisionSettings(models_dir=there)).names == ["cnn", "rnn"]


@pytest.mark.parametrize("losses", [(0.25, 0.1), (0.1, 0.4), (float("nan"), 0.1)])
def test_one_worse_network_keeps_the_set_apart(there, losses):
    saved = save(there, networks(*losses, seed=2))
    assert saved.folder == there.parent / "run" / "models" and "validation loss" in saved.kept_apart
    assert not saved.failed and seeds(there) == {"cnn": 1, "rnn": 1}
    assert seeds(saved.folder) == {"cnn": 2, "rnn": 2} and not (there / "previous").exists()


def test_overwrite_replaces_better_networks_and_keeps_them(there):
    assert save(there, networks(2.0, 2.0, seed=2), overwrite=True) == saving.Saved(there)
    assert seeds(there) == {"cnn": 2, "rnn": 2} and seeds(there / "previous")["rnn"] == 1


def test_the_same_weights_again_leave_the_networks_kept_before(there):
    save(there, networks(0.1, 0.1, seed=2))
    save(there, networks(0.1, 0.1, seed=2))
    assert seeds(there / "previous") == {"cnn": 1, "rnn": 1}


def test_the_speech_encoder_stays_where_it_is(there):
    (there / "encoder.pt").write_bytes(b"an encoder")
    save(there, networks(0.1, 0.1, seed=2))
    assert (there / "encoder.pt").read_bytes() == b"an encoder"
    assert seeds(there / "previous") == {"cnn": 1, "rnn": 1}


def test_only_a_whole_set_is_kept(there):
    save_checkpoint(there / "previous" / "old.pt", network("cnn", 1.0))
    save(there, {"cnn": network("cnn", 0.1, seed=2)})
    assert seeds(there) == {"cnn": 2, "rnn": 1}
    assert seeds(there / "previous") == {"cnn": 1, "rnn": 1}


@pytest.mark.parametrize(
    ("corpora", "apart"),
    [
        ("fsdd", True),
        ("synthetic", True),
        ("fsdd+synthetic", False),
        ("fsdd+synthetic+own", False),
        ("synthetic+fsdd", False),
    ],
)
def test_fewer_corpora_are_told_before_the_first_epoch(there, corpora, apart):
    reason = saving.reason_to_keep_apart(settings(there), corpora)
    assert bool(reason) == apart
    if apart:
        assert reason.endswith(f"was trained on fsdd+synthetic, these only on {corpora}")
    assert not saving.reason_to_keep_apart(settings(there, overwrite=True), corpora)


def test_the_plan_is_told_before_the_first_epoch(there, tmp_path):
    assert saving.plan(settings(there), "a reason").endswith("stay as it is: a reason")
    assert "only ones that validate no worse" in saving.plan(settings(there), "")
    assert saving.plan(settings(there, overwrite=True), "").startswith("the networks will go to")
    assert saving.plan(settings(tmp_path / "new"), "").startswith("the networks will go to")


def test_a_dry_run_never_replaces(there):
    for overwrite in (False, True):
        chosen = settings(there, dry_run=True, overwrite=overwrite)
        assert saving.reason_to_keep_apart(chosen, "fsdd+synthetic")


def test_damaged_or_unscored_networks_may_be_replaced(there):
    (there / "cnn.pt").write_bytes(b"damaged")
    save_checkpoint(there / "rnn.pt", network("rnn", None))
    assert saving.reason_to_keep_apart(settings(there), "fsdd+synthetic") == ""
    assert save(there, networks(9.0, 9.0, seed=2)).folder == there
    assert (there / "previous" / "cnn.pt").read_bytes() == b"damaged"


def test_a_folder_that_can_not_be_written_is_known_before(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(config.UserError, match="--save-dir .* can't be written"):
            saving.check_writable(folder)
    saving.check_writable(tmp_path / "not" / "yet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_where_one_file_can_not_be_replaced_none_is_and_the_networks_are_kept(there):
    (there / "rnn.pt").unlink()
    (there / "rnn.pt").mkdir()
    saved = save(there, networks(0.1, 0.1, seed=2))
    assert saved.failed and saved.kept_apart.startswith("it can't be written (")
    assert seeds(saved.folder) == {"cnn": 2, "rnn": 2}
    assert load_checkpoint(there / "cnn.pt").record["seed"] == 1
    assert not list(there.rglob(".*"))


def test_files_are_copied_all_or_none(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("new")
        (tmp_path / "there" / name).mkdir(parents=True)
    (tmp_path / "there" / "a").rmdir()
    with pytest.raises(OSError):
        saving.copy_all([tmp_path / "a", tmp_path / "b"], tmp_path / "there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["b"]
