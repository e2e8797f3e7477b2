"""Microphones: choosing one, and the real PortAudio, ALSA and PulseAudio."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from virtual_microphone import VirtualMicrophone, speaker_fixture  # noqa: F401  found by name
from waiting import PATIENCE, wait_until

import audio_io
from config import UserError
from live import devices, microphone
from live.devices import Device, DeviceLost, MicrophoneError, choose_device
from live.microphone import Microphone

ROOT = Path(__file__).resolve().parent.parent
DEVICES = [
    Device(0, "HDA Intel PCH: ALC257 Analog", "ALSA", 2, 44100, False),
    Device(3, "Blue Yeti USB", "ALSA", 2, 48000, False),
    Device(4, "USB", "ALSA", 1, 16000, False),
    Device(12, "default", "ALSA", 32, 44100, True),
]


def in_new_process(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (None, 12),
        ("3", 3),
        (3, 3),
        (" 12 ", 12),
        ("yeti", 3),
        ("YETI", 3),
        ("pch", 0),
        ("usb", 4),
        ("blue", 3),
        ("alsa", 12),
    ],
)
def test_a_device_is_found_by_number_or_part_of_its_name(wanted, index):
    assert choose_device(wanted, DEVICES).index == index


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("Blue Yetti", "'Blue Yeti USB'"),
        ("defalt", "12 'default'"),
        ("7", "there are"),
        ("", "there are"),
    ],
)
def test_a_wrong_name_lists_the_near_ones(wanted, near):
    with pytest.raises(MicrophoneError, match="no microphone") as error:
        choose_device(wanted, DEVICES)
    assert near in str(error.value) and "\n" not in str(error.value)


def test_no_device_at_all_is_told():
    with pytest.raises(MicrophoneError, match="no microphone found"):
        choose_device(None, [])


def test_without_a_default_the_first_is_taken():
    assert choose_device(None, DEVICES[:2]).index == 0


@pytest.mark.parametrize(
    ("platform", "place"),
    [
        ("darwin", "Privacy & Security"),
        ("win32", "desktop apps"),
        ("linux", "pavucontrol"),
        ("freebsd14", "pavucontrol"),
    ],
)
def test_each_system_has_its_own_place_for_permission(platform, place):
    assert place in devices.permission_hint(platform)


def test_portaudio_is_not_imported_before_it_is_used():
    done = in_new_process(
        "import sys; from live import microphone; print('sounddevice' in sys.modules)"
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("sabotage", "texts"),
    [
        (
            "import ctypes.util; ctypes.util.find_library = lambda name: None",
            ("apt-get install libportaudio2", "brew install portaudio", "pip install"),
        ),
        ("import sys; sys.modules['sounddevice'] = None", ("pip install sounddevice",)),
    ],
)
def test_missing_portaudio_says_how_to_install_it(sabotage, texts):
    if sys.platform != "linux":
        pytest.skip("other systems' wheels carry PortAudio with them")
    done = in_new_process(
        f"{sabotage}\nfrom live import devices; import config\n"
        "try:\n    devices.list_devices()\n"
        "except config.UserError as error:\n    print(error)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert all(text in done.stdout for text in texts)


def test_a_lost_device_is_a_user_error_with_what_was_recorded():
    error = DeviceLost("gone")
    assert isinstance(error, UserError)
    assert error.waveform.size == 0


def tone(seconds: float, rate: int, frequency: float = 700) -> np.ndarray:
    wave = 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    return wave.astype(np.float32)


def test_the_default_input_is_listed(speaker: VirtualMicrophone):
    with speaker.in_this_process():
        found = devices.list_devices()
        assert [device.name for device in found if device.is_default] == ["default"]
        assert "default" in str(found[0]) and "44100 Hz" in str(found[0])


@pytest.mark.parametrize("rate", [None, 16000, 48000])
def test_what_is_played_is_recorded(speaker: VirtualMicrophone, rate):
    with speaker.in_this_process():
        player = speaker.play(tone(60, 44100), 44100, wait=False)
        wait_until(lambda: audio_io.rms(microphone.record(0.1)[0]) > 0.1, "nothing is heard")
        sound, got = microphone.record(0.5, sample_rate=rate)
        player.kill()
        player.wait()
    assert got == (rate or 44100)
    assert sound.dtype == np.float32 and sound.shape == (round(0.5 * got),)
    late = sound[got // 10 :]
    assert audio_io.rms(late) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    spectrum = np.abs(np.fft.rfft(late))
    assert spectrum.argmax() * got / len(late) == pytest.approx(700, abs=5)


def test_a_rate_that_the_device_refuses_is_replaced_by_its_own(
    speaker: VirtualMicrophone, monkeypatch
):
    with speaker.in_this_process():
        import sounddevice

        original = sounddevice.InputStream

        def refuses(**settings):
            if settings["samplerate"] == 8000:
                raise sounddevice.PortAudioError("Invalid sample rate [PaErrorCode -9997]")
            return original(**settings)

        monkeypatch.setattr(sounddevice, "InputStream", refuses)  # ALSA's pulse takes every rate
        with Microphone(sample_rate=8000) as source:
            assert source.sample_rate == 44100
            assert source.record(0.1).size == 4410


@pytest.mark.parametrize("block_ms", [5, 20, 200])
def test_any_block_size_works(speaker: VirtualMicrophone, block_ms):
    begun = time.monotonic()
    with speaker.in_this_process(), Microphone(block_ms=block_ms) as source:
        block = source.read()
        assert len(block.waveform) == 44100 * block_ms // 1000
        assert begun < block.arrived <= time.monotonic()
        assert source.record(0.45).shape == (round(0.45 * 44100),)
        assert source.overflows == 0


def test_a_reader_that_is_too_slow_loses_sound_and_is_told(speaker: VirtualMicrophone, monkeypatch):
    monkeypatch.setattr(microphone, "QUEUE_SECONDS", 0.2)
    with speaker.in_this_process(), Microphone() as source:
        source.read()
        wait_until(lambda: source.overflows >= 15, "nothing is lost")
        source.discard()
        assert source.read().waveform.size


SERVER_DIES = """
import json
import audio_io
from live import devices, microphone
heard = [0]
def listen(block):
    before, heard[0] = heard[0], heard[0] + len(block) * (audio_io.rms(block) > 0.1)
    if before < 44100 <= heard[0]:
        print("a second is recorded", flush=True)
def tried(seconds):
    try:
        with microphone.Microphone() as source:
            return {"samples": len(source.record(seconds, listen)), "rate": source.sample_rate}
    except devices.DeviceLost as error:
        return {"lost": str(error), "samples": len(error.waveform), "rate": error.sample_rate,
                "rms": audio_io.rms(error.waveform[-22050:])}
    except devices.MicrophoneError as error:
        return {"error": str(error)}
def again():
    try:
        devices.rescan_devices()
    except devices.MicrophoneError as error:
        return {"error": str(error)}
    return tried(0.2)
print(json.dumps(tried(600)), flush=True)
print(json.dumps(again()), flush=True)
input()
print(json.dumps(again() | {"abandoned": devices._abandoned.is_set()}), flush=True)
"""


def test_a_sound_server_that_dies_leaves_what_was_recorded(speaker: VirtualMicrophone):
    """In a process of its own: now and then PortAudio then hangs, and the microphone says so."""
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER_DIES],
        cwd=ROOT,
        text=True,
        env=speaker.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    player = speaker.play(tone(60, 44100), 44100, wait=False)
    assert "recorded" in child.stdout.readline()
    speaker.kill()
    kept = json.loads(child.stdout.readline())
    player.wait()
    assert "stopped delivering sound" in kept["lost"]
    assert kept["rate"] == 44100 and 1 <= kept["samples"] / 44100 < 600
    assert kept["rms"] > 0.1
    assert "error" in json.loads(child.stdout.readline())  # the server is gone
    speaker.start()
    last = json.loads(child.communicate("\n", timeout=PATIENCE)[0].splitlines()[-1])
    assert child.returncode == 0
    if last["abandoned"]:
        assert "no longer answers" in last["error"]
    else:
        assert last["samples"] == 8820


def test_a_close_that_never_returns_is_left_behind(speaker: VirtualMicrophone, monkeypatch):
    """PortAudio waits for ever now and then where the sound server died under it."""
    monkeypatch.setattr(devices, "_abandoned", threading.Event())
    forever = threading.Event()
    with speaker.in_this_process():
        with monkeypatch.context() as impatient, Microphone() as source:
            source.record(0.2)
            abort, source._stream = source._stream.abort, Hanging(source._stream, forever)
            impatient.setattr(microphone, "END_SECONDS", 0.3)
        with pytest.raises(MicrophoneError, match="no longer answers"):
            microphone.record(0.1)
        abort()
        forever.set()
        devices._abandoned.clear()
        assert microphone.record(0.2)[0].size


class Hanging:
    """A stream whose end waits for an event."""

    def __init__(self, stream, event: threading.Event) -> None:
        self.stream, self.abort = stream, event.wait

    def close(self) -> None:
        self.stream.close()


def test_a_blocked_sound_server_counts_as_lost(speaker: VirtualMicrophone, monkeypatch):
    with speaker.in_this_process(), Microphone() as source:
        source.record(0.2)
        monkeypatch.setattr(microphone, "NEXT_BLOCK_SECONDS", 0.5)
        speaker.server.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(DeviceLost):
                source.record(5)
        finally:
            speaker.server.send_signal(signal.SIGCONT)
