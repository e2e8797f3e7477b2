"""Stored settings: what earlier versions wrote, and which run --resume goes on with."""

import dataclasses
import json

import pytest

import config
from training import run_folder
from training.settings import TrainSettings

OLD = {
    "data": {"corpora": "fsdd", "root": "/elsewhere", "fsdd_archive": None, "protocol": "speaker"},
    "features": {"n_mels": 40, "mel_scale": "slaney"},
    "augmentation": {"garble": 0.02, "spec_mask": 0.3, "mixup": 0.0, "snr_db": [-8.0, 22.0]},
    "training": {"epochs": 3, "threads": 2},
    "models": ["cnn", "rnn"],
    "seed": 0,
    "save_dir": "/elsewhere/models",
}
"""Part of a settings.json from before settings were renamed."""


def same_today(tmp_path, **changes) -> TrainSettings:
    return TrainSettings(
        data=config.DataSettings(corpora="fsdd", split="speaker"),
        augmentation=config.AugmentationSettings(spliced_reversed=0.02, spec_augment=0.3),
        features=config.FeaturesSettings(n_mels=40),
        training=config.TrainingSettings(epochs=3),
        runs_dir=tmp_path,
        resume=True,
        **changes,
    )


def write_old(tmp_path, name="20250101-000000", **changes):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(OLD | changes))
    return folder


def test_old_names_become_new_ones_and_what_is_gone_goes():
    migrated = run_folder.migrate_settings(OLD)
    assert migrated["data"]["split"] == "speaker" and "protocol" not in migrated["data"]
    assert migrated["augmentation"] == {
        "spliced_reversed": 0.02,
        "spec_augment": 0.3,
        "snr_db": [-8.0, 22.0],
    }
    assert migrated["features"] == {"n_mels": 40}
    assert run_folder.migrate_settings(migrated) == migrated


def test_a_run_of_an_earlier_version_is_resumed(tmp_path):
    old = write_old(tmp_path)
    assert run_folder.open_run(same_today(tmp_path)) == old


@pytest.mark.parametrize(("stored", "names"), [(False, []), (True, ["oh"])])
def test_the_synthetic_speakers_of_earlier_versions_are_told_from_todays(tmp_path, stored, names):
    then = {"espeak_clips": 10, "other_words": 5, "include_oh": stored}
    migrated = run_folder.migrate_settings({"synthetic": then})
    assert migrated["synthetic"] == {
        "espeak_clips": 10,
        "other_words": 5,
        "alternatives": names,
        "vocabulary": "evaluation",
        "foreign_digits": 0,
    }
    assert run_folder.migrate_settings(migrated) == migrated
    config.SyntheticSettings(**migrated["synthetic"])
    old = write_old(tmp_path, synthetic=then)
    with pytest.raises(config.UserError, match="--synthetic.vocabulary is evaluation there"):
        run_folder.open_run(same_today(tmp_path))
    as_then = config.SyntheticSettings(
        espeak_clips=10,
        other_words=5,
        vocabulary="evaluation",
        foreign_digits=0,
        alternatives=tuple(names),
    )
    assert run_folder.open_run(same_today(tmp_path, synthetic=as_then)) == old


def test_a_removed_setting_that_was_turned_can_not_be_resumed(tmp_path):
    write_old(tmp_path, augmentation=OLD["augmentation"] | {"mixup": 0.2})
    with pytest.raises(config.UserError, match="--augmentation.mixup is 0.2 there"):
        run_folder.open_run(same_today(tmp_path))


def test_places_and_threads_may_differ(tmp_path):
    first = dataclasses.replace(same_today(tmp_path), resume=False)
    run = run_folder.open_run(first)
    moved = dataclasses.replace(
        same_today(tmp_path, save_dir=tmp_path / "other"),
        data=dataclasses.replace(
            first.data, root=tmp_path, fsdd_archive=tmp_path / "fsdd.zip", fsdd_url="file:x"
        ),
        training=dataclasses.replace(first.training, threads=2),
    )
    assert run_folder.open_run(moved) == run


def test_the_setting_that_differs_is_named(tmp_path):
    write_old(tmp_path, "20250101-000000", seed=3)
    write_old(tmp_path, "20250102-000000", seed=3, models=["cnn"])
    with pytest.raises(config.UserError) as complaint:
        run_folder.open_run(same_today(tmp_path))
    assert "nearest is 20250101-000000: --seed is 3 there and 0 here." in str(complaint.value)
    assert "\n" not in str(complaint.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"data": '])
def test_damaged_settings_are_one_line(tmp_path, content):
    (write_old(tmp_path) / "settings.json").write_bytes(content)
    with pytest.raises(config.UserError, match=r"settings.json: damaged; remove the folder"):
        run_folder.open_run(same_today(tmp_path))


def test_half_files_of_a_killed_run_are_removed(tmp_path):
    (write_old(tmp_path) / ".cnn.state-abc.pt").write_bytes(b"half")
    run = run_folder.open_run(same_today(tmp_path))
    assert [path.name for path in run.iterdir()] == ["settings.json"]
