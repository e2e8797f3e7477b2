"""Views of the clips kept in files: found again, made anew where anything differs, well labelled.

The pretrained encoder stands in with one layer of random weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import config
import speech_encoder
import train
from recognition.predictor import Predictor
from training import cached_views
from training.cached_views import CachedLoader, labels_path
from training.settings import TrainingData, TrainSettings, window

ONE_LAYER = dataclasses.replace(config.encoder_features(), encoder_layers=1)
OFF = config.AugmentationSettings(off=True)
VIEWS = 2


def write_encoder(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    speech_encoder.save_encoder(path, speech_encoder.SpeechEncoder(layers=1), {})
    speech_encoder.shared_encoder.cache_clear()


@pytest.fixture
def encoder_file(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "encoder.pt"
    write_encoder(path, 0)
    monkeypatch.setattr(config, "ENCODER_FILE", path)
    return path


@pytest.fixture
def settings(tmp_path, monkeypatch) -> TrainSettings:
    monkeypatch.setattr(cached_views, "CHUNK", 8)
    return TrainSettings(
        data=config.DataSettings(root=tmp_path / "data"),
        features=ONE_LAYER,
        model=config.ModelSettings(rnn_width=8),
        training=config.TrainingSettings(
            batch_size=10, epochs=2, encoder_views=VIEWS, views=4, device="cpu"
        ),
        models=("rnn",),
        runs_dir=tmp_path / "runs",
        save_dir=tmp_path / "models",
    )


@pytest.fixture
def clips(small_clips) -> TrainingData:
    """Forty clips to train on, of two corpora, and ten to validate on."""
    few = small_clips.subset(np.flatnonzero(small_clips.takes < 3))
    windows = window(few, config.AudioSettings())
    chosen = (few.takes == 2) & (few.speakers == "bob")
    taught = few.takes < 2
    return TrainingData(
        windows[taught],
        few.labels[taught],
        windows[chosen],
        few.labels[chosen],
        "beeps",
        np.where(few.speakers[taught] == "ada", "one", "two"),
    )


@pytest.fixture
def computed(monkeypatch) -> list[Path]:
    """The files that were computed, as they are."""
    paths, original = [], CachedLoader.compute

    def counted(self, chunk, path):
        original(self, chunk, path)
        paths.append(path)

    monkeypatch.setattr(CachedLoader, "compute", counted)
    return paths


def made(settings: TrainSettings, clips: TrainingData) -> CachedLoader:
    loader = CachedLoader(settings, clips, settings.features)
    loader.prepare()
    return loader


def epoch(loader: CachedLoader, number: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and labels of an epoch, the batches joined."""
    with ThreadPoolExecutor(1) as pool, contextlib.closing(loader.epoch(number, pool)) as batches:
        features, targets = zip(*batches, strict=True)
    return torch.cat(features), torch.cat(targets).argmax(1)


def test_a_second_run_finds_every_view_and_draws_the_same_batches(
    encoder_file, settings, clips, computed
):
    first = epoch(made(settings, clips), 1)
    assert len(set(computed)) == len(computed) == 6 * VIEWS  # 20 clips a corpus, 8 a file
    second = epoch(made(settings, clips), 1)
    assert len(computed) == 6 * VIEWS
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert first[0].shape == (40, speech_encoder.WIDTH, 25)


@pytest.mark.parametrize("change", ["encoder", "augmentation", "seed", "front end", "level"])
def test_whatever_features_depend_on_makes_others(encoder_file, settings, clips, computed, change):
    made(settings, clips)
    before = set(computed)
    if change == "encoder":
        write_encoder(encoder_file, 1)
    changed = {
        "encoder": settings,
        "augmentation": dataclasses.replace(
            settings, augmentation=config.AugmentationSettings(noise=0.6)
        ),
        "seed": dataclasses.replace(settings, seed=1),
        "front end": dataclasses.replace(
            settings, features=dataclasses.replace(ONE_LAYER, encoder_pool=1)
        ),
        "level": dataclasses.replace(settings, audio=config.AudioSettings(level_dbfs=-20.0)),
    }[change]
    made(changed, clips)
    assert len(computed) == 2 * len(before) and not before & set(computed[len(before) :])


def test_a_changed_clip_costs_its_own_file_and_another_corpus_none(
    encoder_file, settings, clips, computed
):
    made(settings, clips)
    clips.training[0, 0] += 1
    made(settings, clips)
    assert len(computed) == 7 * VIEWS
    one = clips.corpus == "one"
    alone = dataclasses.replace(
        clips,
        training=clips.training[one],
        training_labels=clips.training_labels[one],
        corpus=clips.corpus[one],
    )
    made(settings, alone)
    assert len(computed) == 7 * VIEWS


def test_an_interrupted_run_computes_what_is_missing(
    encoder_file, settings, clips, computed, monkeypatch
):
    whole = epoch(
        made(
            dataclasses.replace(
                settings, data=config.DataSettings(root=Path(settings.data.root.parent / "other"))
            ),
            clips,
        )
    )
    computed.clear()
    counted = CachedLoader.compute

    def fails(self, chunk, path):
        if len(computed) >= 5:
            raise OSError("disk full")
        counted(self, chunk, path)

    with monkeypatch.context() as broken:
        broken.setattr(CachedLoader, "compute", fails)
        with pytest.raises(OSError, match="disk full"):
            made(settings, clips)
    done = set(computed)
    assert 5 <= len(done) < 6 * VIEWS
    lost = computed[0]
    labels_path(lost).unlink()  # killed between the two files
    computed.clear()
    loader = made(settings, clips)
    every = {path for paths in loader.paths for path in paths}
    assert set(computed) == (every - done) | {lost}
    resumed = epoch(loader)
    assert torch.equal(resumed[0], whole[0]) and torch.equal(resumed[1], whole[1])


def test_every_clip_comes_once_with_its_own_label(settings, clips):
    plain = dataclasses.replace(
        settings, augmentation=OFF, features=config.FeaturesSettings(), models=("cnn",)
    )
    loader = made(plain, clips)
    features, labels = epoch(loader)
    alone = loader.front_end(torch.from_numpy(clips.training / np.float32(32768)))
    nearest = torch.cdist(features.flatten(1), alone.flatten(1)).argmin(1)
    assert sorted(nearest.tolist()) == list(range(40))
    assert labels.tolist() == clips.training_labels[nearest].tolist()


def test_labels_follow_the_augmentation(encoder_file, settings, clips):
    def labels(**parts):
        augmentation = dataclasses.replace(OFF, off=False, **parts)
        return epoch(made(dataclasses.replace(settings, augmentation=augmentation), clips))[1]

    assert sorted(labels(noise=1.0).tolist()) == sorted(clips.training_labels.tolist())
    assert (labels(non_speech=1.0) == config.REJECT).all()
    some = (labels(non_speech=0.5) == config.REJECT).float().mean()
    assert 0.1 < some < 0.9


def test_repeats_of_a_clip_show_different_views(settings, clips):
    """Ten clips of ten digits, so that the label tells the clip."""
    rows = np.flatnonzero(clips.corpus == "one")[::2]
    assert sorted(clips.training_labels[rows]) == list(range(10))
    ten = dataclasses.replace(
        clips,
        training=clips.training[rows],
        training_labels=clips.training_labels[rows],
        corpus=clips.corpus[rows],
        repeats=np.where(clips.training_labels[rows] == 7, 1, 12),
    )
    moved = dataclasses.replace(OFF, off=False, tempo=1.0, shift=1.0)
    training = dataclasses.replace(settings.training, epochs=4)
    loader = made(
        dataclasses.replace(
            settings,
            augmentation=moved,
            features=config.FeaturesSettings(),
            models=("cnn",),
            training=training,
        ),
        ten,
    )
    features, labels = epoch(loader)
    shown = {digit: len(features[labels == digit].flatten(1).unique(dim=0)) for digit in range(10)}
    assert shown.pop(7) == 1
    assert all(2 <= count <= loader.views == 4 for count in shown.values()), shown
    again, other = (epoch(loader, number)[0] for number in (0, 1))
    assert torch.equal(again, features) and not torch.equal(other, features)


def with_own(clips: TrainingData) -> TrainingData:
    """One of the two speakers is somebody who labelled the clips."""
    corpus = np.where(clips.corpus == "one", cached_views.OWN, clips.corpus)
    repeats = np.where(corpus == cached_views.OWN, 20, 1)
    return dataclasses.replace(clips, corpus=corpus, repeats=repeats)


def test_adapting_behind_the_encoder_takes_the_own_clips_and_a_share_of_the_others(
    encoder_file, settings, clips, computed, monkeypatch
):
    """What the first training kept serves again: only the own clips go through the encoder."""
    monkeypatch.setattr(cached_views, "REHEARSED", 2)
    others = clips.corpus == "two"
    before = dataclasses.replace(
        clips,
        training=clips.training[others],
        training_labels=clips.training_labels[others],
        corpus=clips.corpus[others],
    )
    train.train(settings, before)
    assert len(computed) == 3 * VIEWS  # twenty clips
    computed.clear()
    adapt = dataclasses.replace(settings, init=settings.save_dir, overwrite=True)
    loader = made(adapt, with_own(clips))
    assert len(computed) == 3 * cached_views.OWN_VIEWS
    own = loader.training_data.corpus[np.concatenate(loader.chunks)] == cached_views.OWN
    assert (own.sum(), (~own).sum()) == (20, 16)  # two of three chunks
    assert len(loader.rows) == 20 * 20 + 16
    features, labels = epoch(loader)
    assert len(features) == len(labels) == 410
    shown = features[labels == 3].flatten(1).unique(dim=0)
    assert len(shown) > 2 * VIEWS
    computed.clear()
    train.train(adapt, with_own(clips))
    assert not computed


@pytest.mark.parametrize("change", ["not adapting", "no encoder", "no own clips"])
def test_all_clips_are_learnt_unless_the_encoder_adapts(encoder_file, settings, clips, change):
    changes = {} if change == "not adapting" else {"init": settings.save_dir}
    if change == "no encoder":
        changes |= {"features": config.FeaturesSettings(), "models": ("cnn",)}
    settings = dataclasses.replace(settings, **changes)
    data = clips if change == "no own clips" else with_own(clips)
    loader = CachedLoader(settings, data, settings.features)
    assert sum(map(len, loader.chunks)) == 40
    assert set(loader.views_of) >= {VIEWS}


def test_a_dry_run_computes_one_view_of_two_batches(encoder_file, settings, clips, computed):
    loader = made(
        dataclasses.replace(
            settings, dry_run=True, training=dataclasses.replace(settings.training, batch_size=3)
        ),
        clips,
    )
    assert len(computed) == 1 and len(epoch(loader)[1]) == 6


def test_a_bilstm_trains_behind_the_encoder_and_a_second_run_is_the_same(
    encoder_file, settings, clips, computed
):
    histories = []
    for run in ("first", "second"):
        changed = dataclasses.replace(
            settings, runs_dir=settings.runs_dir / run, save_dir=settings.save_dir / run
        )
        folder = Path(train.train(changed, clips)["folder"])
        histories.append(json.loads((folder / "history.json").read_text())["rnn"])
    assert len(computed) == 6 * VIEWS and histories[0] == histories[1]
    decision = config.DecisionSettings(models_dir=settings.save_dir / "second")
    predictor = Predictor(decision)
    assert predictor.checkpoints["rnn"].features == ONE_LAYER
    write_encoder(encoder_file, 1)
    with pytest.raises(config.UserError, match="trained with another speech encoder than"):
        Predictor(decision)


def test_old_files_of_other_runs_make_room_and_the_run_keeps_its_own(
    encoder_file, settings, clips, monkeypatch
):
    made(settings, clips)
    other = dataclasses.replace(settings, seed=1)
    old = set((settings.data.root / "cache" / "views").glob("*.npy"))
    monkeypatch.setattr(cached_views, "KEPT_BYTES", 1)
    loader = made(other, clips)
    ours = {path for paths in loader.paths for path in paths}
    left = set((settings.data.root / "cache" / "views").glob("*.npy"))
    assert left == ours | {labels_path(path) for path in ours} and not left & old
