"""What all ways of listening share: settings, networks, terminal, store, the last result."""

from __future__ import annotations

import functools
import json
import signal
import time
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import tyro

import config
import utils
from audio_io import Recording
from live import devices, microphone
from live.recording_store import RecordingStore
from live.terminal import Keyboard, Terminal
from recognition.digit_strings import StringRecognizer, StringResult
from recognition.paused_strings import PausedStrings, string_recognizer
from recognition.recognizer import RecognitionResult, Recognizer
from recognition.runtime import use_one_core


@dataclass(frozen=True)
class LiveScriptSettings:
    """How to listen."""

    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Sound files and folders to recognise instead of the microphone."""
    wav: tuple[str, ...] = ()
    """The same, as an option."""
    continuous: bool = False
    """Hands-free: the end of each word is noticed, no key is pressed."""
    quiet: bool = False
    """Print accepted digits only: what is no digit is neither printed nor saved."""
    json: bool = False
    """A line of JSON for each answer on standard output."""
    list_devices: bool = False
    """List the microphones and end."""
    device: str | None = None
    """Microphone by number or part of its name; default: the system's."""
    strings: bool = False
    """Hear whole strings of digits, such as a telephone number in one breath."""
    timing: bool = False
    """Show the time that each stage took."""
    save: bool = True
    """Save recordings, plots and the log; --no-save keeps only clips that you label."""
    live: config.LiveSettings = field(default_factory=config.LiveSettings)
    """The microphone."""
    cleaning: config.CleaningSettings = field(default_factory=config.CleaningSettings)
    """What happens to a recording before it goes to the networks."""
    decision: config.DecisionSettings = field(default_factory=config.DecisionSettings)
    """When an answer is given."""
    string: Annotated[config.StringsSettings, tyro.conf.arg(name="strings")] = field(
        default_factory=config.StringsSettings
    )
    """What is asked of a string of digits (--strings)."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Every file and folder that was named."""
        return (*self.files, *self.wav)


class Session:
    """The networks, the terminal, the store and the last result.

    Attributes
    ----------
    recognizer : the networks, loaded when first asked for
    keyboard : lines typed by the user, read from when first asked for
    last : the result shown last, which the user may correct
    """

    def __init__(self, settings: LiveScriptSettings) -> None:
        self.settings, self.live = settings, settings.live
        self.terminal = Terminal()
        self.store = RecordingStore(
            self.live, self.terminal.say, settings.save, hurried=not settings.sources
        )
        self.last: RecognitionResult | None = None
        self._told: str | None = None

    @functools.cached_property
    def recognizer(self) -> Recognizer:
        """The networks; once they are loaded, Ctrl-C is answered by tidying up."""
        started = time.monotonic()
        recognizer = load_recognizer(self.settings)
        import soxr  # noqa: F401  a Ctrl-C while it is imported would crash it
        import webrtcvad  # noqa: F401

        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if not self.settings.sources:
            self.terminal.say(f"networks loaded in {time.monotonic() - started:.1f} s")
        return recognizer

    @functools.cached_property
    def string_recognizer(self) -> StringRecognizer | PausedStrings:
        """The network that hears whole strings."""
        recognizer = string_recognizer(self.settings.decision, self.settings.string)
        use_one_core()
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return recognizer

    @functools.cached_property
    def keyboard(self) -> Keyboard:
        """What the user types."""
        return Keyboard()

    def open_microphone(self) -> microphone.Microphone:
        """The microphone of the settings; a context manager."""
        return microphone.Microphone(
            self.settings.device, self.live.sample_rate, self.live.block_ms, self.live.channel
        )

    def tell_channel(self, source: microphone.Microphone) -> None:
        """Say which channel of many is listened to, whenever that changes."""
        if source.remark and source.remark != self._told:
            self.terminal.say(source.remark)
        self._told = source.remark or self._told

    def present(self, result: RecognitionResult) -> None:
        """Print a result, then save it; with ``--quiet`` only where it is a digit."""
        if self.settings.quiet and result.digit is None:
            return
        self.last = result
        self.terminal.clear()
        print(self._text(result), flush=True)
        if self.settings.timing:
            self.terminal.say(result.timing_text())
        with utils.ctrl_c_waits():
            self.store.save(result)

    def _text(self, result: RecognitionResult) -> str:
        if self.settings.json:
            return json.dumps(result.as_dict())
        text = str(result.prediction.label) if self.settings.quiet else result.as_text()
        if result.recording.source == "microphone":
            return text
        return f"{utils.printable(result.recording.source)}: {text}"

    def present_string(self, result: StringResult) -> None:
        """Print a string; with ``--quiet`` its digits alone, where there are any."""
        if self.settings.quiet and not result.spoken:
            return
        self.terminal.clear()
        text = result.digits if self.settings.quiet else result.as_text()
        if self.settings.json:
            text = json.dumps(result.as_dict())
        elif result.source:
            text = f"{utils.printable(result.source)}: {text}"
        print(text, flush=True)

    def correct(self, line: str) -> None:
        """Take the right digit for the last result, as a digit or a word."""
        vocabulary = self.last.vocabulary if self.last is not None else config.ENGLISH_DIGITS
        digit = as_label(line, vocabulary)
        if digit is None:
            kind = "digit" if vocabulary.is_digits else f"label: use {', '.join(vocabulary.labels)}"
            self.terminal.say(f"{line!r} is no {kind}")
        elif self.last is None:
            self.terminal.say("there is no answer to correct yet")
        else:
            with utils.ctrl_c_waits():
                path = self.store.label(self.last, digit)
            if path is not None:
                self.terminal.say(f"kept as your {vocabulary.labels[digit]}: {path}")


def load_recognizer(settings: LiveScriptSettings) -> Recognizer:
    """The networks; for a microphone warmed up: the first answer comes as fast as the next."""
    least = settings.live.hands_free_confidence if settings.continuous else 0.0
    recognizer = Recognizer(settings.decision, settings.cleaning, least)
    use_one_core()
    if not settings.sources:  # a file is answered sooner without
        recognizer.warm_up()
    return recognizer


def microphone_recording(
    waveform: np.ndarray, sample_rate: int, remarks: tuple[str, ...] = ()
) -> Recording:
    """What the microphone gave, with advice where it gave nothing but zeros."""
    if waveform.size and not waveform.any():
        remarks += ("nothing but zeros from the microphone: " + devices.permission_hint(),)
    return Recording(waveform, sample_rate, "microphone", remarks, live=True)


def as_label(text: str, vocabulary: config.Vocabulary) -> int | None:
    """The number of the label that "7", "seven" or "sept" names; None for anything else."""
    return vocabulary.by_name.get(text.strip().lower())


def is_quit(line: str) -> bool:
    """Whether a typed line means the end."""
    return line.lower() in ("q", "quit", "exit")
