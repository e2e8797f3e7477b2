"""What every evaluation protocol needs: its settings, the clips it is taken on, and its report."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

import config
import dataset_loader
import utils
from corpora.clips import Clips
from protocols import tables
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer
from training.settings import TrainSettings

logger = logging.getLogger(__name__)
HELD_OUT_SEED = 1_000_003
"""Added to the seed for synthetic speakers that are only scored: no training run has them."""
HELD_OUT_DIGITS = config.SyntheticSettings.only(espeak_clips=600)
"""The test set where FSDD can't be had: 60 synthetic speakers."""


def strings_from_environment() -> tuple[Path, ...]:
    """The folder of recorded strings that DIGIT_STRINGS_DIR names, if it does."""
    folder = config.from_environment("DIGIT_STRINGS_DIR")
    return () if folder is None else (folder,)


@dataclass(frozen=True)
class EvaluationSettings:
    """Which protocol, on what, and where the results go."""

    protocol: Literal[
        "official",
        "speaker",
        "unseen",
        "noise",
        "reject",
        "interference",
        "calibration",
        "formats",
        "seeds",
        "augmentation",
        "cleaning",
        "adapt",
        "audiomnist",
        "speech_commands",
        "cross",
        "oh",
        "strings",
        "languages",
    ] = "official"
    """The question to ask; each is described above."""
    clean: Literal["auto", "on", "off"] = "auto"
    """Send clips through the cleaning chain; auto does so with unseen speakers, noise and
    non-digits, and leaves FSDD's clips, which are trimmed, as they are."""
    seed: int = 0
    """Decides the noise, the synthetic sounds and, with protocol speaker, the training."""
    results_dir: Path = Path("results")
    """Folder for tables, figures and JSON."""
    models_dirs: tuple[Path, ...] = ()
    """Folders of trained networks to compare (protocol seeds only)."""
    unseen_dir: Path | None = config.path_from_environment("UNSEEN_SPEAKERS_DIR")
    """Folder with a subfolder of clips for each corpus of unseen speakers (UNSEEN_SPEAKERS_DIR)."""
    non_digits_dir: Path | None = config.path_from_environment("NON_DIGITS_DIR")
    """Folder of out-of-vocabulary words, named {word}_{speaker}_{take} (NON_DIGITS_DIR)."""
    languages_dir: Path | None = config.path_from_environment("LANGUAGES_DIR")
    """Folder with a folder of digits for each other language, named by its code (LANGUAGES_DIR)."""
    languages: tuple[str, ...] = ()
    """Languages to score, by the names of their folders; by default all that eSpeak NG has
    (protocol languages)."""
    real_speakers: tuple[str, ...] = ()
    """Languages whose recorded speakers train as well, a fifth left out at a time (protocol
    languages)."""
    speech_commands_dir: Path | None = config.path_from_environment("SPEECH_COMMANDS_DIR")
    """Folder of Speech Commands v0.02, unpacked, with its lists (SPEECH_COMMANDS_DIR)."""
    train_on: str = "fsdd"
    """Corpora to train on, as in data.corpora (protocol cross)."""
    test_on: str = "audiomnist"
    """Corpora to test on, others than those trained on (protocol cross)."""
    noise_dir: Path | None = config.path_from_environment("NOISE_DIR")
    """Folder of recorded noise that was not used in training (NOISE_DIR)."""
    strings_dirs: tuple[Path, ...] = field(default_factory=strings_from_environment)
    """Folders of recorded strings, named {string}_{speaker}_{take} (protocol strings; by default
    the one that DIGIT_STRINGS_DIR names)."""
    joined_strings: int = 500
    """Strings joined of takes, of each kind (protocol strings)."""
    peers: bool = False
    """Also ask PocketSphinx and Whisper tiny.en, where they are installed (protocol strings)."""
    oh_recordings: tuple[Path, ...] = ()
    """Recordings of "oh", or folders with strings/ and digits/ to cut it from (protocol oh)."""
    decision: config.DecisionSettings = field(default_factory=config.DecisionSettings)
    cleaning: config.CleaningSettings = field(default_factory=config.CleaningSettings)
    data: config.DataSettings = field(default_factory=config.DataSettings)
    audio: config.AudioSettings = field(default_factory=config.AudioSettings)
    features: config.FeaturesSettings = field(default_factory=config.FeaturesSettings)
    synthetic: config.SyntheticSettings = field(default_factory=config.SyntheticSettings)
    augmentation: config.AugmentationSettings = field(default_factory=config.AugmentationSettings)
    model: config.ModelSettings = field(default_factory=config.ModelSettings)
    training: config.TrainingSettings = field(default_factory=config.TrainingSettings)
    models: tuple[str, ...] = ("cnn", "rnn")
    """Networks to train (protocols speaker, augmentation, adapt, audiomnist and cross)."""
    rnn_features: Literal["encoder", "log_mel", "mfcc", "spectrogram"] = "encoder"
    """What the BiLSTM listens through in these trainings."""
    speakers: tuple[str, ...] = ("george", "nicolas")
    """FSDD speakers to leave out in turn (protocols augmentation and adapt)."""

    def __post_init__(self) -> None:
        if not 0 < len(self.speakers) == len(set(self.speakers)):
            raise config.UserError(
                "speakers is empty or names one twice: name each once, for "
                "instance --speakers george nicolas"
            )

    def chain(self, recording: bool) -> config.CleaningSettings | None:
        """The cleaning for whole recordings (True) or trimmed clips (False); None is without."""
        use = recording if self.clean == "auto" else self.clean == "on"
        return self.cleaning if use else None

    def recognizer(self, predictor: Predictor, recording: bool) -> Recognizer:
        """The networks behind the cleaning that whole recordings or trimmed clips get."""
        return Recognizer(predictor, self.chain(recording))

    def train_settings(self, **changes: Any) -> TrainSettings:
        """The training run of these settings."""
        shared = {item.name for item in dataclasses.fields(self)} & {
            item.name for item in dataclasses.fields(TrainSettings)
        }
        return TrainSettings(**{name: getattr(self, name) for name in shared} | changes)


@dataclass
class ProtocolReport:
    """The result of a protocol: written as NAME.md, NAME.json and NAME.png, with further files."""

    name: str
    text: str
    data: dict[str, Any]
    figure: Callable[[Path], Any]
    extras: tables.Files = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write every file, each atomically; figures and extras that can't be are told."""
        record = {"record": utils.run_record()}
        utils.write_text(folder / f"{self.name}.md", self.text)
        utils.write_json(folder / f"{self.name}.json", self.data | record)
        with utils.by_product(folder / f"{self.name}.png"):
            self.figure(folder / f"{self.name}.png")
        for name, content in self.extras.items():
            with utils.by_product(folder / name):
                if callable(content):
                    content(folder / name)
                else:
                    utils.write_text(folder / name, content)


@dataclass(frozen=True)
class HeldOut:
    """Clips kept from training: the official test and validation takes, and what they are."""

    test: Clips
    validation: Clips
    name: str


def held_out_clips(
    settings: EvaluationSettings, predictor: Predictor, sample_rate: int | None = None
) -> HeldOut:
    """FSDD's official split, or synthetic speakers where FSDD can't be had and none was named.

    At `sample_rate` Hz, or the networks' own rate.
    The validation takes are those of the seed that the networks were trained with.

    Raises
    ------
    UserError : the archive or folder that the user named can't be used
    """
    record = predictor.checkpoints[predictor.names[0]].record
    rate = sample_rate or predictor.audio.sample_rate
    try:
        audio = dataclasses.replace(predictor.audio, sample_rate=rate)
        clips = dataset_loader.load_fsdd(settings.data, audio)
    except config.UserError as error:
        if settings.data.fsdd_archive is not None:
            raise
        logger.warning(
            f"{'!' * 96}\nWARNING: no FSDD ({error}).\nScored on synthetic speakers instead: "
            f"these figures are not those of the official test.\n{'!' * 96}"
        )
        clips = synthetic_speakers(settings, rate)
        return HeldOut(clips, clips, "synthetic held-out speakers (FSDD not available)")
    split = dataset_loader.official_split(
        clips, settings.data.validation_fraction, record.get("seed", 0)
    )
    return HeldOut(clips.subset(split.test), clips.subset(split.validation), "FSDD official test")


def synthetic_speakers(
    settings: EvaluationSettings, sample_rate: int, kinds: config.SyntheticSettings | None = None
) -> Clips:
    """Synthetic speakers, of a seed that no training run uses: digits, or what `kinds` asks for.

    Raises
    ------
    UserError : the speech synthesiser is missing or broken
    """
    try:
        from corpora import synthetic
    except ImportError as error:
        raise config.UserError(
            f"no synthetic speakers: {error}; pip install -r requirements.txt brings what they need"
        ) from None
    return synthetic.synthesize(
        kinds or HELD_OUT_DIGITS, settings.seed + HELD_OUT_SEED, sample_rate, None
    )


def load_unseen_speakers(
    settings: EvaluationSettings, audio: config.AudioSettings
) -> dict[str, Clips]:
    """Digits by corpus: every folder in the folder of unseen speakers, or that folder itself.

    Raises
    ------
    UserError : no folder named, no such folder, or nothing usable in it
    """
    folder = required_folder(
        settings.unseen_dir, "unseen speakers' clips", "--unseen-dir", "UNSEEN_SPEAKERS_DIR"
    )
    corpora = {}
    folders = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    for path in folders or [folder]:
        try:
            clips = dataset_loader.load_folder(path, audio, corpus=path.name)
        except config.UserError as error:
            logger.warning(f"warning: {error}; left out")
            continue
        clips = clips.subset(np.flatnonzero(clips.labels != config.REJECT))
        if len(clips):
            corpora[path.name] = clips
    if not corpora:
        raise config.UserError(f"{folder}: no usable clips; they are named DIGIT_SPEAKER_TAKE.wav")
    return corpora


def required_folder(folder: Path | None, content: str, option: str, variable: str) -> Path:
    """The folder a protocol can't do without.

    Raises
    ------
    UserError : it was not named, or there is no such folder
    """
    if folder is None:
        raise config.UserError(f"no folder of {content} was named: use {option} or set {variable}")
    if not folder.is_dir():
        raise config.UserError(f"{folder}: no such folder of {content} ({option}, {variable})")
    return folder


def about(settings: EvaluationSettings, predictor: Predictor) -> dict[str, Any]:
    """What was scored: the networks, what they were trained on, and the threshold."""
    networks = {}
    for name, checkpoint in predictor.checkpoints.items():
        record = {
            key: checkpoint.record.get(key)
            for key in ("corpora", "protocol", "test_speaker", "seed", "commit")
        }
        networks[name] = record | {
            "temperature": checkpoint.temperature,
            "reject_bias": checkpoint.reject_bias,
        }
    return {
        "protocol": settings.protocol,
        "seed": settings.seed,
        "clean": settings.clean,
        "models_dir": str(settings.decision.models_dir),
        "threshold": predictor.threshold,
        "networks": networks,
    }


def trained_on(predictor: Predictor) -> str:
    """The corpora in one line, with a warning where test takes may have been trained on."""
    records = [checkpoint.record for checkpoint in predictor.checkpoints.values()]
    line = (
        "Trained on "
        + " and ".join(sorted({str(record.get("corpora", "unknown data")) for record in records}))
        + "."
    )
    others = {record.get("protocol", "official") for record in records} - {"official"}
    if others:
        line += (
            f"\n\n**Warning:** trained with protocol {', '.join(sorted(others))}: FSDD's "
            "official test takes may have been trained on, and scores on them mean little."
        )
    return line + "\n"
