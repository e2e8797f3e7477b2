"""One part off in turn, on untrained networks and synthetic recordings."""

import dataclasses

import numpy as np
import pytest
import torch
from untrained import read_result, settings_maker

import audio_augmentation
import config
import evaluation
from protocols import ablation
from training import augmentation_figure


@pytest.fixture
def make_settings(tmp_path, small_release):
    return settings_maker(tmp_path, small_release)


@pytest.mark.slow
def test_each_part_that_is_on_is_switched_off_once(make_settings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    off = dict.fromkeys(audio_augmentation.PARTS, 0.0)
    settings = make_settings(
        protocol="augmentation",
        speakers=("ada",),
        models=("cnn",),
        model=config.ModelSettings(cnn_width=8),
        training=config.TrainingSettings(epochs=1),
        augmentation=config.AugmentationSettings(**off | {"noise": 0.5, "recorded": 0.5}),
    )
    settings = dataclasses.replace(
        settings, data=dataclasses.replace(settings.data, corpora="fsdd")
    )
    evaluation.run(settings)
    result = read_result(settings, "augmentation")
    assert set(result["off"]) == {"nothing", "noise"}  # recorded needs a folder of noise
    assert (settings.results_dir / "augmentation.png").stat().st_size > 5000
    assert capsys.readouterr().out.count("training without this speaker") == 2
    evaluation.run(settings)
    assert "training without this speaker" not in capsys.readouterr().out


@pytest.mark.slow
def test_adapting_scores_the_clips_that_were_not_its_own(make_settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = make_settings(
        protocol="adapt",
        speakers=("ada", "bob"),
        models=("cnn",),
        model=config.ModelSettings(cnn_width=8),
        training=config.TrainingSettings(epochs=1),
    )
    settings = dataclasses.replace(
        settings, data=dataclasses.replace(settings.data, corpora="fsdd")
    )
    evaluation.run(settings)
    accuracy = read_result(settings, "adapt")["accuracy"]
    for state in ("a stranger", "adapted"):
        ada, bob, mean = (
            accuracy.pop(f"{name}, {state}")["vote"] for name in ("ada", "bob", "mean of 2")
        )
        assert (ada["total"], bob["total"], mean["total"]) == (70, 70, 140)
        assert mean["value"] == pytest.approx((ada["value"] + bob["value"]) / 2)
    assert not accuracy
    own = settings.results_dir / "adapt" / "seed0_ada" / "own"
    assert len(list(own.glob("*.wav"))) == 30


def test_cleaning_is_tried_stage_by_stage(make_settings, monkeypatch):
    monkeypatch.setattr(ablation, "ABLATION_SNR_DB", (None, 0))
    monkeypatch.setattr(ablation, "EVERY", 5)
    settings = make_settings(protocol="cleaning")
    evaluation.run(settings)
    result = read_result(settings, "cleaning")
    assert set(result["chains"]) == set(ablation.chains(settings.cleaning))
    for levels in result["chains"].values():
        clean, noisy = (level["accuracy"] for level in levels)
        assert noisy["total"] == 3 * clean["total"] == 3 * result["clips"]


def test_every_chain_differs_from_the_one_that_is_set():
    chains = ablation.chains(config.CleaningSettings())
    default = chains.pop("as set")
    assert all(chain != default for chain in chains.values())


@pytest.mark.parametrize("part", sorted({*audio_augmentation.PARTS} - {"recorded"}))
def test_the_figure_shows_what_each_part_does(part):
    time = np.arange(8000) / 8000
    clip = (0.3 * np.sin(2 * np.pi * (300 + 900 * time) * time) * np.hanning(8000)).astype(
        np.float32
    )
    clip[:1500] = clip[-1500:] = 0
    differences = []
    for seed in range(4):
        settings = augmentation_figure.FigureSettings(seed=seed)
        plain, changed = (
            augmentation_figure.features_under(clip, name, settings) for name in ("as it is", part)
        )
        differences.append(np.abs(plain - changed).max())
    if part not in ("gain", "trim", "clipping"):  # the level is taken out, nothing lies around
        assert max(differences) > 0.1


def test_parts_name_all_switches():
    names = {
        item.name
        for item in dataclasses.fields(config.AugmentationSettings)
        if isinstance(item.default, float) and not item.name.endswith("_range")
    }
    assert names == set(audio_augmentation.PARTS)


def test_the_figure_is_drawn(tmp_path):
    torch.manual_seed(0)
    augmentation_figure.run(augmentation_figure.FigureSettings(output=tmp_path / "a.png"))
    assert (tmp_path / "a.png").stat().st_size > 20_000
