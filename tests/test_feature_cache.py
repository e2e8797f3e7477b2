"""Features computed once: the same batches as without, and only where nothing is augmented."""

from __future__ import annotations

import contextlib
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import config
import train
from training.cached_views import CachedLoader
from training.data import TrainLoader
from training.feature_cache import KEPT, FeatureLoader
from training.settings import TrainingData, TrainSettings, window


@pytest.fixture
def plain(tmp_path) -> TrainSettings:
    """A run without augmentation, whose features may be cached."""
    return TrainSettings(
        data=config.DataSettings(root=tmp_path / "data", cache_features=True),
        augmentation=config.AugmentationSettings(off=True),
        training=config.TrainingSettings(batch_size=16, device="cpu"),
        models=("cnn",),
    )


@pytest.fixture
def clips(small_clips) -> TrainingData:
    windows = window(small_clips, config.AudioSettings())
    chosen = np.arange(len(windows)) % 10 == 3
    return TrainingData(
        windows[~chosen],
        small_clips.labels[~chosen],
        windows[chosen],
        small_clips.labels[chosen],
        "beeps",
        small_clips.corpus[~chosen],
    )


def made(kind, settings, clips, features=None):
    loader = kind(settings, clips, features or settings.features)
    loader.prepare()
    return loader


def batches(loader: TrainLoader) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Two epochs, then the validation clips."""
    with ThreadPoolExecutor(1) as pool:
        epochs = []
        for number in range(2):
            with contextlib.closing(loader.epoch(number, pool)) as epoch:
                epochs += list(epoch)
    return epochs + list(loader.validation())


def test_batches_are_those_without_the_cache(plain, clips):
    cached, computed = (batches(made(kind, plain, clips)) for kind in (FeatureLoader, TrainLoader))
    assert len(cached) == len(computed) > 20
    for one, other in zip(cached, computed, strict=True):
        torch.testing.assert_close(one[0], other[0], rtol=1e-4, atol=1e-4)
        assert torch.equal(one[1], other[1])


def test_off_leaves_every_clip_as_it_is(plain, clips):
    loader = made(TrainLoader, plain, clips)
    rows = np.arange(32)
    features, _ = loader.make(rows)
    expected = loader.front_end(torch.from_numpy(clips.training[rows] / np.float32(32768)))
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_the_next_run_computes_nothing_and_other_settings_everything(plain, clips, monkeypatch):
    computed = []
    write = FeatureLoader._write
    monkeypatch.setattr(
        FeatureLoader, "_write", lambda self, path: (computed.append(path), write(self, path))
    )
    for _ in range(2):
        made(FeatureLoader, plain, clips)
    assert len(computed) == 1
    made(FeatureLoader, plain, clips, dataclasses.replace(plain.features, n_mels=30))
    clips.validation[0, 0] += 1
    made(FeatureLoader, plain, clips)
    assert len(set(computed)) == 3


def test_a_damaged_file_is_made_anew_and_old_ones_go(plain, clips):
    whole = np.array(made(FeatureLoader, plain, clips).features)
    folder = plain.data.root / "cache/features"
    (path,) = folder.glob("*.npy")
    for size in (0, 50, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:size])
        assert np.array_equal(made(FeatureLoader, plain, clips).features, whole)
    for n_mels in range(20, 26):
        made(FeatureLoader, plain, clips, dataclasses.replace(plain.features, n_mels=n_mels))
    assert len(list(folder.glob("*.npy"))) == KEPT and not path.exists()


def test_with_augmentation_it_has_no_effect_and_says_so(plain, capsys):
    augmented = dataclasses.replace(plain, augmentation=config.AugmentationSettings())
    assert train.loader_kind(augmented, plain.features) is CachedLoader
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "data.cache-features has no effect" in errors
    assert train.loader_kind(plain, plain.features) is FeatureLoader
    assert capsys.readouterr().err == ""
    unasked = dataclasses.replace(plain, data=config.DataSettings())
    assert train.loader_kind(unasked, plain.features) is TrainLoader


def test_what_counts_as_augmentation():
    off = config.AugmentationSettings(off=True, noise=0.9)
    assert off.noise == 0 and not off.changes_clips
    assert config.AugmentationSettings().changes_clips
    recorded = dataclasses.replace(off, off=False, recorded=0.5)
    assert not recorded.changes_clips  # there is no folder of noise
    assert dataclasses.replace(recorded, noise_dir=config.PROGRAM_DIR).changes_clips


def test_a_whole_training_reads_its_features(plain, small_clips, tmp_path, monkeypatch):
    extra = small_clips.subset(np.arange(len(small_clips)))
    monkeypatch.setattr(
        "dataset_loader.load_training_clips", lambda *arguments: (None, extra, "beeps")
    )
    settings = dataclasses.replace(
        plain,
        training=dataclasses.replace(plain.training, epochs=1),
        runs_dir=tmp_path / "runs",
        save_dir=tmp_path / "models",
    )
    monkeypatch.setattr("training.settings.dataset_loader.keep_aside", _half, raising=False)
    summary = train.train(settings)
    assert (tmp_path / "models/cnn.pt").exists() and summary["corpora"] == "beeps"
    assert len(list((plain.data.root / "cache/features").glob("*.npy"))) == 1


def _half(clips, fraction, seed, reject):
    """One of the two speakers is kept aside."""
    from corpora.splits import KeptAside

    aside = clips.speakers == "bob"
    return KeptAside(aside, np.zeros_like(aside))
