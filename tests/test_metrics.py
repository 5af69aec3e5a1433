"""Metrics against scikit-learn, SciPy, PyTorch and worked examples."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics as reference

from deepnets import metrics


@pytest.fixture
def predictions():
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 400)
    logits = random.normal(size=(400, 5)) + 1.5 * np.eye(5)[labels]
    return logits, labels


def test_wilson_interval_ends_within_0_and_1():
    assert metrics.accuracy_interval(10, 10)[1] == pytest.approx(1)
    assert metrics.accuracy_interval(0, 10)[0] == pytest.approx(0)


def test_likelihood_brier_and_summary_agree_with_the_references(predictions):
    logits, labels = predictions
    probabilities = softmax(logits, axis=1)
    assert metrics.negative_log_likelihood(logits, labels) == pytest.approx(
        reference.log_loss(labels, probabilities)
    )
    expected = reference.brier_score_loss(
        labels, probabilities, labels=range(5), scale_by_half=False
    )
    assert metrics.brier_score(probabilities, labels) == pytest.approx(expected)
    summary = metrics.summary(logits, labels, 2.0)
    assert summary["test_brier"] == pytest.approx(expected)
    halved = metrics.summary(logits / 2, labels, 1.0)
    assert summary["test_nll_calibrated"] == pytest.approx(halved["test_nll"])
    assert summary["test_ece_calibrated"] == pytest.approx(halved["test_ece"])
    assert summary["test_correct"] == (logits.argmax(1) == labels).sum()
    assert summary["test_nll"] == pytest.approx(
        torch.nn.CrossEntropyLoss()(torch.tensor(logits), torch.tensor(labels)).item()
    )


def test_confusion_rows_are_the_true_classes_even_where_one_is_never_seen():
    matrix = metrics.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_calibration_error_by_hand_with_confidences_of_zero_and_one():
    probabilities = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 1])
    # bin (0.93, 1]: accuracy 1/2 at confidence 1; bin of 0.6: accuracy 1/2 at confidence 0.6
    assert metrics.expected_calibration_error(probabilities, labels) == pytest.approx(
        0.5 * 0.5 + 0.5 * 0.1
    )
    assert metrics.expected_calibration_error(np.zeros((3, 2)), np.array([1, 1, 1])) == 0
    assert metrics.expected_calibration_error(np.eye(2), np.array([0, 1])) == 0


def test_calibration_has_15_bins_which_are_closed_above():
    def error(*confidences):
        """Of images of which the first is right and the second is not."""
        probabilities = np.array([[p, 1 - p] for p in confidences])
        return metrics.expected_calibration_error(probabilities, np.array([0, 1]))

    assert error(0.6, 0.58) == pytest.approx((0.58 - 0.4) / 2), "9/15 ends a bin"
    assert error(0.62, 0.6) == pytest.approx((0.38 + 0.6) / 2)
    assert error(0.54, 0.52) == pytest.approx((0.46 + 0.52) / 2), "8/15 is between"


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_is_recovered(temperature):
    random = np.random.default_rng(2)
    logits = random.normal(size=(20_000, 4)) * 2
    uniform = random.uniform(size=(20_000, 1))
    labels = (softmax(logits, axis=1).cumsum(1) < uniform).sum(1).clip(0, 3)
    assert metrics.fit_temperature(logits * temperature, labels) == pytest.approx(
        temperature, rel=0.05
    )


def test_holm_by_the_books_example():
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.6, 0.9]) == [1.0, 1.0]
