"""What is said "oh": a class in training that a setting makes zero or no digit in answers."""

import csv
import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import buzz
import numpy as np
import pytest
import soundfile
import torch
from conftest import beep
from untrained import AUDIO, FEATURES, checkpoint, read_result, save_networks, settings_maker
from waiting import PATIENCE

import config
import evaluation
from audio_feature_extraction import mean_logits
from corpora import an4, splits
from corpora.clips import Clips
from models import registry
from models.oh import fold_labels, fold_oh, grown
from protocols import oh as protocol
from recognition.checkpoint import load_checkpoint, save_checkpoint
from recognition.prediction import vote
from recognition.predictor import Predictor
from recognition.vote_graph import VoteGraph
from training.data import TrainLoader, calibration_logits
from training.settings import TrainSettings, prepare_data
from training.trainer import Trainer

ROOT = Path(__file__).resolve().parent.parent
RATE = 8000


def knowing(name: str = "cnn", bias: float | None = None):
    """A checkpoint with twelve outputs; with a bias, "oh" wins against all others."""
    arguments = {"width": 16, "n_classes": config.N_CLASSES}
    torch.manual_seed(len(name))
    weights = registry.create_model(name, 40, **arguments).state_dict()
    if bias is not None:
        weights["head.bias"][config.OH] = bias
    return checkpoint(name, arguments=arguments, weights=weights, temperature=1.0)


def answer(folder: Path, **changes):
    clip = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    return Predictor(config.DecisionSettings(models_dir=folder, **changes)).predict(clip)


@pytest.mark.parametrize(("as_zero", "target"), [(True, 0), (False, config.REJECT)])
def test_folding_adds_the_probability_of_oh_to_one_class_and_leaves_the_others(as_zero, target):
    logits = torch.randn(5, config.N_CLASSES) * 10
    before, after = logits.double().softmax(1), fold_oh(logits.double(), as_zero).softmax(1)
    wanted = before[:, : config.OH].clone()
    wanted[:, target] += before[:, config.OH]
    torch.testing.assert_close(after, wanted)
    labels = torch.arange(config.N_CLASSES)
    assert fold_labels(labels, as_zero).tolist() == [*range(config.OH), target]


def test_logits_of_earlier_networks_are_not_touched():
    logits = torch.randn(5, config.N_ANSWERS)
    assert fold_oh(logits, True) is logits and fold_oh(logits, False) is logits


def test_a_checkpoint_without_oh_answers_to_the_bit_as_before(tmp_path):
    made = checkpoint("cnn")
    assert "n_classes" not in made.arguments
    save_checkpoint(tmp_path / "cnn.pt", made)
    predictor = Predictor(config.DecisionSettings(models_dir=tmp_path))
    front_end, network = load_checkpoint(tmp_path / "cnn.pt").network()
    clips = np.stack([predictor.prepare(beep(digit, 0, 0)) for digit in range(4)])
    with torch.inference_mode():
        logits = mean_logits(network, front_end.tempo_augmented(torch.from_numpy(clips)))
    assert logits.shape[1] == config.N_ANSWERS
    assert torch.equal(predictor.logits(clips)["cnn"], logits)


def test_twelve_outputs_come_back_from_the_file(tmp_path):
    made = knowing()
    save_checkpoint(tmp_path / "cnn.pt", made)
    loaded = load_checkpoint(tmp_path / "cnn.pt")
    assert loaded.arguments == made.arguments and loaded.knows_oh
    assert not checkpoint().knows_oh
    assert all(torch.equal(loaded.weights[key], value) for key, value in made.weights.items())


@pytest.mark.parametrize("outputs", [10, 13, 12.0, True, "12", 10**9])
def test_any_other_number_of_outputs_is_refused(tmp_path, outputs):
    made = knowing()
    made.arguments["n_classes"] = outputs
    save_checkpoint(tmp_path / "cnn.pt", made)
    with pytest.raises(config.UserError, match="n_classes is"):
        load_checkpoint(tmp_path / "cnn.pt")


def test_where_oh_wins_the_setting_says_zero_or_no_digit(tmp_path):
    save_checkpoint(tmp_path / "cnn.pt", knowing(bias=50.0))
    off, on = answer(tmp_path, oh=False), answer(tmp_path, oh=True)
    assert off.digit is None and off.reject_probability > 0.99
    assert on.digit == 0 and on.confidence > 0.99
    assert on.posteriors.shape == (10,)


@pytest.mark.parametrize("oh", [False, True])
def test_the_exported_vote_folds_as_the_predictor_does(tmp_path, oh):
    save_checkpoint(tmp_path / "cnn.pt", knowing(bias=1.0))
    save_checkpoint(tmp_path / "rnn.pt", checkpoint("rnn"))
    predictor = Predictor(config.DecisionSettings(models_dir=tmp_path, oh=oh))
    clips = np.stack([predictor.prepare(beep(digit, 0, 0)) for digit in range(4)])
    with torch.inference_mode():
        graph = VoteGraph(predictor.checkpoints).eval()
        lengths = torch.full((4,), RATE)
        found = graph(torch.from_numpy(clips), lengths, torch.tensor(oh))[0].numpy()
    assert found.shape == (4, config.N_ANSWERS)
    np.testing.assert_allclose(found, vote(predictor.posteriors(clips)), atol=1e-4)


def test_networks_with_and_without_oh_vote_together(tmp_path):
    save_checkpoint(tmp_path / "cnn.pt", knowing(bias=50.0))
    save_checkpoint(tmp_path / "rnn.pt", checkpoint("rnn"))
    on = answer(tmp_path, oh=True)
    assert on.digit == 0 and set(on.predictions) == {"cnn", "rnn"}


def test_oh_asked_of_networks_that_do_not_know_it_is_an_error(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "cnn.pt", checkpoint())
    monkeypatch.setattr(config.DecisionSettings, "oh", False)
    with pytest.raises(config.UserError, match='no network in .* was trained to hear "oh"'):
        answer(tmp_path, oh=True)
    assert answer(tmp_path, oh=False).digit == answer(tmp_path).digit


@pytest.mark.parametrize(
    "script", ["microphone_inference.py --no-save --wav", "batch_inference.py"]
)
def test_the_scripts_take_the_option(tmp_path, script):
    save_checkpoint(tmp_path / "cnn.pt", knowing(bias=50.0))
    soundfile.write(tmp_path / "word.wav", buzz.word(), buzz.RATE)
    said = {}
    for option in ("--decision.oh", "--decision.no-oh"):
        command = [sys.executable, *script.split(), tmp_path / "word.wav", option]
        command += ["--decision.models-dir", tmp_path]
        if "batch" in script:
            command += ["--output", tmp_path / "answers.csv"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        said[option] = "no digit" not in done.stdout
        if "batch" in script:
            with (tmp_path / "answers.csv").open(newline="", encoding="utf-8-sig") as stream:
                said[option] = [row["digit"] for row in csv.DictReader(stream)] == ["0"]
    assert said == {"--decision.oh": True, "--decision.no-oh": False}


def named(*names: str) -> Clips:
    words = [splits.word_of(name) for name in names]
    labels = [int(word) if word.isdigit() else config.REJECT for word in words]
    waves = [beep(index, 1, 0) for index in range(len(names))]
    takes = list(range(len(names)))
    return Clips.from_waveforms(waves, labels, ["ann"] * len(names), names, takes, "own", RATE)


def test_what_says_oh_by_its_name_is_labelled_so():
    clips = named("oh_ann_0", "0_ann_1", "other_ann_2", "O_ann_3", "7_oh_4")
    labelled = splits.label_oh(clips)
    assert labelled.labels.tolist() == [config.OH, 0, config.REJECT, config.OH, 7]
    assert clips.labels[0] == config.REJECT


@pytest.fixture
def train_settings(tmp_path) -> TrainSettings:
    """Ten people who say two digits, a word and "oh"."""
    for speaker in range(10):
        for number, word in enumerate(("3", "4", "tree", "oh")):
            path = tmp_path / "clips" / f"{word}_s{speaker}_0.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, beep(number, speaker, 0), RATE)
    return TrainSettings(
        data=config.DataSettings(corpora=str(tmp_path / "clips"), root=tmp_path / "data"),
        audio=AUDIO,
        features=FEATURES,
        models=("cnn",),
        model=config.ModelSettings(cnn_width=8),
        training=config.TrainingSettings(device="cpu", batch_size=8),
    )


def test_oh_trains_as_a_class_and_validates_as_what_it_is_by_default(train_settings, tmp_path):
    data = prepare_data(train_settings)
    assert set(data.training_labels) == {3, 4, config.REJECT, config.OH}
    assert config.OH in data.validation_labels
    loader = TrainLoader(train_settings, data, FEATURES)
    targets = loader.targets(torch.tensor([3, config.OH]))
    assert targets.shape == (2, config.N_CLASSES) and targets.argmax(1).tolist() == [3, config.OH]
    default = 0 if config.DecisionSettings.oh else config.REJECT
    labels = torch.cat([labels for _, labels in loader.validation()])
    assert set(labels.tolist()) == {3, 4, config.REJECT} | {default}
    trainer = Trainer("cnn", train_settings, loader, tmp_path)
    assert trainer.arguments["n_classes"] == config.N_CLASSES
    loss, accuracy = trainer.validate(loader.validation())
    assert math.isfinite(loss) and 0 <= accuracy <= 1
    logits, targets = calibration_logits(loader, {"cnn": trainer.best_logits})
    assert logits["cnn"].shape == (len(targets), config.N_ANSWERS)
    assert targets.max() < config.OH


def test_training_goes_on_from_a_network_without_oh(train_settings, tmp_path):
    save_networks(tmp_path, ("cnn",))
    train_settings = dataclasses.replace(train_settings, init=tmp_path)
    loader = TrainLoader(train_settings, prepare_data(train_settings), FEATURES)
    network = Trainer("cnn", train_settings, loader, tmp_path).network.eval()
    _, before = load_checkpoint(tmp_path / "cnn.pt").network()
    features = torch.randn(3, 40, 101)
    with torch.inference_mode():
        torch.testing.assert_close(
            fold_oh(network(features), False).softmax(1), before(features).softmax(1)
        )


def test_weights_that_fit_stay_as_they_are():
    weights = knowing().weights
    same = grown(weights, weights)
    assert all(torch.equal(same[key], value) for key, value in weights.items())


def test_the_protocol_sets_both_settings_side_by_side(tmp_path, small_release, monkeypatch):
    settings = settings_maker(tmp_path, small_release)(protocol="oh")
    for path in (tmp_path / "models").iterdir():
        path.unlink()
    save_checkpoint(tmp_path / "models" / "cnn.pt", knowing(bias=50.0))
    few = config.SyntheticSettings.only(espeak_clips=50, alternatives=("oh",))
    monkeypatch.setattr(protocol, "SYNTHETIC", few)
    words = config.SyntheticSettings.only(other_words=5, vocabulary="evaluation")
    monkeypatch.setattr("protocols.rejection.OUT_OF_VOCABULARY", words)
    monkeypatch.setattr(an4, "PARTS", an4.PARTS[:0])
    soundfile.write(tmp_path / "oh.wav", buzz.word(), buzz.RATE)
    evaluation.run(dataclasses.replace(settings, oh_recordings=(tmp_path / "oh.wav",)))
    scores = read_result(settings, "oh")["scores"]
    for title in ("synthetic oh", "oh, oh.wav"):
        shares = scores[f"{title}: answered 0"]
        assert shares["off"]["value"] == 0 and shares["on"]["value"] > 0.9, title
    assert "FSDD official test: answered rightly" in scores
