"""The benchmark measures what it says, in turns, beside those who are there, and writes it down."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from untrained import read_json, save_networks, write_beeps

import benchmark
import config
from protocols import contestants, metrics, peers, speed, timing
from protocols.contestants import Contestant
from protocols.timing import Line, take_turns
from recognition.predictor import Predictor

ROOT = Path(benchmark.__file__).parent
SEVEN = ROOT / "docs" / "seven.wav"
SPHINX, OURS = "PocketSphinx", "untrained networks"
KEYS = {"figures", "absent", "test_set", "accuracy", "limits", "rounds", "machine", "record"}


@pytest.fixture
def few_voices(monkeypatch):
    monkeypatch.setattr(speed, "VOICES", config.SyntheticSettings.only(espeak_clips=10))


def unheard(name: str, *figures: float) -> Line:
    """A line with the figures that it will have."""
    waiting = iter(figures)
    return Line("a group", name, lambda: {"ms": next(waiting)})


def test_lines_take_turns_and_one_that_fails_says_why():
    turns = []

    def line(name: str) -> Line:
        return Line("g", name, lambda: turns.append(name) or {"ms": float(len(turns))})

    def refuse():
        turns.append("c")
        raise config.UserError("not installed")

    failing = Line("g", "c", refuse)
    measured, absent = take_turns([line("a"), failing, line("b")], 3)
    assert turns == ["a", "c", "b", "a", "b", "a", "b"]
    assert absent == {failing: "not installed"}
    assert [(item.name, item.all, item.median) for item in measured] == [
        ("a", [1.0, 4.0, 6.0], 4.0),
        ("b", [3.0, 5.0, 7.0], 5.0),
    ]


def test_ratios_compare_medians_with_the_first_of_the_group_and_unit():
    lines = [unheard("a", 2, 1, 3), unheard("b", 4, 8, 6), Line("h", "c", lambda: {"s": 5.0})]
    figures = benchmark.with_ratios(take_turns(lines, 3)[0])
    assert [(item["name"], item["median"], item["ratio_to_first"]) for item in figures] == [
        ("a", 2.0, 1.0),
        ("b", 6.0, 3.0),
        ("c", 5.0, 1.0),
    ]
    assert "6 (3.00)" in benchmark.group_table(figures[:2])


@pytest.fixture
def clip_result(tmp_path, monkeypatch, capsys):
    """The result of the group "clip", with untrained networks, and without PocketSphinx."""
    predictor = Predictor(config.DecisionSettings(models_dir=save_networks(tmp_path / "models")))

    def entrants(places, folder):
        yield OURS, lambda: contestants.ours(predictor, 10**6)
        yield "untrained", lambda: contestants.ours(predictor, None, trained=False)
        yield SPHINX, partial(contestants.peer, "pocketsphinx")

    monkeypatch.setitem(sys.modules, "pocketsphinx", None)  # as where it is not installed
    monkeypatch.setattr(contestants, "entrants", entrants)
    for corpus in ("few", "more"):
        write_beeps(tmp_path / "unseen" / corpus, [f"{digit}_eve_0" for digit in range(10)])
    settings = benchmark.BenchmarkSettings(
        rounds=3, clips=10, only="clip", unseen_dir=tmp_path / "unseen", results_dir=tmp_path
    )
    benchmark.run(settings)
    assert capsys.readouterr().out.strip() == (tmp_path / "benchmark.md").read_text().strip()
    return read_json(tmp_path / "benchmark.json")


def test_a_peer_that_is_not_installed_gets_a_row_that_says_so(clip_result, tmp_path):
    (row,) = clip_result["absent"]
    assert row["name"] == SPHINX
    assert "pip install pocketsphinx" in row["why"]
    assert f"| {SPHINX} " in (tmp_path / "benchmark.md").read_text()
    assert SPHINX not in {item["name"] for item in clip_result["figures"]}


def test_result_has_all_keys_and_consistent_figures(clip_result):
    assert set(clip_result) == KEYS
    assert {"processor", "cores", "threads", "versions"} <= set(clip_result["machine"])
    by_name = {(item["name"], item["unit"]): item for item in clip_result["figures"]}
    for item in clip_result["figures"]:
        assert set(item) == {"group", "name", "unit", "all", "median", "ratio_to_first"}
        assert len(item["all"]) == clip_result["rounds"] == 3
        assert item["median"] == np.median(item["all"])
        if item["group"] == speed.CLIP:
            first = by_name[OURS, item["unit"]]["median"]
            assert item["ratio_to_first"] == pytest.approx(item["median"] / first)
    limit = clip_result["limits"][OURS]
    peak = by_name[speed.LIMIT, "billion multiply-adds a second"]["median"]
    assert limit["limit_ms"] == pytest.approx(10**6 / peak / 1e6)
    busy = by_name[OURS, contestants.PROCESSOR]["median"]
    assert limit["times_limit"] == pytest.approx(busy / limit["limit_ms"])


def test_accuracy_is_by_corpus_and_untrained_networks_have_none(clip_result):
    scores = clip_result["accuracy"]
    assert set(scores) == {OURS}
    assert set(scores[OURS]) == {"few", "more", contestants.MEAN}
    own = [scores[OURS][corpus] for corpus in ("few", "more")]
    assert [item["total"] for item in own] == [5, 5]
    assert scores[OURS]["mean"]["value"] == pytest.approx(np.mean([x["value"] for x in own]))
    assert clip_result["test_set"] == "unseen speakers"


def test_everyone_answers_the_same_clips_at_their_own_rate(tmp_path):
    write_beeps(tmp_path / "few", [f"{digit}_eve_0" for digit in range(10)])
    clips = contestants.same_clips(tmp_path, 10)
    for rate in (8000, 16000):
        ears = []
        contestant = Contestant("ears", rate, lambda x, ears=ears: ears.append(len(x)) or 3)
        assert contestants.accuracy(contestant, clips)["mean"] == metrics.macro_average(
            [metrics.proportion(clips.clips.labels == 3)]
        )
        assert ears == [len(waveform) for waveform in clips.waveforms(rate)]
    low, high = clips.waveforms(8000), clips.waveforms(16000)
    assert all(abs(2 * len(a) - len(b)) <= 1 for a, b in zip(low, high, strict=True))


def test_a_process_is_measured_with_its_own_memory_or_says_why_it_failed():
    small = timing.whole_process([sys.executable, "-c", ""])
    work = "x = b'1' * 200_000_000"
    large = timing.whole_process([sys.executable, "-c", work])
    if "peak MB" in small:
        assert 150 < large["peak MB"] - small["peak MB"] < 250
    with pytest.raises(config.UserError, match="^no such thing$"):
        timing.whole_process([sys.executable, "-c", "raise SystemExit('a\\nerror: no such thing')"])


@pytest.mark.parametrize(
    ("name", "module"), [("pocketsphinx", "pocketsphinx"), ("whisper", peers.WHISPER_PACKAGE)]
)
def test_peers_hear_the_sample(name, module):
    pytest.importorskip(module, reason=f"{module} is not installed")
    command = [sys.executable, "-m", "protocols.peers", name, str(SEVEN)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("7", 0), done.stderr


def test_what_a_peer_writes_is_read_as_digits():
    assert peers.as_digits("Four two, 70 to oh-nine. And so on!") == "4270209"


def test_a_process_of_a_peer_that_is_not_installed_says_so_in_one_line(tmp_path):
    (tmp_path / "pocketsphinx.py").write_text("raise ImportError")
    done = subprocess.run(
        [sys.executable, "-m", "protocols.peers", "pocketsphinx", str(SEVEN)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert done.stderr == "error: not installed: pip install pocketsphinx\n"


def test_whisper_without_weights_says_what_is_missing(tmp_path):
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed")
    with pytest.raises(peers.Absent, match="no such folder of weights"):
        peers.load("whisper", tmp_path / "none")
    with pytest.raises(peers.Absent, match="no weights of tiny.en"):
        peers.load("whisper", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": 10}, "320 files"),
        ({"clips": 1}, "10 clips"),
        ({"only": "clip,clap"}, "'clap': use clip, clean"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(config.UserError, match=message):
        benchmark.BenchmarkSettings(**changes)


def test_training_and_growth_are_measured(tmp_path, few_voices):
    settings = benchmark.BenchmarkSettings(rounds=1, only="grow,clean", results_dir=tmp_path)
    benchmark.run(settings)
    result = read_json(tmp_path / "benchmark.json")
    names = [item["name"] for item in result["figures"] if item["group"].startswith("growth")]
    assert list(dict.fromkeys(names)) == [
        "1 times: 10 clips",
        "3 times: 30 clips",
        "10 times: 100 clips",
    ]
    assert {"stage vad", "stage gate"} <= {item["name"] for item in result["figures"]}
    assert all(item["median"] > 0 for item in result["figures"])
    assert not result["absent"]


@pytest.mark.slow
def test_every_group_is_measured(tmp_path: Path, few_voices):
    save_networks(tmp_path / "models")
    benchmark.run(
        benchmark.BenchmarkSettings(
            rounds=1,
            clips=10,
            files=320,
            unseen_dir=None,
            student_dir=tmp_path / "none",
            results_dir=tmp_path,
            decision=config.DecisionSettings(models_dir=tmp_path / "models"),
        )
    )
    result = read_json(tmp_path / "benchmark.json")
    missing = {row["name"]: row["why"] for row in result["absent"]}
    for name in ("vote, ONNX int8", "vote, ONNX float32", "vote, PyTorch"):
        assert name in result["accuracy"], missing
    assert "no trained networks" in missing["student, PyTorch"]
    groups = {item["group"].split(",")[0] for item in result["figures"]}
    assert {"in memory", "whole process", "batch_inference.py", "synthetic speech"} <= groups
    assert {"training", "growth with the data", "the machine"} <= groups
    assert result["test_set"] == "synthetic speakers"
    assert all(item["median"] > 0 for item in result["figures"])
