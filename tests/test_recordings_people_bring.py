"""Every kind of recording that phones, browsers, recorders and editors make, and what is none."""

import io
import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from untrained import read_json, settings_maker, write_beeps

import audio_io
import config
from audio import decoding
from protocols import recordings
from protocols.recordings import FORMATS, with_libsndfile, with_pyav

av = pytest.importorskip("av")

ROOT = Path(__file__).resolve().parent.parent
RATE = 16000
REMARKS = {
    "WAV whose header says length 0": "header says length 0",
    "WAV whose header promises more": "file shorter than its header says",
    "float, 8 times too loud": "8 times full scale",
    "float, scaled as 16-bit integers": "times full scale",
    "float, peak -80 dBFS": "very quiet",
    "24 bit, peak -80 dBFS": "very quiet",
    "stereo, one phase inverted": "cancel each other",
    "stereo, one channel noisy": "channel 2 of 2 alone",
    "5.1, voice in the centre": "channel 3 of 6 alone",
}
"""What is to be told of a format's recordings; of the others nothing."""


def tone(seconds: float = 0.6, hertz: float = 440.0, rate: int = RATE) -> np.ndarray:
    """A tone between two pauses, float32 (samples,)."""
    time = np.arange(round(rate * seconds)) / rate
    waveform = 0.5 * np.sin(2 * np.pi * hertz * time) * (np.abs(time - seconds / 2) < seconds / 4)
    return waveform.astype(np.float32)


def noise_and_silence() -> np.ndarray:
    """Two seconds of noise and one of nothing: a codec spends its bits on the former."""
    return np.pad(0.1 * np.random.default_rng(3).standard_normal(2 * RATE), (0, RATE))


def encode(name: str, waveform: np.ndarray) -> bytes:
    try:
        return FORMATS[name](waveform, RATE, np.random.default_rng(0))
    except (ImportError, ValueError, LookupError) as error:
        pytest.skip(f"{name} can't be made here: {error}")


def refusal(source) -> str:
    with pytest.raises(audio_io.AudioError) as refused:
        audio_io.read_audio(source)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def fast_start(seconds: float) -> bytes:
    """An m4a with its index before the sound."""
    return with_pyav(tone(seconds), RATE, "ipod", "aac", options={"movflags": "faststart"})


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_sound_that_went_in_and_says_what_is_odd(name, capfd):
    recording = audio_io.read_recording(encode(name, tone()), RATE)
    waveform = recording.waveform
    assert waveform.dtype == np.float32 and waveform.ndim == 1 and np.abs(waveform).max() <= 1
    assert recording.seconds == pytest.approx(0.6, abs=0.13)  # codecs pad to whole frames
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    assert spectrum.argmax() * RATE / len(waveform) == pytest.approx(440, abs=5)
    assert audio_io.rms(waveform) > 0.02
    told = " ".join(recording.remarks)
    assert REMARKS[name] in told if name in REMARKS else not told
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", (".mp3", ".wav", ".txt", ""))
def test_the_name_decides_nothing(tmp_path, suffix):
    path = tmp_path / f"voice{suffix}"
    path.write_bytes(encode("m4a, AAC (iPhone)", tone()))
    assert audio_io.read_audio(path, RATE)[0].size > RATE // 2


@pytest.mark.slow
def test_the_digit_of_synthetic_speakers_is_right_in_every_format():
    from corpora.synthetic import synthesize
    from recognition.recognizer import Recognizer

    try:
        made = synthesize(config.SyntheticSettings.only(espeak_clips=30), 77, RATE)
        recognizer = Recognizer()
    except config.UserError as error:
        pytest.skip(str(error))
    assert len(set(made.speakers)) >= 3 and len(made) >= 20
    right = {}
    for name, make in FORMATS.items():
        try:
            results, read = recordings.answer(recognizer, made, make, 0)
        except (ImportError, ValueError, LookupError):
            continue
        assert read["unreadable"] == 0, (name, read["errors"])
        right[name] = int(results.right("vote").sum())
    assert len(right) > 35
    unaltered = right["WAV 16 bit (unaltered)"]
    assert unaltered > 0.8 * len(made)
    assert {name: n for name, n in right.items() if n < unaltered - 3} == {}


# --- what can't be used ---------------------------------------------------------------------------


def silent_video() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        track = output.add_stream("mpeg4", rate=10, width=32, height=32, pix_fmt="yuv420p")
        for _ in range(5):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            output.mux(track.encode(picture))
        output.mux(track.encode(None))
    return file.getvalue()


def encrypted() -> bytes:
    options = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    return with_pyav(tone(), RATE, "mp4", "aac", options=options)


@pytest.mark.parametrize(
    "make, reason",
    [
        (silent_video, "holds video, but no sound"),
        (encrypted, "encrypted"),
        (lambda: b"Dear all, the recording is attached.\n" * 30, "not a readable sound file"),
        (lambda: encode("m4a, AAC (iPhone)", tone())[:-500], "cut off before its end"),
        (lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "not a readable sound file"),
        (lambda: encode("AMR-NB 7.95 kbit/s", tone())[:6], "not a readable|no samples"),
    ],
)
def test_what_holds_no_sound_is_refused_in_one_true_line(tmp_path, make, reason, capfd):
    path = tmp_path / "voice.m4a"
    path.write_bytes(make())
    assert re.search(reason, refusal(path)) and "voice.m4a" in refusal(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "name", ("MP3", "m4a, AAC (iPhone)", "WebM, Opus (browser)", "wma", "FLAC")
)
def test_damage_gives_a_waveform_or_a_line_and_prints_nothing(name, capfd):
    whole, random = encode(name, tone()), np.random.default_rng(1)
    for trial in range(60):
        damaged = bytearray(whole[: random.integers(20, len(whole))] if trial % 3 == 0 else whole)
        for place in random.integers(0, len(damaged), random.integers(1, 30)):
            damaged[place] = random.integers(256)
        try:
            assert np.isfinite(audio_io.read_audio(bytes(damaged), 8000)[0]).all()
        except audio_io.AudioError as error:
            assert "\n" not in str(error)
    assert capfd.readouterr().err == ""


def long_m4a(path: Path, hours: float) -> None:
    """A recording of hours, from ten encoded seconds again and again."""
    source = io.BytesIO(with_pyav(tone(10), RATE, "ipod", "aac"))
    with av.open(source) as ten, av.open(str(path), "w", format="ipod") as output:
        track = output.add_stream_from_template(ten.streams.audio[0])
        packets = [packet for packet in ten.demux() if packet.size]
        for number in range(round(hours * 360)):
            for index, packet in enumerate(packets):
                copy = av.Packet(bytes(packet))
                copy.stream, copy.time_base = track, packet.time_base
                copy.pts = copy.dts = (number * len(packets) + index) * 1024
                output.mux(copy)


def test_three_hours_of_m4a_are_refused_in_bounded_memory(tmp_path):
    long_m4a(tmp_path / "long.m4a", 3)
    tracemalloc.start()
    try:
        assert refusal(tmp_path / "long.m4a").endswith("s long; at most 60 s are accepted")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "109" in refusal(tmp_path / "long.m4a")  # its header's 10,9xx s
    assert peak < 4 * 4 * 60 * RATE  # a few times what one accepted minute takes


def test_many_channels_and_high_rates_are_refused_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_VALUES", 40_000)
    content = with_libsndfile(np.zeros((8000, 8), np.int16), RATE, "FLAC")
    assert "million samples" in refusal(content)
    for name in ("m4a, ALAC", "WebM, Opus (browser)"):
        assert "million samples" in refusal(encode(name, tone(3)))


def test_without_pyav_only_what_needs_it_is_refused_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for name in ("m4a, AAC (iPhone)", "WebM, Opus (browser)", "AMR-NB 7.95 kbit/s", "wma"):
        monkeypatch.delitem(sys.modules, "av")
        content = encode(name, tone())
        monkeypatch.setitem(sys.modules, "av", None)
        assert "need PyAV: pip install av" in refusal(content)
    assert "PyAV" not in refusal(b"Dear all,\n" * 50)
    assert audio_io.read_audio(encode("WAV GSM 6.10 (voicemail)", tone()))[0].size


# --- headers that lie -----------------------------------------------------------------------------


CUT = {
    "m4a": lambda: fast_start(2),
    "webm": lambda: with_pyav(audio_io.resample(tone(2), RATE, 48000), 48000, "webm", "libopus"),
    "mp3": lambda: with_libsndfile(tone(2), RATE, "MP3", "MPEG_LAYER_III"),
    "ogg": lambda: with_libsndfile(noise_and_silence(), RATE, "OGG", "VORBIS"),
    "flac": lambda: with_libsndfile(tone(2), RATE, "FLAC"),
} | {
    kind: lambda kind=kind: with_libsndfile(tone(2), RATE, kind)
    for kind in ("WAV", "AIFF", "CAF", "W64", "RF64", "AU", "VOC")
}


@pytest.mark.parametrize("kind", CUT)
def test_a_file_cut_short_is_read_and_told_whatever_its_kind(kind):
    content = CUT[kind]()
    whole = audio_io.read_recording(content)
    cut = audio_io.read_recording(content[: len(content) * 6 // 10])
    assert whole.remarks == () and cut.seconds < 0.9 * whole.seconds
    assert re.search("file shorter|cut off|damaged", " ".join(cut.remarks))


def test_lengths_that_are_unknown_or_guessed_are_read_to_the_end():
    flac = bytearray(with_libsndfile(tone(3) + 0.01, RATE, "FLAC"))
    flac[21] &= 0xF0  # the number of samples: 36 bits from the middle of this byte
    flac[22:26] = bytes(4)
    recording = audio_io.read_recording(bytes(flac))
    assert recording.seconds == 3 and recording.remarks == ()
    with pytest.raises(audio_io.AudioError, match="more than 2 s long; at most 2 s"):
        audio_io.read_audio(bytes(flac), max_seconds=2)
    file = io.BytesIO()
    soundfile.write(
        file, noise_and_silence(), RATE, "MPEG_LAYER_III", format="MP3", bitrate_mode="VARIABLE"
    )
    mp3 = file.getvalue()
    second = mp3.index(mp3[:2], 4)  # the first frame only says how many follow
    assert b"Xing" in mp3[:second] and soundfile.info(io.BytesIO(mp3[second:])).duration < 2
    assert audio_io.read_recording(mp3[second:]).seconds == pytest.approx(3, abs=0.2)


def test_an_empty_data_chunk_before_other_chunks_is_empty():
    content = recordings._without_length(with_libsndfile(tone(), RATE))[:44]
    assert "holds no samples" in refusal(content)
    notes = b"LIST" + (10).to_bytes(4, "little") + b"INFOISFT\0\0"
    assert "holds no samples" in refusal(content + notes)


def test_a_streamed_wav_of_unknown_length_is_nothing_odd():
    content = bytearray(with_libsndfile(tone(), RATE))
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    recording = audio_io.read_recording(bytes(content))
    assert recording.remarks == () and len(recording.waveform) == len(tone())


# --- pipes ----------------------------------------------------------------------------------------

READ = "import sys, audio_io; print(len(audio_io.read_audio(sys.argv[1], 8000)[0]))"


@pytest.mark.parametrize("place", ("-", "/dev/stdin"))
@pytest.mark.parametrize("name", ("WAV 16 bit (unaltered)", "m4a, AAC (iPhone)"))
def test_a_pipe_is_read(place, name):
    if place != "-" and not Path(place).exists():
        pytest.skip("this system has no /dev/stdin")
    content = encode(name, tone())
    done = subprocess.run(
        [sys.executable, "-c", READ, place], input=content, capture_output=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert abs(int(done.stdout) - 4800) < 1000


def test_a_pipe_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_STREAM_BYTES", 2**20)

    class Endless(io.RawIOBase):
        def read(self, size=-1):
            return bytes(size)

    assert "more than 1 MB in a pipe" in refusal(Endless())


@pytest.mark.slow
def test_a_batch_over_all_kinds_has_a_row_for_each_file(tmp_path):
    names = ("WAV GSM 6.10 (voicemail)", "m4a, AAC (iPhone)", "WebM, Opus (browser)", "W64")
    folder = tmp_path / "inbox"
    folder.mkdir()
    for number, name in enumerate(names):
        suffix = (".wav", ".M4A", ".webm", ".w64")[number]
        (folder / f"{number}{suffix}").write_bytes(encode(name, tone()))
    (folder / "4.m4a").write_text("no sound\n")
    (folder / "notes.txt").write_text("notes\n")
    command = [
        sys.executable,
        "batch_inference.py",
        f"{folder}/*",
        "--output",
        tmp_path / "o.jsonl",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "notes.txt" in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert len(rows) == 5 and [row["error"] is not None for row in rows] == [False] * 4 + [True]


def test_protocol_formats_scores_each_format(tmp_path, small_release, monkeypatch):
    kept = ("WAV 16 bit (unaltered)", "m4a, AAC (iPhone)", "float, 8 times too loud")
    monkeypatch.setattr(recordings, "FORMATS", {name: FORMATS[name] for name in kept})
    names = [f"{digit}_{name}_0" for digit in range(10) for name in ("ann", "carl")]
    write_beeps(tmp_path / "unseen" / "beeps", names)
    settings = settings_maker(tmp_path, small_release)(
        protocol="formats", unseen_dir=tmp_path / "unseen"
    )
    report = recordings.formats(settings)
    report.write(settings.results_dir)
    scores = read_json(settings.results_dir / "formats.json")["formats"]
    assert list(scores) == list(kept)
    assert all(row["right"]["total"] == 20 and not row["unreadable"] for row in scores.values())
    assert scores[kept[2]]["with_remark"] == 20 and scores[kept[0]]["with_remark"] == 0
    assert all(name in report.text for name in kept)
