"""Strings of digits, hands-free or in files: digits appear as they are spoken."""

from __future__ import annotations

from pathlib import Path

import audio_io
import utils
from live import microphone
from live.endpointing import LowDelayResampler
from live.session import Session
from recognition.digit_strings import StringResult

HELP = "speak digits, one after the other; a pause ends a string; q or Ctrl-C ends"


class StringListening:
    """A microphone's stream on its way to strings; its memory is bounded.

    Parameters
    ----------
    session : terminal, settings and network
    source : gives blocks of sound
    """

    def __init__(self, session: Session, source: microphone.Microphone) -> None:
        self.session, self.source = session, source
        recognizer = session.string_recognizer
        self.resampler = LowDelayResampler(source.sample_rate, recognizer.rate)
        self.stream = recognizer.stream()
        self.shown = 0
        session.terminal.say(f"ready: {HELP}")

    def step(self) -> None:
        """Wait for a block of sound, take it in, show what it brought."""
        block = self.source.read()
        closed = self.stream.feed(self.resampler.feed(block.waveform))
        for result in closed:
            self._close(result)
        self._show_new()
        label = "".join(map(str, self.stream.digits[-10:])) or "listening"
        self.session.terminal.level(block.waveform, label)

    def finish(self) -> None:
        """Answer what was being said when the microphone vanished."""
        for result in self.stream.finish():
            self._close(result)

    def _show_new(self) -> None:
        """Print the digits that have been heard since, on the line of their string."""
        new = self.stream.digits[self.shown :]
        if new and not (self.session.settings.quiet or self.session.settings.json):
            self.session.terminal.clear()
            print("".join(f"{digit} " for digit in new), end="", flush=True)
        self.shown = len(self.stream.digits)

    def _close(self, result: StringResult) -> None:
        """Print a string that is complete; other words alone are no answer."""
        if self.shown and not (self.session.settings.quiet or self.session.settings.json):
            print(flush=True)
        self.shown = 0
        if result.spoken:
            self.session.present_string(result)


def recognize_string_files(session: Session, files: list[Path]) -> int:
    """Answer each file; those that can't be read are told, and make the exit code 1."""
    failed = 0
    for path in files:
        try:
            result = session.string_recognizer.recognize_file(path)
        except audio_io.AudioError as error:
            session.terminal.say(f"error: {utils.printable(str(error))}")
            failed += 1
            continue
        session.present_string(result)
        if session.settings.save and session.live.plots and result.spoken:
            draw(session, path, result)
    return int(failed > 0)


def draw(session: Session, path: Path, result: StringResult) -> None:
    """Save the spectrogram with the digits over it; hours are not drawn."""
    import visualization
    from recognition.digit_strings import WHOLE_S

    if result.duration_s > WHOLE_S:
        return
    target = session.live.recordings_dir / f"{path.stem}-digits.png"
    with utils.by_product(target):
        recording = audio_io.read_recording(path)
        spoken = [(one.digit, one.start_s, one.end_s, one.confidence) for one in result.spoken]
        visualization.plot_string(recording.waveform, recording.sample_rate, spoken, target)
