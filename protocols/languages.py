"""The protocol of languages: a recogniser of the ten digits for each, scored on recorded digits.

Networks of a language are taken from its folder in the folder of networks, or from the results of
an earlier call, and trained where there are none. The recordings only score; those of
``--real-speakers`` also train, a fifth of the speakers at a time left out.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import audio_io
import config
import dataset_loader
import languages
import utils
from corpora.clips import Clips
from protocols import metrics, scoring, tables
from protocols.common import EvaluationSettings, ProtocolReport, required_folder
from protocols.folds import fold_key
from protocols.metrics import Proportion
from protocols.scoring import ClipResults
from recognition.predictor import Predictor
from synthesis.language_speakers import voices_of
from training.settings import TrainingData, prepare_data

logger = logging.getLogger(__name__)
ALONE = "synthetic speakers"
"""What networks are trained on that no recording trained."""
RECORD = "training.json"
"""The file beside networks that were trained here."""
FOLDS = 5
"""Parts of the speakers who are left out in turn, where recorded speakers train."""
FAMILIES = {
    "Germanic": "af da de en fo is lb nb nl nn no sv",
    "Romance": "an ast ca es fr gl it pt ro",
    "Slavic": "be bg bs cs hr mk pl ru sk sl sr uk",
    "Baltic": "lt ltg lv",
    "Celtic": "br cy ga gd",
    "Indo-Aryan": "as bn bpy gu hi kok mr ne or pa sd si ur",
    "Iranian": "fa ku",
    "Greek": "el",
    "Semitic": "am ar he mt ti",
    "Uralic": "et fi hu smj",
    "Turkic": "az ba cv kaa kk ky nog tk tr tt ug uz",
    "Dravidian": "kn ml ta te",
    "Sino-Tibetan": "cmn hak my yue zh",
    "Tai-Kadai": "shn th",
    "Austronesian": "haw id mi ms",
    "Austroasiatic": "vi",
    "Bantu": "sw tn",
    "Basque": "eu",
    "Japonic": "ja",
    "Koreanic": "ko",
}


@dataclasses.dataclass(frozen=True)
class Language:
    """A language of the table."""

    name: str
    """Of its folder."""
    trained: str
    """What its networks were trained on."""
    results: ClipResults
    validation: float | None
    """Share of right digits of the speakers kept aside from training, where they trained here."""
    seconds: float | None
    """Of its training, where it was trained here."""


def languages_table(settings: EvaluationSettings) -> ProtocolReport:
    """Digits right in every language that is asked for, or that there are recordings of.

    Raises
    ------
    UserError : no folder of recordings, or eSpeak NG lacks a language that was named
    """
    folder = required_folder(
        settings.languages_dir, "digits by language", "--languages-dir", "LANGUAGES_DIR"
    )
    names, lacking = languages_of(settings, folder)
    found = [synthetic_alone(settings, folder / name) for name in names]
    found += [with_real_speakers(settings, folder / name) for name in settings.real_speakers]
    return report(settings, found, lacking)


def languages_of(settings: EvaluationSettings, folder: Path) -> tuple[list[str], list[str]]:
    """The languages to score, and those among the recordings that eSpeak NG lacks."""
    if settings.languages:
        for name in settings.languages:
            voices_of(name)
            required_folder(folder / name, name, "--languages-dir", "LANGUAGES_DIR")
        return [*settings.languages], []
    names, lacking = [], []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            voices_of(path.name)
            names.append(path.name)
        except config.UserError:
            lacking.append(path.name)
    return names, lacking


def synthetic_alone(settings: EvaluationSettings, folder: Path) -> Language:
    """Networks of synthetic speakers, there already or trained now, on a language's recordings."""
    code = languages.code(folder.name)
    place = config.program_path(settings.decision.models_dir / code)
    if not config.network_files(place):
        place = trained(settings, code, code, "synthetic")
    results = scored(settings, place, recorded(settings, folder))
    return described(folder.name, ALONE, results, [place])


def with_real_speakers(settings: EvaluationSettings, folder: Path) -> Language:
    """Networks of synthetic and recorded speakers, on speakers that they never heard."""
    clips, results, places = recorded(settings, folder), [], []
    code = languages.code(folder.name)
    for number, speakers in enumerate(fifths(np.unique(clips.speakers), settings.seed)):
        name, corpora = f"{folder.name}-real-{number}", f"synthetic,folder:{folder}"
        places.append(trained(settings, code, name, corpora, speakers))
        test = clips.subset(np.flatnonzero(np.isin(clips.speakers, speakers)))
        results.append(scored(settings, places[-1], test))
    return described(folder.name, "and recorded speakers", scoring.join(results), places)


def fifths(speakers: np.ndarray, seed: int) -> list[list[str]]:
    """Speakers in five parts, or fewer where there are not as many; str each."""
    order = np.random.default_rng([seed, 80]).permutation(speakers)
    return [order[number::FOLDS].tolist() for number in range(min(FOLDS, len(order)))]


def recorded(settings: EvaluationSettings, folder: Path) -> Clips:
    """The digits recorded of a language."""
    vocabulary = languages.vocabulary(folder.name)
    clips = dataset_loader.load_folder(
        folder, settings.audio, corpus=folder.name, vocabulary=vocabulary
    )
    return clips.subset(np.flatnonzero(clips.labels != vocabulary.reject))


def trained(
    settings: EvaluationSettings, code: str, name: str, corpora: str, left_out: Sequence[str] = ()
) -> Path:
    """The folder of a language's networks; trains them unless that was done before."""
    from train import train

    folder = settings.results_dir / "languages"
    place = folder / f"{name}-seed{settings.seed}-{fold_key(settings)}"
    if (place / RECORD).is_file():
        return place
    logger.info(f"{name}: training on {corpora}")
    train_settings = settings.train_settings(
        language=code,
        data=dataclasses.replace(settings.data, corpora=corpora),
        save_dir=place,
        runs_dir=folder / "runs" / place.name,
        resume=True,
        overwrite=True,
    )
    data = prepare_data(train_settings, left_out)
    summary = train(train_settings, data)
    utils.write_json(
        place / RECORD,
        {
            "seconds": summary["seconds"],
            "validation": validated(settings, place, data),
            "left_out": [*left_out],
        },
    )
    return place


def validated(settings: EvaluationSettings, place: Path, data: TrainingData) -> float:
    """Share of right digits, the vote's best however sure, among the clips kept aside."""
    predictor = Predictor(dataclasses.replace(settings.decision, models_dir=place))
    digits = np.flatnonzero(data.validation_labels < predictor.vocabulary.reject)
    heard = predictor.predict_batch(list(audio_io.to_float(data.validation[digits])))
    guesses = np.array([prediction.best_guess for prediction in heard])
    return float(np.mean(guesses == data.validation_labels[digits]))


def scored(settings: EvaluationSettings, place: Path, clips: Clips) -> ClipResults:
    """What the networks of a folder answer to recordings."""
    decision = dataclasses.replace(settings.decision, models_dir=place)
    recognizer = settings.recognizer(Predictor(decision), recording=True)
    results = scoring.recognize_clips(recognizer, clips, place.name)
    logger.info(f"{place.name}: vote {metrics.proportion(results.right('vote'))}")
    return results


def described(name: str, trained: str, results: ClipResults, places: Sequence[Path]) -> Language:
    """A row of the table; validation and time are the means over `places`."""
    records = [
        json.loads((place / RECORD).read_text(encoding="utf-8"))
        for place in places
        if (place / RECORD).is_file()
    ]
    means = {
        key: float(np.mean([record[key] for record in records])) if records else None
        for key in ("validation", "seconds")
    }
    return Language(name, trained, results, **means)


def family_of(name: str) -> str:
    """The family that a language belongs to; of Indo-European ones the branch."""
    code = languages.code(name).split("-")[0]
    found = [family for family, members in FAMILIES.items() if code in members.split()]
    return found[0] if found else "–"


def report(
    settings: EvaluationSettings, found: Sequence[Language], lacking: Sequence[str]
) -> ProtocolReport:
    """The table of all languages."""
    scores = {f"{one.name}, {one.trained}": scoring.accuracies(one.results) for one in found}
    alone = [one for one in found if one.trained == ALONE]
    shares = [scoring.accuracies(one.results)["vote"].value for one in alone]
    median = float(np.median(shares)) if shares else float("nan")
    families = len({family_of(one.name) for one in alone} - {"–"})
    title = (
        f"{len(alone)} languages of {families} families and branches, synthetic speakers alone: "
        f"median {median:.1%} of the recorded digits right"
    )
    if not alone:
        title = "Digits in other languages"
    data = {
        "protocol": "languages",
        "seed": settings.seed,
        "median": median,
        "lacking": [*lacking],
        "languages": [row_data(one) for one in found],
    }
    text = "\n".join(
        [
            f"# {title}\n",
            "Best digit of the vote, however sure, on recordings through the cleaning chain, with "
            "95 % intervals; validation: right digits of synthetic speakers kept aside, and of "
            "recorded ones where they train.\n",
            tables.table(
                ["language", "family", "trained on", "clips", "speakers", *HEADS],
                [row_cells(one) for one in found],
            ),
            f"Not in eSpeak NG: {', '.join(lacking) or 'none'}.\n",
        ]
    )
    return ProtocolReport("languages", text, data, tables.accuracy_figure(scores, title))


HEADS = ("vote %", "networks %", "answered and right %", "validation %", "training min")


def row_data(one: Language) -> dict[str, Any]:
    """A language's scores for JSON."""
    return {
        "language": one.name,
        "family": family_of(one.name),
        "trained": one.trained,
        "speakers": len(np.unique(one.results.speakers)),
        "accuracy": scoring.accuracies(one.results),
        "accepted": answered_right(one.results),
        "validation": one.validation,
        "seconds": one.seconds,
    }


def answered_right(results: ClipResults) -> Proportion:
    """Share of the clips whose digit was right and sure enough to be answered."""
    return metrics.proportion(results.right("vote") & results.accepted)


def row_cells(one: Language) -> list[object]:
    """A language's row."""
    scores = scoring.accuracies(one.results)
    networks = ", ".join(
        f"{config.display_name(name)} {100 * score.value:.1f}"
        for name, score in scores.items()
        if name != "vote"
    )
    validation = "–" if one.validation is None else f"{100 * one.validation:.1f}"
    minutes = "–" if one.seconds is None else f"{one.seconds / 60:.1f}"
    return [
        one.name,
        family_of(one.name),
        one.trained,
        len(one.results),
        len(np.unique(one.results.speakers)),
        tables.percent(scores["vote"]),
        networks,
        f"{100 * answered_right(one.results).value:.1f}",
        validation,
        minutes,
    ]
