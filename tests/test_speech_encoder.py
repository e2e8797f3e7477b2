"""The pretrained encoder as a front end: its file, its limits, and Whisper's own spectrogram."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from untrained import checkpoint as small_checkpoint

import audio_io
import config
import speech_encoder
from audio_augmentation import Augmenter
from audio_feature_extraction import FrontEnd, whisper_log_mel
from models.registry import create_model
from recognition.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from recognition.predictor import Predictor
from speech_encoder import SpeechEncoder, load_encoder, save_encoder

RATE = speech_encoder.SAMPLE_RATE
SHIPPED = Path(config.__file__).parent / config.ENCODER_FILE
ONE_LAYER = dataclasses.replace(config.encoder_features(), encoder_layers=1)


def noise(seed: int, seconds: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    torch.manual_seed(0)
    return SpeechEncoder(layers=1).eval().requires_grad_(False)


@pytest.fixture
def file(encoder, tmp_path, monkeypatch) -> Path:
    """An encoder of one layer and random weights, in the place of the shipped one."""
    path = tmp_path / "encoder.pt"
    save_encoder(path, encoder, {"source": "a test"})
    monkeypatch.setattr(config, "ENCODER_FILE", path)
    speech_encoder.shared_encoder.cache_clear()
    return path


@pytest.mark.parametrize(("silence", "from_frame"), [(0.1, 0), (0.0, 2)])
def test_the_spectrogram_is_whispers_own(silence, from_frame):
    """Theirs mirrors what comes before the first sample, ours takes it for silence."""
    transformers = pytest.importorskip("transformers", reason="the oracle is transformers")
    oracle = transformers.WhisperFeatureExtractor(feature_size=80)
    clip = np.concatenate([np.zeros(round(silence * RATE), np.float32), noise(0, 2 - silence)])
    theirs = oracle(clip, sampling_rate=RATE, return_tensors="np").input_features[0, :, :200]
    front_end = FrontEnd(config.encoder_features(), RATE)
    ours = whisper_log_mel(front_end.mel_scale(front_end.power(torch.from_numpy(clip)[None])))
    assert ours.shape == (1, 80, 200)
    difference = np.abs(ours[0].numpy() - theirs)[:, from_frame:]
    assert difference.max() < 1e-3


@pytest.mark.parametrize(("pool", "frames"), [(1, 50), (2, 25)])
def test_features_have_a_fixed_size_and_do_not_depend_on_the_batch(file, pool, frames):
    front_end = FrontEnd(dataclasses.replace(ONE_LAYER, encoder_pool=pool), RATE)
    batch = torch.from_numpy(np.stack([noise(1), np.zeros(RATE, np.float32), noise(2)]))
    features = front_end(batch)
    assert features.shape == (3, front_end.n_features, frames)
    assert features.dtype == torch.float32 and torch.isfinite(features).all()
    torch.testing.assert_close(front_end(batch[2:])[0], features[2], rtol=1e-4, atol=1e-4)


def test_two_frames_are_averaged_into_one(encoder):
    log_mel = torch.randn(2, 80, 40)
    single, double = encoder(log_mel), encoder(log_mel, pool=2)
    torch.testing.assert_close(double, single.unflatten(2, (-1, 2)).mean(dim=3))


def test_short_clips_work_down_to_one_frame_and_long_ones_are_refused(file):
    front_end = FrontEnd(ONE_LAYER, RATE)
    assert front_end(torch.zeros(1, RATE // 100)).shape == (1, 384, 1)  # 0.01 s
    for samples, problem in (
        (RATE // 200, "under 0.01 s is too short"),
        (60 * RATE, "60 s is too long for the speech encoder: use at most 30 s"),
    ):
        with pytest.raises(config.UserError, match=problem):
            front_end(torch.zeros(1, samples))


def test_another_sample_rate_is_refused():
    with pytest.raises(config.UserError, match="kind encoder takes 16000 Hz.* is 32000"):
        FrontEnd(config.encoder_features(), 32000)


@pytest.mark.parametrize(
    ("name", "value"), [("n_fft", 512), ("hop_length", 80), ("n_mels", 40), ("f_max", 7600.0)]
)
def test_another_spectrogram_is_refused(name, value):
    with pytest.raises(config.UserError, match=f"features.{name.replace('_', '-')} is {value:g}"):
        dataclasses.replace(config.encoder_features(), **{name: value})


def test_the_encoder_is_frozen_shared_and_no_part_of_the_front_end(file, monkeypatch):
    loads = []
    load = speech_encoder.load_encoder
    monkeypatch.setattr(speech_encoder, "load_encoder", lambda *a: loads.append(a) or load(*a))
    first, second = FrontEnd(ONE_LAYER, RATE), FrontEnd(ONE_LAYER, RATE)
    assert loads == []  # n_features needs no weights
    clip = torch.from_numpy(noise(3))[None]
    assert torch.equal(first(clip), second(clip)) and len(loads) == 1
    assert not first.state_dict() or all("layers" not in name for name in first.state_dict())
    assert not list(first.parameters()) and not first(clip).requires_grad


def test_half_precision_around_it_changes_nothing(file):
    front_end, power = FrontEnd(ONE_LAYER, RATE), torch.rand(2, 201, 101)
    mel_power = front_end.mel_scale(power)
    with torch.autocast("cpu", torch.bfloat16):
        under = front_end.encoded(mel_power)
    assert torch.equal(under, front_end.encoded(mel_power))


def test_augmentation_and_tempos_come_before_the_encoder(file):
    front_end = FrontEnd(dataclasses.replace(ONE_LAYER, tempos=(0.9, 1.0)), RATE)
    clips = torch.from_numpy(np.stack([noise(4), noise(5)]))
    settings = config.AugmentationSettings(tempo=1.0, vtlp=1.0)
    augmenter = Augmenter(settings, RATE, None, "cpu", 0)
    augmented = front_end.from_power(augmenter.spectrograms(front_end.power(clips)))
    slow, plain = front_end.tempo_augmented(clips)
    assert augmented.shape == slow.shape == plain.shape == (2, 384, 25)
    assert not torch.allclose(augmented, plain, atol=1e-2)
    assert not torch.allclose(slow, plain, atol=1e-2)
    torch.testing.assert_close(plain, front_end(clips))


def test_weights_come_back_within_half_a_step_of_eight_bits(encoder, file):
    loaded = load_encoder(file, 1).state_dict()
    for name, value in encoder.state_dict().items():
        step = value.flatten(1).abs().amax(1, keepdim=True) / 127 if value.ndim > 1 else 0.0
        error = (loaded[name] - value).abs().reshape(len(value), -1)
        assert (error <= 0.501 * step).all(), name
    assert file.stat().st_size < 1.1 * sum(item.numel() for item in loaded.values()) + 20_000


def test_the_first_layers_of_a_file_are_taken(tmp_path):
    torch.manual_seed(1)
    save_encoder(tmp_path / "two.pt", SpeechEncoder(layers=2), {})
    one, two = (load_encoder(tmp_path / "two.pt", layers) for layers in (1, 2))
    assert len(one.layers) == 1
    assert torch.equal(one.layers[0].expand.weight, two.layers[0].expand.weight)
    with pytest.raises(config.UserError, match="not 3 layers of width 384; make it again with"):
        load_encoder(tmp_path / "two.pt", 3)


def spoiled(path: Path, problem: str) -> None:
    """Damage an encoder's file."""
    content = bytearray(path.read_bytes())
    if problem == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif problem == "empty":
        path.write_bytes(b"")
    elif problem == "altered":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif problem == "another width":
        save_encoder(path, SpeechEncoder(layers=1, width=512), {})
    elif problem == "a list":
        torch.save([1, 2], path)
    else:
        stored = torch.load(path, weights_only=True)
        if problem == "not a number":
            stored["scales"]["conv1.weight"][0] = float("nan")
        elif problem == "no scales":
            del stored["scales"]
        elif problem == "scales of another size":
            stored["scales"]["conv1.weight"] = torch.ones(3)
        elif problem == "weights as text":
            stored["weights"]["conv1.bias"] = "weights"
        elif problem == "of a later version":
            stored["format"] = speech_encoder.FORMAT + 1
        torch.save(stored, path)


@pytest.mark.parametrize(
    "problem",
    [
        "truncated",
        "empty",
        "altered",
        "another width",
        "a list",
        "not a number",
        "no scales",
        "scales of another size",
        "weights as text",
        "of a later version",
    ],
)
def test_a_damaged_file_is_one_line_with_the_remedy(file, problem):
    spoiled(file, problem)
    with pytest.raises(config.UserError) as error:
        FrontEnd(ONE_LAYER, RATE)(torch.zeros(1, RATE))
    line = str(error.value)
    assert line.startswith(f"{file}: ") and "export_model.py --encoder-from" in line
    assert "\n" not in line


def test_the_digest_tells_files_apart(file, tmp_path):
    before = speech_encoder.digest(file)
    assert len(before) == 64 and before == speech_encoder.digest(str(file))
    save_encoder(file, SpeechEncoder(layers=1), {})
    assert speech_encoder.digest(file) != before
    with pytest.raises(config.UserError, match="no such speech encoder; make it"):
        speech_encoder.digest(tmp_path / "nothing.pt")


def listening(folder: Path, **record) -> Path:
    """A BiLSTM that listens through the encoder, untrained, in a folder."""
    torch.manual_seed(0)
    arguments = {"width": 8, "subsample": False}
    weights = create_model("rnn", speech_encoder.WIDTH, **arguments).state_dict()
    audio = config.AudioSettings(sample_rate=RATE)
    checkpoint = Checkpoint("rnn", arguments, weights, audio, ONE_LAYER, record=record)
    save_checkpoint(folder / "rnn.pt", checkpoint)
    return folder / "rnn.pt"


def test_a_network_listens_through_the_encoder_beside_it(file):
    """The encoder lies in the same folder as the networks, and is none of them."""
    path = listening(file.parent, encoder_sha256=speech_encoder.digest(file))
    predictor = Predictor(config.DecisionSettings(models_dir=path.parent))
    assert predictor.names == ["rnn"]
    answer = predictor.predict(noise(6))
    total = answer.posteriors.sum() + answer.reject_probability
    assert total == pytest.approx(1, abs=1e-5)
    assert answer.posteriors.std() > 0


def test_it_votes_with_a_network_of_8_khz_and_each_hears_its_own(file):
    folder = listening(file.parent).parent
    alone = {"rnn": Predictor(config.DecisionSettings(models_dir=folder))}
    (folder / "narrow").mkdir()
    save_checkpoint(folder / "narrow" / "cnn.pt", small_checkpoint("cnn"))
    alone["cnn"] = Predictor(config.DecisionSettings(models_dir=folder / "narrow"))
    save_checkpoint(folder / "cnn.pt", small_checkpoint("cnn"))
    both = Predictor(config.DecisionSettings(models_dir=folder))
    assert both.names == ["cnn", "rnn"] and both.audio.sample_rate == RATE
    clip = noise(7, 0.6)
    logits = both.logits(both.prepare(clip)[None])
    rnn = alone["rnn"]
    torch.testing.assert_close(logits["rnn"], rnn.logits(rnn.prepare(clip)[None])["rnn"])
    cnn = alone["cnn"]
    narrow = cnn.prepare(audio_io.resample(clip, RATE, cnn.audio.sample_rate))
    expected = cnn.logits(narrow[None])["cnn"]
    assert torch.nn.functional.cosine_similarity(logits["cnn"], expected).min() > 0.999
    answer = both.predict(clip)
    assert set(answer.predictions) == {"cnn", "rnn"}
    total = answer.posteriors.sum() + answer.reject_probability
    assert total == pytest.approx(1, abs=1e-5)


def test_reading_a_checkpoint_does_not_load_the_encoder(file, monkeypatch):
    path = listening(file.parent)
    monkeypatch.setattr(speech_encoder, "load_encoder", lambda *a: pytest.fail("was loaded"))
    assert load_checkpoint(path).network()[0].n_features == speech_encoder.WIDTH


def test_a_checkpoint_without_its_encoder_says_what_makes_it(file):
    path = listening(file.parent)
    file.unlink()
    with pytest.raises(config.UserError) as error:
        load_checkpoint(path)
    assert str(error.value) == (
        f"{path}: needs the speech encoder {file}, which is missing; {speech_encoder.REMEDY}"
    )


def test_a_checkpoint_made_with_another_encoder_is_refused(file):
    path = listening(file.parent, encoder_sha256="0" * 64)
    with pytest.raises(config.UserError, match="trained with another speech encoder than"):
        load_checkpoint(path)


@pytest.mark.skipif(not SHIPPED.is_file(), reason="saved_models holds no encoder.pt")
def test_the_shipped_encoder_is_small_and_says_where_it_comes_from():
    assert SHIPPED.stat().st_size <= 12_000_000
    load_encoder(SHIPPED, 4)
    provenance = torch.load(SHIPPED, weights_only=True)["provenance"]
    assert "openai/whisper-tiny.en" in provenance["source"] and "MIT" in provenance["licence"]
    assert len(provenance["sha256"]) == 64
    with zipfile.ZipFile(SHIPPED) as archive:
        assert archive.testzip() is None
