"""Metrics, and the one statistical rule, against scikit-learn, statsmodels, simulated trainings and
worked examples.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import ndtr, softmax
from sklearn import metrics as reference

from deepnets import metrics
from deepnets.compare.statistics import Effect, contrast, difference, pooled_variance, verdict

DRAWS = 2000
IMAGES = 2000
LEVELS = np.array([3.3, 3.3, 3.35, 3.25])  # of four cells: about 88 %; the first two are equal
# Standard deviations: how hard images are for all cells and for one, how good a training is
SHARED, OWN, SEED = 2.5, 0.6, 0.04


def simulate(random, seeds):
    """Four cells of `seeds` new trainings on the same new test images, and their true accuracies.

    Noise of deviation 1 decides the rest, so accuracies are probabilities of a normal variable. As
    with trainings on CIFAR-10, test sets give about half of the variance that trainings give.
    """
    hardness = SHARED * random.standard_normal(IMAGES, np.float32)
    cells = []
    for level in LEVELS.astype(np.float32):
        easiness = level - hardness + OWN * random.standard_normal(IMAGES, np.float32)
        training = SEED * random.standard_normal((seeds, 1), np.float32)
        cells.append(random.standard_normal((seeds, IMAGES), np.float32) < easiness + training)
    return cells, ndtr(LEVELS / math.sqrt(1 + SHARED**2 + OWN**2 + SEED**2))


@pytest.mark.parametrize("seeds", [3, 4, 5])
def test_errors_are_as_often_as_they_should_be(seeds):
    """Over ten other random seeds: type I error 4.9, 4.9, 4.8 %, coverage 95.0, 95.2, 95.1 %."""
    random = np.random.default_rng(seeds)
    found = covered = seeds_alone = 0
    for _ in range(DRAWS):
        cells, truth = simulate(random, seeds)
        pooled = pooled_variance(cells)
        none, some = difference(*cells[:2], pooled), difference(*cells[2:], pooled)
        low, high = some.interval
        found += none.p < 0.05
        covered += low < truth[2] - truth[3] < high
        seeds_alone += 2 * stats.norm.sf(abs(none.value) / math.sqrt(none.seeds)) < 0.05
    assert 0.04 <= found / DRAWS <= 0.06
    assert 0.94 <= covered / DRAWS <= 0.96
    assert seeds_alone / DRAWS > 0.09, "the simulation would not notice that test images vary"


def test_the_formula_by_hand():
    first = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)  # accuracies 3/4, 1/2: variance 1/32
    second = np.array([[1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 1]], bool)  # 1/4, 1/2, 1/4: 1/48
    third = np.array([[0, 0, 0, 0], [1, 1, 1, 1]], bool)  # 0, 1: variance 1/2
    v, df = pooled_variance([first, second, third])
    assert (v, df) == (pytest.approx((1 / 32 + 2 / 48 + 1 / 2) / 4), 4)

    effect = difference(first, second, (v, df))
    d = np.array([1 - 2 / 3, 1, 1 / 2, -2 / 3])
    by_chance = (1 / 4) / 4 + 2 * (2 / 9) / 2 / 4  # mean over images of p (1 - p) / (S - 1)
    assert effect.value == pytest.approx(d.mean())
    assert effect.seeds == pytest.approx(v / 2 + v / 3)
    assert effect.images == pytest.approx((d.var(ddof=1) - by_chance) / 4)
    assert effect.images > 0
    assert effect.nu == pytest.approx(4 * (effect.seeds + effect.images) ** 2 / effect.seeds**2)
    half = stats.t.ppf(0.975, effect.nu) * math.sqrt(effect.seeds + effect.images)
    assert effect.interval == pytest.approx((d.mean() - half, d.mean() + half))
    assert effect.p == pytest.approx(2 * stats.t.sf(d.mean() / effect.error, effect.nu))
    assert not effect.welch
    assert not effect.one_training

    other = difference(second, first, (v, df))
    assert (other.value, other.p) == (pytest.approx(-effect.value), pytest.approx(effect.p))
    assert difference(first, second).seeds < effect.seeds  # not pooled with the third


def spread(wrong):
    """Trainings with `wrong` of 1,000 images wrong, each other ones: equally hard, so b^2 is 0."""
    images = np.arange(1000)
    return np.array([(images - 250 * i) % 1000 >= count for i, count in enumerate(wrong)])


POOLED, UNEQUAL = ([90, 97, 86, 94], [101, 96, 104]), ([90, 130, 86, 150], [101, 99, 102, 100])


# statsmodels 0.15.0: ttest_ind (p and degrees), CompareMeans.tconfint_diff and
# ttost_ind(x1, x2, -0.02, 0.02) of the accuracies of `spread`, usevar="pooled" and "unequal"
@pytest.mark.parametrize(
    ("wrong", "p", "nu", "low", "high", "equivalence"),
    [
        (POOLED, 0.054802364612, 5, -0.000258849593, 0.017425516259, 0.010515321954),
        (UNEQUAL, 0.450056266038, 3.010302167429, -0.063022008355, 0.036022008355, 0.352347516523),
    ],
)
def test_without_images_part_it_is_statsmodels_t_test(wrong, p, nu, low, high, equivalence):
    effect = difference(*map(spread, wrong))
    assert (effect.images, effect.welch) == (0, wrong is UNEQUAL)
    assert (effect.p, effect.nu) == (pytest.approx(p), pytest.approx(nu))
    assert effect.interval == pytest.approx((low, high))
    assert effect.equivalence(0.02) == pytest.approx(equivalence)


def test_holm_and_wilson_are_statsmodels():
    """statsmodels 0.15.0: multipletests(method="holm"), proportion_confint(method="wilson")."""
    assert metrics.holm([0.04, 0.012]) == pytest.approx([0.04, 0.024])
    assert metrics.holm([0.021, 0.03]) == pytest.approx([0.042, 0.042])
    five = metrics.holm([0.2, 0.0004, 0.011, 0.03, 0.9])
    assert five == pytest.approx([0.4, 0.002, 0.044, 0.09, 0.9])
    wilson = metrics.accuracy_interval
    assert wilson(9300, 10_000) == pytest.approx((0.924832325522, 0.934837435879))
    assert wilson(9979, 10_000) == pytest.approx((0.996791606127, 0.998626008295))
    assert wilson(0, 50) == pytest.approx((0, 0.071347599133))
    assert metrics.holm([0.6, 0.9]) == [1.0, 1.0]


def test_one_training_gets_an_interval_over_images_and_no_verdict():
    random = np.random.default_rng(1)
    single, several = random.random((1, 400)) < 0.9, random.random((3, 400)) < 0.8
    effect = difference(single, several, pooled_variance([several]))
    d = single[0] - several.mean(0)
    assert effect.one_training
    assert math.isnan(effect.p)
    assert math.isnan(effect.equivalence(0.5))
    half = stats.norm.ppf(0.975) * d.std(ddof=1) / 20
    assert effect.interval == pytest.approx((d.mean() - half, d.mean() + half))
    variance, freedom = pooled_variance([single, single])
    assert math.isnan(variance)
    assert freedom == 0


def test_a_main_effect_is_the_mean_of_two_differences():
    cells, _ = simulate(np.random.default_rng(2), 5)
    pooled = pooled_variance(cells)
    effect = contrast(cells, [0.5, -0.5, 0.5, -0.5], pooled)
    parts = [difference(*pair, pooled) for pair in (cells[:2], cells[2:])]
    assert effect.value == pytest.approx((parts[0].value + parts[1].value) / 2)
    assert effect.seeds == pytest.approx((parts[0].seeds + parts[1].seeds) / 4)

    accuracy = contrast(cells[:1], [1], pooled)
    assert accuracy.value == pytest.approx(cells[0].mean())
    assert accuracy.seeds == pytest.approx(pooled[0] / 5)


def test_a_cell_with_three_times_the_deviation_of_the_other_is_not_pooled():
    steady = spread([98, 100, 102])
    assert not difference(steady, spread([95, 100, 105])).welch
    effect = difference(steady, spread([93, 100, 107]), (1.0, 8))
    assert effect.welch
    assert effect.seeds == pytest.approx((0.002**2 + 0.007**2) / 3)


def test_a_verdict_follows_p_or_bounds_what_is_not_significant():
    def effect(value):
        return Effect(value, 1e-6, 0.0, math.inf, welch=False, one_training=False)

    assert verdict(effect(0.0022), 0.028) == "better"
    assert verdict(effect(-0.01), 0.028) == "worse"
    # 0.22 + 0.196, rounded up
    assert verdict(effect(0.0022), 0.056) == "less than 0.42 points either way"
    assert verdict(effect(-0.00145), 0.2) == "less than 0.35 points either way"


def test_cells_without_any_variance_have_no_error():
    right = np.ones((2, 10), bool)
    same, opposite = difference(right, right), difference(right, ~right)
    assert (same.p, same.interval, same.equivalence(0.002)) == (1, (0, 0), 0)
    assert (opposite.p, opposite.interval, opposite.equivalence(0.002)) == (0, (1, 1), 1)
    with pytest.raises(ValueError, match="different numbers of images"):
        difference(right, right[:, 1:])


# --- metrics


@pytest.fixture
def predictions():
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 400)
    logits = random.normal(size=(400, 5)) + 1.5 * np.eye(5)[labels]
    return logits, labels


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
