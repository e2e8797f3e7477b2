"""The live script on a real sound system: PortAudio, ALSA and PulseAudio, in real time."""

from __future__ import annotations

import json
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from virtual_microphone import (  # noqa: F401  pytest finds the fixture by its name
    ROOT,
    LiveScript,
    VirtualMicrophone,
    hear_ctrl_c,
    speaker_fixture,
    virtual_microphone,
)

import audio_io

RATE = 8000
PAUSE = 0.7
CLIPS = 60
HANDS_FREE = ["--continuous", "--json"]
NO_PLOTS = ["--live.no-plots"]

pytestmark = pytest.mark.skipif(
    not list((ROOT / "saved_models").glob("*.pt")),
    reason="no trained networks in saved_models (python train.py makes them)",
)


@pytest.fixture(scope="module")
def digits(fsdd_archive_path) -> dict[str, np.ndarray]:
    """60 clips of FSDD's official test, all digits and speakers, by name, in random order."""
    with zipfile.ZipFile(fsdd_archive_path) as content:
        names = sorted(
            name
            for name in content.namelist()
            if name.endswith(".wav") and int(name[:-4].rsplit("_", 1)[1]) < 5
        )
        chosen = random.Random(7).sample(names, CLIPS)
        return {Path(name).name: audio_io.read_audio(content.read(name))[0] for name in chosen}


def truth(name: str) -> int:
    return int(name[0])


def one_after_another(clips: list[np.ndarray], level: float | None = None) -> np.ndarray:
    """The clips with pauses, at their own loudness or all at one RMS `level`."""
    parts = [np.zeros(RATE, np.float32)]
    for clip in clips:
        parts += [
            clip if level is None else clip * np.float32(level / audio_io.rms(clip)),
            np.zeros(round(PAUSE * RATE), np.float32),
        ]
    return np.concatenate(parts)


def pink(samples: int, rms: float) -> np.ndarray:
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(samples))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), samples)
    return (rms * noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def stereo(sound: np.ndarray, rate: int) -> np.ndarray:
    return np.stack([audio_io.resample(sound, RATE, rate)] * 2, axis=1)


def same_files(digits: dict[str, np.ndarray], folder: Path) -> dict[str, int | None]:
    """What ``--wav`` answers to the same clips, by name."""
    folder.mkdir()
    for name, clip in digits.items():
        audio_io.write_audio(folder / name, clip, RATE)
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "microphone_inference.py"),
            "--json",
            "--no-save",
            "--wav",
            *(str(folder / name) for name in digits),
            "--decision.models-dir",
            str(ROOT / "saved_models"),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    answers = map(json.loads, done.stdout.splitlines())
    return {Path(answer["source"]).name: answer["digit"] for answer in answers}


def check(answers: list[dict], names: list[str]) -> None:
    """None lost, none doubled, and at least 97 % right."""
    assert len(answers) == len(names)
    right = [answer["digit"] == truth(name) for answer, name in zip(answers, names, strict=True)]
    wrong = [name for name, good in zip(names, right, strict=True) if not good]
    assert statistics.mean(right) >= 0.97, wrong


def milliseconds(answers: list[dict], stage: str) -> list[float]:
    return [answer["timing_ms"][stage] for answer in answers]


@pytest.mark.slow
def test_sixty_digits_hands_free(speaker: VirtualMicrophone, digits, tmp_path):
    with LiveScript(HANDS_FREE, speaker.environment, tmp_path) as live:
        live.wait_for("ready:")
        speaker.play(one_after_another(list(digits.values())), RATE)
        live.wait_for_answers(CLIPS)
        time.sleep(1)
        assert live.interrupt() == 130
        answers = live.answers
    check(answers, list(digits))
    files = same_files(digits, tmp_path / "files")
    same = [answer["digit"] == files[name] for answer, name in zip(answers, digits, strict=True)]
    assert statistics.mean(same) >= 0.98

    waits = sorted(milliseconds(answers, "end_of_speech_to_answer"))
    print(
        f"end of speech to answer: median {statistics.median(waits):.0f} ms, "
        f"p95 {waits[int(0.95 * CLIPS)]:.0f} ms; computing "
        f"{statistics.median(milliseconds(answers, 'computing')):.0f} ms"
    )
    assert statistics.median(waits) <= 240 + 60
    assert waits[int(0.95 * CLIPS)] <= 240 + 120

    assert len(list(tmp_path.glob("*_clean.wav"))) == CLIPS
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == CLIPS
    assert list(tmp_path.glob("*.png"))
    assert not any("Traceback" in line or "lost" in line for line in live.messages)


@pytest.mark.slow
def test_sixty_digits_from_other_sources(digits, tmp_path):
    """44.1 and 48 kHz stereo, and pink noise at 20 dB, each on a sound system of its own."""
    clean = one_after_another(list(digits.values()))
    loud = one_after_another(list(digits.values()), level=0.05)
    noisy = loud + pink(len(loud), 0.05 * 10 ** (-20 / 20))
    sources = {
        "44": (44100, stereo(clean, 44100)),
        "48": (48000, stereo(clean, 48000)),
        "noise": (44100, stereo(noisy, 44100)),
    }

    def hear(name: str) -> list[dict]:
        rate, sound = sources[name]
        folder = tmp_path / name
        folder.mkdir()
        with (
            virtual_microphone(rate) as speaker,
            LiveScript(
                [*HANDS_FREE, *NO_PLOTS, "--live.sample-rate", str(rate)],
                speaker.environment,
                folder,
            ) as live,
        ):
            live.wait_for(f"({rate} Hz)")
            speaker.play(sound, rate)
            time.sleep(2)
            live.interrupt()
            return live.answers

    with ThreadPoolExecutor() as pool:
        for answers in pool.map(hear, sources):
            check(answers, list(digits))


@pytest.mark.slow
def test_it_is_ready_within_three_seconds(speaker: VirtualMicrophone, tmp_path):
    waits = []
    for _ in range(3):
        with LiveScript(HANDS_FREE, speaker.environment, tmp_path) as live:
            waits.append(live.wait_for("ready:"))
    print(f"ready after {min(waits):.1f} s")
    assert min(waits) <= 3.0


def of_process(live: LiveScript) -> tuple[float, float]:
    """Memory in MB and CPU time in s of the running script."""
    pages = int(Path(f"/proc/{live.process.pid}/statm").read_text().split()[1])
    fields = Path(f"/proc/{live.process.pid}/stat").read_text().rpartition(")")[2].split()
    return pages * 4096 / 1e6, (int(fields[11]) + int(fields[12])) / 100


@pytest.fixture(scope="module")
def three_minutes(digits, tmp_path_factory) -> Iterator[Future]:
    """15 s of silence, then a digit every four seconds, beside the tests that ask for this.

    Its result: the script, its CPU time in cores while silent, its memory in MB after each digit.
    """
    over = threading.Event()

    def listen() -> tuple[LiveScript, float, list[float]]:
        with (
            virtual_microphone() as speaker,
            LiveScript(HANDS_FREE, speaker.environment, tmp_path_factory.mktemp("long")) as live,
        ):
            live.wait_for("ready:")
            _, before = of_process(live)
            over.wait(15)
            silent = (of_process(live)[1] - before) / 15
            memory, end = [], time.monotonic() + 165
            for clip in list(digits.values()) * 3:
                speaker.play(clip, RATE)
                over.wait(4)
                memory.append(of_process(live)[0])
                if over.is_set() or time.monotonic() > end:
                    break
            live.interrupt()
            return live, silent, memory

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(listen)
        over.set()


@pytest.mark.slow
@pytest.mark.usefixtures("three_minutes")
def test_sixty_digits_push_to_talk(speaker: VirtualMicrophone, digits, tmp_path):
    words = ["--json", "--live.countdown-seconds", "0", "--live.record-seconds", "1.8", *NO_PLOTS]
    with LiveScript(words, speaker.environment, tmp_path) as live:
        live.wait_for("ready:")
        for number, clip in enumerate(digits.values(), start=1):
            live.type("")
            live.wait_for("speak now", times=number)
            speaker.play(clip, RATE, wait=False)
            live.wait_for_answers(number)
        live.type("q")
        assert live.wait() == 0
        check(live.answers, list(digits))
    files = same_files(digits, tmp_path / "files")
    same = [
        answer["digit"] == files[name] for answer, name in zip(live.answers, digits, strict=True)
    ]
    assert statistics.mean(same) >= 0.98


@pytest.mark.slow
@pytest.mark.usefixtures("three_minutes")
def test_a_minute_of_silence_and_of_room_noise_is_no_digit(noise_dir, tmp_path):
    recordings = [
        path
        for path in audio_io.find_audio(noise_dir)
        if path.stem in ("running_tap", "exercise_bike", "white_noise", "pink_noise")
    ]
    if not recordings:
        pytest.skip(f"no steady noise in {noise_dir}")
    quarters = []
    for path in recordings:
        sound, _ = audio_io.read_audio(path, RATE, max_seconds=200)
        quarters.append(0.01 / audio_io.rms(sound) * sound[: 15 * RATE])
    sounds = {
        "silence": np.zeros(60 * RATE, np.float32),
        "noise": np.concatenate(quarters).astype(np.float32),
    }

    def hear(name: str) -> list[dict]:
        folder = tmp_path / name
        folder.mkdir()
        with (
            virtual_microphone() as speaker,
            LiveScript([*HANDS_FREE, *NO_PLOTS], speaker.environment, folder) as live,
        ):
            live.wait_for("ready:")
            speaker.play(sounds[name], RATE)
            time.sleep(1)
            live.interrupt()
            return live.answers

    with ThreadPoolExecutor() as pool:
        for answers in pool.map(hear, sounds):
            assert [answer["digit"] for answer in answers if answer["accepted"]] == []


@pytest.mark.slow
def test_three_minutes_cost_little(three_minutes: Future):
    live, silent, memory = three_minutes.result()
    growth = max(memory[-3:]) - memory[1]
    print(f"CPU while silent {100 * silent:.1f} % of a core, memory grew by {growth:.1f} MB")
    assert silent < 0.25
    assert growth < 10
    assert len(live.answers) == len(memory)
    assert not any("lost" in line for line in live.messages)


def test_zeros_are_told_with_the_permission_to_look_at(speaker: VirtualMicrophone, tmp_path):
    with LiveScript(HANDS_FREE, speaker.environment, tmp_path) as live:
        live.wait_for("nothing but zeros from the microphone so far: see that it is neither muted")
        live.interrupt()
    push = ["--live.countdown-seconds", "0", "--live.record-seconds", "0.5", *NO_PLOTS]
    with LiveScript(push, speaker.environment, tmp_path) as live:
        live.wait_for("ready:")
        live.type("")
        live.wait_for_answers(2)
        assert live.lines[0].startswith("no digit") and "nothing but zeros" in live.lines[1]


def test_a_typed_digit_labels_the_last_answer(speaker: VirtualMicrophone, digits, tmp_path):
    name, clip = next(iter(digits.items()))
    words = [*HANDS_FREE, "--timing", "--live.user", "ann"]
    with LiveScript(words, speaker.environment, tmp_path) as live:
        live.wait_for("ready:")
        live.type("5")
        live.wait_for("there is no answer to correct yet")
        speaker.play(clip, RATE)
        live.wait_for_answers(1)
        live.type("zwei")
        live.wait_for("'zwei' is no digit")
        live.type(str(truth(name)))
        live.wait_for("kept as your")
        live.wait_for("end of speech to answer")
        live.type("q")
        assert live.wait() == 0
    (own,) = (tmp_path / "own").glob("*.wav")
    assert own.name == f"{truth(name)}_ann_0.wav"
    sound, rate = audio_io.read_audio(own)
    assert rate == RATE and 0.2 < len(sound) / RATE < 1.5
    assert list(tmp_path.glob("*.png")), "the plot was not drawn before the end"


def test_a_server_that_comes_back_is_listened_to_again(
    speaker: VirtualMicrophone, digits, tmp_path
):
    clip = next(iter(digits.values()))
    with LiveScript([*HANDS_FREE, *NO_PLOTS], speaker.environment, tmp_path) as live:
        live.wait_for("ready:")
        speaker.kill()
        live.wait_for("trying again")
        speaker.start()
        live.wait_for("the microphone is back")
        live.wait_for("ready:", times=2)
        speaker.play(clip, RATE)
        live.wait_for_answers(1)
        assert live.interrupt() == 130


def test_a_microphone_lost_for_good_ends_the_script_with_what_was_recorded(
    speaker: VirtualMicrophone, digits, tmp_path
):
    clips = [clip for name, clip in digits.items() if truth(name) in (0, 7, 9)]
    words = ["--json", "--live.record-seconds", "20", "--live.countdown-seconds", "0", *NO_PLOTS]
    with LiveScript(words, speaker.environment, tmp_path) as live:
        live.wait_for("ready:")
        live.type("")
        live.wait_for("speak now")
        speaker.play(clips[0], RATE)
        time.sleep(0.5)
        speaker.kill()
        assert live.wait(60) == 1
    assert sum("trying again" in line for line in live.messages) == 3
    assert live.messages[-1].startswith("error:") and "gave up" in live.messages[-1]
    assert not any("Traceback" in line or "Expression" in line for line in live.messages)
    (answer,) = live.answers
    assert "cut short: microphone lost" in answer["remarks"]
    (recording,) = (path for path in tmp_path.glob("*.wav") if "_clean" not in path.name)
    sound, rate = audio_io.read_audio(recording)
    assert 0.5 < len(sound) / rate < 20 and audio_io.rms(sound) > 1e-3


def test_a_wrong_device_is_one_line_before_anything_is_loaded(speaker: VirtualMicrophone, tmp_path):
    with LiveScript(["--device", "defualt"], speaker.environment, tmp_path) as live:
        assert live.wait() == 1
    (message,) = live.messages
    assert "did you mean 0 'default'" in message
    with LiveScript(["--list-devices"], speaker.environment, tmp_path) as live:
        assert live.wait() == 0
    assert "* " in live.lines[0] and "default" in live.lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.8, 1.4, 2.0, 2.6, 3.5, 4.3, 5.0, 5.7])
def test_ctrl_c_at_any_moment_leaves_whole_files(
    speaker: VirtualMicrophone, digits, tmp_path, moment
):
    with LiveScript(HANDS_FREE, speaker.environment, tmp_path) as live:
        player = speaker.play(one_after_another(list(digits.values())[:8]), RATE, wait=False)
        time.sleep(moment)
        assert live.interrupt() in (130, -signal.SIGINT)  # the latter before all is loaded
        player.kill()
    assert not any("Traceback" in line for line in live.messages), live.messages
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    for path in tmp_path.glob("*.wav"):
        assert audio_io.read_audio(path)[0].size
    log = tmp_path / "log.jsonl"
    for line in log.read_text().splitlines() if log.exists() else []:
        json.loads(line)
