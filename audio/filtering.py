"""A Butterworth high-pass with NumPy alone: ``scipy.signal`` takes a second to import.

The filter runs over blocks of samples: within a block it is one matrix product, from block to block
go only the values that its delays hold. SciPy's ``butter``, ``sosfilt`` and ``sosfiltfilt`` are the
references; the tests compare.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

BLOCK = 128
"""Samples that are filtered by one matrix product."""


@dataclass(frozen=True)
class LinearFilter:
    """A linear filter as matrices over blocks of n samples, for k values that its delays hold.

    `response` (n, n): output of each input sample. `decay` (k, n): output of each held value.
    `gather` (n, k) and `carry` (k, k): what of either is held after the block. `steady` (k,): what
    is held after ever so many samples of 1.
    """

    response: np.ndarray
    decay: np.ndarray
    gather: np.ndarray
    carry: np.ndarray
    steady: np.ndarray

    def run(self, waveform: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Filter float64 (samples,), causally, with the values held before it."""
        count = -(-len(waveform) // BLOCK)
        blocks = np.zeros((count, BLOCK))
        blocks.reshape(-1)[: len(waveform)] = waveform
        gathered = blocks @ self.gather
        states = np.empty_like(gathered)
        for number in range(count):
            states[number] = held
            held = held @ self.carry + gathered[number]
        return (blocks @ self.response + states @ self.decay).reshape(-1)[: len(waveform)]


@functools.lru_cache(maxsize=16)
def butterworth_high_pass(order: int, corner_hz: float, sample_rate: int) -> LinearFilter:
    """The digital Butterworth high-pass of an even order (Butterworth 1930, bilinear transform)."""
    sections = [
        high_pass_section(1 / (2 * math.sin(math.pi * (2 * number + 1) / (2 * order))), ratio)
        for number in range(order // 2)
        for ratio in [math.tan(math.pi * corner_hz / sample_rate)]
    ]
    # the matrices are what the filter does to unit impulses, and to unit values held
    held = np.zeros((BLOCK + order, order))
    held[BLOCK:] = np.eye(order)
    output = np.empty((BLOCK + order, BLOCK))
    for sample in range(BLOCK):
        value = np.zeros(BLOCK + order)
        value[sample] = 1.0
        for number, section in enumerate(sections):
            delays = held[:, 2 * number : 2 * number + 2]
            value = step(section, value, delays)
        output[:, sample] = value
    one = held_after_ones(sections)
    return LinearFilter(output[:BLOCK], output[BLOCK:], held[:BLOCK], held[BLOCK:], one)


def high_pass_section(quality: float, ratio: float) -> tuple[float, float, float]:
    """Gain and the two feedback coefficients of a second-order high-pass; its zeros lie at 1."""
    scale = 1 / (1 + ratio / quality + ratio * ratio)
    return scale, 2 * (ratio * ratio - 1) * scale, (1 - ratio / quality + ratio * ratio) * scale


def step(section: tuple[float, float, float], value: np.ndarray, delays: np.ndarray) -> np.ndarray:
    """One sample through a section (transposed direct form II); changes its two delays."""
    gain, first, second = section
    output = gain * value + delays[:, 0]
    delays[:, 0] = delays[:, 1] - 2 * gain * value - first * output
    delays[:, 1] = gain * value - second * output
    return output


def held_after_ones(sections: list[tuple[float, float, float]]) -> np.ndarray:
    """What the delays hold after ever so many samples of 1: the output is 0 by then."""
    first_gain = sections[0][0]
    return np.array([-first_gain, first_gain] + [0.0] * (2 * len(sections) - 2))


def forwards(linear: LinearFilter, waveform: np.ndarray) -> np.ndarray:
    """Filter float64 (samples,) causally, from rest."""
    return linear.run(waveform, np.zeros_like(linear.steady))


def forwards_and_backwards(linear: LinearFilter, waveform: np.ndarray, padding: int) -> np.ndarray:
    """Filter float64 (samples,) without delay, and twice; `padding` samples more on either side.

    They are the waveform turned about its first and its last sample. `padding` is less than the
    number of samples.
    """
    before = 2 * waveform[0] - waveform[padding:0:-1]
    after = 2 * waveform[-1] - waveform[-2 : -padding - 2 : -1]
    padded = np.concatenate((before, waveform, after))
    once = linear.run(padded, linear.steady * padded[0])[::-1]
    twice = linear.run(once, linear.steady * once[0])[::-1]
    return twice[padding : len(twice) - padding]
