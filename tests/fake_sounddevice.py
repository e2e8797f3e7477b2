"""A stand-in for the package ``sounddevice``: one awkward input device that plays what it is told.

Blocks come as fast as they are made, so nothing here waits for real time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


class PortAudioError(Exception):
    """What PortAudio raises."""


class FakeSoundDevice:
    """An input device with many channels.

    Parameters
    ----------
    channels : of the device
    sample_rate : Hz, the device's own
    sound : float32 (samples, channels), played again and again; None is faint noise
    takes : whether a stream of (rate, channels, dtype) can be opened
    leading_zeros : samples of digital silence that come first

    Attributes
    ----------
    opened : (rate, channels, dtype) of each attempt to open it
    blocks : number of blocks delivered
    """

    PortAudioError = PortAudioError

    def __init__(
        self,
        channels: int = 1,
        sample_rate: int = 48000,
        sound: np.ndarray | None = None,
        takes: Callable[[int, int, str], str | None] = lambda rate, channels, kind: None,
        leading_zeros: int = 0,
    ) -> None:
        self.channels, self.rate, self.takes = channels, sample_rate, takes
        noise = np.random.default_rng(0).normal(0, 1e-4, (sample_rate, channels))
        self.sound = noise.astype(np.float32) if sound is None else sound
        self.leading_zeros = leading_zeros
        self.opened: list[tuple[int, int, str]] = []
        self.blocks = 0
        self.default = SimpleNamespace(device=(0, 1))

    def query_devices(self, device: int | None = None, kind: str | None = None) -> Any:
        entry = {
            "name": "Interface 18i8",
            "index": 0,
            "hostapi": 0,
            "max_input_channels": self.channels,
            "default_samplerate": float(self.rate),
        }
        return entry if kind else [entry]

    def query_hostapis(self, number: int) -> dict[str, str]:
        return {"name": "ALSA"}

    def _initialize(self) -> None: ...

    def _terminate(self) -> None: ...

    def _exit_handler(self) -> None: ...

    def InputStream(self, **settings: Any) -> FakeStream:  # noqa: N802  sounddevice's own name
        asked = settings["samplerate"], settings["channels"], settings["dtype"]
        self.opened.append(asked)
        refusal = self.takes(*asked)
        if settings["channels"] > self.channels:
            refusal = "Invalid number of channels [PaErrorCode -9998]"
        if refusal:
            raise PortAudioError(refusal)
        return FakeStream(self, settings)


class FakeStream:
    """An opened device, which delivers from a thread of its own."""

    def __init__(self, owner: FakeSoundDevice, settings: dict[str, Any]) -> None:
        self.owner, self.settings = owner, settings
        self.active, self._ended = False, threading.Event()

    def start(self) -> None:
        self.active = True
        threading.Thread(target=self._deliver, daemon=True).start()

    def _deliver(self) -> None:
        size, channels = self.settings["blocksize"], self.settings["channels"]
        status, position = SimpleNamespace(input_overflow=False), -self.owner.leading_zeros
        while not self._ended.wait(0.001):
            places = np.arange(position, position + size)
            block = self.owner.sound[places % len(self.owner.sound), :channels]
            block = np.where(places[:, None] < 0, 0, block).astype(np.float32)
            if self.settings["dtype"] == "int16":
                block = np.rint(block * 32767).astype(np.int16)
            self.owner.blocks += 1
            self.settings["callback"](block, size, None, status)
            position += size
        self.active = False

    def abort(self) -> None:
        self._ended.set()

    def close(self) -> None:
        self._ended.set()
