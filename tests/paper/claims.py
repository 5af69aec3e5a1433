"""What must hold of the runs for the paper's comparing sentences to be true, by the name that `\\claim` gives them.

Each function takes the runs of the paper's tier, or of the full tier if its name begins with `full`; the sentence may stay as
it is while it returns True.
"""

from collections.abc import Callable
from itertools import product

import numpy as np

from deepnets import analysis, metrics
from deepnets.paper_figures import of_networks

CLAIMS: dict[str, Callable[[list], bool]] = {}


def claim(function):
    """Enter a function under its own name."""
    CLAIMS[function.__name__] = function
    return function


def tuned(runs, dataset="cifar10"):
    """The runs under `tuned` of the networks themselves, without the single changes."""
    by_network = of_networks([run for run in runs if run.info["dataset"] == dataset], analysis.TUNED)
    return [run for seeds in by_network.values() for run in seeds]


def mean(runs, network):
    """Of a network's accuracies; None without a run of it."""
    found = [run.accuracy for run in runs if run.label == network]
    return np.mean(found) if found else None


def colour(runs):
    """Those on CIFAR-10."""
    return [run for run in runs if run.info["dataset"] == "cifar10"]


@claim
def residual_ahead(runs):
    forms = [[mean(tuned(runs), name) for name in (family, f"{family}_improved")] for family in ("resnet18", "googlenet")]
    if None in forms[0] + forms[1]:
        return True  # the sentence is there with the runs
    return min(forms[0]) > max(forms[1])


@claim
def slow_start(runs):
    return all(0.1 < run.accuracy < 0.25 for run in tuned(runs) if run.label == "alexnet")


@claim
def not_overfitted(runs):
    both = tuned(runs) + tuned(runs, "mnist")
    return all(run.history["val_loss"].idxmin() == run.history.index[-1] for run in both)


@claim
def too_modest(runs):
    return all(run.test["probabilities"].max(1).mean() < run.accuracy and run.info["temperature"] < 1 for run in tuned(runs))


@claim
def temperature_helps(runs):
    worse = [run.label for run in tuned(runs) if run.info["test_ece_calibrated"] >= run.info["test_ece"]]
    return worse == ["alexnet"]


@claim
def contrast_hurts(runs):
    counts = [run.info["robustness"] for run in tuned(runs)]
    return all(count["contrast"] < min(count["blur"], count["noise"]) for count in counts)


def said_by_seed(runs, improved):
    """What each seed alone says of the improved form on CIFAR-10: better, worse or not distinguishable."""
    by_seed = {(run.label, run.info["seed"]): run for run in tuned(runs)}
    said = {}
    for seed in sorted({seed for _, seed in by_seed}):
        pair = [by_seed.get((name, seed)) for name in (improved, analysis.ORIGINALS[improved])]
        if None not in pair:
            p, sign = metrics.mcnemar(pair[0].correct, pair[1].correct), pair[0].accuracy - pair[1].accuracy
            said[seed] = "not distinguishable" if p >= 0.05 else "better" if sign > 0 else "worse"
    return said


@claim
def one_seed(runs):
    rows = analysis.primary(runs).to_dict("records")
    told = [row for row in rows if analysis.verdict(row["low"], row["high"], row["p_holm"]) != "not distinguishable"]
    return all(row["seeds"] == 1 for row in told)


@claim
def by_seed(runs):
    return any(len(set(said_by_seed(runs, improved).values())) > 1 for improved in analysis.ORIGINALS)


@claim
def by_seed_googlenet(runs):
    said = [said_by_seed(runs, f"{family}_improved") for family in ("googlenet", "resnet18")]
    if min(map(len, said)) < 3:
        return True  # the sentence is there with the seeds
    same = "not distinguishable"
    over = [declared(runs)[f"{family}_improved"] for family in ("googlenet", "resnet18")]
    return said == [{0: "worse", 1: same, 2: "worse"}, {0: same, 1: "worse", 2: same}] and over == [same, same]


def declared(runs):
    """The verdicts on CIFAR-10 by the improved network."""
    rows = analysis.primary(colour(runs)).to_dict("records")
    return {row["network"]: analysis.verdict(row["low"], row["high"], row["p_holm"]) for row in rows}


@claim
def recipe_hurts(runs):
    cells = {(run.info["dataset"], run.info["recipe"]["name"]): run.accuracy for run in runs if run.label == "alexnet"}
    pair = [cells.get(("mnist", name)) for name in ("plain", "tuned")]
    return None in pair or pair[0] - pair[1] > 0.1


@claim
def recipe_resnet(runs):
    table = analysis.two_by_two(colour(runs))
    rows = table[(table["effect"] == "recipe") & (table["seeds"] > 1)].to_dict("records")
    return [row["network"] for row in rows if row["low"] > 0 or row["high"] < 0] == ["resnet18_improved"]


@claim
def steadier(runs):
    several = analysis.between_seeds(analysis.accuracies(analysis.unchanged(runs)))
    apart = several[several["dataset"].str.startswith("CIFAR-10")].pivot(index="network", columns="recipe", values="apart")
    return apart.empty or bool((apart["plain"] > apart["tuned"]).all())


@claim
def none_better(runs):
    return "better" not in declared(runs).values()


@claim
def full_overfits(runs):
    plain = [run for run in colour(runs) if run.info["recipe"]["name"] == analysis.PLAIN]
    ends = [run.history.iloc[-1] for run in plain]
    right = all(end["train_accuracy"] > 0.95 for end in ends)
    return right and all(end["val_loss"] > 1.3 * run.history["val_loss"].min() for end, run in zip(ends, plain, strict=True))


@claim
def full_recipe(runs):
    table = analysis.two_by_two(colour(runs))
    if table.empty:
        return True  # the sentence is there with the runs
    effects = table.set_index(["network", "effect"])["value"].unstack()
    return bool((effects["recipe"] > 3 * effects["architecture"].abs()).all())


@claim
def full_brittle(runs):
    found = {(run.info["recipe"]["name"], run.label): run.info["robustness"] for run in colour(runs)}
    families = product((analysis.PLAIN, analysis.TUNED), ("resnet18", "googlenet"))
    pairs = [(found[recipe, f"{family}_improved"], found[recipe, family]) for recipe, family in families]
    worse = all(ours[kind] < theirs[kind] for ours, theirs in pairs for kind in ("noise", "blur"))
    digits = {run.label: run.info["robustness"]["contrast"] for run in tuned(runs, "mnist")}
    other_way = all(digits[f"{family}_improved"] < digits[family] for family in ("resnet18", "googlenet"))
    return worse and other_way and all(ours["contrast"] > theirs["contrast"] for ours, theirs in pairs)


@claim
def full_vehicles(runs):
    best = analysis.best(tuned(runs))
    names = np.array(best.info["classes"])[best.test["labels"]]
    drives = np.isin(names, ["airplane", "automobile", "ship", "truck"])
    return best.correct[drives].mean() > best.correct[~drives].mean()


@claim
def full_same_mistakes(runs):
    first = [seeds[0] for seeds in of_networks(tuned(runs), analysis.TUNED).values()]
    wrong, labels = np.stack([~run.correct for run in first]), first[0].test["labels"]
    by_class = [wrong[:, labels == k] for k in np.unique(labels)]
    return wrong.all(0).sum() > 10 * sum(part.mean(1).prod() * part.shape[1] for part in by_class)


@claim
def full_modest(runs):
    found = [run for run in tuned(runs) if run.label == "vgg16_improved"]
    return all(run.test["probabilities"].max(1).mean() < run.accuracy - 0.3 for run in found)
