"""What several tests share: where the data lie, and a small release of made-up recordings."""

from __future__ import annotations

import os

# tests run side by side, and so do the processes that they start: one thread for each
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:1"  # no test may reach the real hub

import io
import signal
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import filelock
import hypothesis
import numpy as np
import pytest
import soundfile
from misbehaving_server import Server

import config
import dataset_loader
from corpora import download, fsdd
from corpora.clips import Clips

RATE = 8000
SPEAKERS = ("ada", "bob")
TAKES = 10
WRAPPER = "free-spoken-digit-dataset-1.0.10/"


def pytest_configure() -> None:
    """Let Ctrl-C reach the scripts under test, and let slow machines be slow.

    A shell that runs the tests in the background has them ignore Ctrl-C, and child processes would
    inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # a busy machine makes examples slowly, which is nobody's fault
    hypothesis.settings.register_profile(
        "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("patient")


def pytest_xdist_auto_num_workers() -> int:
    """Three workers more than cores: many tests wait for sound to be played, or for a process.

    At most ten, since each of them takes half a gigabyte.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(10, (cores or 1) + 3)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the first two workers begin with what waits for sound to be played.

    The others compute beside it; each worker is given a stretch of the list.
    """
    waiting = [item for item in items if hasattr(getattr(item, "module", None), "LiveScript")]
    busy = [item for item in items if item not in waiting]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ahead = max(0, len(items) // workers - len(waiting[::2]))
    items[:] = [*waiting[::2], *busy[:ahead], *waiting[1::2], *busy[ahead:]]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker to ask for it makes and the others take."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with filelock.FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = folder.with_name(f"{name}-unfinished")
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def small_vote_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small untrained networks, and vote.onnx made from them; nobody may change them."""
    pytest.importorskip("onnxscript", reason="the exporter needs it")
    from small_vote import export_small_vote

    return made_once(tmp_path_factory, "small-vote", export_small_vote)


def data_path(variable: str) -> Path:
    """The path that an environment variable names; the test is skipped where it is unset."""
    value = os.environ.get(variable)
    if not value or not Path(value).exists():
        pytest.skip(f"{variable} doesn't name existing data")
    return Path(value)


@pytest.fixture(scope="session")
def fsdd_archive_path() -> Path:
    return data_path("FSDD_ARCHIVE")


@pytest.fixture(scope="session")
def unseen_speakers_dir() -> Path:
    return data_path("UNSEEN_SPEAKERS_DIR")


@pytest.fixture(scope="session")
def non_digits_dir() -> Path:
    return data_path("NON_DIGITS_DIR")


@pytest.fixture(scope="session")
def noise_dir() -> Path:
    return data_path("NOISE_DIR")


@pytest.fixture(scope="session")
def rir_dir() -> Path:
    return data_path("RIR_DIR")


@pytest.fixture(scope="session")
def digit_strings_dir() -> Path:
    return data_path("DIGIT_STRINGS_DIR")


@pytest.fixture(scope="session")
def fsdd_clips(fsdd_archive_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """The real FSDD, all 3,000 clips."""
    data = config.DataSettings(fsdd_archive=fsdd_archive_path, root=tmp_path_factory.mktemp("data"))
    return dataset_loader.load_fsdd(data, config.AudioSettings())


def beep(digit: int, speaker: int, take: int) -> np.ndarray:
    """A digit as float32 (samples,): two tones under an envelope, with the take's own noise."""
    rng = np.random.default_rng([digit, speaker, take])
    time = np.arange(int(RATE * rng.uniform(0.05, 0.1))) / RATE
    tones = np.sin(2 * np.pi * (300 + 150 * digit) * time) + np.sin(
        2 * np.pi * (2000 + 120 * digit + 40 * speaker) * time
    )
    shape = np.sin(np.pi * np.linspace(0, 1, len(time)))
    return (0.2 * shape * tones + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def wav_bytes(waveform: np.ndarray, rate: int = RATE, kind: str = "WAV") -> bytes:
    """A 16-bit sound file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate, subtype="PCM_16", format=kind)
    return buffer.getvalue()


def zip_bytes(members: Mapping[str, bytes]) -> bytes:
    """A zip archive of members by full name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_bytes(members: Mapping[str, bytes]) -> bytes:
    """A tar.gz archive of members by full name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def spread(members: Mapping[str, bytes], folder: Path) -> Path:
    """Write members below a folder, which is returned."""
    for name, content in members.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def small_files() -> dict[str, bytes]:
    """200 WAV files by bare name: ten digits, two speakers, ten takes."""
    return {
        f"{digit}_{name}_{take}.wav": wav_bytes(beep(digit, speaker, take))
        for digit in range(10)
        for speaker, name in enumerate(SPEAKERS)
        for take in range(TAKES)
    }


@pytest.fixture
def small_release(
    small_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    """Let the small set be the release; gives its members as GitHub's archive names them."""
    recordings = fsdd.decode(small_files)
    monkeypatch.setattr(fsdd, "NAMES", tuple(recordings))
    table = tmp_path / "small_digests.txt"
    table.write_text(fsdd.format_digest_table(recordings))
    monkeypatch.setattr(fsdd, "DIGEST_TABLE", table)
    monkeypatch.setattr(fsdd, "CONTENT_SHA256", fsdd.content_digest(recordings))
    members = {f"{WRAPPER}recordings/{name}": content for name, content in small_files.items()}
    return {f"{WRAPPER}README.md": b"made up", **members}


@pytest.fixture(scope="session")
def small_clips(small_files: dict[str, bytes]) -> Clips:
    """The small set as Clips: 200 beeps of 10 digits, 2 speakers, 10 takes."""
    recordings = fsdd.decode(small_files)
    digits, speakers, takes = zip(*(name.split("_") for name in recordings), strict=True)
    return Clips.from_waveforms(
        list(recordings.values()),
        list(map(int, digits)),
        speakers,
        list(recordings),
        list(map(int, takes)),
        "small",
        RATE,
    )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "BACK_OFF_SECONDS", 0.02)
    monkeypatch.setattr(download, "STALL_SECONDS", 0.3)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.released.set()
    running.shutdown()
    thread.join()
    running.server_close()
