"""A microphone: open it as it is, read its stream, record from it, notice when it goes away."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

import audio_io
import config
from live.channels import ChannelFollower
from live.devices import (
    DeviceLost,
    MicrophoneError,
    abandon_portaudio,
    choose_device,
    portaudio,
    reason,
)

QUEUE_SECONDS = 10.0
"""s of sound held for a reader that is busy; what comes after that is dropped and counted."""
FIRST_BLOCK_SECONDS = 6.0
"""s allowed for the first block: Bluetooth and sleeping sound servers take seconds to wake."""
NEXT_BLOCK_SECONDS = 2.0
"""s without a block after which a microphone counts as lost."""
END_SECONDS = 10.0
"""s that closing may take on a busy machine; PortAudio can wait for ever for a server that died."""
WAKE_SECONDS = 1.0
"""s allowed for the first sound that is not zero: some microphones wake with silence."""
COMMON_RATES = (48000, 44100, 16000, 32000, 96000, 8000, 24000, 22050, 88200, 192000, 11025)
"""Hz tried where a device refuses the rate it was asked for and its own."""
WHOLE_CHANNELS = 16
"""Devices with so many channels are opened with all; ALSA's software devices claim 32 to 128."""


@dataclass(frozen=True)
class Block:
    """A piece of the stream: `waveform`, float32 (samples,), for the eye and the endpointer.

    `channels`, float32 (samples, channels), is what the device gave; `arrived` is when, s on
    ``time.monotonic``.
    """

    waveform: np.ndarray
    channels: np.ndarray
    arrived: float


class Microphone:
    """An open microphone: a context manager from which blocks of mono sound are read.

    The callback, which runs in PortAudio's own thread, only copies into a queue.

    Parameters
    ----------
    device : number or part of the name; None is the system's default
    sample_rate : Hz to ask for; None is the device's own rate. A device that refuses is opened at
        its own rate: see the attribute of the same name for what it is
    block_ms : ms of sound in one block
    channel : the input to listen to, counted from 1; None finds the one with sound

    Attributes
    ----------
    sample_rate : Hz, what the device delivers
    remark : why one channel of many was taken, if it was, in the last recording
    overflows : blocks that the sound system or a full queue lost

    Raises
    ------
    MicrophoneError : nothing to open, or it can't be opened
    """

    def __init__(
        self,
        device: str | int | None = None,
        sample_rate: int | None = None,
        block_ms: int = config.LiveSettings.block_ms,
        channel: int | None = None,
    ) -> None:
        self.device, self.channel = choose_device(device), channel
        if channel is not None and channel > self.device.channels:
            raise MicrophoneError(
                f"the microphone {self.device.name!r} has no channel {channel}: "
                f"it has {self.device.channels}"
            )
        self.remark: str | None = None
        self._follower = ChannelFollower(block_ms / 1000)
        self.overflows = 0
        self._blocks: queue.Queue[tuple[float, np.ndarray]] = queue.Queue(
            max(4, round(1000 * QUEUE_SECONDS / block_ms))
        )
        self._delivers = False
        self._stream, self.sample_rate = self._open(sample_rate, block_ms)

    def _open(self, wanted: int | None, block_ms: int) -> tuple[Any, int]:
        sound = portaudio()
        own = self.device.sample_rate
        rates, counts = dict.fromkeys((wanted or own, own, *COMMON_RATES)), self._channel_counts()
        problems: dict[str, None] = {}  # in order, each once
        for rate, channels in itertools.product(rates, counts):
            for kind in ("float32", "int16"):
                try:
                    return sound.InputStream(
                        device=self.device.index,
                        samplerate=rate,
                        channels=channels,
                        dtype=kind,
                        blocksize=max(1, round(rate * block_ms / 1000)),
                        callback=self._on_sound,
                    ), rate
                except (sound.PortAudioError, ValueError) as error:
                    problems[reason(error)] = None
                    if "format" not in reason(error):
                        break
        raise MicrophoneError(
            f"can't open the microphone {self.device.name!r} ({', '.join(problems)}); tried "
            f"{_listed(rates)} Hz, each with {_listed(counts)} channels; "
            "--list-devices shows the others"
        )

    def _channel_counts(self) -> list[int]:
        """Numbers of channels to open the device with, the best first."""
        most = self.device.channels
        fewer = [min(2, most), 1] if self.channel is None else [self.channel]
        counts = [most, *fewer] if most <= WHOLE_CHANNELS else [*fewer, most]
        return list(dict.fromkeys(counts))

    def _on_sound(self, indata: np.ndarray, frames: int, when: Any, status: Any) -> None:
        if status.input_overflow:
            self.overflows += 1
        try:
            self._blocks.put_nowait((time.monotonic(), indata.copy()))
        except queue.Full:
            self.overflows += 1

    def __enter__(self) -> Microphone:
        sound = portaudio()
        try:
            self._stream.start()
        except sound.PortAudioError as error:
            self._stream.close()
            raise MicrophoneError(
                f"the microphone {self.device.name!r} does not start ({reason(error)})"
            ) from None
        return self

    def __exit__(self, *exception: object) -> None:
        ending = threading.Thread(target=self._end, daemon=True)
        ending.start()
        ending.join(END_SECONDS)
        if ending.is_alive():
            abandon_portaudio()

    def _end(self) -> None:
        # at once and without complaint, also when the device is gone
        for end in (self._stream.abort, self._stream.close):
            with contextlib.suppress(Exception):
                end()

    def read(self) -> Block:
        """Wait for the next block.

        Raises
        ------
        DeviceLost : no sound has come for `NEXT_BLOCK_SECONDS`, or the stream has ended
        """
        patience = NEXT_BLOCK_SECONDS if self._delivers else FIRST_BLOCK_SECONDS
        deadline = time.monotonic() + patience
        while True:
            active = self._stream.active  # asked before the queue: a last block is still delivered
            try:
                # short waits: on Windows, Ctrl-C does not interrupt a wait without an end
                arrived, sound = self._blocks.get(timeout=0.1)
            except queue.Empty:
                if not active or time.monotonic() > deadline:
                    raise DeviceLost(
                        f"the microphone {self.device.name!r} stopped delivering "
                        "sound: unplugged, or the sound server ended"
                    ) from None
                continue
            self._delivers = True
            if sound.dtype == np.int16:
                sound = audio_io.to_float(sound)
            if self.channel is not None:
                sound = sound[:, self.channel - 1 : self.channel]
            return Block(self._follower.feed(sound), sound, arrived)

    def wait_for_sound(self, seconds: float = WAKE_SECONDS) -> None:
        """Wait until the microphone delivers, and at most `seconds` more while it gives zeros.

        Raises
        ------
        DeviceLost : it delivers nothing at all
        """
        block = self.read()
        deadline = block.arrived + seconds
        while not block.waveform.any() and block.arrived < deadline:
            block = self.read()

    def discard(self) -> None:
        """Forget what has arrived and not yet been read."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._blocks.get_nowait()

    def record(
        self, seconds: float, on_block: Callable[[np.ndarray], None] | None = None
    ) -> np.ndarray:
        """Read `seconds` of sound from now on, float32 (samples,) at `sample_rate`.

        `on_block` is called with each block. Raises :class:`DeviceLost` with what there was.
        """
        wanted = max(1, round(seconds * self.sample_rate))
        parts: list[np.ndarray] = []
        self.discard()
        try:
            while sum(map(len, parts)) < wanted:
                block = self.read()
                parts.append(block.channels)
                if on_block is not None:
                    on_block(block.waveform)
        except DeviceLost as error:
            raise DeviceLost(str(error), self.mix_down(parts), self.sample_rate) from None
        return self.mix_down(parts)[:wanted]

    def mix_down(self, parts: Iterable[np.ndarray]) -> np.ndarray:
        """Blocks of channels (samples, channels), end to end, as one waveform (samples,).

        `remark` then says whether one channel alone was taken, and why.
        """
        samples = np.concatenate([np.zeros((0, 1), np.float32)] if not parts else list(parts))
        waveform, self.remark = audio_io.mix_down(samples)
        return waveform


def record(
    seconds: float,
    device: str | int | None = None,
    sample_rate: int | None = None,
    channel: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[np.ndarray, int]:
    """Open a microphone, record from it, close it.

    Parameters
    ----------
    seconds : s to record
    device : number or part of the name; None is the system's default
    sample_rate : Hz to ask for; None is the device's own
    channel : the input to record, counted from 1; None finds the one with sound
    tell : called with a line for the user when recording begins, and on what is odd

    Returns
    -------
    waveform : float32 (samples,), mono, in [-1, 1]
    sample_rate : Hz that the device delivered

    Raises
    ------
    MicrophoneError : there is none, or it can't be opened
    DeviceLost : it vanished; the exception holds what was recorded
    """
    with Microphone(device, sample_rate, channel=channel) as opened:
        opened.wait_for_sound()
        tell(f"recording {seconds:g} s: speak now")
        waveform = opened.record(seconds)
        if opened.remark:
            tell(opened.remark)
        return waveform, opened.sample_rate


def _listed(values: Iterable[int]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last
