"""The folder of a run: its settings as they are stored, and which run ``--resume`` goes on with."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import config
import utils
from training.settings import TrainSettings

NOT_STORED = ("resume", "runs_dir", "overwrite")
"""Settings that say which run folder to use, and what happens to networks made before."""
MAY_DIFFER = ("save_dir", "training.threads", *(f"data.{name}" for name in config.PLACES))
"""Settings that a resumed run may have otherwise: places, and how many threads compute."""
RENAMED = {
    "data.protocol": "data.split",
    "augmentation.garble": "augmentation.spliced_reversed",
    "augmentation.spec_mask": "augmentation.spec_augment",
}
"""Settings by the names that earlier versions stored them under."""
REMOVED = {"features.mel_scale": "slaney", "augmentation.mixup": 0.0}
"""Settings that are gone, with the only value that this version computes with."""
BEFORE_ALTERNATIVES = {"vocabulary": "evaluation", "foreign_digits": 0}
"""What the synthetic speakers said when ``synthetic.include_oh`` was a setting."""


def stored_settings(train_settings: TrainSettings) -> dict[str, Any]:
    """The settings as JSON values, as ``settings.json`` and checkpoints hold them."""
    values = json.loads(json.dumps(dataclasses.asdict(train_settings), default=str))
    return {name: value for name, value in values.items() if name not in NOT_STORED}


def migrate_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Settings stored by an earlier version under the names of this one.

    A setting that is gone is dropped where it held what this version does anyway, and otherwise
    kept, so that it shows as a difference.
    """
    migrated: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(value, dict):
            migrated[name] = value
            continue
        group = migrated[name] = {}
        for key, item in value.items():
            path = f"{name}.{key}"
            if path not in REMOVED or item != REMOVED[path]:
                group[RENAMED.get(path, path).partition(".")[2]] = item
        if "include_oh" in group:
            group["alternatives"] = ["oh"] if group.pop("include_oh") else []
            migrated[name] = group | BEFORE_ALTERNATIVES
    return migrated


def differences(stored: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What a run was made with otherwise, as options; empty where it may be resumed.

    Settings that a stored run lacks came later and count as their default.
    """
    there = flat(stored_settings(TrainSettings())) | flat(migrate_settings(stored))
    here = flat(wanted)
    return [
        f"--{name.replace('_', '-')} is {there.get(name)} there and {here.get(name)} here"
        for name in sorted(there.keys() | here.keys())
        if name not in MAY_DIFFER and there.get(name) != here.get(name)
    ]


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Grouped values by ``group.name``."""
    return {
        f"{name}.{key}" if key else name: item
        for name, value in values.items()
        for key, item in (value if isinstance(value, dict) else {"": value}).items()
    }


def open_run(train_settings: TrainSettings) -> Path:
    """Make a new run folder, or with ``--resume`` find the last one of the same settings.

    Raises
    ------
    UserError : ``--resume``, and the runs there are were all made with other settings, or the
        settings of one can't be read
    """
    runs = sorted(path.parent for path in train_settings.runs_dir.glob("*/settings.json"))
    wanted = stored_settings(train_settings)
    if train_settings.resume and runs:
        folder = find_run(runs, wanted)
        for left in folder.glob(".*"):  # half a file of a run that was killed
            left.unlink()
        return folder
    folder = train_settings.runs_dir / time.strftime("%Y%m%d-%H%M%S")
    while folder.exists():
        folder = folder.with_name(folder.name + "x")
    utils.write_json(folder / "settings.json", wanted)
    return folder


def find_run(runs: list[Path], wanted: dict[str, Any]) -> Path:
    """The last of `runs` that may go on with the settings `wanted`."""
    unlike = []
    for run in reversed(runs):
        other = differences(read_settings(run / "settings.json"), wanted)
        if not other:
            return run
        unlike.append((run, other))
    run, other = min(unlike, key=lambda item: len(item[1]))
    raise config.UserError(
        f"no run in {run.parent} was made with these settings; nearest is {run.name}: "
        f"{'; '.join(other)}. Give the same, or leave --resume out"
    )


def read_settings(path: Path) -> dict[str, Any]:
    """A run's stored settings.

    Raises
    ------
    UserError : unreadable, or not the settings of a run
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise config.UserError(
            f"{path}: damaged; remove the folder {path.parent}, or leave --resume out"
        )
    return values
