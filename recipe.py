"""What a training run is made of: its settings and its clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import config
import dataset_loader
import models
from clips import Clips, concatenate


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, and where they go."""

    data: config.DataSettings = field(default_factory=config.DataSettings)
    audio: config.AudioSettings = field(default_factory=config.AudioSettings)
    features: config.FeatureSettings = field(default_factory=config.FeatureSettings)
    synthetic: config.SyntheticSettings = field(default_factory=config.SyntheticSettings)
    augmentation: config.AugmentationSettings = field(default_factory=config.AugmentationSettings)
    model: config.ModelSettings = field(default_factory=config.ModelSettings)
    training: config.TrainingSettings = field(default_factory=config.TrainingSettings)
    models: tuple[str, ...] = ("cnn", "rnn")
    """Networks to train, one after another."""
    seed: int = 0
    """Rules all randomness: the same seed gives the same weights on the same machine."""
    save_dir: Path = Path("saved_models")
    """Folder for the trained networks."""
    runs_dir: Path = Path("runs")
    """Folder for run records: settings, history, curves, TensorBoard logs, resumable states."""
    init: Path | None = None
    """Folder of trained networks to start from, for instance to adapt to your own voice."""
    resume: bool = False
    """Go on with the last run of the same settings after a crash or Ctrl-C."""
    dry_run: bool = False
    """Two batches of one epoch: does everything fit together? Saves into the run folder only."""

    def __post_init__(self) -> None:
        if not self.models:
            raise config.UserError("models is empty: name at least one, for instance --models cnn")
        for name in self.models:
            if name not in models.REGISTRY:
                raise config.UserError(f"no model named {name!r}: there are "
                                       f"{', '.join(sorted(models.REGISTRY))}")


@dataclass
class Material:
    """The clips of a run: what is learned from, what chooses the epoch, what is only scored."""

    training: Clips
    validation: Clips
    test: Clips
    corpora: str


def gather(recipe: Recipe) -> Material:
    """Load the corpora and split them; made-up speakers are kept apart like real ones.

    A tenth of the synthetic speakers is never trained on: with FSDD's validation takes they
    choose the epoch, and they are the strangers on which confidence is calibrated.
    """
    data = recipe.data
    fsdd, extra, corpora = dataset_loader.load_training_clips(
        data, recipe.audio, recipe.synthetic, recipe.seed)
    training, validation, test = [], [], []
    if fsdd is not None:
        split = dataset_loader.make_split(fsdd, data, recipe.seed)
        training.append(fsdd.subset(split.train))
        validation.append(fsdd.subset(split.validation))
        test.append(fsdd.subset(split.test))
    if len(extra):
        held_out = strangers(extra, 0.1, recipe.seed)
        validation.append(extra.subset(np.flatnonzero(held_out)))
        kept = np.flatnonzero(~held_out)
        own = kept[extra.corpus[kept] == "own"]
        training.append(extra.subset(np.concatenate([kept] + [own] * (data.own_repeats - 1))))
    if not test:
        digits = validation[0].subset(np.flatnonzero(validation[0].digits != config.REJECT))
        test.append(digits)
    return Material(concatenate(training), concatenate(validation), concatenate(test), corpora)


def strangers(clips: Clips, fraction: float, seed: int) -> np.ndarray:
    """Mark a share of the speakers, bool (n,); your own recordings are never held out."""
    speakers = np.unique(clips.speakers[clips.corpus != "own"])
    count = round(fraction * len(speakers))
    chosen = np.random.default_rng(seed).permutation(speakers)[:count]
    return np.isin(clips.speakers, chosen)
