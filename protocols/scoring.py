"""From recordings to results, and from results to scores: what every protocol shares."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from audio_io import Recording
from config import display_name
from corpora.clips import Clips
from protocols import metrics
from protocols.metrics import Proportion
from recognition.prediction import Prediction
from recognition.recognizer import Recognizer

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 64
"""Recordings recognised at a time: what bounds the memory."""


@dataclass(frozen=True)
class ClipResults:
    """What was spoken and what was recognised, one value a clip in every array."""

    labels: np.ndarray
    """int64 (n,); class index of what was spoken, config.REJECT for non-digit."""
    speakers: np.ndarray
    """str (n,)."""
    names: np.ndarray
    """str (n,)."""
    guesses: dict[str, np.ndarray]
    """Model name or "vote" -> int64 (n,); the best digit, -1 where no speech was found."""
    confidence: dict[str, np.ndarray]
    """Model name or "vote" -> float64 (n,); posterior of that digit."""
    reject: np.ndarray
    """float64 (n,); the vote's posterior of non-digit."""
    accepted: np.ndarray
    """bool (n,); answered with a digit, at the predictor's threshold."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def models(self) -> list[str]:
        """The single networks' names."""
        return [name for name in self.guesses if name != "vote"]

    def right(self, name: str) -> np.ndarray:
        """Whether the best digit is what was spoken, bool (n,)."""
        return self.guesses[name] == self.labels

    def score(self) -> np.ndarray:
        """What a threshold is compared with, float64 (n,): confidence; 0 where non-digit won."""
        return np.where(self.confidence["vote"] >= self.reject, self.confidence["vote"], 0.0)

    def subset(self, mask: np.ndarray) -> ClipResults:
        """The results where `mask`, bool (n,), holds, or in the order of indices, int (n,)."""

        def pick(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: values[mask] for name, values in value.items()}
            return value[mask]

        return ClipResults(*(pick(getattr(self, item.name)) for item in dataclasses.fields(self)))

    def to_json(self) -> dict[str, Any]:
        """Plain lists; :meth:`from_json` reads them back."""
        return {
            name: {key: list(item.tolist()) for key, item in value.items()}
            if isinstance(value, dict)
            else value.tolist()
            for name, value in vars(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ClipResults:
        """The opposite of :meth:`to_json`."""

        def array(item: Any) -> Any:
            if isinstance(item, dict):
                return {key: np.asarray(value) for key, value in item.items()}
            return np.asarray(item)

        # folds saved before class indices were called labels
        values = {"labels": values.get("digits"), **values}
        return cls(**{item.name: array(values[item.name]) for item in dataclasses.fields(cls)})


def join(parts: Sequence[ClipResults]) -> ClipResults:
    """Several sets of results of the same networks, one after another."""

    def column(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], dict):
            return {key: np.concatenate([value[key] for value in values]) for key in values[0]}
        return np.concatenate(values)

    return ClipResults(*(column(item.name) for item in dataclasses.fields(ClipResults)))


def recognize_clips(recognizer: Recognizer, clips: Clips, description: str = "") -> ClipResults:
    """Recognise every clip; `description` stands beside the progress bar."""
    return recognize_waveforms(
        recognizer, map(clips.waveform, range(len(clips))), clips, description
    )


def recognize_waveforms(
    recognizer: Recognizer, waveforms: Iterable[np.ndarray], clips: Clips, description: str = ""
) -> ClipResults:
    """The same for other waveforms, float32 (samples,) each, of the clips' labels and rate."""
    predictions: list[Prediction] = []
    spoken: list[bool] = []
    recordings = (Recording(waveform, clips.sample_rate) for waveform in waveforms)
    with tqdm(total=len(clips), desc=description, unit="clip", disable=None, leave=False) as bar:
        while batch := list(itertools.islice(recordings, CHUNK)):
            for result in recognizer.recognize_batch(batch):  # the sound itself is not kept
                prediction = result.prediction
                if result.vetoed:  # no threshold may accept it
                    prediction = dataclasses.replace(prediction, reject_probability=1.0)
                predictions.append(prediction)
                spoken.append(result.speech.size > 0)
            bar.update(len(batch))
    return collect(predictions, clips, np.array(spoken, bool))


def collect(predictions: Sequence[Prediction], clips: Clips, spoken: np.ndarray) -> ClipResults:
    """Predictions for `clips` as columns; no guess where nothing was `spoken`, bool (n,)."""
    names = list(predictions[0].predictions) if predictions else []
    columns = {name: [item.predictions[name] for item in predictions] for name in names}
    guesses = {name: [item.digit for item in column] for name, column in columns.items()}
    confidence = {name: [item.confidence for item in column] for name, column in columns.items()}
    guesses["vote"] = [item.best_guess for item in predictions]
    confidence["vote"] = [item.confidence for item in predictions]
    return ClipResults(
        clips.labels,
        clips.speakers,
        clips.names,
        {name: np.where(spoken, np.array(col, np.int64), -1) for name, col in guesses.items()},
        {name: np.array(column, float) for name, column in confidence.items()},
        np.array([item.reject_probability for item in predictions], float),
        np.array([item.accepted for item in predictions], bool),
    )


def accuracies(results: ClipResults) -> dict[str, Proportion]:
    """Closed-set accuracy (the best digit, however sure) of each network and of the vote."""
    return {name: metrics.proportion(results.right(name)) for name in results.guesses}


def grouped(results: ClipResults, groups: np.ndarray) -> dict[str, dict[str, Proportion]]:
    """Accuracies by the values of `groups` (n,), sorted."""
    return {str(group): accuracies(results.subset(groups == group)) for group in np.unique(groups)}


def macro(
    groups: Sequence[Mapping[str, Proportion]], same_clips: bool = False
) -> dict[str, Proportion]:
    """Macro average of each series over groups such as corpora, or seeds (with the same clips)."""
    return {
        name: metrics.macro_average([group[name] for group in groups], same_clips)
        for name in groups[0]
    }


def answered_no_digit(results: ClipResults) -> Proportion:
    """Share of the clips that the vote answered with "no digit"."""
    return metrics.proportion(~results.accepted)


def calibration(results: ClipResults) -> dict[str, metrics.Calibration]:
    """The calibration of each network and of the vote."""
    return {
        name: metrics.expected_calibration_error(results.confidence[name], results.right(name))
        for name in results.guesses
    }


def calibration_errors(results: ClipResults) -> dict[str, float]:
    """The expected calibration error of each network and of the vote."""
    return {name: item.error for name, item in calibration(results).items()}


def vote_gain(results: ClipResults) -> dict[str, Any]:
    """Compare the vote with the better single network, on the same clips.

    Returns
    -------
    dict : ``better``, both accuracies, ``difference_points``, the clips that only one got right,
        the exact McNemar ``p``, and a ``statement`` that says whether voting gains anything
    """
    if len(results.models) < 2:
        return {"statement": "There is only one network here, so nothing to vote on."}
    better = max(results.models, key=lambda name: results.right(name).sum())
    vote, single = results.right("vote"), results.right(better)
    only_vote, only_single, p = metrics.mcnemar_exact(vote, single)
    difference = 100 * (vote.mean() - single.mean())
    name = display_name(better)
    statement = (
        f"Vote against the better single network ({name}): {vote.mean():.2%} against "
        f"{single.mean():.2%}, {difference:+.2f} points; {only_vote} clips only the vote "
        f"got right, {only_single} only {name} (exact McNemar p = {p:.2g}). "
        + vote_verdict(only_vote - only_single, p)
    )
    return {
        "better": better,
        "better_accuracy": float(single.mean()),
        "vote_accuracy": float(vote.mean()),
        "difference_points": float(difference),
        "only_vote_right": only_vote,
        "only_better_right": only_single,
        "p": p,
        "statement": statement,
    }


def vote_verdict(gained_clips: int, p: float) -> str:
    """Whether voting helps, in one sentence."""
    if gained_clips < 0:
        return "Voting loses here" + (" (which may be chance)." if p >= 0.05 else ".")
    if gained_clips == 0:
        return "Voting gains nothing here."
    return "Voting helps here." if p < 0.05 else "Voting gains no more than chance may give."


def wrong_clips(results: ClipResults) -> pd.DataFrame:
    """The clips that the vote or a network got wrong, a row each, with every prediction."""
    import pandas as pd

    wrong = np.any([~results.right(name) for name in results.guesses], axis=0)
    columns = {"name": results.names, "speaker": results.speakers, "spoken": results.labels}
    for name, guesses in results.guesses.items():
        columns |= {name: guesses, f"{name}_confidence": results.confidence[name].round(4)}
    return pd.DataFrame(columns | {"accepted": results.accepted})[wrong]
