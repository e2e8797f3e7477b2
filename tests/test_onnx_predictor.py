"""The vote in one ONNX file, computed by ONNX Runtime, against PyTorch; and files that are bad."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_vote import RATE, encoder_of, padded, sounds

import config
import export_model
from audio_feature_extraction import FrontEnd
from recognition import onnx_export, runtime
from recognition.onnx_predictor import OPEN, OnnxPredictor, UnusableFile, sealed
from recognition.prediction import VotingPredictor
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer
from recognition.vote_graph import GraphPower

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
SCRIPT = Path(export_model.__file__)


@pytest.fixture
def folder(small_vote_dir, tmp_path):
    """A copy that a test may damage."""
    shutil.copytree(small_vote_dir, tmp_path, dirs_exist_ok=True)
    with encoder_of(tmp_path):
        yield tmp_path


def decision(folder: Path, **changes) -> config.DecisionSettings:
    return config.DecisionSettings(models_dir=folder, **changes)


def differences(one: VotingPredictor, other: VotingPredictor, clips) -> np.ndarray:
    """How far the posteriors of two predictors lie apart, for each clip."""
    pairs = zip(one.predict_batch(clips), other.predict_batch(clips), strict=True)
    return np.array([np.abs(a.posteriors - b.posteriors).max() for a, b in pairs])


@pytest.mark.parametrize("oh", [False, True])
def test_float32_answers_as_pytorch_does(folder, oh):
    ours = OnnxPredictor(folder / "float32.onnx", decision(folder, oh=oh))
    theirs = Predictor(decision(folder, oh=oh))
    assert differences(ours, theirs, sounds()).max() < 1e-4
    assert (ours.names, ours.audio, ours.threshold) == (theirs.names, theirs.audio, 0.6)


def test_oh_is_what_the_setting_says(folder):
    off, on = (OnnxPredictor(folder / "vote.onnx", decision(folder, oh=oh)) for oh in (False, True))
    assert differences(off, on, sounds()).max() > 1e-3


def test_int8_is_smaller_and_nearly_the_same(folder):
    small, large = folder / "vote.onnx", folder / "float32.onnx"
    assert small.stat().st_size < 0.6 * large.stat().st_size
    apart = differences(OnnxPredictor(small), OnnxPredictor(large), sounds())
    assert 0 < np.median(apart) < 0.05


def test_gelu_is_computed_in_one_step(folder, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(folder / "vote.onnx", options, ["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    used = {node.op_type for node in nodes}
    assert "Gelu" in used
    assert "Erf" not in used


@pytest.mark.parametrize("n_fft", [512, 400])
def test_the_graphs_power_spectrogram_is_the_front_ends(n_fft):
    features = dataclasses.replace(config.FeaturesSettings(), n_fft=n_fft, hop_length=160)
    front_end = FrontEnd(features, RATE)
    clips = torch.from_numpy(np.stack([padded([clip])[0][0, :5000] for clip in sounds()[3:8]]))
    wanted = front_end.power(clips)
    graphs = GraphPower(front_end.spectrogram.window, features.hop_length)(clips)
    assert graphs.shape == wanted.shape
    assert (graphs - wanted).abs().max() < 1e-5 * wanted.max()


def test_an_answer_does_not_depend_on_what_else_is_asked(folder):
    voices, clips = OnnxPredictor(folder / "vote.onnx"), sounds()
    for alone, together in zip(
        map(voices.predict, clips), voices.predict_batch(clips), strict=True
    ):
        np.testing.assert_array_equal(alone.posteriors, together.posteriors)


def test_the_file_votes_itself(folder):
    """Who has only the file gets the answers from it: batches, padding and all."""
    session = onnxruntime.InferenceSession(folder / "float32.onnx")
    samples, lengths = padded(sounds())
    inputs = {"samples": samples, "lengths": lengths, "oh": np.array(False)}
    expected = OnnxPredictor(folder / "float32.onnx").predict_batch(sounds())
    for row, answer in zip(session.run(["posteriors"], inputs)[0], expected, strict=True):
        np.testing.assert_allclose(row[:10], answer.posteriors, atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["labels"])[-1] == "no digit" and json.loads(about["licence"]) == "MIT"
    assert json.loads(about["sample_rate"]) == RATE and json.loads(about["vote_threshold"]) == 0.6
    assert set(json.loads(about["made_from"])) == {"cnn", "rnn"}


def test_some_of_the_networks_may_vote(folder):
    alone = runtime.load_predictor(decision(folder / "cnn.pt"))
    assert isinstance(alone, OnnxPredictor) and alone.names == ["cnn"]
    assert alone.threshold == 0.3 and runtime.load_predictor(decision(folder)).threshold == 0.6
    assert runtime.load_predictor(decision(folder, threshold=0.9)).threshold == 0.9
    together = runtime.load_predictor(decision(folder)).predict_batch(sounds())
    for one, all_of_them in zip(alone.predict_batch(sounds()), together, strict=True):
        in_the_vote = all_of_them.predictions["cnn"].posteriors
        np.testing.assert_allclose(one.posteriors, in_the_vote, atol=1e-6)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 60.0])
def test_clips_of_any_length_are_answered(folder, seconds):
    clip = np.random.default_rng(1).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)
    answer = OnnxPredictor(folder / "vote.onnx").predict(clip)
    if seconds:
        assert answer.posteriors.sum() + answer.reject_probability == pytest.approx(1, abs=1e-5)
    else:
        assert answer.digit is None and answer.confidence == 0


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_nan_and_infinity_count_as_silence(folder, kind):
    clip = sounds()[3]
    broken, mended = clip.copy(), clip.copy()
    broken[[100, 2000, 3000]], mended[[100, 2000, 3000]] = (np.nan, np.inf, -np.inf), 0
    voices = runtime.load_predictor(decision(folder, runtime=kind))
    found, wanted = voices.predict_batch([broken, mended])
    np.testing.assert_allclose(found.posteriors, wanted.posteriors, atol=1e-6)
    nothing = voices.predict(np.full(8000, np.nan, np.float32))
    assert np.isfinite(nothing.posteriors).all()


def test_auto_takes_the_file_that_was_made_from_what_lies_beside_it(folder, capsys):
    assert isinstance(runtime.load_predictor(decision(folder)), OnnxPredictor)
    assert isinstance(runtime.load_predictor(decision(folder, runtime="torch")), Predictor)
    assert isinstance(Recognizer(decision(folder / "vote.onnx")).predictor, OnnxPredictor)
    other = folder / "other"
    other.mkdir()
    shutil.copy(folder / "cnn.pt", other / "mine.pt")
    assert isinstance(runtime.load_predictor(decision(other)), Predictor)
    shutil.copy(folder / "cnn.pt", folder / "mine.pt")  # which the ONNX file never held
    assert isinstance(runtime.load_predictor(decision(folder / "mine.pt")), Predictor)
    assert capsys.readouterr().err == ""
    assert isinstance(runtime.load_predictor(decision(folder)), Predictor)
    assert capsys.readouterr().err.count("\n") == 1
    (folder / "mine.pt").unlink()
    for name in ("cnn.pt", "rnn.pt"):
        (folder / name).unlink()
    assert isinstance(runtime.load_predictor(decision(folder)), OnnxPredictor)


def damaged(path: Path, problem: str) -> None:
    content = path.read_bytes()
    if problem == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif problem == "altered":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
    elif problem == "empty":
        path.write_bytes(b"")
    elif problem == "foreign":
        path.write_bytes(b"something else" * 1000)
    else:
        rebuilt(path, problem)


def rebuilt(path: Path, problem: str) -> None:
    """A whole file whose content is wrong."""
    model = onnx.load(path)
    if problem == "another version":
        entry = next(item for item in model.metadata_props if item.key == "version")
        entry.value = "1"
    elif problem == "other inputs":
        for node in model.graph.node:
            node.input[:] = ["wave" if name == "samples" else name for name in node.input]
        model.graph.input[0].name = "wave"
    else:
        node = next(item for item in model.graph.node if item.op_type == "CumSum")
        node.op_type = "CumSumOfTomorrow"
    entry = next(item for item in model.metadata_props if item.key == "content_sha256")
    entry.value = OPEN.decode()
    path.write_bytes(sealed(model.SerializeToString()))


PROBLEMS = {
    "truncated": "truncated, altered",
    "altered": "truncated, altered",
    "empty": "truncated, altered",
    "foreign": "truncated, altered",
    "another version": "made by another version",
    "other inputs": "inputs or outputs are others",
    "an operator that is lacking": r"ONNX Runtime \S+ can't run it",
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_bad_file_is_refused_in_a_line_and_pytorch_takes_over(folder, problem, capsys):
    path = folder / "vote.onnx"
    damaged(path, problem)
    with pytest.raises(UnusableFile, match=f"vote.onnx: .*{PROBLEMS[problem]}") as refusal:
        runtime.load_predictor(decision(folder, runtime="onnx"))
    assert "\n" not in str(refusal.value)
    assert isinstance(runtime.load_predictor(decision(folder)), Predictor)
    assert capsys.readouterr().err.count("\n") == 1
    for name in ("cnn.pt", "rnn.pt"):
        (folder / name).unlink()
    with pytest.raises(UnusableFile):  # nothing takes over
        runtime.load_predictor(decision(folder))


def test_what_is_not_there_is_told(folder, capsys):
    with pytest.raises(UnusableFile, match="no such file; make it again with"):
        OnnxPredictor(folder / "none.onnx")
    with pytest.raises(UnusableFile, match="holds no network resnet"):
        OnnxPredictor(folder / "vote.onnx", names=["resnet"])
    with pytest.raises(config.UserError, match="no trained networks there"):
        runtime.load_predictor(decision(folder / "nowhere"))
    with pytest.raises(config.UserError, match="providers has 'gpu': use cpu, cuda"):
        decision(folder, providers="gpu")
    OnnxPredictor(folder / "vote.onnx", decision(folder, providers="dml, coreml,cpu"))
    assert "no provider dml, coreml: the processor computes" in capsys.readouterr().err


def test_the_exporters_packages_are_named_where_they_are_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(config.UserError, match="pip install onnx onnxscript"):
        onnx_export.write_vote(folder / "new.onnx", decision(folder))
    assert not (folder / "new.onnx").exists()


@pytest.mark.parametrize("problem", ["foreign", "missing"])
def test_no_file_is_made_of_what_was_not_trained_here(folder, problem):
    (folder / "rnn.pt").write_bytes(b"weights of somebody else" * 100)
    source = folder if problem == "foreign" else folder / "nowhere"
    words = ["--onnx-to", folder / "new.onnx", "--decision.models-dir", source]
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "error: " in done.stderr
    assert not (folder / "new.onnx").exists()


@pytest.mark.slow
def test_the_command_makes_a_file_that_recognises(folder):
    (folder / "vote.onnx").unlink()
    (folder / "rnn.pt").unlink()  # its encoder is another than the program's
    words = ["--onnx-to", folder / "vote.onnx", "--decision.models-dir", folder]
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "vote of cnn at 16000 Hz, int8" in done.stdout and done.stderr == ""
    assert isinstance(runtime.load_predictor(decision(folder)), OnnxPredictor)
    assert [path.name for path in folder.glob(".*")] == []
