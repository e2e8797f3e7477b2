"""What a comparison of speed measures: groups of lines that take turns."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import audio_cleaning
import audio_io
import batch_inference
import config
import utils
from corpora import synthetic
from corpora.clips import Clips
from protocols import contestants, timing
from protocols.contestants import Contestant, SameClips
from protocols.noise import in_noise
from protocols.timing import Figures, Line
from recognition.answer_journal import AnswerJournal
from training.settings import TrainingData, TrainSettings, window

VOICES = config.SyntheticSettings.only(espeak_clips=300)
"""Synthetic speech that is cleaned, learned from and written to files."""
SAMPLE = config.PROGRAM_DIR / "docs" / "seven.wav"
"""The recording whose answer is waited for."""
BATCHES = (1, 16, 128)
"""Clips that go through the networks together."""
GROWTH = (1, 3, 10)
"""How many times the clips there are."""
MOST_TIMED = 20
"""Clips that a contestant answers in a round."""
CLIP = "samples to digit, one clip on one core"
LIMIT = "float32 matrix product on one core"


@dataclass(frozen=True)
class Bench:
    """What is measured on, and with; what is not asked for is not made."""

    rounds: int
    clips: int
    files: int
    unseen_dir: Path | None
    places: contestants.Places
    folder: Path
    """For files that are made only to be measured."""

    @functools.cached_property
    def entered(self) -> tuple[list[Contestant], dict[str, str]]:
        """Those who take part, and why others can't, by name."""
        return contestants.enter(contestants.entrants(self.places, self.folder))

    @functools.cached_property
    def same_clips(self) -> SameClips:
        """What everyone answers."""
        return contestants.same_clips(self.unseen_dir, self.clips)

    @functools.cached_property
    def voices(self) -> Clips:
        """Synthetic speech at the rate that networks are trained at."""
        return synthetic.synthesize(VOICES, 0, config.AudioSettings().sample_rate)

    def networks(self) -> Iterator[tuple[str, config.DecisionSettings]]:
        """The vote and the student in each runtime that can compute them, as other scripts say."""
        _, absent = self.entered
        for name, decision in self.places.networks().items():
            made = self.folder / f"{name}_int8.onnx"
            path = made if made.is_file() else decision.onnx_file()
            if f"{name}, ONNX int8" not in absent:
                chosen = dataclasses.replace(decision, models_dir=path, runtime="onnx")
                yield f"{name}, ONNX int8", chosen
            if f"{name}, PyTorch" not in absent:
                yield f"{name}, PyTorch", dataclasses.replace(decision, runtime="torch")


CLIP = "samples to digit, one clip on one core"


def clip_lines(bench: Bench) -> Iterator[Line]:
    """One clip at a time, as in the live script, and what a core could do."""
    count = max(1, min(MOST_TIMED, len(bench.same_clips) // bench.rounds))
    for item in bench.entered[0]:
        yield Line(CLIP, item.name, contestants.clip_timer(item, bench.same_clips, count))
    yield Line("the machine", LIMIT, timing.matrix_product)


def clean_lines(bench: Bench) -> Iterator[Line]:
    """The cleaning of a clip in noise, with and without spectral gating, and its stages."""
    few = bench.voices.subset(range(min(60, len(bench.voices))))
    sounds = list(in_noise(few, "white", 10, 0, []))

    def stage(name: str, gate: Any) -> Figures:
        chosen = config.CleaningSettings(gate=gate)
        with timing.one_thread():
            stages = [audio_cleaning.clean(x, few.sample_rate, chosen).stage_ms for x in sounds]
        return {"ms": float(np.median([sum(x.values()) if not name else x[name] for x in stages]))}

    group = f"cleaning, {np.mean([len(x) for x in sounds]) / few.sample_rate:.1f} s of sound"
    yield Line(group, "all, gate off", functools.partial(stage, "", "off"))
    yield Line(group, "all, gate on", functools.partial(stage, "", "on"))
    for name in ("highpass", "vad", "measure", "gate"):
        yield Line(group, f"stage {name}", functools.partial(stage, name, "on"))


def throughput_lines(bench: Bench) -> Iterator[Line]:
    """Clips in memory, answered together, on one core and on all."""
    from recognition.runtime import load_predictor

    def speed(decision: config.DecisionSettings, batch: int, cores: int) -> Figures:
        predictor = functools.cache(load_predictor)(decision)
        waveforms = bench.same_clips.waveforms(predictor.audio.sample_rate)
        chosen = (waveforms * (1 + batch // len(waveforms)))[:batch]
        repeats = max(1, 64 // batch)
        with timing.threads(cores):
            predictor.predict_batch(chosen)
            begun = time.perf_counter()
            for _ in range(repeats):
                predictor.predict_batch(chosen)
            return {"clips a second": repeats * batch / (time.perf_counter() - begun)}

    for name, decision in bench.networks():
        in_torch = decision.runtime == "torch"
        for cores in sorted({1, utils.available_cores()}) if in_torch else (1,):
            for batch in BATCHES if in_torch else (1,):
                about = f"{name}, batches of {batch}, {cores} core{'s' * (cores > 1)}"
                yield Line("in memory", about, functools.partial(speed, decision, batch, cores))


def start_lines(bench: Bench) -> Iterator[Line]:
    """Whole processes, from the start to the answer to one recording."""
    script = str(config.PROGRAM_DIR / "microphone_inference.py")
    for name, decision in bench.networks():
        options = [
            "--decision.models-dir",
            str(config.program_path(decision.models_dir).absolute()),
        ]
        options += ["--decision.runtime", decision.runtime, "--no-save"]
        yield process_line(f"microphone_inference.py, {name}", script, str(SAMPLE), *options)
    weights = bench.places.whisper_dir
    for name in ("pocketsphinx", "whisper"):
        own = [str(weights.absolute())] if name == "whisper" and weights else []
        yield process_line(name, "-m", "protocols.peers", name, str(SAMPLE), *own)


def process_line(name: str, *words: str) -> Line:
    """A whole process of Python's."""
    command = [sys.executable, *words]
    group = "whole process, start to answer"
    return Line(group, name, functools.partial(timing.whole_process, command))


def learn_lines(bench: Bench) -> Iterator[Line]:
    """One batch of training: making it, and a step of each network with it."""
    from training.trainer import Trainer

    settings = TrainSettings()
    rows = np.arange(settings.training.batch_size) % len(bench.voices)
    group = f"training, batches of {len(rows)} clips"

    def speed(work: Callable[[], object]) -> Figures:
        return {"clips a second": len(rows) / timing.seconds(work, 2)}

    loaders = {
        features: loader(settings, bench.voices.subset(rows), features)
        for features in dict.fromkeys(settings.front_end(name) for name in settings.models)
    }
    for features, making in loaders.items():
        batch = functools.partial(making.make, np.arange(len(rows)))
        yield Line(group, f"augmentation and {features.kind}", functools.partial(speed, batch))
        once = functools.partial(lambda item: list(item.validation()), making)
        yield Line(group, f"{features.kind} alone", functools.partial(speed, once))
    for name in settings.models:
        making = loaders[settings.front_end(name)]
        trainer = Trainer(name, settings, making, bench.folder / "run")
        step = functools.partial(trainer.train_step, *making.make(np.arange(len(rows))))
        yield Line(group, f"a step of {name}", functools.partial(speed, step))


def loader(settings: TrainSettings, clips: Clips, features: config.FeaturesSettings) -> Any:
    """The batches of a run with these clips, for training as for validation."""
    from training.data import TrainLoader

    windows = window(clips, settings.audio)
    data = TrainingData(windows, clips.labels, windows, clips.labels, "synthetic", clips.corpus)
    return TrainLoader(settings, data, features)


def grow_lines(bench: Bench) -> Iterator[Line]:
    """The same work with more clips: what a clip costs should not grow."""
    settings = TrainSettings(models=("cnn",))
    size, random = settings.training.batch_size, np.random.default_rng(0)

    def grown(times: int) -> Figures:
        clips = bench.voices.subset(np.tile(np.arange(len(bench.voices)), times))
        begun = time.perf_counter()
        making = loader(settings, clips, settings.features)
        ms = 1000 * (time.perf_counter() - begun) / len(clips)
        rows = [random.integers(0, len(clips), size) for _ in range(2)]
        batch = timing.seconds(lambda: making.make(rows[0]), 2)
        return {"ms to prepare a clip": ms, "training clips made a second": size / batch}

    for times in GROWTH:
        name = f"{times} times: {times * len(bench.voices)} clips"
        yield Line("growth with the data", name, functools.partial(grown, times))


def speak_lines(bench: Bench) -> Iterator[Line]:
    """Synthesising speech, trimming included."""

    def speed(engine: str, count: int) -> Figures:
        begun = time.perf_counter()
        wanted = config.SyntheticSettings.only(**{f"{engine}_clips": count})
        clips = synthetic.synthesize(wanted, 0, config.AudioSettings().sample_rate)
        return {"clips a second": len(clips) / (time.perf_counter() - begun)}

    for engine, count in (("espeak", 500), ("pico", 100), ("piper", 50), ("kokoro", 20)):
        yield Line("synthetic speech", engine, functools.partial(speed, engine, count))


def file_lines(bench: Bench) -> Iterator[Line]:
    """batch_inference.py after start-up, on one core and on all."""
    clips, folder = bench.voices, bench.folder / "files"
    for number in range(bench.files):
        path = folder / f"{number}.wav"
        audio_io.write_audio(path, clips.waveform(number % len(clips)), clips.sample_rate)
    paths = sorted(folder.glob("*.wav"))

    def speed(decision: config.DecisionSettings, workers: int, clean: bool) -> Figures:
        output = bench.folder / "table.jsonl"
        chosen = batch_inference.BatchSettings(
            (folder,), output, clean=clean, workers=workers, decision=decision
        )
        partial = output.with_suffix(".partial.jsonl")
        with AnswerJournal(partial, {}, {}) as journal:
            return {"files a second": batch_inference.answer_files(paths, chosen, journal)}

    for name, decision in bench.networks():
        for clean in (False, True):
            for cores in sorted({1, utils.available_cores()}, reverse=True):
                about = f"{name}, {'with' if clean else 'no'} cleaning, {cores} at a time"
                work = functools.partial(speed, decision, cores, clean)
                yield Line("batch_inference.py", about, work)


GROUPS: dict[str, Callable[[Bench], Iterator[Line]]] = {
    "clip": clip_lines,
    "clean": clean_lines,
    "throughput": throughput_lines,
    "start": start_lines,
    "learn": learn_lines,
    "grow": grow_lines,
    "speak": speak_lines,
    "files": file_lines,
}
"""What can be measured, by the names that `only` takes."""
