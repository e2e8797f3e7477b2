"""Recognisers that a comparison of speed sets side by side, on the same trimmed clips.

The vote and the student in each runtime, single networks, a dense baseline, and others' programs.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import audio_cleaning
import audio_io
import config
from audio_feature_extraction import FrontEnd
from corpora import synthetic
from corpora.clips import Clips, concatenate
from models import registry
from protocols import metrics, peers, timing
from protocols.common import HELD_OUT_SEED, EvaluationSettings, load_unseen_speakers
from protocols.comparison_scores import counts
from recognition import onnx_export
from recognition.checkpoint import Checkpoint, save_checkpoint
from recognition.onnx_predictor import OnnxPredictor, UnusableFile
from recognition.prediction import VotingPredictor
from recognition.predictor import Predictor
from recognition.runtime import current
from training.settings import TrainSettings

BASELINE = "mlp"
"""The dense baseline among our networks."""
MEAN = "mean"
PROCESSOR = "ms of processor time"
"""Of all cores; other work on the machine changes it less."""
PRECISIONS = ("int8", "float32")


@dataclass(frozen=True)
class Contestant:
    """A recogniser: its best digit for float32 (samples,) at `rate` Hz, None where it has none."""

    name: str
    rate: int
    answer: Callable[[np.ndarray], int | None]
    multiply_adds: int | None = None
    """Of its networks, for one answer, where they are known."""
    trained: bool = True
    """Untrained ones are timed, not scored."""


class SameClips:
    """Trimmed clips at the rate that each contestant listens at."""

    def __init__(self, clips: Clips, name: str) -> None:
        self.clips, self.name = clips, name
        self._at = functools.cache(self._resampled)

    def __len__(self) -> int:
        return len(self.clips)

    def waveforms(self, rate: int) -> list[np.ndarray]:
        """All clips, float32 (samples,) each."""
        return self._at(rate)

    def _resampled(self, rate: int) -> list[np.ndarray]:
        sounds = (trimmed(self.clips, index) for index in range(len(self.clips)))
        return [audio_io.resample(sound, self.clips.sample_rate, rate) for sound in sounds]


def trimmed(clips: Clips, index: int) -> np.ndarray:
    """The speech in a clip, or all of it where none is found: the same for everyone."""
    waveform = clips.waveform(index)
    speech = audio_cleaning.clean(waveform, clips.sample_rate).speech
    return speech if speech.size else waveform


def same_clips(unseen_dir: Path | None, count: int) -> SameClips:
    """About `count` clips: as many of each corpus of unseen speakers, or else synthetic speech.

    Raises
    ------
    UserError : the folder named holds no clips
    """
    audio = config.AudioSettings(sample_rate=peers.RATE)
    if unseen_dir is None:
        wanted = config.SyntheticSettings.only(espeak_clips=count)
        clips = synthetic.synthesize(wanted, HELD_OUT_SEED, audio.sample_rate)
        return SameClips(clips, "synthetic speakers")
    corpora = load_unseen_speakers(EvaluationSettings(unseen_dir=unseen_dir), audio).values()
    share = -(-count // len(corpora))
    chosen = [
        item.subset(np.linspace(0, len(item) - 1, min(share, len(item))).astype(int))
        for item in corpora
    ]
    return SameClips(concatenate(chosen), "unseen speakers")


@dataclass(frozen=True)
class Places:
    """Where contestants lie; any may be missing."""

    decision: config.DecisionSettings
    """The networks that vote."""
    student_dir: Path
    """Folder or ONNX file of the student."""
    baseline_dir: Path
    """Folder of the trained dense baseline."""
    whisper_dir: Path | None
    """Weights of Whisper tiny.en; None as for :class:`protocols.peers.Whisper`."""

    def networks(self) -> dict[str, config.DecisionSettings]:
        """The vote and the student."""
        student = dataclasses.replace(self.decision, models_dir=self.student_dir, threshold=None)
        return {"vote": self.decision, "student": student}


def entrants(places: Places, folder: Path) -> Iterator[tuple[str, Callable[[], Contestant]]]:
    """Everyone by name, and what makes them: a UserError is why one can't be there.

    Parameters
    ----------
    folder : for files that are made only to be timed
    """
    decision = places.decision
    for name, chosen in places.networks().items():
        for precision in PRECISIONS:
            made = folder / f"{name}_{precision}.onnx"
            yield f"{name}, ONNX {precision}", partial(in_onnx, chosen, precision, made)
        yield f"{name}, PyTorch", partial(in_torch, chosen)
    for name in sorted(path.stem for path in decision.there()):
        yield f"{name} alone, PyTorch", partial(in_torch, decision, (name,))
    trained = (places.baseline_dir / f"{BASELINE}.pt").is_file()
    about = f"dense baseline ({BASELINE}), PyTorch" + ("" if trained else ", untrained: time only")
    yield about, partial(dense_baseline, places.baseline_dir if trained else None, folder)
    yield "PocketSphinx, ten-word grammar", partial(peer, "pocketsphinx")
    yield "Whisper tiny.en, digits only", partial(peer, "whisper", places.whisper_dir)


def enter(
    everyone: Iterator[tuple[str, Callable[[], Contestant]]],
) -> tuple[list[Contestant], dict[str, str]]:
    """Those who can take part, and why the others can't, by name."""
    present, absent = [], {}
    for name, make in everyone:
        try:
            present.append(dataclasses.replace(make(), name=name))
        except config.UserError as error:
            absent[name] = str(error)
    return present, absent


def ours(predictor: VotingPredictor, multiply_adds: int | None, trained: bool = True) -> Contestant:
    """Ours: where networks say "no digit", their best guess counts, as others must guess."""

    def answer(waveform: np.ndarray) -> int:
        return predictor.predict(waveform).best_guess

    return Contestant("", predictor.audio.sample_rate, answer, multiply_adds, trained)


def in_torch(decision: config.DecisionSettings, names: tuple[str, ...] | None = None) -> Contestant:
    """Networks by PyTorch."""
    predictor = Predictor(decision, names)
    return ours(predictor, counts(predictor)[1])


def in_onnx(decision: config.DecisionSettings, precision: str, made: Path) -> Contestant:
    """The networks by ONNX Runtime: their own file where it is of this precision, else `made`."""
    predictor = OnnxPredictor(onnx_file(decision, precision, made), decision)
    return ours(predictor, counts(Predictor(decision))[1] if decision.there() else None)


def onnx_file(decision: config.DecisionSettings, precision: str, made: Path) -> Path:
    """The networks' own ONNX file where it has this precision, else one that is made now.

    Raises
    ------
    UserError : it can't be made
    """
    shipped = decision.onnx_file()
    if shipped.is_file():
        try:
            stored = current(shipped, decision, decision.there())
        except UnusableFile:
            stored = None
        if stored is not None and stored.metadata["precision"] == precision:
            return shipped
    if not made.is_file():
        predictor, model = exported_vote(dataclasses.replace(decision, runtime="torch"))
        content = onnx_export.finished(model, predictor, precision, onnx_export.digests(decision))
        made.write_bytes(content)
    return made


@functools.lru_cache(maxsize=1)
def exported_vote(decision: config.DecisionSettings) -> tuple[Predictor, Any]:
    """Networks, and what files of every precision are made from: exporting takes long."""
    predictor = Predictor(decision)
    return predictor, onnx_export.exported(predictor)


def dense_baseline(trained_in: Path | None, folder: Path) -> Contestant:
    """A dense network on MFCC, trained, or of random weights where none is at hand."""
    if trained_in is None:
        trained_in = folder / BASELINE
        save_checkpoint(trained_in / f"{BASELINE}.pt", untrained(BASELINE))
    predictor = Predictor(config.DecisionSettings(models_dir=trained_in), (BASELINE,))
    return ours(predictor, counts(predictor)[1], trained_in != folder / BASELINE)


def untrained(name: str) -> Checkpoint:
    """A network of random weights."""
    settings = TrainSettings(models=(name,))
    features = settings.front_end(name)
    arguments = registry.model_arguments(name, settings.model, features.kind)
    n_features = FrontEnd(features, settings.audio.sample_rate).n_features
    weights = registry.create_model(name, n_features, **arguments).state_dict()
    return Checkpoint(name, arguments, weights, settings.audio, features, record={"seed": 0})


def peer(name: str, weights: Path | None = None) -> Contestant:
    """Somebody else's recogniser."""
    return Contestant("", peers.RATE, peers.load(name, weights).digit)


def clip_timer(
    contestant: Contestant, clips: SameClips, count: int
) -> Callable[[], timing.Figures]:
    """A function that times the next `count` clips, one by one, on one thread."""
    waveforms = clips.waveforms(contestant.rate)
    place = 0

    def measure() -> timing.Figures:
        nonlocal place
        chosen = [waveforms[number % len(waveforms)] for number in range(place, place + count)]
        place += count
        times, busy = [], []
        with timing.one_thread():
            contestant.answer(chosen[0])  # others have been at the processor's caches
            for waveform in chosen:
                begun, work_begun = time.perf_counter(), time.process_time()
                contestant.answer(waveform)
                times.append(1000 * (time.perf_counter() - begun))
                busy.append(1000 * (time.process_time() - work_begun))
        return {
            "ms": float(np.median(times)),
            "ms, 95th percentile": float(np.percentile(times, 95)),
            PROCESSOR: float(np.median(busy)),
        }

    return measure


def accuracy(contestant: Contestant, clips: SameClips) -> dict[str, metrics.Proportion]:
    """Accuracy by corpus, and their macro average as :data:`MEAN`."""
    with timing.one_thread():
        digits = [contestant.answer(waveform) for waveform in clips.waveforms(contestant.rate)]
    right = np.array(digits, object) == clips.clips.labels
    corpora = {
        str(name): metrics.proportion(right[clips.clips.corpus == name])
        for name in np.unique(clips.clips.corpus)
    }
    return corpora | {MEAN: metrics.macro_average([*corpora.values()])}
