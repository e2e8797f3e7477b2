"""The clips of a training run in their windows: the same in memory and in a mapped file."""

from __future__ import annotations

import numpy as np
import pytest

import config
from training import settings

AUDIO = config.AudioSettings(sample_rate=8000)


@pytest.fixture
def every_run_counts_as_large(monkeypatch):
    monkeypatch.setattr(settings, "WINDOWS_IN_MEMORY", -1)
    monkeypatch.setattr(settings, "WINDOW_BLOCK", 7)


def test_many_windows_lie_in_a_nameless_file(small_clips, tmp_path, every_run_counts_as_large):
    mapped = settings.window(small_clips, AUDIO, tmp_path / "cache")
    kept = settings.window(small_clips, AUDIO)
    assert isinstance(mapped, np.memmap) and not isinstance(kept, np.memmap)
    assert np.array_equal(mapped, kept) and kept.any()
    assert not list((tmp_path / "cache").iterdir())


def test_where_no_file_can_be_written_they_stay_in_memory(
    small_clips, tmp_path, every_run_counts_as_large, capsys
):
    (tmp_path / "cache").write_text("no folder")
    windows = settings.window(small_clips, AUDIO, tmp_path / "cache")
    assert not isinstance(windows, np.memmap)
    assert np.array_equal(windows, settings.window(small_clips, AUDIO))
    assert "kept in memory" in capsys.readouterr().err


def test_no_clips_are_no_windows(small_clips, tmp_path):
    nothing = small_clips.subset([])
    assert settings.window(nothing, AUDIO, tmp_path).shape == (0, AUDIO.clip_samples)
