"""How much better one network is than another, for new trainings and new test images at once.

A cell is one network under one recipe: a boolean array (S, N), whether each of its S trainings
(seeds) got each of the N test images right. All cells hold the same images in the same order.
Accuracies and their differences are shares; a point is a hundredth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

Cells = Sequence[np.ndarray]
Pooled = tuple[float, int]  # variance of accuracy between the seeds of a cell, degrees of freedom

TOO_VARIABLE = 3  # times another cell's standard deviation over seeds: the two are not pooled


@dataclass(frozen=True)
class Effect:
    """A difference of accuracies, or another weighted sum of them, with its uncertainty."""

    value: float
    """The weighted sum of the accuracies, as a share."""
    seeds: float
    """Variance of `value` between trainings, s^2; 0 where `one_training`."""
    images: float
    """Variance of `value` between test sets, b^2."""
    nu: float
    """Degrees of freedom of Student's t."""
    welch: bool
    """Whether the cells' variances over seeds differ too much to be pooled (Welch 1947)."""
    one_training: bool
    """Whether a cell has one training only: the interval is then for new test images only."""

    @property
    def error(self) -> float:
        """Standard error of `value`."""
        return math.sqrt(self.seeds + self.images)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of `value`, as shares."""
        half = float(stats.t.ppf(0.975, self.nu)) * self.error
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """Two-sided p-value of no effect; not a number where `one_training`."""
        return 2 * self._tail(abs(self.value))

    def equivalence(self, margin: float) -> float:
        """Returns the p-value of an effect of `margin` (a share) or more either way.

        Below 0.05 the two are equivalent within the margin. It is the larger p of two one-sided
        tests (Schuirmann 1987); not a number where `one_training`.
        """
        return max(self._tail(margin + self.value), self._tail(margin - self.value))

    def _tail(self, distance: float) -> float:
        """Returns the chance that an estimate lies at least `distance` above the truth."""
        if self.one_training:
            return math.nan
        scale = self.error or np.finfo(float).tiny  # cells without any variance have no error
        return float(stats.t.sf(distance / scale, self.nu))


def pooled_variance(cells: Cells) -> Pooled:
    """Returns the variance of accuracy between the seeds of a cell, and its degrees of freedom.

    It is pooled over all `cells` (S, N). Those of one training add nothing; where all are such,
    the variance is not a number and the degrees are 0.
    """
    accuracies = [cell.mean(1) for cell in cells]
    freedom = sum(len(a) - 1 for a in accuracies)
    squares = sum(float(((a - a.mean()) ** 2).sum()) for a in accuracies)
    return (squares / freedom if freedom else math.nan), freedom


def difference(first: np.ndarray, second: np.ndarray, pooled: Pooled | None = None) -> Effect:
    """Returns the accuracy of cell `first` (S1, N) minus that of `second` (S2, N).

    `pooled` is as for `contrast`, of which this is the case of two cells.
    """
    return contrast([first, second], [1, -1], pooled)


def contrast(cells: Cells, weights: Sequence[float], pooled: Pooled | None = None) -> Effect:
    """Returns the sum of accuracies times `weights`, for new trainings and new test images.

    The variance between trainings is the sum of weight^2 v / S. That between test sets is what the
    images vary by, less what they would vary by with S trainings if all were equally hard. Of the
    two only the first has few degrees of freedom (Satterthwaite 1946). With one training in a cell
    no variance between trainings is known: the effect says so, and its error is the images' alone.

    Args:
        cells: arrays (S, N) of right or wrong on the same N images; S may differ.
        weights: one for each cell, none 0: 1 and -1 for a difference, 1 alone for an accuracy,
            halves for a mean of two differences.
        pooled: variance v between seeds and its degrees of freedom, from `pooled_variance` of all
            cells that are compared; by default of these. Unused where one cell's standard deviation
            over seeds is more than `TOO_VARIABLE` times another's: each cell then counts with its
            own (Welch 1947). Two trainings may agree by luck, so this takes three of each cell.
    """
    squared = np.square(weights)
    trainings = np.array([len(cell) for cell in cells])
    right = np.stack([cell.mean(0) for cell in cells])  # (cells, N), shares of trainings
    d = np.asarray(weights, float) @ right
    value, between_images = float(d.mean()), float(d.var(ddof=1))
    if trainings.min() == 1:
        return Effect(value, 0.0, between_images / len(d), math.inf, welch=False, one_training=True)

    by_chance = squared / (trainings - 1) @ (right * (1 - right)).mean(1)
    images = max(0.0, float(between_images - by_chance) / len(d))

    # Of counts, not shares: equal ones have a variance of exactly 0
    own = np.array([cell.sum(1).var(ddof=1) for cell in cells]) / len(d) ** 2
    welch = bool(trainings.min() > 2 and own.max() > TOO_VARIABLE**2 * own.min())
    if welch:
        parts = squared * own / trainings
        seeds, spread = parts.sum(), (parts**2 / (trainings - 1)).sum()
    else:
        variance, freedom = pooled or pooled_variance(cells)
        seeds = variance * (squared / trainings).sum()
        spread = seeds**2 / freedom
    nu = float((seeds + images) ** 2 / spread) if spread else math.inf
    return Effect(value, float(seeds), images, nu, welch, one_training=False)


def verdict(effect: Effect, p: float) -> str:
    """Returns "better" or "worse" for an effect whose p, adjusted for its family, is below 0.05.

    Others get a bound: the far end of the 95 % interval, which is not adjusted, rounded up.
    """
    if p < 0.05:
        return "better" if effect.value > 0 else "worse"
    bound = math.ceil(round(1e4 * max(map(abs, effect.interval)), 6)) / 100
    return f"less than {bound:.2f} points either way"
