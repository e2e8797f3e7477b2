"""Figures for the pages: those of :mod:`visualization`, in a folder that the pages may serve."""

from __future__ import annotations

import threading
from pathlib import Path

from recognition.recognizer import RecognitionResult

KEPT = 50
"""Figures kept; older ones are removed."""
_drawing = threading.Lock()


class Figures:
    """Draws comparisons of recordings before and after cleaning, into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._drawn = folder, 0

    def comparison(self, result: RecognitionResult) -> str | None:
        """The recording before and after cleaning; None where it wasn't cleaned."""
        if result.cleaned is None:
            return None
        import visualization  # matplotlib, which takes a while: after the answer

        with _drawing:  # matplotlib keeps fonts that threads would share
            path = self.folder / f"{self._drawn:06d}.png"
            (self.folder / f"{self._drawn - KEPT:06d}.png").unlink(missing_ok=True)
            self._drawn += 1
            visualization.plot_comparison(result.cleaned, result.rate, None, path)
        return str(path)
