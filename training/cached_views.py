"""Training on augmented views of the clips: computed once, kept in files, mapped to memory.

Augmentation costs more than a small network's step, and the pretrained encoder a hundred times
more. So every training clip goes through augmentation and front end a few times before the first
epoch, and each epoch reads one of these views. The files are named by all that their content
depends on: another run with the same clips, settings and encoder finds them, and one that was
interrupted goes on with the missing ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import itertools
import json
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import config
import speech_encoder
import utils
from audio_augmentation import Augmenter
from corpora import storage
from training.data import TrainLoader, half_precision, on_all_cores, prefetch
from training.settings import TrainingData, TrainSettings

VERSION = 2
"""Counted up whenever augmentation or front end compute otherwise: old files stay unused."""
KEPT_BYTES = 8_000_000_000
"""Size of all files that are kept; the oldest go first, never those of the run itself."""
CHUNK = 512
"""Clips in a file, which are also each other's babble."""
OWN = "own"
"""The corpus of somebody's own clips."""
OWN_VIEWS = 16
"""Augmented views of each of somebody's own clips: they are few, and shown often."""
REHEARSED = 8
"""Of so many chunks of a corpus one is rehearsed while the networks adapt, and one at least."""
RELEASED = 32
"""Batches after which the system may take back the memory of what was read of the files."""
PART = 64
"""Clips that go through the encoder together; more gain nothing and cost memory."""


def labels_path(path: Path) -> Path:
    """Where the labels of a file of features lie: augmentation changes some to non-digit."""
    return path.with_name(f"{path.stem}.labels.npy")


class CachedLoader(TrainLoader):
    """The same batches as :class:`TrainLoader`'s, but of a few views of every clip."""

    def __init__(
        self,
        train_settings: TrainSettings,
        training_data: TrainingData,
        features: config.FeaturesSettings,
    ) -> None:
        super().__init__(train_settings, training_data, features)
        self.is_encoder = features.kind == "encoder"
        self.encoder_digest = ""
        if self.is_encoder:
            self.encoder_digest = speech_encoder.digest(config.program_path(config.ENCODER_FILE))
            if self.settings.mixed_precision:
                self.front_end.encoder_precision = half_precision(self.device)
        self.folder = train_settings.data.root / "cache" / "views"
        self.chunks = [chunk for rows in self._by_corpus() for chunk in self._chunks(rows)]
        if train_settings.dry_run:
            self.chunks = [self.chunks[0][: 2 * self.settings.batch_size]]
        self.chunk_of = np.repeat(np.arange(len(self.chunks)), [len(one) for one in self.chunks])
        self.place_of = np.concatenate([np.arange(len(one)) for one in self.chunks])
        repeats = self.training_data.repeats
        clips = np.arange(len(self.chunk_of))
        self.rows = (
            clips if repeats is None else np.repeat(clips, repeats[np.concatenate(self.chunks)])
        )
        self.views_of = np.array([self._views_of(chunk) for chunk in self.chunks])
        self.paths = [
            [self.folder / f"{self._key(chunk, view)}.npy" for view in range(views)]
            for chunk, views in zip(self.chunks, self.views_of, strict=True)
        ]
        """The files of every chunk's features, one a view; the labels lie beside each."""
        self.validation_features: list[tuple[Tensor, Tensor]] = []

    def _by_corpus(self) -> list[np.ndarray]:
        """Rows of clips, shuffled within each corpus: a chunk is the same beside other corpora."""
        corpus = self.training_data.corpus
        return [
            np.random.default_rng(self.train_settings.seed).permutation(
                np.flatnonzero(corpus == name)
            )
            for name in np.unique(corpus)
        ]

    @property
    def rehearses(self) -> bool:
        """Whether a trained network behind the encoder is adapted to somebody's own clips.

        The own clips are all there is to learn then, and a share of the others keeps what was
        learnt: the encoder would take minutes over all of them, and takes seconds over these.
        """
        own = bool((self.training_data.corpus == OWN).any())
        return self.is_encoder and own and self.train_settings.init is not None

    def _chunks(self, rows: np.ndarray) -> list[np.ndarray]:
        """A corpus' rows in chunks; to rehearse, the first of every few."""
        chunks = [rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK)]
        if self.rehearses and not self._is_own(rows):
            return chunks[: -(-len(chunks) // REHEARSED)]
        return chunks

    def _is_own(self, rows: np.ndarray) -> bool:
        return bool(self.training_data.corpus[rows[0]] == OWN)

    def _views_of(self, chunk: np.ndarray) -> int:
        """Augmented views of a chunk: an adaptation's own clips are few, and shown often."""
        if self._is_own(chunk):
            return min(OWN_VIEWS, self.epochs * self.train_settings.data.own_repeats)
        if self.rehearses:
            return 1
        return self.views

    @property
    def views(self) -> int:
        """Augmented views of most clips; more than there are epochs would not be looked at."""
        views = self.settings.encoder_views if self.is_encoder else self.settings.views
        return min(views, self.epochs)

    def _key(self, chunk: np.ndarray, view: int) -> str:
        """Changes with all that a chunk's features depend on."""
        settings = (
            VERSION,
            dataclasses.asdict(self.train_settings.augmentation),
            dataclasses.asdict(self.train_settings.audio),
            dataclasses.asdict(self.front_end.settings),
            self.encoder_digest,
            self.front_end.encoder_precision,
            self.train_settings.seed,
            view,
        )
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        digest.update(self.training_data.training[chunk].tobytes())
        digest.update(self.training_data.training_labels[chunk].tobytes())
        return digest.hexdigest()[:32]

    def files(self, path: Path) -> tuple[Path, ...]:
        """What is stored of a chunk in one view: features, then what targets are made of."""
        return path, labels_path(path)

    def prepare(self) -> None:
        """Compute what is not there yet, on all cores."""
        todo = [
            (chunk, path)
            for chunk, paths in zip(self.chunks, self.paths, strict=True)
            for path in paths
            if not all(file.exists() for file in self.files(path))
        ]
        calls = [functools.partial(self.compute, chunk, path) for chunk, path in todo]
        for _ in on_all_cores(self.settings, calls, "views", "chunk"):
            pass
        self.forget_old()

    def forget_old(self) -> None:
        """Remove the oldest files of other runs, as far as all take more than is kept."""
        ours = {file for paths in self.paths for path in paths for file in self.files(path)}
        for path in ours:
            path.touch()
        found = self.folder.glob("[!.]*.npy")
        files = [(path.stat().st_mtime, path.stat().st_size, path) for path in found]
        excess = sum(size for _, size, _ in files) - KEPT_BYTES
        for _, size, path in sorted(files):
            if excess <= 0:
                return
            if path not in ours:
                with contextlib.suppress(OSError):  # another run's, on Windows
                    path.unlink()
                excess -= size

    @torch.no_grad()
    def compute(self, chunk: np.ndarray, path: Path) -> None:
        """Augment a chunk of clips and write its features; the file's name is the seed."""
        augmenter = self._augmenter(self.train_settings.augmentation)
        augmenter.reseed(int(path.stem[:15], 16))
        clips = self._waveforms(self.training_data.training[chunk])
        storage.release(self.training_data.training)  # every chunk is read
        labels = torch.from_numpy(self.training_data.training_labels[chunk]).to(self.device)
        clips, labels = augmenter.waveforms(clips, labels)
        parts = [self.of_part(part, augmenter) for part in clips.split(PART)]
        frames, *more = (torch.cat(column).to(torch.float16) for column in zip(*parts, strict=True))
        for file, values in zip(self.files(path), (frames, labels, *more), strict=True):
            buffer = io.BytesIO()  # numpy's own writer tells no reason where a disk is full
            np.save(buffer, values.cpu().numpy(), allow_pickle=False)
            with utils.atomic_path(file) as temporary:
                temporary.write_bytes(buffer.getvalue())

    def of_part(self, clips: Tensor, augmenter: Augmenter) -> tuple[Tensor, ...]:
        """Features of clips, float32 (batch, samples), that are augmented so far as waveforms."""
        power = augmenter.spectrograms(self.front_end.power(clips))
        return (self.front_end.from_power(power),)

    def stored_targets(self, number: int) -> tuple[np.ndarray, ...]:
        """What the targets of a chunk are made of: labels, int64 (views, clips)."""
        columns = zip(*(self.files(path)[1:] for path in self.paths[number]), strict=True)
        return tuple(np.stack([np.load(file) for file in column]) for column in columns)

    def batch_targets(self, *stored: Tensor) -> Tensor:
        """Targets of a batch, of its share of :meth:`stored_targets`."""
        return self.targets(stored[0])

    def epoch(
        self, number: int, pool: ThreadPoolExecutor
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """The batches of an epoch, as :meth:`TrainLoader.epoch`; each clip in a view at random."""
        files = [[np.load(path, mmap_mode="r") for path in paths] for paths in self.paths]
        stored = [self.stored_targets(number) for number in range(len(self.chunks))]
        random = np.random.default_rng((self.train_settings.seed, number))
        order = self.shuffled(random)
        views = random.integers(self.views_of[self.chunk_of[order]])
        size = self.share
        self.reseed(number)

        def make(batch: int) -> tuple[Tensor, Tensor]:
            places = np.arange(batch * size, (batch + 1) * size) % len(order)
            rows = order[places]
            chosen = list(zip(self.chunk_of[rows], views[places], self.place_of[rows], strict=True))
            frames = np.stack([files[chunk][view][place] for chunk, view, place in chosen])
            features = torch.from_numpy(frames).to(self.device).float()
            columns = zip(
                *([kept[view, place] for kept in stored[chunk]] for chunk, view, place in chosen),
                strict=True,
            )
            targets = [torch.from_numpy(np.stack(column)).to(self.device) for column in columns]
            if batch % RELEASED == 0:
                for file in itertools.chain(*files):
                    storage.release(file)
            return self.augmenter.spec_augmented(features), self.batch_targets(*targets)

        return prefetch(pool, make, len(self))

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Unaugmented validation clips, computed once for all epochs."""
        if not self.validation_features:
            self.validation_features = [
                (frames.to(torch.float16), labels) for frames, labels in super().validation()
            ]
        for frames, labels in self.validation_features:
            yield frames.float(), labels
