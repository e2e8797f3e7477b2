"""Reading whatever people have, and refusing with a reason what can't be used."""

import io
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import audio_io

RATES = (8000, 11025, 16000, 22050, 44100, 48000, 96000)
WIDTHS = {
    "wav": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    "flac": ("PCM_S8", "PCM_16", "PCM_24"),
    "aiff": ("PCM_16", "PCM_24"),
    "ogg": ("VORBIS",),
    "mp3": ("MPEG_LAYER_III",),
}
TOLERANCE = {
    "PCM_U8": 0.01,
    "PCM_S8": 0.01,
    "ULAW": 0.02,
    "ALAW": 0.02,
    "VORBIS": 0.1,
    "MPEG_LAYER_III": 0.1,
}


def tone(rate: int = 8000, seconds: float = 0.5, hertz: float = 440.0) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def encoded(waveform: np.ndarray, rate: int, kind: str = "wav", width: str = "PCM_16") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, waveform, rate, format=kind.upper(), subtype=width)
    return stream.getvalue()


def pitch(waveform: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(spectrum.argmax() * rate / len(waveform))


@pytest.mark.parametrize("kind, width", [(k, w) for k, widths in WIDTHS.items() for w in widths])
def test_every_format_and_width_from_path_bytes_and_stream(tmp_path, kind, width):
    rate = 16000 if kind == "mp3" else 8000
    content = encoded(tone(rate), rate, kind, width)
    path = tmp_path / f"tone.{kind}"
    path.write_bytes(content)
    readings = [
        audio_io.read_audio(source)[0] for source in (path, str(path), content, io.BytesIO(content))
    ]
    for waveform in readings:
        assert waveform.dtype == np.float32 and waveform.ndim == 1
        assert np.array_equal(waveform, readings[0])
    middle = slice(rate // 8, rate // 4)
    if kind != "mp3":  # MP3 shifts the start by its encoder's delay
        error = np.abs(readings[0][middle] - tone(rate)[middle]).max()
        assert error < TOLERANCE.get(width, 1e-3)
    assert pitch(readings[0], rate) == pytest.approx(440, abs=8)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", (1, 2, 8))
def test_every_rate_and_channel_count_becomes_8_khz_mono(rate, channels):
    content = encoded(np.stack([tone(rate)] * channels, axis=1), rate, "wav")
    waveform, got = audio_io.read_audio(content, 8000)
    assert got == 8000
    assert abs(len(waveform) - 4000) <= 1
    middle = slice(800, 3200)
    assert np.abs(waveform[middle] - tone(8000)[middle]).max() < 0.01


def test_own_rate_is_kept_unless_another_is_asked_for():
    waveform, rate = audio_io.read_audio(encoded(tone(44100), 44100))
    assert rate == 44100 and len(waveform) == 22050


def test_mono_is_the_mean_of_the_channels():
    content = encoded(np.stack([tone(), tone(hertz=600)], axis=1), 8000)
    mean = (tone() + tone(hertz=600)) / 2
    assert np.abs(audio_io.read_audio(content)[0] - mean).max() < 1e-3


def test_resampling_leaves_no_alias_above_half_the_rate():
    content = encoded(tone(48000, hertz=6000), 48000)
    assert audio_io.rms(audio_io.read_audio(content, 8000)[0][400:-400]) < 1e-3


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "empty"),
        (b"RIFF", "not a readable"),
        (b"no sound at all" * 50, "not a readable"),
        (bytes(4096), "not a readable"),
        (encoded(np.zeros(0, np.float32), 8000), "no samples"),
        (encoded(np.full(800, np.nan, np.float32), 8000, "wav", "FLOAT"), "NaN"),
        (encoded(np.full(800, np.inf, np.float32), 8000, "wav", "FLOAT"), "infinite"),
    ],
)
def test_bad_files_are_refused_by_name_from_path_and_bytes(tmp_path, content, reason):
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(audio_io.AudioError, match=reason) as refusal:
        audio_io.read_audio(path)
    assert "bad.wav" in str(refusal.value) and "\n" not in str(refusal.value)
    with pytest.raises(audio_io.AudioError, match=reason):
        audio_io.read_audio(content)


def test_missing_files_and_folders_are_refused(tmp_path):
    for path, reason in (("none.wav", "no such file"), ("", "is a folder"), ("*.wav", "no file m")):
        with pytest.raises(audio_io.AudioError, match=reason):
            audio_io.read_audio(tmp_path / path)


def test_ten_minutes_are_refused_before_they_are_decoded(tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(600 * 8000, np.int16), 8000)
    with pytest.raises(audio_io.AudioError, match="600 s long; at most 60 s"):
        audio_io.read_audio(tmp_path / "long.wav")
    assert len(audio_io.read_audio(tmp_path / "long.wav", max_seconds=600)[0]) == 4_800_000


def test_truncated_wav_gives_what_there_is_or_a_reason():
    content = encoded(tone(), 8000)
    for cut in range(0, len(content), 211):
        try:
            waveform, _ = audio_io.read_audio(content[:cut])
        except audio_io.AudioError:
            continue
        assert np.abs(waveform - tone()[: len(waveform)]).max() < 1e-3


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_anything_but_a_waveform_or_an_audio_error(content):
    for header in (b"", encoded(tone(), 8000)[:44], encoded(tone(), 8000, "flac")[:60]):
        try:
            waveform, rate = audio_io.read_audio(header + content, 8000)
        except audio_io.AudioError:
            continue
        assert np.isfinite(waveform).all() and rate == 8000


@pytest.mark.parametrize("kind", ("wav", "flac", "ogg", "mp3", "aiff"))
def test_damaged_headers_raise_nothing_else_and_print_no_traceback(kind, capfd):
    random = np.random.default_rng(0)
    whole = encoded(tone(16000), 16000, kind, WIDTHS[kind][-1])
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        for place in random.integers(0, 120, random.integers(1, 5)):
            damaged[place] = random.integers(256)
        try:
            waveform, _ = audio_io.read_audio(bytes(damaged), 8000)
            assert np.isfinite(waveform).all()
        except audio_io.AudioError:
            refused += 1
    assert refused > 10
    assert "Traceback" not in capfd.readouterr().err  # the MP3 decoder prints lines of its own


def test_an_impossible_rate_in_the_header_is_refused():
    for rate in (0, 1, 2**31 - 1, 2**32 - 1):
        damaged = bytearray(encoded(tone(), 8000))
        damaged[24:28] = rate.to_bytes(4, "little")
        with pytest.raises(audio_io.AudioError):
            audio_io.read_audio(bytes(damaged), 8000)


def test_silence_is_read_as_silence():
    assert not audio_io.read_audio(encoded(np.zeros(800, np.float32), 8000))[0].any()


def test_written_files_come_back(tmp_path):
    audio_io.write_audio(tmp_path / "new" / "a.wav", tone() * 4, 8000)
    waveform, rate = audio_io.read_audio(tmp_path / "new" / "a.wav")
    assert rate == 8000 and np.abs(waveform - np.clip(tone() * 4, -1, 1)).max() < 1e-4
    assert soundfile.info(tmp_path / "new" / "a.wav").subtype == "PCM_16"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.wav"]


def test_find_audio_is_sorted_deep_and_skips_the_rest(tmp_path):
    for name in ("b.WAV", "a/c.flac", "a/.hidden.wav", "note.txt", "z.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in audio_io.find_audio(tmp_path)] == ["c.flac", "b.WAV", "z.mp3"]


def test_levels():
    assert audio_io.dbfs(1.0) == 0 and audio_io.dbfs(0.1) == pytest.approx(-20)
    assert audio_io.dbfs(0.0) == -120
    assert audio_io.rms(np.zeros(0)) == 0
    assert audio_io.rms(tone()) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)


def test_what_systems_leave_behind_is_passed_over_and_the_rest_is_named(tmp_path):
    for name in (
        "A.M4A",
        "b.opus",
        "c.Wave",
        "._A.m4a",
        "__MACOSX/d.wav",
        "Thumbs.db",
        "desktop.ini",
        ".DS_Store",
        "notes.txt",
        "deep/er/e.w64",
        "deep/list.pdf",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = audio_io.find_audio(tmp_path)
    assert [path.name for path in files] == ["A.M4A", "b.opus", "c.Wave", "e.w64"]
    assert [path.name for path in files.left_out] == ["list.pdf", "notes.txt"]
    assert files.remark().startswith("2 left out") and "notes.txt" in files.remark()
    assert audio_io.find_audio(tmp_path / "__MACOSX").remark() == ""


def link(place, target):
    try:
        place.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("this system lets nobody make links")


def test_linked_folders_are_followed_and_loops_end(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.wav").touch()
    (tmp_path / "here").mkdir()
    link(tmp_path / "here" / "inside", tmp_path / "elsewhere")
    link(tmp_path / "elsewhere" / "loop", tmp_path / "here")
    assert list(audio_io.find_audio(tmp_path / "here")) == [tmp_path / "here" / "inside" / "a.wav"]


def test_a_folder_that_can_t_be_read_is_told(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("root reads everything")
        assert "1 folders can't be read" in audio_io.find_audio(tmp_path).remark()
    finally:
        closed.chmod(0o700)


def test_words_of_a_command_line_become_files(tmp_path, monkeypatch):
    for name in ("a b.wav", "c.flac", "[1].wav", "notes.txt", "more/d.m4a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    one = [tmp_path / "a b.wav"]
    for word in (
        tmp_path / "a b.wav",
        f'"{tmp_path / "a b.wav"}"',
        f"\u201c{tmp_path / 'a b.wav'}\u201d",
        "~/a b.wav",
        (tmp_path / "a b.wav").as_uri(),
        f"{tmp_path}/a*.wav",
    ):
        assert audio_io.expand_paths([word]).paths == one, word
    assert audio_io.expand_paths([tmp_path / "[1].wav"]).paths == [tmp_path / "[1].wav"]
    wild = audio_io.expand_paths([f"{tmp_path}/*"])
    assert [path.name for path in wild] == ["[1].wav", "a b.wav", "c.flac", "d.m4a"]
    assert [path.name for path in wild.left_out] == ["notes.txt"]
    assert len(audio_io.expand_paths([tmp_path, *one, f"{tmp_path}/**/*.m4a"])) == 4  # each once
    assert audio_io.expand_paths(["-"]).paths == [Path("-")]
    for word, reason in (("no/such.wav", "no such file"), (f"{tmp_path}/*.mp3", "no file matches")):
        (path,) = audio_io.expand_paths([word])
        with pytest.raises(audio_io.AudioError, match=reason):
            audio_io.read_audio(path)


def test_any_name_can_be_opened_and_printed(tmp_path):
    names = [b"7_\xff\xfe.wav", b"7_line\nbreak.wav", "цифра семь.wav".encode()]
    for name in names:
        try:
            Path(os.fsdecode(tmp_path), os.fsdecode(name)).write_bytes(encoded(tone(), 8000))
        except (OSError, UnicodeError):
            pytest.skip("this system refuses such names")
    files = audio_io.find_audio(tmp_path)
    assert len(files) == 3
    for path in files:
        recording = audio_io.read_recording(path)
        assert recording.waveform.size and recording.source.isprintable()
        recording.source.encode("utf-8")


def test_ctrl_c_is_not_lost_while_a_recording_is_written(tmp_path, monkeypatch):
    """Called back by a C library, Python would print it and go on."""

    class Interrupted(io.BytesIO):
        def tell(self) -> int:
            raise KeyboardInterrupt

    monkeypatch.setattr(audio_io, "io", SimpleNamespace(BytesIO=Interrupted))
    with pytest.raises(KeyboardInterrupt):
        audio_io.write_audio(tmp_path / "a.wav", tone(), 8000)
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_read_back_to_the_bit(tmp_path):
    whole = np.arange(-32768, 32768, dtype=np.int16)
    audio_io.write_audio(tmp_path / "a.wav", audio_io.to_float(whole), 8000)
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == 8000 and soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"
    np.testing.assert_array_equal(samples, whole)
