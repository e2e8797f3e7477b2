"""One input at a time: made from its kind, seed and number, tried, and judged."""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from conftest import beep

import audio_io
import config
from fuzz import alterations, damage, hostile_archives

CODE_RAN = "code-ran"
"""The file that code in a hostile model file makes, if it is ever run."""
RECOGNISED = 4
"""Every so manieth damaged recording that can be read goes through the networks as well."""


@dataclass(frozen=True)
class Outcome:
    """What became of one input."""

    kind: str
    number: int
    verdict: str
    """refused, answered, crashed, hung or untold (answered without the remark that it needs)."""
    detail: str = ""
    """The reason of a refusal; the traceback of a crash; what was not told."""
    memory_mb: float = 0.0
    """MB that the trial took on top of the process."""


class Untold(Exception):
    """An answer without the remark that the input needs."""


@functools.cache
def recognizer():
    """The networks that come with the program, or untrained ones where it has none."""
    import torch

    from recognition.recognizer import Recognizer

    torch.set_num_threads(1)
    shipped = config.DecisionSettings()
    try:
        shipped.network_files()
        return Recognizer(shipped)
    except config.UserError:
        from untrained import save_networks

        with tempfile.TemporaryDirectory() as folder:
            return Recognizer(config.DecisionSettings(save_networks(Path(folder))))


def check_recording(recording: audio_io.Recording) -> None:
    """A recording is mono, finite, within [-1, 1] and not empty."""
    waveform = recording.waveform
    assert waveform.dtype == np.float32 and waveform.ndim == 1 and waveform.size
    assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 1
    assert recording.sample_rate > 0 and all("\n" not in text for text in recording.remarks)


def check_answer(result) -> None:
    """An answer holds numbers, is valid JSON, and can be printed."""
    json.dumps(result.as_dict(), allow_nan=False)
    assert 0 <= result.confidence <= 1 and result.prediction.best_guess in range(10)
    assert result.as_text() and np.isfinite(result.prediction.posteriors).all()


def read_damaged(number: int, content: bytes, folder: Path) -> None:
    """A damaged sound file is read, and answered now and then."""
    recording = audio_io.read_recording(content)
    check_recording(recording)
    if number % RECOGNISED == 0:
        check_answer(recognizer().recognize(recording))


def answer_altered(number: int, made: tuple[bytes, str], folder: Path) -> None:
    """A sound file of altered speech is answered, and what is odd about it is told."""
    content, told = made
    path = folder / "recording.wav"
    path.write_bytes(content)
    recording = audio_io.read_recording(path)
    check_recording(recording)
    result = recognizer().recognize(recording)
    check_answer(result)
    if told not in " ".join(result.remarks):
        raise Untold(f"not told: {told}; remarks: {result.remarks}")


def read_archive(number: int, content: bytes, folder: Path) -> None:
    """A hostile archive is refused, or read without anything written; it is never the release."""
    from corpora import archives, fsdd

    path = folder / "fsdd.zip"
    path.write_bytes(content)
    try:
        fsdd.unpack(path, folder / "unpacked")
    except archives.DataError as error:
        assert "\n" not in str(error)
    else:
        raise AssertionError("taken for the release")
    assert [item.name for item in folder.iterdir()] == [path.name], "something was written"
    fsdd.decode(fsdd.read_files(path))  # refused: says so; read: the files are harmless


def load_checkpoint(number: int, content: bytes, folder: Path) -> None:
    """A hostile model file is refused, or harmless: its network answers with numbers."""
    from recognition.recognizer import Recognizer

    path = folder / "cnn.pt"
    path.write_bytes(content)
    try:
        loaded = Recognizer(config.DecisionSettings(models_dir=path))
    finally:
        assert not Path(CODE_RAN).exists(), "code in a model file was run"
    waveform = np.pad(beep(number % 10, 0, number), 2000).astype(np.float32)
    check_answer(loaded.recognize(audio_io.Recording(waveform, loaded.rate)))


def hostile_checkpoint(number: int, random: np.random.Generator) -> bytes:
    """:func:`hostile_checkpoints.hostile_checkpoint`; torch takes seconds to import."""
    from fuzz import hostile_checkpoints

    return hostile_checkpoints.hostile_checkpoint(number, random)


@dataclass(frozen=True)
class Kind:
    """A kind of input: how one is made, and what is done with it; returns if it was answered."""

    make: Callable[[int, np.random.Generator], Any]
    try_out: Callable[[int, Any, Path], None]
    share: float


KINDS = {
    "damaged recordings": Kind(
        lambda number, random: damage.damaged_file(random), read_damaged, 0.76
    ),
    "altered recordings": Kind(alterations.altered_file, answer_altered, 0.08),
    "hostile archives": Kind(hostile_archives.hostile_archive, read_archive, 0.08),
    "hostile checkpoints": Kind(hostile_checkpoint, load_checkpoint, 0.08),
}
"""Kinds of input by name, with their share of all inputs."""


def planned(inputs: int) -> list[tuple[str, int]]:
    """Kind and number of each of so many inputs, the kinds one after the other."""
    return [
        (name, number)
        for name, kind in KINDS.items()
        for number in range(round(kind.share * inputs))
    ]


def attempt(name: str, seed: int, number: int) -> Outcome:
    """Make input `number` of a kind, try it, and judge what happens."""
    random = np.random.default_rng([seed, list(KINDS).index(name), number])
    made = KINDS[name].make(number, random)
    with tempfile.TemporaryDirectory() as folder:
        (verdict, detail), memory = with_memory(
            lambda: judged(lambda: KINDS[name].try_out(number, made, Path(folder)))
        )
    return Outcome(name, number, verdict, detail, memory)


def judged(try_out: Callable[[], None]) -> tuple[str, str]:
    """The verdict on one input, and what there is to say of it."""
    try:
        try_out()
        return "answered", ""
    except Untold as error:
        return "untold", str(error)
    except config.UserError as error:
        if not str(error).strip() or "\n" in str(error):
            return "crashed", f"not one line: {str(error)!r}"
        return "refused", str(error)
    except (Exception, SystemExit):
        return "crashed", traceback.format_exc()


def with_memory(deed: Callable[[], tuple[str, str]]) -> tuple[tuple[str, str], float]:
    """What `deed` gives, and the MB it took on top; 0 where this system does not tell."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _memory_mb("VmRSS")
    result = deed()
    return result, max(0.0, _memory_mb("VmHWM") - before)


def _memory_mb(name: str) -> float:
    with contextlib.suppress(OSError, IndexError):
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) / 1024
    return 0.0
