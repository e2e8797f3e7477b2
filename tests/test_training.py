"""Training end to end on tones that stand for digits: it learns, resumes, repeats, refuses."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from waiting import PATIENCE

import audio_io
import config
import utils
from recognition.checkpoint import load_checkpoint
from train import train
from training.settings import TrainSettings

ROOT = Path(__file__).parent.parent
RATE = 8000


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> Path:
    """Digit d is a tone pair of its own pitch; six "speakers" differ in loudness and length."""
    folder = tmp_path_factory.mktemp("tones")
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
    result = train(train_settings(tones, tmp_path, "--dry-run"))
    assert not (tmp_path / "models").exists()
    assert load_checkpoint(Path(result["folder"]) / "rnn.pt").name == "rnn"


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
    (tmp_path / "models").mkdir()
    (tmp_path / "runs").symlink_to("/dev/full")
    done = run(*words(tones, tmp_path, "--training.epochs", "1"))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT can't be sent to a process on Windows")
def test_ctrl_c_leaves_whole_files(tones, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "train.py", *words(tones, tmp_path, "--training.epochs", "500")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "epoch   3" in line:
            break
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "Traceback" not in complaint
    assert not list(tmp_path.rglob(".*.pt"))


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
