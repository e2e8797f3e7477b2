"""Protocol strings: digit strings in one recording, live and whole, and what is no digit."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import audio_io
import config
import dataset_loader
from corpora.clips import Clips
from protocols import peers, tables
from protocols.common import EvaluationSettings, ProtocolReport, load_unseen_speakers
from protocols.metrics import Proportion, proportion
from protocols.noise_generation import add_noise, coloured_noise
from recognition.ctc_decoding import align
from recognition.digit_strings import StringRecognizer
from recognition.string_windows import LIVE, OFFLINE
from training.string_material import sound_bounds

logger = logging.getLogger(__name__)
DIGITS_IN_A_JOIN = (3, 10)
GAP_S = (0.0, 0.3)
"""s between two joined takes."""
QUIET_S = 0.3
"""s before and after a joined string."""
NOISY_DB = 10.0
"""dB. SNR of the joined strings in pink noise."""
LIVE_STRINGS = 60
"""Joined strings that are also heard live, for the delay."""
PEER_STRINGS = 60
"""Strings of a set that other recognisers are asked."""
BLOCK_S = 0.02
"""s of a block of live sound."""


@dataclass(frozen=True)
class Spoken:
    """A recording and what is said in it."""

    waveform: np.ndarray
    """float32 (samples,), at the recogniser's rate."""
    digits: str
    ends: tuple[float, ...] = ()
    """s at which each digit ends, where that is known."""


@dataclass(frozen=True)
class StringScores:
    """How many digits of some strings were wrong, and how many strings were wholly right."""

    strings: int
    digits: int
    substituted: int
    deleted: int
    inserted: int
    whole: Proportion

    @property
    def error_rate(self) -> Proportion:
        """Digit errors by digits said; the interval is Wilson's, as if digits erred alone."""
        wrong = min(self.digits, self.substituted + self.deleted + self.inserted)
        return proportion(np.arange(self.digits) < wrong)


def strings(settings: EvaluationSettings) -> ProtocolReport:
    """Digit error rates of whole strings, offline and live; false digits; single digits."""
    recognizer = StringRecognizer(settings.decision)
    started = time.process_time()
    sets = dict(string_sets(settings, recognizer.rate))
    scores = {name: scored(recognizer, spoken) for name, spoken in sets.items()}
    data: dict[str, Any] = {
        "protocol": settings.protocol,
        "seed": settings.seed,
        "models_dir": str(settings.decision.models_dir),
        "scores": {name: as_values(item) for name, item in scores.items()},
        "single_digits": single_digits(settings, recognizer),
        "false_digits": false_digits(settings, recognizer),
        "live": live_scores(recognizer, sets),
    }
    data["peers"] = peer_scores(recognizer, sets) if settings.peers else {}
    data["processor_seconds"] = round(time.process_time() - started, 1)
    groups = {
        name: {"digits wrong": item.error_rate} for name, item in scores.items() if item.digits
    }
    return ProtocolReport(
        "strings",
        report_text(scores, data),
        data,
        tables.accuracy_figure(groups, "Strings of digits", "digit error rate (%)"),
    )


def string_sets(settings: EvaluationSettings, rate: int) -> Iterator[tuple[str, list[Spoken]]]:
    """The sets of strings that are there, by name."""
    for folder in settings.strings_dirs:
        place = folder / "strings" if (folder / "strings").is_dir() else folder
        yield folder.name, recorded(place, rate)
    audio = config.AudioSettings(sample_rate=rate)
    random = np.random.default_rng(settings.seed)
    if settings.unseen_dir is not None:
        corpora = load_unseen_speakers(settings, audio)
        people = [row for clips in corpora.values() for row in by_speaker(clips)]
        if people:
            yield "unseen speakers, joined", list(joins(people, settings.joined_strings, random))
    try:
        fsdd = dataset_loader.load_fsdd(settings.data, audio)
    except config.UserError as error:
        logger.warning(f"warning: no FSDD ({error})")
        return
    test = dataset_loader.official_split(fsdd, settings.data.validation_fraction, 0).test
    takes = list(joins(by_speaker(fsdd.subset(test)), settings.joined_strings, random))
    yield "FSDD test takes, joined", takes
    yield f"FSDD test takes, joined, {NOISY_DB:g} dB", [noisy(one, rate, random) for one in takes]


def recorded(folder: Path, rate: int) -> list[Spoken]:
    """Recordings of strings whose names begin with the string, "o" being "oh"."""
    paths = audio_io.find_audio(folder).paths
    return [
        Spoken(audio_io.read_audio(path, rate)[0], path.stem.split("_")[0].replace("o", "0"))
        for path in paths
    ]


def by_speaker(clips: Clips) -> list[dict[int, list[np.ndarray]]]:
    """The takes of each digit, trimmed, of every speaker who said three digits or more."""
    found = []
    for speaker in np.unique(clips.speakers):
        takes: dict[int, list[np.ndarray]] = {}
        for index in np.flatnonzero(clips.speakers == speaker):
            waveform = clips.waveform(int(index))
            start, end = sound_bounds(waveform, clips.sample_rate)
            takes.setdefault(int(clips.labels[index]), []).append(waveform[start:end])
        takes.pop(config.REJECT, None)
        if len(takes) >= 3:
            found.append(takes)
    return found


def joins(
    people: Sequence[dict[int, list[np.ndarray]]],
    count: int,
    random: np.random.Generator,
    rate: int = 16000,
) -> Iterator[Spoken]:
    """Strings of takes of one speaker, any of whose digits is as likely."""
    for _ in range(count):
        takes = people[int(random.integers(len(people)))]
        labels = random.choice(sorted(takes), random.integers(*DIGITS_IN_A_JOIN, endpoint=True))
        parts, ends = [np.zeros(round(QUIET_S * rate), np.float32)], []
        for number, label in enumerate(labels):
            if number:
                parts.append(np.zeros(round(random.uniform(*GAP_S) * rate), np.float32))
            parts.append(takes[int(label)][int(random.integers(len(takes[int(label)])))])
            ends.append(sum(map(len, parts)) / rate)
        parts.append(np.zeros(round(QUIET_S * rate), np.float32))
        yield Spoken(np.concatenate(parts), "".join(map(str, labels)), tuple(ends))


def noisy(spoken: Spoken, rate: int, random: np.random.Generator) -> Spoken:
    """The same in pink noise."""
    noise = coloured_noise(len(spoken.waveform), 1.0, random)
    mixed = add_noise(spoken.waveform, noise, NOISY_DB, rate)
    return dataclasses.replace(spoken, waveform=mixed)


def scored(recognizer: StringRecognizer, spoken: Iterable[Spoken]) -> StringScores:
    """What the recogniser makes of whole recordings."""
    pairs = [(one.digits, offline(recognizer, one.waveform)) for one in spoken]
    return compared(pairs)


def offline(recognizer: StringRecognizer, waveform: np.ndarray) -> str:
    """The string in a recording that is there as a whole."""
    return recognizer.recognize(audio_io.Recording(waveform, recognizer.rate)).digits


def compared(pairs: Sequence[tuple[str, str]]) -> StringScores:
    """Errors in pairs of what was said and what was heard."""
    errors = np.array(
        [align(list(map(int, said)), list(map(int, heard))) for said, heard in pairs]
    ).reshape(-1, 3)
    substituted, deleted, inserted = (int(value) for value in errors.sum(axis=0))
    digits = sum(len(said) for said, _ in pairs)
    whole = proportion(errors.sum(axis=1) == 0)
    return StringScores(len(pairs), digits, substituted, deleted, inserted, whole)


def live_scores(
    recognizer: StringRecognizer, sets: dict[str, list[Spoken]]
) -> dict[str, dict[str, Any]]:
    """The same strings block by block: errors, and the delay from a digit's end to its being told.

    The delay is in the stream's own time: what the processor needs comes on top of it and is told
    as a share of real time.
    """
    found = {}
    for name, spoken in sets.items():
        pairs, delays, seconds, began = [], [], 0.0, time.process_time()
        for one in spoken[:LIVE_STRINGS]:
            heard, told = live(recognizer, one.waveform)
            pairs.append((one.digits, heard))
            seconds += len(one.waveform) / recognizer.rate
            if heard == one.digits and one.ends:
                delays += [at - end for at, end in zip(told, one.ends, strict=True)]
        share = (time.process_time() - began) / max(seconds, 1e-9)
        began = time.process_time()
        for one in spoken[:LIVE_STRINGS]:
            offline(recognizer, one.waveform)
        found[name] = as_values(compared(pairs)) | {
            "median_delay_s": round(float(np.median(delays)), 3) if delays else None,
            "p95_delay_s": round(float(np.quantile(delays, 0.95)), 3) if delays else None,
            "real_time_factor": round(share, 4),
            "offline_real_time_factor": round(
                (time.process_time() - began) / max(seconds, 1e-9), 4
            ),
        }
    return found


def live(recognizer: StringRecognizer, waveform: np.ndarray) -> tuple[str, list[float]]:
    """The digits of a stream, and s of the stream at which each was told."""
    stream, block = recognizer.stream(LIVE), round(BLOCK_S * recognizer.rate)
    told: list[float] = []
    heard, before = "", 0
    sound = np.pad(waveform, (0, recognizer.rate // 2))  # somebody waits for the answer
    for first in range(0, len(sound), block):
        closed = stream.feed(sound[first : first + block])
        heard += "".join(one.digits for one in closed)
        count = len(heard) + len(stream.digits)
        told += [stream.frames.samples / recognizer.rate] * (count - before)
        before = count
    heard += "".join(one.digits for one in stream.finish())
    told += [len(sound) / recognizer.rate] * (len(heard) - before)
    return heard, told


def peer_scores(
    recognizer: StringRecognizer, sets: dict[str, list[Spoken]]
) -> dict[str, dict[str, Any]]:
    """What others make of the same strings, beside ours, and at what cost; a row that says why not.

    Of each set :data:`PEER_STRINGS` at most; everything in one run.
    """
    asked: dict[str, Callable[[np.ndarray], str]] = {"ours": lambda w: offline(recognizer, w)}
    found: dict[str, dict[str, Any]] = {}
    for name in peers.PEERS:
        try:
            asked[name] = peers.load(name).digits
        except peers.Absent as error:
            found[name] = {"absent": str(error)}
    for name, digits in asked.items():
        found[name] = {}
        for kind, spoken in sets.items():
            some, begun = spoken[:PEER_STRINGS], time.process_time()
            scores = compared([(one.digits, digits(one.waveform)) for one in some])
            seconds = sum(len(one.waveform) for one in some) / recognizer.rate
            factor = round((time.process_time() - begun) / max(seconds, 1e-9), 4)
            found[name][kind] = as_values(scores) | {"real_time_factor": factor}
    return found


def single_digits(settings: EvaluationSettings, recognizer: StringRecognizer) -> dict[str, Any]:
    """Unseen speakers' single digits: how many are heard as that digit and nothing else."""
    if settings.unseen_dir is None:
        return {}
    from recognition.recognizer import Recognizer

    vote = Recognizer(settings.decision, settings.cleaning)
    found: dict[str, Any] = {}
    corpora = load_unseen_speakers(settings, config.AudioSettings(sample_rate=recognizer.rate))
    for name, clips in corpora.items():
        rows = []
        for index in range(len(clips)):
            recording = audio_io.Recording(clips.waveform(index), clips.sample_rate)
            label = int(clips.labels[index])
            as_string = recognizer.recognize(recording).digits == str(label)
            rows.append((as_string, vote.recognize(recording).prediction.best_guess == label))
        right = np.array(rows, bool).reshape(-1, 2)
        found[name] = {
            "as_string": proportion(right[:, 0]),
            "vote": proportion(right[:, 1]),
            "only_string_right": int((right[:, 0] & ~right[:, 1]).sum()),
            "only_vote_right": int((right[:, 1] & ~right[:, 0]).sum()),
        }
    return found


def false_digits(
    settings: EvaluationSettings, recognizer: StringRecognizer
) -> dict[str, dict[str, float]]:
    """Digits heard where none is said, and how many an hour."""
    folders = {"other words": settings.non_digits_dir, "noise": settings.noise_dir}
    found = {}
    for name, folder in folders.items():
        if folder is None:
            continue
        digits, seconds, files = 0, 0.0, 0
        for path in audio_io.find_audio(folder).paths:
            waveform, _ = audio_io.read_audio(path, recognizer.rate, 600)
            digits += len(offline(recognizer, waveform))
            seconds += len(waveform) / recognizer.rate
            files += 1
        found[name] = {
            "recordings": files,
            "minutes": round(seconds / 60, 1),
            "digits": digits,
            "an_hour": round(digits / max(seconds, 1e-9) * 3600, 1),
        }
    return found


def as_values(scores: StringScores) -> dict[str, Any]:
    """Scores for JSON."""
    values = {item.name: getattr(scores, item.name) for item in dataclasses.fields(scores)}
    return values | {"error_rate": scores.error_rate}


def report_text(scores: dict[str, StringScores], data: dict[str, Any]) -> str:
    """The report as Markdown."""
    rows = [
        [
            name,
            item.strings,
            item.digits,
            item.substituted,
            item.deleted,
            item.inserted,
            tables.percent(item.error_rate),
            tables.percent(item.whole),
        ]
        for name, item in scores.items()
    ]
    header = ["set", "strings", "digits", "other", "lost", "added", "digits wrong", "whole right"]
    live_rows = [
        [
            name,
            tables.percent(item["error_rate"]),
            item["median_delay_s"] or "",
            item["p95_delay_s"] or "",
            item["real_time_factor"],
            item["offline_real_time_factor"],
        ]
        for name, item in data["live"].items()
    ]
    live_header = ["live", "digits wrong", "median delay s", "p95 s", "live RTF", "whole RTF"]
    single = [
        [name, tables.percent(item["as_string"]), tables.percent(item["vote"])]
        for name, item in data["single_digits"].items()
    ]
    false = [
        [name, item["recordings"], item["minutes"], item["digits"], item["an_hour"]]
        for name, item in data["false_digits"].items()
    ]
    others = []
    for name, kinds in data["peers"].items():
        if "absent" in kinds:
            others.append([name, kinds["absent"], "", "", "", ""])
            continue
        for kind, item in kinds.items():
            wrong, whole = tables.percent(item["error_rate"]), tables.percent(item["whole"])
            others.append([name, kind, item["strings"], wrong, whole, item["real_time_factor"]])
    others_header = ["recogniser", "set", "strings", "digits wrong", "whole right", "whole RTF"]
    return "\n".join(
        [
            "# Strings of digits\n",
            'Percent with 95 % intervals; "oh" counts as zero. A window of '
            f"{OFFLINE.window:g} s, live {LIVE.window:g} s every {LIVE.hop:g} s.\n",
            tables.table(header, rows),
            tables.table(live_header, live_rows),
            tables.table(["single digits of", "as strings", "vote"], single),
            tables.table(["no digits in", "recordings", "minutes", "digits", "an hour"], false),
            *([tables.table(others_header, others)] if others else []),
        ]
    )
