"""What predictions are worth: accuracy with intervals, calibration, and tests between networks.
Arrays in, numbers out.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

BINS = 15  # of confidence


def accuracy_interval(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval for the share `correct / total` (Wilson 1927)."""
    interval = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Images of each class (row) by predicted class (column): (classes, classes), from `labels` and
    `predicted` (N,).
    """
    return confusion_matrix(labels, predicted, labels=range(classes))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log p(label), in nats, for logits (N, classes) and labels (N,)."""
    return float(
        -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels].mean()
    )


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance between probabilities (N, classes) and the one-hot labels, from 0 to 2
    (Brier 1950).
    """
    targets = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - targets) ** 2).sum(1).mean())


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean distance between confidence and accuracy over `BINS` of confidence (Guo et al. 2017, eq.
    3).

    `probabilities` are (N, classes), `labels` (N,).

    Bins are closed above; a confidence of 0 falls into the first, of 1 into the last.
    """
    confidence, predicted = probabilities.max(1), probabilities.argmax(1)
    gap = np.bincount(_bin(confidence), (predicted == labels) - confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(labels))


def reliability(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean `confidence` (N,) and share `correct` (N,) in each of the `BINS` with at least 50
    images; fewer say little.
    """
    index = _bin(confidence)
    totals = np.bincount(index, minlength=BINS)
    full = totals >= 50
    means, shares = (
        np.bincount(index, values, BINS)[full] / totals[full] for values in (confidence, correct)
    )
    return means, shares


def _bin(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T that minimises the negative log-likelihood of logits / T on validation images (Guo et
    al. 2017, section 4.2).
    """
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits / np.exp(log_t), labels),
        bounds=(-3, 3),
        method="bounded",
    )
    return float(np.exp(found.x))


def summary(logits: np.ndarray, labels: np.ndarray, temperature: float) -> dict[str, float | int]:
    """The figures that a run keeps of its test set, for logits (N, classes) and labels (N,).

    Those called calibrated are of logits / `temperature`, which divides the confidence and leaves
    the predictions alone.
    """
    probabilities, calibrated = (
        softmax(logits.astype(np.float64) / t, axis=1) for t in (1.0, temperature)
    )
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


def mcnemar(first_correct: np.ndarray, second_correct: np.ndarray) -> float:
    """Exact McNemar test that two networks err equally often, from whether each was right (N,) on
    the same images.

    Returns:
        Two-sided p-value: binomial on the images that exactly one got right (Dietterich 1998,
        section 3.1).
    """
    only_first = int((first_correct & ~second_correct).sum())
    only_second = int((second_correct & ~first_correct).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of a family of p-values (Holm 1979), in the order given."""
    p = np.asarray(p_values, dtype=float)
    order = p.argsort(kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted.tolist()


def guesses(correct: int, labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    """A warning if so many `correct` answers may be had without looking at the images (exact
    binomial test, p > 0.05).

    Args:
        correct: how many.
        labels: of the images (N,).
        classes: their names.
    """
    counts = np.bincount(labels)
    share = counts.max() / len(labels)
    if binomtest(correct, len(labels), share, alternative="greater").pvalue < 0.05:
        return []
    name = classes[int(counts.argmax())]
    return [
        f"not better than guessing: always saying {name!r}, the most frequent class, is right for {100 * share:.2f} %"
    ]
