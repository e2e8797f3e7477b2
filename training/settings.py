"""What a training run is made of: its settings and its clips."""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

import audio_io
import config
import dataset_loader
import languages
from audio_feature_extraction import is_cut, prepare_clip
from corpora import splits
from corpora.clips import Clips, concatenate
from models import registry
from synthesis.language_speakers import voices_of

STUDENT = ("lightweight",)
"""The network that learns from a teacher by default."""
HELD_OUT_FRACTION = 0.1
"""Share of the speakers of each corpus outside FSDD who validate, and never train."""
LANGUAGE_VIEWS = 2
"""Augmented views of each clip by default, where networks learn other words than English digits:
synthetic speakers are cheaper than views."""
LANGUAGE_MODELS = ("rnn",)
"""The network of another language by default: what one on log-mel learns from synthetic speakers
alone holds for people far less (docs/experiments.md, 17)."""
LANGUAGE_CLIPS = 1800, 600, 2400
"""Digits by eSpeak NG and by Piper's joe, and other words, by default for such networks."""
WORDS_FOLDER = "words"
"""Folder in saved_models for networks of other labels than digits."""
AUTO_LABELS = ("auto",)
"""Stands for all labels of the folders and tables that are trained on."""
WINDOWS_IN_MEMORY = 256 << 20
"""Bytes of training clips up to which they are kept in memory; more lie in a mapped file."""
WINDOW_BLOCK = 1024
"""Clips that are brought into their windows before they are written."""


@dataclass(frozen=True)
class TrainSettings:
    """All that decides the weights, and where they go."""

    data: config.DataSettings = field(default_factory=config.DataSettings)
    audio: config.AudioSettings = field(default_factory=config.AudioSettings)
    features: config.FeaturesSettings = field(default_factory=config.FeaturesSettings)
    synthetic: config.SyntheticSettings = field(default_factory=config.SyntheticSettings)
    augmentation: config.AugmentationSettings = field(default_factory=config.AugmentationSettings)
    model: config.ModelSettings = field(default_factory=config.ModelSettings)
    strings: config.StringMaterialSettings = field(default_factory=config.StringMaterialSettings)
    training: config.TrainingSettings = field(default_factory=config.TrainingSettings)
    language: str = "en"
    """Language of the digits, by its code (fr, zh, pt-br): for others than English, eSpeak NG and
    joe make the speakers, beside what data.corpora names; networks go to saved_models/LANGUAGE."""
    labels: tuple[str, ...] = ()
    """Words to tell apart in place of the ten digits; auto: every label of the folders and tables
    in data.corpora."""
    models: tuple[str, ...] = ("cnn", "rnn")
    """Networks to train, side by side: all is every one, and ensemble weighs their votes; digits of
    other languages are left to rnn alone."""
    rnn_features: Literal["encoder", "log_mel", "mfcc", "spectrogram"] = "encoder"
    """What the BiLSTM listens through: the pretrained encoder, or a front end of --features."""
    digit_ctc_features: Literal["encoder", "log_mel", "mfcc", "spectrogram"] = "encoder"
    """What the network that hears whole strings listens through."""
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
    teacher: Path | None = None
    """Folder of networks, or the file of one, whose vote a student learns: one network, lightweight
    unless --models names another, that listens at a single tempo and goes to a folder of its own,
    saved_models/student."""
    resume: bool = False
    """Go on with the last run of the same settings after a crash or Ctrl-C."""
    overwrite: bool = False
    """Replace networks in save-dir also by ones that validate worse or knew fewer corpora."""
    onnx: bool = True
    """Put vote.onnx beside the networks in save-dir, for recognition without PyTorch."""
    quick: bool = False
    """A fifth of the work: fewer epochs, views and synthetic clips; scores are lower."""
    dry_run: bool = False
    """Two batches of one epoch: does everything fit together? Saves into the run folder only."""

    def __post_init__(self) -> None:
        self._take_vocabulary()
        names = registry.network_names(self.models)
        if not self.models:
            raise config.UserError("models is empty: name at least one, for instance --models cnn")
        if registry.ENSEMBLE in self.models:
            object.__setattr__(self, "weigh_votes", True)  # frozen
            names = names or type(self).models
        object.__setattr__(self, "models", names)
        if self.teacher is not None:
            self._become_student()
            names = self.models
        if self.hears_strings and len(names) > 1:
            raise config.UserError("digit_ctc hears whole strings: train it alone")
        if self.hears_strings and self.vocabulary != config.ENGLISH_DIGITS:
            raise config.UserError("digit_ctc hears strings of English digits: train it with those")
        for name in names:
            registry.model_arguments(name, self.model, self.front_end(name).kind)

    @functools.cached_property
    def vocabulary(self) -> config.Vocabulary:
        """What the networks tell apart."""
        return languages.vocabulary(self.language, self.labels)

    def _take_vocabulary(self) -> None:
        """What --language and --labels change of the defaults; the dataclass is frozen.

        Raises
        ------
        UserError : fewer than two labels, one of them twice, or eSpeak NG lacks the language
        """
        if self.language == type(self).language:
            object.__setattr__(self, "language", self.synthetic.language)
        if self.labels == AUTO_LABELS:
            labels = dataset_loader.labels_in(self.data)
            object.__setattr__(self, "labels", labels)
        if self.vocabulary == config.ENGLISH_DIGITS:
            return
        synthetic = dataclasses.replace(
            self.synthetic, language=self.language, words=self.labels, foreign_digits=0
        )
        counts = synthetic.espeak_clips, synthetic.piper_clips, synthetic.other_words
        usual = type(synthetic)
        if counts == (usual.espeak_clips, usual.piper_clips, usual.other_words):
            espeak, piper, other_words = LANGUAGE_CLIPS
            synthetic = dataclasses.replace(
                synthetic, espeak_clips=espeak, piper_clips=piper, other_words=other_words
            )
        object.__setattr__(self, "synthetic", synthetic)
        training, default = self.training, type(self.training)
        if (training.views, training.encoder_views) == (default.views, default.encoder_views):
            training = dataclasses.replace(
                training, views=LANGUAGE_VIEWS, encoder_views=LANGUAGE_VIEWS
            )
            object.__setattr__(self, "training", training)
        if self.data.corpora == type(self.data).corpora:
            data = dataclasses.replace(self.data, corpora="synthetic")
            object.__setattr__(self, "data", data)
        if "synthetic" in self.data.corpora.split(","):
            voices_of(self.language)  # none: told at once
        if self.models == type(self).models and not self.labels:
            object.__setattr__(self, "models", LANGUAGE_MODELS)
        if self.save_dir == type(self).save_dir:
            folder = WORDS_FOLDER if self.labels else self.vocabulary.language
            object.__setattr__(self, "save_dir", self.save_dir / folder)

    @property
    def hears_strings(self) -> bool:
        """Whether the network that hears whole strings is to be trained."""
        return any(name in registry.SEQUENCE for name in self.models)

    def _become_student(self) -> None:
        """What --teacher changes of the defaults; the dataclass is frozen."""
        if self.vocabulary != config.ENGLISH_DIGITS:
            raise config.UserError("--teacher: a student learns English digits, and nothing else")
        if self.models == type(self).models:
            object.__setattr__(self, "models", STUDENT)
        if len(self.models) > 1:
            raise config.UserError(
                f"--teacher: a student is one network, not {', '.join(self.models)}; name it, for "
                f"instance --models {STUDENT[0]}"
            )
        if self.training.views < 1:
            raise config.UserError(
                "--teacher: training.views is 0: use at least 1, for the teacher answers each view "
                "of a clip once"
            )
        if self.save_dir == type(self).save_dir:
            object.__setattr__(self, "save_dir", self.save_dir / "student")
        single = dataclasses.replace(self.features, tempos=(1.0,))
        object.__setattr__(self, "features", single)

    def front_end(self, name: str) -> config.FeaturesSettings:
        """The front end of network `name`."""
        kind = getattr(self, f"{name}_features", self.features.kind)
        if kind == self.features.kind:
            return self.features
        if kind == "encoder":
            return config.encoder_features()
        return dataclasses.replace(self.features, kind=kind)


def quick(train_settings: TrainSettings) -> TrainSettings:
    """The settings with less of all that takes time: what ``--quick`` stands for."""
    synthetic = config.SyntheticSettings.only(espeak_clips=1500, other_words=1500)
    return dataclasses.replace(
        train_settings,
        synthetic=dataclasses.replace(
            synthetic,
            vocabulary=train_settings.synthetic.vocabulary,
            alternatives=train_settings.synthetic.alternatives,
            near_words=train_settings.synthetic.near_words,
        ),
        training=dataclasses.replace(
            train_settings.training,
            epochs=min(3, train_settings.training.epochs),
            views=min(1, train_settings.training.views),
            encoder_views=1,
        ),
    )


@dataclass
class TrainingData:
    """The clips of a run, all at one level in one window.

    `training` and `validation` are int16 (n, clip_samples), half the memory of float32, and shared
    by all networks of the run; many clips lie in a mapped file. The labels beside them are int64
    (n,) class indices.
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
    words_heard: tuple[str, ...] = ()
    """The other words among the training clips, in lower case."""


def window(clips: Clips, audio: config.AudioSettings, folder: Path | None = None) -> np.ndarray:
    """All clips at one level in one window, int16 (n, clip_samples): half the memory of float32.

    Many are written to a nameless file in `folder` and mapped, if there is room for it.
    """
    shape = len(clips), audio.clip_samples
    if folder is not None and 2 * math.prod(shape) > WINDOWS_IN_MEMORY:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                for block in _window_blocks(clips, audio):
                    file.write(block.data)
                file.flush()
                return np.memmap(file, np.int16, "r", shape=shape)
        except OSError as error:
            reason = f"{folder}: {error.strerror or error}"
            print(f"warning: training clips are kept in memory: {reason}", file=sys.stderr)
    windows = np.zeros(shape, np.int16)
    for number, block in enumerate(_window_blocks(clips, audio)):
        windows[number * WINDOW_BLOCK :][: len(block)] = block
    return windows


def _window_blocks(clips: Clips, audio: config.AudioSettings) -> Iterator[np.ndarray]:
    """Windows of the clips, some at a time, so that those in files are not all in memory."""
    for first in range(0, len(clips), WINDOW_BLOCK):
        indices = range(first, min(first + WINDOW_BLOCK, len(clips)))
        block = [audio_io.to_int16(prepare_clip(clips.waveform(index), audio)) for index in indices]
        yield np.stack(block)


@dataclass(frozen=True)
class ClipSplit:
    """Who trains and who validates, before clips are brought into windows."""

    training: Clips
    validation: Clips
    repeats: np.ndarray
    """int64 (n,); how often an epoch shows each training clip."""
    corpora: str


def load_split(train_settings: TrainSettings, left_out: Collection[str] = ()) -> ClipSplit:
    """Load the corpora and split them, as :func:`prepare_data` tells.

    Raises
    ------
    UserError : nothing to validate on; the same recording in training and validation or test
    """
    data = train_settings.data
    fsdd, extra, corpora = dataset_loader.load_training_clips(
        data,
        train_settings.audio,
        train_settings.synthetic,
        train_settings.seed,
        train_settings.vocabulary,
    )
    if left_out:
        extra = extra.subset(np.flatnonzero(~np.isin(extra.speakers, list(left_out))))
    if train_settings.vocabulary.knows_oh:
        extra = splits.label_oh(extra)
    training, validation, repeats, test = [], [], [], {}
    if fsdd is not None:
        split = dataset_loader.make_split(fsdd, data, train_settings.seed)
        training.append(fsdd.subset(split.train))
        repeats.append(np.full(len(split.train), data.fsdd_repeats))
        validation.append(fsdd.subset(split.validation))
        test["test"] = fsdd.subset(split.test)
    if len(extra):
        aside = spared(extra, train_settings)
        validation.append(extra.subset(np.flatnonzero(aside)))
        training.append(extra.subset(np.flatnonzero(~aside)))
        repeats.append(_repeats(training[-1], data, train_settings.vocabulary))
    kept, chosen = concatenate(training), concatenate(validation)
    if not len(chosen):
        raise config.UserError(
            f"{corpora}: no speaker can be spared for validation; name another "
            "corpus beside it, for instance --data.corpora synthetic,own"
        )
    # one's own clips may be takes of who is tested on: adapting scores the others
    public = kept.subset(np.flatnonzero(kept.corpus != "own")) if "own" in kept.corpus else kept
    splits.refuse_shared(public, {"validation": chosen} | test)
    return ClipSplit(kept, chosen, np.concatenate(repeats), corpora)


def spared(clips: Clips, train_settings: TrainSettings) -> np.ndarray:
    """Clips outside FSDD that only validate, bool (n,): those of some speakers, and some words.

    Where nobody knows who speaks in recordings of other labels than English digits, or whether
    anybody does, it is a share of the clips of each label.
    """
    vocabulary, seed = train_settings.vocabulary, train_settings.seed
    aside = dataset_loader.keep_aside(clips, HELD_OUT_FRACTION, seed, vocabulary.reject).either
    if not aside.any() and vocabulary != config.ENGLISH_DIGITS:
        print("no speakers are told apart: a tenth of the clips validates", file=sys.stderr)
        everything = np.arange(len(clips))
        drawn = splits.stratified(clips, everything, HELD_OUT_FRACTION, np.random.default_rng(seed))
        aside[drawn] = True
    return aside


def prepare_data(train_settings: TrainSettings, left_out: Collection[str] = ()) -> TrainingData:
    """Load the corpora and split them into training and validation clips.

    A tenth of each corpus' speakers outside FSDD, and some words, are never trained on: with FSDD's
    validation takes they choose the epoch, and they are the unseen speakers and words on which
    confidence is calibrated. Speakers in `left_out`, outside FSDD, are in neither.

    Raises
    ------
    UserError : nothing to validate on; the same recording in training and validation or test
    """
    split, data = load_split(train_settings, left_out), train_settings.data
    kept, chosen = split.training, split.validation
    vocabulary = train_settings.vocabulary
    dataset_loader.report_labels(kept, chosen, vocabulary)
    cut = sum(
        is_cut(clips.stored(index), train_settings.audio.clip_samples)
        for clips in (kept, chosen)
        for index in range(len(clips))
    )
    return TrainingData(
        window(kept, train_settings.audio, data.root / "cache"),
        kept.labels,
        window(chosen, train_settings.audio, data.root / "cache"),
        chosen.labels,
        split.corpora,
        kept.corpus,
        split.repeats,
        cut,
        words_heard(kept, vocabulary.reject),
    )


def words_heard(clips: Clips, reject: int = config.REJECT) -> tuple[str, ...]:
    """The words that clips of non-digits say; a clip's name begins with its word."""
    names = clips.names[clips.labels == reject]
    return tuple(sorted({str(name).split("_")[0].lower() for name in names}))


def _repeats(clips: Clips, data: config.DataSettings, vocabulary: config.Vocabulary) -> np.ndarray:
    """How often an epoch shows each clip of the corpora beside FSDD, int64 (n,).

    Beside synthetic speakers of another language or of other words, recorded labels are shown as
    often as synthetic ones are, but each at most ``data.own_repeats`` times.
    """
    repeats = np.ones(len(clips), np.int64)
    if data.balance:
        repeats = splits.digit_repeats(clips, vocabulary.reject)
    if vocabulary == config.ENGLISH_DIGITS:
        return np.where(clips.corpus == "own", data.own_repeats, repeats)
    labels, synthetic = clips.labels != vocabulary.reject, clips.corpus == "synthetic"
    recorded = labels & ~synthetic
    times = (labels & synthetic).sum() // max(recorded.sum(), 1)
    return repeats * np.where(recorded, np.clip(times, 1, data.own_repeats), 1)
