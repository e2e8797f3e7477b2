"""Two small untrained networks that vote, one behind a speech encoder, and sounds for them."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from waiting import untraced

import config
import speech_encoder
from models.registry import create_model
from recognition.checkpoint import Checkpoint, save_checkpoint
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


def network(name: str, features: config.FeaturesSettings, classes=None, **changes) -> Checkpoint:
    """An untrained network, sure of its arbitrary answers; with 12 `classes` it knows "oh"."""
    torch.manual_seed(len(name) + features.n_mels)
    arguments = {"width": 16} | ({"subsample": False} if features.kind == "encoder" else {})
    arguments |= {"n_classes": classes} if classes else {}
    rows = speech_encoder.WIDTH if features.kind == "encoder" else features.n_mels
    module = create_model(name, rows, **arguments)
    with torch.no_grad():
        for parameter in module.head.parameters():
            parameter.mul_(20)
    made = Checkpoint(name, arguments, module.state_dict(), AUDIO, features, threshold=0.3)
    return dataclasses.replace(made, temperature=1.5, reject_bias=-0.7, **changes)


def save_small_vote(folder: Path) -> None:
    """A CNN on log-mel at three tempos and a BiLSTM on an encoder with a longer window."""
    torch.manual_seed(0)
    save_encoder(folder / "encoder.pt", SpeechEncoder(layers=1), {})
    knows_oh = config.N_CLASSES
    cnn = network("cnn", LOG_MEL, knows_oh, vote_threshold=0.6, vote_weight=0.4)
    save_checkpoint(folder / "cnn.pt", cnn)
    encoder = dataclasses.replace(config.encoder_features(), encoder_layers=1)
    longer = dataclasses.replace(AUDIO, clip_seconds=1.5)
    rnn = network("rnn", encoder, audio=longer, vote_threshold=0.6)
    save_checkpoint(folder / "rnn.pt", rnn)


@contextlib.contextmanager
def encoder_of(folder: Path) -> Iterator[None]:
    """Let the folder's speech encoder be the program's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "ENCODER_FILE", folder / "encoder.pt")
        speech_encoder.shared_encoder.cache_clear()
        yield
    speech_encoder.shared_encoder.cache_clear()


def padded(clips: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Clips as the graph takes them: (batch, samples) and their lengths."""
    lengths = np.array([len(clip) for clip in clips])
    batch = np.zeros((len(clips), lengths.max()), np.float32)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    return batch, lengths


def export_small_vote(folder: Path) -> None:
    """The networks, and their vote for ONNX Runtime in both precisions."""
    from recognition import onnx_export
    from recognition.predictor import Predictor

    save_small_vote(folder)
    with encoder_of(folder):
        settings = config.DecisionSettings(models_dir=folder)
        predictor, made_from = Predictor(settings), onnx_export.digests(settings)
        with untraced():
            model = onnx_export.exported(predictor)
        for precision, name in (("float32", "float32.onnx"), ("int8", config.ONNX_NAME)):
            content = onnx_export.finished(model, predictor, precision, made_from)
            (folder / name).write_bytes(content)
