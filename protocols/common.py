"""What every evaluation protocol needs: its settings, the clips it is taken on, and its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

import config
import dataset_loader
import utils
from corpora.clips import Clips
from protocols import scoring
from recognition.predictor import Predictor
from training.settings import TrainSettings

HELD_OUT_SEED = 1_000_003
"""Added to the seed for made-up voices that are only scored, so that no training run meets them."""
HELD_OUT_DIGITS = config.SyntheticSettings.only(espeak_clips=600)
"""The test set where FSDD can't be had: 60 made-up speakers."""


@dataclass(frozen=True)
class EvaluationSettings:
    """Which protocol, on what, and where the results go."""

    protocol: Literal[
        "official",
        "speaker",
        "unseen",
        "noise",
        "reject",
        "calibration",
        "seeds",
        "augmentation",
        "cleaning",
        "adapt",
    ] = "official"
    """official: FSDD's test takes; speaker: leave one speaker out (trains six times, resumable);
    unseen: strangers' clips; noise: signal-to-noise ratios; reject: sounds that are no digit;
    calibration: is 90 % sure right 9 times of 10; seeds: official, for several trained folders;
    augmentation, cleaning: one part off in turn (augmentation trains for each); adapt: leave one
    speaker out, then train on with a few of that speaker's clips."""
    clean: Literal["auto", "on", "off"] = "auto"
    """Send clips through the cleaning chain; auto does so with strangers' recordings, noise and
    non-digits, and leaves FSDD's clips, which are trimmed, as they are."""
    seed: int = 0
    """Rules the noise, the made-up sounds and, with protocol speaker, the training."""
    results_dir: Path = Path("results")
    """Folder for tables, figures and JSON."""
    models_dirs: tuple[Path, ...] = ()
    """Folders of trained networks to compare (protocol seeds only)."""
    unseen_dir: Path | None = field(
        default_factory=lambda: config.from_environment("UNSEEN_SPEAKERS_DIR")
    )
    """Folder with a subfolder of clips for each corpus of strangers (UNSEEN_SPEAKERS_DIR)."""
    non_digits_dir: Path | None = field(
        default_factory=lambda: config.from_environment("NON_DIGITS_DIR")
    )
    """Folder of other words, named {word}_{speaker}_{take} (NON_DIGITS_DIR)."""
    noise_dir: Path | None = field(default_factory=lambda: config.from_environment("NOISE_DIR"))
    """Folder of recorded noise that was not used in training (NOISE_DIR)."""
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
    """Networks to train (protocols speaker, augmentation and adapt)."""
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

    def train_settings(self, **changes: Any) -> TrainSettings:
        """The training run of these settings."""
        shared = {item.name for item in dataclasses.fields(self)} & {
            item.name for item in dataclasses.fields(TrainSettings)
        }
        return TrainSettings(**{name: getattr(self, name) for name in shared} | changes)


@dataclass
class ProtocolReport:
    """What a protocol found: written as NAME.md, NAME.json and NAME.png, with further files."""

    name: str
    text: str
    data: dict[str, Any]
    figure: Callable[[Path], Any]
    extras: Mapping[str, str | Callable[[Path], Any]] = field(default_factory=dict)
    """File name -> its text, or a function that draws it."""

    def write(self, folder: Path) -> None:
        """Write every file, each atomically."""
        record = {"record": utils.run_record()}
        utils.write_text(folder / f"{self.name}.md", self.text)
        utils.write_json(folder / f"{self.name}.json", scoring.plain(self.data | record))
        self.figure(folder / f"{self.name}.png")
        for name, content in self.extras.items():
            if callable(content):
                content(folder / name)
            else:
                utils.write_text(folder / name, content)


@dataclass(frozen=True)
class Held:
    """Clips kept from training: the official test and validation takes, and what they are."""

    test: Clips
    validation: Clips
    name: str


def held_out_clips(settings: EvaluationSettings, predictor: Predictor) -> Held:
    """FSDD's official split, or made-up speakers where FSDD can't be had and none was named.

    The validation takes are those of the seed that the networks were trained with.

    Raises
    ------
    UserError : the archive or folder that the user named can't be used
    """
    record = predictor.checkpoints[predictor.names[0]].record
    try:
        clips = dataset_loader.load_fsdd(settings.data, predictor.audio)
    except config.UserError as error:
        if settings.data.fsdd_archive is not None:
            raise
        print(
            f"{'!' * 96}\nWARNING: no FSDD ({error}).\nScored on made-up speakers instead: these "
            f"figures are not those of the official test.\n{'!' * 96}",
            flush=True,
        )
        made = synthetic_speakers(settings, predictor)
        return Held(made, made, "synthetic held-out speakers (FSDD not available)")
    split = dataset_loader.official_split(
        clips, settings.data.validation_fraction, record.get("seed", 0)
    )
    return Held(clips.subset(split.test), clips.subset(split.validation), "FSDD official test")


def synthetic_speakers(
    settings: EvaluationSettings,
    predictor: Predictor,
    kinds: config.SyntheticSettings | None = None,
) -> Clips:
    """Made-up speakers, of a seed that no training run uses: digits, or what `kinds` asks for.

    Raises
    ------
    UserError : the speech synthesiser is missing or broken
    """
    try:
        from corpora import synthetic
    except ImportError as error:
        raise config.UserError(
            f"no made-up speakers: {error}; pip install -r requirements.txt brings what they need"
        ) from None
    return synthetic.synthesize(
        kinds or HELD_OUT_DIGITS, settings.seed + HELD_OUT_SEED, predictor.audio.sample_rate, None
    )


def unseen_speakers(settings: EvaluationSettings, audio: config.AudioSettings) -> dict[str, Clips]:
    """Digits by corpus: every folder in the strangers' folder, or that folder itself.

    Raises
    ------
    UserError : no folder named, no such folder, or nothing usable in it
    """
    folder = needed(settings.unseen_dir, "strangers' clips", "--unseen-dir", "UNSEEN_SPEAKERS_DIR")
    corpora = {}
    folders = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    for path in folders or [folder]:
        try:
            clips = dataset_loader.load_folder(path, audio, corpus=path.name)
        except config.UserError as error:
            print(f"warning: {error}; left out", flush=True)
            continue
        clips = clips.subset(np.flatnonzero(clips.labels != config.REJECT))
        if len(clips):
            corpora[path.name] = clips
    if not corpora:
        raise config.UserError(f"{folder}: no usable clips; they are named DIGIT_SPEAKER_TAKE.wav")
    return corpora


def needed(folder: Path | None, what: str, option: str, variable: str) -> Path:
    """The folder a protocol can't do without.

    Raises
    ------
    UserError : it was not named, or there is no such folder
    """
    if folder is None:
        raise config.UserError(f"no folder of {what} was named: use {option} or set {variable}")
    if not folder.is_dir():
        raise config.UserError(f"{folder}: no such folder of {what} ({option}, {variable})")
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
    """One line for tables: the corpora, and a warning where test takes may have been learned."""
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
            "official test takes may have been learned, and scores on them mean little."
        )
    return line + "\n"
