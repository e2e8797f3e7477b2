"""The analyser: what it measures, what it advises, what it saves; no networks, no microphone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from waiting import PATIENCE

import audio_io
import audio_recorder_analyzer
import config
from audio_io import Recording
from audio_recorder_analyzer import AnalyzerSettings, analyze

ROOT = Path(audio_recorder_analyzer.__file__).parent
RATE = 16000


def recording(
    level: float = 0.2,
    noise: float = 1e-4,
    seconds: float = 2.0,
    speech: tuple[tuple[float, float], ...] = ((0.8, 1.2),),
) -> np.ndarray:
    """Noise with stretches of a vowel-like buzz of amplitude `level` in it."""
    time = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 130 * k * time) / (1 + abs(k - 5)) for k in range(1, 25))
    buzz *= level / np.abs(buzz).max()
    envelope = (
        sum(np.sin(np.pi * np.clip((time - start) / (end - start), 0, 1)) for start, end in speech)
        if speech
        else np.zeros(len(time))
    )
    hiss = noise * np.random.default_rng(0).standard_normal(len(time))
    return (buzz * envelope + hiss).astype(np.float32)


def advice(waveform: np.ndarray, rate: int = RATE) -> str:
    return " | ".join(analyze(Recording(waveform, rate, live=True))[0].advice)


def script(*words: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "audio_recorder_analyzer.py", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_a_good_recording_is_measured_and_praised():
    report, cleaned = analyze(Recording(recording(), RATE, "good.wav"))
    assert report.source == "good.wav" and report.sample_rate == RATE
    assert report.duration_s == 2.0
    assert report.peak_dbfs == pytest.approx(-14, abs=0.5)
    assert report.rms_dbfs == pytest.approx(audio_io.dbfs(audio_io.rms(recording())), abs=0.06)
    assert report.noise_floor_dbfs == pytest.approx(-83, abs=3)  # half the band is resampled away
    assert report.snr_db > 40
    assert len(report.segments) == 1
    assert report.segments[0][0] <= 0.82 and report.segments[0][1] >= 1.18
    assert report.advice == ["good: nothing to improve"]
    assert len(cleaned.original) == 2 * config.AudioSettings.sample_rate


@pytest.mark.parametrize(
    "words, waveform",
    [
        ("clipped", np.clip(recording(8.0), -1, 1)),
        ("very quiet: move closer", recording(0.004, 1e-6)),
        ("DC offset", recording() + 0.1),
        ("very noisy", recording(0.1, 0.03)),
        ("some noise", recording(0.2, 0.008)),
        ("no speech found", recording(noise=0.01, speech=())),
        ("nothing but zeros", np.zeros(RATE, np.float32)),
        ("starts within speech", recording(speech=((-0.2, 0.4),))),
        ("ends within speech", recording(speech=((1.6, 2.2),))),
        ("2 stretches of speech", recording(seconds=4.0, speech=((0.5, 0.9), (2.5, 3.0)))),
    ],
)
def test_each_fault_has_its_advice_and_a_good_recording_none(words, waveform):
    assert words in advice(waveform)
    assert words not in advice(recording())


def test_muted_microphones_are_told_from_silent_rooms():
    assert "muted" in advice(np.zeros(RATE, np.float32))
    assert "muted" not in advice(recording(noise=1e-4, speech=()))


def test_a_file_of_zeros_gets_no_advice_on_the_microphone_of_this_computer():
    report, _ = analyze(Recording(np.zeros(RATE, np.float32), RATE))
    assert "nothing but zeros" in report.advice[0]
    assert "muted" not in report.advice[0] and "Privacy" not in report.advice[0]


MICROPHONE_WORDS = ("microphone", "closer", "speak", "gain", "record", "try another", "say one")


@pytest.mark.parametrize(
    "waveform",
    [
        np.clip(recording(8.0), -1, 1),
        recording(0.004, 1e-6),
        recording() + 0.1,
        recording(0.1, 0.03),
        recording(0.2, 0.008),
        recording(noise=0.01, speech=()),
        recording(seconds=4.0, speech=((0.5, 0.9), (2.5, 3.0))),
    ],
)
def test_files_get_the_fault_and_no_advice_on_microphones(waveform):
    report, _ = analyze(Recording(waveform, RATE))
    live, _ = analyze(Recording(waveform, RATE, live=True))
    assert report.advice != ["good: nothing to improve"]
    assert not [word for word in MICROPHONE_WORDS for line in report.advice if word in line]
    assert [line.split(": ")[0] for line in live.advice] == report.advice
    assert [word for word in MICROPHONE_WORDS for line in live.advice if word in line]


def test_what_the_reader_remarks_is_in_the_report(tmp_path, capsys):
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, 8 * recording(0.9), RATE, "FLOAT")
    for json_line in (False, True):
        settings = AnalyzerSettings(files=(str(loud),), save=False, json=json_line)
        assert audio_recorder_analyzer.run(settings) == 0
        printed = capsys.readouterr().out
        assert "times full scale: scaled down" in printed and "microphone" not in printed


def test_a_low_rate_is_told():
    assert "4000 Hz" in advice(audio_io.resample(recording(), RATE, 4000), 4000)


@pytest.mark.parametrize("size", (0, 1, 10, 159, 1000))
def test_tiny_recordings_are_reported_too(size):
    report, _ = analyze(Recording(recording()[:size], RATE))
    assert report.segments == [] and report.snr_db is None and report.advice
    json.dumps(report.advice)
    assert "SNR           unknown" in audio_recorder_analyzer.as_text(report)


def test_files_are_analysed_and_saved_and_the_bad_one_is_told(tmp_path):
    soundfile.write(tmp_path / "one.wav", recording(), RATE)
    soundfile.write(tmp_path / "two.flac", recording(noise=0.01, speech=()), RATE)
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    done = script(
        tmp_path / "one.wav",
        tmp_path / "bad.wav",
        "--wav",
        tmp_path / "two.flac",
        "--recordings-dir",
        tmp_path / "out",
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1 and "bad.wav: not a readable sound file" in done.stderr
    assert "16000 Hz, 2.00 s" in done.stdout and "good: nothing to improve" in done.stdout
    assert "no speech found" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{stem}_{end}"
        for stem in ("one", "two")
        for end in ("original.wav", "cleaned.wav", "comparison.png")
    )
    original, rate = audio_io.read_audio(tmp_path / "out" / "one_original.wav")
    assert rate == RATE and np.abs(original - recording()).max() < 1e-4
    cleaned, rate = audio_io.read_audio(tmp_path / "out" / "one_cleaned.wav")
    assert rate == config.AudioSettings().sample_rate and 0.35 < len(cleaned) / rate < 0.8
    whole, _ = audio_io.read_audio(tmp_path / "out" / "two_cleaned.wav")
    assert len(whole) == 2 * rate, "without speech the whole recording is kept"
    assert (tmp_path / "out" / "one_comparison.png").read_bytes().startswith(b"\x89PNG")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_no_file_is_ever_replaced(tmp_path, capsys):
    """Results of files of one name, of an earlier run, and what the user has put there."""
    out = tmp_path / "out"
    for folder, sound in (("a", recording()), ("b", recording(level=0.1))):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "clip.wav", sound, RATE)
    out.mkdir()
    (out / "clip_original.wav").write_bytes(b"the user's own")
    before = content(out)
    for folder in ("a", "b"):
        settings = AnalyzerSettings(
            files=(str(tmp_path / folder / "clip.wav"),), recordings_dir=out
        )
        assert audio_recorder_analyzer.run(settings) == 0
        after = content(out)
        assert before.items() <= after.items() and len(after) == len(before) + 3
        printed = capsys.readouterr().out
        assert all(name in printed for name in after.keys() - before.keys())
        before = after
    original, _ = audio_io.read_audio(out / "clip-3_original.wav")
    assert np.abs(original - recording(level=0.1)).max() < 1e-4


def test_results_of_a_long_name_are_saved_too(tmp_path):
    soundfile.write(tmp_path / f"{'x' * 240}.wav", recording(), RATE)
    settings = AnalyzerSettings(
        files=(str(tmp_path / f"{'x' * 240}.wav"),), recordings_dir=tmp_path
    )
    assert audio_recorder_analyzer.run(settings) == 0
    assert len(list(tmp_path.iterdir())) == 4


def test_a_folder_that_cannot_be_written_costs_the_saving_not_the_report(tmp_path):
    for name in ("one.wav", "two.wav"):
        soundfile.write(tmp_path / name, recording(), RATE)
    (tmp_path / "blocker").write_text("not a folder")
    for words, reports in (((), 2), (("--json",), 2)):
        done = script(
            "one.wav", "two.wav", "--recordings-dir", "blocker/results", *words, cwd=tmp_path
        )
        assert done.returncode == 0
        assert done.stdout.count("nothing to improve") == reports
        assert done.stderr.count("\n") == 1 and "going on without saving" in done.stderr


def test_the_report_is_printed_before_anything_is_saved(tmp_path, monkeypatch, capsys):
    soundfile.write(tmp_path / "one.wav", recording(), RATE)

    def stopped(path, waveform, sample_rate):
        raise KeyboardInterrupt

    monkeypatch.setattr(audio_io, "write_audio", stopped)
    with pytest.raises(KeyboardInterrupt):
        audio_recorder_analyzer.run(
            AnalyzerSettings(files=(str(tmp_path / "one.wav"),), recordings_dir=tmp_path / "out")
        )
    assert "nothing to improve" in capsys.readouterr().out


def test_a_plot_that_cannot_be_saved_leaves_the_sounds(tmp_path, monkeypatch, capsys):
    import visualization

    def locked(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(visualization, "plot_comparison", locked)
    soundfile.write(tmp_path / "one.wav", recording(), RATE)
    settings = AnalyzerSettings(files=(str(tmp_path / "one.wav"),), recordings_dir=tmp_path / "out")
    assert audio_recorder_analyzer.run(settings) == 0
    printed = capsys.readouterr()
    assert len(content(tmp_path / "out")) == 2 and printed.out.count("  saved ") == 2
    assert "Permission denied" in printed.err


def test_folders_and_control_characters_in_names(tmp_path):
    (tmp_path / "folder").mkdir()
    soundfile.write(tmp_path / "folder" / "one.wav", recording(), RATE)
    if sys.platform != "win32":
        soundfile.write(tmp_path / "folder" / "t\x1bo.wav", recording(), RATE)
    done = script("folder", "--no-save", cwd=tmp_path)
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr
    assert done.stdout.count("nothing to improve") == len(list((tmp_path / "folder").iterdir()))


def test_json_is_one_line_a_recording_and_nothing_is_saved_when_told(tmp_path):
    for name in ("one.wav", "two.wav"):
        soundfile.write(tmp_path / name, recording(), RATE)
    done = script("--wav", "one.wav", "two.wav", "--json", "--no-save", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [report.pop("source") for report in reports] == ["one.wav", "two.wav"]
    assert reports[0] == reports[1]
    assert reports[0]["sample_rate"] == RATE and reports[0]["saved"] == []
    assert len(list(tmp_path.iterdir())) == 2


def test_no_networks_and_no_torch_are_loaded(tmp_path):
    soundfile.write(tmp_path / "one.wav", recording(), RATE)
    code = (
        "import sys, audio_recorder_analyzer as a;"
        f"a.run(a.AnalyzerSettings(files=({str(tmp_path / 'one.wav')!r},),"
        "save=False));"
        "sys.exit(any(m in sys.modules for m in ('torch', 'sounddevice', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=PATIENCE).returncode == 0


def test_mistakes_are_one_line(tmp_path):
    for words, code in (
        (("--seconds", "0"), 2),
        (("--sideways",), 2),
        ((tmp_path / "none.wav",), 1),
    ):
        done = script(*words)
        assert done.returncode == code
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_lost_microphone_leaves_what_was_recorded(monkeypatch, capsys):
    from live import devices, microphone

    def lose(*arguments):
        raise devices.DeviceLost("the microphone stopped", kept, RATE)

    monkeypatch.setattr(microphone, "record", lose)
    kept = recording()
    result = audio_recorder_analyzer.record(AnalyzerSettings())
    assert np.array_equal(result.waveform, kept) and result.sample_rate == RATE
    assert result.source.startswith("recording_")
    kept = recording()[:100]
    with pytest.raises(config.UserError):
        audio_recorder_analyzer.record(AnalyzerSettings())
