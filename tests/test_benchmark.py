"""The benchmark measures everything it says, in turns, and writes it down."""

from pathlib import Path

import pytest
from untrained import read_json, save_networks

import benchmark
import config


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
