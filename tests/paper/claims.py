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
def not_overfitted(runs):
    return all(run.history["val_loss"].idxmin() == run.history.index[-1] for run in tuned(runs))


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
    others = [run for run in tuned(runs) if run.label != "alexnet"]
    return all(run.info["test_ece_calibrated"] < run.info["test_ece"] for run in others)


@claim
def contrast_hurts(runs):
    counts = [run.info["robustness"] for run in tuned(runs)]
    return all(count["contrast"] < min(count["blur"], count["noise"]) for count in counts)


def ahead(runs, improved):
    """Whether the improved form is ahead of its original, for each seed that both have."""
    by_seed = {(run.label, run.info["seed"]): run.accuracy for run in tuned(runs)}
    original = analysis.ORIGINALS[improved]
    both = [seed for seed in range(3) if {(improved, seed), (original, seed)} <= set(by_seed)]
    return [by_seed[improved, seed] > by_seed[original, seed] for seed in both]


@claim
def by_chance(runs):
    return any(len(set(ahead(runs, improved))) == 2 for improved in analysis.ORIGINALS)


def declared(runs):
    """The verdicts on CIFAR-10 and the adjusted p-values, by the improved network."""
    rows = analysis.primary([run for run in runs if run.info["dataset"] == "cifar10"]).to_dict("records")
    return {row["network"]: (analysis.verdict(row["low"], row["high"], row["p_holm"]), row["p_holm"]) for row in rows}


@claim
def seed_reverses(runs):
    signs = ahead(runs, "googlenet_improved")
    if len(signs) < 2:
        return True  # the sentence is there with the seeds
    verdict, p = declared(runs)["googlenet_improved"]
    return signs[:2] == [False, True] and p < 0.05 and verdict == "not distinguishable"


@claim
def steadier(runs):
    several = analysis.between_seeds(analysis.accuracies(analysis.unchanged(runs)))
    apart = several[several["dataset"].str.startswith("CIFAR-10")].pivot(index="network", columns="recipe", values="apart")
    return apart.empty or bool((apart["plain"] > apart["tuned"]).all())


@claim
def none_better(runs):
    return all(verdict != "better" for verdict, _ in declared(runs).values())
