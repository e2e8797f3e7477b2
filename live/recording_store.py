"""What the live script keeps: recordings, cleaned clips, plots, a log, the user's own clips."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import audio_io
import config
from live.plot_process import PlotProcess
from recognition.recognizer import RecognitionResult

PLOT_PATIENCE = 15.0
"""s that a normal end of the program waits for plots that are still to be drawn."""


class RecordingStore:
    """Saves results in a folder, and clips labelled by the user in its subfolder ``own``.

    A disk that is full or read-only is told once, and saving stops; nothing is raised.

    Parameters
    ----------
    settings : folder, plots or not, the user's name
    say : called with a line for the user
    saves : False saves nothing but what the user labels
    hurried : plots are left out, rather than waited for, when they fall behind
    """

    def __init__(
        self,
        settings: config.LiveSettings,
        say: Callable[[str], None],
        saves: bool = True,
        hurried: bool = True,
    ) -> None:
        self.folder, self.user = settings.recordings_dir, settings.user
        self.saves, self.hurried, self._say = saves, hurried, say
        self._plots = PlotProcess() if settings.plots else None
        self._labelled: tuple[RecognitionResult, Path] | None = None

    def save(self, result: RecognitionResult) -> str | None:
        """Save the recording, the cleaned clip, the log line, and ask for the plot.

        Returns the path of the recording, or None where nothing is saved.
        """
        if not self.saves:
            return None
        try:
            return str(self._save(result))
        except OSError as error:
            self._give_up(error)
            return None

    def _save(self, result: RecognitionResult) -> Path:
        stem = self._new_stem(result)
        recording = stem.with_suffix(".wav")
        audio_io.write_audio(recording, result.recording.waveform, result.recording.sample_rate)
        audio_io.write_audio(
            stem.with_name(f"{stem.name}_clean.wav"), cleaned_sound(result), result.rate
        )
        append_line(self.folder / "log.jsonl", result.as_dict() | {"recording": recording.name})
        if self._plots is not None and result.cleaned is not None:
            self._plots.draw(
                result.cleaned,
                result.rate,
                result.prediction,
                stem.with_suffix(".png"),
                wait=not self.hurried,
            )
        return recording

    def _new_stem(self, result: RecognitionResult) -> Path:
        second = time.strftime("%Y%m%d-%H%M%S", time.localtime(result.when))
        name = f"{second}-{int(result.when * 1000) % 1000:03d}"
        stem, number = self.folder / name, 1
        while stem.with_suffix(".wav").exists():
            number += 1
            stem = self.folder / f"{name}-{number}"
        return stem

    def label(self, result: RecognitionResult, digit: int) -> Path | None:
        """Keep the cleaned clip of a result as the user's recording of the label numbered `digit`.

        A second label for the same result replaces the first. Returns the clip's path, or None
        where it can't be saved, which is told.
        """
        own, name = self.folder / "own", result.vocabulary.labels[digit]
        try:
            if self._labelled is not None and self._labelled[0] is result:
                self._labelled[1].unlink(missing_ok=True)
            path = own / f"{name}_{self.user}_{next_take(own, name, self.user)}.wav"
            audio_io.write_audio(path, cleaned_sound(result), result.rate)
            self._labelled = result, path
            append_line(
                self.folder / "log.jsonl",
                {"label": digit, "clip": path.name, "answered": result.prediction.digit},
            )
            return path
        except OSError as error:
            self._give_up(error)
            return None

    def _give_up(self, error: OSError) -> None:
        self._say(
            f"can't save in {self.folder} ({error.strerror or error}): going on without saving"
        )
        self.saves = False

    def close(self, patience: float | None = None) -> None:
        """Let the last plots be drawn, for `patience` s at most or :data:`PLOT_PATIENCE`.

        Where nobody is hurried, as after files, they are drawn after the program's end.
        """
        if self._plots is None:
            return
        if self._plots.waiting > 1:  # one is quick: not worth a word
            self._say(f"drawing {self._plots.waiting} more plots; Ctrl-C leaves them out")
        patience = PLOT_PATIENCE if patience is None else patience
        finished = self._plots.close(patience, wait=self.hurried)
        if self._plots.skipped:
            self._say(f"{self._plots.skipped} plots were left out: the answers came too quickly")
        elif not finished:
            self._say("not all plots could be drawn")


def cleaned_sound(result: RecognitionResult) -> np.ndarray:
    """The speech, float32 (samples,), or the whole cleaned recording where there is none."""
    if result.speech.size or result.cleaned is None:
        return result.speech
    return result.cleaned.gated


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Add a line of JSON to a file; a line that can't be written whole is taken back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(values) + "\n").encode()
    with path.open("ab", buffering=0) as log:
        before = log.seek(0, os.SEEK_END)
        if log.write(line) != len(line):
            log.truncate(before)
            raise OSError(f"{path}: the disk is full")


def next_take(folder: Path, label: str, user: str) -> int:
    """One more than the largest number among the user's clips of a label; 0 for the first."""
    pattern = re.compile(rf"{re.escape(label)}_{re.escape(user)}_(\d+)\.wav")
    matches = (pattern.fullmatch(path.name) for path in folder.glob("*.wav"))
    return max((int(match[1]) + 1 for match in matches if match), default=0)
