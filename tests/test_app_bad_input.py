"""What must not be taken by the web app: each is refused in one line, and nothing is stored."""

import base64
import concurrent.futures
import io
import os
import random
import shutil
import socket
import struct
import urllib.parse
import zipfile

import httpx
import numpy as np
import pytest
from app_server import SEVEN, running_app
from conftest import wav_bytes, zip_bytes
from waiting import PATIENCE

RATE = 16000
MUTATIONS = int(os.environ.get("FUZZ_UPLOADS", "5000"))
"""Damaged uploads; the variable makes them fewer."""
GROWTH_MB = 150
"""MB by which thousands of damaged uploads may make the server grow."""


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    with running_app(folder, "--max-request-mb", "20", "--requests-per-minute", "0") as running:
        yield running


@pytest.fixture
def client(app):
    with httpx.Client(base_url=app.base, timeout=PATIENCE) as client:
        yield client


def stored(client):
    return client.get("/healthz").json()["answers_on_record"]


def post(client, content, name="a.wav"):
    return client.post("/v1/recognize", files={"file": (name, content)})


def noise(seconds):
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def flac_of_minutes(minutes):
    return wav_bytes(np.zeros(60 * minutes * 8000, np.float32), 8000, "FLAC")


BAD = {
    "not audio": (b"just some text, but no sound", "known|format|not"),
    "a name that lies": (b"\x89PNG\r\n\x1a\n" + bytes(500), "known|format|not"),
    "truncated": (SEVEN.read_bytes()[: SEVEN.stat().st_size // 2], "its end is missing"),
    "header alone": (SEVEN.read_bytes()[:44], "no samples|missing"),
    "empty": (b"", "empty"),
    "0.05 s": (wav_bytes(noise(0.05), RATE), "too short: 50 ms"),
    "30 minutes": (flac_of_minutes(30), "at most 60 s"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sound_is_refused_in_one_line_and_not_stored(client, name):
    content, reason = BAD[name]
    before = stored(client)
    reply = post(client, content)
    assert 400 <= reply.status_code < 500
    error = reply.json()["error"]
    assert "\n" not in error and "Traceback" not in error and "/tmp" not in error
    assert any(part in error for part in reason.split("|")), error
    assert stored(client) == before


def test_200_mb_are_refused_before_they_are_read(app):
    address = urllib.parse.urlsplit(app.base)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        head = "POST /v1/recognize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: audio/wav\r\n"
        connection.sendall(f"{head}Content-Length: 200000000\r\n\r\n".encode())
        connection.sendall(bytes(1000))  # of 200 MB: the answer comes all the same
        reply = connection.recv(4096).decode()
    assert reply.startswith("HTTP/1.1 413")


def test_200_mb_of_unknown_length_are_refused_on_the_way(client):
    sent = 0

    def endless():
        nonlocal sent
        for _ in range(200):
            sent += 1
            yield bytes(1_000_000)

    try:
        status = client.post("/v1/recognize", content=endless()).status_code
    except httpx.WriteError:  # the server has hung up
        status = 413
    assert status == 413
    assert sent < 150
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/v1/recognize", "/gradio_api/upload"])
def test_a_large_upload_is_refused_on_every_way_in(client, path):
    reply = client.post(path, files={"files": ("a.wav", bytes(21_000_000))})
    assert reply.status_code == 413
    assert "20 MB" in reply.json()["error"]


def zip_bomb():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.wav", bytes(10_000_000))
    return content.getvalue()


def lying_zip():
    """Its directory says that a large member is small."""
    content = zip_bytes({"a.wav": bytes(1000)})
    return content.replace(struct.pack("<I", 1000), struct.pack("<I", 10))


ARCHIVES = {
    "bomb": (zip_bomb, "unpack"),
    "dots": (lambda: zip_bytes({"../../etc/a.wav": b"x"}), "outside"),
    "root": (lambda: zip_bytes({"/etc/a.wav": b"x"}), "outside"),
    "drive": (lambda: zip_bytes({"C:\\a.wav": b"x"}), "outside"),
    "damaged": (lambda: zip_bytes({"a.wav": b"x"})[:-30], "damaged"),
    "lying": (lying_zip, "damaged"),
    "nothing in it": (lambda: zip_bytes({"a.txt": b"x"}), "no sound files"),
    "many": (lambda: zip_bytes({f"{number}.wav": b"" for number in range(1001)}), "at most 1000"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_bad_archives_are_refused(client, name):
    make, reason = ARCHIVES[name]
    before = stored(client)
    reply = client.post("/v1/recognize_batch", files=[("files", ("a.zip", make()))])
    assert 400 <= reply.status_code < 500
    assert reason in reply.text
    assert stored(client) == before


NAMES = ["a\"b'c.wav", "<img src=x onerror=alert(1)>.wav", "a\nb\r.wav", 300 * "n" + ".wav", "=1+1"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_kept_harmless(client, name):
    encoded = base64.b64encode(SEVEN.read_bytes()).decode()
    for reply in (
        post(client, SEVEN.read_bytes(), name),
        client.post("/v1/recognize", json={"audio": encoded, "name": name}),
    ):
        assert reply.status_code == 200
        source = reply.json()["source"]
        assert source.isprintable() and len(source) <= 100


def through_gradio(client, given):
    """What gradio_client's endpoint says to a file given in this way."""
    begun = client.post("/gradio_api/call/recognize", json={"data": [given]})
    assert begun.status_code == 200
    return client.get(f"/gradio_api/call/recognize/{begun.json()['event_id']}").text


def test_an_upload_through_gradio_is_read(client):
    (path,) = client.post(
        "/gradio_api/upload", files={"files": ("seven.wav", SEVEN.read_bytes())}
    ).json()
    told = through_gradio(client, {"path": path, "meta": {"_type": "gradio.FileData"}})
    assert "event: complete" in told and '"digit": 7' in told


def test_a_path_on_the_server_is_not_read(client, tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(SEVEN.read_bytes())
    before = stored(client)
    as_text = client.post("/v1/recognize", files={"file": (None, str(secret))})
    assert as_text.status_code == 422
    given = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    assert "error" in through_gradio(client, given)
    assert client.get(f"/gradio_api/file={secret}").status_code in (403, 404)
    assert stored(client) == before


def test_an_address_elsewhere_is_not_fetched(client):
    given = {"path": "", "url": "http://127.0.0.1:9/a.wav", "meta": {"_type": "gradio.FileData"}}
    assert "error" in through_gradio(client, given)


def test_100_uploads_at_once_are_all_answered(app, client):
    def one(_):
        with httpx.Client(base_url=app.base, timeout=PATIENCE) as own:
            return post(own, SEVEN.read_bytes()).json().get("digit")

    before = stored(client)
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        digits = list(pool.map(one, range(100)))
    assert digits == [7] * 100
    assert stored(client) == before + 100


def test_an_unknown_model_is_refused(client):
    reply = client.post(
        "/v1/recognize?model=../../etc/passwd", files={"file": ("a.wav", SEVEN.read_bytes())}
    )
    assert reply.status_code == 422
    assert "no such model; use vote, cnn, rnn" in reply.json()["error"]


MALFORMED = ["{", '{"audio": 5}', '{"audio": "***"}', "[]", "5", "{}", "[" * 100_000]


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_json_is_refused(client, text):
    reply = client.post("/v1/recognize", content=text, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert "JSON" in reply.json()["error"]


def test_malformed_forms_are_refused(client):
    kind = {"content-type": "multipart/form-data; boundary=x"}
    for path in ("/v1/recognize", "/v1/recognize_batch"):
        for content in (b"", b"--x\r\n\r\n", b"no form"):
            reply = client.post(path, content=content, headers=kind)
            assert 400 <= reply.status_code < 500
    assert client.post("/v1/recognize_batch", content=b"x").status_code == 415
    assert client.post("/gradio_api/queue/join", content=b"{").status_code == 422


def mutated(content, random_source):
    """A sound file with some of its first bytes changed, cut out or doubled."""
    damaged = bytearray(content)
    for _ in range(random_source.randint(1, 6)):
        place = random_source.randrange(min(200, len(damaged)))
        kind = random_source.randrange(4)
        if kind == 0:
            damaged[place] = random_source.randrange(256)
        elif kind == 1:
            damaged[place : place + 4] = struct.pack("<I", random_source.getrandbits(32))
        elif kind == 2:
            del damaged[place : place + random_source.randint(1, 8)]
        else:
            damaged[place:place] = damaged[place : place + 4]
    return bytes(damaged)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.skipif(shutil.which("ps") is None, reason="no ps to tell the memory")
def test_thousands_of_damaged_headers_neither_crash_hang_nor_grow(app, client):
    sound = noise(0.3)
    originals = [wav_bytes(sound, RATE, kind) for kind in ("WAV", "FLAC")]
    source = random.Random(int(os.environ.get("FUZZ_SEED", "0")))
    for number in range(MUTATIONS):
        content = mutated(originals[number % 2], source)
        assert post(client, content).status_code in (200, 413, 422), content[:200].hex()
        if number == MUTATIONS // 5:
            before = app.memory_mb()
    assert app.memory_mb() - before < GROWTH_MB
    assert post(client, SEVEN.read_bytes()).json()["digit"] == 7
