"""The one statistical rule against simulated trainings, statsmodels and worked examples."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from deepnets import metrics
from deepnets.compare.statistics import Effect, difference, pooled_variance, verdict

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


def test_power_and_coverage_are_what_the_protocol_says():
    """Four seeds of four networks, in points; test sets vary an effect by 0.15."""
    random, images = np.random.default_rng(0), 0.15**2

    def studies(deviations, ahead=0.0):
        for _ in range(DRAWS):
            accuracies = random.normal(0, 1, (4, 4)) * np.array(deviations)[:, None]
            seeds, means = accuracies.var(1, ddof=1).mean() / 2, accuracies.mean(1)
            nu = 12 * ((seeds + images) / seeds) ** 2
            values = np.array([means[0] - means[1] + ahead, means[2] - means[3]])
            values += random.normal(0, 0.15, 2)
            yield [Effect(x, seeds, images, nu, welch=False, one_training=False) for x in values]

    for deviation, power in ((0.2, 0.7), (0.3, 0.5)):
        pairs = studies([deviation] * 4, ahead=0.6)
        found = [metrics.holm([effect.p for effect in pair])[0] < 0.05 for pair in pairs]
        assert np.mean(found) == pytest.approx(power, abs=0.05)
    ends = [first.interval for first, _ in studies([0.3, 0.3, 0.1, 0.1])]
    assert np.mean([low < 0 < high for low, high in ends]) == pytest.approx(0.9, abs=0.02)


def test_trainings_that_agree_leave_the_paired_test_over_images():
    random = np.random.default_rng(0)
    first, second = random.random((2, 1, 500)) < [[[0.9]], [[0.8]]]
    effect = difference(first.repeat(3, 0), second.repeat(3, 0))
    d = first[0].astype(float) - second[0]
    assert (effect.seeds, effect.nu) == (0, math.inf)
    assert effect.p == pytest.approx(2 * stats.norm.sf(d.mean() / (d.std(ddof=1) / math.sqrt(500))))


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
    five = metrics.holm([0.2, 0.0004, 0.011, 0.03, 0.9])
    assert five == pytest.approx([0.4, 0.002, 0.044, 0.09, 0.9])
    assert metrics.holm([0.021, 0.03]) == pytest.approx([0.042, 0.042])
    assert metrics.holm([0.6, 0.9]) == [1, 1]
    wilson = metrics.accuracy_interval
    assert wilson(9300, 10_000) == pytest.approx((0.924832325522, 0.934837435879))
    assert wilson(9979, 10_000) == pytest.approx((0.996791606127, 0.998626008295))
    assert wilson(0, 50) == pytest.approx((0, 0.071347599133))
    assert wilson(10, 10)[1] == pytest.approx(1)
    assert metrics.holm([]) == []


def test_a_cell_with_three_times_the_deviation_of_the_other_is_not_pooled():
    steady = spread([98, 100, 102])
    assert not difference(steady, spread([95, 100, 105])).welch
    assert not difference(steady, spread([99, 99])).welch  # two may agree by luck
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
