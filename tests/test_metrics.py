"""Metrics against scikit-learn, SciPy, PyTorch and worked examples."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as reference

from deepnets import metrics


def test_likelihood_brier_and_summary_agree_with_the_references():
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 400)
    logits = random.normal(size=(400, 5)) + 1.5 * np.eye(5)[labels]
    p = softmax(logits, axis=1)
    halved, found = metrics.summary(logits / 2, labels, 1.0), metrics.summary(logits, labels, 2.0)
    assert found == {
        "test_correct": (logits.argmax(1) == labels).sum(), "test_total": 400, "temperature": 2.0,
        "test_nll": pytest.approx(reference.log_loss(labels, p)),
        "test_brier": pytest.approx(
            reference.brier_score_loss(labels, p, labels=range(5), scale_by_half=False)),
        "test_ece": metrics.expected_calibration_error(p, labels),
        "test_nll_calibrated": pytest.approx(halved["test_nll"]),
        "test_ece_calibrated": pytest.approx(halved["test_ece"]),
    }  # fmt: skip


def test_confusion_rows_are_the_true_classes_even_where_one_is_never_seen():
    matrix = metrics.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_calibration_error_by_hand():
    def error(*confidences):
        """Of images of two classes in turn, by the probability of the first."""
        probabilities = np.array([[p, 1 - p] for p in confidences])
        labels = np.arange(len(confidences)) % 2
        return metrics.expected_calibration_error(probabilities, labels)

    assert error(1.0, 0.0) == 0
    # Half is right in the bin of 1, and half in that of 0.6
    assert error(1.0, 1.0, 0.6, 0.6) == pytest.approx(0.5 * 0.5 + 0.5 * 0.1)
    # There are 15 bins, closed above: 9/15 ends one, 8/15 is in the middle of two
    assert error(0.6, 0.58) == pytest.approx((0.58 - 0.4) / 2)
    assert error(0.62, 0.6) == pytest.approx((0.38 + 0.6) / 2)
    assert error(0.54, 0.52) == pytest.approx((0.46 + 0.52) / 2)
    assert metrics.expected_calibration_error(np.zeros((3, 2)), np.array([1, 1, 1])) == 0


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_is_recovered(temperature):
    random = np.random.default_rng(2)
    logits = random.normal(size=(20_000, 4)) * 2
    uniform = random.uniform(size=(20_000, 1))
    labels = (softmax(logits, axis=1).cumsum(1) < uniform).sum(1).clip(0, 3)
    found = metrics.fit_temperature(logits * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.05)
