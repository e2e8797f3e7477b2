"""The page that recognises in the browser: built, served, and used in a real Chromium."""

import base64
import contextlib
import functools
import http.server
import io
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import FLAGS, chromium, microphone
from conftest import made_once, wav_bytes
from waiting import untraced

import audio_cleaning
import audio_io
import config
from recognition.onnx_predictor import OnnxPredictor
from recognition.recognizer import Recognizer

ROOT = Path(__file__).parent.parent
WEB = ROOT / "web"
SOURCES = sorted((WEB / "src").iterdir())
STUDENT = ROOT / "saved_models" / "student.onnx"
MAX_BYTES = 15_000_000
"""Bytes of the whole page with its model."""
CLIPS = 300
RATE = 16000
ANSWER = """async (content) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0)).buffer;
  const { digit, posteriors } = await recognizer.recognize(await recognizer.decode(bytes));
  return [digit, ...posteriors];
}"""


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder as any file server would, and counts what it sends."""

    def __init__(self, folder: Path) -> None:
        self.sent: list[tuple[str, int]] = []
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Server

    def copyfile(self, source, outputfile) -> None:
        content = source.read()
        self.server.sent.append((self.path, len(content)))
        outputfile.write(content)

    def log_message(self, *_) -> None:
        """The tests' output is for failures."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    with Server(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def build(*options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, WEB / "build.py", *options]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network that the page is made for, or else those that are trained from scratch."""
    if STUDENT.is_file():
        return STUDENT
    pytest.importorskip("onnxscript", reason="the exporter needs it")
    from recognition.onnx_export import write_vote

    networks = config.DecisionSettings(ROOT / "saved_models" / "from_scratch", runtime="torch")

    def export(folder: Path) -> None:
        write_vote(folder / "scratch.onnx", networks, "float32")

    return made_once(tmp_path_factory, "page-model", export) / "scratch.onnx"


@pytest.fixture(scope="session")
def page_folder(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as its command builds it."""
    if shutil.which("npm") is None:
        pytest.skip("the page is built with npm, which Node.js brings: it is not there")

    def build_page(folder: Path) -> None:
        done = build("--model", model, "--to", folder / "dist")
        if "npm ci failed" in done.stderr:
            pytest.skip(f"npm can't fetch the page's packages: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "page", build_page) / "dist"


@contextlib.contextmanager
def opened(address: str, flags: tuple[str, ...] = (), **context) -> Iterator:
    """A tab of a real Chromium that shows the page, ready to be used."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by it")
    place = chromium()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=place, args=[*FLAGS, *flags])
        tab = browser.new_context(**context).new_page()
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(address)
        tab.locator("#listen:enabled").wait_for(timeout=120_000)
        yield tab
        browser.close()
        assert not errors


def picture(name: str) -> str:
    """Where a screenshot is kept, to be looked at."""
    folder = ROOT / "results" / "web_page"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / f"{name}.png")


def real_clips(archive: Path, unseen: Path, non_digits: Path) -> list[bytes]:
    """Files of many speakers, rooms and rates, of other words, and of digits in steady noise."""
    with zipfile.ZipFile(archive) as content:
        names = sorted(name for name in content.namelist() if re.search(r"_[0-4]\.wav$", name))
        fsdd = [content.read(name) for name in names]
    folders = [unseen / "iitg", unseen / "speech_commands", unseen / "inspektral", non_digits]
    found = [[path.read_bytes() for path in sorted(folder.rglob("*.wav"))] for folder in folders]
    shares = [group[:: max(1, len(group) // 60)] for group in [fsdd, *found] if group]
    spread = [clip for share in shares for clip in share[:60]]
    random, microphones = np.random.default_rng(0), [*found[1], *found[0]]
    return (spread + [in_noise(clip, random) for clip in microphones[1::3]])[:CLIPS]


def in_noise(clip: bytes, random: np.random.Generator) -> bytes:
    """A clip between 0.3 s of silence, in white noise at about 5 dB.

    Of a microphone: the upper half of telephone sound is empty, and there rounding decides what
    spectral gating lets through.
    """
    waveform, rate = audio_io.read_audio(clip)
    padded = np.pad(waveform, round(0.3 * rate))
    noise = random.normal(0, 0.56 * audio_io.rms(waveform), len(padded))
    return wav_bytes(np.clip(padded + noise, -1, 1).astype(np.float32), rate)


@pytest.mark.slow
def test_the_page_answers_as_python_does(
    page_folder, model, fsdd_archive_path, unseen_speakers_dir, non_digits_dir
):
    clips = real_clips(fsdd_archive_path, unseen_speakers_dir, non_digits_dir)
    assert len(clips) == CLIPS
    recognizer = Recognizer(OnnxPredictor(model))
    page_rows, python_rows, whole, gated = [], [], [], 0
    with served(page_folder) as server, opened(server.address) as tab:
        tab.evaluate(
            "async () => { window.recognizer = await (await import('./recognizer.js')).load(); }"
        )
        for clip in clips:
            page_rows.append(tab.evaluate(ANSWER, base64.b64encode(clip).decode()))
            recording = audio_io.read_recording(clip)
            sound = audio_io.resample(recording.waveform, recording.sample_rate, recognizer.rate)
            cleaned = audio_cleaning.clean(sound, recognizer.rate)
            gated += cleaned.gated is not cleaned.highpassed
            answer = recognizer.predictor.predict(cleaned.speech)
            python_rows.append([answer.digit, *answer.posteriors, answer.reject_probability])
            whole.append(recognizer.recognize(recording).digit)
    digits, expected = [row[0] for row in page_rows], [row[0] for row in python_rows]
    apart = np.abs(
        np.array(page_rows)[:, 1:].astype(float) - np.array(python_rows)[:, 1:].astype(float)
    )
    print(
        f"posteriors differ by up to {apart.max():.1e}; same answers: "
        f"{agreement(digits, expected)}, of several digits: {agreement(digits, whole)} of {CLIPS}; "
        f"spectral gating in {gated}"
    )
    assert len(set(digits)) == config.N_ANSWERS and gated >= CLIPS // 50
    assert apart.max() < 1e-3
    assert agreement(digits, expected) >= 0.995 * CLIPS
    assert agreement(digits, whole) >= 0.99 * CLIPS


def agreement(answers: list, others: list) -> int:
    return sum(one == other for one, other in zip(answers, others, strict=True))


@pytest.mark.slow
def test_the_microphone_hears_ten_digits(page_folder, fsdd_archive_path, tmp_path):
    random = np.random.default_rng(0)
    speakers = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    sound = [np.zeros(3 * RATE)]
    with zipfile.ZipFile(fsdd_archive_path) as archive:
        names = {name.rsplit("/", 1)[-1]: name for name in archive.namelist()}
        for digit in range(10):
            clip = archive.read(names[f"{digit}_{speakers[digit % 6]}_0.wav"])
            waveform, _ = audio_io.read_audio(io.BytesIO(clip), RATE)
            sound += [0.3 * waveform / np.abs(waveform).max(), np.zeros(RATE)]
    heard = np.concatenate([*sound, np.zeros(RATE)])
    heard = heard + random.normal(0, 1e-3, len(heard))
    audio_io.write_audio(tmp_path / "said.wav", heard.astype(np.float32), RATE)
    flags = microphone(tmp_path / "said.wav")
    with served(page_folder) as server, opened(server.address, flags) as tab:
        tab.get_by_role("button", name="Start listening").click()
        tab.locator("#digits").filter(has_text="5").wait_for(timeout=60_000)
        tab.screenshot(path=picture("microphone"), full_page=True, timeout=120_000)
        tab.wait_for_timeout(500 * len(heard) / RATE + 5000)
        said = tab.locator("#digits").inner_text().split()
        tab.get_by_role("button", name="Stop listening").click()
        tab.get_by_role("button", name="Start listening").wait_for()
    print("heard:", *said)
    assert len(said) <= 11
    assert subsequence(said, list("0123456789")) >= 9


@pytest.fixture(scope="session")
def strings_page(page_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with the network that hears whole strings."""
    pytest.importorskip("onnxscript", reason="the exporter needs it")
    from recognition.strings_export import write_strings

    checkpoint = ROOT / "saved_models" / config.STRINGS_NAME
    if not checkpoint.is_file():
        pytest.skip("no trained network of strings")

    def build_page(folder: Path) -> None:
        with untraced():
            write_strings(folder / "strings.onnx", checkpoint)
        done = build("--strings", folder / "strings.onnx", "--to", folder / "dist")
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "strings-page", build_page) / "dist"


@pytest.mark.slow
def test_several_digits_in_one_breath(strings_page, tmp_path):
    number = ROOT / "docs" / "number.wav"
    waveform, _ = audio_io.read_audio(number, RATE)
    heard = np.pad(waveform, 3 * RATE)
    heard += np.random.default_rng(0).normal(0, 1e-3, len(heard)).astype(np.float32)
    audio_io.write_audio(tmp_path / "said.wav", heard, RATE)
    flags = microphone(tmp_path / "said.wav")
    with served(strings_page) as server, opened(server.address, flags) as tab:
        tab.evaluate("async () => { await navigator.serviceWorker.ready; }")
        tab.get_by_label("Several digits in one breath").check()
        tab.get_by_label("Open a recording").set_input_files(number)
        tab.locator("#digit").filter(has_text="4271905").wait_for(timeout=60_000)
        assert re.fullmatch(r"\d+ % sure", tab.locator("#sure").inner_text())
        assert sum(size for _, size in server.sent) <= MAX_BYTES
        tab.get_by_role("button", name="Clear").click()
        tab.get_by_role("button", name="Start listening").click()
        tab.locator("#digits").filter(has_text="5").wait_for(timeout=60_000)
        said = tab.locator("#digits").inner_text().split()
        tab.screenshot(path=picture("strings"), full_page=True, timeout=120_000)
    print("heard:", *said)
    assert subsequence(list("".join(said)), list("4271905")) >= 6


def subsequence(one: list, other: list) -> int:
    """Length of the longest common subsequence."""
    lengths = np.zeros((len(one) + 1, len(other) + 1), int)
    for i, left in enumerate(one):
        for j, right in enumerate(other):
            longest = max(lengths[i, j + 1], lengths[i + 1, j])
            lengths[i + 1, j + 1] = lengths[i, j] + 1 if left == right else longest
    return int(lengths[-1, -1])


@pytest.mark.slow
def test_a_microphone_that_is_refused_is_told(page_folder):
    with served(page_folder) as server, opened(server.address) as tab:
        tab.get_by_role("button", name="Start listening").click()
        tab.get_by_role("status").filter(has_text="no microphone").wait_for()
        assert tab.locator("#listen").get_attribute("aria-pressed") == "false"


@pytest.mark.slow
def test_files_are_answered_offline_and_nothing_leaves_the_device(page_folder, tmp_path):
    (tmp_path / "words.wav").write_text("not sound")
    (tmp_path / "silence.wav").write_bytes(wav_bytes(np.zeros(RATE, np.float32), RATE))
    addresses: list[str] = []
    with served(page_folder) as server, opened(server.address, color_scheme="light") as tab:
        tab.context.on("request", lambda request: addresses.append(request.url))
        tab.evaluate("async () => { await navigator.serviceWorker.ready; }")
        first = sum(size for _, size in server.sent)
        chrome = tab.context.new_cdp_session(tab)
        hindrances = chrome.send("Page.getInstallabilityErrors")["installabilityErrors"]
        assert {item["errorId"] for item in hindrances} <= {"in-incognito"}  # as tests are
        server.shutdown()
        server.server_close()  # from here on there is nobody to answer
        tab.reload()
        tab.locator("#listen:enabled").wait_for(timeout=120_000)
        show = tab.get_by_label("Open a recording")
        show.set_input_files(ROOT / "docs" / "seven.wav")
        tab.locator("#digit").filter(has_text="7").wait_for()
        assert "sure" in tab.locator("#sure").inner_text()
        assert re.search(r"^\d+ %$", tab.locator("#posteriors li:nth-child(8)").inner_text(), re.M)
        tab.screenshot(path=picture("file"), full_page=True, timeout=120_000)
        show.set_input_files(tmp_path / "words.wav")
        tab.get_by_role("status").filter(has_text="not sound that this browser can read").wait_for()
        show.set_input_files(tmp_path / "silence.wav")
        tab.locator("#digit").filter(has_text="no digit").wait_for()
        assert tab.locator("#sure").inner_text() == "no speech found"
        origin = server.address
    print(f"sent: {first / 1e6:.1f} MB")
    assert 1e6 < first <= MAX_BYTES
    assert addresses and all(address.startswith(origin) for address in addresses)


@pytest.mark.slow
def test_keyboard_alone_and_a_phone_are_enough(page_folder):
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
    with served(page_folder) as server, opened(server.address, **phone) as tab:
        reached = []
        for _ in range(3):
            tab.keyboard.press("Tab")
            reached.append(tab.evaluate("() => document.activeElement.id"))
        assert reached == ["listen", "file", "clear"]
        for role, name in (("img", "Spectrogram"), ("meter", "Microphone level")):
            assert tab.get_by_role(role, name=re.compile(name)).count() == 1
        dropped = base64.b64encode((ROOT / "docs" / "seven.wav").read_bytes()).decode()
        tab.evaluate(
            """(content) => {
              const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
              const dataTransfer = new DataTransfer();
              dataTransfer.items.add(new File([bytes], "seven.wav"));
              dispatchEvent(new DragEvent("drop", { dataTransfer }));
            }""",
            dropped,
        )
        tab.locator("#digits").filter(has_text="7").wait_for()
        assert tab.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        tab.screenshot(path=picture("phone"), full_page=True, timeout=120_000)
        tab.keyboard.press("Enter")  # "Clear" still has the focus
        assert tab.locator("#digits").inner_text() == ""


def test_a_model_that_is_not_there_is_told_in_one_line(tmp_path):
    done = build("--model", tmp_path / "none.onnx", "--to", tmp_path / "dist")
    assert done.returncode == 1
    assert "none.onnx: no such file" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "dist").exists()


def test_the_page_is_small_and_names_no_other_place():
    texts = {path.name: path.read_text(encoding="utf-8") for path in SOURCES}
    lines = sum(len(text.splitlines()) for name, text in texts.items() if name.endswith(".js"))
    assert 0 < lines <= 400
    places = {
        match for text in texts.values() for match in re.findall(r"https?://[^\s\"'<>]+", text)
    }
    assert places == {"http://www.w3.org/2000/svg"}
