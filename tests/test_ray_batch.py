"""Bulk recognition on Ray: the local engine's rows, none lost or doubled, whatever is killed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
from waiting import PATIENCE, unmeasured, wait_until

import batch_inference

pytest.importorskip("ray.data", reason="pip install -r requirements-ray.txt")
pytestmark = pytest.mark.slow
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
ROOT = Path(batch_inference.__file__).parent


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
    for n in range(1000):
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


@pytest.mark.skipif(
    not (ROOT / "saved_models/strings.pt").is_file(), reason="no trained network of strings"
)
def test_strings_are_heard_as_the_local_engine_does(tmp_path):
    shutil.copy(ROOT / "docs/number.wav", tmp_path / "number.wav")
    (tmp_path / "text.wav").write_text("not sound")
    networks = ROOT / "saved_models"
    for output, more in (("a.parquet", ()), ("b", ("--engine", "ray", "--workers", "1"))):
        words = (tmp_path, "--strings", "--output", tmp_path / output, *more)
        assert answer(*words, networks=networks).returncode == 0
    pandas.testing.assert_frame_equal(table(tmp_path / "a.parquet"), table(tmp_path / "b"))


def descendants(number: int) -> dict[int, bytes]:
    """The processes that a process started, directly or not, with their command lines."""
    parents, lines = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
            lines[int(place.name)] = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if state != "Z":
            parents[int(place.name)] = int(parent)
    found, new = set(), {number}
    while new := {child for child, parent in parents.items() if parent in new}:
        found |= new
    return {child: lines[child] for child in found}


def started(words, networks, bulk: Path) -> tuple[subprocess.Popen, dict[int, bytes]]:
    """A run that has written its first part, and all its processes."""
    running = subprocess.Popen(**batch(*words, networks=networks), stderr=subprocess.PIPE)
    wait_until(lambda: any(bulk.glob("part-*")) or running.poll() is not None, "the first part")
    assert running.poll() is None, running.stderr.read()
    return running, descendants(running.pid)


def all_ended(numbers: dict[int, bytes]) -> bool:
    """Whether none of these processes is left."""
    return not descendants(0).keys() & numbers.keys()


@linux
def test_a_killed_worker_loses_and_doubles_no_row(small_vote_dir, many, tmp_path):
    bulk, local = tmp_path / "bulk", tmp_path / "local.parquet"
    words = (many, "--output", bulk, "--engine", "ray", "--workers", "2")
    running, others = started(words, small_vote_dir, bulk)
    actors = [number for number, line in others.items() if line.startswith(b"ray::MapWorker")]
    os.kill(actors[0], signal.SIGKILL)
    assert len(list(bulk.glob("part-*"))) < 14, "it was killed too late to tell anything"
    complaint = running.communicate(timeout=PATIENCE)[1]
    assert running.returncode == 0 and "Traceback" not in complaint, complaint
    assert answer(many, "--output", local, networks=small_vote_dir).returncode == 0
    pandas.testing.assert_frame_equal(table(local), table(bulk))
    wait_until(lambda: all_ended(others), "processes are left over")


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_and_leaves_no_process(small_vote_dir, many, tmp_path, number):
    bulk = tmp_path / "bulk"
    words = (many, "--output", bulk, "--engine", "ray", "--workers", "2")
    running, others = started(words, small_vote_dir, bulk)
    running.send_signal(number)
    complaint = running.communicate(timeout=PATIENCE)[1]
    assert running.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number)
    assert "Traceback" not in complaint, complaint
    wait_until(lambda: all_ended(others), "processes are left over")
    count = len(pandas.read_parquet(bulk))
    assert 0 < count < 1000
    done = answer(*words, networks=small_vote_dir)
    assert done.returncode == 0 and f"going on: {count} of 1000 files" in done.stderr
    paths = table(bulk).path
    assert len(paths) == paths.nunique() == 1000


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
for _ in range(int(sys.argv[1]) - 1):
    cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@linux
def test_a_cluster_of_several_nodes_shares_the_work(small_vote_dir, many, tmp_path):
    bulk, local = tmp_path / "bulk", tmp_path / "local.parquet"
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER, "3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=unmeasured() | {"RAY_USAGE_STATS_ENABLED": "0"},
    ) as nodes:
        address = ""
        while ":" not in address or " " in address.strip():
            address = nodes.stdout.readline()
            assert address, "the cluster did not start"
        words = (many, "--output", bulk, "--engine", "ray", "--ray-address", address.strip())
        done = answer(*words, networks=small_vote_dir)
        nodes.communicate("")
    assert done.returncode == 0, done.stderr
    assert "3 processes on 3 nodes" in done.stdout
    assert answer(many, "--output", local, networks=small_vote_dir).returncode == 0
    pandas.testing.assert_frame_equal(table(local), table(bulk))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "auto", "ray://127.0.0.1:1"])
def test_no_cluster_at_the_address_is_told(small_vote_dir, clips, tmp_path, address):
    words = (clips, "--output", tmp_path / "bulk", "--engine", "ray", "--ray-address", address)
    done = answer(*words, networks=small_vote_dir, RAY_TMPDIR=str(tmp_path))
    assert done.returncode == 1 and f"no Ray cluster at {address}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_networks_that_cannot_be_loaded_are_told_in_one_line(clips, tmp_path):
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks/cnn.pt").write_bytes(b"no network")
    words = (clips, "--output", tmp_path / "bulk", "--engine", "ray", "--workers", "1")
    done = answer(*words, networks=tmp_path / "networks")
    assert done.returncode == 1 and "not a model file" in done.stderr
    assert done.stderr.count("\n") == 1 and not list((tmp_path / "bulk").glob("part-*"))


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


@pytest.mark.parametrize(
    ("words", "changes", "complaint"),
    [
        (("s3://nowhere/x", "--output", "OUT"), {}, "s3://nowhere/x: no such"),
        (("CLIPS", "--output", "s3://nowhere/x"), {}, "s3://nowhere/x: no such bucket"),
        (("s3://calls/nothing", "--output", "OUT"), {}, "s3://calls/nothing: no such file"),
        (("--manifest", "s3://nowhere/x.csv", "--output", "OUT"), {}, "s3://nowhere/x.csv: no"),
        (
            ("CLIPS", "--output", "s3://calls/other"),
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "access denied: give AWS_ACCESS_KEY_ID",
        ),
        (
            ("s3://calls/2026", "--output", "OUT"),
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
            "no answer from the store",
        ),
    ],
)
def test_what_a_store_refuses_is_one_line(
    small_vote_dir, clips, tmp_path, store, words, changes, complaint
):
    places = {"CLIPS": clips, "OUT": tmp_path / "bulk"}
    words = [places.get(word, word) for word in words]
    variables = store[0] | changes
    done = answer(*words, "--engine", "ray", networks=small_vote_dir, **variables)
    assert done.returncode == 1 and complaint in done.stderr
    assert done.stderr.count("\n") == 1 and not list((tmp_path / "bulk").glob("part-*"))
