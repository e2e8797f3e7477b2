"""Features of the strings that the network digit_ctc learns from, and batches of them.

Every line (:mod:`training.string_material`) goes through augmentation and front end once, and its
frames are kept in a mapped file: an epoch then takes seconds. Lines of about one length make a
group, which is padded with quiet, augmented and encoded together.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import config
import speech_encoder
import utils
from audio_feature_extraction import FrontEnd
from training.data import TrainLoader, half_precision, on_all_cores, pick_device, prefetch
from training.settings import TrainSettings
from training.string_material import Line, Material, Planner

VERSION = 3
"""Counted up whenever lines, augmentation or front end come out otherwise."""
GROUP = 128
"""Lines that are padded to one length, augmented and encoded together."""
TOGETHER = 4800
"""Frames of 10 ms that go through the encoder together."""
BATCH = 64
"""Lines of a group in a step."""
PAD = -1
"""Fills the rows of tokens."""
VALIDATION = config.StringMaterialSettings(
    real_views=1, joined=80, alone=160, spoken=0, other=80, noise=24, babble=24
)
"""Lines that validate: as they are, and once more with noise."""
VALIDATION_SNR_DB = 5.0
MASKS, MASK_FRAMES = 3, 3
"""SpecAugment's stretches of hidden frames in a line, and their longest: none hides a digit."""


@dataclasses.dataclass
class Lines:
    """Features of groups of lines in one file, and what is said in each.

    `groups` holds float16 (lines, frames, n_features) arrays, mapped; `tokens` int64 arrays (lines,
    longest), filled up with :data:`PAD`; `kinds` what sort of line each is.
    """

    groups: list[np.ndarray]
    tokens: list[np.ndarray]
    kinds: list[np.ndarray]

    @property
    def count(self) -> int:
        """All lines."""
        return sum(map(len, self.groups))


def grouped(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines of about one length together; noise, which has no speech, by itself."""
    found = []
    for noise in (False, True):
        part = [line for line in lines if (line.kind == "noise") == noise]
        part.sort(key=lambda line: line.samples)
        found += [part[first : first + GROUP] for first in range(0, len(part), GROUP)]
    return found


def for_strings(settings: config.AugmentationSettings) -> config.AugmentationSettings:
    """Augmentation that leaves what is said as it is, and no digit out.

    Noise is milder than for a word that fills its clip, and single talkers are no babble.
    """
    low, high = settings.snr_db
    return dataclasses.replace(
        settings,
        spliced_reversed=0.0,
        non_speech=0.0,
        shift=0.0,
        tempo=0.0,
        speed=0.0,
        snr_db=(max(low, 0.0), max(high, 25.0)),
        babble=min(settings.babble, 0.15),
    )


class StringLoader(TrainLoader):
    """Batches of lines for :class:`StringTrainer`; features are made before the first epoch."""

    def __init__(
        self,
        train_settings: TrainSettings,
        training: Material,
        validation: Material,
        features: config.FeaturesSettings,
    ) -> None:
        self.train_settings, self.settings = train_settings, train_settings.training
        self.device = pick_device(self.settings)
        self.front_end = FrontEnd(features, train_settings.audio.sample_rate).to(self.device)
        self.noises = None
        self.augmenter = self._augmenter(for_strings(train_settings.augmentation))
        if self.settings.mixed_precision:
            self.front_end.encoder_precision = half_precision(self.device)
        self.folder = train_settings.data.root / "cache" / "strings"
        seed, longest = train_settings.seed, train_settings.strings.longest
        counts, fewer = train_settings.strings, VALIDATION
        if train_settings.dry_run:
            counts = fewer = config.StringMaterialSettings(1, 16, 16, 0, 16, 4, 4)
        lines = Planner(training, longest, seed).lines(counts)
        self.training_lines = self._made(training, lines, "training")
        lines = Planner(validation, longest, seed + 1).lines(fewer)
        self.validation_lines = [
            self._made(validation, lines, kind) for kind in ("validation", "noisy")
        ]

    @property
    def steps(self) -> int:
        batches = sum(-(-len(group) // BATCH) for group in self.training_lines.groups)
        return max(1, batches // self.settings.accumulation)

    def _made(self, material: Material, lines: Sequence[Line], purpose: str) -> Lines:
        """Features of lines, from their file where they are in it."""
        groups = grouped(lines)
        path = self.folder / f"{self._key(material, lines, purpose)}.npy"
        sizes = [(len(group), *self._shape(group)) for group in groups]
        if not path.is_file():
            self._compute(material, groups, sizes, purpose, path)
        flat = np.load(path, mmap_mode="r")
        ends = np.cumsum([0, *(lines * frames * rows for lines, frames, rows in sizes)])
        return Lines(
            [
                flat[start:end].reshape(size)
                for start, end, size in zip(ends[:-1], ends[1:], sizes, strict=True)
            ],
            [padded_tokens([line.tokens for line in group]) for group in groups],
            [np.array([line.kind for line in group]) for group in groups],
        )

    def _key(self, material: Material, lines: Sequence[Line], purpose: str) -> str:
        """Changes with all that the features depend on."""
        facts = (
            VERSION,
            purpose,
            dataclasses.asdict(self.train_settings.augmentation),
            dataclasses.asdict(self.train_settings.audio),
            dataclasses.asdict(self.front_end.settings),
            self.train_settings.seed,
            self.front_end.encoder_precision,
        )
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        if self.front_end.settings.kind == "encoder":
            encoder = config.program_path(config.ENCODER_FILE)
            digest.update(speech_encoder.digest(encoder).encode())
        digest.update(repr(lines).encode())
        digest.update(material.clips.offsets.tobytes() + material.bounds.tobytes())
        return digest.hexdigest()[:32]

    def _samples(self, group: Sequence[Line]) -> int:
        """Samples that all lines of a group are brought to."""
        return max(line.samples for line in group)

    def _tempo(self, group: Sequence[Line]) -> float:
        """How much slower or quicker a group is made: one factor for all of its lines."""
        settings = self.train_settings.augmentation
        random = np.random.default_rng([self.train_settings.seed, self._samples(group)])
        span = settings.tempo_range if random.random() < settings.tempo else 0.0
        return float(np.exp(random.uniform(-span, span)))

    def _power_frames(self, group: Sequence[Line]) -> int:
        hop = self.front_end.settings.hop_length
        return max(16, round((self._samples(group) // hop + 1) / self._tempo(group)))

    def _shape(self, group: Sequence[Line]) -> tuple[int, int]:
        """Frames and rows of each line's features."""
        frames = self._power_frames(group)
        if self.front_end.settings.kind == "encoder":  # as the encoder shortens them, then pools
            frames = -(-(frames // 2) // self.front_end.settings.encoder_pool)
        return frames, self.front_end.n_features

    def _compute(
        self,
        material: Material,
        groups: Sequence[Sequence[Line]],
        sizes: Sequence[tuple[int, ...]],
        purpose: str,
        path: Path,
    ) -> None:
        """Write the features of all groups, on all cores."""
        ends = np.cumsum([0, *(int(np.prod(size)) for size in sizes)])
        calls = [
            functools.partial(self.features, material, group, purpose, number)
            for number, group in enumerate(groups)
        ]
        with utils.atomic_path(path) as temporary:
            flat = np.lib.format.open_memmap(
                temporary, mode="w+", dtype=np.float16, shape=(int(ends[-1]),)
            )
            made = on_all_cores(self.settings, calls, f"{purpose} lines", "group")
            with contextlib.closing(made):
                for number, features in enumerate(made):
                    flat[ends[number] : ends[number + 1]] = features.reshape(-1)
            flat.flush()
            del flat  # Windows renames no file that is mapped

    @torch.no_grad()
    def features(
        self, material: Material, group: Sequence[Line], purpose: str, number: int
    ) -> np.ndarray:
        """Features of a group, float16 (lines, frames, n_features)."""
        samples = self._samples(group)
        clips = torch.zeros(len(group), samples)
        for row, line in zip(clips, group, strict=True):
            row[: line.samples] = torch.from_numpy(material.waveform(line))
        clips = clips.to(self.device)
        settings = for_strings(self.train_settings.augmentation)
        if purpose == "noisy":
            low = max(settings.snr_db[0], VALIDATION_SNR_DB)
            settings = dataclasses.replace(settings, snr_db=(low, max(low, settings.snr_db[1])))
        augmented = purpose != "validation"
        if group[0].kind == "noise":
            settings = dataclasses.replace(settings, non_speech=1.0, noise=0.9)
        augmenter = self._augmenter(settings)
        augmenter.reseed(self.train_settings.seed * 100_003 + number)
        if augmented or group[0].kind == "noise":
            clips, _ = augmenter.waveforms(clips, torch.zeros(len(group), dtype=torch.int64))
        power = self.front_end.power(clips)
        if purpose == "training":
            power = augmenter.spectrograms(power)
        frames = self._power_frames(group)
        power = F.interpolate(power, frames, mode="linear", align_corners=True)
        parts = [
            self.front_end.from_power(part) for part in power.split(max(1, 48_000 // (frames * 10)))
        ]
        return torch.cat(parts).transpose(1, 2).to(torch.float16).cpu().numpy()

    def epoch(
        self, number: int, pool: ThreadPoolExecutor
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """An epoch of features (lines, n_features, frames) and tokens (lines, longest)."""
        random = np.random.default_rng((self.train_settings.seed, number))
        batches = [
            (group, rows)
            for group, lines in enumerate(self.training_lines.groups)
            for rows in np.array_split(random.permutation(len(lines)), -(-len(lines) // BATCH))
        ]
        order = random.permutation(len(batches))

        def make(step: int) -> tuple[Tensor, Tensor]:
            group, rows = batches[order[step]]
            frames = self.training_lines.groups[group][np.sort(rows)].astype(np.float32)
            masked(frames, np.random.default_rng((self.train_settings.seed, number, step)))
            tokens = torch.from_numpy(self.training_lines.tokens[group][np.sort(rows)])
            return (
                torch.from_numpy(frames).transpose(1, 2).to(self.device),
                tokens.to(self.device),
            )

        return prefetch(pool, make, len(self))

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        for lines in self.validation_lines:
            for frames, tokens in zip(lines.groups, lines.tokens, strict=True):
                features = torch.from_numpy(frames.astype(np.float32)).transpose(1, 2)
                yield features.to(self.device), torch.from_numpy(tokens).to(self.device)


def masked(frames: np.ndarray, random: np.random.Generator) -> None:
    """Hide a few short stretches of each line, (lines, frames, rows), in place."""
    for line in frames:
        for _ in range(MASKS):
            start = int(random.integers(max(1, len(line) - MASK_FRAMES)))
            line[start : start + int(random.integers(MASK_FRAMES + 1))] = 0.0


def padded_tokens(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of tokens, int64 (lines, longest and at least 1), filled up with :data:`PAD`."""
    table = np.full((len(rows), max(1, *map(len, rows)) if rows else 1), PAD, np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table
