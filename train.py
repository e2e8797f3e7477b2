"""Train the spoken-digit networks.

    python train.py                                   both networks, FSDD and synthetic speakers
    python train.py --models cnn --seed 1             one network, another seed
    python train.py --training.epochs 5               a quick look
    python train.py --resume                          go on after a crash or Ctrl-C
    python train.py --init saved_models --data.corpora auto,own --training.epochs 3
        --training.learning-rate 1e-3                 adapt to your own voice, in one line

FSDD is taken from FSDD_ARCHIVE, from data/, or from the internet. The best weights by validation
loss land in saved_models/; settings, history, curves and TensorBoard logs in a folder under runs/.
"""

from __future__ import annotations

import command_line
from recipe import Recipe
from training import train


def run(recipe: Recipe) -> None:
    """Train and print what came out."""
    result = train(recipe)
    for name, scores in result["models"].items():
        print(f"{name}: validation accuracy {scores['validation_accuracy']:.2%} at epoch "
              f"{scores['best_epoch']}, {scores['file_bytes'] / 1e6:.2f} MB in {scores['file']}")
    print(f"done in {result['seconds'] / 60:.1f} minutes; next: python evaluation.py")


if __name__ == "__main__":
    command_line.main(run, Recipe, __doc__)
