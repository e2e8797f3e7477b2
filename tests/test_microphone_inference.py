"""The live script without a microphone: files, messages, what is saved."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from buzz import word
from waiting import PATIENCE, wait_until

import audio_io
import config
import utils
import visualization
from audio_io import Recording
from live.plot_process import PlotProcess
from live.recording_store import RecordingStore, append_line, next_take
from live.session import LiveScriptSettings, as_label, microphone_recording
from recognition.recognizer import RecognitionResult, Recognizer

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "saved_models"
RATE = 8000


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    if not list(MODELS.glob("*.pt")):
        pytest.skip("no trained networks in saved_models (python train.py makes them)")
    return Recognizer(config.DecisionSettings(models_dir=MODELS), config.CleaningSettings())


def script(*words: str, sabotage: str = "", folder: Path) -> subprocess.CompletedProcess:
    code = (
        f"{sabotage}\nimport runpy, sys\nsys.argv = ['microphone_inference.py', *{words!r}]\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"runpy.run_path({str(ROOT / 'microphone_inference.py')!r}, run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )


NO_PORTAUDIO = "import ctypes.util; ctypes.util.find_library = lambda name: None"
WITH_MODELS = ("--decision.models-dir", str(MODELS))


def test_files_are_answered_without_portaudio(recognizer, tmp_path):
    for name, sound in (("a.wav", word()), ("b.flac", np.zeros(RATE, np.float32))):
        audio_io.write_audio(tmp_path / name, sound, RATE)
    (tmp_path / "broken.wav").write_bytes(b"RIFF....")
    done = script(
        "--wav",
        "a.wav",
        "broken.wav",
        "b.flac",
        "--json",
        "--timing",
        "--live.no-plots",
        *WITH_MODELS,
        sabotage=NO_PORTAUDIO,
        folder=tmp_path,
    )
    assert done.returncode == 1  # one file was bad, the others are answered all the same
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["source"] == "a.wav" and set(first["models"]) == {"cnn", "rnn"}
    assert 0 <= first["confidence"] <= 1 and first["best_guess"] in range(10)
    assert first["digit"] in (None, first["best_guess"])
    assert {"highpass", "vad", "networks", "computing"} <= set(first["timing_ms"])
    assert second["digit"] is None and second["remarks"] == ["nothing but zeros"]
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(errors) == 1 and "broken.wav" in errors[0] and "Traceback" not in done.stderr
    assert len(list((tmp_path / "live_recordings").glob("*_clean.wav"))) == 2


def test_the_sample_recording_and_a_folder_are_recognised_by_name_alone(recognizer, tmp_path):
    (tmp_path / "folder" / "below").mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "seven.wav", tmp_path / "folder" / "below")
    audio_io.write_audio(tmp_path / "folder" / "noise.wav", np.zeros(RATE, np.float32), RATE)
    sample = str(ROOT / "docs" / "seven.wav")
    done = script(sample, "folder", "--no-save", *WITH_MODELS, folder=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    shown = [line for line in done.stdout.splitlines() if not line.startswith("  ")]
    assert [line.split(": ")[1].split()[0] for line in shown] == ["7", "7", "no"]
    quiet = script(sample, "folder", "--no-save", "--quiet", *WITH_MODELS, folder=tmp_path)
    assert [line.split(": ")[1] for line in quiet.stdout.splitlines()] == ["7", "7"]


def test_a_name_with_control_characters_is_printed_escaped(recognizer, tmp_path):
    if sys.platform == "win32":
        pytest.skip("no such names on Windows")
    name = "a\x1b[31m\nb.wav"
    shutil.copy(ROOT / "docs" / "seven.wav", tmp_path / name)
    done = script(name, "no\x1bsuch.wav", "--no-save", *WITH_MODELS, folder=tmp_path)
    assert done.stdout.count("\n") == 1 and r"a\x1b[31m\nb.wav: 7" in done.stdout
    assert done.stderr == "error: no\\x1bsuch.wav: no such file\n"


def test_without_portaudio_the_microphone_is_one_line(tmp_path):
    done = script(sabotage=NO_PORTAUDIO, folder=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "apt-get install libportaudio2" in done.stderr


def test_without_networks_one_line_says_where_some_are(recognizer, tmp_path):
    audio_io.write_audio(tmp_path / "a.wav", word(), RATE)
    done = script("a.wav", "--decision.models-dir", "nowhere", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and str(MODELS) in done.stderr


@pytest.mark.parametrize(
    "words",
    [("--live.block-ms", "1"), ("--nosuch",), ("--live.user", "a_b"), ("--live.endpoint-ms", "x")],
)
def test_wrong_settings_are_one_line(words, tmp_path):
    done = script(*words, folder=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = "import sys, microphone_inference; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    for module in ("torch", "librosa", "matplotlib", "scipy", "sounddevice", "noisereduce"):
        assert f"'{module}'" not in done.stdout


@pytest.mark.parametrize(
    ("text", "digit"),
    [("7", 7), (" Seven ", 7), ("zero", 0), ("10", None), ("", None), ("²", None), ("-1", None)],
)
def test_a_correction_is_a_digit_or_its_word(text, digit):
    assert as_label(text, config.Vocabulary()) == digit


class Lines(list):
    """Collects what the store says."""

    __call__ = list.append


def store(
    folder: Path, saves: bool = True, plots: bool = False, user: str = "ann"
) -> tuple[RecordingStore, Lines]:
    said = Lines()
    live = config.LiveSettings(recordings_dir=folder, plots=plots, user=user)
    return RecordingStore(live, said.append, saves), said


@pytest.fixture(scope="module")
def answer(recognizer) -> RecognitionResult:
    return recognizer.recognize(Recording(word(), RATE))


def test_an_answer_is_saved_whole(answer, tmp_path):
    keeper, said = store(tmp_path)
    recording = Path(keeper.save(answer))
    again = Path(keeper.save(answer))
    assert recording != again and said == []
    sound, rate = audio_io.read_audio(recording)
    assert rate == RATE
    np.testing.assert_allclose(sound, answer.recording.waveform, atol=1e-4)
    cleaned, _ = audio_io.read_audio(recording.with_name(recording.stem + "_clean.wav"))
    np.testing.assert_allclose(cleaned, answer.speech, atol=1e-4)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["recording"] for line in lines] == [recording.name, again.name]


def test_labelled_clips_are_numbered_and_a_second_label_replaces_the_first(
    answer, recognizer, tmp_path
):
    keeper, _ = store(tmp_path)
    other = recognizer.recognize(Recording(word(0.4), RATE))
    assert keeper.label(answer, 7).name == "7_ann_0.wav"
    assert keeper.label(answer, 3).name == "3_ann_0.wav"
    assert keeper.label(other, 3).name == "3_ann_1.wav"
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == [
        "3_ann_0.wav",
        "3_ann_1.wav",
    ]
    sound, rate = audio_io.read_audio(tmp_path / "own" / "3_ann_1.wav")
    np.testing.assert_allclose(sound, other.speech, atol=1e-4)


def test_labelled_clips_are_what_training_reads(answer, recognizer, tmp_path):
    import dataset_loader

    keeper, _ = store(tmp_path)
    keeper.label(answer, 7)
    keeper.label(recognizer.recognize(Recording(word(0.4), RATE)), 0)
    clips = dataset_loader.load_folder(tmp_path / "own", config.AudioSettings())
    assert sorted(zip(clips.labels, clips.speakers, strict=True)) == [(0, "ann"), (7, "ann")]


def test_the_next_take_follows_the_largest(tmp_path):
    for name in ("4_ann_0.wav", "4_ann_11.wav", "4_annabel_50.wav", "5_ann_70.wav", "4_ann_x.wav"):
        (tmp_path / name).touch()
    assert next_take(tmp_path, "4", "ann") == 12
    assert next_take(tmp_path, "9", "ann") == 0


def test_an_unwritable_folder_is_told_once_and_answering_goes_on(answer, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    keeper, said = store(blocker / "recordings")
    assert keeper.save(answer) is None and keeper.save(answer) is None
    assert len(said) == 1 and "going on without saving" in said[0] and "\n" not in said[0]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True
        ).returncode
    ):
        pytest.skip("mounting a tiny file system needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_told_once_and_leaves_no_half_files(answer, tiny_disk):
    keeper, said = store(tiny_disk)
    for _ in range(20):
        keeper.save(answer)
    assert len(said) == 1 and "No space left" in said[0]
    for path in tiny_disk.glob("*.wav"):
        assert audio_io.read_audio(path)[0].size
    assert not [path for path in tiny_disk.iterdir() if path.name.startswith(".")]
    for line in (tiny_disk / "log.jsonl").read_text().splitlines():
        json.loads(line)


def test_a_read_only_disk_is_told(answer, tiny_disk):
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    keeper, said = store(tiny_disk)
    assert keeper.save(answer) is None
    assert keeper.label(answer, 3) is None
    assert all("Read-only" in line for line in said)


def test_a_log_line_that_does_not_fit_is_taken_back(tiny_disk):
    log = tiny_disk / "log.jsonl"
    append_line(log, {"first": 1})
    with pytest.raises(OSError):
        append_line(log, {"long": "x" * 100_000})
    assert log.read_text() == '{"first": 1}\n'


@pytest.mark.slow
def test_plots_are_drawn_by_another_process(answer, tmp_path, monkeypatch):
    monkeypatch.setattr(visualization, "plot_comparison", None)  # in this one it can't be drawn
    keeper, said = store(tmp_path, plots=True)
    recording = Path(keeper.save(answer))
    keeper.close(PATIENCE)
    assert said == []
    assert recording.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_plots_that_fall_behind_are_left_out(answer, tmp_path):
    worker = PlotProcess()
    for number in range(60):
        worker.draw(answer.cleaned, RATE, answer.prediction, tmp_path / f"{number}.png")
    assert worker.skipped > 20
    worker.close(0.1)
    for path in tmp_path.glob("[0-9]*.png"):  # ended in the middle, yet no half files
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82")


def test_a_plot_process_that_dies_stops_nothing(answer, tmp_path):
    worker = PlotProcess()
    worker.draw(answer.cleaned, RATE, answer.prediction, tmp_path / "0.png")
    wait_until(lambda: worker._process is not None, "no process to draw")
    worker._process.kill()
    worker._process.wait()
    for number in range(40):
        worker.draw(answer.cleaned, RATE, answer.prediction, tmp_path / f"{number}.png", wait=True)
    assert worker.broken
    assert not worker.close(2)


def test_files_are_named_with_or_without_their_option_and_a_device_in_one_place_only():
    parse = utils.parse_arguments
    settings = parse(LiveScriptSettings, "", ["a.wav", "--device", "usb", "--wav", "b.wav", "c"])
    assert settings.device == "usb" and settings.sources == ("a.wav", "b.wav", "c")
    with pytest.raises(config.UserError):
        parse(LiveScriptSettings, "", ["--live.device", "usb"])
    assert not parse(LiveScriptSettings, "", []).continuous


def test_all_zeros_from_a_microphone_name_the_permission(recognizer):
    result = recognizer.recognize(microphone_recording(np.zeros(RATE, np.float32), RATE))
    (remark,) = result.remarks
    assert "pavucontrol" in remark or "Privacy" in remark
