"""What must hold of the runs for the paper's comparing sentences to be true, by the name that `\\claim` gives them.

Each function takes the runs of the paper's tier; the sentence may stay as it is while it returns True.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from deepnets import analysis
from deepnets.paper_figures import NETWORKS, networks_of

CLAIMS: dict[str, Callable[[list], bool]] = {}


def claim(function):
    """Enter a function under its own name."""
    CLAIMS[function.__name__] = function
    return function


def table(rows: pd.DataFrame, **which) -> pd.DataFrame:
    """The rows whose columns have these values; a `dataset` need only begin so, since copies say that they are copies."""
    for column, value in which.items():
        values = rows[column]
        rows = rows[values.str.startswith(value) if column == "dataset" else values == value]
    return rows


def verdicts(runs, dataset) -> dict[str, str]:
    """What each improved network is called by the comparison that was fixed in advance."""
    rows = table(analysis.primary(runs), dataset=dataset)
    return {row.network: analysis.verdict(row.low, row.high, row.p_holm) for row in rows.itertuples()}


def tuned(runs, dataset="cifar10"):
    """The runs under `tuned` of the networks themselves, without the single changes."""
    chosen = [run for run in runs if run.info["dataset"] == dataset and run.info["recipe"]["name"] == analysis.TUNED]
    return [run for run in chosen if run.label in NETWORKS]


@claim
def still_rising(runs):
    return all(run.history["val_accuracy"].idxmax() == run.history.index[-1] for run in tuned(runs))


@claim
def same_mistakes(runs):
    first = networks_of(tuned(runs), analysis.TUNED)
    wrong = np.stack([~run.correct for run in first])
    return wrong.all(0).mean() > 1.5 * wrong.mean(1).prod()


@claim
def too_modest(runs):
    return all(run.test["probabilities"].max(1).mean() < run.accuracy and run.info["temperature"] < 1 for run in tuned(runs))


@claim
def temperature_helps(runs):
    return all(run.info["test_ece_calibrated"] < run.info["test_ece"] for run in tuned(runs))


@claim
def contrast_hurts(runs):
    counts = [run.info["robustness"] for run in tuned(runs)]
    return all(count["contrast"] < count["blur"] < count["noise"] for count in counts)
