"""The weights of the votes: found on validation clips, used by the predictor, kept in files."""

import dataclasses

import numpy as np
import pytest
from untrained import checkpoint

import config
from recognition import ensemble
from recognition.checkpoint import load_checkpoint, save_checkpoint
from recognition.prediction import vote
from recognition.predictor import Predictor
from training.settings import TrainSettings

TARGETS = np.arange(200) % config.N_ANSWERS


def posteriors(error_rate: float, seed: int) -> np.ndarray:
    """A network that is right but for a share of the clips, and as sure every time."""
    random = np.random.default_rng(seed)
    wrong = random.random(len(TARGETS)) < error_rate
    said = np.where(wrong, (TARGETS + random.integers(1, 11, len(TARGETS))) % 11, TARGETS)
    values = np.full((len(TARGETS), config.N_ANSWERS), 0.02)
    values[np.arange(len(TARGETS)), said] = 0.8
    return values


def test_the_better_network_gets_the_larger_weight():
    weights = ensemble.fit_weights(
        {"good": posteriors(0.05, 1), "poor": posteriors(0.6, 2)}, TARGETS
    )
    assert weights["good"] > 2 * weights["poor"] > 0
    assert sum(weights.values()) == pytest.approx(1, abs=0.01)


def test_a_weighted_vote_loses_no_more_than_an_equal_one():
    parts = {"a": posteriors(0.1, 1), "b": posteriors(0.2, 2), "c": posteriors(0.5, 3)}
    weights = ensemble.fit_weights(parts, TARGETS)
    equal = dict.fromkeys(parts, 1)
    assert ensemble.loss(parts, weights, TARGETS) < ensemble.loss(parts, equal, TARGETS)


def test_no_validation_clips_give_equal_weights():
    nothing = np.zeros((0, config.N_ANSWERS))
    assert ensemble.fit_weights({"a": nothing, "b": nothing}, TARGETS[:0]) == {"a": 0.5, "b": 0.5}


def test_weights_of_one_change_nothing():
    parts = {"a": posteriors(0.1, 1), "b": posteriors(0.2, 2)}
    np.testing.assert_array_equal(vote(parts), vote(parts, {"a": 1.0, "b": 1.0}))


def test_the_predictor_votes_with_the_weights_in_the_files(tmp_path):
    for name, weight in (("cnn", 1000.0), ("rnn", 0.001)):
        made = dataclasses.replace(checkpoint(name), vote_weight=weight)
        save_checkpoint(tmp_path / f"{name}.pt", made)
    predictor = Predictor(config.DecisionSettings(models_dir=tmp_path))
    answer = predictor.predict(np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32))
    np.testing.assert_allclose(answer.posteriors, answer.predictions["cnn"].posteriors, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), "1", None])
def test_a_weight_that_no_training_gives_is_refused(tmp_path, weight):
    save_checkpoint(tmp_path / "cnn.pt", dataclasses.replace(checkpoint("cnn"), vote_weight=weight))
    with pytest.raises(config.UserError, match="its vote_weight is"):
        load_checkpoint(tmp_path / "cnn.pt")


def test_ensemble_beside_networks_asks_for_weights():
    settings = TrainSettings(models=("cnn", "lightweight", "ensemble"))
    assert settings.models == ("cnn", "lightweight") and settings.weigh_votes
    again = dataclasses.replace(settings, seed=3)
    assert again.models == settings.models and again.weigh_votes
    assert TrainSettings(models=("ensemble",)).models == ("cnn", "rnn")
    assert not TrainSettings(models=("all",)).weigh_votes


def test_front_ends_by_network():
    settings = TrainSettings(models=("all",))
    kinds = {name: settings.front_end(name).kind for name in settings.models}
    assert kinds["mlp"] == "mfcc" and kinds["image_cnn"] == "spectrogram"
    assert kinds["rnn"] == "encoder" and kinds["cnn"] == kinds["transformer"] == "log_mel"
    assert TrainSettings(mlp_features="encoder").front_end("mlp") == config.encoder_features()


def test_a_network_that_can_not_take_the_front_end_is_refused_in_one_line():
    with pytest.raises(config.UserError, match="resnet can't take features.kind encoder"):
        TrainSettings(models=("resnet",), features=config.encoder_features())
