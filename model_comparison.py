"""Compare the networks: train what is missing, score all on the same clips, recommend one.

    python model_comparison.py                                   every network and the ensemble
    python model_comparison.py --models cnn rnn lightweight ensemble --use-case speed
    python model_comparison.py --seeds-of-best 3                 three seeds for the two best
    python model_comparison.py --leave-one-speaker-out           six more trainings

Trainings and scores are kept: a second call goes on where the first was stopped, and only the
times are always taken again, in turns. --use-case: accuracy takes the most accurate; speed the
fastest within 2 points of it; balanced weighs points against tenfolds of latency and size;
production takes the least mean of errors on unseen speakers and in noise, words taken for digits
and calibration error, of those that answer within 15 ms.
"""

from __future__ import annotations

import functools
import time

import config
import utils
from models import registry
from protocols import comparison, comparison_scores
from protocols.comparison import ComparisonSettings, Entry, Row
from protocols.comparison_ensemble import leave_one_speaker_out, make_ensemble
from protocols.comparison_report import comparison_report, merged

BEST = 2
"""Networks that are trained with further seeds, chosen by their validation loss."""


def compare(settings: ComparisonSettings) -> tuple[list[Row], dict[str, str]]:
    """Train, score and time; a row for each network and why others have none.

    Raises
    ------
    UserError : no network could be trained
    """
    entries, failed = trained(settings)
    groups = {entry.name: [entry] for entry in entries}
    best = sorted(entries, key=comparison.validation_loss)[:BEST]
    for entry in best if settings.seeds_of_best > 1 else []:
        for seed in range(settings.seed + 1, settings.seed + settings.seeds_of_best):
            again = Entry(entry.name, seed, settings.networks_dir)
            comparison.train_missing(settings, again)
            groups[entry.name].append(again)
    members: dict[str, float] = {}
    if registry.ENSEMBLE in settings.models and len(entries) > 1:
        groups[registry.ENSEMBLE] = [make_ensemble(settings, entries)]
    clips = functools.cache(lambda: comparison_scores.load_clip_sets(settings, entries[0]))
    rows = {
        name: merged([comparison_scores.score(settings, entry, clips) for entry in group])
        for name, group in groups.items()
    }
    if registry.ENSEMBLE in rows:
        members = rows[registry.ENSEMBLE]["members"]
    timed = [group[0] for group in groups.values()]
    times = comparison.latencies(settings, timed, comparison.timed_clips(settings, entries[0]))
    for name, group in groups.items():
        trainings = [entry for entry in entries if entry.name in (members or [name])]
        chosen = trainings if name == registry.ENSEMBLE else group[:1]
        rows[name] |= times[group[0].label]
        rows[name]["training_minutes"] = comparison.training_minutes(chosen)
    if settings.leave_one_speaker_out:
        names = tuple(entry.name for entry in entries)
        for name, mean in leave_one_speaker_out(settings, names, members).items():
            rows[name]["speaker"] = 100 * mean.value
            rows[name]["intervals"]["speaker"] = [100 * mean.low, 100 * mean.high]
    return [*rows.values()], failed


def trained(settings: ComparisonSettings) -> tuple[list[Entry], dict[str, str]]:
    """The networks asked for, trained where they were missing; and why others could not be."""
    wanted = [Entry(name, settings.seed, settings.networks_dir) for name in settings.networks]
    for entry in wanted:
        comparison.is_trained(settings, entry)  # settings that do not fit: before the first hour
    entries: list[Entry] = []
    failed: dict[str, str] = {}
    for entry in wanted:
        try:
            comparison.train_missing(settings, entry)
            entries.append(entry)
        except config.UserError as error:
            failed[entry.name] = str(error)
            print(f"{entry.name}: {error}", flush=True)
    if not entries:
        raise config.UserError(next(iter(failed.values())))
    return entries, failed


def run(settings: ComparisonSettings) -> None:
    """Compare, print the table and the recommendation, write every file."""
    utils.print_log("protocols")
    begun = time.perf_counter()
    rows, failed = compare(settings)
    report = comparison_report(rows, failed, settings.use_case)
    report.data["seconds"] = round(time.perf_counter() - begun, 1)
    print(report.text)
    report.write(settings.results_dir)
    print(f"written: {settings.results_dir / report.name}.md, .csv, .json and .png")


if __name__ == "__main__":
    utils.main(run, ComparisonSettings, __doc__)
