"""Corpora that are fetched: archives of the published layout, cut again to the last sample."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import beep, data_path, tar_bytes, wav_bytes, zip_bytes
from hypothesis import given
from hypothesis import strategies as st

import audio_io
import config
import dataset_loader
from corpora import an4, archives, cuts, other_words, prepared, sources, speech_commands
from corpora.archives import DataError
from corpora.download import Expected
from corpora.registry import Request

AN4_ROOT = "an4-b567d132f43304e70a2b2eca6077f22255311812"
PICOVOICE_ROOT = "wake-word-benchmark-8491919"
INTENT_ROOT = "speech-to-intent-benchmark-HEAD"
COMMANDS_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Server:
    """Serves a folder on this machine and counts what is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None:
                asked.append(self.path)

        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def address(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return f"http://127.0.0.1:{self.server.server_port}/{name}"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("corpora.download.BACK_OFF_SECONDS", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "served").mkdir()
    served = Server(tmp_path / "served")
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    """Nothing is there yet."""
    data = config.DataSettings(
        root=tmp_path / "data",
        fsdd_archive=None,
        fsdd_url="http://127.0.0.1:1/v1.0.10.zip",
        more_speakers_dir=None,
        more_strings_dir=None,
        other_words_dir=None,
    )
    return Request(data, config.AudioSettings(sample_rate=16000))


# -- fingerprints


def test_a_fingerprint_is_the_sum_that_its_description_says():
    samples = np.random.default_rng(0).integers(-32768, 32768, 200).astype(np.int16)
    marks = cuts.fingerprints(samples)
    assert marks.shape == (137,)
    for place in (0, 1, 136):
        stretch = samples[place : place + 64].tolist()
        total = sum(value * pow(cuts.FACTOR, i, 1 << 64) for i, value in enumerate(stretch))
        assert int(marks[place]) == total % (1 << 64) >> 16
    assert len(cuts.fingerprints(samples[:63])) == 0


@given(st.integers(0, 900), st.integers(200, 400), st.integers(0, 2**31))
def test_a_clip_is_found_wherever_it_was_cut(start, length, seed):
    recording = np.random.default_rng(seed).integers(-50, 50, 1300).astype(np.int16)
    clip = recording[start : start + length]
    finder = cuts.Finder([cuts.cut_of("a", "x_y_0", clip)])
    finder.search(recording[::-1].copy())
    assert not finder.found
    finder.search(recording)
    assert np.array_equal(*finder.found.values(), clip)


def test_a_clip_with_another_last_sample_is_not_taken():
    recording = np.random.default_rng(0).integers(-50, 50, 1300).astype(np.int16)
    finder = cuts.Finder([cuts.cut_of("a", "x_y_0", recording[100:500])])
    recording[499] += 1
    finder.search(recording)
    assert not finder.found


def test_the_shipped_tables_name_the_parts_as_they_are_counted():
    counts: dict[str, int] = {}
    for table in ("an4", "speech_commands", "other_words"):
        for cut in cuts.read_table(sources.TABLES / f"{table}_cuts.txt"):
            counts[cut.folder] = counts.get(cut.folder, 0) + 1
    parts = [*an4.PARTS, *speech_commands.PARTS, *other_words.PARTS[:2]]
    assert counts == {f"{part.kind}/{part.name}": part.clips for part in parts}


# -- small archives of the published layouts


def recording(words: Mapping[str, np.ndarray], seed: int) -> np.ndarray:
    """Clips one after the other with a noisy pause before and after each, int16."""
    rng = np.random.default_rng(seed)
    parts = [rng.integers(-9, 9, 1000).astype(np.int16)]
    for clip in words.values():
        parts += [clip, rng.integers(-9, 9, rng.integers(300, 900)).astype(np.int16)]
    return np.concatenate(parts)


def small_clips(folder: str, names: list[str]) -> dict[cuts.Cut, np.ndarray]:
    made = {}
    for number, name in enumerate(names):
        clip = audio_io.to_int16(beep(number % 10, number % 7, number))
        made[cuts.cut_of(folder, name, clip)] = clip
    return made


def small_an4(monkeypatch, server: Server, tmp_path: Path, spoil: bool = False):
    """AN4 of two speakers: digits and letters in one recording each, behind a local address."""
    parts = (
        prepared.Part(prepared.DIGITS, "an4", 6),
        prepared.Part(prepared.WORDS, "an4_letters", 4),
    )
    digits = small_clips(
        "more_speakers/an4", [f"{d}_an4{s}_0" for s in ("ab", "cd") for d in "123"]
    )
    letters = small_clips(
        "other_words/an4_letters", [f"{w}_an4{s}_0" for s in ("ab", "cd") for w in "xh"]
    )
    clips = {**digits, **letters}
    table = tmp_path / "an4_cuts.txt"
    cuts.write_table(table, clips)
    members = {f"{AN4_ROOT}/README.md": b"AN4", f"{AN4_ROOT}/etc/an4.dic": b"ONE W AH N"}
    for number, speaker in enumerate(("ab", "cd")):
        said = {cut.name: clip for cut, clip in clips.items() if f"an4{speaker}" in cut.name}
        if spoil and speaker == "cd":
            said = {name: clip // 2 for name, clip in said.items()}
        sound = audio_io.to_float(recording(said, number))
        name = f"{AN4_ROOT}/wav/an4_clstk/{speaker}/an25{number}-{speaker}-b.wav"
        members[name] = wav_bytes(sound, 16000)
    members[f"{AN4_ROOT}/wav/an4test_clstk/fcaw/an406-fcaw-b.wav"] = b"not looked at"
    source = replace(
        an4.SOURCE,
        url=server.address("an4.zip", zip_bytes(members)),
        table=str(table),
        folders=tuple(f"{part.kind}/{part.name}" for part in parts),
    )
    monkeypatch.setattr(an4, "PARTS", parts)
    monkeypatch.setattr(an4, "SOURCE", source)
    return clips


def test_an4_is_fetched_once_and_cut_to_the_last_sample(request_, server, tmp_path, monkeypatch):
    clips = small_an4(monkeypatch, server, tmp_path)
    for _ in range(2):
        dataset_loader.fetch("an4", request_)
    assert len(server.asked) == 1
    assert sorted(path.name for path in request_.data.root.iterdir()) == [
        "more_speakers",
        "other_words",
    ]
    loaded = an4.load(request_)
    expected = {cut.name: clip for cut, clip in clips.items()}
    assert set(loaded.names) == set(expected)
    for i, name in enumerate(loaded.names):
        assert np.array_equal(audio_io.to_int16(loaded.waveform(i)), expected[str(name)])
    assert set(loaded.speakers) == {"an4ab", "an4cd"}
    assert set(loaded.labels) == {1, 2, 3, config.REJECT}


def test_another_release_is_refused_named_and_removed(request_, server, tmp_path, monkeypatch):
    small_an4(monkeypatch, server, tmp_path, spoil=True)
    with pytest.raises(DataError, match=r"4 of 10 clips are not in it \(more_speakers/an4/1_an4cd"):
        dataset_loader.fetch("an4", request_)
    assert list(request_.data.root.iterdir()) == []


def test_auto_fetches_a_small_corpus_where_fsdd_was_fetched(
    request_, server, tmp_path, monkeypatch, capsys
):
    small_an4(monkeypatch, server, tmp_path)
    monkeypatch.setattr(dataset_loader, "AUTO", ("an4", "speech_commands"))
    dataset_loader._say_once.cache_clear()

    def load() -> str:
        nothing = config.SyntheticSettings.only()
        return dataset_loader.load_training_clips(request_.data, request_.audio, nothing, 0)[2]

    with pytest.raises(config.UserError, match="an4: not in"):
        load()
    told = capsys.readouterr().err
    assert "going on without an4" in told and "dataset_loader.py --fetch an4" in told
    assert "(2430 MB, with: python dataset_loader.py --fetch speech_commands)" in told
    (request_.data.root / dataset_loader.FSDD_FOLDER).mkdir(parents=True)
    assert load() == "an4"
    assert server.asked and capsys.readouterr().err.count("going on without") == 0


def commands_members() -> dict[str, bytes]:
    """Speech Commands' layout: a folder a word, the lists, backgrounds."""
    members = {
        "./validation_list.txt": b"zero/0a2b400e_nohash_1.wav\n",
        "./testing_list.txt": b"right/0a2b400e_nohash_0.wav\n",
        "./_background_noise_/pink_noise.wav": wav_bytes(beep(1, 1, 1), 16000),
        "./LICENSE": b"CC BY 4.0",
    }
    for number, word in enumerate(("zero", "nine", "right")):
        for take in (0, 1):
            name = f"./{word}/0a2b400e_nohash_{take}.wav"
            members[name] = wav_bytes(beep(number, take, 3), 16000)
    return members


def test_speech_commands_is_fetched_with_its_lists_and_backgrounds(
    request_, server, tmp_path, monkeypatch
):
    members = commands_members()
    taken = {
        ("more_speakers", "0_sc0a2b400e_0"): "./zero/0a2b400e_nohash_1.wav",
        ("more_speakers", "9_sc0a2b400e_0"): "./nine/0a2b400e_nohash_0.wav",
        ("other_words", "right_sc0a2b400e_0"): "./right/0a2b400e_nohash_0.wav",
    }
    table = tmp_path / "cuts.txt"
    samples = {
        key: audio_io.to_int16(audio_io.read_audio(members[n])[0]) for key, n in taken.items()
    }
    cuts.write_table(
        table,
        [cuts.cut_of(f"{k}/speech_commands", name, clip) for (k, name), clip in samples.items()],
    )
    content = tar_bytes(members)
    monkeypatch.setattr(speech_commands, "TABLE", table)
    speech_commands._speakers.cache_clear()
    monkeypatch.setattr(
        speech_commands,
        "SOURCE",
        replace(
            speech_commands.SOURCE,
            url=server.address("sc.tar.gz", content),
            table=str(table),
            expected=Expected(size=len(content), sha256=hashlib.sha256(content).hexdigest()),
        ),
    )
    parts = [
        replace(part, clips=count)
        for part, count in zip(speech_commands.PARTS, (2, 1), strict=True)
    ]
    monkeypatch.setattr(speech_commands, "PARTS", tuple(parts))
    dataset_loader.fetch("speech_commands", request_)
    speech_commands._speakers.cache_clear()
    clips = speech_commands.load(request_)
    assert clips.names.tolist() == [name for _, name in taken]
    assert clips.labels.tolist() == [0, 9, config.REJECT]
    for i, wanted in enumerate(samples.values()):
        assert np.array_equal(audio_io.to_int16(clips.waveform(i)), wanted)
    whole = request_.data.root / speech_commands.FOLDER
    assert (whole / "validation_list.txt").read_bytes() == members["./validation_list.txt"]
    assert (whole / "testing_list.txt").read_bytes() == members["./testing_list.txt"]
    assert len(dataset_loader.load_noise(whole / "_background_noise_", 16000)) == 1
    assert len(dataset_loader.load_folder(whole, request_.audio)) == 6
    assert not (request_.data.root / speech_commands.SOURCE.file).exists()


def test_only_files_of_the_clips_that_are_trained_on_are_looked_at():
    cut = cuts.read_table(speech_commands.TABLE)[0]
    label, speaker, _ = cut.name.split("_")
    word = config.DIGIT_WORDS[int(label)]
    name = f"./{word}/{speaker.removeprefix('sc')}_nohash_0.wav"
    assert speech_commands._chosen(name)
    assert not speech_commands._chosen(name.replace("nohash_0.wav", "x.wav"))
    assert not speech_commands._chosen("./_background_noise_/pink_noise.wav")
    assert not speech_commands._chosen(f"./bed/{speaker.removeprefix('sc')}_nohash_0.wav")


def test_other_words_are_cut_from_both_benchmarks(request_, server, tmp_path, monkeypatch):
    wake = small_clips("other_words/wake_words", [f"alexa_f{i}_0" for i in range(3)])
    intent = small_clips("other_words/intent_words", [f"milk_f{i:03}_0" for i in range(3, 6)])
    intent = {k: v for k, v in intent.items()} | small_clips(
        "other_words/intent_words", [f"x{i}_f1_0" for i in range(0)]
    )
    table = tmp_path / "cuts.txt"
    cuts.write_table(table, [*wake, *intent])
    wake_members = {
        f"{PICOVOICE_ROOT}/audio/alexa/{i}.wav": wav_bytes(
            audio_io.to_float(recording({"a": c}, i)), 16000
        )
        for i, c in enumerate(wake.values())
    }
    whole = audio_io.to_float(recording({c.name: s for c, s in intent.items()}, 9))
    intent_members = {
        f"{INTENT_ROOT}/data/speech/clean/0075d273-51bb-47cb-b323-4437bd0de029.wav": wav_bytes(
            whole, 16000
        ),
        f"{INTENT_ROOT}/data/label/label.json": b"{}",
    }
    archives_ = (zip_bytes(wake_members), zip_bytes(intent_members))
    served = [
        replace(source, url=server.address(f"{i}.zip", content), table=str(table))
        for i, (source, content) in enumerate(zip(other_words.SOURCES, archives_, strict=True))
    ]
    monkeypatch.setattr(other_words, "SOURCES", tuple(served))
    parts = [replace(part, clips=3) for part in other_words.PARTS[:2]]
    monkeypatch.setattr(other_words, "PARTS", tuple(parts))
    dataset_loader.fetch("other_words", request_)
    clips = other_words.load(request_)
    assert len(clips) == 6 and set(clips.labels) == {config.REJECT}
    assert set(clips.speakers) == {"unknown-wake_words", "unknown-intent_words"}


# -- bad input


@pytest.mark.parametrize("name", ["single_voices", "fsddd", "own"])
def test_what_cannot_be_fetched_names_what_can(request_, name):
    with pytest.raises(config.UserError, match=f"'{name}' can't be fetched: use an4, other_words"):
        dataset_loader.fetch(name, request_)


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("limits", [archives.Limits(50_000, 100), archives.Limits(10**6, 3)])
def test_an_archive_that_grows_beyond_its_bound_is_refused(tmp_path, kind, limits):
    members = {f"a/{i}.wav": bytes(20_000) for i in range(5)}
    path = tmp_path / "archive"
    path.write_bytes(zip_bytes(members) if kind == "zip" else tar_bytes(members))
    read = []
    with pytest.raises(DataError, match="refused, would unpack to more than"):
        for name, _ in archives.select(path, lambda name: True, limits):
            read.append(name)
    assert len(read) <= 3


@pytest.mark.parametrize("kind", ["zip", "tar", "link", "text"])
def test_unsafe_and_damaged_archives_are_refused(tmp_path, kind):
    path = tmp_path / "archive"
    outside = {"../../evil.wav": b"x"}
    if kind == "link":
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            link = tarfile.TarInfo("a.wav")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        path.write_bytes(buffer.getvalue())
    elif kind == "text":
        path.write_bytes(b"<html>please log in</html>")
    else:
        path.write_bytes(zip_bytes(outside) if kind == "zip" else tar_bytes(outside))
    folder = tmp_path / "unpacked"
    source = dataclasses.replace(an4.SOURCE, limits=archives.Limits(10**6, 10))
    with pytest.raises(DataError):
        sources.unpack(source, path, folder)
    assert not folder.exists() and sorted(p.name for p in tmp_path.iterdir()) == ["archive"]


def test_an_unreadable_recording_is_named(request_, server, tmp_path, monkeypatch):
    small_an4(monkeypatch, server, tmp_path)
    member = f"{AN4_ROOT}/wav/an4_clstk/ab/an250-ab-b.wav"
    url = server.address("an4.zip", zip_bytes({member: b"RIFF"}))
    monkeypatch.setattr(an4, "SOURCE", replace(an4.SOURCE, url=url))
    with pytest.raises(DataError, match="an250-ab-b.wav"):
        dataset_loader.fetch("an4", request_)


# -- the real clips


@pytest.mark.slow
@pytest.mark.parametrize("name", ["an4", "speech_commands", "other_words"])
def test_the_real_clips_are_cut_again_from_archives_of_the_real_layout(name, tmp_path):
    """Every clip of the shipped tables, put between others into recordings named as published."""
    bases = {
        kind: data_path(prepared.VARIABLES[kind]) for kind in (prepared.DIGITS, prepared.WORDS)
    }
    table = cuts.read_table(sources.TABLES / f"{name}_cuts.txt")
    by_file: dict[str, dict[str, np.ndarray]] = {}
    real = {}
    for cut in table:
        kind, folder = cut.folder.split("/")
        samples = audio_io.to_int16(
            audio_io.read_audio(bases[kind] / folder / f"{cut.name}.flac")[0]
        )
        real[cut] = samples
        by_file.setdefault(published(name, cut), {})[cut.name + cut.folder] = samples
    members = {}
    for number, (file, clips) in enumerate(by_file.items()):
        whole = (
            next(iter(clips.values())) if name == "speech_commands" else recording(clips, number)
        )
        members[file] = wav_bytes(audio_io.to_float(whole), 16000)
    archive = tmp_path / "archive"
    archive.write_bytes(tar_bytes(members) if name == "speech_commands" else zip_bytes(members))
    module = {"an4": an4, "speech_commands": speech_commands, "other_words": other_words}[name]
    served = [module.SOURCE] if hasattr(module, "SOURCE") else module.SOURCES
    for source in served:
        sources.cut(source, archive, tmp_path)
    for cut, samples in real.items():
        again = audio_io.read_audio(tmp_path / cut.folder / f"{cut.name}.wav")[0]
        assert np.array_equal(audio_io.to_int16(again), samples), cut


def published(name: str, cut: cuts.Cut) -> str:
    """A file of the published layout that a clip may have been cut from."""
    label, speaker, take = cut.name.split("_")
    if name == "an4":
        person = speaker.removeprefix("an4")
        return f"{AN4_ROOT}/wav/an4_clstk/{person}/an{int(take) + 251}-{person}-b.wav"
    if name == "speech_commands":
        word = COMMANDS_WORDS[int(label)] if label.isdigit() else label
        return f"./{word}/{speaker.removeprefix('sc')}_nohash_{take}.wav"
    if cut.folder.endswith("wake_words"):
        return f"{PICOVOICE_ROOT}/audio/{label}/{speaker.removeprefix('f')}.wav"
    return f"{INTENT_ROOT}/data/speech/clean/{speaker}.wav"
