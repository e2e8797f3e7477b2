"""The sound system: which microphones there are, and what to do where there is none.

PortAudio (package ``sounddevice``) is imported by the functions that use it, so that everything
which needs no microphone works on a machine without PortAudio.
"""

from __future__ import annotations

import atexit
import contextlib
import difflib
import sys
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

import config

_INSTALL = {
    "Linux": "sudo apt-get install libportaudio2 (Debian, Ubuntu), dnf install portaudio (Fedora)",
    "macOS": "brew install portaudio",
    "Windows": "pip install --force-reinstall sounddevice (its wheel holds PortAudio)",
}
_PERMISSION = {
    "linux": "see that it is neither muted nor at 0 % (pavucontrol, alsamixer) and that your user "
    "may read /dev/snd (group audio)",
    "darwin": "allow your terminal under System Settings > Privacy & Security > Microphone, then "
    "restart it",
    "win32": "allow it under Settings > Privacy & security > Microphone > Let desktop apps access "
    "your microphone",
}


class MicrophoneError(config.UserError):
    """No usable microphone; the text says what to do."""


class DeviceLost(MicrophoneError):
    """The microphone vanished while it was read.

    `waveform`, float32 (samples,), at `sample_rate` Hz, is what had been recorded until then.
    """

    def __init__(
        self, message: str, waveform: np.ndarray | None = None, sample_rate: int = 0
    ) -> None:
        super().__init__(message)
        self.waveform = np.zeros(0, np.float32) if waveform is None else waveform
        self.sample_rate = sample_rate


@dataclass(frozen=True)
class Device:
    """One input of the sound system."""

    index: int
    name: str
    host_api: str
    channels: int
    sample_rate: int
    is_default: bool

    def __str__(self) -> str:
        mark = "*" if self.is_default else " "
        return (
            f"{mark} {self.index:3d}  {self.name} ({self.host_api}, {self.channels} channels, "
            f"{self.sample_rate} Hz)"
        )


def permission_hint(platform: str | None = None) -> str:
    """Where to look when a microphone delivers nothing but zeros, on `platform` or on this one."""
    return _PERMISSION.get(platform or sys.platform, _PERMISSION["linux"])


def portaudio() -> Any:
    """The ``sounddevice`` module.

    Raises
    ------
    MicrophoneError : it or the PortAudio library is missing; says how to install it on each system;
        or PortAudio hangs since a sound server died
    """
    if _abandoned.is_set():
        raise MicrophoneError(
            "the sound system no longer answers since its server ended: see that "
            "the server runs, then start this program again"
        )
    try:
        import sounddevice
    except ImportError:
        raise MicrophoneError(
            "the package sounddevice is missing; install it with: pip install sounddevice"
        ) from None
    except OSError:
        ways = "; ".join(f"{system}: {way}" for system, way in _INSTALL.items())
        raise MicrophoneError(
            "the PortAudio library is missing, and with it every microphone "
            f"(--wav works all the same); install it with {ways}"
        ) from None
    return sounddevice


_abandoned = threading.Event()  # set once PortAudio hangs


def abandon_portaudio() -> None:
    """Use PortAudio no more: one call hangs, and so would the next, even at the program's end."""
    import sounddevice

    _abandoned.set()
    atexit.unregister(sounddevice._exit_handler)


def rescan_devices() -> None:
    """Let PortAudio look again at what is plugged in; it does so only when it starts."""
    sound = portaudio()
    with contextlib.suppress(sound.PortAudioError):
        sound._terminate()
    try:
        sound._initialize()
    except sound.PortAudioError as error:
        raise MicrophoneError(f"the sound system does not start ({reason(error)})") from None


def list_devices() -> list[Device]:
    """All inputs of the sound system, in PortAudio's order; empty where there is none."""
    sound = portaudio()
    default = sound.default.device[0]
    with contextlib.suppress(sound.PortAudioError, ValueError):
        default = sound.query_devices(kind="input")["index"]
    return [
        Device(
            index,
            entry["name"],
            sound.query_hostapis(entry["hostapi"])["name"],
            entry["max_input_channels"],
            round(entry["default_samplerate"]),
            index == default,
        )
        for index, entry in enumerate(sound.query_devices())
        if entry["max_input_channels"] > 0
    ]


def device_table() -> str:
    """A line for each input of the sound system; the default is marked."""
    return "\n".join(map(str, list_devices())) or "no microphone found"


def choose_device(wanted: str | int | None = None, devices: list[Device] | None = None) -> Device:
    """Find an input by number, or by part of its name in any case; None is the system's default.

    Of several matches an exact name wins, then the default input, then the first.

    Raises
    ------
    MicrophoneError : there is no input at all, or none of that name; names the near ones
    """
    devices = list_devices() if devices is None else devices
    if not devices:
        raise MicrophoneError(
            "no microphone found: plug one in, or see that the sound server runs "
            "and that you may use it; --wav FILE needs none"
        )
    if wanted is None:
        return max(devices, key=lambda device: device.is_default)
    text = str(wanted).strip().lower()
    if text.isdigit():
        matches = [device for device in devices if device.index == int(text)]
    else:
        matches = [
            device for device in devices if text in f"{device.name} {device.host_api}".lower()
        ]
    if not matches or not text:
        raise MicrophoneError(
            f"no microphone {wanted!r}; {_near(text, devices)} (see --list-devices)"
        )
    return max(matches, key=lambda device: (device.name.lower() == text, device.is_default))


def _near(text: str, devices: list[Device]) -> str:
    names = {device.name.lower(): device for device in devices}
    close = difflib.get_close_matches(text, names, n=3, cutoff=0.4)
    label = "did you mean" if close else "there are"
    chosen = [names[name] for name in close] or devices[:8]
    return f"{label} " + ", ".join(f"{device.index} {device.name!r}" for device in chosen)


def reason(error: Exception) -> str:
    """PortAudio's own words for an error, without its number."""
    text = str(error.args[0]) if error.args else str(error)
    return text.split("[")[0].strip().rstrip(".:") or type(error).__name__
