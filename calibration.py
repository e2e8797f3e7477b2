"""How sure is sure: temperatures and thresholds, found on validation and nowhere else."""

from __future__ import annotations

import numpy as np

import config


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, float64."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True), dtype=np.float64)
    return exponents / exponents.sum(axis=-1, keepdims=True)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The temperature with the least negative log-likelihood (Guo et al. 2017).

    Parameters
    ----------
    logits : float (n, classes)
    targets : int (n,) class indices

    Returns
    -------
    Between 0.2 and 5; 1 for no clips.
    """
    from scipy.optimize import minimize_scalar

    if not len(targets):
        return 1.0

    def loss(log_temperature: float) -> float:
        posteriors = softmax(logits / np.exp(log_temperature))
        return -np.log(posteriors[np.arange(len(targets)), targets] + 1e-12).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.2), np.log(5)), method="bounded").x))


def fit_threshold(posteriors: np.ndarray, targets: np.ndarray, accepted: float = 0.97) -> float:
    """The confidence that the share `accepted` of the rightly recognised digits reaches.

    `posteriors` is float (n, 11) and `targets` int (n,); clips of "no digit" are not looked at.
    Returns 0 where no digit was recognised.
    """
    digits = targets != config.REJECT
    best = posteriors[:, :config.REJECT]
    right = digits & (best.argmax(axis=1) == targets)
    if not right.any():
        return 0.0
    return float(np.quantile(best[right].max(axis=1), 1 - accepted))
