"""Which networks vote together, and what each vote counts: found on validation and nowhere else."""

from __future__ import annotations

import numpy as np

from recognition.prediction import vote

ROUNDS = 20
"""Networks drawn for the ensemble, each time the one that helps most: weights in steps of 5 %."""
LEAST_WEIGHT = 1e-3
"""What the vote of a network that was never drawn counts: nothing, in effect."""


def fit_weights(posteriors: dict[str, np.ndarray], targets: np.ndarray) -> dict[str, float]:
    """Weights with which the networks' vote is surest of what is right.

    Forward selection with replacement (Caruana et al. 2004, "Ensemble selection from libraries of
    models"): the network is added, again and again, that lowers the vote's loss most. It is steps,
    not a fit to the last digit, and so hardly learns the validation clips by heart.

    Parameters
    ----------
    posteriors : network -> calibrated, float (n, classes)
    targets : int (n,) class indices

    Returns
    -------
    network -> weight, at least :data:`LEAST_WEIGHT`, adding to about 1; equal for no clips
    """
    if not len(targets):
        return {name: 1 / len(posteriors) for name in posteriors}
    drawn = dict.fromkeys(posteriors, 0)
    for _ in range(ROUNDS):
        losses = {
            name: loss(posteriors, drawn | {name: drawn[name] + 1}, targets) for name in posteriors
        }
        drawn[min(losses, key=losses.__getitem__)] += 1
    return {name: max(count / ROUNDS, LEAST_WEIGHT) for name, count in drawn.items()}


def loss(posteriors: dict[str, np.ndarray], weights: dict[str, int], targets: np.ndarray) -> float:
    """Mean negative log-likelihood of the targets under the weighted vote."""
    chosen = vote(posteriors, weights)[np.arange(len(targets)), targets]
    return float(-np.log(chosen + 1e-12).mean())
