"""Speak a digit; both networks say which it was.

    python microphone_inference.py                  push to talk: Enter, countdown, speak
    python microphone_inference.py --continuous     hands-free: speak, with short pauses
    python microphone_inference.py --wav a.wav b.wav    files; no microphone needed
    python microphone_inference.py --list-devices
    python microphone_inference.py --device usb --timing --json

Recordings, cleaned clips, plots and a log are saved in live_recordings/. After an answer, type the
right digit and Enter: the clip joins your own voice in live_recordings/own, to which train.py
adapts the networks (see its --help). Ctrl-C ends.
"""

from __future__ import annotations

import dataclasses
import json
import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # until all is loaded there is nothing to tidy up: Ctrl-C just ends, without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import audio_io
import config
import utils
from audio_io import Recording
from live import microphone
from live.endpointing import Endpointer, LowDelayResampler, Utterance
from live.recording_store import RecordingStore
from live.terminal import Keyboard, Terminal, quiet_libraries
from recognition.recognizer import RecognitionResult, Recognizer

RETRY_SECONDS = (1.0, 2.0, 4.0)
"""s waited before each new try of a microphone that has vanished."""
SILENT_SECONDS = 3.0
"""s of nothing but zeros after which the user is told which permission to look at."""
OVERFLOW_SECONDS = 10.0
"""s between two warnings about lost sound."""
HELP = "Enter records; after an answer, type the right digit to keep it as your own; q ends"
HELP_HANDS_FREE = "type the right digit to keep the last answer as your own; q or Ctrl-C ends"


@dataclass(frozen=True)
class LiveScriptSettings:
    """How to listen."""

    continuous: bool = False
    """Hands-free: the end of each word is noticed, no key is pressed."""
    wav: tuple[Path, ...] = ()
    """Sound files to answer instead of the microphone."""
    json: bool = False
    """A line of JSON for each answer on standard output."""
    list_devices: bool = False
    """List the microphones and end."""
    device: str | None = None
    """Microphone by number or part of its name (the same as --live.device)."""
    timing: bool = False
    """Show the time that each stage took."""
    save: bool = True
    """Save recordings, plots and the log; --no-save keeps only clips that you label."""
    live: config.LiveSettings = field(default_factory=config.LiveSettings)
    """The microphone."""
    cleaning: config.CleaningSettings = field(default_factory=config.CleaningSettings)
    """What happens to a recording before the networks hear it."""
    decision: config.DecisionSettings = field(default_factory=config.DecisionSettings)
    """When an answer is given."""


class Session:
    """What all ways of listening share: the networks, the terminal, the store, the last answer."""

    def __init__(self, settings: LiveScriptSettings) -> None:
        self.settings = settings
        self.live = settings.live
        if settings.device is not None:
            self.live = dataclasses.replace(settings.live, device=settings.device)
        self.terminal = Terminal()
        self.recognizer: Recognizer | None = None
        self.store = RecordingStore(
            self.live, self.terminal.say, settings.save, hurried=not settings.wav
        )
        self.last: RecognitionResult | None = None
        self.keyboard: Keyboard | None = None

    def load(self) -> None:
        """Load the networks, if they are not yet, and from then on heed keyboard and Ctrl-C."""
        if self.recognizer is not None:
            return
        started = time.monotonic()
        self.recognizer = load_recognizer(self.settings)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if not self.settings.wav:
            self.keyboard = Keyboard()
            self.terminal.say(f"networks loaded in {time.monotonic() - started:.1f} s")

    def open_microphone(self) -> microphone.Microphone:
        """The microphone of the settings; a context manager."""
        return microphone.Microphone(self.live.device, self.live.sample_rate, self.live.block_ms)

    def present(self, answer: RecognitionResult) -> None:
        """Print an answer, then save it."""
        self.last = answer
        self.terminal.clear()
        text = answer.as_text()
        if self.settings.json:
            text = json.dumps(answer.as_dict())
        elif answer.recording.source != "microphone":
            text = f"{answer.recording.source}: {text}"
        print(text, flush=True)
        if self.settings.timing:
            self.terminal.say(answer.timing_text())
        self.store.save(answer)

    def typed(self, line: str) -> None:
        """Take the right digit for the last answer, as a digit or a word."""
        digit = as_digit(line)
        if digit is None:
            self.terminal.say(f"{line!r} is no digit")
        elif self.last is None:
            self.terminal.say("there is no answer to correct yet")
        else:
            path = self.store.label(self.last, digit)
            if path is not None:
                self.terminal.say(f"kept as your {digit}: {path}")


def load_recognizer(settings: LiveScriptSettings) -> Recognizer:
    """The networks, loaded and warmed up, so that the first answer comes as fast as the next."""
    import torch

    torch.set_num_threads(1)  # a second thread costs more than it gains on one clip
    recognizer = Recognizer(settings.decision, settings.cleaning)
    recognizer.warm_up()
    return recognizer


def microphone_recording(
    waveform: np.ndarray, sample_rate: int, remarks: tuple[str, ...] = ()
) -> Recording:
    """What the microphone gave, with advice where it gave nothing but zeros."""
    if waveform.size and not waveform.any():
        remarks += ("nothing but zeros from the microphone: " + microphone.permission_hint(),)
    return Recording(waveform, sample_rate, "microphone", remarks)


def as_digit(text: str) -> int | None:
    """The digit that "7" or "seven" names; None for anything else."""
    text = text.strip().lower()
    names = {
        **{name: i for i, name in enumerate(config.DIGITS)},
        **{word: i for i, word in enumerate(config.DIGIT_WORDS)},
    }
    return names.get(text)


def run(settings: LiveScriptSettings) -> int:
    """Listen in the way that the settings say; returns the exit code."""
    if settings.list_devices:
        print(*microphone.list_devices() or ["no microphone found"], sep="\n")
        return 0
    if settings.wav:
        return answer_files(settings)
    with quiet_libraries():
        microphone.choose_device(settings.device or settings.live.device)  # a wrong name: at once
        session = Session(settings)
        try:
            persist(session, hands_free if settings.continuous else push_to_talk)
        finally:
            session.terminal.clear()
            session.store.close()
    return 0


def answer_files(settings: LiveScriptSettings) -> int:
    """Answer each file; those that can't be read are told, and make the exit code 1."""
    session = Session(settings)
    session.load()
    failed = 0
    try:
        for path in settings.wav:
            try:
                session.present(session.recognizer.recognize_file(path))
            except audio_io.AudioError as error:
                session.terminal.say(f"error: {error}")
                failed += 1
    finally:
        session.store.close()
    return 1 if failed else 0


def persist(session: Session, listen: Callable[[Session], None]) -> None:
    """Listen until the user ends it, also when the microphone vanishes and comes back.

    Raises
    ------
    MicrophoneError : it can't be opened, or does not come back
    """
    while True:
        try:
            return listen(session)
        except microphone.DeviceLost as error:
            wait_for_microphone(session, error)


def wait_for_microphone(session: Session, problem: microphone.MicrophoneError) -> None:
    """Try to open the microphone again, some times, with growing pauses."""
    for number, pause in enumerate(RETRY_SECONDS, start=1):
        session.terminal.say(
            f"{problem}; trying again in {pause:g} s ({number} of {len(RETRY_SECONDS)})"
        )
        time.sleep(pause)
        try:
            microphone.rescan_devices()
            with session.open_microphone() as source:
                source.read()
            return session.terminal.say("the microphone is back")
        except microphone.MicrophoneError as error:
            problem = error
    raise microphone.MicrophoneError(f"{problem}; gave up after {len(RETRY_SECONDS)} tries")


def push_to_talk(session: Session) -> None:
    """Enter, countdown, record, answer; until "q" or the end of the input."""
    session.load()
    session.terminal.say(f"ready: {HELP}")
    while (line := session.keyboard.wait()) is not None and not is_quit(line):
        if line:
            session.typed(line)
            continue
        session.present(session.recognizer.recognize(record_once(session)))


def record_once(session: Session) -> Recording:
    """Count down and record.

    A recording that ends because the microphone vanishes is answered and kept all the same.
    """
    live, terminal = session.live, session.terminal
    with session.open_microphone() as source:
        for second in range(live.countdown_seconds, 0, -1):
            terminal.say(f"{second} ...")
            source.record(1.0, terminal.level)
        terminal.say("speak now")
        try:
            waveform = source.record(live.record_seconds, terminal.level)
        except microphone.DeviceLost as error:
            if error.waveform.size:
                session.present(
                    session.recognizer.recognize(
                        microphone_recording(
                            error.waveform, error.sample_rate, ("cut short: microphone lost",)
                        )
                    )
                )
            raise
        if source.overflows:
            terminal.say(f"{source.overflows} blocks of sound were lost: the computer is too busy")
    return microphone_recording(waveform, source.sample_rate)


def hands_free(session: Session) -> None:
    """Answer each utterance as soon as it has ended, until "q" is typed."""
    with session.open_microphone() as source:
        session.load()  # meanwhile the microphone hears the room
        stream = HandsFree(session, source)
        try:
            while (line := session.keyboard.poll()) is None or not is_quit(line):
                if line:
                    session.typed(line)
                stream.step()
        except microphone.DeviceLost:
            stream.finish()
            raise


def is_quit(line: str) -> bool:
    """Whether a typed line means the end."""
    return line.lower() in ("q", "quit", "exit")


class HandsFree:
    """A microphone's stream on its way to answers: resampled, cut into utterances, answered.

    Its memory is bounded: what is not part of an utterance is forgotten.
    """

    def __init__(self, session: Session, source: microphone.Microphone) -> None:
        self.session, self.source = session, source
        self.rate = session.recognizer.rate
        self.resampler = LowDelayResampler(source.sample_rate, self.rate)
        self.endpointer = Endpointer(self.rate, session.live)
        kept = session.live.max_utterance_seconds + 1
        self.blocks: deque[np.ndarray] = deque(maxlen=round(1000 * kept / session.live.block_ms))
        self.heard = 0  # samples, at the microphone's rate
        self.zeros = 0  # of them at the beginning, all zero
        self.overflows, self.told_at = source.overflows, -OVERFLOW_SECONDS
        self.ready = False

    def step(self) -> None:
        """Wait for a block of sound and take it in."""
        block = self.source.read()
        self.blocks.append(block.waveform)
        self.heard += len(block.waveform)
        self.session.terminal.level(
            block.waveform, "speech" if self.endpointer.speaking else "listening"
        )
        for utterance in self.endpointer.feed(self.resampler.feed(block.waveform)):
            self.answer(utterance, block.arrived)
        self.watch(block.waveform)

    def answer(self, utterance: Utterance, arrived: float) -> None:
        """Answer one utterance; `arrived` is when its last block came, s on the monotonic clock."""
        rate = self.source.sample_rate
        speech_end = arrived - self.heard / rate + utterance.speech_end / self.rate
        remarks = () if utterance.complete else ("cut off before it ended",)
        result = self.session.recognizer.recognize(
            microphone_recording(self.sound(utterance), rate, remarks)
        )
        if not result.speech.size:
            return  # a noise that began: with its end known, there is no speech in it
        waited = {"end_of_speech_to_answer": 1000 * (time.monotonic() - speech_end)}
        self.session.present(dataclasses.replace(result, timing_ms=result.timing_ms | waited))

    def sound(self, utterance: Utterance) -> np.ndarray:
        """The utterance as the microphone gave it, float32 (samples,) at its own rate."""
        recent = np.concatenate(self.blocks)
        first = self.heard - len(recent)
        start, end = (
            round(position * self.source.sample_rate / self.rate) - first
            for position in (utterance.start, utterance.end)
        )
        return recent[max(0, start) : end]

    def finish(self) -> None:
        """Answer what was being said when the microphone vanished."""
        utterance = self.endpointer.flush()
        if utterance is not None:
            self.answer(utterance, time.monotonic())

    def watch(self, waveform: np.ndarray) -> None:
        """Tell when all is ready, when nothing but zeros comes, and when sound was lost."""
        terminal = self.session.terminal
        if not self.ready and self.endpointer.calibrated:
            self.ready = True
            terminal.say(
                f"ready: speak to {self.source.device.name!r} "
                f"({self.source.sample_rate} Hz); {HELP_HANDS_FREE}"
            )
        if self.zeros == self.heard - len(waveform) and not waveform.any():
            self.zeros = self.heard
            limit = SILENT_SECONDS * self.source.sample_rate
            if self.zeros >= limit > self.zeros - len(waveform):
                terminal.say(
                    "nothing but zeros from the microphone so far: " + microphone.permission_hint()
                )
        new = self.source.overflows - self.overflows
        if new and time.monotonic() - self.told_at > OVERFLOW_SECONDS:
            terminal.say(f"{new} blocks of sound were lost: the computer is too busy")
            self.overflows, self.told_at = self.source.overflows, time.monotonic()


if __name__ == "__main__":
    utils.main(run, LiveScriptSettings, __doc__)
