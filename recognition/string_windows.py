"""A stream of sound in windows that overlap, and the posteriors of its frames, each once.

Each frame's posteriors are taken from the window in which enough follows it; so neither memory nor
delay grows with the recording, and it does not matter in what blocks the sound arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

import config

FRAME_S = 0.04
"""s of a frame."""
SHORTEST_S = 0.4
"""s that a window has at least; less is filled up with quiet."""
SILENCE_DBFS = -75.0
"""dBFS under which a window holds no speech, and no network is asked."""


@dataclass(frozen=True)
class Pace:
    """How windows follow each other; s, multiples of :data:`FRAME_S`."""

    window: float
    """What the network hears at once."""
    hop: float
    """From one window to the next."""
    ahead: float
    """What a frame's window holds after it at least."""


OFFLINE = Pace(window=8.0, hop=6.0, ahead=1.0)
LIVE = Pace(window=2.8, hop=0.16, ahead=0.4)


class FrameNetwork(Protocol):
    """What tells the classes of frames; :mod:`recognition.string_networks` has two."""

    rate: int
    """Hz of the windows."""

    def posteriors(self, window: np.ndarray) -> np.ndarray:
        """float32 (frames, 13) of float32 (samples,), a whole number of frames."""
        ...


class WindowedFrames:
    """Posteriors of the frames of a stream, each once, in order.

    Parameters
    ----------
    network : hears the windows
    pace : how they follow each other
    """

    def __init__(self, network: FrameNetwork, pace: Pace) -> None:
        self.network, self.frame = network, round(FRAME_S * network.rate)
        self.window, self.hop, self.ahead = (
            round(seconds / FRAME_S) * self.frame for seconds in (pace.window, pace.hop, pace.ahead)
        )
        self.sound = np.zeros(0, np.float32)
        self.begin = 0  # sample of the stream with which `sound` begins: a whole frame
        self.next_end = self.hop + self.ahead
        self.emitted = 0  # frames
        self.samples = 0  # of the stream so far

    def feed(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take float32 (samples,) in.

        Returns posteriors, (frames, 13), and levels, dB (frames,), of the frames that are decided.
        """
        found = [self._nothing()]
        block = np.nan_to_num(block.astype(np.float32, copy=False), posinf=0.0, neginf=0.0)
        place = 0
        while place < len(block):  # no further than a window's end, so that memory is bounded
            taken = block[place : place + self.next_end - self.samples]
            self.sound = np.concatenate([self.sound, taken])
            self.samples += len(taken)
            place += len(taken)
            if self.samples == self.next_end:
                found.append(self._window(self.samples, self.samples - self.ahead))
                self.next_end += self.hop
                self._forget()
        return _joined(found)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """The frames that are left, the last filled up with quiet."""
        wanted = max(self.samples, round(SHORTEST_S * self.network.rate) * (self.begin == 0))
        end = -(-wanted // self.frame) * self.frame
        last = -(-self.samples // self.frame) * self.frame
        if last <= self.emitted * self.frame:
            return self._nothing()
        self.sound = np.pad(self.sound, (0, end - self.samples))
        return self._window(end, last)

    def _window(self, end: int, decided: int) -> tuple[np.ndarray, np.ndarray]:
        """Hear the window up to sample `end`; its frames from the last emitted up to `decided`."""
        begin = max(self.begin, end - self.window)
        window = self.sound[begin - self.begin : end - self.begin]
        levels = levels_db(window, self.frame)
        first, last = self.emitted - begin // self.frame, (decided - begin) // self.frame
        if levels.max(initial=-200.0) < SILENCE_DBFS:
            posteriors = np.zeros((len(levels), config.N_FRAME_CLASSES), np.float32)
            posteriors[:, config.BLANK] = 1.0
        else:
            posteriors = self.network.posteriors(window)
        self.emitted = decided // self.frame
        return posteriors[first:last], levels[first:last]

    def _forget(self) -> None:
        """Drop what no window will hold any more."""
        begin = max(0, self.next_end - self.window)
        self.sound, self.begin = self.sound[begin - self.begin :], begin

    def _nothing(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((0, config.N_FRAME_CLASSES), np.float32), np.zeros(0)


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts])


def levels_db(waveform: np.ndarray, frame: int) -> np.ndarray:
    """Level of each frame, dBFS (frames,)."""
    frames = waveform[: len(waveform) // frame * frame].reshape(-1, frame)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    return 10 * np.log10(np.maximum(power, 1e-20))
