"""Training on several processes: torchrun --nproc-per-node 2 train.py.

Every process learns from its own share of the clips and validates on its own share, and all take
the same steps: gradients are averaged (PyTorch's DistributedDataParallel over gloo, on CUDA over
NCCL), and the first process alone calibrates and writes files. A run that one process trains comes
through here unchanged.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

import config
from training.run_folder import differences, stored_settings
from training.settings import TrainingData, TrainSettings

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun, or another launcher, tells each process."""
PATIENCE = timedelta(days=30)
"""How long processes wait for each other, as for an hour of cached views; one that ends is noticed
at once."""
MEETING_S = 600.0
"""s until all processes must have come: they meet before they load any clips."""
ENDED = "another process of the run has ended; the same command with --resume goes on"
"""What is told where none told why."""
SEEDS_APART = 1_000_000_007
"""Between the seeds of two processes, which augment different clips."""
_groups_left: list[Any] = []
"""They are kept: to end one is to wait for gloo's threads, and one that still has a sum in hand
wants Python's lock, which would be held meanwhile."""

Given = TypeVar("Given")
Item = TypeVar("Item")


def launched() -> bool:
    """Whether this is one of several processes that were started together."""
    return all(name in os.environ for name in VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


def joined() -> bool:
    """Whether it has met the others."""
    return dist.is_available() and dist.is_initialized()


def count() -> int:
    """Processes that train together; 1 without the others."""
    return dist.get_world_size() if joined() else 1


def rank() -> int:
    """The number of this process among them."""
    return dist.get_rank() if joined() else 0


def is_first() -> bool:
    """Whether this process calibrates and writes the files."""
    return rank() == 0


def together(script: Callable[[TrainSettings], int]) -> Callable[[TrainSettings], int]:
    """A script that meets the other processes first, where there are any, and speaks for all."""

    def run(train_settings: TrainSettings) -> int:
        if not launched():
            return script(train_settings)
        with one_voice():
            join(train_settings)
            return script(train_settings)

    return run


def told_once(parse: Callable[..., Given]) -> Callable[..., Given]:
    """The same for the reading of the command line, whose mistakes are then told once."""

    def read(*arguments: Any) -> Given:
        with one_voice() if launched() else contextlib.nullcontext():
            return parse(*arguments)

    return read


@functools.cache
def store() -> dist.Store:
    """Where the processes leave notes for each other: torchrun keeps it, or else the first process.

    Raises
    ------
    UserError : it can't be reached, or another program has its port
    """
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    keeps = os.environ["RANK"] == "0" and "TORCHELASTIC_USE_AGENT_STORE" not in os.environ
    try:
        if keeps:  # PyTorch's own way waits for the others, also to tell them of a mistake
            return dist.TCPStore(address, int(port), is_master=True, wait_for_workers=False)
        return next(iter(dist.rendezvous("env://", timeout=timedelta(seconds=MEETING_S))))[0]
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise config.UserError(
            f"MASTER_ADDR {address}, MASTER_PORT {port}: the processes can't meet there ({reason})"
        ) from None


def speaks() -> bool:
    """Whether no other process has told yet why the run ends."""
    try:
        return store().add("ends", 1) == 1
    except (RuntimeError, config.UserError):  # it was never there, or went with who kept it
        return True


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Drop what all processes but the first print, and let one alone tell why the run ends.

    Raises
    ------
    UserError : also where another process has gone
    """
    with contextlib.ExitStack() as stack:
        if os.environ["RANK"] != "0":
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        try:
            yield
        except BaseException as error:
            told = reason_to_end(error)
            if told is not None and not speaks():
                raise SystemExit(1) from None
            raise told or error from None


def reason_to_end(error: BaseException) -> BaseException | None:
    """What one process tells of an error; None where each that has it shows where it arose."""
    if isinstance(error, SystemExit):
        if not error.code:
            return None
        return config.UserError(
            "stopped: another process of the run has ended, or torchrun was told to; "
            "the same command with --resume goes on"
        )
    if isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    ):
        return config.UserError(ENDED)
    known = isinstance(error, config.UserError | KeyboardInterrupt | OSError)
    return error if known else None


def join(train_settings: TrainSettings) -> None:
    """Meet the other processes, each with a GPU of its own where there are some.

    Raises
    ------
    UserError : they disagree about the settings, or can't share a batch or train this network
    """
    process, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    settings = introduced(store(), process, processes, stored_settings(train_settings))
    require_same_settings(settings)
    require_shareable(train_settings, processes)
    pin_device()
    cuda = torch.cuda.is_available() and train_settings.training.device != "cpu"
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(
        backend, store=store(), rank=process, world_size=processes, timeout=PATIENCE
    )
    if len(set(gathered(cuda))) > 1:
        raise config.UserError(
            "some processes have a CUDA device and some have none: start as many as there are "
            "devices (--nproc-per-node), or give --training.device cpu"
        )


def introduced(
    notes: dist.Store, process: int, processes: int, settings: dict[str, Any]
) -> list[dict[str, Any]]:
    """The settings of all processes, in their order, as soon as all have come.

    Raises
    ------
    UserError : another has ended before, or never came
    """
    notes.set(f"settings {process}", json.dumps(settings))
    names = [f"settings {number}" for number in range(processes)]
    deadline = time.monotonic() + MEETING_S
    while not notes.check(names):
        if notes.check(["ends"]):
            raise config.UserError(ENDED)
        if time.monotonic() > deadline:
            missing = [str(number) for number, name in enumerate(names) if not notes.check([name])]
            raise config.UserError(
                f"process {', '.join(missing)} of 0 to {processes - 1} did not come within "
                f"{MEETING_S / 60:g} minutes"
            )
        time.sleep(0.05)
    return [json.loads(notes.get(name)) for name in names]


def require_shareable(train_settings: TrainSettings, processes: int) -> None:
    """Refuse what several processes can't train.

    Raises
    ------
    UserError : a network that one process trains, or a batch that can't be shared evenly
    """
    if train_settings.hears_strings:
        raise config.UserError(
            "digit_ctc is trained by one process: start python train.py without torchrun"
        )
    batch = train_settings.training.batch_size
    if batch % processes:
        raise config.UserError(
            f"training.batch-size is {batch}, which {processes} processes can't share evenly: use "
            f"a multiple of {processes}"
        )


def require_same_settings(settings: list[dict[str, Any]]) -> None:
    """Refuse processes that were started with settings that train another network.

    Raises
    ------
    UserError : `settings`, one for each process, differ
    """
    for process, its_settings in enumerate(settings):
        unlike = differences(its_settings, settings[0])
        if unlike:
            raise config.UserError(
                f"process {process} was started with other settings than process 0: "
                f"{'; '.join(unlike)}. Give all the same"
            )


def pin_device() -> None:
    """Let this process see one GPU, its own: then "cuda" means that one in every thread."""
    local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(local)
    elif visible:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible.split(",")[local : local + 1])


def leave() -> None:
    """End all processes but the first, which calibrates and saves the networks alone."""
    if not joined():
        return
    others = not is_first()
    total(0.0)  # all are here: none goes while another still waits for it
    leave_group()
    if others:
        raise SystemExit(0)


def leave_group() -> None:
    """Be alone again."""
    _groups_left.append(dist.group.WORLD)
    dist.destroy_process_group()


def gathered(item: Item) -> list[Item]:
    """What all processes give, in their order."""
    if not joined():
        return [item]
    found: list[Any] = [None] * count()
    dist.all_gather_object(found, item)
    return found


def from_first(make: Callable[[], Item]) -> Item:
    """What the first process makes; the others wait for it, however long it takes."""
    if not joined():
        return make()
    box: list[Any] = [make() if is_first() else None]
    dist.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]


def total(*values: float) -> list[float]:
    """Sums over all processes."""
    if not joined():
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums)
    return sums.tolist()


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """Let the first process of each machine go ahead: the others find the files that it made."""
    leads = int(os.environ.get("LOCAL_RANK", rank())) == 0 if joined() else True
    if not leads:
        total(0.0)
    yield
    if leads:
        total(0.0)


def require_same_clips(training_data: TrainingData) -> None:
    """Refuse to train where the processes found different clips.

    Raises
    ------
    UserError : they did
    """
    if not joined():
        return
    digest = hashlib.sha256(training_data.training_labels.tobytes())
    digest.update(str(training_data.training.shape).encode() + training_data.corpora.encode())
    digest.update(training_data.training[:: len(training_data.training) // 64 + 1].tobytes())
    if len(set(gathered(digest.hexdigest()))) > 1:
        raise config.UserError(
            "the processes found different training clips: give all machines the same data"
        )


def share(batch: int) -> int:
    """Clips of a batch that each process learns from."""
    return max(1, batch // count())


def shard(order: np.ndarray, length: int) -> np.ndarray:
    """The part of an epoch's training rows that is this process's, in the same order.

    The clips are dealt to the processes in turn, those that come often after the others, so that no
    clip is in two parts and the parts are alike. The part is brought to `length`, the clips that
    its batches take, by which the first rows may come once more or the last not at all.

    Raises
    ------
    UserError : fewer clips than processes
    """
    if count() == 1:
        return order
    clips, first, times = np.unique(order, return_index=True, return_counts=True)
    own = clips[np.lexsort((first, times))][rank() :: count()]
    if not len(own):
        raise config.UserError(f"{len(clips)} training clips are too few for {count()} processes")
    return np.resize(order[np.isin(order, own)], length)


def own_rows() -> slice:
    """This process's share of any rows: every so many."""
    return slice(rank(), None, count())


def own_seed(seed: int) -> int:
    """A seed that no other process has."""
    return seed + SEEDS_APART * rank()


def replica(network: nn.Module, sync_batch_norm: bool) -> nn.Module:
    """The network, whose gradients are those of all processes, and if asked its batch statistics.

    Otherwise each process keeps running statistics of its own; those of the first are saved.
    """
    if count() == 1:
        return network
    if sync_batch_norm and next(network.parameters()).is_cuda:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    elif sync_batch_norm:
        share_statistics(network)
    return DistributedDataParallel(network, forward_sync_buffers=False)


def share_buffers(network: nn.Module) -> None:
    """Give the first process's running statistics to all: those are the ones that are saved."""
    statistics = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    if not joined() or not statistics:
        return
    vector = nn.utils.parameters_to_vector(statistics)
    dist.broadcast(vector, 0)
    nn.utils.vector_to_parameters(vector, statistics)


def share_statistics(network: nn.Module) -> None:
    """Replace each batch normalisation by one over all processes: PyTorch's own wants a GPU."""
    for name, layer in network.named_children():
        if isinstance(layer, _BatchNorm):
            shared = SharedBatchNorm(layer.num_features, layer.eps, layer.momentum)
            shared.load_state_dict(layer.state_dict())
            setattr(network, name, shared)
        else:
            share_statistics(layer)


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation with the mean and variance of all processes' shares of a batch."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Takes any (batch, channels, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self.num_batches_tracked.add_(1)
        result, mean, variance = _Normalised.apply(input, self.weight, self.bias, self.eps)
        values = count() * input.numel() // self.num_features
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (values / max(1, values - 1)), self.momentum)
        return result


class _Normalised(torch.autograd.Function):
    """Ioffe and Szegedy 2015, with sums over all processes both ways.

    Its parts are PyTorch's own kernels, several times faster than the formulas written out.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        unused = torch.zeros_like(weight), torch.ones_like(weight)  # they also ask for float32
        mean, variance = torch.batch_norm_update_stats(x, *unused, 0.0)
        moments = torch.stack([mean, variance + mean.square()])
        dist.all_reduce(moments)
        mean, square = moments / count()
        variance = (square - mean.square()).clamp(min=0)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([of_bias, of_weight])
        dist.all_reduce(sums)
        factors = -weight * (variance + ctx.eps).rsqrt() / (count() * x.numel() // x.shape[1])
        of_bias_too, of_weight_too = factors * sums  # mean and variance depend on x, too
        of_x.add_(F.batch_norm(x, mean, variance, of_weight_too, of_bias_too, eps=ctx.eps))
        return of_x, of_weight, of_bias, None
