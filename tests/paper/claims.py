"""What must hold of the runs for the paper's comparing sentences to be true, by the name that `\\claim` gives them.

Each function takes the runs of the paper's tier; the sentence may stay as it is while it returns True.
"""

from collections.abc import Callable

import numpy as np

from deepnets import analysis
from deepnets.paper_figures import networks_of, of_networks

CLAIMS: dict[str, Callable[[list], bool]] = {}


def claim(function):
    """Enter a function under its own name."""
    CLAIMS[function.__name__] = function
    return function


def tuned(runs, dataset="cifar10"):
    """The runs under `tuned` of the networks themselves, without the single changes."""
    return of_networks([run for run in runs if run.info["dataset"] == dataset], analysis.TUNED)


def mean(runs, network):
    """Of a network's accuracies; None without a run of it."""
    found = [run.accuracy for run in runs if run.label == network]
    return np.mean(found) if found else None


@claim
def residual_ahead(runs):
    forms = [[mean(tuned(runs), name) for name in (family, f"{family}_improved")] for family in ("resnet18", "googlenet")]
    if None in forms[0] + forms[1]:
        return True  # the sentence is there with the runs
    return min(forms[0]) > max(forms[1])


@claim
def vehicles(runs):
    best = analysis.best(tuned(runs))
    names = np.array(best.info["classes"])[best.test["labels"]]
    drives = np.isin(names, ["airplane", "automobile", "ship", "truck"])
    return best.correct[drives].mean() > best.correct[~drives].mean()


@claim
def slow_start(runs):
    return all(0.1 < run.accuracy < 0.25 for run in tuned(runs) if run.label == "alexnet")


@claim
def still_rising(runs):
    others = [run for run in tuned(runs) if run.label != "alexnet"]
    return all(run.history["val_accuracy"].idxmax() == run.history.index[-1] for run in others)


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
    return all(count["contrast"] < min(count["blur"], count["noise"]) for count in counts)


@claim
def by_chance(runs):
    """For some family, one seed puts the improved form ahead and another the original."""
    by_seed = {(run.label, run.info["seed"]): run.accuracy for run in tuned(runs)}
    ahead = {
        improved: {
            by_seed[improved, seed] > by_seed[original, seed]
            for seed in range(3)
            if {(improved, seed), (original, seed)} <= set(by_seed)
        }
        for improved, original in analysis.ORIGINALS.items()
    }
    return any(len(signs) == 2 for signs in ahead.values())
