"""The networks of a folder and their vote."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from untrained import FEATURES, checkpoint

import audio_io
import config
from models import registry
from recognition.checkpoint import load_checkpoint, save_checkpoint
from recognition.prediction import vote
from recognition.predictor import Predictor

RATE = 8000


@pytest.fixture
def folder(tmp_path):
    for name in ("cnn", "rnn"):
        save_checkpoint(tmp_path / f"{name}.pt", checkpoint(name))
    return tmp_path


def predictor(folder, **changes) -> Predictor:
    return Predictor(config.DecisionSettings(models_dir=folder, **changes))


def clip(seed: int, samples: int = 4000) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def test_posteriors_add_up_and_answers_are_consistent(folder):
    for answer in predictor(folder).predict_batch([clip(n) for n in range(5)]):
        assert answer.posteriors.sum() + answer.reject_probability == pytest.approx(1, abs=1e-5)
        assert answer.best_guess == answer.posteriors.argmax()
        assert answer.confidence == pytest.approx(answer.posteriors.max())
        assert (answer.digit is not None) == answer.accepted
        assert set(answer.predictions) == {"cnn", "rnn"}
        assert answer.latency_ms > 0


def test_batch_and_single_agree_and_order_is_kept(folder):
    voices, clips = predictor(folder), [clip(n, 2000 + 900 * n) for n in range(6)]
    clips[2] = clips[2][:0]
    for together, wave in zip(voices.predict_batch(clips), clips, strict=True):
        alone = voices.predict(wave)
        assert alone.digit == together.digit and alone.best_guess == together.best_guess
        np.testing.assert_allclose(alone.posteriors, together.posteriors, atol=1e-4)


def test_nothing_heard_is_no_digit(folder):
    answer = predictor(folder).predict(np.zeros(0, np.float32))
    assert answer.digit is None and not answer.accepted and answer.confidence == 0


def test_the_operating_point_is_a_setting(folder):
    assert predictor(folder).threshold == 0.4
    assert Predictor(config.DecisionSettings(models_dir=folder), ("rnn",)).threshold == 0.3
    assert not predictor(folder, threshold=1.0).predict(clip(0)).accepted


@given(seed=st.integers(0, 9999), count=st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_the_odds_of_the_vote_lie_between_its_voters(seed, count):
    random = np.random.default_rng(seed)
    voters = {str(n): random.dirichlet(np.ones(11), 7).astype(np.float32) for n in range(count)}
    voted, stacked = vote(voters), np.stack(list(voters.values()))
    np.testing.assert_allclose(voted.sum(1), 1, atol=1e-5)
    odds = np.log(voted[:, 3] / voted[:, 7])
    theirs = np.log(stacked[:, :, 3].clip(1e-7) / stacked[:, :, 7].clip(1e-7))
    assert (odds <= theirs.max(0) + 1e-4).all() and (odds >= theirs.min(0) - 1e-4).all()


def test_one_network_alone_can_not_veto():
    sure, blind = np.full((1, 11), 1e-4, np.float32), np.full((1, 11), 0.1, np.float32)
    sure[0, 3], blind[0, 3] = 0.999, 0.0
    assert 0 < vote({"a": sure, "b": blind})[0, 3] < 1


def test_the_surer_network_wins():
    sure, unsure = np.full((1, 11), 0.01, np.float32), np.full((1, 11), 0.06, np.float32)
    sure[0, 3], unsure[0, 7] = 0.90, 0.40
    assert vote({"a": sure, "b": unsure}).argmax() == 3


def test_missing_and_empty_folders_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "PROGRAM_DIR", tmp_path / "program")
    with pytest.raises(config.UserError, match="python train.py"):
        predictor(tmp_path)
    with pytest.raises(config.UserError, match="no such model file"):
        load_checkpoint(tmp_path / "cnn.pt")


@pytest.mark.parametrize(
    "audio", [config.AudioSettings(8000, 2.0), config.AudioSettings(16000, 1.0)]
)
def test_networks_of_other_rates_and_windows_vote_together(folder, audio):
    alone = predictor(folder).logits(np.stack([clip(0), clip(1)]))["cnn"]
    features = FEATURES if audio.sample_rate == 8000 else config.FeaturesSettings()
    weights = registry.create_model("rnn", features.n_mels, width=16).state_dict()
    save_checkpoint(
        folder / "rnn.pt", checkpoint("rnn", audio=audio, features=features, weights=weights)
    )
    both = predictor(folder)
    assert both.audio.sample_rate == audio.sample_rate
    assert both.audio.clip_seconds == audio.clip_seconds
    waveforms = [audio_io.resample(clip(number), 8000, both.audio.sample_rate) for number in (0, 1)]
    logits = both.logits(np.stack([both.prepare(waveform) for waveform in waveforms]))
    assert set(logits) == {"cnn", "rnn"}
    # what the first network hears is what it heard alone, but for the resampling there and back
    assert (logits["cnn"].argmax(1) == alone.argmax(1)).all()
    assert torch.nn.functional.cosine_similarity(logits["cnn"], alone).min() > 0.98


def test_networks_of_other_features_may_vote_together(folder):
    features = dataclasses.replace(FEATURES, kind="mfcc")
    weights = registry.create_model("rnn", 60, width=16).state_dict()
    save_checkpoint(folder / "rnn.pt", checkpoint("rnn", features=features, weights=weights))
    assert set(predictor(folder).predict(clip(0)).predictions) == {"cnn", "rnn"}
