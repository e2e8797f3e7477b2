"""The networks side by side: trained where missing, scored on the same clips, timed in turns."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import config
import utils
from corpora.clips import Clips
from models import registry
from protocols import timing
from protocols.common import EvaluationSettings, held_out_clips
from protocols.recommendation import UseCase
from recognition.checkpoint import load_checkpoint
from recognition.predictor import Predictor
from training.settings import TrainSettings

logger = logging.getLogger(__name__)
NOT_COMPARED = ("models", "weigh_votes", "init", "save_dir")
"""Settings of a training that may differ from those asked for: what else was trained with it."""

Row = dict[str, Any]


@dataclass(frozen=True)
class ComparisonSettings:
    """Which networks to compare, on what, and where they are trained."""

    models: tuple[str, ...] = (registry.ALL, registry.ENSEMBLE)
    """Networks to compare: names, all, and ensemble for the best vote of those compared."""
    use_case: UseCase = "balanced"
    """What to recommend one for."""
    leave_one_speaker_out: bool = False
    """Also train each network once for each FSDD speaker, without that speaker."""
    seeds_of_best: int = 1
    """Seeds of the two networks that validate best: 3 shows what chance makes of the figures."""
    networks_dir: Path = Path("model_zoo")
    """Folder for the trained networks, one folder each; what is there is not trained again."""
    results_dir: Path = Path("results")
    """Folder for model_comparison.md, .csv, .json and .png."""
    rounds: int = 5
    """Rounds in which the networks take their turns to be timed."""
    seed: int = 0
    """Seed of the trainings, the noise and the synthetic sounds."""
    rnn_features: Literal["encoder", "log_mel", "mfcc", "spectrogram"] = "encoder"
    """What the BiLSTM listens through, as train.py has it."""
    unseen_dir: Path | None = config.path_from_environment("UNSEEN_SPEAKERS_DIR")
    """Folder with a subfolder of clips for each corpus of unseen speakers (UNSEEN_SPEAKERS_DIR)."""
    non_digits_dir: Path | None = config.path_from_environment("NON_DIGITS_DIR")
    """Folder of out-of-vocabulary words, named {word}_{speaker}_{take} (NON_DIGITS_DIR)."""
    noise_dir: Path | None = config.path_from_environment("NOISE_DIR")
    """Folder of recorded noise that was not used in training (NOISE_DIR)."""
    cleaning: config.CleaningSettings = field(default_factory=config.CleaningSettings)
    data: config.DataSettings = field(default_factory=config.DataSettings)
    audio: config.AudioSettings = field(default_factory=config.AudioSettings)
    features: config.FeaturesSettings = field(default_factory=config.FeaturesSettings)
    synthetic: config.SyntheticSettings = field(default_factory=config.SyntheticSettings)
    augmentation: config.AugmentationSettings = field(default_factory=config.AugmentationSettings)
    model: config.ModelSettings = field(default_factory=config.ModelSettings)
    training: config.TrainingSettings = field(default_factory=config.TrainingSettings)

    def __post_init__(self) -> None:
        if not self.networks:
            raise config.UserError(
                "models names no network: for instance --models cnn rnn ensemble"
            )
        if not 1 <= self.rounds <= 1000 or not 1 <= self.seeds_of_best <= 100:
            raise config.UserError("rounds is 1 to 1000, seeds-of-best 1 to 100")
        for name in self.networks:
            self.train_settings(name)  # refuses what can't be trained, before the first is

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that `models` asks for."""
        return registry.network_names(self.models)

    def evaluation(self, folder: Path) -> EvaluationSettings:
        """The evaluation of the networks in a folder."""
        shared = {item.name for item in dataclasses.fields(self)} & {
            item.name for item in dataclasses.fields(EvaluationSettings)
        }
        values = {name: getattr(self, name) for name in shared}
        decision = config.DecisionSettings(models_dir=folder)
        return EvaluationSettings(**values | {"models": self.networks, "decision": decision})

    def train_settings(self, name: str, seed: int | None = None) -> TrainSettings:
        """The training of one network."""
        entry = Entry(name, self.seed if seed is None else seed, self.networks_dir)
        return self.evaluation(entry.folder).train_settings(
            models=(name,),
            seed=entry.seed,
            save_dir=entry.folder,
            runs_dir=entry.folder / "runs",
            resume=True,
            overwrite=True,
        )


@dataclass(frozen=True)
class Entry:
    """One network of one seed, or the ensemble, in a folder of its own."""

    name: str
    seed: int
    networks_dir: Path

    @property
    def label(self) -> str:
        """Its name in files and tables of single trainings."""
        return f"{self.name}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Where its checkpoints lie."""
        return self.networks_dir / self.label

    @property
    def training_path(self) -> Path:
        """What is kept of its training: how long it took."""
        return self.folder / "training.json"

    def files(self) -> list[Path]:
        """Its checkpoints, sorted."""
        return sorted(self.folder.glob("[!.]*.pt"))

    def digest(self) -> str:
        """Changes with every byte of its checkpoints."""
        digest = hashlib.sha256()
        for path in self.files():
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()


def is_trained(settings: ComparisonSettings, entry: Entry) -> bool:
    """Whether a network is there.

    Raises
    ------
    UserError : it is, but was made with other settings
    """
    from training.run_folder import differences, stored_settings

    path = entry.folder / f"{entry.name}.pt"
    if not path.is_file():
        return False
    stored = load_checkpoint(path).record.get("settings", {})
    wanted = stored_settings(settings.train_settings(entry.name, entry.seed))
    ignored = {name: wanted[name] for name in NOT_COMPARED if name in wanted}
    if other := differences(stored | ignored, wanted):
        raise config.UserError(
            f"{path} was made with other settings: {'; '.join(other)}. Give the same, or name "
            "another --networks-dir"
        )
    return True


def train_missing(settings: ComparisonSettings, entry: Entry) -> None:
    """Train a network unless it is there; a training that was stopped goes on.

    Raises
    ------
    UserError : it is there, but was made with other settings; or it can't be trained
    """
    from train import train

    if is_trained(settings, entry):
        return
    logger.info(f"{entry.label}: training")
    seconds = train(settings.train_settings(entry.name, entry.seed))["seconds"]
    utils.write_json(entry.training_path, {"seconds": seconds})


def read_json(path: Path) -> Any:
    """What a JSON file of ours holds; an empty dictionary where it is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def validation_loss(entry: Entry) -> float:
    """The validation loss that a network's training ended at; it chooses the best ones."""
    record = load_checkpoint(entry.folder / f"{entry.name}.pt").record
    return float(record["validation"]["validation_loss"])


def training_minutes(entries: list[Entry]) -> float | None:
    """How long entries took to train together; None where one was trained elsewhere."""
    seconds = [read_json(entry.training_path).get("seconds") for entry in entries]
    return None if None in seconds else sum(seconds) / 60


def latencies(
    settings: ComparisonSettings, entries: list[Entry], clips: Clips
) -> dict[str, dict[str, float]]:
    """Latency and throughput of each entry by label, all timed in turns in this run."""
    predictors = {
        entry.label: Predictor(config.DecisionSettings(models_dir=entry.folder))
        for entry in entries
    }
    return timing.in_turns(predictors, clips, settings.rounds)


def timed_clips(settings: ComparisonSettings, entry: Entry) -> Clips:
    """The clips that times are taken with: the official test's."""
    evaluation = settings.evaluation(entry.folder)
    return held_out_clips(evaluation, Predictor(evaluation.decision)).test
