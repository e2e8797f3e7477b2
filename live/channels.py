"""Which channel of a microphone's stream somebody speaks on."""

from __future__ import annotations

from collections import deque

import numpy as np

FLOOR_DBFS = -70.0
"""dBFS under which all is silence: a faint echo of another channel must not look like speech."""
HISTORY_SECONDS = 3.0
"""s over which a channel's quiet is known; its 15th percentile, as in :mod:`live.endpointing`."""
RECENT_SECONDS = 0.1
"""s of which the loudest block counts as the channel's level now."""
SWITCH_DB = 6.0
"""dB by which another channel must rise further out of its quiet to be followed instead."""


class ChannelFollower:
    """Joins a stream's channels to one, sample for sample and without delay.

    That is their mean, until one channel rises out of its own quiet much further than the mean
    does: a headset on input 3 of 8, a channel full of noise, two channels that cancel each other.

    Parameters
    ----------
    block_seconds : s of sound in a block, about
    """

    def __init__(self, block_seconds: float) -> None:
        self._levels: deque[np.ndarray] = deque(
            maxlen=max(2, round(HISTORY_SECONDS / block_seconds))
        )
        self._recent = max(1, round(RECENT_SECONDS / block_seconds))
        self._followed = 0  # 0 is the mean, then the channels

    def feed(self, block: np.ndarray) -> np.ndarray:
        """The next samples, float32 (samples, channels) to (samples,)."""
        if block.shape[1] == 1 or not len(block):
            return block.mean(axis=1, dtype=np.float32)
        voices = np.column_stack([block.mean(axis=1, dtype=np.float32), block])
        power = np.var(voices, axis=0, dtype=np.float64)
        self._levels.append(np.maximum(10 * np.log10(power + 1e-20), FLOOR_DBFS))
        history = np.array(self._levels)
        rise = history[-self._recent :].max(axis=0) - np.percentile(history, 15, axis=0)
        if rise.max() > rise[self._followed] + SWITCH_DB:
            self._followed = int(rise.argmax())
        return np.ascontiguousarray(voices[:, self._followed])
