"""Features computed once for all epochs and runs: for training without augmentation.

They lie in a mapped file whose name is a digest of the clips' samples and the front end's settings,
so other clips or settings make another file, and the same ones find theirs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import utils
from corpora import storage
from training import distributed
from training.data import EVALUATION_BATCH, TrainLoader

VERSION = 1
"""Counted up whenever the front end computes otherwise, so that old files are not used."""
KEPT = 4
"""Files that are kept; the oldest goes first."""


class FeatureLoader(TrainLoader):
    """The batches of a run without augmentation; see :class:`TrainLoader`."""

    features: np.ndarray
    """float32 (training + validation clips, n_features, frames), mapped."""

    def prepare(self) -> None:
        """Find the features, or compute them and write them.

        Raises
        ------
        OSError : no room for them
        """
        folder = self.train_settings.data.root / "cache" / "features"
        path = folder / f"{self._key()}.npy"
        with utils.locked(path):
            if _mapped(path) is None:
                self._write(path)
        path.touch()
        files = sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime)
        for old in files[:-KEPT]:
            with contextlib.suppress(OSError):  # another run's, on Windows
                old.unlink()
        print(f"features of {self._count} clips in {path}", flush=True)
        self.features = np.load(path, mmap_mode="r")

    @property
    def _count(self) -> int:
        return len(self.training_data.training) + len(self.training_data.validation)

    def _key(self) -> str:
        """Changes with any sample and any setting of the front end."""
        front_end = dataclasses.asdict(self.front_end.settings)
        rate = self.train_settings.audio.sample_rate
        digest = hashlib.sha256(f"{VERSION} {rate} {sorted(front_end.items())}".encode())
        for windows in self._all_windows():
            digest.update(windows.tobytes())
        return digest.hexdigest()[:16]

    def _all_windows(self) -> Iterator[np.ndarray]:
        """The clips in order, training before validation, some at a time."""
        for clips in (self.training_data.training, self.training_data.validation):
            for first in range(0, len(clips), EVALUATION_BATCH):
                yield clips[first : first + EVALUATION_BATCH]
            storage.release(clips)

    @torch.no_grad()
    def _write(self, path: Path) -> None:
        """Write the features block by block; a full disk leaves nothing behind."""
        blocks = (self.front_end(self._waveforms(part)).cpu() for part in self._all_windows())
        with utils.atomic_path(path) as temporary, open(temporary, "wb") as file:
            for number, block in enumerate(blocks):
                if not number:
                    header = {"descr": "<f4", "fortran_order": False}
                    shape = {"shape": (self._count, *block.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header | shape)
                file.write(block.numpy().astype("<f4", copy=False).tobytes())

    def make(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Features and smoothed targets of the training clips numbered `rows`."""
        features = torch.from_numpy(self.features[rows]).to(self.device)
        storage.release(self.features)
        labels = torch.from_numpy(self.training_data.training_labels[rows]).to(self.device)
        return features, self.targets(labels)

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's validation clips: features and int64 (batch,) class indices."""
        own = distributed.own_rows()
        features = self.features[len(self.training_data.training) :][own]
        labels = self.training_data.validation_labels[own]
        for first in range(0, len(features), EVALUATION_BATCH):
            part = slice(first, first + EVALUATION_BATCH)
            answers = self.answers(torch.from_numpy(labels[part]).to(self.device))
            yield torch.from_numpy(features[part].copy()).to(self.device), answers


def _mapped(path: Path) -> np.ndarray | None:
    """The array of a file; None where it is missing or cut short."""
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
