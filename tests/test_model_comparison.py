"""The comparison end to end: two small networks trained for an epoch on beeps, and their vote."""

import csv
import dataclasses
import json
import shutil

import pytest
from conftest import zip_bytes
from untrained import read_json, write_beeps

import config
import model_comparison
from protocols import comparison_scores, rejection
from protocols.comparison import ComparisonSettings, Entry
from recognition.checkpoint import load_checkpoint
from recognition.predictor import Predictor

COLUMNS = {
    "model",
    "official",
    "unseen",
    "noise_10_db",
    "noise_0_db",
    "false_accepts_words",
    "false_accepts_sounds",
    "calibration_error",
    "parameters",
    "multiply_adds",
    "megabytes",
    "latency_ms",
    "clips_per_second",
    "training_minutes",
}


@pytest.fixture
def settings(tmp_path, small_release, monkeypatch):
    def no_synthesiser(*arguments):
        raise config.UserError("no synthesiser in this test: it would take most of its time")

    monkeypatch.setattr(rejection, "synthetic_speakers", no_synthesiser)
    monkeypatch.setattr(rejection, "SOUNDS_PER_KIND", 3)
    archive = tmp_path / "small.zip"
    archive.write_bytes(zip_bytes(small_release))
    unseen = write_beeps(tmp_path / "unseen" / "few", [f"{d}_eve_0" for d in range(10)])
    words = write_beeps(tmp_path / "words", ["house_eve_0", "tree_eve_1"])
    return ComparisonSettings(
        models=("mlp", "lightweight", "ensemble"),
        networks_dir=tmp_path / "zoo",
        results_dir=tmp_path / "results",
        rounds=1,
        unseen_dir=unseen.parent,
        non_digits_dir=words,
        noise_dir=None,
        data=config.DataSettings(corpora="fsdd", fsdd_archive=archive, root=tmp_path / "data"),
        model=config.ModelSettings(mlp_width=8, lightweight_width=8),
        training=config.TrainingSettings(epochs=1, batch_size=32),
        augmentation=config.AugmentationSettings(room=0, noise=0, babble=0),
    )


@pytest.mark.slow
def test_a_comparison_from_nothing_and_what_a_second_one_keeps(settings, capsys, monkeypatch):
    model_comparison.run(settings)
    printed = capsys.readouterr().out
    data = read_json(settings.results_dir / "model_comparison.json")
    rows = {row["model"]: row for row in data["rows"]}
    assert set(rows) == {"mlp", "lightweight", "ensemble"}
    for row in rows.values():
        assert set(row) >= COLUMNS and all(row[name] is not None for name in COLUMNS)
        assert 0 <= row["official"] <= 100 and row["latency_ms"] > 0
    weights = rows["ensemble"]["members"]
    assert set(weights) <= {"mlp", "lightweight"}
    assert rows["ensemble"]["parameters"] == sum(rows[name]["parameters"] for name in weights)
    assert data["recommendation"]["name"] in rows
    assert data["recommendation"]["reason"] in printed and "BC-ResNet" not in printed
    with (settings.results_dir / "model_comparison.csv").open(newline="", encoding="utf-8") as file:
        table = {row["model"]: row for row in csv.DictReader(file)}
    assert float(table["mlp"]["official"]) == pytest.approx(rows["mlp"]["official"])
    assert (settings.results_dir / "model_comparison.png").stat().st_size > 10_000
    assert "| MLP" in (settings.results_dir / "model_comparison.md").read_text(encoding="utf-8")

    def refuse(*arguments):
        raise AssertionError("trained or scored again")

    monkeypatch.setattr("train.train", refuse)
    monkeypatch.setattr(comparison_scores, "recognition_scores", refuse)
    model_comparison.run(settings)
    again = read_json(settings.results_dir / "model_comparison.json")
    assert [row["official"] for row in again["rows"]] == [row["official"] for row in data["rows"]]
    check_members(settings, weights)
    other = dataclasses.replace(settings, training=config.TrainingSettings(epochs=2, batch_size=32))
    with pytest.raises(config.UserError, match="made with other settings: --training.epochs is 1"):
        model_comparison.run(other)


def check_members(settings, weights):
    """The ensemble's folder is one that every script can use as it is."""
    folder = Entry("ensemble", 0, settings.networks_dir).folder
    predictor = Predictor(config.DecisionSettings(models_dir=folder))
    assert predictor.vote_weights == pytest.approx(weights)
    for name in weights:
        single = load_checkpoint(settings.networks_dir / f"{name}-seed0" / f"{name}.pt")
        assert single.vote_weight == 1 and single.temperature == pytest.approx(
            predictor.checkpoints[name].temperature
        )


@pytest.mark.slow
def test_only_what_is_missing_is_trained(settings, monkeypatch):
    import train

    real, trained = train.train, []

    def watch(wanted):
        trained.append((wanted.models, wanted.seed))
        return real(wanted)

    monkeypatch.setattr(train, "train", watch)
    alone = dataclasses.replace(settings, models=("mlp",))
    model_comparison.compare(alone)
    more = dataclasses.replace(settings, models=("mlp", "lightweight"), seeds_of_best=2)
    rows, failed = model_comparison.compare(more)
    assert trained[:2] == [(("mlp",), 0), (("lightweight",), 0)]
    assert sorted(trained[2:]) == [(("lightweight",), 1), (("mlp",), 1)]
    assert not failed and all(row["seeds"] == [0, 1] for row in rows)
    assert all(row["standard_deviation"]["official"] >= 0 for row in rows)
    shutil.rmtree(settings.networks_dir / "mlp-seed0")
    model_comparison.compare(alone)
    assert trained[4:] == [(("mlp",), 0)]


@pytest.mark.slow
def test_a_network_that_can_not_be_trained_costs_only_its_row(settings, monkeypatch, capsys):
    import train

    real = train.train

    def fail(wanted):
        if wanted.models == ("lightweight",):
            raise config.UserError("the loss became NaN")
        return real(wanted)

    monkeypatch.setattr(train, "train", fail)
    model_comparison.run(settings)
    data = read_json(settings.results_dir / "model_comparison.json")
    assert [row["model"] for row in data["rows"]] == ["mlp"]
    assert data["failed"] == {"lightweight": "the loss became NaN"}
    assert "lightweight is missing: the loss became NaN" in capsys.readouterr().out


@pytest.mark.slow
def test_scores_that_were_damaged_are_taken_again(settings):
    alone = dataclasses.replace(settings, models=("mlp",))
    first, _ = model_comparison.compare(alone)
    path = settings.results_dir / "model_comparison" / "mlp-seed0.json"
    for damage in ("{", "[]", json.dumps({"key": "other", "row": {}})):
        path.write_text(damage, encoding="utf-8")
        again, _ = model_comparison.compare(alone)
        assert again[0]["official"] == first[0]["official"]


@pytest.mark.slow
def test_leave_one_speaker_out_scores_the_ensemble_too(settings):
    rows, _ = model_comparison.compare(dataclasses.replace(settings, leave_one_speaker_out=True))
    assert all(0 <= row["speaker"] <= 100 for row in rows) and len(rows) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("ensemble",)}, "models names no network"),
        ({"models": ("nosuch",)}, "no model named 'nosuch'"),
        ({"rounds": 0}, "rounds is 1 to 1000"),
        ({"models": ("cnn",), "features": config.encoder_features()}, "cnn can't take"),
    ],
)
def test_settings_that_fit_nothing_are_refused_in_one_line(changes, message):
    with pytest.raises(config.UserError, match=message):
        ComparisonSettings(**changes)


def test_the_encoder_counts_towards_what_listens_through_it():
    parameters, multiply_adds = comparison_scores.encoder_sizes(
        config.AudioSettings(), config.encoder_features()
    )
    assert parameters > 5e6 and multiply_adds > 3e8
