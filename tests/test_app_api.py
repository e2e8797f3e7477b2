"""The web app's API, asked by real clients: answers, batches, models, health, documentation."""

import base64
import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from io import BytesIO

import httpx
import numpy as np
import pytest
from app_server import NINE, ROOT, SEVEN, running_app
from conftest import wav_bytes, zip_bytes
from waiting import PATIENCE

from recognition.recognizer import Recognizer
from webapp.api_page import EXAMPLES


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("app")) as running:
        yield running


@pytest.fixture
def client(app):
    with httpx.Client(base_url=app.base, timeout=PATIENCE) as client:
        yield client


@pytest.fixture(scope="module")
def expected():
    result = Recognizer().recognize_file(SEVEN).as_dict()
    return {name: result[name] for name in ("digit", "confidence", "models", "segments", "snr_db")}


def post(client, content=None, name="seven.wav", path="/v1/recognize"):
    return client.post(path, files={"file": (name, content or SEVEN.read_bytes())})


def test_a_file_in_a_form_gets_the_recognisers_answer(client, expected):
    reply = post(client)
    assert reply.status_code == 200
    answer = reply.json()
    assert answer["digit"] == 7
    assert expected.items() <= answer.items()
    assert answer["source"] == "seven.wav"


def test_a_plain_body_and_json_are_taken_too(client, expected):
    plain = client.post(
        "/v1/recognize", content=SEVEN.read_bytes(), headers={"content-type": "audio/wav"}
    )
    encoded = base64.b64encode(SEVEN.read_bytes()).decode()
    as_json = client.post("/v1/recognize", json={"audio": encoded, "name": "mine.wav"})
    assert plain.status_code == as_json.status_code == 200
    assert expected.items() <= plain.json().items()
    assert expected.items() <= as_json.json().items()
    assert as_json.json()["source"] == "mine.wav"


def test_one_network_can_be_asked(client):
    reply = post(client, path="/v1/recognize?model=cnn")
    assert list(reply.json()["models"]) == ["cnn"]


def test_a_batch_is_answered_in_its_order_with_errors_in_place(client):
    files = [
        ("files", ("nine.wav", NINE.read_bytes())),
        ("files", ("text.wav", b"this is no sound at all")),
        ("files", ("more.zip", zip_bytes({"inner/seven.wav": SEVEN.read_bytes(), "a.txt": b"x"}))),
    ]
    reply = client.post("/v1/recognize_batch", files=files)
    assert reply.status_code == 200
    answers = reply.json()["answers"]
    assert [answer["source"] for answer in answers] == ["nine.wav", "text.wav", "seven.wav"]
    assert [answer.get("digit") for answer in answers] == [9, None, 7]
    assert "error" in answers[1]
    assert reply.json()["failed"] == 1


def test_a_batch_in_which_nothing_is_sound_is_refused(client):
    reply = client.post("/v1/recognize_batch", files=[("files", ("a.wav", b"no sound"))])
    assert reply.status_code == 422


def test_models_are_told_with_size_and_scores(client):
    models = {item["name"]: item for item in client.get("/v1/models").json()["models"]}
    assert {"vote", "cnn", "rnn"} <= set(models)
    assert models["vote"]["networks"] == ["cnn", "rnn"]
    assert models["cnn"]["parameters"] > 10_000
    assert 0.5 < models["cnn"]["validation_accuracy"] <= 1


def test_health_and_metrics_follow_what_was_asked(client):
    post(client)
    assert client.get("/healthz").json()["status"] == "ok"
    metrics = client.get("/metrics").text
    line = 'digits_requests_total{part="/v1/recognize",status="200"}'
    assert float(metrics.split(line)[1].split()[0]) >= 1
    assert 'digits_answers_total{digit="7",kind="api"}' in metrics


def test_openapi_tells_every_route_and_the_page_shows_each(client):
    schema = client.get("/openapi.json").json()
    page = client.get("/docs").text
    paths = "/v1/recognize /v1/recognize_batch /v1/strings /v1/models /healthz /metrics"
    for path in paths.split():
        assert path in schema["paths"]
        assert path in page
    assert "multipart/form-data" in json.dumps(schema["paths"]["/v1/recognize"])
    assert "https://" not in page


NUMBER = "4271905"
"""What docs/number.wav holds."""
ANSWERS = {
    "/v1/recognize": "7",
    "/v1/recognize_batch": "[7, 9]",
    "/v1/strings": NUMBER,
    "/v1/models": "cnn",
    "/healthz": "ok",
    "gradio_client": "7",
}


@pytest.mark.parametrize("endpoint", EXAMPLES)
def test_the_python_example_works(app, endpoint):
    code = EXAMPLES[endpoint]["Python"].format(base=app.base)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert ANSWERS[endpoint] in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("endpoint", [name for name in EXAMPLES if "curl" in EXAMPLES[name]])
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_curl_example_works(app, endpoint):
    command = shlex.split(EXAMPLES[endpoint]["curl"].format(base=app.base))
    done = subprocess.run(
        [*command, "-s"], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    told = json.loads(done.stdout)
    digits = [answer["digit"] for answer in told.get("answers", [])]
    assert ANSWERS[endpoint] in f"{told} {digits}"


@pytest.mark.parametrize("endpoint", [name for name in EXAMPLES if "JavaScript" in EXAMPLES[name]])
@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_javascript_example_works(app, endpoint):
    opened = (
        'const fs = require("fs");'
        "const open = (name) => new File([fs.readFileSync(name)], name);"
        f'const file = open("docs/{"number" if endpoint == "/v1/strings" else "seven"}.wav");'
        'const files = [file, open("docs/noisy_nine.wav")];'
    )
    code = EXAMPLES[endpoint]["JavaScript"].format(base=app.base)
    script = f"{opened} (async () => {{ {code} }})();"
    done = subprocess.run(
        ["node", "-e", script], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ANSWERS[endpoint].replace("[7, 9]", "[ 7, 9 ]") in done.stdout, done.stderr


def test_answers_are_on_record_before_they_are_given(app, client):
    from webapp.history import History

    answer = post(client, name="recorded.wav").json()
    history = History(app.folder / "kept" / "history.db")
    (row,) = [row for row in history.rows() if row["id"] == answer["id"]]
    history.close()
    assert (row["source"], row["digit"], row["kind"]) == ("recorded.wav", 7, "api")
    assert row["confidence"] == answer["confidence"]


def test_a_string_is_answered_with_times_and_is_on_record(client, app):
    from webapp.history import History

    number = (ROOT / "docs" / "number.wav").read_bytes()
    answer = post(client, number, "number.wav", "/v1/strings").json()
    assert answer["digits"] == NUMBER and 0.5 < answer["confidence"] <= 1
    starts = [one["start_s"] for one in answer["spoken"]]
    assert starts == sorted(starts) and starts[-1] < answer["duration_s"]
    history = History(app.folder / "kept" / "history.db")
    (row,) = [row for row in history.rows() if row["id"] == answer["id"]]
    history.close()
    assert (row["digits"], row["kind"]) == (NUMBER, "api")
    longer = post(client, number, "number.wav", "/v1/strings?length=12").json()
    assert not longer["meets"] and longer["remarks"]


@pytest.mark.parametrize("query", ["length=0", "length=x", "check=sum"])
def test_what_no_string_can_be_is_refused(client, query):
    reply = post(client, path=f"/v1/strings?{query}")
    assert reply.status_code == 422
    assert reply.json()["error"]


def test_no_string_in_a_quiet_recording(client):
    answer = post(client, wav_bytes(np.zeros(32_000, np.float32), 16_000), path="/v1/strings")
    assert answer.json()["digits"] == "" and answer.json()["remarks"] == ["no digits found"]


def test_a_zip_may_hold_what_computers_leave_behind(client):
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("__MACOSX/._seven.wav", b"x")
        archive.writestr("seven.wav", SEVEN.read_bytes())
    reply = client.post("/v1/recognize_batch", files=[("files", ("a.zip", content.getvalue()))])
    assert [answer["digit"] for answer in reply.json()["answers"]] == [7]
