"""A real sound system without hardware: a private PulseAudio whose loudspeaker is the microphone.

The sound server has one null sink; its monitor is the default input. What
:meth:`VirtualMicrophone.play` plays is heard by PortAudio through ALSA and PulseAudio, in real
time.

Debian and Ubuntu packages: libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils alsa-utils.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import soundfile
from waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("pulseaudio", "paplay", "parec", "pactl")
PACKAGES = "libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils alsa-utils"
ALSA_CONFIGURATION = "pcm.!default { type pulse }\nctl.!default { type pulse }\n"


def why_unavailable() -> str | None:
    """The reason why there can be no virtual microphone here, or None where there can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} not installed (apt-get install {PACKAGES})"
    if not list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
        return "ALSA has no plugin for PulseAudio (apt-get install libasound2-plugins)"
    try:
        import sounddevice  # noqa: F401  raises OSError where the PortAudio library is missing
    except (ImportError, OSError) as error:
        return f"PortAudio can't be loaded: {error} (apt-get install libportaudio2)"
    return None


class VirtualMicrophone:
    """One private sound server in a folder of its own.

    Parameters
    ----------
    rate : Hz of the null sink, and so of the microphone
    channels : of the null sink

    Attributes
    ----------
    environment : variables under which a child process uses this sound system
    """

    def __init__(self, rate: int = 44100, channels: int = 2) -> None:
        self.rate, self.channels = rate, channels
        # a short path: the socket's name may have at most 107 characters
        self.folder = Path(tempfile.mkdtemp(prefix="mic"))
        alsa = self.folder / "asound.conf"
        alsa.write_text(ALSA_CONFIGURATION)
        self.settings = {
            "XDG_RUNTIME_DIR": str(self.folder),
            "HOME": str(self.folder),
            "PULSE_SERVER": f"unix:{self.folder}/native",
            "PULSE_COOKIE": str(self.folder / "cookie"),
            "ALSA_CONFIG_PATH": str(alsa),
        }
        self.environment = {**os.environ, **self.settings}
        self.server: subprocess.Popen | None = None
        self.listener: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the sound server and wait until it answers."""
        script = self.folder / "server.pa"
        script.write_text(
            "load-module module-native-protocol-unix auth-anonymous=1 "
            f"socket={self.folder}/native\n"
            "load-module module-null-sink sink_name=speech "
            f"rate={self.rate} channels={self.channels}\n"
            "suspend-sink speech 1\n"
        )
        self.server = subprocess.Popen(
            [
                "pulseaudio",
                "-n",
                "--daemonize=no",
                "--exit-idle-time=-1",
                "--use-pid-file=no",
                "--disallow-exit",
                "--log-target=stderr",
                f"--file={script}",
            ],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers, "PulseAudio did not start")
        self._keep_awake()

    def _answers(self) -> bool:
        assert self.server.poll() is None, "PulseAudio ended at once"
        return not subprocess.run(
            ["pactl", "info"], env=self.environment, capture_output=True
        ).returncode

    def _keep_awake(self) -> None:
        """Listen at low latency: a null sink dozes for 2 s at a time unless asked for less.

        It is suspended until the listener is there, or the first doze would have to be waited for.
        """
        heard = self.folder / "heard"
        with heard.open("wb") as sink:
            self.listener = subprocess.Popen(
                [
                    "parec",
                    "--device=speech.monitor",
                    "--latency-msec=10",
                    "--rate=8000",
                    "--channels=1",
                    "--format=u8",
                ],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.DEVNULL,
            )
        wait_until(lambda: self._control("list", "short", "source-outputs"), "nobody listens")
        self._control("suspend-sink", "speech", "0")
        wait_until(lambda: heard.stat().st_size, "no sound comes")

    def _control(self, *words: str) -> bytes:
        """What ``pactl`` prints."""
        return subprocess.run(
            ["pactl", *words], env=self.environment, capture_output=True, check=True
        ).stdout

    def kill(self) -> None:
        """End the sound server at once, as a crash or an unplugged device would."""
        for process in (self.server, self.listener):
            if process is not None:
                process.send_signal(signal.SIGKILL)
                process.wait()
        self.server = self.listener = None
        (self.folder / "native").unlink(missing_ok=True)

    def stop(self) -> None:
        """End the sound server and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def play_file(self, path: Path | str) -> subprocess.Popen:
        """Begin to play a sound file; returns the player, which ends with the sound."""
        return subprocess.Popen(["paplay", "-d", "speech", str(path)], env=self.environment)

    def play(self, waveform: np.ndarray, sample_rate: int, wait: bool = True) -> subprocess.Popen:
        """Play (samples,) or (samples, channels) of float32 in [-1, 1]."""
        handle, path = tempfile.mkstemp(suffix=".wav", dir=self.folder)
        os.close(handle)
        soundfile.write(path, waveform, sample_rate, subtype="PCM_16")
        player = self.play_file(path)
        if wait:
            player.wait()
            os.unlink(path)
        return player

    @contextlib.contextmanager
    def in_this_process(self) -> Iterator[None]:
        """Let PortAudio in this very process use the virtual microphone for a while."""
        import sounddevice

        before = {name: os.environ.get(name) for name in self.settings}
        os.environ.update(self.settings)
        sounddevice._terminate()
        sounddevice._initialize()
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@contextlib.contextmanager
def virtual_microphone(rate: int = 44100, channels: int = 2) -> Iterator[VirtualMicrophone]:
    """A started :class:`VirtualMicrophone`; skips the test where there can be none."""
    reason = why_unavailable()
    if reason:
        pytest.skip(f"no virtual microphone: {reason}")
    speaker = VirtualMicrophone(rate, channels)
    try:
        speaker.start()
        yield speaker
    finally:
        speaker.stop()


def hear_ctrl_c() -> None:
    # a shell starts background jobs deaf to it, and children inherit that
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class LiveScript:
    """A running ``microphone_inference.py`` whose lines are collected as they come.

    Parameters
    ----------
    words : of its command line
    environment : of the child process
    folder : working directory's stand-in for what it saves

    Attributes
    ----------
    messages : lines of standard error
    process : the running script
    """

    def __init__(self, words: list[str], environment: dict[str, str], folder: Path) -> None:
        command = [
            sys.executable,
            str(ROOT / "microphone_inference.py"),
            *words,
            "--live.recordings-dir",
            str(folder),
            "--decision.models-dir",
            str(ROOT / "saved_models"),
        ]
        self.process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            text=True,
            bufsize=1,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=hear_ctrl_c,
        )
        self.lines: list[str] = []
        self.messages: list[str] = []
        self._news = threading.Condition()
        self._ended = 0  # streams of it that have
        self._threads = [
            threading.Thread(target=self._collect, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.lines), (self.process.stderr, self.messages))
        ]
        for thread in self._threads:
            thread.start()

    def _collect(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            with self._news:
                lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended += 1
            self._news.notify_all()

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The answers so far (with ``--json``)."""
        return [json.loads(line) for line in list(self.lines)]

    def _wait_until(self, happened: Callable[[], bool], what: str) -> None:
        with self._news:
            self._news.wait_for(lambda: happened() or self._ended == 2, PATIENCE)
            assert happened(), f"{what} did not come: {self.messages} {self.lines}"

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until so many messages hold `text`."""
        self._wait_until(lambda: sum(text in line for line in self.messages) >= times, f"{text!r}")

    def wait_for_answers(self, number: int) -> None:
        """Wait until there are `number` answers."""
        self._wait_until(lambda: len(self.lines) >= number, f"answer {number}")

    def type(self, line: str) -> None:
        """Type a line on its keyboard."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def interrupt(self) -> int:
        """Press Ctrl-C and wait for the end; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        return code

    def __enter__(self) -> LiveScript:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(name="speaker")
def speaker_fixture() -> Iterator[VirtualMicrophone]:
    """A virtual microphone at 44.1 kHz stereo for one test."""
    with virtual_microphone() as started:
        yield started
