"""Who may ask the web app, and how much; what it logs; how it ends."""

import base64
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading

import httpx
import pytest
from app_server import ROOT, SEVEN, running_app
from waiting import PATIENCE, wait_until

from webapp.security import Rate

PASSWORD = ("ada", "wörd:with colon")
AUTH = ":".join(PASSWORD)


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("locked")
    log = folder / "access.log"
    with running_app(folder, "--access-log", str(log), DIGITS_AUTH=AUTH) as running:
        yield running


def post(base, path="/v1/recognize", **options):
    files = {"file": ("seven.wav", SEVEN.read_bytes())}
    return httpx.post(f"{base}{path}", files=files, timeout=PATIENCE, **options)


def basic(name, password):
    return httpx.BasicAuth(name.encode(), password.encode())


@pytest.mark.parametrize("path", ["/", "/v1/models", "/healthz", "/metrics", "/docs", "/config"])
def test_nothing_is_shown_without_the_password(locked, path):
    reply = httpx.get(f"{locked.base}{path}", timeout=PATIENCE)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("Basic")


def test_the_password_opens_everything(locked):
    assert post(locked.base, auth=basic(*PASSWORD)).json()["digit"] == 7
    assert httpx.get(locked.base, auth=basic(*PASSWORD), timeout=PATIENCE).status_code == 200


def test_gradio_client_gets_in_with_the_password(locked):
    from gradio_client import Client, handle_file

    header = "Basic " + base64.b64encode(AUTH.encode()).decode()
    client = Client(locked.base, headers={"Authorization": header}, verbose=False)
    assert client.predict(handle_file(str(SEVEN)), api_name="/recognize")["digit"] == 7


def test_guessing_is_slowed_down(tmp_path):
    with running_app(tmp_path, DIGITS_AUTH=AUTH) as app:
        guesses = [post(app.base, auth=basic("ada", str(number))) for number in range(25)]
        statuses = [reply.status_code for reply in guesses]
        assert statuses[0] == 401 and statuses[-1] == 429
        assert "history.db" in {path.name for path in (tmp_path / "kept").iterdir()}


def test_each_request_is_logged_without_password_or_query(locked):
    post(locked.base, "/v1/recognize?model=cnn", auth=basic(*PASSWORD))
    text = (locked.folder / "access.log").read_text()
    line = [json.loads(line) for line in text.splitlines() if "/v1/recognize" in line][-1]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/recognize", 200)
    assert line["client"] == "127.0.0.1" and line["ms"] > 0
    assert "model=" not in text and "Authorization" not in text and PASSWORD[1] not in text


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("app"), "--requests-per-minute", "5") as running:
        yield running


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/recognize", "/gradio_api/upload", "/gradio_api/queue/join"])
def test_posts_from_other_sites_are_refused(app, headers, path):
    reply = post(app.base, path, headers=headers)
    assert reply.status_code == 403
    assert "other sites" in reply.json()["error"]


def test_posts_from_the_own_page_are_taken(app):
    own = {"origin": app.base, "sec-fetch-site": "same-origin"}
    assert post(app.base, headers=own).status_code == 200


def test_a_name_that_is_not_this_machines_is_refused(app):
    reply = httpx.get(app.base, headers={"host": "evil.example"}, timeout=PATIENCE)
    assert reply.status_code == 421


def test_no_page_may_load_anything_from_elsewhere(app):
    policy = httpx.get(app.base, timeout=PATIENCE).headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert "http" not in policy and "*" not in policy


def test_too_many_requests_are_told_to_wait(app):
    replies = [post(app.base) for _ in range(40)]
    refused = [reply for reply in replies if reply.status_code == 429]
    assert refused and refused[0].headers["retry-after"]
    assert httpx.get(f"{app.base}/healthz", timeout=PATIENCE).status_code == 200


def test_the_rate_fills_up_again_and_is_kept_by_address():
    now = [0.0]
    rate = Rate(60, lambda: now[0])
    assert [rate.take("a") for _ in range(61)] == [True] * 60 + [False]
    assert rate.take("b")
    now[0] = 2.0
    assert [rate.take("a") for _ in range(3)] == [True, True, False]
    assert all(Rate(0).take("a") for _ in range(1000))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_tls_with_a_certificate(tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        + ["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=127.0.0.1"]
        + ["-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    with running_app(tmp_path, "--certificate", "cert.pem", "--key", "key.pem") as app:
        assert app.base.startswith("https://")
        trusted = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        assert post(app.base, verify=trusted).json()["digit"] == 7


def in_flight(base):
    """Requests being answered, this one included."""
    text = httpx.get(f"{base}/metrics", timeout=PATIENCE).text
    return float(text.split("\ndigits_requests_in_flight ")[1].split()[0])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_what_is_being_answered_is_answered_before_the_end(tmp_path):
    with running_app(tmp_path) as app:
        post(app.base)
        replies, begun = [], threading.Event()
        many = [("files", (f"{number}.wav", SEVEN.read_bytes())) for number in range(40)]

        def ask():
            begun.set()
            replies.append(
                httpx.post(f"{app.base}/v1/recognize_batch", files=many, timeout=PATIENCE)
            )

        thread = threading.Thread(target=ask)
        thread.start()
        begun.wait()
        wait_until(lambda: in_flight(app.base) == 2, "the batch is being answered")
        app.process.send_signal(signal.SIGTERM)
        thread.join()
        assert [answer["digit"] for answer in replies[0].json()["answers"]] == [7] * 40
        assert app.process.wait(PATIENCE) in (0, 143)
        assert "Traceback" not in "".join(app.lines)


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = start(tmp_path, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "in use" in done.stderr


def start(folder, *options):
    return subprocess.run(
        [sys.executable, str(ROOT / "app.py"), "--no-browser", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--auth", "nocolon"], "name:password"),
        (["--certificate", "no.pem"], "TLS needs both"),
        (["--max-files", "0"], "max-files"),
        (["--port", "99999"], "port"),
        (["--decision.models-dir", "nowhere"], "no trained networks"),
    ],
)
def test_mistakes_of_starting_are_one_line(tmp_path, options, told):
    done = start(tmp_path, *options)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
