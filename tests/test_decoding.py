"""Thousands of files decoded into a mapped file: the same samples, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import RATE, beep, spread, wav_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import unmeasured, wait_until

import audio_io
import config
from corpora import decoding, decoding_workers
from corpora.folder import load_folder

ROOT = Path(__file__).parent.parent
AUDIO = config.AudioSettings(sample_rate=RATE)
SCRIPT = """
import sys
from pathlib import Path
import config, utils
from corpora import decoding
decoding.PARALLEL_FROM = decoding.KEEP_FROM = 1
decoding.CHUNK_FILES = 4
def run(settings):
    paths = sorted(Path(sys.argv[1]).rglob("*.wav"))
    decoded = decoding.decode(paths, config.AudioSettings(sample_rate=8000), Path(sys.argv[2]))
    print(len(decoded.lengths))
utils.main(run, config.AudioSettings, "", lambda settings, text: settings())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """60 recordings, one of them damaged."""
    files = {
        f"{i % 10}_ada_{i // 10}.wav": wav_bytes(beep(i % 10, 0, i // 10)) for i in range(60)
    } | {"7_ada_3.wav": b"RIFF, but no more"}
    return spread(files, tmp_path_factory.mktemp("recordings"))


@pytest.fixture
def small_chunks(monkeypatch):
    """Few files are worth keeping, four at a time."""
    monkeypatch.setattr(decoding, "KEEP_FROM", 1)
    monkeypatch.setattr(decoding, "CHUNK_FILES", 4)


def recordings(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.wav"))


def assert_decoded(decoded: decoding.Decoded, paths: list[Path]) -> None:
    """Every file's samples are those that reading it alone gives."""
    ends = np.cumsum(decoded.lengths)
    for number, path in enumerate(paths):
        samples = decoded.samples[ends[number] - decoded.lengths[number] : ends[number]]
        if number in decoded.errors:
            assert len(samples) == 0 and path.name in decoded.errors[number]
        else:
            waveform, _ = audio_io.read_audio(path, RATE)
            assert np.array_equal(samples, audio_io.to_int16(waveform))
    assert len(decoded.samples) == ends[-1]


def counted(monkeypatch) -> list[Path]:
    """The files that are decoded from now on."""
    seen: list[Path] = []
    decode = decoding.decode_files

    def count(paths, audio):
        seen.extend(paths)
        return decode(paths, audio)

    monkeypatch.setattr(decoding, "decode_files", count)
    return seen


def start(folder: Path, cache: Path, **options) -> subprocess.Popen:
    words = [sys.executable, "-c", SCRIPT, str(folder), str(cache)]
    options["env"] = unmeasured()
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=ROOT, text=True, stdout=pipe, stderr=pipe, **options)


def lines(cache: Path) -> int:
    """Chunks that journals tell of."""
    return sum(path.read_bytes().count(b"\n") for path in cache.glob("*.jsonl"))


@pytest.mark.parametrize("parallel_from", [1, 1000])
@pytest.mark.parametrize("cached", [False, True])
def test_samples_are_those_of_each_file(folder, tmp_path, monkeypatch, parallel_from, cached):
    monkeypatch.setattr(decoding, "PARALLEL_FROM", parallel_from)
    monkeypatch.setattr(decoding, "KEEP_FROM", 1)
    monkeypatch.setattr(decoding, "CHUNK_FILES", 7)
    paths = recordings(folder)
    for _ in range(2):
        decoded = decoding.decode(paths, AUDIO, tmp_path / "cache" if cached else None)
        assert_decoded(decoded, paths)
        assert isinstance(decoded.samples, np.memmap) == cached
        assert [paths[number].name for number in decoded.errors] == ["7_ada_3.wav"]


def test_a_folder_is_the_same_with_and_without_a_cache(folder, tmp_path, small_chunks, capsys):
    kept = load_folder(folder, AUDIO, cache=tmp_path)
    alone = load_folder(folder, AUDIO)
    for name in ("samples", "offsets", "labels", "speakers", "names", "takes", "corpus"):
        assert np.array_equal(getattr(kept, name), getattr(alone, name)), name
    assert len(kept) == 59 and list(tmp_path.glob("decoded-*"))
    assert capsys.readouterr().err.count("7_ada_3.wav") == 2


def test_what_was_decoded_is_not_decoded_again(folder, tmp_path, small_chunks, monkeypatch):
    decoding.decode(recordings(folder), AUDIO, tmp_path)
    seen = counted(monkeypatch)
    decoding.decode(recordings(folder), AUDIO, tmp_path)
    assert seen == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_files_cut_at_any_byte_go_on_to_the_same(folder, tmp_path, small_chunks, data):
    paths = recordings(folder)
    decoding.decode(paths, AUDIO, tmp_path)
    (journal,), (samples,) = tmp_path.glob("*.jsonl"), tmp_path.glob("*.int16")
    for path in (journal, samples):
        content = bytearray(path.read_bytes())
        kind = data.draw(st.sampled_from(["whole", "cut", "changed", "longer"]))
        place = data.draw(st.integers(0, len(content) - 1))
        if kind == "cut":
            content = content[:place]
        elif kind == "changed":
            content[place] ^= data.draw(st.integers(1, 255))
        elif kind == "longer":
            content += data.draw(st.binary(max_size=50))
        path.write_bytes(content)
    assert_decoded(decoding.decode(paths, AUDIO, tmp_path), paths)


def test_a_killed_run_goes_on_where_it_stopped(folder, tmp_path, small_chunks, monkeypatch):
    process = start(folder, tmp_path)
    wait_until(lambda: lines(tmp_path) >= 2 or process.poll() is not None, "two chunks")
    process.kill()
    process.communicate()
    (journal,) = tmp_path.glob("*.jsonl")
    whole = [line for line in journal.read_bytes().splitlines(keepends=True) if line[-1:] == b"\n"]
    seen = counted(monkeypatch)
    paths = recordings(folder)
    assert_decoded(decoding.decode(paths, AUDIO, tmp_path), paths)
    done = sum(len(json.loads(line)["lengths"]) for line in whole)
    assert done >= 8 and seen == paths[done:]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="/proc says who is whose child")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_ends_at_once_and_leaves_no_process(folder, tmp_path, sent, code):
    many = spread(
        {f"{i}/{p.name}": p.read_bytes() for i in range(20) for p in recordings(folder)},
        tmp_path / "many",
    )
    process = start(many, tmp_path / "cache")
    wait_until(lambda: lines(tmp_path / "cache") or process.poll() is not None, "a chunk")
    workers = children(process.pid)
    process.send_signal(sent)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (code, "") and "Traceback" not in errors
    assert workers and not any(map(alive, workers))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="/proc says who is whose child")
def test_processes_end_when_the_one_that_started_them_is_killed(folder, tmp_path):
    process = start(folder, tmp_path)
    wait_until(lambda: lines(tmp_path) or process.poll() is not None, "a chunk")
    workers = children(process.pid)
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(alive, workers)), "the end of every process")


def alive(process: int) -> bool:
    """Whether a process runs still; one that nobody has asked for its end does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(parent: int) -> list[int]:
    """Process numbers of the children, by Linux's /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def test_a_file_that_ends_its_process_costs_only_itself(folder, tmp_path, monkeypatch):
    crash = """
import os, audio_io
read = audio_io.read_audio
def read_or_crash(path, *more):
    if "5_ada_2" in str(path):
        os._exit(9)
    return read(path, *more)
audio_io.read_audio = read_or_crash
"""
    (tmp_path / "sitecustomize.py").write_text(crash)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.setattr(decoding, "PARALLEL_FROM", 1)
    paths = recordings(folder)
    decoded = decoding.decode(paths, AUDIO)
    assert_decoded(decoded, paths)
    assert {paths[number].stem for number in decoded.errors} == {"5_ada_2", "7_ada_3"}
    assert any(decoding_workers.ENDED in error for error in decoded.errors.values())


def test_processes_that_never_work_are_given_up(folder, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(decoding, "PARALLEL_FROM", 1)
    with pytest.raises(config.UserError, match="end unexpectedly"):
        decoding.decode(recordings(folder), AUDIO)


def test_other_recordings_replace_the_files(folder, tmp_path, small_chunks):
    copy = spread({path.name: path.read_bytes() for path in recordings(folder)}, tmp_path / "copy")
    cache = tmp_path / "cache"
    decoding.decode(recordings(copy), AUDIO, cache, "copy")
    decoding.decode(recordings(folder), AUDIO, cache, "another")
    before = set(cache.glob("decoded-*"))
    (copy / "0_ada_0.wav").write_bytes(wav_bytes(beep(1, 1, 1)))
    assert_decoded(decoding.decode(recordings(copy), AUDIO, cache, "copy"), recordings(copy))
    after = set(cache.glob("decoded-*"))
    assert len(before) == len(after) == 4 and len(before & after) == 2


def test_a_full_disk_is_one_line_and_the_next_call_goes_on(folder, tmp_path):
    resource = pytest.importorskip("resource")
    limit = 30_000

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start(folder, tmp_path, preexec_fn=little_room)
    _, errors = process.communicate(timeout=120)
    (samples,) = tmp_path.glob("*.int16")
    assert process.returncode == 1 and errors.startswith("error: ") and str(samples) in errors
    assert errors.count("\n") == 1 and 0 < samples.stat().st_size <= limit
    output, errors = start(folder, tmp_path).communicate(timeout=120)
    assert (output, errors) == ("60\n", "") and samples.stat().st_size > limit


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recordings(tmp_path):
    """200 MB of samples are decoded and gone through without being held."""
    resource = pytest.importorskip("resource")
    long = wav_bytes(np.tile(beep(3, 0, 0), 100)[: 5 * RATE])
    spread({f"{i % 10}_s{i // 10}_0.wav": long for i in range(2500)}, tmp_path / "many")
    program = """
import resource, sys
from pathlib import Path
import config
from corpora.folder import load_folder
audio = config.AudioSettings(sample_rate=8000)
def peak(who):
    return resource.getrusage(who).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
before = peak(resource.RUSAGE_SELF)
clips = load_folder(Path(sys.argv[1]), audio, cache=Path(sys.argv[2]))
half = clips.subset(range(0, len(clips), 2))
for i in range(len(half)):
    half.waveform(i)
print(2 * len(clips.samples) >> 20, peak(resource.RUSAGE_SELF) - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "many"), str(tmp_path / "cache")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    size, grown = map(float, done.stdout.split())
    assert resource and size > 180 and grown < 0.6 * size
