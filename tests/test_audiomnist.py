"""AudioMNIST in its real layouts, filled with made-up clips: found, fetched, split."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import beep, spread, wav_bytes, zip_bytes

import audio_io
import config
import dataset_loader
import utils
from corpora import archives, audiomnist
from corpora.registry import Request, Unavailable

GITHUB = "AudioMNIST-master/"
AUDIO = config.AudioSettings(sample_rate=16000)


def members(speakers=(1, 12, 60), takes: int = 1, prefix: str = f"{GITHUB}data/") -> dict:
    """Clips at 48 kHz by their names in the repository, with its metadata and a script."""
    facts = {
        f"{speaker:02d}": {"gender": "female" if speaker in (12, 60) else "male", "age": 1234}
        for speaker in speakers
    }
    files = {
        f"{prefix}{speaker:02d}/{digit}_{speaker:02d}_{take}.wav": wav_bytes(
            audio_io.resample(beep(digit, speaker, take), 8000, 48000), 48000
        )
        for speaker in speakers
        for digit in range(10)
        for take in range(takes)
    }
    files[f"{prefix}audioMNIST_meta.txt"] = json.dumps(facts).encode()
    return {f"{GITHUB}README.md": b"AudioMNIST", f"{GITHUB}recording_scripts/a.py": b"#"} | files


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    monkeypatch.delenv("AUDIOMNIST_DIR", raising=False)
    return Request(config.DataSettings(root=tmp_path / "root", fsdd_archive=None), AUDIO)


@pytest.mark.parametrize("place", ["", "AudioMNIST-master", "AudioMNIST-master/data"])
def test_a_copy_is_found_wherever_its_speakers_lie(request_, tmp_path, monkeypatch, place):
    copy = spread(members(), tmp_path / "copy")
    monkeypatch.setenv("AUDIOMNIST_DIR", str(copy / place))
    clips = audiomnist.load(request_)
    assert len(clips) == 30 and set(clips.speakers) == {"01", "12", "60"}
    assert set(clips.corpus) == {"audiomnist"} and clips.sample_rate == 16000
    assert clips.names[3] == "3_01_0" and clips.labels[3] == 3
    expected = audio_io.resample(beep(3, 1, 0), 8000, 16000)
    assert np.corrcoef(expected, clips.waveform(3)[: len(expected)])[0, 1] > 0.99
    folder = audiomnist.find(request_.data)
    assert audiomnist.speaker_facts(folder)["12"]["gender"] == "female"


@pytest.mark.parametrize("prefix", ["", "Audio_MNIST_Archive/", f"{GITHUB}data/"])
def test_an_archive_that_is_named_is_unpacked_once(request_, tmp_path, monkeypatch, prefix):
    archive = tmp_path / "Audio_MNIST_Archive.zip"
    archive.write_bytes(zip_bytes(members(range(1, 11), prefix=prefix)))
    monkeypatch.setenv("AUDIOMNIST_DIR", str(archive))
    clips = audiomnist.load(request_)
    assert len(clips) == 100 and len(set(clips.speakers)) == 10
    before = {path: path.stat().st_mtime_ns for path in request_.data.root.rglob("*.wav")}
    assert np.array_equal(audiomnist.load(request_).samples, clips.samples)
    assert before == {path: path.stat().st_mtime_ns for path in request_.data.root.rglob("*.wav")}
    assert len(before) == 100


def test_a_changed_copy_is_read_anew(request_, tmp_path, monkeypatch):
    copy = spread(members(), tmp_path / "copy")
    monkeypatch.setenv("AUDIOMNIST_DIR", str(copy))
    audiomnist.load(request_)
    next(copy.rglob("7_60_0.wav")).unlink()
    assert len(audiomnist.load(request_)) == 29


def test_it_is_a_corpus_by_name(request_, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOMNIST_DIR", str(spread(members(), tmp_path / "copy")))
    data = config.DataSettings(corpora="audiomnist", root=tmp_path / "root", fsdd_archive=None)
    fsdd, extra, names = dataset_loader.load_training_clips(
        data, AUDIO, config.SyntheticSettings(), 0
    )
    assert fsdd is None and len(extra) == 30 and names == "audiomnist"


def test_half_a_copy_is_told(request_, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(audiomnist, "SPEAKER_CLIPS", 20)
    copy = spread(members(takes=2), tmp_path / "copy")
    next(copy.rglob("7_60_0.wav")).unlink()
    monkeypatch.setenv("AUDIOMNIST_DIR", str(copy))
    audiomnist.load(request_)
    told = capsys.readouterr().err
    assert "half a copy" in told and "of 1 speakers: 60 (19 of 20)" in told


@pytest.mark.parametrize("content", ["nothing", "empty", "other", "rubbish"])
def test_a_copy_that_is_none_is_refused(request_, tmp_path, monkeypatch, content):
    copy = tmp_path / "copy"
    monkeypatch.setenv("AUDIOMNIST_DIR", str(copy))
    if content == "empty":
        copy.mkdir()
    elif content == "other":
        spread({"01/0_02_0.wav": b"", "3_ann_0.wav": b""}, copy)
    elif content == "rubbish":
        copy.write_bytes(b"<html>")
    with pytest.raises(config.UserError, match=str(copy)):
        audiomnist.load(request_)


def test_without_a_copy_the_variable_the_size_and_the_command_are_told(request_):
    with pytest.raises(Unavailable) as caught:
        audiomnist.load(request_)
    for part in ("AUDIOMNIST_DIR", "about 1 GB", "python -m corpora.audiomnist"):
        assert part in str(caught.value)
    assert not request_.data.root.exists()  # it is never fetched unasked


@pytest.fixture
def published(server, monkeypatch):
    monkeypatch.setattr(audiomnist, "URL", server.url)
    monkeypatch.setattr(audiomnist, "CLIPS", 30)
    server.content, server.plan = zip_bytes(members()), ["rest"]
    return server


def test_it_is_fetched_on_request_with_its_size_said_before(
    published, request_, monkeypatch, capsys
):
    words = ["corpora.audiomnist", "--data.root", str(request_.data.root)]
    monkeypatch.setattr("sys.argv", words)
    published.plan, published.cut_at = ["cut", "rest"], len(published.content) // 2
    with pytest.raises(SystemExit) as stop:
        utils.main(audiomnist.run, audiomnist.FetchSettings, audiomnist.__doc__)
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert told.index("about 1 GB") < told.index("30 clips of 3 speakers")
    assert published.requests[1]  # gone on with
    seen = sorted(name for name in os.listdir(request_.data.root) if not name.startswith("."))
    assert seen == ["audiomnist"]
    audiomnist.fetch(request_.data)
    assert len(published.requests) == 2 and len(audiomnist.load(request_)) == 30


@pytest.mark.parametrize("fault", ["404", "rubbish", "less", "outside", "bomb", "full"])
def test_a_download_that_is_not_all_of_it_leaves_nothing(
    published, request_, tmp_path, monkeypatch, fault
):
    files = members()
    if fault in ("404", "rubbish"):
        published.plan = [fault]
    elif fault == "less":
        del files[f"{GITHUB}data/60/7_60_0.wav"]
    elif fault == "outside":
        files["../01/0_01_0.wav"] = b""
    elif fault == "bomb":
        monkeypatch.setattr(audiomnist, "LIMITS", archives.Limits(10**8, 10))
    elif fault == "full":
        monkeypatch.setattr(Path, "write_bytes", full_disk)
    published.content = zip_bytes(files) if fault != "full" else zip_bytes(members())
    with pytest.raises(Unavailable) as caught:
        audiomnist.fetch(request_.data)
    assert "\n" not in str(caught.value)
    left = [path for path in request_.data.root.iterdir() if path.is_dir()]
    assert left == [] and audiomnist.find(request_.data) is None


def full_disk(path: Path, content: bytes) -> None:
    raise OSError(28, "No space left on device", str(path))


def test_the_folds_are_those_of_the_paper():
    speakers = [f"{speaker:02d}" for speaker in range(1, 61)]
    clips = dataset_loader.Clips.from_waveforms(
        [np.zeros(1)] * 60, [0] * 60, speakers, speakers, [0] * 60, "audiomnist", 8000
    )
    folds = audiomnist.folds(clips)
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested) == list(range(60))  # everybody once
    for fold in folds:
        parts = [set(fold.train), set(fold.validation), set(fold.test)]
        assert [len(part) for part in parts] == [36, 12, 12] and len(set.union(*parts)) == 60
    assert {clips.speakers[i] for i in folds[0].test} >= {"26", "52", "60", "05"}
    assert {clips.speakers[i] for i in folds[1].validation} == {
        clips.speakers[i] for i in folds[0].test
    }
    assert {clips.speakers[i] for i in folds[4].test} >= {"12", "47", "59", "04", "50"}


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b'{"01": 3}', b"\xff"])
def test_damaged_metadata_are_no_metadata(tmp_path, content):
    (tmp_path / audiomnist.METADATA).write_bytes(content)
    assert audiomnist.speaker_facts(tmp_path) == {}
    assert audiomnist.speaker_facts(tmp_path / "nowhere") == {}
