"""From the name of a corpus to labelled clips, and who of them trains, validates and tests.

python dataset_loader.py            fetches and verifies what there is, and prints a table of all
python dataset_loader.py --json     the same for other programs
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import audio_io
import config
import utils
from corpora import folder, other_words, registry
from corpora.clips import Clips, concatenate
from corpora.folder import load_folder, load_noise
from corpora.fsdd import FSDD_FOLDER, load_fsdd
from corpora.registry import Request
from corpora.splits import (
    KeptAside,
    Split,
    keep_aside,
    label_oh,
    make_split,
    official_split,
    random_split,
    speaker_split,
)

__all__ = [
    "Clips",
    "KeptAside",
    "Split",
    "keep_aside",
    "load_folder",
    "load_fsdd",
    "load_noise",
    "load_training_clips",
    "load_validation_community",
    "make_split",
    "official_split",
    "random_split",
    "speaker_split",
]

FETCHED_MEGABYTES = 100
"""Up to this size a corpus is fetched without being asked for."""
MAX_ROWS = 30
"""Speakers up to which a table has a row for each."""
WITHOUT = {
    "fsdd": "NO REAL SPEECH (FSDD): going on with synthetic speakers alone. "
    "Scores will be lower, and mean less.",
    "synthetic": "NO SYNTHETIC SPEAKERS: going on without them. "
    "Unseen speakers will be recognised less well.",
}
"""What is lost without a corpus that training can do without."""
ANY_LABELS = ("synthetic", "own")
"""Corpora that can hold other labels than English digits."""
AUTO = ("fsdd", "synthetic", "an4", "speech_commands", "single_voices", "other_words")
"""What "auto" stands for: all of these that are there."""


def load_training_clips(
    data: config.DataSettings,
    audio: config.AudioSettings,
    synthetic: config.SyntheticSettings,
    seed: int,
    vocabulary: config.Vocabulary | None = None,
) -> tuple[Clips | None, Clips, str]:
    """Load the corpora that ``data.corpora`` names.

    Under "auto", FSDD and the recorded corpora may be nowhere, with a warning; but an archive or a
    folder that is named, or a copy that is damaged, is an error. Wherever eSpeak NG is missing,
    training goes on without synthetic speakers if anything else is named.

    Returns
    -------
    fsdd : the clips that ``data.split`` splits; None where FSDD is not asked for, or not to be had
    extra : clips beside FSDD, perhaps none: synthetic, recorded, own, folders
    corpora : what was loaded, such as "fsdd+synthetic"; belongs into every result

    Raises
    ------
    UserError : an unknown corpus, one that can't be loaded, or nothing left
    """
    automatic, wanted = _named_corpora(data.corpora)
    vocabulary = vocabulary or config.ENGLISH_DIGITS
    refuse_english(wanted, vocabulary)
    loaded, failures = {}, []
    for name in wanted:
        try:
            loaded[name] = _load_or_fetch(
                name, Request(data, audio, synthetic, seed, vocabulary), automatic
            )
        except config.UserError as error:
            missing = automatic and name in AUTO and isinstance(error, registry.Unavailable)
            if name != "synthetic" and not missing:
                raise
            failures.append(str(error))
            _tell_missing(name, error)
    if not loaded:
        raise config.UserError("; ".join(failures) or "data.corpora names nothing")
    fsdd = loaded.pop("fsdd", None)
    names = ["fsdd"] * (fsdd is not None) + [
        Path(name.removeprefix("folder:")).name for name in loaded
    ]
    nothing = Clips.from_waveforms([], [], [], [], [], "", audio.sample_rate)
    return fsdd, concatenate([nothing, *loaded.values()]), "+".join(names)


def refuse_english(names: Sequence[str], vocabulary: config.Vocabulary) -> None:
    """Refuse corpora of English digits where something else is to be told apart.

    Raises
    ------
    UserError : there are such; the text says what can be trained on
    """
    english = [name for name in names if name in registry.known() and name not in ANY_LABELS]
    if english and vocabulary != config.ENGLISH_DIGITS:
        raise config.UserError(
            f"data.corpora: {', '.join(english)} holds English digits: with --language and "
            f"--labels use {', '.join(ANY_LABELS)}, folders and tables"
        )


def labels_in(data: config.DataSettings) -> tuple[str, ...]:
    """Every label of the folders and tables that ``data.corpora`` names, sorted.

    Raises
    ------
    UserError : none is named, or one can't be read
    """
    found: set[str] = set()
    known = registry.known()
    for name in _named_corpora(data.corpora)[1]:
        if name not in known:
            found |= folder.label_words(_folder_path(name), data.pattern)
    if not found:
        raise config.UserError("labels auto: name a folder of labelled clips with --data.corpora")
    return tuple(sorted(found))


def _named_corpora(text: str) -> tuple[bool, list[str]]:
    """Whether "auto" is among the comma-separated names, and the names with it written out."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    names = [name for word in words for name in (AUTO if word == "auto" else (word,))]
    return "auto" in words, list(dict.fromkeys(names))


def _load_or_fetch(name: str, request: Request, automatic: bool) -> Clips:
    """A corpus; under "auto" a small one is fetched where FSDD had to be fetched, too."""
    try:
        return _load(name, request)
    except registry.Unavailable:
        corpus = registry.known()[name]
        small = corpus.fetch is not None and corpus.megabytes <= FETCHED_MEGABYTES
        if not (automatic and small and (request.data.root / FSDD_FOLDER).is_dir()):
            raise
    try:
        fetch(name, request)
    except config.UserError as error:
        raise registry.Unavailable(str(error)) from None
    return _load(name, request)


def fetch(name: str, request: Request) -> None:
    """Fetch a corpus by name.

    Raises
    ------
    UserError : no such corpus, it can't be fetched, or not now
    """
    fetchable = {name: corpus for name, corpus in registry.known().items() if corpus.fetch}
    corpus = fetchable.get(name)
    if corpus is None or corpus.fetch is None:
        raise config.UserError(f"{name!r} can't be fetched: use {', '.join(fetchable)}")
    print(f"{name}: {corpus.about} ({corpus.licence}), about {corpus.megabytes} MB", flush=True)
    corpus.fetch(request)


def _tell_missing(name: str, error: config.UserError) -> None:
    """Loud where scores will suffer much; else a line, once in a process."""
    if name in WITHOUT:
        _shout(WITHOUT[name], f"Why: {error}")
        return
    corpus = registry.known()[name]
    remedy = "it is had as a prepared copy only"
    if corpus.fetch is not None:
        remedy = f"{corpus.megabytes} MB, with: python dataset_loader.py --fetch {name}"
    _say_once(f"going on without {name}: {corpus.without} ({remedy})")


@functools.cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr)


def load_validation_community(data: config.DataSettings, audio: config.AudioSettings) -> Clips:
    """Recorded other words that recipes and thresholds are chosen on; they never train.

    Raises
    ------
    UserError : they are not there, or not whole
    """
    return other_words.load_validation(Request(data, audio))


def _load(name: str, request: Request) -> Clips:
    """One corpus by its name in ``data.corpora``; loud where a folder's labels look wrong."""
    corpora = registry.known()
    clips = (corpora[name] if name in corpora else _folder_corpus(name)).load(request)
    doubts = []
    if request.vocabulary.is_digits and (name == "own" or name not in corpora):
        doubts = folder.doubts(clips)
    if doubts:
        _shout(*(f"{name}: {doubt}" for doubt in doubts))
    return clips


def _folder_path(name: str) -> Path:
    """The folder, or the CSV file, that is named instead of a corpus."""
    path = Path(name.removeprefix("folder:"))
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() == ".csv"):
        known = ", ".join(registry.known())
        raise config.UserError(
            f"data.corpora: {name!r} is neither auto, {known} nor a folder or CSV file"
        )
    return path


def _folder_corpus(name: str) -> registry.Corpus:
    """A folder, or a CSV file, that is named instead of a corpus."""
    path = _folder_path(name)
    return registry.Corpus(
        name,
        "not known",
        "a folder of clips",
        lambda request: load_folder(
            path,
            request.audio,
            pattern=request.data.pattern,
            cache=request.data.root / "cache",
            vocabulary=request.vocabulary,
        ),
        lambda request: path,
    )


def _shout(*lines: str) -> None:
    """A warning that can't be overlooked among progress bars."""
    rule = "!" * 96
    print("\n".join([rule, *(f"!!! {line}" for line in lines), rule]), file=sys.stderr)


@dataclass(frozen=True)
class LoaderSettings:
    """What the script looks at."""

    data: config.DataSettings = field(default_factory=config.DataSettings)
    audio: config.AudioSettings = field(default_factory=config.AudioSettings)
    synthetic: config.SyntheticSettings = field(default_factory=config.SyntheticSettings)
    seed: int = 0
    """Of the synthetic speakers; train.py's own by default."""
    fetch: tuple[str, ...] = ()
    """Corpora to fetch first, such as an4; their sizes are said before."""
    make: bool = False
    """Also make the synthetic speakers, which takes minutes, where no training has done it yet."""
    json: bool = False
    """Print one JSON object, a line of the first table each, instead of tables."""


def run(settings: LoaderSettings) -> None:
    """Fetch and verify every corpus there is; print one table of all, and one of each."""
    request = Request(settings.data, settings.audio, settings.synthetic, settings.seed)
    for name in settings.fetch:
        fetch(name, request)
    corpora, loaded = dict(registry.known()), {}
    named = [name for name in _named_corpora(settings.data.corpora)[1] if name not in corpora]
    corpora |= {name: _folder_corpus(name) for name in named}
    places = {name: corpus.place(request) for name, corpus in corpora.items()}
    for name, corpus in corpora.items():
        if places[name] is not None or (settings.make and name == "synthetic"):
            loaded[name] = _load(name, request)
            places[name] = corpus.place(request)
    facts = [corpus_facts(corpora[name], places[name], loaded.get(name)) for name in corpora]
    if settings.json:
        print(json.dumps({"corpora": facts}, indent=2))
        return
    print(overview(facts))
    for name, clips in loaded.items():
        print(f"\n{name}: {corpora[name].about}\n{describe(label_oh(clips))}")


def corpus_facts(
    corpus: registry.Corpus, place: Path | None, clips: Clips | None
) -> dict[str, Any]:
    """What is known of a corpus, as JSON values; counts are null where it is not there."""
    facts: dict[str, Any] = dict.fromkeys(
        ("clips", "digits", "non_digits", "speakers", "hours", "sample_rate")
    )
    if clips is not None:
        digits = int(np.count_nonzero(clips.labels != config.REJECT))
        facts |= {
            "clips": len(clips),
            "digits": digits,
            "non_digits": len(clips) - digits,
            "speakers": len(np.unique(clips.speakers)),
            "hours": round(float(clips.durations.sum()) / 3600, 4),
            "sample_rate": clips.sample_rate,
        }
    return {
        "corpus": corpus.name,
        "about": corpus.about,
        **facts,
        "licence": corpus.licence,
        "place": None if place is None else str(place),
    }


def overview(facts: Sequence[Mapping[str, Any]]) -> str:
    """A line a corpus: clips, speakers, hours, licence and where it lies."""
    width = max(16, *(len(one["corpus"]) + 1 for one in facts))
    licence = max(24, *(len(one["licence"]) + 1 for one in facts))
    lines = [
        f"{'corpus':{width}}{'clips':>7}{'speakers':>10}{'hours':>8}  "
        f"{'licence':{licence}}where it lies"
    ]
    for one in facts:
        counts = f"{'-':>7}{'-':>10}{'-':>8}"
        if one["clips"] is not None:
            counts = f"{one['clips']:7}{one['speakers']:10}{one['hours']:8.2f}"
        place = one["place"] or "not there yet"
        lines.append(f"{one['corpus']:{width}}{counts}  {one['licence']:{licence}}{place}")
    return "\n".join(lines)


def label_table(
    sets: Mapping[str, Clips], vocabulary: config.Vocabulary = config.ENGLISH_DIGITS
) -> str:
    """Clips by label, and speakers, of each corpus in each of the named sets."""
    names = class_names(vocabulary)
    rows = []
    for name, clips in sets.items():
        for corpus in np.unique(clips.corpus):
            chosen = clips.corpus == corpus
            counts = np.bincount(clips.labels[chosen], minlength=len(names))
            speakers = len(np.unique(clips.speakers[chosen]))
            rows.append([f"{corpus}, {name}", *map(str, counts), str(speakers)])
    heads = ["corpus", *names, "speakers"]
    width = max(len(row[0]) for row in [heads, *rows])
    columns = [f"<{width}", *(f">{max(6, len(name) + 2)}" for name in names), ">10"]
    return "\n".join(
        "".join(format(cell, column) for cell, column in zip(row, columns, strict=True))
        for row in [heads, *rows]
    )


def class_names(vocabulary: config.Vocabulary) -> list[str]:
    """The classes of a table's columns."""
    none = "non-digit" if vocabulary.is_digits else "other"
    return [*vocabulary.labels, none, *["oh"] * vocabulary.knows_oh]


def report_labels(
    training: Clips, validation: Clips, vocabulary: config.Vocabulary = config.ENGLISH_DIGITS
) -> None:
    """Print what will be learned; loud where a digit is missing in training, or a class in both."""
    print(label_table({"training": training, "validation": validation}, vocabulary), flush=True)
    names = [name.replace("non-digit", "non-digits") for name in class_names(vocabulary)]
    trained, chosen = set(training.labels.tolist()), set(validation.labels.tolist())
    for label in sorted(set(range(vocabulary.reject)) - trained):
        _shout(
            f"NO CLIP OF {names[label]} TO TRAIN ON: the networks will never answer {names[label]}."
        )
    lacking = ", ".join(names[label] for label in sorted(trained - chosen))
    if lacking:
        _shout(f"VALIDATION LACKS {lacking}: it can't tell how well these are recognised.")


def describe(clips: Clips) -> str:
    """A table of clips by digit and speaker, with durations, rate and levels."""
    speakers, labels = np.unique(clips.speakers), np.unique(clips.labels)
    levels = np.array([audio_io.dbfs(audio_io.rms(clips.waveform(i))) for i in range(len(clips))])
    seconds = clips.durations
    width = max(map(len, speakers), default=0) + 2
    quantities = (
        ("median s", np.median, seconds),
        ("shortest s", np.min, seconds),
        ("longest s", np.max, seconds),
        ("RMS dBFS", np.median, levels),
    )

    def line(title: str, chosen: np.ndarray) -> str:
        counts = [np.count_nonzero(clips.labels[chosen] == label) for label in labels]
        numbers = "".join(f"{count:5d}" for count in [*counts, np.count_nonzero(chosen)])
        return f"{title:{width}}{numbers}" + "".join(
            f"{function(values[chosen]):11.2f}" for _, function, values in quantities
        )

    heads = [[*config.DIGITS, "other", "oh"][label] for label in labels]
    header = " " * width + "".join(f"{head:>5}" for head in [*heads, "all"])
    rows = [header + "".join(f"{name:>11}" for name, _, _ in quantities)]
    if len(speakers) <= MAX_ROWS:
        rows += [line(speaker, clips.speakers == speaker) for speaker in speakers]
    rows += [line("all", np.ones(len(clips), bool))] if len(clips) else []
    return "\n".join(rows) + (
        f"\n\n{len(clips)} clips of {len(speakers)} speakers, "
        f"{seconds.sum() / 60:.1f} minutes, {clips.sample_rate} Hz"
    )


if __name__ == "__main__":
    utils.main(run, LoaderSettings, __doc__)
