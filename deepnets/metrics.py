"""Accuracy with intervals, calibration, and corrected p-values: arrays in, numbers out."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

BINS = 15  # of confidence


def accuracy_interval(correct: int, total: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval for the share `correct / total` (Wilson 1927)."""
    interval = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts images by class (row) and predicted class (column): (N,) and (N,) to a square."""
    return confusion_matrix(labels, predicted, labels=range(classes))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean of -log p(label), in nats, for logits (N, classes) and labels (N,)."""
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    return float(-log_p[np.arange(len(labels)), labels].mean())


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean squared distance of probabilities to one-hot labels (Brier 1950), 0 to 2.

    Probabilities are (N, classes), labels (N,).
    """
    targets = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - targets) ** 2).sum(1).mean())


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean gap between confidence and accuracy over bins (Guo et al. 2017, eq. 3).

    Probabilities are (N, classes), labels (N,).
    """
    confidence, predicted = probabilities.max(1), probabilities.argmax(1)
    # Bins are closed above, the first one also below
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gap = np.bincount(bins, (predicted == labels) - confidence)
    return float(np.abs(gap).sum() / len(labels))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the T that minimises the NLL of logits / T (Guo et al. 2017, section 4.2).

    Logits (N, classes) and labels (N,) are those of validation images.
    """

    def loss(log_t: float) -> float:
        return negative_log_likelihood(logits / np.exp(log_t), labels)

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def summary(logits: np.ndarray, labels: np.ndarray, temperature: float) -> dict[str, float | int]:
    """Returns the figures that a run keeps of its test set: logits (N, classes), labels (N,).

    Those called calibrated are of logits / temperature, which leaves the predictions alone.
    """
    exact = logits.astype(np.float64)
    probabilities, calibrated = (softmax(exact / t, axis=1) for t in (1.0, temperature))
    return {
        "test_correct": int((logits.argmax(1) == labels).sum()),
        "test_total": len(labels),
        "test_nll": negative_log_likelihood(logits, labels),
        "test_brier": brier_score(probabilities, labels),
        "test_ece": expected_calibration_error(probabilities, labels),
        "temperature": temperature,
        "test_nll_calibrated": negative_log_likelihood(logits / temperature, labels),
        "test_ece_calibrated": expected_calibration_error(calibrated, labels),
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts a family of p-values by Holm's step-down method (Holm 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = p.argsort(kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted.tolist()


def guesses(correct: int, labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Returns a line if accuracy is not above the share of the most frequent class, else none.

    The exact binomial test decides (p >= 0.05), for labels (N,) of which so many were `correct`.
    """
    counts = np.bincount(labels)
    share = counts.max() / len(labels)
    if binomtest(correct, len(labels), share, alternative="greater").pvalue < 0.05:
        return []
    always = f"always saying {classes[int(counts.argmax())]!r}, the most frequent class,"
    return [f"not better than guessing: {always} is right for {100 * share:.2f} %"]
