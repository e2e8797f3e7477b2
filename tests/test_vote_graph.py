"""The way from samples to the vote, in one module and in one ONNX file, against the Predictor."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import config
import export_model
import speech_encoder
from models.registry import create_model
from recognition.checkpoint import Checkpoint, save_checkpoint
from recognition.prediction import vote
from recognition.predictor import Predictor
from recognition.vote_graph import VoteGraph
from speech_encoder import SpeechEncoder, save_encoder

RATE = 16000
AUDIO = config.AudioSettings(sample_rate=RATE, clip_seconds=1.0)
LOG_MEL = config.FeaturesSettings(n_fft=512, hop_length=160, n_mels=32, f_max=7600)
LENGTHS = (160, 399, 400, 5000, RATE - 1, RATE, RATE + 1, round(1.5 * RATE), 3 * RATE)


def sounds() -> list[np.ndarray]:
    """Noises of many lengths, some louder at their end, and silence."""
    random = np.random.default_rng(0)
    clips = [random.normal(0, 0.1, length).astype(np.float32) for length in LENGTHS]
    clips += [clip * np.linspace(0.01, 1, len(clip), dtype=np.float32) for clip in clips]
    return [*clips, np.zeros(RATE // 2, np.float32)]


def network(name: str, features: config.FeaturesSettings, **changes) -> Checkpoint:
    """An untrained network, sure of its arbitrary answers."""
    torch.manual_seed(len(name) + features.n_mels)
    arguments = {"width": 16} | ({"subsample": False} if features.kind == "encoder" else {})
    rows = speech_encoder.WIDTH if features.kind == "encoder" else features.n_mels
    module = create_model(name, rows, **arguments)
    with torch.no_grad():
        for parameter in module.head.parameters():
            parameter.mul_(20)
    made = Checkpoint(name, arguments, module.state_dict(), AUDIO, features)
    return dataclasses.replace(made, temperature=1.5, reject_bias=-0.7, **changes)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A CNN on log-mel at three tempos and a BiLSTM on an encoder with a longer window."""
    path = tmp_path / "saved_models" / "encoder.pt"
    torch.manual_seed(0)
    save_encoder(path, SpeechEncoder(layers=1), {})
    monkeypatch.chdir(tmp_path)
    speech_encoder.shared_encoder.cache_clear()
    monkeypatch.setattr(config, "ENCODER_FILE", path)
    save_checkpoint(
        path.with_name("cnn.pt"), network("cnn", LOG_MEL, vote_threshold=0.6, vote_weight=0.4)
    )
    encoder = dataclasses.replace(config.encoder_features(), encoder_layers=1)
    longer = dataclasses.replace(AUDIO, clip_seconds=1.5)
    save_checkpoint(path.with_name("rnn.pt"), network("rnn", encoder, audio=longer))
    return path.parent


def padded(clips: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Clips as the graph takes them: (batch, samples) and their lengths."""
    lengths = np.array([len(clip) for clip in clips])
    batch = np.zeros((len(clips), lengths.max()), np.float32)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    return batch, lengths


def expected(predictor: Predictor, clips: list[np.ndarray]) -> list[np.ndarray]:
    by_name = predictor.posteriors(np.stack([predictor.prepare(clip) for clip in clips]))
    return [vote(by_name, predictor.vote_weights), *by_name.values()]


def test_the_module_answers_as_the_predictor_does(folder):
    predictor = Predictor(config.DecisionSettings(models_dir=folder))
    clips = sounds()
    with torch.inference_mode():
        graph = VoteGraph(predictor.checkpoints).eval()
        found = graph(*map(torch.from_numpy, padded(clips)))
    for ours, theirs in zip(found, expected(predictor, clips), strict=True):
        assert np.abs(ours.numpy() - theirs).max() < 1e-4
        assert theirs.std(axis=0).max() > 1e-3  # the answers do differ


@pytest.mark.parametrize("kind", ["mfcc", "spectrogram"])
def test_every_front_end_has_its_graph(tmp_path, kind):
    features = dataclasses.replace(LOG_MEL, kind=kind, deltas=False, n_mfcc=20)
    rows = {"mfcc": 20, "spectrogram": 257}[kind]
    weights = create_model("cnn", rows, width=16).state_dict()
    checkpoint = Checkpoint("cnn", {"width": 16}, weights, AUDIO, features)
    save_checkpoint(tmp_path / "cnn.pt", checkpoint)
    predictor = Predictor(config.DecisionSettings(models_dir=tmp_path))
    clips = sounds()[3:6]
    with torch.inference_mode():
        found = VoteGraph(predictor.checkpoints).eval()(*map(torch.from_numpy, padded(clips)))
    assert np.abs(found[0].numpy() - expected(predictor, clips)[0]).max() < 1e-4


def test_networks_of_different_rates_are_refused():
    other = dataclasses.replace(AUDIO, sample_rate=32000)
    networks = {"a": network("cnn", LOG_MEL), "b": network("cnn", LOG_MEL, audio=other)}
    with pytest.raises(config.UserError, match="different sample rates"):
        VoteGraph(networks)


def test_the_exporters_packages_are_named_where_they_are_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(config.UserError, match="pip install onnx onnxscript"):
        export_model.export_onnx(folder / "vote.onnx", config.DecisionSettings(models_dir=folder))
    assert not (folder / "vote.onnx").exists()


@pytest.mark.slow
def test_the_onnx_file_answers_as_the_predictor_does(folder):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    target = folder.parent / "vote.onnx"
    words = ["--onnx-to", target, "--decision.models-dir", folder]
    done = subprocess.run(
        [sys.executable, export_model.__file__, *map(str, words)],
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "vote of cnn, rnn at 16000 Hz" in done.stdout and done.stderr == ""
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    predictor = Predictor(config.DecisionSettings(models_dir=folder))
    for clips in (sounds(), sounds()[:1], sounds()[-2:]):
        samples, lengths = padded(clips)
        found = session.run(None, {"samples": samples, "lengths": lengths})
        for ours, theirs in zip(found, expected(predictor, clips), strict=True):
            assert np.abs(ours - theirs).max() < 1e-4
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["networks"]) == ["cnn", "rnn"]
    assert json.loads(metadata["threshold"]) == 0.6 and json.loads(metadata["sample_rate"]) == RATE
