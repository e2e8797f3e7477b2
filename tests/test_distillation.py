"""A student learns a teacher's vote: what both hear, what it costs, who can't teach."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from untrained import AUDIO, FEATURES, checkpoint, save_networks
from waiting import PATIENCE

import config
import languages
import train
from audio_feature_extraction import FrontEnd
from models import counting, registry
from models.oh import fold_oh
from recognition.checkpoint import load_checkpoint, save_checkpoint
from recognition.prediction import vote
from recognition.predictor import Predictor
from training.cached_views import CachedLoader, labels_path
from training.distillation import DistillationLoader, Teacher, distillation_loss
from training.settings import TrainingData, TrainSettings, window
from training.trainer import Trainer

ROOT = Path(__file__).parent.parent
SINGLE = dataclasses.replace(FEATURES, tempos=(1.0,))


@pytest.fixture
def teacher(tmp_path) -> Path:
    return save_networks(tmp_path / "teacher")


@pytest.fixture
def settings(tmp_path, teacher) -> TrainSettings:
    return TrainSettings(
        data=config.DataSettings(root=tmp_path / "data"),
        audio=AUDIO,
        features=FEATURES,
        augmentation=config.AugmentationSettings(spliced_reversed=0.3, spec_augment=0.0),
        model=config.ModelSettings(lightweight_width=16),
        training=config.TrainingSettings(batch_size=20, epochs=3, views=2, device="cpu"),
        save_dir=tmp_path / "models",
        runs_dir=tmp_path / "runs",
        teacher=teacher,
    )


@pytest.fixture
def data(small_clips) -> TrainingData:
    windows = window(small_clips, AUDIO)
    chosen = np.arange(len(windows)) % 10 == 3
    return TrainingData(
        windows[~chosen],
        small_clips.labels[~chosen],
        windows[chosen],
        small_clips.labels[chosen],
        "beeps",
        small_clips.corpus[~chosen],
    )


def loader_of(settings: TrainSettings, data: TrainingData) -> DistillationLoader:
    return DistillationLoader(settings, data, settings.features, Teacher(settings.teacher, AUDIO))


def test_the_teacher_hears_each_view_as_the_student_does(settings, data, teacher):
    for path in teacher.glob("*.pt"):
        save_checkpoint(path, dataclasses.replace(load_checkpoint(path), features=SINGLE))
    loader = loader_of(settings, data)
    loader.prepare()
    predictor = Predictor(config.DecisionSettings(models_dir=teacher))
    ((first, second),) = loader.paths
    for path in (first, second):
        features = torch.from_numpy(np.load(path)).float()
        with torch.inference_mode():
            logits = {
                name: fold_oh(network(features), False)
                for name, (_, network) in predictor.networks.items()
            }
        expected = vote(predictor.calibrated(logits), predictor.vote_weights)
        stored = np.load(loader.files(path)[2]).astype(np.float32)
        assert np.abs(stored - expected).max() < 0.02 < np.abs(stored - 1 / 11).max()


def test_every_front_end_of_the_teacher_is_warped_alike(settings, data, teacher, monkeypatch):
    path = teacher / "rnn.pt"
    finer = dataclasses.replace(FEATURES, n_fft=2 * FEATURES.n_fft)
    save_checkpoint(path, dataclasses.replace(load_checkpoint(path), features=finer))
    loader, states = loader_of(settings, data), []
    augmenter = loader._augmenter(settings.augmentation)
    warped = augmenter.spectrograms

    def noted(power):
        states.append((power.shape[1], augmenter.random.get_state()))
        made = warped(power)
        states.append((power.shape[1], augmenter.random.get_state()))
        return made

    monkeypatch.setattr(augmenter, "spectrograms", noted)
    loader.of_part(loader._waveforms(data.training[:64]), augmenter)
    bins = [FEATURES.n_fft // 2 + 1, FEATURES.n_fft + 1]
    assert [size for size, _ in states[::2]] == [bins[0], *bins]  # the student, then the networks
    assert all(torch.equal(states[0][1], state) for _, state in states[::2])
    assert all(torch.equal(states[1][1], state) for _, state in states[1::2])
    assert not torch.equal(states[0][1], states[1][1])


def test_votes_lie_beside_views_that_any_run_shares(settings, data, teacher, monkeypatch):
    plain = CachedLoader(dataclasses.replace(settings, teacher=None), data, settings.features)
    plain.prepare()
    before = {path: path.read_bytes() for path in plain.folder.iterdir()}
    computed = []
    of_part = DistillationLoader.of_part
    monkeypatch.setattr(
        DistillationLoader, "of_part", lambda *a: (computed.append(1), of_part(*a))[1]
    )
    loader = loader_of(settings, data)
    for expected in (6, 6):  # two views of 180 clips in parts of 64; nothing the second time
        loader.prepare()
        assert len(computed) == expected
    after = {path: path.read_bytes() for path in plain.folder.iterdir()}
    assert before.items() < after.items() and len(after) == 1.5 * len(before)
    save_networks(teacher, seed=5)
    loader_of(settings, data).prepare()
    assert len(computed) == 12 and len([*plain.folder.iterdir()]) == 2 * len(before)


def test_targets_are_the_label_where_it_is_known_and_the_vote(settings, data):
    loader = loader_of(settings, data)
    loader.prepare()
    labels, votes, known = (item[0] for item in loader.stored_targets(0))
    own = data.training_labels[np.concatenate(loader.chunks)]
    assert 0 < known.sum() < len(known) and np.array_equal(labels[known], own[known])
    stored = [torch.from_numpy(item) for item in (labels, votes, known)]
    hard, soft = loader.batch_targets(*stored).split([12, 11], dim=1)
    torch.testing.assert_close(hard.sum(1), torch.ones(len(hard)))
    torch.testing.assert_close(soft, torch.from_numpy(votes).float(), atol=1e-3, rtol=0)
    assert torch.equal(hard[known], F.one_hot(stored[0][known], 12).float())
    assert torch.equal(hard[~known][:, :11], soft[~known])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_loss_is_zero_for_the_teachers_own_answers_and_leaves_oh_to_the_labels(temperature):
    logits = torch.randn(8, 12, requires_grad=True)
    votes = fold_oh(logits.detach(), False).softmax(1)
    hard = F.one_hot(torch.full((8,), config.OH), 12).float()
    targets = torch.cat([hard, votes], dim=1)
    loss = distillation_loss(logits, targets, 1.0, temperature)
    assert abs(loss.item()) < 1e-5
    distillation_loss(logits, targets, 0.5, temperature).backward()
    assert (logits.grad[:, config.OH] < 0).all() and (logits.grad[:, config.REJECT] > 0).all()
    alone = distillation_loss(logits, targets, 0.0, temperature)
    torch.testing.assert_close(alone, F.cross_entropy(logits, hard))


def test_a_student_is_one_small_network_at_a_single_tempo(tmp_path):
    student = TrainSettings(teacher=tmp_path)
    assert student.models == ("lightweight",) and student.features.tempos == (1.0,)
    assert student.save_dir == Path("saved_models/student")
    bands = FrontEnd(student.features, student.audio.sample_rate)
    assert len(bands.tempo_augmented(torch.zeros(1, student.audio.clip_samples))) == 1
    arguments = registry.model_arguments("lightweight", student.model, "log_mel")
    network = registry.create_model("lightweight", bands.n_features, **arguments)
    assert counting.count_multiply_adds(network, bands.n_features, 101) <= 3_000_000
    assert TrainSettings(teacher=tmp_path, models=("cnn",), save_dir=tmp_path).save_dir == tmp_path
    with pytest.raises(config.UserError, match="a student is one network, not cnn, mlp"):
        TrainSettings(teacher=tmp_path, models=("cnn", "mlp"))
    with pytest.raises(config.UserError, match=r"training.views is 0: use at least 1"):
        TrainSettings(teacher=tmp_path, training=config.TrainingSettings(views=0))


def test_a_student_comes_to_answer_as_its_teacher(settings, data, teacher):
    training = dataclasses.replace(
        settings.training, epochs=25, learning_rate=0.02, teacher_share=1.0
    )
    off = config.AugmentationSettings(off=True)
    settings = dataclasses.replace(settings, training=training, augmentation=off)
    voted = Predictor(config.DecisionSettings(models_dir=teacher))

    def answers(windows):
        clips = windows.astype(np.float32) / 32768
        return vote(voted.posteriors(clips), voted.vote_weights).argmax(1)

    data.validation_labels = answers(data.validation)  # they choose the epoch
    summary = train.train(settings, data)
    assert list(summary["models"]) == ["lightweight"] and summary["corpora"] == "beeps"
    student = load_checkpoint(settings.save_dir / "lightweight.pt")
    assert student.features.tempos == (1.0,)
    assert set(student.record["teacher_sha256"]) == {"cnn.pt", "rnn.pt"}
    assert "teacher" not in student.record["settings"]
    ours = Predictor(config.DecisionSettings(models_dir=settings.save_dir))
    theirs, clips = answers(data.training), data.training.astype(np.float32) / 32768
    same = (ours.posteriors(clips)["lightweight"].argmax(1) == theirs).mean()
    likeliest = np.bincount(theirs).max() / len(theirs)
    assert same > max(0.6, likeliest + 0.1)


def test_a_broken_off_run_ends_where_an_unbroken_one_does(settings, data, tmp_path, monkeypatch):
    whole = dataclasses.replace(settings, save_dir=tmp_path / "a", runs_dir=tmp_path / "a/runs")
    train.train(whole, data)
    broken = dataclasses.replace(settings, save_dir=tmp_path / "b", runs_dir=tmp_path / "b/runs")
    end_epoch = Trainer.end_epoch

    def interrupted(self, validation):
        if self.epoch == 1:
            raise KeyboardInterrupt
        return end_epoch(self, validation)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "end_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.train(broken, data)
    train.train(dataclasses.replace(broken, resume=True), data)
    one, other = (load_checkpoint(tmp_path / name / "lightweight.pt").weights for name in "ab")
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    save_networks(settings.teacher, seed=7)
    with pytest.raises(config.UserError, match="files are others than those that .* begun with"):
        train.train(dataclasses.replace(broken, resume=True), data)


def test_a_student_does_not_join_the_vote_of_its_teacher(tmp_path):
    save_networks(tmp_path)
    save_networks(tmp_path / "student", ("cnn",), seed=3)
    assert Predictor(config.DecisionSettings(models_dir=tmp_path)).names == ["cnn", "rnn"]


def spoiled(folder: Path, problem: str) -> None:
    path = folder / "cnn.pt"
    if problem == "missing":
        for file in folder.glob("*.pt"):
            file.unlink()
        folder.rmdir()
    elif problem == "empty folder":
        for file in folder.glob("*.pt"):
            file.unlink()
    elif problem == "damaged":
        path.write_bytes(path.read_bytes()[:1000])
    elif problem == "other labels":
        save_checkpoint(path, checkpoint(vocabulary=languages.vocabulary("fr")))
    else:
        save_checkpoint(path, checkpoint(audio=dataclasses.replace(AUDIO, sample_rate=16000)))


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("missing", "no trained networks there (no such folder)"),
        ("empty folder", "no trained networks there"),
        ("damaged", "cnn.pt"),
        ("other labels", "cnn knows the digits in 'fr', rnn the digits in 'en'"),
        ("other rate", "cnn in {teacher} takes 1 s at 16000 Hz"),
    ],
)
def test_what_can_not_teach_is_one_line_before_anything_is_loaded(
    settings, teacher, monkeypatch, problem, told
):
    monkeypatch.setattr(train, "prepare_data", lambda _: pytest.fail("clips were loaded"))
    spoiled(teacher, problem)
    with pytest.raises(config.UserError) as error:
        train.train(settings)
    line = str(error.value)
    assert line.startswith("--teacher: ") and told.format(teacher=teacher) in line
    assert "\n" not in line and not settings.runs_dir.exists()


def test_the_script_says_so_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "train.py", "--teacher", str(tmp_path / "nobody")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1 and done.stderr.startswith("error: --teacher: ")
    assert done.stderr.count("\n") == 1 and not done.stdout


def test_labels_and_votes_are_whole_or_absent(settings, data):
    """A view whose votes are missing is made again, and comes out as it was."""
    loader = loader_of(settings, data)
    loader.prepare()
    path = loader.paths[0][1]
    before = {file: file.read_bytes() for file in loader.files(path)}
    loader.files(path)[2].unlink()
    labels_path(path).unlink()
    loader.prepare()
    assert {file: file.read_bytes() for file in loader.files(path)} == before
