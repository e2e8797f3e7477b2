"""Loading: sources in their order, the cache, folders of clips, noise, corpora, the table."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, WRAPPER, beep, spread, wav_bytes, zip_bytes
from waiting import PATIENCE

import audio_io
import config
import corpora
import dataset_loader
from corpora import folder as folder_corpus
from corpora import fsdd, registry
from corpora.clips import Clips
from corpora.registry import Request
from dataset_loader import load_folder, load_fsdd, load_noise, load_training_clips

ROOT = Path(__file__).parent.parent
AUDIO = config.AudioSettings()
NOWHERE = "http://127.0.0.1:1/v1.0.10.zip"
FEW_VOICES = config.SyntheticSettings.only(espeak_clips=20, other_words=4)


@pytest.fixture
def data(tmp_path: Path) -> config.DataSettings:
    """Settings under which nothing is found yet."""
    return config.DataSettings(
        root=tmp_path / "data",
        fsdd_archive=None,
        fsdd_url=NOWHERE,
        own_dir=tmp_path / "own",
        more_speakers_dir=None,
        other_words_dir=None,
    )


@pytest.fixture
def named(
    data: config.DataSettings, small_release: dict[str, bytes], tmp_path: Path
) -> config.DataSettings:
    """Settings that name an archive of the small release."""
    path = tmp_path / "elsewhere.zip"
    path.write_bytes(zip_bytes(small_release))
    return replace(data, fsdd_archive=path)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpora.download.BACK_OFF_SECONDS", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def write_clips(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav_bytes(beep(number % 10, 0, 0)))
    return folder


def unpack_small(small_release: dict[str, bytes], folder: Path) -> Path:
    return spread(small_release, folder) / WRAPPER / "recordings"


def test_labels_come_from_the_names_and_samples_from_the_files(named, small_release):
    clips = load_fsdd(named, AUDIO)
    assert len(clips) == 200 and list(clips.names) == sorted(clips.names)
    for i in (0, 77, 199):
        assert clips.names[i] == f"{clips.labels[i]}_{clips.speakers[i]}_{clips.takes[i]}"
        content = small_release[f"{WRAPPER}recordings/{clips.names[i]}.wav"]
        assert np.array_equal(clips.waveform(i), audio_io.read_audio(content)[0])
    assert set(clips.corpus) == {"fsdd"} and clips.sample_rate == 8000


def test_what_the_user_names_comes_before_what_is_unpacked(named, small_release):
    unpacked = unpack_small(small_release, named.root)
    assert fsdd.find_fsdd(named) == named.fsdd_archive
    assert fsdd.find_fsdd(replace(named, fsdd_archive=None)) == unpacked
    assert len(load_fsdd(replace(named, fsdd_archive=None), AUDIO)) == 200


def test_a_named_archive_that_does_not_exist_is_told_not_passed_over(named, small_release):
    unpack_small(small_release, named.root)
    with pytest.raises(config.UserError, match="nosuch.zip: no such archive.*three ways"):
        load_fsdd(replace(named, fsdd_archive=Path("nosuch.zip")), AUDIO)


def test_the_environment_names_the_archive(monkeypatch, tmp_path):
    monkeypatch.setenv("FSDD_ARCHIVE", str(tmp_path / "x.zip"))
    assert config.DataSettings().fsdd_archive == tmp_path / "x.zip"


def test_other_rates_are_resampled_into_a_cache_of_their_own(named):
    slow = load_fsdd(named, AUDIO)
    fast = load_fsdd(named, config.AudioSettings(sample_rate=16000))
    assert fast.sample_rate == 16000
    np.testing.assert_allclose(fast.durations, slow.durations, atol=2 / 8000)
    caches = sorted(path.name for path in (named.root / "cache").glob("*.npz"))
    assert caches == ["fsdd-16000.npz", "fsdd-8000.npz"]


def count_decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    decoded, original = [], fsdd.read_verified

    def counted(source: Path) -> dict[str, np.ndarray]:
        decoded.append(source)
        return original(source)

    monkeypatch.setattr(fsdd, "read_verified", counted)
    return decoded


def test_the_cache_is_used_until_the_archive_changes(named, small_release, monkeypatch):
    decoded = count_decodings(monkeypatch)
    first, second = load_fsdd(named, AUDIO), load_fsdd(named, AUDIO)
    assert len(decoded) == 1 and np.array_equal(first.samples, second.samples)
    members = dict(list(small_release.items())[:-1])
    named.fsdd_archive.write_bytes(zip_bytes(members))
    with pytest.raises(config.UserError, match=r"1 missing \(9_bob_9\)"):
        load_fsdd(named, AUDIO)


@pytest.mark.parametrize("change", ["alter", "remove", "add"])
def test_the_cache_notices_changed_files_in_a_folder(data, small_release, change):
    place = unpack_small(small_release, data.root)
    load_fsdd(data, AUDIO)
    if change == "remove":
        (place / "3_bob_3.wav").unlink()
    else:
        path = place / ("3_bob_3.wav" if change == "alter" else "3_bob_10.wav")
        before = path.stat() if path.exists() else None
        path.write_bytes(small_release[f"{WRAPPER}recordings/3_bob_3.wav"][:-2] + b"\x01\x01")
        if before:  # an edit that hides itself
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    kind = {"alter": "altered", "remove": "missing", "add": "stray"}[change]
    with pytest.raises(config.UserError, match=f"1 {kind}.* .3_bob_"):
        load_fsdd(data, AUDIO)


def test_a_damaged_cache_is_made_anew(named):
    whole = load_fsdd(named, AUDIO)
    cache = named.root / "cache" / "fsdd-8000.npz"
    cache.write_bytes(cache.read_bytes()[:5000])
    assert np.array_equal(load_fsdd(named, AUDIO).samples, whole.samples)
    assert cache.stat().st_size > 5000


def test_without_a_place_for_the_cache_loading_goes_on(named, capsys):
    named.root.write_text("a file where the data folder should be")
    assert len(load_fsdd(named, AUDIO)) == 200
    assert "warning: no cache for faster loading" in capsys.readouterr().err


def test_the_real_fsdd_loads_several_times_faster_from_its_cache(fsdd_archive_path, tmp_path):
    data = config.DataSettings(fsdd_archive=fsdd_archive_path, root=tmp_path)
    loaded, seconds = [], []
    for _ in range(3):
        began = time.perf_counter()
        loaded.append(load_fsdd(data, AUDIO))
        seconds.append(time.perf_counter() - began)
    assert np.array_equal(loaded[0].samples, loaded[2].samples)
    assert min(seconds[1:]) < seconds[0] / 3


def test_the_real_fsdd_has_fifty_takes_of_each_digit_and_speaker(fsdd_clips):
    cells = np.unique(
        np.stack([fsdd_clips.labels.astype(str), fsdd_clips.speakers]), axis=1, return_counts=True
    )[1]
    assert len(fsdd_clips) == 3000 and cells.tolist() == [50] * 60
    assert fsdd_clips.durations.min() > 0.1 and fsdd_clips.durations.max() < 2.5
    split = dataset_loader.official_split(fsdd_clips, 0.1, 0)
    assert (len(split.train), len(split.validation), len(split.test)) == (2400, 300, 300)


def test_a_folder_is_read_with_its_subfolders(tmp_path):
    folder = write_clips(
        tmp_path / "clips",
        "7_ann_0.wav",
        "room/8_bob_1.wav",
        "room/deep/bed_c_d_2.wav",
        "Seven_eve_12.wav",
        "oh_eve_0.wav",
    )
    clips = load_folder(folder, AUDIO)
    rows = dict(
        zip(
            clips.names,
            zip(clips.labels, clips.speakers, clips.takes, clips.corpus, strict=True),
            strict=True,
        )
    )
    assert rows == {
        "7_ann_0": (7, "ann", 0, "clips"),
        "8_bob_1": (8, "bob", 1, "room"),
        "bed_c_d_2": (config.REJECT, "c_d", 2, "room"),
        "Seven_eve_12": (7, "eve", 12, "clips"),
        "oh_eve_0": (config.REJECT, "eve", 0, "clips"),
    }
    assert set(load_folder(folder, AUDIO, corpus="mine").corpus) == {"mine"}


def test_a_folder_of_any_rate_and_width_is_brought_to_one(tmp_path):
    time_s = np.arange(48000) / 48000
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_s)
    soundfile.write(tmp_path / "1_a_0.flac", np.stack([tone, tone], axis=1), 48000, "PCM_24")
    soundfile.write(tmp_path / "1_a_1.wav", tone[::6], 8000, "PCM_16")
    clips = load_folder(tmp_path, AUDIO)
    assert clips.durations.tolist() == [1.0, 1.0]
    middle = slice(500, 7500)
    np.testing.assert_allclose(clips.waveform(0)[middle], clips.waveform(1)[middle], atol=1e-3)


def test_bad_files_are_named_skipped_and_counted(tmp_path, capsys):
    folder = write_clips(tmp_path, "7_ann_0.wav", "ann.wav", "12_ann_0.wav", "7_ann.wav")
    (folder / "1_ann_0.wav").write_bytes(b"")
    (folder / "2_ann_0.wav").write_bytes(b"not a sound")
    soundfile.write(folder / "3_ann_0.wav", np.full(100, np.nan), RATE, "FLOAT")
    soundfile.write(folder / "4_ann_0.wav", np.zeros(0), RATE)
    assert load_folder(folder, AUDIO).names.tolist() == ["7_ann_0"]
    told = capsys.readouterr().err
    for name in ("ann.wav", "12_ann_0", "7_ann.wav", "1_ann_0", "2_ann_0", "3_ann_0", "4_ann_0"):
        assert re.search(rf"skipped .*{name}", told)
    assert f"7 of 8 files in {folder} skipped" in told


def test_many_bad_files_are_counted_and_only_some_named(tmp_path, capsys):
    folder = write_clips(tmp_path, "7_ann_0.wav", *(f"bad{i}.wav" for i in range(30)))
    load_folder(folder, AUDIO)
    assert len(capsys.readouterr().err.splitlines()) == folder_corpus.NAMED_FILES + 1


def test_a_folder_with_nothing_usable_is_refused(tmp_path):
    with pytest.raises(config.UserError, match="no usable sound file in it .0 found"):
        load_folder(tmp_path, AUDIO)
    write_clips(tmp_path, "misnamed.wav")
    with pytest.raises(config.UserError, match="no usable sound file in it .1 found"):
        load_folder(tmp_path, AUDIO)
    assert load_folder(tmp_path, AUDIO, label_from_name=False).labels.tolist() == [config.REJECT]
    with pytest.raises(config.UserError, match="no such folder"):
        load_folder(tmp_path / "nowhere", AUDIO)


@pytest.mark.slow
def test_the_unseen_speakers_are_all_read(unseen_speakers_dir, capsys):
    clips = load_folder(unseen_speakers_dir, AUDIO)
    counts = dict(zip(*np.unique(clips.corpus, return_counts=True), strict=True))
    assert counts == {
        "allison": 10,
        "audiomnist_0to3": 392,
        "iitg": 400,
        "inspektral": 20,
        "speech_commands": 107,
    }
    assert clips.labels.max() == 9 and capsys.readouterr().err == ""


def test_out_of_vocabulary_words_are_non_digits(non_digits_dir):
    clips = load_folder(non_digits_dir, AUDIO)
    assert len(clips) == 173 and set(clips.labels) == {config.REJECT}


def test_noise_is_resampled_and_bad_files_are_skipped(tmp_path, capsys):
    soundfile.write(tmp_path / "rain.flac", np.random.default_rng(0).normal(0, 0.1, 32000), 16000)
    soundfile.write(tmp_path / "tick.wav", np.full(40, 0.1), 8000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    rain, tick = load_noise(tmp_path, 8000)
    assert rain.shape == (16000,) and tick.shape == (40,) and rain.dtype == np.float32
    assert "broken.wav" in capsys.readouterr().err


def test_an_empty_or_missing_noise_folder_is_refused(tmp_path):
    with pytest.raises(config.UserError, match="no usable sound file"):
        load_noise(tmp_path, 8000)
    with pytest.raises(config.UserError, match="no such folder"):
        load_noise(tmp_path / "nowhere", 8000)


def test_long_backgrounds_are_accepted_as_noise(noise_dir):
    noises = load_noise(noise_dir / "speech_commands", 8000)
    assert len(noises) == 6 and max(map(len, noises)) > 60 * 8000


def test_fsdd_alone(named):
    fsdd, extra, corpora = load_training_clips(replace(named, corpora="fsdd"), AUDIO, FEW_VOICES, 0)
    assert len(fsdd) == 200 and len(extra) == 0 and corpora == "fsdd"


def test_auto_is_fsdd_and_synthetic(named):
    pytest.importorskip("espeakng_loader")
    fsdd, extra, corpora = load_training_clips(named, AUDIO, FEW_VOICES, 0)
    assert len(fsdd) == 200 and set(extra.corpus) == {"synthetic"} and corpora == "fsdd+synthetic"


def test_auto_without_fsdd_shouts_and_takes_synthetic_speakers(data, no_pause, capsys):
    pytest.importorskip("espeakng_loader")
    fsdd, extra, corpora = load_training_clips(data, AUDIO, FEW_VOICES, 0)
    assert fsdd is None and len(extra) and corpora == "synthetic"
    told = capsys.readouterr().err
    assert "!!! NO REAL SPEECH (FSDD)" in told and "!" * 90 in told and "three ways" in told


@pytest.mark.parametrize("fault", ["mistyped", "damaged"])
def test_auto_never_passes_over_an_archive_that_is_named(named, no_pause, fault):
    if fault == "mistyped":
        data, message = replace(named, fsdd_archive=Path("/typo.zip")), "typo.zip: no such archive"
    else:
        named.fsdd_archive.write_bytes(named.fsdd_archive.read_bytes()[:-5000])
        data, message = named, "elsewhere.zip: truncated"
    with pytest.raises(config.UserError, match=message):
        load_training_clips(data, AUDIO, FEW_VOICES, 0)


def test_auto_never_passes_over_a_damaged_copy(data, small_release):
    (unpack_small(small_release, data.root) / "3_bob_3.wav").unlink()
    with pytest.raises(config.UserError, match="1 missing .3_bob_3."):
        load_training_clips(data, AUDIO, FEW_VOICES, 0)


def test_fsdd_asked_for_by_name_must_be_there(data, no_pause):
    with pytest.raises(config.UserError, match="three ways to get FSDD"):
        load_training_clips(replace(data, corpora="fsdd,synthetic"), AUDIO, FEW_VOICES, 0)


def break_espeak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)  # importing it raises ImportError


def test_without_espeak_training_goes_on_with_fsdd_alone(named, monkeypatch, capsys):
    break_espeak(monkeypatch)
    fsdd, extra, corpora = load_training_clips(named, AUDIO, FEW_VOICES, 0)
    assert len(fsdd) == 200 and len(extra) == 0 and corpora == "fsdd"
    told = capsys.readouterr().err
    assert "!!! NO SYNTHETIC SPEAKERS" in told and "pip install" in told


def test_with_neither_fsdd_nor_espeak_there_is_nothing_to_train_on(data, no_pause, monkeypatch):
    break_espeak(monkeypatch)
    with pytest.raises(config.UserError, match="three ways to get FSDD.*pip install"):
        load_training_clips(data, AUDIO, FEW_VOICES, 0)


def test_own_recordings_and_folders_are_extra(named, tmp_path):
    write_clips(named.own_dir, "1_me_0.wav", "2_me_0.wav")
    folder = write_clips(tmp_path / "friends", "3_zoe_0.wav")
    corpora = f" fsdd , own,{folder},own"
    fsdd, extra, names = load_training_clips(replace(named, corpora=corpora), AUDIO, FEW_VOICES, 0)
    assert len(fsdd) == 200 and names == "fsdd+own+friends"
    assert extra.names.tolist() == ["1_me_0", "2_me_0", "3_zoe_0"]
    assert extra.corpus.tolist() == ["own", "own", "friends"]


@pytest.mark.parametrize(
    ("corpora", "message"),
    [
        ("fsdd,fsddd", "'fsddd' is neither auto, .*fsdd, .*synthetic nor a folder or CSV"),
        ("own", "no recordings of your own yet"),
        (",", "names nothing"),
    ],
)
def test_unknown_missing_and_empty_corpora_are_refused(named, corpora, message):
    with pytest.raises(config.UserError, match=message):
        load_training_clips(replace(named, corpora=corpora), AUDIO, FEW_VOICES, 0)


def load_with_warnings(capsys, data: config.DataSettings) -> tuple[Clips, str]:
    clips = load_training_clips(data, AUDIO, FEW_VOICES, 0)[1]
    return clips, capsys.readouterr().err


def test_names_that_begin_with_the_speaker_are_doubted_and_read_by_a_pattern(
    data, tmp_path, capsys
):
    folder = write_clips(tmp_path / "clips", "anna_0_0.wav", "anna_3_1.wav", "ben_3_0.wav")
    data = replace(data, corpora=str(folder))
    clips, told = load_with_warnings(capsys, data)
    assert set(clips.labels) == {config.REJECT}
    assert "ALL 3 CLIPS ARE NON-DIGITS" in told and "SPEAKERS ARE CALLED 0, 3" in told
    assert "--data.pattern" in told and "!" * 90 in told
    clips, told = load_with_warnings(capsys, replace(data, pattern="speaker_label_take"))
    assert clips.labels.tolist() == [0, 3, 3] and told == ""
    assert clips.speakers.tolist() == ["anna", "anna", "ben"]


def test_a_hash_that_reads_as_a_word_is_doubted(data, tmp_path, capsys):
    folder = write_clips(tmp_path / "clips", "7_ann_0.wav", "bed_ann_0.wav", "deadbeef_7_0.wav")
    told = load_with_warnings(capsys, replace(data, corpora=str(folder)))[1]
    assert "HASHES ARE TAKEN FOR WORDS: deadbeef." in told


def test_usual_folders_are_not_doubted(data, tmp_path, capsys):
    folder = write_clips(tmp_path / "clips", "7_ann_0.wav", "bed_ann_0.wav", "01/3_01_0.wav")
    assert load_with_warnings(capsys, replace(data, corpora=f"folder:{folder}"))[1] == ""


def test_the_labels_are_printed_and_a_missing_class_is_loud(small_clips, capsys):
    training = small_clips.subset(small_clips.labels != 7)
    dataset_loader.report_labels(training, training.subset(training.labels != 3))
    printed = capsys.readouterr()
    table = [line.split() for line in printed.out.splitlines()]
    assert table[1] == ["small,", "training", *["20"] * 7, "0", "20", "20", "0", "0", "2"]
    assert table[2][5] == "0"
    assert "!!! NO CLIP OF 7 TO TRAIN ON" in printed.err
    assert "!!! VALIDATION LACKS 3:" in printed.err
    dataset_loader.report_labels(small_clips, small_clips)
    assert capsys.readouterr().err == ""


NEW_CORPUS = """\
\"\"\"Beeps that stand for digits.\"\"\"

from pathlib import Path

from corpora.clips import Clips
from corpora.folder import load_folder
from corpora.registry import Request, register

FOLDER = Path({folder!r})


@register("beeps", licence="CC0", about="beeps that stand for digits", place=lambda request: FOLDER)
def load(request: Request) -> Clips:
    return load_folder(FOLDER, request.audio, corpus="beeps")
"""


def test_a_new_corpus_is_one_short_file(data, small_files, tmp_path, monkeypatch):
    text = NEW_CORPUS.format(folder=str(spread(small_files, tmp_path / "clips")))
    assert len(text.splitlines()) <= 25
    (tmp_path / "added" / "beeps.py").parent.mkdir()
    (tmp_path / "added" / "beeps.py").write_text(text)
    monkeypatch.setattr(corpora, "__path__", [*corpora.__path__, str(tmp_path / "added")])
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry.known()))
    monkeypatch.delitem(sys.modules, "corpora.beeps", raising=False)
    fsdd_clips, clips, names = load_training_clips(
        replace(data, corpora="beeps"), AUDIO, FEW_VOICES, 0
    )
    assert fsdd_clips is None and len(clips) == 200 and names == "beeps"
    split = dataset_loader.speaker_split(clips, "ada", 0.1, 0)
    assert (len(split.train), len(split.validation), len(split.test)) == (90, 10, 100)
    beeps = registry.known()["beeps"]
    assert beeps.licence == "CC0" and beeps.place(Request(data, AUDIO)) == tmp_path / "clips"


def test_the_table_counts_and_measures(small_clips):
    lines = dataset_loader.describe(small_clips).splitlines()
    assert lines[0].split()[:11] == [*config.DIGITS, "all"]
    assert lines[1].split()[:12] == ["ada", *["10"] * 10, "100"]
    assert lines[3].split()[:12] == ["all", *["20"] * 10, "200"]
    median, shortest, longest, level = map(float, lines[3].split()[12:])
    assert 0.05 <= shortest <= median <= longest <= 0.1 and -20 < level < -5
    assert lines[-1].startswith("200 clips of 2 speakers, 0.3 minutes, 8000 Hz")


def run_script(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "dataset_loader.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_the_script_verifies_and_prints_the_table(fsdd_archive_path, tmp_path, monkeypatch):
    monkeypatch.delenv("MORE_SPEAKERS_DIR", raising=False)
    monkeypatch.delenv("OTHER_WORDS_DIR", raising=False)
    done = run_script("--data.root", str(tmp_path), "--data.fsdd-archive", str(fsdd_archive_path))
    assert done.returncode == 0 and done.stderr == ""
    table = done.stdout.split("\n\n")[0].splitlines()
    rows = {line.split()[0]: line.split() for line in table}
    assert rows["fsdd"][1:4] == ["3000", "6", "0.36"] and rows["fsdd"][-1] == str(fsdd_archive_path)
    assert "CC BY-SA 4.0" in done.stdout
    assert rows["own"][-3:] == rows["synthetic"][-3:] == ["not", "there", "yet"]
    assert "3000 clips of 6 speakers, 21.9 minutes, 16000 Hz" in done.stdout
    assert re.search(r"yweweler( +50){10} +500", done.stdout)


def test_the_script_tells_other_programs_the_same(fsdd_archive_path, tmp_path, monkeypatch):
    monkeypatch.delenv("MORE_SPEAKERS_DIR", raising=False)
    monkeypatch.delenv("OTHER_WORDS_DIR", raising=False)
    words = ("--data.root", str(tmp_path), "--data.fsdd-archive", str(fsdd_archive_path))
    done = run_script("--json", *words)
    facts = {item["corpus"]: item for item in json.loads(done.stdout)["corpora"]}
    fsdd = {"clips": 3000, "digits": 3000, "non_digits": 0, "speakers": 6}
    assert fsdd.items() <= facts["fsdd"].items() and round(facts["fsdd"]["hours"], 2) == 0.36
    assert facts["fsdd"]["place"] == str(fsdd_archive_path) and facts["fsdd"]["licence"]
    assert facts["own"]["clips"] is facts["own"]["place"] is None


def test_the_script_ends_with_one_line_on_a_truncated_archive(tmp_path):
    archive = tmp_path / "fsdd.zip"
    archive.write_bytes(b"PK\x03\x04 and then nothing")
    done = run_script("--data.root", str(tmp_path / "data"), "--data.fsdd-archive", str(archive))
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"error: .*fsdd.zip: truncated.*\n", done.stderr)
