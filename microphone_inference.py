"""Speak a digit, or name recordings; both networks say which digit it was.

    python microphone_inference.py                  push to talk: Enter, countdown, speak
    python microphone_inference.py --continuous     hands-free: speak, with short pauses
    python microphone_inference.py docs/seven.wav   files and folders; no microphone needed
    python microphone_inference.py --list-devices
    python microphone_inference.py --device usb --live.channel 3 --timing
    python microphone_inference.py --strings        digits in one breath, such as a telephone number
    python microphone_inference.py --strings --wav number.wav --strings.length 10
    python microphone_inference.py --continuous --quiet     accepted digits, nothing else

Recordings, cleaned clips, plots and a log are saved in live_recordings/. After an answer, type the
right digit and Enter: the clip joins your own voice in live_recordings/own, to which train.py
adapts the networks (see its --help). Ctrl-C ends.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # until all is loaded there is nothing to tidy up: Ctrl-C just ends, without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import time
from collections.abc import Callable
from pathlib import Path

import audio_io
import utils
from audio_io import Recording
from live import devices
from live.hands_free import HandsFree
from live.recording_store import PLOT_PATIENCE
from live.session import LiveScriptSettings, Session, is_quit, microphone_recording
from live.string_listening import StringListening, recognize_string_files
from live.terminal import quiet_libraries

RETRY_SECONDS = (1.0, 2.0, 4.0)
"""s waited before each new try of a microphone that has vanished (push to talk)."""
HANDS_FREE_RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, *[15.0] * 7)
"""The same, hands-free: two minutes, for a headset that is fetched and plugged in again."""
TERMINATED_PATIENCE = 2.0
"""s that plots may still take when the system wants the program to end."""
HELP = "Enter records; after an answer, type the right digit to keep it as your own; q ends"


def run(settings: LiveScriptSettings) -> int:
    """Listen in the way that the settings say; returns the exit code."""
    if settings.list_devices:
        print(devices.device_table())
        return 0
    with quiet_libraries():
        if settings.sources:
            return with_session(settings, recognize_files)
        devices.choose_device(settings.device)  # a wrong name: told at once
        if settings.strings:
            return with_session(settings, hear_strings)
        return with_session(settings, hands_free if settings.continuous else push_to_talk)


def with_session(settings: LiveScriptSettings, listen: Callable[[Session], int]) -> int:
    """Call `listen` with a session that is closed in any case; returns the exit code."""
    session, patience = Session(settings), PLOT_PATIENCE
    try:
        return listen(session)
    except SystemExit:  # SIGTERM
        patience = TERMINATED_PATIENCE
        raise
    finally:
        session.terminal.clear()
        session.store.close(patience)


def recognize_files(session: Session) -> int:
    """Recognise each file; those that can't be read are told, and make the exit code 1."""
    files, failed = named_files(session), 0
    if session.settings.strings:
        return recognize_string_files(session, files)
    recognizer = session.recognizer
    for path in files:
        try:
            session.present(recognizer.recognize_file(path))
        except audio_io.AudioError as error:
            session.terminal.say(f"error: {utils.printable(str(error))}")
            failed += 1
    return int(failed > 0)


def named_files(session: Session) -> list[Path]:
    """The sound files that are named, also by a folder or a wildcard; what is left out is told.

    Raises
    ------
    AudioError : the folders hold no sound file
    """
    files = audio_io.expand_paths(session.settings.sources)
    if files.remark():
        session.terminal.say(files.remark())
    if not files:
        names = ", ".join(map(utils.printable, session.settings.sources))
        raise audio_io.AudioError(f"no sound files in {names}")
    return list(files)


def push_to_talk(session: Session) -> int:
    """Enter, countdown, record, answer; until "q" or the end of the input."""

    def listen() -> None:
        recognizer = session.recognizer
        session.terminal.say(f"ready: {HELP}")
        while (line := session.keyboard.wait()) is not None and not is_quit(line):
            if line:
                session.correct(line)
            else:
                session.present(recognizer.recognize(record_once(session)))

    return persist(session, listen, RETRY_SECONDS)


def record_once(session: Session) -> Recording:
    """Count down and record.

    A recording that ends because the microphone vanishes is recognised and kept all the same.
    """
    live, terminal = session.live, session.terminal
    with session.open_microphone() as source:
        source.wait_for_sound()
        for second in range(live.countdown_seconds, 0, -1):
            terminal.say(f"{second} ...")
            source.record(1.0, terminal.level)
        terminal.say("speak now")
        try:
            waveform = source.record(live.record_seconds, terminal.level)
        except devices.DeviceLost as error:
            if error.waveform.size:
                remarks = ("cut short: microphone lost",)
                cut = microphone_recording(error.waveform, error.sample_rate, remarks)
                session.present(session.recognizer.recognize(cut))
            raise
        if source.overflows:
            terminal.say(f"{source.overflows} blocks of sound were lost: the computer is too busy")
        session.tell_channel(source)
    return microphone_recording(waveform, source.sample_rate)


def hands_free(session: Session) -> int:
    """Answer each utterance as soon as it has ended, until "q" is typed."""

    def listen() -> None:
        with session.open_microphone() as source:
            stream = HandsFree(session, source)  # loads the networks: the microphone is open
            try:
                while (line := session.keyboard.poll()) is None or not is_quit(line):
                    if line:
                        session.correct(line)
                    stream.step()
            except devices.DeviceLost:
                stream.finish()
                raise

    return persist(session, listen, HANDS_FREE_RETRY_SECONDS)


def hear_strings(session: Session) -> int:
    """Show digits as they are spoken, and each string after a pause, until "q" is typed."""

    def listen() -> None:
        with session.open_microphone() as source:
            stream = StringListening(session, source)
            try:
                while (line := session.keyboard.poll()) is None or not is_quit(line):
                    stream.step()
            except devices.DeviceLost:
                stream.finish()
                raise

    return persist(session, listen, HANDS_FREE_RETRY_SECONDS)


def persist(session: Session, listen: Callable[[], None], pauses: tuple[float, ...]) -> int:
    """Listen until the user ends it, also when the microphone vanishes and comes back.

    Raises
    ------
    MicrophoneError : it can't be opened, or has not come back after all `pauses`, in s
    """
    while True:
        try:
            listen()
            return 0
        except devices.DeviceLost as error:
            if not wait_for_microphone(session, error, pauses):
                return 0


def wait_for_microphone(
    session: Session, problem: devices.MicrophoneError, pauses: tuple[float, ...]
) -> bool:
    """Try to open the microphone again after each of the pauses; False if the user types "q"."""
    for number, pause in enumerate(pauses, start=1):
        session.terminal.say(f"{problem}; trying again in {pause:g} s ({number} of {len(pauses)})")
        if quits_within(session, pause):
            return False
        try:
            devices.rescan_devices()
            with session.open_microphone() as source:
                source.read()
            session.terminal.say("the microphone is back")
            return True
        except devices.MicrophoneError as error:
            problem = error
    raise devices.MicrophoneError(f"{problem}; gave up after {len(pauses)} tries")


def quits_within(session: Session, seconds: float) -> bool:
    """Wait; True as soon as the user types "q"."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        line = session.keyboard.poll()
        if line and is_quit(line):
            return True
        time.sleep(min(0.1, seconds))
    return False


if __name__ == "__main__":
    utils.main(run, LiveScriptSettings, __doc__)
