"""How sure is sure: temperatures and thresholds, found on validation and nowhere else."""

from __future__ import annotations

import numpy as np

NO_DIGIT_SHARE = 0.1
"""Share of what a microphone hears that is taken to be no digit."""


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, float64."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True), dtype=np.float64)
    return exponents / exponents.sum(axis=-1, keepdims=True)


def calibrated(logits: np.ndarray, temperature: float, reject_bias: float) -> np.ndarray:
    """Posteriors, float64 (n, classes): softmax of logits / temperature, the last one shifted."""
    scaled = logits / temperature
    scaled[:, -1] += reject_bias
    return softmax(scaled)


def fit(logits: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Temperature and "no digit" bias with the least negative log-likelihood.

    Bias-corrected temperature scaling (Alexandari et al. 2020): validation holds far more other
    words than a microphone hears, so clips are weighted to :data:`NO_DIGIT_SHARE` of "no digit".

    Parameters
    ----------
    logits : float (n, classes)
    targets : int (n,) class indices

    Returns
    -------
    temperature : between 0.2 and 5; 1 for no clips
    reject_bias : added to the scaled logit of "no digit"; 0 where targets are of one kind only
    """
    from scipy.optimize import minimize

    if not len(targets):
        return 1.0, 0.0
    rejects = targets == logits.shape[1] - 1
    share = rejects.mean()
    both, weights = 0 < share < 1, np.ones(len(targets))
    if both:
        weights = np.where(rejects, NO_DIGIT_SHARE / share, (1 - NO_DIGIT_SHARE) / (1 - share))

    def loss(parameters: np.ndarray) -> float:
        posteriors = calibrated(logits, np.exp(parameters[0]), parameters[1] if both else 0.0)
        return -(weights * np.log(posteriors[np.arange(len(targets)), targets] + 1e-12)).mean()

    found = minimize(
        loss, (0.0, 0.0), method="Nelder-Mead", bounds=((np.log(0.2), np.log(5)), (-10, 10))
    ).x
    return float(np.exp(found[0])), float(found[1]) if both else 0.0


def fit_threshold(posteriors: np.ndarray, targets: np.ndarray, accepted: float = 0.97) -> float:
    """The confidence that the share `accepted` of the rightly recognised digits reaches.

    `posteriors` is float (n, classes), the last of them "no digit", and `targets` int (n,); clips
    of "no digit" are not looked at. Returns 0 where no digit was recognised.
    """
    best = posteriors[:, :-1]
    digits = targets != best.shape[1]
    right = digits & (best.argmax(axis=1) == targets)
    if not right.any():
        return 0.0
    return float(np.quantile(best[right].max(axis=1), 1 - accepted))
