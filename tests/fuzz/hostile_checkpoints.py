"""Model files that hold values no training gives, code, bombs, or broken bytes."""

from __future__ import annotations

import functools
import io
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from untrained import checkpoint

import utils
from fuzz.damage import DAMAGES
from fuzz.trials import CODE_RAN
from models import registry
from recognition.checkpoint import REMEDY, save_checkpoint

HUGE = 10**12
"""Elements that a tensor of four bytes may claim to have."""

Maker = Callable[[np.random.Generator], bytes]


@functools.cache
def sound_checkpoint(name: str) -> bytes:
    """A checkpoint of random weights, as a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.pt")
        save_checkpoint(path, checkpoint(name))
        utils.load_tensors(path, REMEDY)
        return path.read_bytes()


def content_of(random: np.random.Generator) -> dict[str, Any]:
    """The dictionary in a sound checkpoint of either network."""
    name = ("cnn", "rnn")[random.integers(2)]
    return torch.load(io.BytesIO(sound_checkpoint(name)), weights_only=True)


def packed(content: object) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def damaged(random: np.random.Generator) -> bytes:
    """Damaged as sound files are."""
    content = sound_checkpoint(("cnn", "rnn")[random.integers(2)])
    for index in random.integers(len(DAMAGES), size=random.integers(1, 4)):
        content = DAMAGES[index](bytearray(content or b"\0"), random)
    return content


def damaged_with_right_sums(random: np.random.Generator) -> bytes:
    """Members whose bytes are damaged, in a zip whose check sums are right."""
    source = zipfile.ZipFile(io.BytesIO(sound_checkpoint("cnn")))
    buffer, chosen = io.BytesIO(), int(random.integers(6))
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, member in enumerate(source.infolist()):
            content = source.read(member)
            hit = index == chosen or member.filename.endswith(".pkl") and chosen < 3
            if hit and content:
                content = DAMAGES[random.integers(2, 12)](bytearray(content), random)
            archive.writestr(member.filename, content)
    return buffer.getvalue()


def list_without_end() -> list[object]:
    """A list of a few lists of a few lists: small in a file, endless for what walks through it."""
    nested: list[object] = [0.0]
    for _ in range(40):
        nested = [nested] * 4
    return nested


def odd_value(old: object, random: np.random.Generator) -> object:
    """A value of the wrong kind, size or sign."""
    values = (
        None,
        True,
        "x",
        "",
        b"x",
        -1,
        0,
        1,
        10**400,
        float("nan"),
        float("inf"),
        -1e308,
        5e-324,
        [],
        {},
        (1,),
        {"x": [old]},
        [old],
        str(old)[:50],
        torch.tensor(1.0),
        torch.zeros(0),
        torch.full((3,), float("nan")),
        torch.zeros(1).expand(HUGE),
        torch.zeros(1).expand(HUGE, 2),
        torch.sparse_coo_tensor(
            torch.zeros(1, 1, dtype=torch.long), [1.0], (HUGE,), check_invariants=True
        ),
        list_without_end(),
    )
    return values[random.integers(len(values))]


def odd_tensor(old: torch.Tensor, random: np.random.Generator) -> object:
    """A tensor that is not quite the right one."""
    if old.numel() > old.untyped_storage().nbytes() or not old.ndim:
        return old  # odd already, or a count
    spoiled = old.clone()
    if spoiled.is_floating_point() and spoiled.numel():
        value = (float("nan"), float("inf"), 3e38, -3e38, 1e-45, 0.0)[random.integers(6)]
        spoiled.view(-1)[random.integers(spoiled.numel())] = value
    choices = (
        spoiled,
        spoiled * 1e30,
        old.double(),
        old[:0],
        old.flip(0),
        old[None],
        old.flatten(),
        old.flatten()[:1].expand(old.numel()).view(old.shape),
        old.to(torch.complex64),
        old.bool(),
        old.numpy().tolist(),
    )
    return choices[random.integers(len(choices))]


def odd_values(random: np.random.Generator) -> bytes:
    """One to three values replaced, removed or added, at any depth."""
    content = content_of(random)
    for _ in range(random.integers(1, 4)):
        place: Any = content
        names = list(place)
        name = names[random.integers(len(names))]
        while isinstance(place.get(name), dict) and place[name] and random.integers(4):
            place = place[name]
            name = list(place)[random.integers(len(place))]
        deed, old = random.integers(8), place.get(name)
        if deed == 0:
            place.pop(name, None)
        elif deed == 1:
            place[("x", 7, None, "format")[random.integers(4)]] = odd_value(old, random)
        elif isinstance(old, torch.Tensor) and random.integers(3):
            place[name] = odd_tensor(old, random)
        else:
            place[name] = odd_value(old, random)
    return packed(content)


def huge_network(random: np.random.Generator) -> bytes:
    """A network of a width nobody trains, with weights that fit it and take no room in the file."""
    content = content_of(random)
    width = int(random.choice((2**11, 2**14, 2**16)))
    with torch.device("meta"):
        network = registry.create_model(content["name"], 40, width=width)
    content["arguments"] = {"width": width}
    content["weights"] = {
        name: torch.zeros(1, dtype=item.dtype).expand(item.shape) if item.ndim else torch.tensor(0)
        for name, item in network.state_dict().items()
    }
    return packed(content)


@functools.cache
def inflating() -> bytes:
    """Compressed members, which torch.save never writes: 160 MB in less than one."""
    content = torch.load(io.BytesIO(sound_checkpoint("cnn")), weights_only=True)
    content["weights"]["more"] = torch.zeros(40_000_000)
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(packed(content))) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for member in source.infolist():
            archive.writestr(member.filename, source.read(member))
    return buffer.getvalue()


class Code:
    """Unpickled, it makes a file: the harness looks for it."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.marker, "w")


def code(random: np.random.Generator) -> bytes:
    """A pickle, old or new, that runs code where it is trusted."""
    if random.integers(2):
        return pickle.dumps(Code(CODE_RAN), protocol=int(random.integers(6)))
    content = content_of(random)
    content[("weights", "record", "labels", "x")[random.integers(4)]] = Code(CODE_RAN)
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=bool(random.integers(2)))
    return buffer.getvalue()


MAKERS: tuple[Maker, ...] = (
    odd_values,
    damaged,
    odd_values,
    damaged_with_right_sums,
    odd_values,
    code,
    odd_values,
)
RARE: tuple[Maker, ...] = (huge_network, lambda random: inflating())
"""What takes a second: once in 10."""


def hostile_checkpoint(number: int, random: np.random.Generator) -> bytes:
    """A model file of the kind whose turn it is."""
    if number % 10 == 9:
        return RARE[number // 10 % len(RARE)](random)
    return MAKERS[number % len(MAKERS)](random)
