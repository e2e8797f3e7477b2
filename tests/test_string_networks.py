"""The network that hears strings: size, checkpoint, ONNX file, and what is refused."""

import numpy as np
import pytest
import torch
from conftest import wav_bytes
from tone_strings import RATE, tones
from waiting import untraced

import config
from audio_feature_extraction import FrontEnd
from models import counting, registry
from recognition import string_networks, strings_export
from recognition.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from recognition.digit_strings import StringRecognizer
from recognition.predictor import Predictor
from recognition.string_networks import OnnxStrings, TorchStrings, load_network
from training.settings import TrainSettings

SMALL = {"width": 8, "n_classes": config.N_FRAME_CLASSES}


def untrained(folder, features=None, **changes):
    """A string recogniser of random weights, behind the encoder by default; returns its file."""
    torch.manual_seed(0)
    features = features or config.encoder_features()
    audio, shape = config.AudioSettings(), SMALL | {"subsample": features.kind != "encoder"}
    rows = FrontEnd(features, audio.sample_rate).n_features
    weights = registry.create_model("digit_ctc", rows, **shape).state_dict()
    checkpoint = Checkpoint(
        "digit_ctc", shape, weights, audio, features, record={"seed": 0}, **changes
    )
    save_checkpoint(folder / config.STRINGS_NAME, checkpoint)
    return folder / config.STRINGS_NAME


def made(path, features=None):
    """A folder with an untrained recogniser of strings and its ONNX file."""
    checkpoint = untrained(path, features, temperature=1.5)
    with untraced():
        strings_export.write_strings(path / config.STRINGS_ONNX_NAME, checkpoint, "float32")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory):
    return made(tmp_path_factory.mktemp("small"), config.FeaturesSettings())


def sound(seconds):
    return tones([1, 5, 9] * 9)[: round(seconds / 0.04) * 640]


def test_at_most_a_million_parameters():
    arguments = registry.model_arguments("digit_ctc", config.ModelSettings(), "encoder")
    network = registry.create_model("digit_ctc", 384, **arguments)
    assert counting.count_parameters(network) <= 1_000_000


@pytest.mark.parametrize(("kind", "frames"), [("encoder", 25), ("log_mel", 100)])
def test_frames_of_40_ms_and_thirteen_classes(kind, frames):
    arguments = registry.model_arguments("digit_ctc", config.ModelSettings(), kind)
    network = registry.create_model("digit_ctc", 56, **arguments).eval()
    assert network(torch.zeros(2, 56, frames)).shape == (2, 25, config.N_FRAME_CLASSES)


@pytest.mark.parametrize("seconds", [0.4, 1.0, 2.8, 8.0])
@pytest.mark.parametrize("kind", ["folder", "small_folder"])
def test_onnx_gives_what_pytorch_gives_at_any_length(kind, seconds, request):
    folder = request.getfixturevalue(kind)
    ours = TorchStrings(folder / config.STRINGS_NAME).posteriors(sound(seconds))
    theirs = OnnxStrings(folder / config.STRINGS_ONNX_NAME).posteriors(sound(seconds))
    assert ours.shape == theirs.shape == (round(seconds / 0.04), config.N_FRAME_CLASSES)
    assert np.abs(ours - theirs).max() < 1e-4
    assert ours.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_the_onnx_file_is_used_where_it_is_current(folder, tmp_path, capsys):
    settings = config.DecisionSettings(models_dir=folder)
    assert isinstance(load_network(settings), OnnxStrings)
    untrained(tmp_path)
    onnx = (folder / config.STRINGS_ONNX_NAME).read_bytes()
    (tmp_path / config.STRINGS_ONNX_NAME).write_bytes(onnx)
    outdated = load_network(config.DecisionSettings(models_dir=tmp_path))
    assert isinstance(outdated, TorchStrings)
    assert "made from another network" in capsys.readouterr().err


def test_without_pytorch_the_onnx_file_answers_or_one_line_says_how(
    small_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(string_networks, "installed", lambda name: name != "torch")
    settings = config.DecisionSettings(models_dir=small_folder)
    assert string_networks.can_load(settings)
    assert isinstance(load_network(settings), OnnxStrings)
    untrained(tmp_path)
    settings = config.DecisionSettings(models_dir=tmp_path)
    assert not string_networks.can_load(settings)
    with pytest.raises(config.UserError, match="need PyTorch"):
        load_network(settings)


def test_a_damaged_onnx_file_is_refused(folder, tmp_path):
    content = bytearray((folder / config.STRINGS_ONNX_NAME).read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "strings.onnx").write_bytes(content)
    with pytest.raises(config.UserError, match=r"strings\.onnx"):
        load_network(config.DecisionSettings(models_dir=tmp_path / "strings.onnx"))


def test_each_kind_of_network_is_refused_for_the_other(folder, tmp_path):
    with pytest.raises(config.UserError, match="hears whole strings"):
        load_checkpoint(folder / config.STRINGS_NAME)
    with pytest.raises(config.UserError, match="hears whole strings"):
        Predictor(config.DecisionSettings(models_dir=folder / config.STRINGS_NAME))
    single = config.program_path(config.DecisionSettings.models_dir) / "cnn.pt"
    with pytest.raises(config.UserError, match="tells single digits"):
        StringRecognizer(config.DecisionSettings(models_dir=single))
    vote = config.DecisionSettings().onnx_file()
    with pytest.raises(config.UserError, match="no recogniser of strings"):
        StringRecognizer(config.DecisionSettings(models_dir=vote))


def test_no_network_says_how_to_make_one(tmp_path):
    with pytest.raises(config.UserError, match="--models digit_ctc"):
        load_network(config.DecisionSettings(models_dir=tmp_path))


def test_the_string_recogniser_does_not_vote(folder):
    assert config.network_files(folder) == []
    with pytest.raises(config.UserError, match="no trained networks"):
        config.DecisionSettings(models_dir=folder).network_files()


def test_it_is_trained_alone():
    assert TrainSettings(models=("digit_ctc",)).hears_strings
    assert not TrainSettings(models=("all",)).hears_strings
    with pytest.raises(config.UserError, match="train it alone"):
        TrainSettings(models=("digit_ctc", "cnn"))


def test_batch_writes_a_table_of_strings(folder, tmp_path):
    import batch_inference

    for name in ("a", "b"):
        (tmp_path / f"{name}.wav").write_bytes(wav_bytes(tones([1, 2]), RATE))
    (tmp_path / "c.wav").write_text("no sound")
    output = tmp_path / "strings.csv"
    settings = batch_inference.BatchSettings(
        (tmp_path,), output, strings=True, decision=config.DecisionSettings(models_dir=folder)
    )
    assert batch_inference.run(settings) == 0
    lines = output.read_text().splitlines()
    assert lines[0] == "path,digits,confidence,starts,ends,error,remarks"
    assert len(lines) == 4 and "c.wav" in lines[3] and "not a readable" in lines[3]
