"""The script and its protocols, on untrained networks and synthetic recordings, then real ones."""

import csv
import dataclasses
import os
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import beep, wav_bytes
from untrained import read_json, read_result, save_networks, settings_maker, write_beeps
from waiting import PATIENCE

import config
import evaluation
import utils
from corpora import download
from protocols import common, noise, seeds, speakers, timing
from protocols.common import EvaluationSettings
from recognition.predictor import Predictor

MAIN = Path(evaluation.__file__).parent


@pytest.fixture
def make_settings(tmp_path, small_release):
    return settings_maker(tmp_path, small_release)


def test_official_scores_what_the_predictor_answers_one_by_one(make_settings, small_clips):
    settings = make_settings()
    evaluation.run(settings)
    summary = read_result(settings, "summary")
    predictor = Predictor(settings.decision)
    test = [index for index in range(len(small_clips)) if small_clips.takes[index] < 5]
    prediction = [predictor.predict(small_clips.waveform(index)) for index in test]
    spoken = small_clips.labels[test]
    assert summary["clips"] == len(test) == 100
    assert summary["test_set"] == "FSDD official test"
    for name in ("cnn", "rnn"):
        right = sum(
            item.predictions[name].digit == digit
            for item, digit in zip(prediction, spoken, strict=True)
        )
        assert summary["accuracy"][name]["right"] == right
    right = sum(item.best_guess == digit for item, digit in zip(prediction, spoken, strict=True))
    assert summary["accuracy"]["vote"]["right"] == right
    assert summary["no_digit"]["right"] == sum(not item.accepted for item in prediction)
    assert summary["networks"]["cnn"]["corpora"] == "beeps"
    assert summary["latency_ms"]["clips"] == 60 and summary["latency_ms"]["p95"] > 0


def test_official_writes_every_file_and_they_agree(make_settings, capsys):
    settings = make_settings()
    evaluation.run(settings)
    folder, printed = settings.results_dir, capsys.readouterr().out
    wanted = {
        "summary.json",
        "summary.md",
        "summary.png",
        "wrong.csv",
        "classification_report.txt",
        "classification_report.json",
    } | {f"confusion_{name}.{kind}" for kind in ("csv", "png") for name in ("cnn", "rnn", "vote")}
    assert {path.name for path in folder.iterdir()} == wanted
    assert (folder / "summary.md").read_text(encoding="utf-8") in printed
    assert "Vote against the better single network" in printed
    summary = read_result(settings, "summary")
    with (folder / "confusion_vote.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["spoken"] for row in rows] == list(config.DIGITS)
    assert sum(int(row[row["spoken"]]) for row in rows) == summary["accuracy"]["vote"]["right"]
    with (folder / "wrong.csv").open(newline="") as stream:
        wrong = list(csv.DictReader(stream))
    assert len([row for row in wrong if row["cnn"] != row["spoken"]]) == (
        summary["clips"] - summary["accuracy"]["cnn"]["right"]
    )
    reports = read_json(folder / "classification_report.json")
    assert reports["rnn"]["accuracy"] == pytest.approx(summary["accuracy"]["rnn"]["value"])
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in folder.glob("*.png"))
    check_keys(summary)


def check_keys(summary):
    """The keys inside the summary that other programs rely on."""
    proportion = {"right", "total", "value", "low", "high"}
    for scores in (summary["accuracy"], *summary["by_speaker"].values()):
        assert set(scores) == {"cnn", "rnn", "vote"}
        assert all(set(item) == proportion for item in scores.values())
    assert set(summary["no_digit"]) == proportion
    report = summary["classification"]["vote"]
    assert set(report) == {"classes", "macro", "weighted", "accuracy", "total"}
    assert set(report["macro"]) == set(report["weighted"]) == {"precision", "recall", "f1"}
    assert set(report["classes"]) == set(config.DIGITS)
    assert set(report["classes"]["7"]) == {"precision", "recall", "f1", "support"}
    assert set(summary["latency_ms"]) == {"median", "p95", "clips"}
    assert {"better", "p", "statement", "difference_points"} <= set(summary["vote_gain"])
    predictions = {f"{name}{end}" for name in ("cnn", "rnn", "vote") for end in ("", "_confidence")}
    columns = {"name", "speaker", "spoken", "accepted"} | predictions
    assert summary["wrong"] and all(set(row) == columns for row in summary["wrong"])


def test_two_runs_give_the_same_scores(make_settings):
    reports = [evaluation.official(make_settings()).data for _ in range(2)]
    for report in reports:
        report.pop("latency_ms")
    assert utils.json_value(reports[0]) == utils.json_value(reports[1])


def test_every_protocol_has_a_name_and_a_line_of_help():
    names = typing.get_args(typing.get_type_hints(EvaluationSettings)["protocol"])
    assert set(names) == set(evaluation.PROTOCOLS)
    assert all(line in evaluation.HELP for _, line in evaluation.PROTOCOLS.values())


def test_timing_leaves_the_threads_as_they_were(make_settings, small_clips):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        timing.time_clips(Predictor(make_settings().decision), small_clips)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_networks_trained_on_the_test_takes_are_warned_of(make_settings, tmp_path):
    save_networks(tmp_path / "models", protocol="random")
    assert "Warning" in common.trained_on(Predictor(make_settings().decision))


def test_cleaning_can_be_forced_on_and_off(make_settings):
    predictor = Predictor(make_settings().decision)
    cleaned = {
        clean: [
            make_settings(clean=clean).recognizer(predictor, recording).cleaning is not None
            for recording in (True, False)
        ]
        for clean in ("auto", "on", "off")
    }
    assert cleaned == {"auto": [True, False], "on": [True, True], "off": [False, False]}


@pytest.mark.slow
def test_without_fsdd_synthetic_speakers_are_scored_with_a_warning(
    make_settings, tmp_path, caplog, monkeypatch
):
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(download, "BACK_OFF_SECONDS", 0.0)
    monkeypatch.setattr(
        common, "HELD_OUT_DIGITS", dataclasses.replace(common.HELD_OUT_DIGITS, espeak_clips=40)
    )
    data = config.DataSettings(
        fsdd_archive=None, root=tmp_path / "empty", fsdd_url="http://127.0.0.1:9/fsdd.zip"
    )
    report = evaluation.official(make_settings(data=data))
    assert "WARNING: no FSDD" in caplog.text
    assert report.data["test_set"].startswith("synthetic") and report.data["clips"] == 40
    assert report.text.startswith("# synthetic")


def test_a_broken_archive_that_was_named_is_an_error(make_settings, tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK no archive")
    data = config.DataSettings(fsdd_archive=tmp_path / "broken.zip", root=tmp_path / "data")
    with pytest.raises(config.UserError, match="broken"):
        evaluation.official(make_settings(data=data))


def test_seeds_are_averaged(make_settings, tmp_path):
    folders = [save_networks(tmp_path / f"seed{seed}", seed=seed) for seed in range(3)]
    settings = make_settings(protocol="seeds", models_dirs=(*folders, folders[0]))
    evaluation.run(settings)
    result = read_result(settings, "seeds")
    assert len(result["seeds"]) == 3  # a folder named twice counts once
    values = [item["vote"]["value"] for item in result["seeds"].values()]
    assert result["mean"]["vote"]["value"] == pytest.approx(np.mean(values))
    assert result["standard_deviation"]["vote"] == pytest.approx(np.std(values, ddof=1))
    assert "mean of 3" in (settings.results_dir / "seeds.md").read_text(encoding="utf-8")


def test_seeds_need_folders_with_the_same_networks(make_settings, tmp_path):
    with pytest.raises(config.UserError, match="--models-dirs"):
        seeds.seeds(make_settings())
    folders = (tmp_path / "models", save_networks(tmp_path / "one", names=("cnn",)))
    with pytest.raises(config.UserError, match="different networks"):
        seeds.seeds(make_settings(models_dirs=folders))


def test_unseen_averages_over_corpora_and_skips_bad_files(
    make_settings, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(speakers, "LARGE_CORPUS", 10)
    unseen_speakers = tmp_path / "speakers"
    write_beeps(unseen_speakers / "few", [f"{digit}_eve_0" for digit in range(3)])
    write_beeps(
        unseen_speakers / "many",
        [f"{digit}_{name}_1" for digit in range(10) for name in ("fay", "guy")] + ["dog_fay_0"],
    )
    (unseen_speakers / "many" / "misnamed.wav").write_bytes(wav_bytes(beep(1, 1, 1)))
    (unseen_speakers / "many" / "4_hal_0.wav").write_bytes(b"")
    (unseen_speakers / "hopeless").mkdir()
    (unseen_speakers / "hopeless" / "5_ivy_0.wav").write_bytes(b"not a sound")
    settings = make_settings(protocol="unseen", unseen_dir=unseen_speakers)
    evaluation.run(settings)
    told = "".join(capsys.readouterr())
    assert all(name in told for name in ("misnamed.wav", "4_hal_0.wav", "hopeless"))
    result = read_result(settings, "unseen")
    assert result["clips"] == 23 and result["speakers"] == 3  # the dog is no digit
    by_corpus = {name: item["vote"]["value"] for name, item in result["by_corpus"].items()}
    assert list(by_corpus) == ["few", "many"]
    averages = result["macro"]
    assert averages["macro, 2 corpora"]["vote"]["value"] == pytest.approx(
        np.mean([*by_corpus.values()])
    )
    assert averages["macro, 1 of 10 clips or more"]["vote"]["value"] == by_corpus["many"]
    assert sum(item["vote"]["total"] for item in result["by_digit"].values()) == 23
    assert set(result["by_speaker"]) == {"few/eve", "many/fay", "many/guy"}
    assert result["cleaning"] is True and "macro average the vote changes" in told


def test_a_flat_folder_is_one_corpus(make_settings, tmp_path):
    folder = write_beeps(tmp_path / "mine", ["1_eve_0", "two_eve_0"])
    report = speakers.unseen(make_settings(unseen_dir=folder, clean="off"))
    assert report.data["clips"] == 2 and list(report.data["by_corpus"]) == ["mine"]


def test_folders_that_are_missing_or_hold_nothing(make_settings, tmp_path):
    with pytest.raises(config.UserError, match="UNSEEN_SPEAKERS_DIR"):
        speakers.unseen(make_settings())
    with pytest.raises(config.UserError, match="no such folder"):
        speakers.unseen(make_settings(unseen_dir=tmp_path / "nosuch"))
    with pytest.raises(config.UserError, match="no usable clips"):
        speakers.unseen(make_settings(unseen_dir=write_beeps(tmp_path / "dogs", ["dog_eve_0"])))
    (tmp_path / "noise").mkdir()
    with pytest.raises(config.UserError, match="noise"):
        noise.noise(make_settings(noise_dir=tmp_path / "noise"))


@pytest.mark.slow
def test_leave_one_speaker_out_trains_once_and_resumes(
    make_settings, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    settings = make_settings(
        protocol="speaker",
        models=("cnn",),
        model=config.ModelSettings(cnn_width=8),
        training=config.TrainingSettings(epochs=1, average_decay=0.0),
    )
    settings = dataclasses.replace(
        settings, data=dataclasses.replace(settings.data, corpora="fsdd")
    )
    evaluation.run(settings)
    first, told = read_result(settings, "speaker"), capsys.readouterr().out
    assert told.count("training without this speaker") == 2
    assert set(first["by_speaker"]) == {"ada", "bob"}
    assert all(item["vote"]["total"] == 100 for item in first["by_speaker"].values())
    (settings.results_dir / "speaker" / "seed0_bob.json").write_text('{"key": "half a f')
    evaluation.run(settings)
    again, told = read_result(settings, "speaker"), capsys.readouterr().out
    assert "ada: taken from" in told and told.count("training without this speaker") == 1
    assert again["by_speaker"] == first["by_speaker"]
    evaluation.run(dataclasses.replace(settings, seed=1))
    told = capsys.readouterr().out
    assert told.count("training without this speaker") == 2 and "mean of 2 seeds" in told


def test_folds_of_other_settings_are_not_taken(make_settings):
    settings = make_settings()
    key = speakers.fold_key(settings)
    assert key == speakers.fold_key(dataclasses.replace(settings, seed=3))
    for changed in (
        {"clean": "on"},
        {"training": config.TrainingSettings(epochs=2)},
        {"models": ("cnn",)},
        {"features": config.FeaturesSettings(n_mels=32)},
    ):
        other = dataclasses.replace(settings, **changed)
        assert speakers.fold_key(other) != key


def run_script(*words, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_DIR")}
    return subprocess.run(
        [sys.executable, MAIN / "evaluation.py", *map(str, words)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        env=clean | {"PYTHONIOENCODING": "utf-8"} | environment,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--protocol", "nosuch"], 2, "nosuch"),
        (["--decision.threshold", "2"], 2, "threshold"),
        (["--protocol", "adapt", "--speakers"], 2, "speakers is empty"),
        (["--protocol", "adapt", "--speakers", "george", "george"], 2, "names one twice"),
        (
            ["--protocol", "unseen", "--decision.models-dir", "nosuch"],
            1,
            "nosuch: no trained networks",
        ),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(words, code, told):
    done = run_script(*words)
    assert done.returncode == code
    assert told in done.stderr and done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_results_folder_that_cannot_be_made_is_one_line(tmp_path, fsdd_archive_path):
    save_networks(tmp_path / "models")
    (tmp_path / "file").write_text("in the way")
    done = run_script(
        "--decision.models-dir",
        tmp_path / "models",
        "--results-dir",
        tmp_path / "file" / "results",
        "--data.root",
        tmp_path / "data",
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.slow
def test_shipped_networks_on_the_real_test(tmp_path, fsdd_archive_path):
    if not list((MAIN / "saved_models").glob("*.pt")):
        pytest.skip("no networks are shipped in saved_models")
    done = run_script(
        "--decision.models-dir",
        MAIN / "saved_models",
        "--results-dir",
        tmp_path / "results",
        "--data.root",
        tmp_path / "data",
    )
    assert done.returncode == 0, done.stderr
    summary = read_json(tmp_path / "results" / "summary.json")
    assert summary["clips"] == 300 and len(summary["by_speaker"]) == 6
    assert summary["accuracy"]["vote"]["value"] >= 0.98
