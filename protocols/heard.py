"""What training heard, as the checkpoints say: scores on it are told apart from all others."""

from __future__ import annotations

import numpy as np

from protocols import scoring
from protocols.metrics import Proportion
from protocols.scoring import ClipResults
from recognition.prediction import VotingPredictor

HEARD, NOT_HEARD = "heard in training", "not heard in training"
"""Names of the two groups."""


def heard(predictor: VotingPredictor, key: str) -> frozenset[str] | None:
    """What any of the networks heard in training; None where no checkpoint says.

    `key` is "words_heard" (other words) or "speakers_heard".
    """
    records = predictor.records.values()
    lists = [record[key] for record in records if isinstance(record.get(key), (list, tuple))]
    return frozenset(str(item) for names in lists for item in names) if lists else None


def corpora_heard(predictor: VotingPredictor) -> frozenset[str]:
    """Names of the corpora that any of the networks was trained on."""
    records = predictor.records.values()
    return frozenset(
        name for record in records for name in str(record.get("corpora", "")).split("+") if name
    )


def words_apart(names: np.ndarray, predictor: VotingPredictor) -> dict[str, np.ndarray]:
    """Clips by whether training heard their word, bool (n,); empty where no checkpoint says.

    A clip's name, str (n,), begins with its word: ``tree_speaker_0``.
    """
    known = heard(predictor, "words_heard")
    if known is None:
        return {}
    mask = np.array([str(name).split("_")[0].lower() in known for name in names], bool)
    return {name: part for name, part in ((HEARD, mask), (NOT_HEARD, ~mask)) if part.any()}


def speakers_apart(
    results: ClipResults, predictor: VotingPredictor
) -> dict[str, dict[str, Proportion]]:
    """Accuracies by whether training heard the speaker; empty where no checkpoint says."""
    known = heard(predictor, "speakers_heard")
    if known is None:
        return {}
    mask = np.isin(results.speakers, sorted(known))
    return scoring.grouped(results, np.where(mask, HEARD, NOT_HEARD))


def corpora_apart(
    by_corpus: dict[str, dict[str, Proportion]], predictor: VotingPredictor
) -> dict[str, dict[str, Proportion]]:
    """Macro averages over corpora of which training heard other speakers, and over the others.

    A folder counts as part of a corpus whose name it begins with, such as ``audiomnist_0to3``.
    Empty unless there are both.
    """
    trained = corpora_heard(predictor)

    def known(name: str) -> bool:
        return any(name == corpus or name.startswith(f"{corpus}_") for corpus in trained)

    groups = {
        "corpora of which training heard others": [n for n in by_corpus if known(n)],
        "corpora that training never heard": [n for n in by_corpus if not known(n)],
    }
    if not all(groups.values()):
        return {}
    return {
        f"macro, {len(names)} {title}": scoring.macro([by_corpus[name] for name in names])
        for title, names in groups.items()
    }
