"""Score the trained networks and their vote; tables, figures and JSON go to results/.

python evaluation.py                              FSDD's official test: summary.md, summary.json
python evaluation.py --protocol unseen            strangers' clips (UNSEEN_SPEAKERS_DIR)
python evaluation.py --protocol noise             down to -5 dB, with and without cleaning
python evaluation.py --protocol reject            other words, silence, hum, clicks, noise
python evaluation.py --protocol calibration       is 90 % sure right nine times of ten?
python evaluation.py --protocol speaker           leave one speaker out: trains six times
python evaluation.py --protocol seeds --models-dirs A B C   several trainings, and their mean
python evaluation.py --protocol adapt             what three own clips a digit are worth
python evaluation.py --protocol cleaning          each stage of the cleaning on and off
python evaluation.py --protocol augmentation      each part of it off in turn: trains often
"""

from __future__ import annotations

import time

import utils
from protocols import ablation, accuracy, adaptation, robustness
from protocols.common import EvaluationSettings

PROTOCOLS = {
    "official": accuracy.official,
    "seeds": accuracy.seeds,
    "speaker": accuracy.speaker,
    "unseen": accuracy.unseen,
    "noise": robustness.noise,
    "reject": robustness.reject,
    "calibration": robustness.calibration,
    "augmentation": ablation.augmentation,
    "cleaning": ablation.cleaning,
    "adapt": adaptation.adapt,
}


def run(settings: EvaluationSettings) -> None:
    """Run the protocol, print its tables, write its files."""
    started = time.perf_counter()
    report = PROTOCOLS[settings.protocol](settings)
    report.data["seconds"] = round(time.perf_counter() - started, 1)
    print(report.text)
    report.write(settings.results_dir)
    print(
        f"written: {settings.results_dir / report.name}.md, .json, .png and "
        f"{len(report.extras)} more, in {time.perf_counter() - started:.0f} s"
    )


if __name__ == "__main__":
    utils.main(run, EvaluationSettings, __doc__)
