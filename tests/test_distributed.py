"""Training on several processes: the numbers of one, no clip twice, one voice, whole files."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from test_training import same, train_settings, weights, words, write_tones
from torch import nn
from waiting import PATIENCE, unmeasured

import config
from models import registry
from recognition.checkpoint import load_checkpoint
from train import train
from training import distributed
from training.run_folder import stored_settings
from training.settings import TrainSettings

ROOT = Path(__file__).parent.parent
EXACT = ("--training.no-mixed-precision", "--training.device", "cpu")


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture
def process(monkeypatch):
    """Lets this process be one of several, which it never meets."""

    def become(rank: int, count: int) -> None:
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "count", lambda: count)
        for name, value in {"RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": 1}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")

    return become


def test_a_process_without_others_trains_all_clips_in_the_same_order():
    order = np.random.default_rng(0).permutation(50)
    assert distributed.shard(order, 7) is order and distributed.own_seed(5) == 5
    network = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2))
    assert distributed.replica(network, True) is network and type(network[1]) is nn.BatchNorm1d
    assert not distributed.launched()


@pytest.mark.parametrize("count", [2, 3, 8])
def test_shares_of_an_epoch_have_no_clip_in_common_and_are_alike(process, count):
    """Also where clips come 1, 3 and 20 times, as one's own do."""
    repeats = np.random.default_rng(0).choice([1, 3, 20], 900)
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(900), repeats))
    length = len(order) // count
    shards = []
    for rank in range(count):
        process(rank, count)
        shards.append(distributed.shard(order, length))
    assert [len(shard) for shard in shards] == [length] * count
    clips = [set(shard.tolist()) for shard in shards]
    assert sum(map(len, clips)) == len(set().union(*clips)) >= 890
    # what is left out or comes once more, since some parts are a little longer, is little
    shown = np.bincount(np.concatenate(shards), minlength=900)
    assert np.abs(shown - repeats).sum() < 0.02 * len(order)


def test_fewer_clips_than_processes_are_refused(process):
    process(3, 4)
    with pytest.raises(config.UserError, match="3 training clips are too few for 4 processes"):
        distributed.shard(np.arange(3), 1)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"training": config.TrainingSettings(batch_size=100)}, "use a multiple of 3"),
        ({"models": ("digit_ctc",)}, "without torchrun"),
    ],
)
def test_what_can_not_be_shared_is_refused(more, complaint):
    with pytest.raises(config.UserError, match=complaint):
        distributed.require_shareable(TrainSettings(**more), 3)


def test_processes_wait_for_the_settings_of_all_and_not_for_one_that_has_ended(monkeypatch):
    notes = dist.HashStore()
    with ThreadPoolExecutor(1) as thread:
        early = thread.submit(distributed.introduced, notes, 0, 2, {"seed": 0})
        late = distributed.introduced(notes, 1, 2, {"seed": 1})
        assert early.result(PATIENCE) == late == [{"seed": 0}, {"seed": 1}]
        waits = thread.submit(distributed.introduced, notes, 2, 4, {})
        notes.add("ends", 1)
        with pytest.raises(config.UserError, match="another process of the run has ended"):
            waits.result(PATIENCE)
    monkeypatch.setattr(distributed, "MEETING_S", 0.0)
    with pytest.raises(config.UserError, match="process 1, 2 of 0 to 2 did not come within 0 min"):
        distributed.introduced(dist.HashStore(), 0, 3, {})


def test_where_the_processes_can_not_meet_is_told(process, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process(0, 2)
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        distributed.store.cache_clear()
        with pytest.raises(config.UserError, match="the processes can't meet there"):
            distributed.store()


def test_settings_that_differ_are_named_and_places_may():
    one, places = TrainSettings(), TrainSettings(save_dir=Path("elsewhere"))
    other = TrainSettings(seed=3, training=config.TrainingSettings(epochs=7))
    distributed.require_same_settings([stored_settings(item) for item in (one, places, one)])
    with pytest.raises(config.UserError) as complaint:
        distributed.require_same_settings([stored_settings(item) for item in (one, one, other)])
    assert str(complaint.value) == (
        "process 2 was started with other settings than process 0: --seed is 3 there and 0 here; "
        "--training.epochs is 7 there and 12 here. Give all the same"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (config.UserError("no such corpus"), "no such corpus"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("[/gloo/pair.cc:5] Connection closed by peer"), "--resume goes on"),
        (dist.DistNetworkError("reset"), "--resume goes on"),
        (SystemExit(143), "--resume goes on"),
        (KeyboardInterrupt(), ""),
    ],
)
def test_one_process_tells_why_the_run_ends_and_the_others_are_quiet(
    process, monkeypatch, capsys, error, told
):
    notes = dist.HashStore()
    monkeypatch.setattr(distributed, "store", lambda: notes)
    for rank in (1, 0):
        process(rank, 2)
        with pytest.raises(BaseException) as raised, distributed.one_voice():
            print(f"process {rank} prints")
            raise error
        if rank:
            kinds = config.UserError | OSError | KeyboardInterrupt
            assert isinstance(raised.value, kinds) and told in str(raised.value)
        else:
            assert isinstance(raised.value, SystemExit) and raised.value.code == 1
    assert capsys.readouterr().out == "process 0 prints\n"


def test_a_fault_of_the_program_shows_where_it_arose(process, monkeypatch):
    process(1, 2)
    with pytest.raises(ZeroDivisionError), distributed.one_voice():
        print(1 / 0)
    with pytest.raises(SystemExit) as done, distributed.one_voice():
        raise SystemExit(0)  # help, or the end of a process that writes nothing
    assert done.value.code == 0


@pytest.fixture
def alone_in_a_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    distributed.leave_group()


@pytest.mark.parametrize("shape", [(12, 5, 7, 3), (12, 5, 6), (12, 5)])
def test_shared_batch_normalisation_is_pytorch_s(alone_in_a_group, shape):
    """Outputs, gradients, running statistics; what two processes make of it is tested below."""
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    network = nn.Sequential(kind(5))
    nn.init.uniform_(network[0].weight)
    distributed.share_statistics(network)
    theirs, ours = kind(5), network[0]
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 2
    found = []
    for layer in (theirs, ours):
        given = x.clone().requires_grad_()
        layer(given).sin().sum().backward()
        found.append([given.grad, layer.weight.grad, layer.bias.grad, layer(x)])
        found[-1] += [*layer.state_dict().values(), layer.eval()(x)]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sync", [False, True])
def test_batches_are_normalised_together_only_if_asked(alone_in_a_group, process, sync):
    process(0, 2)
    network = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2))
    distributed.replica(network, sync)
    assert type(network[1]) is (distributed.SharedBatchNorm if sync else nn.BatchNorm1d)


def test_every_weight_of_every_network_gets_a_gradient():
    """DistributedDataParallel waits for all of them."""
    for name in registry.REGISTRY:
        arguments = registry.model_arguments(name, config.ModelSettings(), "log_mel")
        network = registry.create_model(name, 56, **arguments)
        network(torch.randn(2, 56, 101)).square().sum().backward()
        assert all(weight.grad is not None for weight in network.parameters()), name


def half(rank: int, place: Path, network: nn.Module, batch: torch.Tensor) -> None:
    """Write the gradients that one of two processes gets for its half of a batch."""
    store = dist.FileStore(str(place / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    replica = distributed.replica(network, True)
    replica(batch[rank::2]).sin().mean().backward()
    torch.save([weight.grad for weight in network.parameters()], place / f"{rank}.pt")
    distributed.leave_group()


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_halves_of_a_batch_give_the_gradients_of_the_whole(tmp_path):
    network = registry.create_model("cnn", 24, width=8)
    batch = torch.randn(6, 24, 40, generator=torch.Generator().manual_seed(0))
    forks = multiprocessing.get_context("fork")
    processes = [forks.Process(target=half, args=(n, tmp_path, network, batch)) for n in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0, 0]
    network.train()(batch).sin().mean().backward()
    whole = [weight.grad for weight in network.parameters()]
    for rank in (0, 1):
        gradients = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(gradients, whole, rtol=1e-3, atol=1e-6)


def torchrun(*arguments: str) -> list[str]:
    """The command with a port of its own, since tests run side by side."""
    command = "-m torch.distributed.run --standalone --nproc-per-node 2 train.py"
    return [sys.executable, *command.split(), *arguments]


def start(*command: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=unmeasured() | environment,
    )


def complaints(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.mark.slow
def test_two_processes_come_to_the_scores_of_one(tones, tmp_path):
    """An epoch of one batch with all clips: the same sums, in another order."""
    more = ("--models", "cnn", "--training.epochs", "6", "--training.batch-size", "100")
    more = (*more, "--augmentation.off", "--training.sync-batch-norm", *EXACT)
    alone = train(train_settings(tones, tmp_path / "one", *more))
    process = start(*torchrun(*words(tones, tmp_path / "two", *more)))
    out, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told
    assert out.count("100 training, 20 validation clips") == out.count("done in") == 1
    (folder,) = (tmp_path / "two" / "runs").iterdir()
    histories = [Path(alone["folder"]), folder]
    one, two = (json.loads((path / "history.json").read_text())["cnn"] for path in histories)
    for key, tolerance in {"validation_loss": 0.01, "train_loss": 0.03}.items():
        wanted = pytest.approx([line[key] for line in one], rel=tolerance)
        assert [line[key] for line in two] == wanted
    for line, other in zip(one, two, strict=True):
        assert abs(line["validation_accuracy"] - other["validation_accuracy"]) <= 0.005
    assert load_checkpoint(tmp_path / "two" / "models" / "cnn.pt").record["processes"] == 2
    assert not list((tmp_path / "two").rglob(".*.pt"))


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def pair(*words_of_each: list[str]) -> list[subprocess.Popen]:
    """Processes that another launcher started, on machines with a command line each."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    return [
        start(sys.executable, "train.py", *arguments, RANK=str(rank), **shared)
        for rank, arguments in enumerate(words_of_each)
    ]


@pytest.mark.slow
def test_processes_with_different_settings_are_refused(tones, tmp_path):
    settings = words(tones, tmp_path, "--models", "cnn")
    told = []
    for process in pair(settings, [*settings, "--training.batch-size", "21"]):
        _, text = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1 and "Traceback" not in text
        told += complaints(text)
    wanted = "process 1 was started with other settings than process 0: --training.batch-size is 21"
    assert told and all(line.startswith(f"error: {wanted}") for line in told)
    assert not (tmp_path / "runs").exists()


def until_epoch(process: subprocess.Popen, epoch: int) -> None:
    for line in process.stdout:
        found = re.search(r" epoch +(\d+)/", line)
        if found and int(found[1]) >= epoch:
            return


def workers(launcher: subprocess.Popen) -> list[int]:
    """The processes that torchrun started, in their order."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
    return sorted(map(int, children.split()))


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds torchrun's processes in /proc")
def test_a_run_of_which_one_is_killed_or_all_are_stopped_says_so_and_resumes_to_the_same_weights(
    tones, tmp_path
):
    """Also with Ctrl-C: none is left behind, no file is half written, and one tells of it."""
    more = ("--models", "cnn", "--training.epochs", "12", "--training.patience", "12")
    more = (*more, "--training.views", "2", "--resume")
    unbroken, broken = (words(tones, tmp_path / name, *more) for name in ("unbroken", "broken"))
    for end, epoch in ((signal.SIGKILL, 3), (signal.SIGTERM, 5), (signal.SIGINT, 7)):
        launcher = start(*torchrun(*broken))
        until_epoch(launcher, epoch)
        started = workers(launcher)
        assert len(started) == 2
        os.kill(started[1] if end == signal.SIGKILL else launcher.pid, end)
        _, told = launcher.communicate(timeout=PATIENCE)
        assert launcher.returncode != 0 and not any(map(lives, started))
        if end == signal.SIGINT:
            assert told.splitlines().count("stopped") == 1 and not complaints(told)
        else:
            (complaint,) = complaints(told)
            assert complaint.endswith("the same command with --resume goes on")
        assert not [path for path in tmp_path.rglob(".*") if path.suffix != ".lock"]
    for command in (broken, unbroken):
        launcher = start(*torchrun(*command))
        _, told = launcher.communicate(timeout=PATIENCE)
        assert launcher.returncode == 0, told
    assert len(list((tmp_path / "broken" / "runs").iterdir())) == 1
    assert same(weights(tmp_path / "unbroken" / "models"), weights(tmp_path / "broken" / "models"))
