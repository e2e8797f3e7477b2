"""The web app's pages in a real browser: asserted on what they show."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from app_server import NINE, ROOT, SEVEN, running_app
from browser import browser_page, chromium, open_tab, shown_digit, upload, wait_until_loaded
from conftest import wav_bytes, zip_bytes
from waiting import PATIENCE, wait_until

import audio_io
from webapp.history import History

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SHOTS = ROOT / "results" / "app"
RATE = 48_000
GOES = 3
"""Times that the file is played: a browser short of processor time begins late, or drops sound."""
TABS = ("Single", "Continuous", "Batch", "History", "Settings")


def shoot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    chromium()
    with running_app(tmp_path_factory.mktemp("app"), "--live.user", "ada") as running:
        wait_for_networks(running)
        yield running


def wait_for_networks(app):
    import httpx

    assert httpx.get(f"{app.base}/healthz", timeout=PATIENCE).status_code == 200


@pytest.fixture
def page(app):
    with browser_page(app.base) as opened:
        yield opened


@pytest.fixture(scope="module")
def digit_files(unseen_speakers_dir):
    """Ten digits by people whom the networks have not heard, one file each."""
    files = sorted(unseen_speakers_dir.glob("*/[0-9]_*.wav"))
    return [next(path for path in files if path.name[0] == str(digit)) for digit in range(10)]


def speech(paths, pause=0.7, before=3.0):
    """A recording that a microphone might make: the files with pauses, float32 at 48 kHz.

    It is quiet for `before` seconds at first, in which a busy browser begins to record.
    """
    noise = np.random.default_rng(0).normal(0, 1e-3, round(max(pause, before) * RATE))
    noise = noise.astype(np.float32)
    quiet = noise[: round(pause * RATE)]
    parts = [noise[: round(before * RATE)]]
    for path in paths:
        waveform, rate = audio_io.read_audio(path)
        loud = 0.3 * waveform / max(np.abs(waveform).max(), 1e-3)
        parts += [audio_io.resample(loud, rate, RATE), quiet]
    return np.concatenate(parts)


def heard_file(folder, paths, before=3.0):
    """The file that the browser's microphone hears, and its length in seconds."""
    path, waveform = folder / "heard.wav", speech(paths, before=before)
    audio_io.write_audio(path, waveform, RATE)
    return path, len(waveform) / RATE


def test_an_upload_is_answered_with_all_that_led_to_it(page):
    upload(page, SEVEN)
    assert shown_digit(page) == "7"
    text = page.inner_text("#single-answer")
    for fact in ("seven", "sure", "CNN 7", "BiLSTM 7", "Speech", "Level", "SNR", "Time"):
        assert fact in text
    assert page.locator("#single-bars tbody tr").count() == 11
    assert "7 seven" in page.inner_text("#single-bars tr.best")
    page.wait_for_selector("#single-figure img")
    page.wait_for_selector("#single-cleaned button[aria-label=Play]")
    page.wait_for_timeout(500)
    shoot(page, "single")
    assert page.elsewhere == []


def test_a_trimmed_recording_is_answered_anew(page, tmp_path):
    long = tmp_path / "long.wav"
    audio_io.write_audio(long, speech([SEVEN], 1.5, 1.5), RATE)
    upload(page, long)
    assert shown_digit(page) == "7"
    before = length(page)
    page.click("#single-audio button[aria-label='Trim audio to selection']")
    page.wait_for_timeout(2000)  # the selection is drawn
    page.locator("#single-audio").get_by_role("button", name="Trim", exact=True).click()
    page.wait_for_function(
        "(before) => !document.querySelector('#single-answer').innerText.includes(before)",
        arg=f"{before:.2f} s",
    )
    assert length(page) < before


def wait_text(page, place, text):
    """Wait until a text is shown in a place."""
    page.wait_for_function(
        "([place, text]) => document.querySelector(place)?.innerText.includes(text)",
        arg=[place, text],
    )


def length(page):
    return float(re.search(r"Length\s+([\d.]+) s", page.inner_text("#single-answer"))[1])


def test_ten_microphone_clips(app, digit_files, tmp_path):
    right = 0
    for digit, path in enumerate(digit_files):
        heard, seconds = heard_file(tmp_path, [path])
        with browser_page(app.base, heard) as page:
            wait_until_loaded(page)
            page.locator("#single-audio").get_by_role("button", name="Record", exact=True).click()
            page.wait_for_selector("#single-audio .stop-button")
            page.wait_for_timeout(1000 * seconds)
            page.click("#single-audio .stop-button")
            right += shown_digit(page) == str(digit)
    assert right >= 9


def streamed_digits(page, seconds, fluent=False):
    """The digits that continuous listening shows of the microphone's file."""
    open_tab(page, "Continuous")
    wait_until_loaded(page)
    if fluent:
        page.check("#stream-fluent input")
    audio = page.locator("#stream-audio")
    audio.get_by_role("button", name="Record", exact=True).click()
    wait_text(page, "#stream-level", "speech")
    page.wait_for_timeout(1000 * seconds)
    shown = None
    while (now := page.inner_text("#stream-digits")) != shown:  # some are still on their way
        shown = now
        page.wait_for_timeout(5000)
    audio.get_by_role("button", name="Stop", exact=True).click()
    wait_text(page, "#stream-level", "not listening")
    return page.inner_text("#stream-digits").split()


def test_continuous_over_ten_digits(app, digit_files, tmp_path):
    heard, seconds = heard_file(tmp_path, digit_files, before=8.0)
    for go in range(GOES):
        with browser_page(app.base, heard) as page:
            digits = streamed_digits(page, seconds)
            shoot(page, "continuous")
            text = page.locator("#stream-text").locator("input, textarea").input_value()
            assert text == "".join(digits)
            page.click("#stream-clear")
            wait_text(page, "#stream-digits", "appear here")
        print("go", go, *digits)
        if digits == list("0123456789"):
            return
    pytest.fail(f"heard {digits}")


def test_a_number_in_one_breath(app, tmp_path):
    heard, seconds = heard_file(tmp_path, [ROOT / "docs" / "number.wav"], before=8.0)
    for go in range(GOES):
        with browser_page(app.base, heard) as page:
            digits = streamed_digits(page, seconds, fluent=True)
            shoot(page, "number")
        print("go", go, *digits)
        if "".join(digits) == "4271905":
            return
    pytest.fail(f"heard {digits}")


def test_a_batch_of_fifty_files_and_a_zip(app, page, tmp_path):
    files = []
    for number in range(48):
        source, label = ((SEVEN, 7), (NINE, 9))[number % 2]
        files.append(tmp_path / f"{label}_ada_{number}.wav")
        files[-1].write_bytes(source.read_bytes())
    files.append(tmp_path / "bad.wav")
    files[-1].write_bytes(b"no sound")
    files.append(tmp_path / "more.zip")
    files[-1].write_bytes(zip_bytes({"in/1_eve_0.wav": SEVEN.read_bytes()}))
    open_tab(page, "Batch")
    page.set_input_files("#batch-files input[type=file]", files)
    page.wait_for_function("document.querySelectorAll('#batch-files .file').length === 50")
    page.click("#batch-start")
    page.wait_for_selector("#batch-state >> text=50 of 50 files, 1 of them unreadable")
    text = page.inner_text("#batch-matrix")
    assert "Accuracy 98.0% (48 of 49" in text
    wait_text(page, "#batch-table", "7_ada_0.wav")
    with page.expect_download() as download:
        page.click("#batch-csv")
    with Path(download.value.path()).open(newline="") as table:
        rows = {row["path"]: row for row in csv.DictReader(table)}
    assert len(rows) == 50
    assert rows["7_ada_0.wav"]["digit"] == "7" and rows["bad.wav"]["error"]
    shoot(page, "batch")


def test_feedback_reaches_the_history_and_the_own_voice(app, page):
    upload(page, SEVEN)
    assert shown_digit(page) == "7"
    page.locator("#single-feedback").get_by_text("right", exact=True).click()
    page.wait_for_selector("#single-noted >> text=it was 7")
    assert (app.folder / "kept" / "own" / "7_ada_0.wav").is_file()
    open_tab(page, "History")
    page.wait_for_selector("#history-summary >> text=judged ones were right")
    wait_text(page, "#history-table", "right")
    shoot(page, "history")


def test_bad_files_are_told_on_the_page(page, tmp_path):
    bad = tmp_path / "<b>bad.wav"
    bad.write_bytes(b"this is no sound")
    short = tmp_path / "short.wav"
    short.write_bytes(wav_bytes(np.full(400, 0.1, np.float32), 8000))
    for path, told in ((bad, "bad.wav"), (short, "too short: 50 ms")):
        upload(page, path)
        page.wait_for_selector(f"#single-answer [role=alert] >> text={told}")
        page.click("#single-audio button[aria-label=Clear]")
        page.wait_for_selector("#single-answer >> text=Record a digit")


def test_history_and_settings_survive_a_restart(tmp_path):
    chromium()
    with running_app(tmp_path) as app:
        wait_for_networks(app)
        with browser_page(app.base) as page:
            upload(page, SEVEN)
            assert shown_digit(page) == "7"
            open_tab(page, "Settings")
            page.locator("#settings-models").get_by_text("CNN", exact=True).click()
            page.locator("#settings-theme").get_by_text("dark", exact=True).click()
            page.wait_for_selector("body.dark")
            shoot(page, "settings-dark")
            page.click("#settings-save")
            page.wait_for_selector("#settings-told >> text=Saved")
        app.kill()
    with running_app(tmp_path) as app:
        wait_for_networks(app)
        with browser_page(app.base) as page:
            page.wait_for_selector("body.dark")
            upload(page, SEVEN)
            shown_digit(page)
            assert "BiLSTM" not in page.inner_text("#single-answer")
            open_tab(page, "History")
            page.wait_for_selector("#history-summary >> text=2 answers")
            open_tab(page, "Settings")
            page.click("#settings-reset")
            page.wait_for_selector("#settings-told >> text=Back to defaults")
            page.wait_for_selector("body:not(.dark)")


def test_answers_can_be_deleted(tmp_path):
    chromium()
    with running_app(tmp_path) as app:
        wait_for_networks(app)
        with browser_page(app.base) as page:
            upload(page, SEVEN)
            shown_digit(page)
            open_tab(page, "History")
            page.wait_for_selector("#history-summary >> text=1 answers")
            page.click("#history-delete-all")
            page.wait_for_selector("#history-told >> text=Tick the box")
            page.locator("#history-sure input").check()
            page.click("#history-delete-all")
            page.wait_for_selector("#history-summary >> text=No answers")
    history = History(tmp_path / "kept" / "history.db")
    assert history.count() == 0
    history.close()


def tab_to(page, wanted, presses=80):
    """Press Tab until what is focused is `wanted` (JavaScript on `element`)."""
    for _ in range(presses):
        page.keyboard.press("Tab")
        if page.evaluate(f"((element) => {wanted})(document.activeElement)"):
            return
    raise AssertionError(f"no way by keyboard to {wanted}")


def test_the_keyboard_alone_is_enough(page):
    choosers = []
    # early: listening takes the browser a moment to begin
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    tab_to(page, "element.getAttribute('aria-label') === 'Upload file'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#single-audio input[type=file]", state="attached")
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "element.closest('#single-audio') && element.innerText.includes('Upload')")
    page.keyboard.press("Enter")
    wait_until(lambda: page.wait_for_timeout(50) or choosers, "a file can be chosen")
    choosers[0].set_files(SEVEN)
    assert shown_digit(page) == "7"
    tab_to(page, "element.closest('#single-feedback')")
    page.keyboard.press("Space")
    page.wait_for_selector("#single-noted >> text=it was 7")
    for name in TABS:
        page.evaluate("document.activeElement.blur()")
        tab_to(page, f"element.getAttribute('role') === 'tab' && element.innerText === '{name}'")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"[role=tab][aria-selected=true] >> text={name}")


NAMELESS = """
() => [...document.querySelectorAll("button, input, textarea, select, [role=button], img")]
  .filter((item) => item.checkVisibility())
  .filter((item) => {
    const named = item.getAttribute("aria-label") || item.getAttribute("aria-labelledby") ||
      item.title || item.alt || item.placeholder || item.innerText || item.closest("label") ||
      (item.labels && item.labels.length);
    return !named;
  })
  .map((item) => item.outerHTML.slice(0, 200))
"""


def test_everything_has_a_name_for_a_screen_reader(page):
    upload(page, SEVEN)
    shown_digit(page)
    page.wait_for_selector("#single-figure img")
    for name in TABS:
        open_tab(page, name)
        page.wait_for_timeout(500)
        assert page.evaluate(NAMELESS) == [], name
    assert page.evaluate("document.documentElement.lang") == "en"


def test_a_phone_shows_every_page_without_scrolling_sideways(app):
    with browser_page(app.base, viewport={"width": 390, "height": 800}) as page:
        upload(page, SEVEN)
        assert shown_digit(page) == "7"
        page.wait_for_selector("#single-figure img")
        for name in TABS:
            if not page.get_by_role("tab", name=name, exact=True).is_visible():
                page.locator(".overflow-menu > button").click()
                page.locator(".overflow-dropdown").get_by_text(name, exact=True).click()
            else:
                open_tab(page, name)
            page.wait_for_timeout(800)
            width = page.evaluate("document.documentElement.scrollWidth")
            shoot(page, f"phone-{name.lower()}")
            assert width <= 391, name


def test_no_page_asks_anything_of_another_machine(page):
    for name in TABS:
        open_tab(page, name)
        page.wait_for_timeout(500)
    upload_tab = page.elsewhere
    page.goto(page.url + "docs")
    page.wait_for_selector("text=gradio_client")
    shoot(page, "api")
    assert upload_tab == []
