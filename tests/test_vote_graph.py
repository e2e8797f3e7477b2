"""The way from samples to the vote, in one module, against the Predictor."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from small_vote import AUDIO, LOG_MEL, RATE, encoder_of, network, padded, save_small_vote, sounds

import config
from audio_feature_extraction import prepare_clip
from models.registry import create_model
from recognition.checkpoint import Checkpoint, save_checkpoint
from recognition.prediction import vote
from recognition.predictor import Predictor
from recognition.vote_graph import LevelAndLength, VoteGraph


@pytest.fixture
def folder(tmp_path):
    save_small_vote(tmp_path)
    with encoder_of(tmp_path):
        yield tmp_path


def expected(predictor: Predictor, clips: list[np.ndarray]) -> list[np.ndarray]:
    by_name = predictor.heard(clips)
    return [vote(by_name, predictor.vote_weights), *by_name.values()]


def graph_answers(predictor: Predictor, clips: list[np.ndarray], oh: bool) -> list[np.ndarray]:
    inputs = map(torch.from_numpy, padded(clips))
    with torch.inference_mode():
        found = VoteGraph(predictor.checkpoints).eval()(*inputs, torch.tensor(oh))
    return [values.numpy() for values in found]


@pytest.mark.parametrize("oh", [False, True])
def test_the_module_answers_as_the_predictor_does(folder: Path, oh):
    predictor = Predictor(config.DecisionSettings(models_dir=folder, oh=oh))
    clips = sounds()
    found = graph_answers(predictor, clips, oh)
    for ours, theirs in zip(found, expected(predictor, clips), strict=True):
        assert np.abs(ours - theirs).max() < 1e-4
        assert theirs.std(axis=0).max() > 1e-3  # the answers do differ


def test_the_loudest_window_of_a_long_clip_is_the_same_to_the_sample():
    """Where there is silence around a word, many windows have almost the same energy."""
    random = np.random.default_rng(0)
    module = LevelAndLength(AUDIO)
    for _ in range(60):
        clip = random.normal(0, 10 ** random.uniform(-8, -4), 3 * RATE).astype(np.float32)
        start, length = random.integers(RATE, 2 * RATE), random.integers(2000, 12000)
        clip[start : start + length] += random.normal(0, 0.1, length).astype(np.float32)
        found = module(torch.from_numpy(clip)[None], torch.tensor([len(clip)]))[0].numpy()
        np.testing.assert_allclose(found, prepare_clip(clip, AUDIO), atol=1e-6)


@pytest.mark.parametrize("kind", ["mfcc", "spectrogram"])
def test_every_front_end_has_its_graph(tmp_path, kind):
    features = dataclasses.replace(LOG_MEL, kind=kind, deltas=False, n_mfcc=20)
    rows = {"mfcc": 20, "spectrogram": 257}[kind]
    weights = create_model("cnn", rows, width=16).state_dict()
    checkpoint = Checkpoint("cnn", {"width": 16}, weights, AUDIO, features)
    save_checkpoint(tmp_path / "cnn.pt", checkpoint)
    predictor = Predictor(config.DecisionSettings(models_dir=tmp_path))
    clips = sounds()[3:6]
    found = graph_answers(predictor, clips, oh=False)
    assert np.abs(found[0] - expected(predictor, clips)[0]).max() < 1e-4


def test_samples_that_are_no_numbers_count_as_silence(folder):
    predictor = Predictor(config.DecisionSettings(models_dir=folder))
    clip = sounds()[3]
    broken, mended = clip.copy(), clip.copy()
    broken[[100, 2000, 3000]] = np.nan, np.inf, -np.inf
    mended[[100, 2000, 3000]] = 0
    found, wanted = (graph_answers(predictor, [item], oh=False)[0] for item in (broken, mended))
    np.testing.assert_array_equal(found, wanted)


def test_networks_of_different_rates_are_refused():
    other = dataclasses.replace(AUDIO, sample_rate=32000)
    networks = {"a": network("cnn", LOG_MEL), "b": network("cnn", LOG_MEL, audio=other)}
    with pytest.raises(config.UserError, match="different sample rates"):
        VoteGraph(networks)
