"""Networks that are trained to be scored: one training a fold, kept, and never done twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import config
import utils
from corpora.clips import Clips
from protocols import metrics, scoring
from protocols.common import EvaluationSettings
from protocols.scoring import ClipResults
from recognition.predictor import Predictor
from training.settings import TrainingData

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fold:
    """One training of a protocol."""

    name: str
    """As it is called while it runs."""
    what: str
    """What is done, for the log."""
    folder: Path
    """Where its networks go; its answers go beside it."""


def scored_fold(
    settings: EvaluationSettings,
    fold: Fold,
    key: str,
    test: Clips,
    data: config.DataSettings,
    prepare: Callable[[], TrainingData] | None = None,
) -> ClipResults:
    """Train the networks of a fold and recognise its test clips, or read what was saved.

    Parameters
    ----------
    settings : what to train, and how to recognise
    fold : its name and place
    key : changes with everything that the result depends on
    test : the clips to recognise
    data : what the training is told of its clips
    prepare : makes the training clips; None leaves that to `data`
    """
    from train import train

    saved = fold.folder.with_suffix(".json")
    results = read_fold(saved, key)
    if results is not None:
        logger.info(f"{fold.name}: taken from {saved}")
        return results
    logger.info(f"{fold.name}: {fold.what}")
    runs = fold.folder.parent / "runs" / f"{fold.folder.name}-{key}"
    train(
        settings.train_settings(
            data=data, save_dir=fold.folder, runs_dir=runs, resume=True, overwrite=True
        ),
        prepare() if prepare else None,
    )
    decision = dataclasses.replace(settings.decision, models_dir=fold.folder)
    recognizer = settings.recognizer(Predictor(decision, settings.models), recording=False)
    results = scoring.recognize_clips(recognizer, test, fold.name)
    utils.write_json(saved, {"key": key, "answers": results.to_json()})
    logger.info(f"{fold.name}: vote {metrics.proportion(results.right('vote'))}")
    return results


def fold_key(settings: EvaluationSettings) -> str:
    """Changes with every setting, except the seed, that a fold's result depends on."""
    train_settings = dataclasses.asdict(settings.train_settings())
    train_settings["synthetic"] = settings.synthetic.values()
    for name in ("language", "labels"):  # told by the protocol that changes them
        train_settings.pop(name)
    for name in ("seed", "save_dir", "runs_dir", "init", "resume", "overwrite", "dry_run"):
        train_settings.pop(name)
    for name in (*config.PLACES, "test_speaker", "split"):
        train_settings["data"].pop(name)
    chain = settings.chain(recording=False)
    facts = [
        train_settings,
        dataclasses.asdict(chain) if chain else None,
        settings.decision.threshold,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_fold(path: Path, key: str) -> ClipResults | None:
    """A saved fold, if it is whole and was made with the same settings."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return ClipResults.from_json(saved["answers"]) if saved["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
