"""Training end to end on tones that stand for digits: it learns, resumes, repeats, refuses."""

import dataclasses
import fnmatch
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from untrained import checkpoint
from waiting import PATIENCE, unmeasured

import audio_io
import config
import train as train_module
import utils
from recognition.checkpoint import load_checkpoint, save_checkpoint
from recognition.onnx_predictor import OnnxPredictor
from recognition.runtime import load_predictor
from train import train, write_onnx
from training.data import TrainLoader
from training.settings import TrainSettings, prepare_data
from training.trainer import Trainer

ROOT = Path(__file__).parent.parent
RATE = 8000


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


def write_tones(folder: Path) -> Path:
    """Digit d is a tone pair of its own pitch; six "speakers" differ in loudness and length."""
    for speaker in range(6):
        for digit in range(10):
            for take in range(2):
                random = np.random.default_rng((speaker, digit, take))
                noise = random.normal(0, 0.003, 2400 + 300 * speaker)
                time_s = np.arange(len(noise)) / RATE
                tone = np.sin(2 * np.pi * (300 + 250 * digit) * time_s) * np.hanning(len(time_s))
                audio_io.write_audio(
                    folder / f"{digit}_s{speaker}_{take}.wav",
                    (0.1 + 0.05 * speaker) * tone + noise,
                    RATE,
                )
    return folder


def words(tones: Path, out: Path, *more: str) -> list[str]:
    return [
        "--data.corpora",
        str(tones),
        "--data.root",
        str(out / "data"),
        "--save-dir",
        str(out / "models"),
        "--runs-dir",
        str(out / "runs"),
        "--training.batch-size",
        "20",
        "--model.cnn-width",
        "8",
        "--model.rnn-width",
        "16",
        "--augmentation.speed",
        "0",
        "--augmentation.vtlp",
        "0",
        "--training.learning-rate",
        "0.01",
        "--rnn-features",
        "log_mel",  # the encoder takes its time; test_cached_views.py trains through it
        "--no-onnx",
        *more,
    ]


def run(*arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "train.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def train_settings(tones: Path, out: Path, *more: str) -> TrainSettings:
    return utils.parse_arguments(TrainSettings, "", words(tones, out, *more))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.stem}.{key}": value
        for path in sorted(folder.glob("*.pt"))
        for key, value in load_checkpoint(path).weights.items()
    }


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_it_learns_and_leaves_a_whole_record(tones, tmp_path):
    result = train(train_settings(tones, tmp_path, "--training.epochs", "25", "--models", "cnn"))
    assert result["models"]["cnn"]["validation_accuracy"] > 0.8
    run_folder = Path(result["folder"])
    history = json.loads((run_folder / "history.json").read_text())["cnn"]
    assert [line["epoch"] for line in history] == list(range(1, len(history) + 1))
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert json.loads((run_folder / "settings.json").read_text())["seed"] == 0
    assert json.loads((run_folder / "summary.json").read_text())["record"]["versions"]["torch"]
    assert (run_folder / "learning_curves.png").stat().st_size > 5000
    assert list((run_folder / "tensorboard" / "cnn").glob("events*"))
    checkpoint = load_checkpoint(tmp_path / "models" / "cnn.pt")
    assert checkpoint.record["protocol"] == "official" and checkpoint.temperature > 0
    assert str(tmp_path) not in str(checkpoint.record)  # nobody else's business


def test_same_seed_same_numbers_other_seed_others(tones, tmp_path):
    runs = {
        name: train(
            train_settings(tones, tmp_path / name, "--training.epochs", "2", "--seed", seed)
        )
        for name, seed in (("a", "1"), ("b", "1"), ("c", "2"))
    }
    histories = {
        name: (Path(result["folder"]) / "history.json").read_text() for name, result in runs.items()
    }
    assert histories["a"] == histories["b"] != histories["c"]
    assert same(weights(tmp_path / "a" / "models"), weights(tmp_path / "b" / "models"))


def test_dry_run_trains_two_batches_and_saves_no_model(tones, tmp_path):
    """With the pretrained encoder before the BiLSTM, as a run has it that asks for nothing."""
    result = train(train_settings(tones, tmp_path, "--dry-run", "--rnn-features", "encoder"))
    assert not (tmp_path / "models").exists()
    assert load_checkpoint(Path(result["folder"]) / "models" / "rnn.pt").features.kind == "encoder"
    assert result["kept_apart"] == "this is a dry run"


def test_init_starts_from_trained_weights(tones, tmp_path):
    train(train_settings(tones, tmp_path, "--training.epochs", "20", "--models", "cnn"))
    again = train(
        train_settings(
            tones,
            tmp_path / "more",
            "--training.epochs",
            "1",
            "--models",
            "cnn",
            "--training.learning-rate",
            "1e-5",
            "--init",
            str(tmp_path / "models"),
        )
    )
    assert again["models"]["cnn"]["validation_accuracy"] > 0.8
    with pytest.raises(config.UserError, match="another size"):
        train(
            train_settings(
                tones,
                tmp_path / "x",
                "--init",
                str(tmp_path / "models"),
                "--models",
                "cnn",
                "--model.cnn-width",
                "16",
            )
        )
    with pytest.raises(config.UserError, match="other audio or feature settings"):
        train(
            train_settings(
                tones,
                tmp_path / "x",
                "--init",
                str(tmp_path / "models"),
                "--models",
                "cnn",
                "--features.kind",
                "mfcc",
            )
        )


@pytest.mark.slow
def test_16_bit_arithmetic_learns_what_32_bit_learns(tones, tmp_path):
    losses = []
    for precision in ("--training.mixed-precision", "--training.no-mixed-precision"):
        out = tmp_path / precision.strip("-")
        result = train(train_settings(tones, out, "--training.epochs", "12", precision))
        history = json.loads((Path(result["folder"]) / "history.json").read_text())
        losses.append([history[name][-1]["train_loss"] for name in ("cnn", "rnn")])
        assert all(value.dtype != torch.bfloat16 for value in weights(out / "models").values())
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


@pytest.mark.parametrize("kind", ["mfcc", "spectrogram"])
def test_every_kind_of_feature_trains(tones, tmp_path, kind):
    result = train(
        train_settings(tones, tmp_path, "--training.epochs", "1", "--features.kind", kind)
    )
    assert set(result["models"]) == {"cnn", "rnn"}


def test_accumulation_makes_fewer_steps_of_larger_batches(tones, tmp_path):
    result = train(
        train_settings(
            tones,
            tmp_path,
            "--training.epochs",
            "2",
            "--training.accumulation",
            "3",
            "--models",
            "cnn",
        )
    )
    assert result["models"]["cnn"]["best_epoch"] in (1, 2)


def test_a_loss_that_explodes_stops_with_advice(tones, tmp_path):
    done = run(
        *words(
            tones,
            tmp_path,
            "--training.learning-rate",
            "99",
            "--training.warmup",
            "0",
            "--training.gradient-clip",
            "99",
            "--training.epochs",
            "50",
            "--models",
            "rnn",
            "--features.normalization",
            "none",
        )
    )
    if done.returncode:  # it may also survive: then it must have finished properly
        assert done.returncode == 1 and "lower --training.learning-rate" in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob(".*.pt"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_asked_for_and_absent(tones, tmp_path):
    done = run(*words(tones, tmp_path, "--training.device", "cuda"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: training.device is cuda")


def test_resume_of_other_settings_is_refused(tones, tmp_path):
    train(train_settings(tones, tmp_path, "--training.epochs", "1", "--models", "cnn"))
    with pytest.raises(config.UserError, match=r"--training.epochs is 1 there and 2 here"):
        train(
            train_settings(tones, tmp_path, "--training.epochs", "2", "--models", "cnn", "--resume")
        )


def test_a_full_disk_is_one_line(tones, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "runs").symlink_to("/dev/full")
    done = run(*words(tones, tmp_path, "--training.epochs", "1"))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


def limit_files(size: int):
    """What limits the size of a child's files, as a disk that is full does; not on Windows."""
    resource = pytest.importorskip("resource")
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(("views", "file"), [("0", "*.state.pt"), ("1", "*.npy")])
def test_a_disk_that_fills_while_saving_is_one_line(tones, tmp_path, views, file):
    options = words(tones, tmp_path, "--training.epochs", "1", "--training.views", views)
    done = subprocess.run(
        [sys.executable, "train.py", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        preexec_fn=limit_files(50_000),
        env=unmeasured(),  # what coverage.py writes would be cut off too
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert fnmatch.fnmatch(last, f"error: File too large: {file}")
    assert not list(tmp_path.rglob("*.pt"))


def test_a_folder_for_the_networks_that_can_not_be_written_stops_before_the_first_epoch(
    tones, tmp_path
):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(config.UserError, match="--save-dir .* can't be written"):
        train(train_settings(tones, tmp_path))
    assert not (tmp_path / "runs").exists()


def test_by_products_that_can_not_be_written_cost_no_network(tones, tmp_path, monkeypatch, capsys):
    run_folder = tmp_path / "run"
    for name in ("learning_curves.png", "history.json", "summary.json"):
        (run_folder / name).mkdir(parents=True)
    (run_folder / "tensorboard").write_text("not a folder")
    monkeypatch.setattr("train.open_run", lambda _: run_folder)
    train(train_settings(tones, tmp_path, "--training.epochs", "1", "--models", "cnn"))
    assert load_checkpoint(tmp_path / "models" / "cnn.pt").name == "cnn"
    told = capsys.readouterr().err
    for name in ("learning_curves.png", "history.json", "summary.json", "tensorboard"):
        assert f"{name} not written" in told or f"{name}{os.sep}cnn not written" in told


@pytest.mark.slow
def test_worse_networks_stay_in_the_run_and_the_last_line_says_so(tones, tmp_path):
    shutil.copytree(trained(tones, tmp_path), tmp_path / "models")
    before = weights(tmp_path / "models")
    done = run(*words(tones, tmp_path, "--training.epochs", "1", "--models", "cnn"))
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert "is as it was: cnn's validation loss is" in last
    models = Path(last.split("--decision.models-dir ")[1].split(",")[0])
    assert load_checkpoint(models / "cnn.pt").record["validation"]["best_epoch"] == 1
    assert same(weights(tmp_path / "models"), before)


def trained(tones: Path, tmp_path: Path) -> Path:
    """A folder with a network that validates too well for a quick look."""
    settings = train_settings(tones, tmp_path / "good", "--training.epochs", "1", "--models", "cnn")
    train(settings)
    good = load_checkpoint(settings.save_dir / "cnn.pt")
    good.record["validation"]["validation_loss"] = 0.001
    save_checkpoint(settings.save_dir / "cnn.pt", good)
    return settings.save_dir


def test_resuming_counts_the_epochs_without_improvement_on(tones, tmp_path):
    """Also with a state that calls them "stale", as earlier versions did."""
    settings = train_settings(tones, tmp_path, "--training.epochs", "2", "--models", "cnn")
    run_folder = Path(train(settings)["folder"])
    trainer = cnn_trainer(settings, run_folder)
    state = torch.load(trainer.state_path, weights_only=True)
    for name in ("epochs_without_improvement", "stale"):
        state.pop("epochs_without_improvement", None)
        torch.save(state | {name: 7}, trainer.state_path)
        trainer.epochs_without_improvement = 0
        trainer.load_state()
        assert trainer.epochs_without_improvement == 7


def test_a_network_with_dropout_resumes_to_the_weights_of_an_unbroken_run(
    tones, tmp_path, monkeypatch
):
    more = ("--training.epochs", "4", "--models", "mlp")
    train(train_settings(tones, tmp_path / "unbroken", *more))
    done, run_epoch = [], train_module.run_epoch

    def two_epochs(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(run_epoch(*arguments))
        return done[-1]

    with monkeypatch.context() as broken:
        broken.setattr(train_module, "run_epoch", two_epochs)
        with pytest.raises(KeyboardInterrupt):
            train(train_settings(tones, tmp_path / "broken", *more))
    torch.manual_seed(123)  # another process's numbers
    train(train_settings(tones, tmp_path / "broken", *more, "--resume"))
    assert same(weights(tmp_path / "unbroken" / "models"), weights(tmp_path / "broken" / "models"))


def cnn_trainer(settings: TrainSettings, run_folder: Path) -> Trainer:
    loader = TrainLoader(settings, prepare_data(settings), settings.front_end("cnn"))
    return Trainer("cnn", settings, loader, run_folder)


def damaged_states(state: dict) -> dict[str, bytes]:
    """Files that are no state of a run, by what is wrong with them."""
    files = {"empty": b"", "text": b"no archive"}
    for name, content in {
        "another kind": [1, 2],
        "a part is missing": {key: value for key, value in state.items() if key != "average"},
        "other weights": state | {"network": {"a": torch.zeros(1)}},
        "other counts": state | {"epoch": "many"},
        "history cut": state | {"history": []},
        "optimizer lost": state | {"optimizers": []},
    }.items():
        buffer = io.BytesIO()
        torch.save(content, buffer)
        files[name] = buffer.getvalue()
    files["cut"] = buffer.getvalue()[:-2000]
    return files


def test_resuming_from_a_damaged_state_is_one_line(tones, tmp_path):
    settings = train_settings(tones, tmp_path, "--training.epochs", "1", "--models", "cnn")
    run_folder = Path(train(settings)["folder"])
    trainer = cnn_trainer(settings, run_folder)
    path = trainer.state_path
    for name, content in damaged_states(torch.load(path, weights_only=True)).items():
        path.write_bytes(content)
        with pytest.raises(config.UserError) as complaint:
            trainer.load_state()
        line = str(complaint.value)
        assert line.startswith(str(path)) and "remove it to train cnn" in line, name
        assert "\n" not in line
    path.unlink()
    again = train(dataclasses.replace(settings, resume=True))
    assert again["folder"] == str(run_folder) and again["models_dir"] == str(settings.save_dir)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals for a process")
@pytest.mark.parametrize(
    ("signal_number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_ends_training_with_whole_files_and_no_process_left(
    tones, tmp_path, signal_number, code
):
    process = subprocess.Popen(
        [sys.executable, "train.py", *words(tones, tmp_path, "--training.epochs", "500")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=unmeasured(),
    )
    for line in process.stdout:
        if "epoch   3" in line:
            break
    process.send_signal(signal_number)
    _, complaint = process.communicate(timeout=PATIENCE)
    assert process.returncode == code and "Traceback" not in complaint
    assert not list(tmp_path.rglob(".*.pt"))
    with pytest.raises(ProcessLookupError):  # nobody is left in its group
        os.killpg(process.pid, 0)


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_resumes_to_the_weights_of_an_unbroken_run(
    tones, tmp_path, kills
):
    epochs = str(4 * kills)
    more = ("--training.epochs", epochs, "--training.patience", epochs)
    unbroken = run(*words(tones, tmp_path / "unbroken", *more))
    assert unbroken.returncode == 0, unbroken.stderr
    moments = random.Random(0)
    broken = tmp_path / "broken"
    for number in range(kills):
        process = subprocess.Popen(
            [sys.executable, "train.py", *words(tones, broken, *more, "--resume")],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=unmeasured(),
        )
        for line in process.stdout:  # until an epoch ends that no other run came to
            epoch = re.search(r" epoch +(\d+)/", line)
            if epoch and int(epoch[1]) > 3 * number:
                break
        time.sleep(moments.uniform(0.0, 0.3))  # anywhere in the next ones
        process.kill()
        process.communicate()
        for path in broken.rglob("[!.]*.state.pt"):
            torch.load(path, weights_only=True)
        for path in broken.rglob("[!.]*.json"):
            json.loads(path.read_text())
        for path in broken.glob("models/[!.]*.pt"):
            load_checkpoint(path)
    finished = run(*words(tones, broken, *more, "--resume"))
    assert finished.returncode == 0, finished.stderr
    assert same(weights(tmp_path / "unbroken" / "models"), weights(broken / "models"))


@pytest.mark.slow
def test_a_whole_run_leaves_the_vote_for_onnx_runtime(tones, tmp_path):
    pytest.importorskip("onnxscript")
    (tmp_path / "models").mkdir()
    done = run(*words(tones, tmp_path, "--training.epochs", "1", "--onnx"))
    assert done.returncode == 0, done.stderr
    assert "vote.onnx: vote of cnn, rnn" in done.stdout
    found = load_predictor(config.DecisionSettings(models_dir=tmp_path / "models"))
    assert isinstance(found, OnnxPredictor) and found.names == ["cnn", "rnn"]


def test_an_export_that_fails_is_told_and_costs_nothing(tmp_path, capsys, monkeypatch):
    (tmp_path / "vote.onnx").write_bytes(b"of earlier networks")
    save_checkpoint(tmp_path / "cnn.pt", checkpoint("cnn"))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    write_onnx(tmp_path)
    assert "vote.onnx not written (ONNX: pip install" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cnn.pt"]
