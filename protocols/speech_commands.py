"""The protocol on Speech Commands' own test and validation lists, for people who have it."""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

import config
import dataset_loader
from corpora import decoding, layouts
from corpora.clips import Clips, concatenate
from protocols import metrics, scoring, tables
from protocols.common import EvaluationSettings, ProtocolReport, about, required_folder, trained_on
from protocols.heard import corpora_heard, speakers_apart, words_apart
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer

logger = logging.getLogger(__name__)
LISTS = {"test": "testing_list.txt", "validation": "validation_list.txt"}
"""Set -> the file that lists its clips."""
UNKNOWN_PER_DIGITS = 10
"""Other words, and pieces of silence, a set has one for so many digits, as in the 12-class task."""
SILENCE_SECONDS = 1.0
"""s of a piece of background noise."""
LITERATURE = (
    "To compare with: 98.7 % is quoted for the 12 classes of Speech Commands v0.02. Those are ten "
    "commands, unknown words and silence; these are ten digits, unknown words and silence, drawn "
    "in the same shares, so the figures compare in kind."
)


def speech_commands(settings: EvaluationSettings) -> ProtocolReport:
    """Ten digits and 12 classes on the official lists of Speech Commands v0.02.

    Raises
    ------
    UserError : no folder named, no lists in it, or nothing that they name
    """
    predictor = Predictor(settings.decision)
    folder = required_folder(
        settings.speech_commands_dir,
        "Speech Commands v0.02 (speech_commands_v0.02.tar.gz, 2.3 GB, unpacked)",
        "--speech-commands-dir",
        "SPEECH_COMMANDS_DIR",
    )
    recognizer = settings.recognizer(predictor, recording=True)
    sets = {name: listed_clips(folder, LISTS[name], settings, predictor.audio) for name in LISTS}
    scores = {name: set_scores(recognizer, clips, name) for name, clips in sets.items()}
    data = about(settings, predictor) | {"cleaning": recognizer.cleaning is not None} | scores
    data["trained_on_corpus"] = "speech_commands" in corpora_heard(predictor)
    return report(data, trained_on(predictor))


def listed_clips(
    folder: Path, list_name: str, settings: EvaluationSettings, audio: config.AudioSettings
) -> Clips:
    """A set's digits, and a tenth as many other words and pieces of silence as there are digits.

    Raises
    ------
    UserError : no such list, a path in it that leaves the folder, or none of its digits there
    """
    paths = read_list(folder, list_name)
    digits = [path for path in paths if layouts.is_digit(path.parent.name)]
    words = [path for path in paths if not layouts.is_digit(path.parent.name)]
    there = [path for path in digits if (folder / path).is_file()]
    if not there:
        raise config.UserError(f"{folder}: none of the {len(digits)} digits of {list_name} in it")
    if len(there) < len(digits):
        logger.warning(
            f"warning: {folder}: half a copy? {len(digits) - len(there)} of {len(digits)} digits "
            f"of {list_name} are missing"
        )
    count = -(-len(there) // UNKNOWN_PER_DIGITS)
    random = np.random.default_rng([settings.seed, *list_name.encode()])
    words = [path for path in words if (folder / path).is_file()]
    drawn = random.permutation(len(words))[:count]
    recordings = read_clips(folder, there + [words[i] for i in sorted(drawn)], audio)
    return concatenate([recordings, silence(folder, count, random, audio)])


def read_list(folder: Path, list_name: str) -> list[PurePosixPath]:
    """The paths that an official list names, such as ``seven/0ac15fe9_nohash_0.wav``.

    Raises
    ------
    UserError : no such list, or a path in it that is none of the corpus
    """
    try:
        lines = (folder / list_name).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        raise config.UserError(
            f"{folder}: no readable {list_name} in it: Speech Commands v0.02 has one"
        ) from None
    paths = [PurePosixPath(line) for line in lines]
    for path in paths:
        if len(path.parts) != 2 or not path.parent.name.isalpha() or "_nohash_" not in path.stem:
            raise config.UserError(f"{folder / list_name}: {path} is no clip of Speech Commands")
    return paths


def read_clips(folder: Path, paths: list[PurePosixPath], audio: config.AudioSettings) -> Clips:
    """The clips of Speech Commands at `paths`; those that can't be read are told and left out."""
    decoded = decoding.decode([folder / path for path in paths], audio)
    for error in decoded.errors.values():
        logger.warning(f"warning: {error}; left out")
    known = [layouts.by_layout(path, folder.name, layouts.Folders()) for path in paths]
    clips = Clips(
        decoded.samples,
        np.concatenate([[0], np.cumsum(decoded.lengths, dtype=np.int64)]),
        np.array([item.label for item in known]),
        np.array([item.speaker for item in known]),
        np.array(
            [
                f"{path.parent.name}_{item.speaker}_{item.take}"
                for path, item in zip(paths, known, strict=True)
            ]
        ),
        np.array([item.take for item in known]),
        np.full(len(known), "speech_commands"),
        audio.sample_rate,
    )
    return clips.subset(np.setdiff1d(np.arange(len(clips)), list(decoded.errors)))


def silence(
    folder: Path, count: int, random: np.random.Generator, audio: config.AudioSettings
) -> Clips:
    """Pieces of the corpus' background noise at a random level; none where it has none."""
    rate = audio.sample_rate
    try:
        noises = dataset_loader.load_noise(folder / layouts.BACKGROUND_FOLDER, rate)
    except config.UserError as error:
        logger.warning(f"warning: no silence to score: {error}")
        noises, count = [], 0
    length, pieces = round(SILENCE_SECONDS * rate), []
    for _ in range(count):
        noise = noises[random.integers(len(noises))]
        start = random.integers(max(1, len(noise) - length))
        pieces.append(np.float32(random.uniform()) * noise[start : start + length])
    names = [f"silence_{index}" for index in range(count)]
    return Clips.from_waveforms(
        pieces, [config.REJECT] * count, ["silence"] * count, names, range(count), "silence", rate
    )


def set_scores(recognizer: Recognizer, clips: Clips, name: str) -> dict[str, Any]:
    """The scores of one set: ten digits closed-set, and the vote's 12 classes at its threshold."""
    results = scoring.recognize_clips(recognizer, clips, name)
    is_digit, is_silence = results.labels != config.REJECT, clips.corpus == "silence"
    right = np.where(is_digit, results.accepted & results.right("vote"), ~results.accepted)
    kinds = {"digits": is_digit, "unknown": ~is_digit & ~is_silence, "silence": is_silence}
    digits, unknown = results.subset(is_digit), results.subset(kinds["unknown"])
    return {
        "digits": scoring.accuracies(digits),
        "classes": metrics.proportion(right),
        "classes_by_kind": {
            kind: metrics.proportion(right[chosen]) for kind, chosen in kinds.items()
        },
        "by_digit": scoring.grouped(digits, digits.labels),
        "speakers_apart": speakers_apart(digits, recognizer.predictor),
        "words_apart": {
            group: metrics.proportion(~unknown.accepted[chosen])
            for group, chosen in words_apart(unknown.names, recognizer.predictor).items()
        },
        "vote_gain": scoring.vote_gain(digits),
    }


def report(data: dict[str, Any], origin: str) -> ProtocolReport:
    """Tables and figure of both sets."""
    digits = {name: data[name]["digits"] for name in LISTS}
    vote = data["test"]["digits"]["vote"].value
    title = (
        f"Speech Commands v0.02, test list: ten digits {vote:.2%}, "
        f"12 classes {data['test']['classes'].value:.2%}"
    )
    parts = [
        f"# {title}\n",
        origin,
        *(["**Some clips may have been trained on.**\n"] if data["trained_on_corpus"] else []),
        "Ten digits, the best digit whatever its confidence; accuracy in percent with 95 % "
        "intervals.\n",
        tables.accuracy_table("list", digits),
        f"12 classes, the vote at threshold {data['threshold']:.3f}: a digit must be right and "
        "sure enough; an unknown word and silence must not be taken for one.\n",
        class_table(data),
        LITERATURE + "\n",
        f"Test list: {data['test']['vote_gain']['statement']}\n",
        "## By digit, test list\n",
        tables.accuracy_table("digit", data["test"]["by_digit"]),
    ]
    parts += apart_tables(data["test"])
    figure = tables.accuracy_figure(digits, title)
    return ProtocolReport("speech_commands", "\n".join(parts), data, figure)


def class_table(data: dict[str, Any]) -> str:
    """The 12 classes in rows by kind, with a column a list."""
    kinds = ["all", *data["test"]["classes_by_kind"]]
    rows: list[list[object]] = []
    for kind in kinds:
        row: list[object] = [kind]
        for name in LISTS:
            scores = data[name]
            item = scores["classes"] if kind == "all" else scores["classes_by_kind"][kind]
            row += [item.total, tables.percent(item)]
        rows.append(row)
    header = [cell for name in LISTS for cell in (f"{name} clips", f"{name} %")]
    return tables.table(["answered rightly", *header], rows)


def apart_tables(scores: dict[str, Any]) -> list[str]:
    """What training heard and did not hear, where the checkpoints say it."""
    parts = []
    if scores["speakers_apart"]:
        parts += [
            "## Speakers whom training heard, and did not\n",
            tables.accuracy_table("speakers", scores["speakers_apart"]),
        ]
    if scores["words_apart"]:
        items = scores["words_apart"].items()
        rows = [[name, item.total, tables.percent(item)] for name, item in items]
        parts += [
            "## Unknown words that training heard, and did not\n",
            tables.table(["words", "clips", 'answered "no digit" %'], rows),
        ]
    return parts
