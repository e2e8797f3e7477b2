"""The readings of a string, and the one that meets what is asked of it: length, pattern, check."""

from __future__ import annotations

import math
import re

import numpy as np

import config
from recognition import ctc_decoding
from recognition.ctc_decoding import Token

LEAST_SHARE = 1e-5
"""Share of the probability under which a reading is not given, whatever constraint it meets."""
WIDE_BEAM = 64
"""Readings that are searched for one that meets the constraints."""


def readings(posteriors: np.ndarray, beam: int) -> list[tuple[str, float]]:
    """Strings with their shares of the probability of all that were found, best first."""
    found = ctc_decoding.n_best(condensed(posteriors), beam)
    best = max((chance for _, chance in found), default=0.0)
    weights = [math.exp(chance - best) for _, chance in found]
    return [
        ("".join(map(str, string)), weight / sum(weights))
        for (string, _), weight in zip(found, weights, strict=True)
    ]


def condensed(posteriors: np.ndarray) -> np.ndarray:
    """The same frames with one in place of each run in which nothing is said."""
    quiet = posteriors[:, : config.REJECT].sum(axis=1) < 1e-3
    return posteriors[~(quiet & np.roll(quiet, 1)) | (np.arange(len(quiet)) == 0)]


def meets(digits: str, settings: config.StringsSettings) -> bool:
    """Whether a string is what the constraints ask for."""
    if settings.length is not None and len(digits) != settings.length:
        return False
    if settings.pattern and not re.fullmatch(settings.pattern, digits):
        return False
    return {"none": lambda _: True, "luhn": is_luhn, "isbn": is_isbn}[settings.check](digits)


def is_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return len(digits) > 1 and sum(number - 9 * (number > 9) for number in doubled) % 10 == 0


def is_isbn(digits: str) -> bool:
    """Whether a string of 10 or 13 digits is an ISBN (ISO 2108); X, which is no digit, is none."""
    numbers = [int(digit) for digit in digits]
    if len(numbers) == 10:
        return sum((10 - place) * number for place, number in enumerate(numbers)) % 11 == 0
    checked = sum(number * (1 + 2 * (place % 2)) for place, number in enumerate(numbers))
    return len(numbers) == 13 and checked % 10 == 0


def constrained(
    posteriors: np.ndarray, tokens: list[Token], settings: config.StringsSettings
) -> tuple[list[Token], list[str], bool]:
    """The best reading that meets the constraints; remarks, and whether there is one.

    Where none of the likeliest readings does, the likeliest is given, and said to be wrong.
    """
    best = "".join(str(token.label) for token in tokens if token.label != config.REJECT)
    if not settings.constrained or meets(best, settings):
        return tokens, [], True
    for digits, share in readings(posteriors, WIDE_BEAM):
        if digits and share >= LEAST_SHARE and meets(digits, settings):
            return ctc_decoding.aligned(posteriors, [int(digit) for digit in digits]), [], True
    return tokens, [f"none of the likeliest readings {wish(settings)}"], False


def wish(settings: config.StringsSettings) -> str:
    """What the constraints ask for, in words."""
    parts = [f"has {settings.length} digits"] * (settings.length is not None)
    parts += [f"matches {settings.pattern}"] * bool(settings.pattern)
    parts += [f"has the check digit of {settings.check}"] * (settings.check != "none")
    return " and ".join(parts)
