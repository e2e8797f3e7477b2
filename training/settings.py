"""What a training run is made of: its settings and its clips."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

import audio_io
import config
import dataset_loader
from audio_feature_extraction import is_cut, prepare_clip
from corpora import prepared, splits
from corpora.clips import Clips, concatenate
from models import registry

HELD_OUT_FRACTION = 0.1
"""Share of the speakers of each corpus outside FSDD who validate, and never train."""


@dataclass(frozen=True)
class TrainSettings:
    """All that decides the weights, and where they go."""

    data: config.DataSettings = field(default_factory=config.DataSettings)
    audio: config.AudioSettings = field(default_factory=config.AudioSettings)
    features: config.FeaturesSettings = field(default_factory=config.FeaturesSettings)
    synthetic: config.SyntheticSettings = field(default_factory=config.SyntheticSettings)
    augmentation: config.AugmentationSettings = field(default_factory=config.AugmentationSettings)
    model: config.ModelSettings = field(default_factory=config.ModelSettings)
    training: config.TrainingSettings = field(default_factory=config.TrainingSettings)
    models: tuple[str, ...] = ("cnn", "rnn")
    """Networks to train, side by side: all is every one, and ensemble weighs their votes."""
    rnn_features: Literal["encoder", "log_mel", "mfcc", "spectrogram"] = "encoder"
    """What the BiLSTM listens through: the pretrained encoder, or a front end of --features."""
    mlp_features: Literal["encoder", "log_mel", "mfcc", "spectrogram"] = "mfcc"
    """The front end of the dense baseline."""
    image_cnn_features: Literal["log_mel", "mfcc", "spectrogram"] = "spectrogram"
    """The front end of the picture, whose frequency axis is made logarithmic."""
    weigh_votes: bool = False
    """Give each network the weight in the vote that is best on validation; ensemble asks this."""
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
    overwrite: bool = False
    """Replace networks in save-dir also by ones that validate worse or knew fewer corpora."""
    dry_run: bool = False
    """Two batches of one epoch: does everything fit together? Saves into the run folder only."""

    def __post_init__(self) -> None:
        names = registry.network_names(self.models)
        if not self.models:
            raise config.UserError("models is empty: name at least one, for instance --models cnn")
        if registry.ENSEMBLE in self.models:
            object.__setattr__(self, "weigh_votes", True)  # frozen
            names = names or type(self).models
        object.__setattr__(self, "models", names)
        for name in names:
            registry.model_arguments(name, self.model, self.front_end(name).kind)

    def front_end(self, name: str) -> config.FeaturesSettings:
        """The front end of network `name`."""
        kind = getattr(self, f"{name}_features", self.features.kind)
        if kind == self.features.kind:
            return self.features
        if kind == "encoder":
            return config.encoder_features()
        return dataclasses.replace(self.features, kind=kind)


@dataclass
class TrainingData:
    """The clips of a run, all at one level in one window.

    `training` and `validation` are int16 (n, clip_samples), half the memory of float32, and shared
    by all networks of the run; the labels beside them are int64 (n,) class indices.
    """

    training: np.ndarray
    training_labels: np.ndarray
    validation: np.ndarray
    validation_labels: np.ndarray
    corpora: str
    corpus: np.ndarray
    """str (n,); where each training clip comes from."""
    repeats: np.ndarray | None = None
    """int64 (n,); how often an epoch shows each training clip; None is once."""
    cut: int = 0
    """Clips longer than the window, of which the loudest part is used."""


def window(clips: Clips, audio: config.AudioSettings) -> np.ndarray:
    """All clips at one level in one window, int16 (n, clip_samples): half the memory of float32."""
    windows = np.zeros((len(clips), audio.clip_samples), np.int16)
    for index in range(len(clips)):
        windows[index] = audio_io.to_int16(prepare_clip(clips.waveform(index), audio))
    return windows


def prepare_data(train_settings: TrainSettings) -> TrainingData:
    """Load the corpora and split them into training and validation clips.

    A tenth of each corpus' speakers outside FSDD, and some words, are never trained on: with FSDD's
    validation takes they choose the epoch, and they are the unseen speakers and words on which
    confidence is calibrated.

    Raises
    ------
    UserError : nothing to validate on; the same recording in training and validation or test
    """
    data = train_settings.data
    fsdd, extra, corpora = dataset_loader.load_training_clips(
        data, train_settings.audio, train_settings.synthetic, train_settings.seed
    )
    extra = splits.label_oh(extra)
    training, validation, repeats, test = [], [], [], {}
    if fsdd is not None:
        split = dataset_loader.make_split(fsdd, data, train_settings.seed)
        training.append(fsdd.subset(split.train))
        repeats.append(np.full(len(split.train), data.fsdd_repeats))
        validation.append(fsdd.subset(split.validation))
        test["test"] = fsdd.subset(split.test)
    if len(extra):
        aside = dataset_loader.keep_aside(extra, HELD_OUT_FRACTION, train_settings.seed).either
        doubtful = np.isin(extra.names, sorted(prepared.doubtful(data)))
        validation.append(extra.subset(np.flatnonzero(aside & ~doubtful)))
        training.append(extra.subset(np.flatnonzero(~aside)))
        repeats.append(_repeats(training[-1], data))
    kept, chosen = concatenate(training), concatenate(validation)
    if not len(chosen):
        raise config.UserError(
            f"{corpora}: no speaker can be spared for validation; name another "
            "corpus beside it, for instance --data.corpora synthetic,own"
        )
    splits.refuse_shared(kept, {"validation": chosen} | test)
    dataset_loader.report_labels(kept, chosen)
    cut = sum(
        is_cut(clips.waveform(index), train_settings.audio.clip_samples)
        for clips in (kept, chosen)
        for index in range(len(clips))
    )
    return TrainingData(
        window(kept, train_settings.audio),
        kept.labels,
        window(chosen, train_settings.audio),
        chosen.labels,
        corpora,
        kept.corpus,
        np.concatenate(repeats),
        cut,
    )


def _repeats(clips: Clips, data: config.DataSettings) -> np.ndarray:
    """How often an epoch shows each clip of the corpora beside FSDD, int64 (n,)."""
    balanced = splits.digit_repeats(clips) if data.balance else np.ones(len(clips), np.int64)
    return np.where(clips.corpus == "own", data.own_repeats, balanced)
