"""Bulk recognition on Ray: the local engine's rows, none lost or doubled, whatever is killed."""

import contextlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
from ray_nodes import descendants, nodes
from waiting import PATIENCE, SELDOM, unmeasured, wait_until

import batch_inference
import config
from recognition import object_stores

pytest.importorskip("ray.data", reason="pip install -r requirements-ray.txt")
pytestmark = pytest.mark.slow
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
ROOT = Path(batch_inference.__file__).parent
FILES, PARTS = 900, 12
"""Files of a long run, and the parts that they make: 8 of 64, 3 of 128, one of 4."""


def batch(*words, networks, **environment) -> list:
    """A command line and its environment, for subprocess."""
    command = [sys.executable, str(ROOT / "batch_inference.py"), *map(str, words)]
    return {
        "args": [*command, "--decision.models-dir", str(networks)],
        "env": unmeasured() | environment,
        "text": True,
    }


def answer(*words, networks, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        **batch(*words, networks=networks, **environment), capture_output=True, timeout=PATIENCE
    )


def table(path: Path, **storage) -> pandas.DataFrame:
    return pandas.read_parquet(path, **storage).sort_values("path", ignore_index=True)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Ten good files, three bad ones, and one in a deeper folder."""
    folder = tmp_path_factory.mktemp("bulk") / "clips"
    (folder / "deep").mkdir(parents=True)
    for n in range(10):
        soundfile.write(folder / f"{n}.wav", sound(n), 8000)
    shutil.copy(folder / "1.wav", folder / "deep" / "=1+1.wav")
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("not sound")
    soundfile.write(folder / "long.wav", np.zeros(61 * 8000), 8000)
    return folder


def sound(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    time_s = np.arange(int(8000 * random.uniform(0.3, 0.9))) / 8000
    tones = sum(np.sin(2 * np.pi * random.uniform(90, 200) * k * time_s) / k for k in range(1, 9))
    return (0.1 * tones * np.hanning(len(time_s))).astype(np.float32)


@pytest.fixture
def many(tmp_path, clips) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(FILES):
        os.link(clips / f"{n % 10}.wav", folder / f"{n:04d}.wav")
    return folder


def test_rows_equal_the_local_engines_and_only_news_are_answered(small_vote_dir, clips, tmp_path):
    own = shutil.copytree(clips, tmp_path / "own")
    names = sorted(str(path) for path in own.rglob("*.wav")) + [str(own / "none.wav")]
    pandas.DataFrame({"path": names}).to_parquet(tmp_path / "calls.parquet")
    words = ("--manifest", tmp_path / "calls.parquet")
    local, bulk = tmp_path / "local.parquet", tmp_path / "bulk"
    assert answer(*words, "--output", local, networks=small_vote_dir).returncode == 0
    on_ray = (*words, "--output", bulk, "--engine", "ray", "--workers", "2")
    done = answer(*on_ray, networks=small_vote_dir)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "15 files, " in done.stdout and "4 unreadable" in done.stdout
    assert "no such file" in done.stderr and len(done.stderr.splitlines()) == 4
    pandas.testing.assert_frame_equal(table(local), table(bulk))

    before = {path.name for path in bulk.iterdir()}
    soundfile.write(own / "3.wav", sound(77), 8000)
    shutil.copy(own / "2.wav", own / "none.wav")
    assert answer(*words, "--output", local, networks=small_vote_dir).returncode == 0
    done = answer(*on_ray, networks=small_vote_dir)
    assert "going on: 13 of 15 files" in done.stderr
    pandas.testing.assert_frame_equal(table(local), table(bulk))
    assert {path.name for path in bulk.iterdir()} & before


@contextlib.contextmanager
def started(words, networks, bulk: Path) -> Iterator[tuple[subprocess.Popen, dict[int, bytes]]]:
    """A run that has written a new part, and all its processes; what is left of them is ended."""
    before, others = set(bulk.glob("part-*")), {}
    running = subprocess.Popen(**batch(*words, networks=networks), stderr=subprocess.PIPE)
    try:
        wait_until(
            lambda: set(bulk.glob("part-*")) - before or running.poll() is not None, "a part"
        )
        assert running.poll() is None, running.stderr.read()
        others |= descendants(running.pid)
        yield running, others
    finally:
        others |= descendants(running.pid) if running.poll() is None else {}
        running.kill()
        for number in descendants(0).keys() & others.keys():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        running.wait()
        running.stderr.close()


def wait_for_the_end(numbers: dict[int, bytes]) -> None:
    """Wait until none of these processes is left."""
    wait_until(
        lambda: not descendants(0).keys() & numbers.keys(), "processes are left over", SELDOM
    )


def actors_of(numbers: dict[int, bytes]) -> dict[int, bytes]:
    """Those of the processes that answer files."""
    return {number: line for number, line in numbers.items() if line.startswith(b"ray::MapWorker")}


@linux
def test_a_killed_worker_loses_and_doubles_no_row(small_vote_dir, many, tmp_path):
    bulk, local = tmp_path / "bulk", tmp_path / "local.parquet"
    words = (many, "--output", bulk, "--engine", "ray", "--workers", "2")
    with started(words, small_vote_dir, bulk) as (running, others):
        os.kill(min(actors_of(others)), signal.SIGKILL)
        assert len(list(bulk.glob("part-*"))) < PARTS, "it was killed too late to tell anything"
        complaint = running.communicate(timeout=PATIENCE)[1]
        assert running.returncode == 0 and "Traceback" not in complaint, complaint
        wait_for_the_end(others)
    assert answer(many, "--output", local, networks=small_vote_dir).returncode == 0
    pandas.testing.assert_frame_equal(table(local), table(bulk))


@linux
def test_a_stopped_run_goes_on_and_leaves_no_process(small_vote_dir, many, tmp_path):
    bulk, count = tmp_path / "bulk", 0
    words = (many, "--output", bulk, "--engine", "ray", "--workers", "2")
    codes = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
    with contextlib.ExitStack() as stack:
        begun: dict[int, bytes] = {}
        for number, code in codes.items():
            running, others = stack.enter_context(started(words, small_vote_dir, bulk))
            begun |= others
            running.send_signal(number)
            complaint = running.communicate(timeout=PATIENCE)[1]
            assert running.returncode == code and "Traceback" not in complaint, complaint
            assert not count or f"going on: {count} of {FILES} files" in complaint
            # what a killed one leaves may finish a part yet
            wait_for_the_end(actors_of(begun))
            before, count = count, len(pandas.read_parquet(bulk))
            assert before < count < FILES
        # of a killed one, Ray's own processes wait a minute for it
        wait_for_the_end(begun)
    done = answer(*words, networks=small_vote_dir)
    assert done.returncode == 0 and f"going on: {count} of {FILES} files" in done.stderr
    paths = table(bulk).path
    assert len(paths) == paths.nunique() == FILES


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[str]:
    """The address of a cluster of three nodes."""
    with nodes(3, tmp_path_factory.mktemp("cluster")) as (address, _):
        yield address


@linux
def test_a_cluster_of_several_nodes_shares_the_work(small_vote_dir, many, tmp_path, cluster):
    bulk, local = tmp_path / "bulk", tmp_path / "local.parquet"
    words = (many, "--output", bulk, "--engine", "ray", "--ray-address", cluster)
    done = answer(*words, networks=small_vote_dir)
    assert done.returncode == 0, done.stderr
    assert "3 processes on 3 nodes" in done.stdout
    assert answer(many, "--output", local, networks=small_vote_dir).returncode == 0
    pandas.testing.assert_frame_equal(table(local), table(bulk))


@linux
@pytest.mark.skipif(
    not (ROOT / "saved_models/strings.pt").is_file(), reason="no trained network of strings"
)
def test_strings_are_heard_as_the_local_engine_does(tmp_path, cluster):
    shutil.copy(ROOT / "docs/number.wav", tmp_path / "number.wav")
    (tmp_path / "text.wav").write_text("not sound")
    networks, on_ray = ROOT / "saved_models", ("--engine", "ray", "--ray-address", cluster)
    for output, more in (("a.parquet", ()), ("b", on_ray)):
        words = (tmp_path, "--strings", "--output", tmp_path / output, *more)
        assert answer(*words, networks=networks).returncode == 0
    pandas.testing.assert_frame_equal(table(tmp_path / "a.parquet"), table(tmp_path / "b"))


@linux
def test_networks_that_cannot_be_loaded_are_told_in_one_line(clips, tmp_path, cluster):
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks/cnn.pt").write_bytes(b"no network")
    words = (clips, "--output", tmp_path / "bulk", "--engine", "ray", "--ray-address", cluster)
    done = answer(*words, networks=tmp_path / "networks")
    assert done.returncode == 1 and "not a model file" in done.stderr
    assert done.stderr.count("\n") == 1 and not list((tmp_path / "bulk").glob("part-*"))


def test_no_cluster_at_the_address_is_told(small_vote_dir, clips, tmp_path):
    address = "127.0.0.1:1"
    words = (clips, "--output", tmp_path / "bulk", "--engine", "ray", "--ray-address", address)
    done = answer(*words, networks=small_vote_dir)
    assert done.returncode == 1 and f"no Ray cluster at {address}" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def store():
    """The variables that lead to an S3 server with an empty bucket "calls"."""
    moto = pytest.importorskip("moto.server", reason='pip install "moto[s3]" flask flask-cors')
    from pyarrow import fs

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": host,
    }
    system = fs.S3FileSystem(
        access_key="key",
        secret_key="secret",
        endpoint_override=f"{host}:{port}",
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    system.create_dir("calls")
    yield variables, system
    server.stop()


def test_a_store_is_source_and_sink(small_vote_dir, clips, tmp_path, store):
    variables, system = store
    for path in clips.rglob("*.wav"):
        name = path.relative_to(clips).as_posix()
        with system.open_output_stream(f"calls/2026/{name}") as stream:
            stream.write(path.read_bytes())
    words = ("s3://calls/2026/", "--output", "s3://calls/answers", "--engine", "ray")
    done = answer(*words, "--workers", "2", networks=small_vote_dir, **variables)
    assert done.returncode == 0 and "s3://calls/answers: 14 files" in done.stdout, done.stderr
    stored = table("calls/answers", filesystem=system)
    assert answer(clips, "--output", tmp_path / "a.parquet", networks=small_vote_dir)
    local = table(tmp_path / "a.parquet")
    local["path"] = local.path.str.replace(clips.as_posix(), "s3://calls/2026")
    pandas.testing.assert_frame_equal(local, stored)
    done = answer(*words, "--workers", "1", networks=small_vote_dir, **variables)
    assert "going on: 14 of 14" in done.stderr and "14 files" in done.stdout


class Refusing(http.server.BaseHTTPRequestHandler):
    """What a store answers to a request that nobody has signed."""

    def do_HEAD(self) -> None:
        signed = "Authorization" in self.headers
        self.send_response(500 if signed else 403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_HEAD

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def test_without_credentials_a_store_is_one_line(small_vote_dir, clips, store):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        variables = store[0] | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
        variables |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
        words = (clips, "--output", "s3://calls/other", "--engine", "ray")
        done = answer(*words, networks=small_vote_dir, **variables)
        server.shutdown()
    assert done.returncode == 1 and "access denied: give AWS_ACCESS_KEY_ID" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("word", "output", "complaint"),
    [
        ("s3://calls/2026", "", "s3://calls/2026: access denied: give AWS_ACCESS_KEY_ID"),
        ("s3://nowhere/x", "", "s3://nowhere/x: no such bucket"),
        ("", "s3://nowhere/x", "s3://nowhere/x: no such bucket"),
        ("s3://calls/nothing", "", "s3://calls/nothing: no such file"),
        ("s3://nowhere/x.csv", "", "s3://nowhere/x.csv: no such"),
    ],
)
def test_what_a_store_lacks_is_told(
    small_vote_dir, clips, tmp_path, store, monkeypatch, word, output, complaint
):
    for name, value in store[0].items():
        monkeypatch.setenv(name, value)
    if "denied" in complaint:  # from now on the server knows of no key
        monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
    object_stores._file_system.cache_clear()
    manifest = Path(word) if word.endswith(".csv") else None
    settings = batch_inference.BatchSettings(
        () if manifest else (Path(word or clips),),
        Path(output or tmp_path / "bulk"),
        manifest=manifest,
        engine="ray",
        decision=config.DecisionSettings(models_dir=small_vote_dir),
    )
    with pytest.raises(config.UserError, match=complaint):
        batch_inference.run(settings)
    assert not list((tmp_path / "bulk").glob("part-*"))
    object_stores._file_system.cache_clear()


def test_a_store_that_does_not_answer_is_told(small_vote_dir, tmp_path, store):
    variables = store[0] | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    words = ("s3://calls/2026", "--output", tmp_path / "bulk", "--engine", "ray")
    done = answer(*words, networks=small_vote_dir, **variables)
    assert done.returncode == 1 and "no answer from the store" in done.stderr
    assert done.stderr.count("\n") == 1
