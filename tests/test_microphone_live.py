"""The live script on a real sound system: PortAudio, ALSA and PulseAudio, in real time."""

from __future__ import annotations

import json
import random
import re
import signal
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from virtual_microphone import (  # noqa: F401  pytest finds the fixture by its name
    ROOT,
    LiveScript,
    VirtualMicrophone,
    speaker_fixture,
    virtual_microphone,
)
from waiting import unmeasured, wait_until

import audio_io
import config

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
    """None lost, none doubled, and at most one, or 3 %, wrong."""
    assert len(answers) == len(names)
    wrong = [
        name for answer, name in zip(answers, names, strict=True) if answer["digit"] != truth(name)
    ]
    assert len(wrong) <= max(1, 0.03 * len(names)), wrong


def check_same(answers: list[dict], digits: dict[str, np.ndarray], folder: Path) -> None:
    """At least 98 % of the answers are those that ``--wav`` gives (of a few, all but one)."""
    files = same_files(digits, folder)
    differ = [
        name for answer, name in zip(answers, digits, strict=True) if answer["digit"] != files[name]
    ]
    assert len(differ) <= max(1, 0.02 * len(digits)), differ


def milliseconds(answers: list[dict], stage: str) -> list[float]:
    return [answer["timing_ms"][stage] for answer in answers]


def first(digits: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return dict(list(digits.items())[:count])


def listen(
    words: list[str], sound: np.ndarray, answers: int | None, folder: Path, rate: int = RATE
) -> LiveScript:
    """Let the script, on a sound system of its own, hear a sound and give so many answers."""
    folder.mkdir()
    with (
        virtual_microphone(44100 if rate == RATE else rate) as speaker,
        LiveScript(words, speaker.environment, folder) as live,
    ):
        live.wait_for("ready:")
        speaker.play(sound, rate)
        if answers is not None:
            live.wait_for_answers(answers)
        if NO_PLOTS[0] not in words:
            wait_until(lambda: list(folder.glob("*.png")), "no plot is drawn")
        time.sleep(1)  # nothing more may come
        live.packages = mapped_packages(live)
        live.type("q")
        assert live.wait() == 0
    assert not any("Traceback" in line for line in live.messages), live.messages
    return live


def mapped_packages(live: LiveScript) -> set[str]:
    """Packages of which the running script has loaded a library."""
    maps = Path(f"/proc/{live.process.pid}/maps").read_text()
    return set(re.findall(r"/site-packages/(\w+)/", maps))


def few_and(many: int, few: int):
    """A few for every run of the tests, and many for the long run."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])


@few_and(60, 10)
def test_digits_hands_free(digits, tmp_path, count):
    digits, folder = first(digits, count), tmp_path / "live"
    live = listen(HANDS_FREE, one_after_another(list(digits.values())), count, folder)
    check(live.answers, list(digits))
    check_same(live.answers, digits, tmp_path / "files")
    waits = milliseconds(live.answers, "end_of_speech_to_answer")
    computing = milliseconds(live.answers, "computing")
    assert min(waits) > min(computing) > 0
    print(
        f"end of speech to answer: median {statistics.median(waits):.0f} ms, "
        f"p95 {sorted(waits)[int(0.95 * count)]:.0f} ms; "
        f"computing {statistics.median(computing):.0f} ms"
    )
    assert len(list(folder.glob("*_clean.wav"))) == count
    assert len((folder / "log.jsonl").read_text().splitlines()) == count
    assert live.packages & {"onnxruntime", "torch"}
    late = {"matplotlib", "seaborn", "librosa", "pandas", "sklearn", "pyarrow", "tensorboard"}
    assert not live.packages & late, "loaded before it was needed"


@pytest.mark.slow
def test_digits_from_other_sources(digits, tmp_path, count=60):
    """44.1 and 48 kHz stereo, and pink noise at 20 dB, each on a sound system of its own."""
    digits = first(digits, count)
    clean = one_after_another(list(digits.values()))
    loud = one_after_another(list(digits.values()), level=0.05)
    noisy = loud + pink(len(loud), 0.05 * 10 ** (-20 / 20))
    sources = {
        "44": (44100, stereo(clean, 44100)),
        "48": (48000, stereo(clean, 48000)),
        "noise": (44100, stereo(noisy, 44100)),
    }

    def hear(name: str) -> LiveScript:
        rate, sound = sources[name]
        words = [*HANDS_FREE, *NO_PLOTS, "--live.sample-rate", str(rate)]
        return listen(words, sound, count, tmp_path / name, rate)

    with ThreadPoolExecutor() as pool:
        for name, live in zip(sources, pool.map(hear, sources), strict=True):
            check(live.answers, list(digits))
            assert any(f"({sources[name][0]} Hz)" in line for line in live.messages)


@few_and(60, 5)
def test_digits_push_to_talk(speaker: VirtualMicrophone, digits, tmp_path, count):
    digits = first(digits, count)
    words = ["--json", "--live.countdown-seconds", "0", "--live.record-seconds", "2.5", *NO_PLOTS]
    with LiveScript(words, speaker.environment, tmp_path) as live:
        live.wait_for("ready:")
        for number, clip in enumerate(digits.values(), start=1):
            live.type("")
            live.wait_for("speak now", times=number)
            speaker.play(clip, RATE)
            live.wait_for_answers(number)
        live.type("q")
        assert live.wait() == 0
    check(live.answers, list(digits))
    check_same(live.answers, digits, tmp_path / "files")


STEADY = ("white_noise", "pink_noise", "running_tap", "exercise_bike")


@pytest.mark.parametrize("kinds", [STEADY[:1], pytest.param(STEADY, marks=pytest.mark.slow)])
def test_silence_and_room_noise_are_no_digit(noise_dir, tmp_path, kinds):
    recordings = [path for path in audio_io.find_audio(noise_dir) if path.stem in kinds]
    if not recordings:
        pytest.skip(f"no steady noise in {noise_dir}")
    pieces = []
    for path in recordings:
        sound, _ = audio_io.read_audio(path, RATE, max_seconds=200)
        pieces.append(0.01 / audio_io.rms(sound) * sound[: 15 * RATE])
    sounds = {
        "silence": np.zeros(15 * len(kinds) * RATE, np.float32),
        "noise": np.concatenate(pieces).astype(np.float32),
    }

    def hear(name: str) -> LiveScript:
        return listen([*HANDS_FREE, *NO_PLOTS], sounds[name], None, tmp_path / name)

    with ThreadPoolExecutor() as pool:
        for live in pool.map(hear, sounds):
            assert [answer["digit"] for answer in live.answers if answer["accepted"]] == []


def of_process(live: LiveScript) -> tuple[float, float]:
    """Memory in MB and CPU time in s of the running script."""
    pages = int(Path(f"/proc/{live.process.pid}/statm").read_text().split()[1])
    fields = Path(f"/proc/{live.process.pid}/stat").read_text().rpartition(")")[2].split()
    return pages * 4096 / 1e6, (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.slow
def test_a_long_session_costs_little(speaker: VirtualMicrophone, digits, tmp_path):
    """15 s of silence cost less than five starts; sixty answers leave nothing in memory."""
    with LiveScript(HANDS_FREE, speaker.environment, tmp_path) as live:
        live.wait_for("ready:")
        _, start = of_process(live)
        time.sleep(15)
        silent = of_process(live)[1] - start
        memory = []
        for number, clip in enumerate(digits.values(), start=1):
            speaker.play(clip, RATE)
            live.wait_for_answers(number)
            time.sleep(0.5)
            memory.append(of_process(live)[0])
        live.type("q")
        assert live.wait() == 0
    growth = max(memory[-3:]) - memory[1]
    print(f"CPU: start {start:.1f} s, silence {silent:.1f} s; memory grew by {growth:.1f} MB")
    assert silent < 5 * start
    assert growth < 10
    assert len(live.answers) == len(memory)
    assert not any("lost" in line for line in live.messages)


def test_zeros_are_told_with_the_permission_to_look_at(speaker: VirtualMicrophone, tmp_path):
    with LiveScript(HANDS_FREE, speaker.environment, tmp_path) as live:
        live.wait_for("nothing but zeros from the microphone so far: see that it is neither muted")
        live.type("q")
        assert live.wait() == 0 and live.answers == []
    push = ["--live.countdown-seconds", "0", "--live.record-seconds", "0.5", *NO_PLOTS]
    with LiveScript(push, speaker.environment, tmp_path) as live:
        live.wait_for("ready:")
        live.type("")
        live.wait_for_answers(2)
        assert live.lines[0].startswith("no digit") and "nothing but zeros" in live.lines[1]


@pytest.mark.slow
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
        wait_until(lambda: list(tmp_path.glob("*.png")), "the plot is not drawn")
        live.type("q")
        assert live.wait() == 0
    (own,) = (tmp_path / "own").glob("*.wav")
    assert own.name == f"{truth(name)}_ann_0.wav"
    sound, rate = audio_io.read_audio(own)
    assert rate == config.AudioSettings().sample_rate and 0.2 < len(sound) / rate < 1.5


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
        live.type("q")
        assert live.wait() == 0


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
        assert live.wait() == 1
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


def importing(live: LiveScript) -> None:
    wait_until(lambda: "numpy" in mapped_packages(live), "numpy is never loaded")


def said(text: str) -> Callable[[LiveScript], None]:
    return lambda live: live.wait_for(text)


def answered(number: int) -> Callable[[LiveScript], None]:
    """An answer is printed before it is saved."""
    return lambda live: live.wait_for_answers(number)


MOMENTS = (importing, said("networks loaded"), said("ready:"), answered(1), answered(3))


def test_ctrl_c_at_any_moment_leaves_whole_files(speaker: VirtualMicrophone, digits, tmp_path):
    """Some scripts listen to the same microphone; each is interrupted at a moment of its own."""
    sound = one_after_another(list(digits.values())[:4])

    def interrupted(number: int) -> LiveScript:
        folder = tmp_path / str(number)
        folder.mkdir()
        with LiveScript(HANDS_FREE, unmeasured(speaker.environment), folder) as live:
            MOMENTS[number](live)
            code = live.interrupt()
            # the latter before all is loaded
            assert code in (130, -signal.SIGINT), live.messages
        return live

    with ThreadPoolExecutor(len(MOMENTS)) as pool:
        scripts = [pool.submit(interrupted, number) for number in range(len(MOMENTS))]
        while not all(script.done() for script in scripts):
            speaker.play(sound, RATE)
    for number, script in enumerate(scripts):
        check_whole(script.result(), tmp_path / str(number))


def check_whole(live: LiveScript, folder: Path) -> None:
    """No traceback, no half-written file."""
    assert not any("Traceback" in line for line in live.messages), live.messages
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    for path in folder.glob("*.wav"):
        assert audio_io.read_audio(path)[0].size
    log = folder / "log.jsonl"
    for line in log.read_text().splitlines() if log.exists() else []:
        json.loads(line)
