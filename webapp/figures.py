"""Figures for the pages: those of :mod:`visualization`, in memory."""

from __future__ import annotations

import threading
from pathlib import Path

from recognition.recognizer import RecognitionResult

_drawing = threading.Lock()


class Figures:
    """Draws comparisons of recordings before and after cleaning; `folder` is for the moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def comparison(self, result: RecognitionResult) -> bytes | None:
        """The recording before and after cleaning, as PNG; None where it wasn't cleaned."""
        if result.cleaned is None:
            return None
        import visualization  # matplotlib, which takes a while: after the answer

        with _drawing:  # matplotlib keeps fonts that threads would share
            path = self.folder / "figure.png"
            visualization.plot_comparison(result.cleaned, result.rate, None, path)
            content = path.read_bytes()
            path.unlink()
        return content
