"""Devices with many channels, few rates and slow starts; the sound system is a stand-in."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from fake_sounddevice import FakeSoundDevice

import audio_io
import audio_recorder_analyzer
import config
import microphone_inference
from live import devices, microphone
from live.channels import ChannelFollower
from live.devices import DeviceLost, MicrophoneError
from live.hands_free import HandsFree
from live.microphone import Microphone

RATE = 48000


@pytest.fixture
def device(monkeypatch):
    """Makes a stand-in and lets it be the sound system."""

    def make(*arguments, **settings) -> FakeSoundDevice:
        fake = FakeSoundDevice(*arguments, **settings)
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        return fake

    return make


def word(seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    """A tone that comes and goes once, float32 (samples,), and silence around it."""
    time = np.arange(round(seconds * rate)) / rate
    envelope = np.clip(np.sin(2 * np.pi * time / seconds), 0, 1)
    return (0.3 * envelope * np.sin(2 * np.pi * 500 * time)).astype(np.float32)


def spoken_on(channel: int, channels: int, noise: float = 3e-4) -> np.ndarray:
    """The word on one channel, and noise on all: float32 (samples, channels)."""
    sound = np.random.default_rng(1).normal(0, noise, (2 * RATE, channels)).astype(np.float32)
    sound[:, channel - 1] += word()
    return sound


def snr_db(waveform: np.ndarray) -> float:
    """dB of a 500 Hz tone over all else, in float32 (samples,) of any phase."""
    power = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))) ** 2
    frequency = np.fft.rfftfreq(len(waveform), 1 / RATE)
    tone = np.abs(frequency - 500) < 20
    return 10 * np.log10(power[tone].sum() / power[~tone].sum())


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 8])
def test_devices_that_take_only_all_their_channels_are_opened(device, channels):
    device(
        channels,
        sound=spoken_on(channels, channels),
        takes=lambda rate, count, kind: None if count == channels else "Invalid number of channels",
    )
    waveform, rate = microphone.record(2.0)
    assert rate == RATE and waveform.shape == (2 * RATE,)
    assert audio_io.rms(waveform) > 0.03


@pytest.mark.parametrize("only", [8000, 16000, 22050, 32000, 44100, 48000, 96000])
def test_devices_that_take_one_rate_only_are_opened(device, only):
    device(takes=lambda rate, count, kind: None if rate == only else "Invalid sample rate")
    waveform, rate = microphone.record(0.2)
    assert rate == only and len(waveform) == round(0.2 * only)


def test_a_device_that_takes_no_float_gives_the_same_sound(device):
    device(
        sound=spoken_on(1, 1),
        takes=lambda rate, count, kind: None if kind == "int16" else "Sample format not supported",
    )
    waveform, _ = microphone.record(2.0)
    assert waveform.dtype == np.float32 and 0.29 < np.abs(waveform).max() < 0.31


def test_a_device_that_refuses_everything_is_told_with_what_was_tried(device):
    fake = device(2, takes=lambda rate, count, kind: "Invalid sample rate [PaErrorCode -9997]")
    with pytest.raises(MicrophoneError) as error:
        Microphone(sample_rate=12345)
    told = str(error.value)
    assert "12345, 48000, 44100" in told and "each with 2 and 1 channels" in told
    assert "(Invalid sample rate)" in told and "close other programs" not in told
    assert len(fake.opened) == len(set(fake.opened))


def test_software_devices_with_many_channels_are_opened_with_two(device):
    fake = device(64)
    with Microphone() as source:
        assert source.read().channels.shape[1] == 2
    assert len(fake.opened) == 1


@pytest.mark.parametrize("channel", [None, 3])
def test_a_headset_on_input_3_of_8_is_heard(device, channel):
    device(8, sound=spoken_on(3, 8, noise=3e-3))
    with Microphone(channel=channel) as source:
        waveform = source.record(2.0)
    alone = snr_db(spoken_on(3, 8, noise=3e-3)[:, 2])
    assert snr_db(waveform) > alone - 4  # the mean of all would lose 9 dB
    assert (channel is None) == ("channel 3 of 8" in (source.remark or ""))


@pytest.mark.parametrize("hum", [0.05, 0.3])
def test_hum_of_an_open_input_is_not_taken_for_the_voice(device, hum):
    sound = spoken_on(3, 8)
    sound[:, 4] += hum * np.sin(2 * np.pi * 50 * np.arange(2 * RATE) / RATE).astype(np.float32)
    device(8, sound=sound)
    with Microphone() as source:
        assert snr_db(source.record(2.0)) > 30 and "channel 3 of 8" in source.remark
    assert snr_db(followed(sound)[: RATE // 2]) > 25


def test_a_channel_that_is_not_there_is_told(device):
    device(2)
    with pytest.raises(MicrophoneError, match="has no channel 3: it has 2"):
        Microphone(channel=3)
    with pytest.raises(config.UserError, match=r"channel is 0"):
        config.LiveSettings(channel=0)


def followed(sound: np.ndarray) -> np.ndarray:
    follower, size = ChannelFollower(0.02), RATE // 50
    blocks = [sound[start : start + size] for start in range(0, len(sound), size)]
    return np.concatenate([follower.feed(block) for block in blocks])


def test_equal_channels_are_their_mean_in_the_stream(device):
    sound = np.column_stack([word(), word()])
    assert np.array_equal(followed(sound), sound.mean(axis=1, dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "sound"),
    [
        ("inverted", np.column_stack([word(), -word()])),
        ("one of eight", spoken_on(5, 8)),
        ("noise beside", np.column_stack([word(), np.random.default_rng(2).normal(0, 0.1, 96000)])),
    ],
)
def test_the_channel_with_speech_is_followed_in_the_stream(name, sound):
    assert snr_db(followed(sound.astype(np.float32))[: RATE // 2]) > 25, name


def test_speak_now_is_said_only_once_sound_has_come(device):
    fake, told = device(leading_zeros=RATE // 2), []

    def tell(text: str) -> None:
        told.append((text, fake.blocks))

    waveform, _ = microphone.record(0.2, tell=tell)
    ((text, blocks),) = told
    assert "speak now" in text and blocks >= 25  # half a second of zeros, in blocks of 20 ms
    assert waveform.any(axis=0) and len(waveform) == RATE // 5


def test_a_microphone_of_zeros_is_waited_for_only_a_while(device, monkeypatch):
    monkeypatch.setattr(microphone, "WAKE_SECONDS", 0.1)
    fake = device(sound=np.zeros((RATE, 1), np.float32))
    with Microphone() as source:
        source.wait_for_sound()
        assert not source.record(0.1).any()
    assert fake.blocks


def test_the_analyser_records_the_channel_it_is_told(device, capsys, monkeypatch):
    device(8, sound=spoken_on(3, 8))
    settings = audio_recorder_analyzer.AnalyzerSettings(seconds=2.0, save=False, channel=3)
    assert audio_recorder_analyzer.run(settings) == 0
    printed = capsys.readouterr()
    assert "48000 Hz, 2.00 s" in printed.out
    settings = audio_recorder_analyzer.AnalyzerSettings(seconds=2.0, save=False, channel=9)
    with pytest.raises(MicrophoneError, match="no channel 9"):
        audio_recorder_analyzer.run(settings)


class Lines(list):
    """A terminal that keeps what is said."""

    say = list.append

    def level(self, waveform: np.ndarray, label: str) -> None: ...


def hands_free(source) -> tuple[HandsFree, Lines]:
    terminal = Lines()
    session = SimpleNamespace(
        recognizer=SimpleNamespace(rate=8000), live=config.LiveSettings(), terminal=terminal
    )
    return HandsFree(session, source), terminal


@pytest.mark.parametrize(
    ("zeros_s", "told"), [(0, []), (0.5, []), (1.5, ["arrived"]), (4, ["nothing", "arrived"])]
)
def test_zeros_at_the_start_and_the_sound_after_them_are_told(device, zeros_s, told):
    device(leading_zeros=round(zeros_s * RATE))
    with Microphone() as source:
        stream, said = hands_free(source)
        while stream.position < (zeros_s + 1) * RATE:
            stream.step()
    lines = [line for line in said if not line.startswith("ready")]
    assert len(lines) == len(told)
    assert all(word in line for word, line in zip(told, lines, strict=True))


class Headset:
    """A microphone that is back after some tries to open it."""

    def __init__(self, absent: int) -> None:
        self.absent = absent

    def __enter__(self) -> Headset:
        self.absent -= 1
        if self.absent >= 0:
            raise MicrophoneError("no microphone 'usb'")
        return self

    def __exit__(self, *exception: object) -> None: ...

    def read(self) -> None: ...


@pytest.fixture
def lost(monkeypatch):
    """A session whose microphone is away for some tries, pauses that do not last, and them."""
    waited: list[float] = []
    monkeypatch.setattr(devices, "rescan_devices", lambda: None)
    monkeypatch.setattr(
        microphone_inference, "quits_within", lambda session, pause: waited.append(pause)
    )

    def make(absent: int) -> tuple[SimpleNamespace, Lines, list[float]]:
        headset, terminal = Headset(absent), Lines()
        return (
            SimpleNamespace(terminal=terminal, open_microphone=lambda: headset),
            terminal,
            waited,
        )

    return make


def test_hands_free_a_lost_headset_is_tried_for_two_minutes_with_growing_pauses(lost):
    pauses = microphone_inference.HANDS_FREE_RETRY_SECONDS
    session, said, waited = lost(absent=len(pauses) - 1)
    assert microphone_inference.wait_for_microphone(session, DeviceLost("gone"), pauses)
    assert sum(waited) >= 120 and waited == sorted(waited) and waited[0] < waited[-1]
    assert said[-1] == "the microphone is back"


def test_a_headset_that_stays_away_ends_with_one_line(lost):
    session, said, _ = lost(absent=99)
    with pytest.raises(MicrophoneError, match="gave up after 3 tries"):
        microphone_inference.wait_for_microphone(
            session, DeviceLost("gone"), microphone_inference.RETRY_SECONDS
        )
    assert len(said) == 3


def test_q_ends_the_wait_for_a_lost_microphone():
    lines = iter(["", None, "q"])
    session = SimpleNamespace(
        terminal=Lines(), keyboard=SimpleNamespace(poll=lambda: next(lines, None))
    )
    assert not microphone_inference.wait_for_microphone(session, DeviceLost("gone"), (60.0,))
