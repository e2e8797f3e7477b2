"""The benchmark measures everything it says, in turns, and writes it down."""

from pathlib import Path

import pytest
from untrained import read_json, save_networks

import benchmark
import config
from benchmark import Line


def test_lines_take_turns_and_are_compared_with_the_first_of_their_group(
    tmp_path: Path, monkeypatch, capsys
):
    turns = []

    def line(group: str, name: str, *figures: float) -> Line:
        waiting = iter(figures)

        def measure() -> float:
            turns.append(name)
            return next(waiting)

        return Line(group, name, measure)

    parts = {
        "answering": [line("one clip, ms", "a", 2.0, 1.0, 3.0), line("one clip, ms", "b", 4, 8, 6)],
        "speaking": [line("clips a second", "c", 5, 5, 5)],
        "learning": [],
        "batches": [],
    }
    for name, lines in parts.items():
        monkeypatch.setattr(benchmark, name, lambda *_, lines=lines: iter(lines))
    monkeypatch.setattr(benchmark, "VOICES", config.SyntheticSettings.only(espeak_clips=10))
    benchmark.run(benchmark.BenchmarkSettings(rounds=3, results_dir=tmp_path))
    assert turns == ["a", "b", "c"] * 3
    figures = read_json(tmp_path / "benchmark.json")["figures"]
    assert [(figure["median"], figure["ratio_to_first"]) for figure in figures] == [
        (2.0, 1.0),
        (6.0, 3.0),
        (5.0, 1.0),
    ]
    assert figures[0]["all"] == [2.0, 1.0, 3.0]
    assert capsys.readouterr().out.strip() in (tmp_path / "benchmark.md").read_text()


@pytest.mark.slow
def test_every_figure_is_measured_and_compared_with_the_first(tmp_path: Path, capsys):
    save_networks(tmp_path / "models")
    benchmark.run(
        benchmark.BenchmarkSettings(
            rounds=1,
            files=1000,
            results_dir=tmp_path,
            decision=config.DecisionSettings(models_dir=tmp_path / "models"),
        )
    )
    figures = read_json(tmp_path / "benchmark.json")["figures"]
    groups = {figure["group"].split(",")[0].split(" on ")[0] for figure in figures}
    assert groups == {
        "one clip",
        "synthetic speech",
        "one training batch of 128 clips",
        "batch_inference.py",
    }
    assert all(figure["median"] > 0 for figure in figures)
    firsts = [
        figures[index]
        for index in range(len(figures))
        if index == 0 or figures[index]["group"] != figures[index - 1]["group"]
    ]
    assert [figure["ratio_to_first"] for figure in firsts] == [1.0] * 4
    assert "augmentation and features" in capsys.readouterr().out


def test_too_few_files_are_refused():
    with pytest.raises(config.UserError, match="1000 files"):
        benchmark.BenchmarkSettings(files=10)
