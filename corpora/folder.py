"""A folder of labelled sound files as a corpus; your own recordings are one of these."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

import audio_io
import config
from corpora.clips import Clips
from corpora.registry import Request, register

NAMED_FILES = 10
"""Skipped files that are named; the rest is counted."""
MAX_NOISE_SECONDS = 3600.0
"""s. Backgrounds may be longer than words."""
CLIP_NAME = re.compile(r"(?P<label>[A-Za-z]+|\d)_(?P<speaker>.+)_(?P<take>\d+)")


@register(
    "own",
    licence="yours",
    about="your own labelled clips, made by microphone_inference.py",
    place=lambda request: request.data.own_dir if request.data.own_dir.is_dir() else None,
)
def load_own(request: Request) -> Clips:
    """The clips that the live script has kept, below ``data.own_dir``."""
    folder = request.data.own_dir
    if not folder.is_dir():
        raise config.UserError(
            f"{folder}: no recordings of your own yet; microphone_inference.py makes some"
        )
    return load_folder(folder, request.audio, corpus="own")


def load_folder(
    folder: Path,
    audio: config.AudioSettings,
    corpus: str | None = None,
    label_from_name: bool = True,
) -> Clips:
    """All recordings below `folder`, named ``{digit or word}_{speaker}_{take}``, resampled.

    Files with other names, without sound or unreadable are named on standard error, and skipped.

    Parameters
    ----------
    folder : searched with its subfolders
    audio : the sample rate, and the longest clip accepted
    corpus : name for all clips; by default that of the first folder on the way to each, which is
        `folder` itself for files directly in it
    label_from_name : False takes any name, and non-digit as label

    Returns
    -------
    clips : sorted by path; words other than the ten digits' are config.REJECT

    Raises
    ------
    UserError : no such folder, or no usable recording in it
    """
    rows, skipped = [], []
    paths = _sound_files(folder)
    for path in paths:
        try:
            digit, speaker, take = _label(path) if label_from_name else (config.REJECT, "", 0)
            waveform, _ = audio_io.read_audio(path, audio.sample_rate, audio.max_seconds)
            inner = path.relative_to(folder).parts[:-1]
            rows.append(
                (
                    waveform,
                    digit,
                    speaker,
                    path.stem,
                    take,
                    corpus or (inner[0] if inner else folder.resolve().name),
                )
            )
        except config.UserError as error:
            skipped.append(str(error))
    _report_skipped(folder, skipped, len(paths))
    return Clips.from_waveforms(*zip(*rows, strict=True), audio.sample_rate)


def _label(path: Path) -> tuple[int, str, int]:
    """Digit, speaker and take from a file's name."""
    match = CLIP_NAME.fullmatch(path.stem)
    if match is None:
        raise config.UserError(f"{path}: not named like 7_speaker_0 or word_speaker_0")
    word = match["label"].lower()
    labels = {
        **{name: int(name) for name in config.DIGITS},
        **{name: digit for digit, name in enumerate(config.DIGIT_WORDS)},
    }
    return labels.get(word, config.REJECT), match["speaker"], int(match["take"])


def load_noise(folder: Path, sample_rate: int) -> list[np.ndarray]:
    """All sound files below `folder` as float32 (samples,), resampled, sorted by path.

    Raises
    ------
    UserError : no such folder, or no usable sound in it
    """
    noises, skipped = [], []
    paths = _sound_files(folder)
    for path in paths:
        try:
            noises.append(audio_io.read_audio(path, sample_rate, MAX_NOISE_SECONDS)[0])
        except config.UserError as error:
            skipped.append(str(error))
    _report_skipped(folder, skipped, len(paths))
    return noises


def _sound_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise config.UserError(f"{folder}: no such folder")
    return audio_io.find_audio(folder)


def _report_skipped(folder: Path, skipped: list[str], total: int) -> None:
    for message in skipped[:NAMED_FILES]:
        _warn(f"skipped {message}")
    if skipped:
        _warn(f"{len(skipped)} of {total} files in {folder} skipped")
    if len(skipped) == total:
        raise config.UserError(f"{folder}: no usable sound file in it ({total} found)")


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
