"""What must hold of the runs for the paper's comparing sentences to be true, by the name that
`\\claim` gives them.

Each function takes the runs of the paper's tier, or of short training on few images if its name
begins with `small`, or both if with `both`; the sentence may stay as it is while it returns True.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from deepnets import analysis, metrics, models, recipes
from deepnets.paper_figures import of_networks
from deepnets.runs import Run, find

ROOT = Path(__file__).parents[2]
CLAIMS: dict[str, Callable[..., bool]] = {}


def claim(function):
    """Enter a function under its own name."""
    CLAIMS[function.__name__] = function
    return function


def tuned(runs, dataset="cifar10"):
    """The runs under `tuned` of the networks themselves, without the single changes."""
    by_network = of_networks(
        [run for run in runs if run.info["dataset"] == dataset], analysis.TUNED
    )
    return [run for seeds in by_network.values() for run in seeds]


def colour(runs):
    """Those on CIFAR-10."""
    return [run for run in runs if run.info["dataset"] == "cifar10"]


def bare(runs):
    """The runs on CIFAR-10 under `plain`, but for VGG16+, which learns nothing there."""
    by_network = of_networks(colour(runs), analysis.PLAIN)
    return [
        run for network, seeds in by_network.items() if network != "vgg16_improved" for run in seeds
    ]


def surplus(run):
    """Mean confidence minus accuracy."""
    return run.test["probabilities"].max(1).mean() - run.accuracy


def declared(runs):
    """The verdicts on CIFAR-10 by the improved network."""
    return {
        network: said
        for (dataset, network), said in verdicts(runs).items()
        if dataset.startswith("CIFAR-10")
    }


def verdicts(runs):
    """What the comparison fixed beforehand says, by dataset and improved network."""
    rows = analysis.primary(runs).to_dict("records")
    return {
        (row["dataset"], row["network"]): analysis.verdict(row["low"], row["high"], row["p_holm"])
        for row in rows
    }


@claim
def stuck(runs):
    found = {
        (run.info["dataset"], run.recipe): run for run in runs if run.label == "vgg16_improved"
    }
    stays = all(
        np.ptp(found[dataset, analysis.PLAIN].test["predicted"]) == 0
        for dataset in ("cifar10", "mnist")
    )
    return stays and all(
        found[dataset, analysis.TUNED].accuracy > 0.85 for dataset in ("cifar10", "mnist")
    )


@claim
def steep(_runs):
    torch.manual_seed(0)
    network = models.create("vgg16_improved")
    F.cross_entropy(network(torch.randn(16, 3, 64, 64)), torch.arange(16) % 10).backward()
    return nn.utils.get_total_norm([p.grad for p in network.parameters()]) > 5 * recipes.TUNED.clip


@claim
def recipe_always(runs):
    cells = (
        analysis.accuracies(analysis.unchanged(runs))
        .set_index(["dataset", "network", "recipe"])["accuracy"]
        .unstack()
    )
    gain = cells["tuned"] - cells["plain"]
    return len(cells) == 18 and gain.min() > 0 and gain.idxmin() == ("MNIST", "vgg11")


@claim
def overfits(runs):
    found = bare(runs)
    right = all(run.history["train_accuracy"].iloc[-1] > 0.95 for run in found)
    rises, steady = [], []
    for run in found:
        loss, accuracy = run.history["val_loss"], run.history["val_accuracy"]
        rises.append(loss.idxmin() < len(loss) / 2 and loss.iloc[-1] > 4 / 3 * loss.min())
        steady.append(abs(accuracy.iloc[-5:].mean() - accuracy[loss.idxmin()]) < 0.05)
    return right and all(rises) and all(steady)


@claim
def recipe_dwarfs(runs):
    seeds = [[run for run in colour(runs) if run.info["seed"] == seed] for seed in range(3)]
    tables = [analysis.two_by_two(found).query("not stuck") for found in (colour(runs), *seeds)]
    effects = [table.set_index(["network", "effect"])["value"].unstack() for table in tables]
    shown = [sorted(part.index) for part in effects]
    both = ["googlenet_improved", "resnet18_improved"]
    dwarfed = all((part["recipe"] > 3 * part["architecture"].abs()).all() for part in effects)
    return shown == [both, both, both[1:], both[1:]] and dwarfed


@claim
def near_miss(runs):
    row = (
        analysis.primary(runs)
        .set_index(["dataset", "network"])
        .loc["CIFAR-10 (JPEG copy)", "resnet18_improved"]
    )
    ahead = row["seeds"] == 3 and row["better"] == 1 and row["low"] > 0
    return ahead and analysis.verdict(row["low"], row["high"], row["p_holm"]) == analysis.ALIKE


@claim
def by_seed(runs):
    several = {run.label for run in colour(runs) if run.info["seed"] == 2}
    significant = []
    for seed in (1, 2):
        chosen = [
            run for run in colour(runs) if run.info["seed"] == (seed if run.label in several else 0)
        ]
        rows = analysis.primary(chosen + [run for run in runs if run.info["dataset"] == "mnist"])
        significant.append(set(rows.query("p_holm < 0.05")["network"]))
    return significant == [{"resnet18_improved", "googlenet_improved"}, set()]


@claim
def seed_decides(runs):
    return by_seed(runs)


@claim
def single_most(runs):
    worth = (
        analysis.changes(colour(runs))
        .query("network == 'resnet18_improved'")
        .set_index("variant")["value"]
    )
    worth = worth[["augment=False", "schedule=constant"]]
    with_all, with_none = (
        {run.info["seed"]: run.accuracy for run in part if run.label == "resnet18_improved"}
        for part in (tuned(runs), bare(runs))
    )
    apart = max(with_all.values()) - min(with_all.values())
    return worth.min() > 10 * apart and worth.sum() > with_all[0] - with_none[0]


@claim
def single_least(runs):
    told = (
        analysis.changes(colour(runs))
        .query("network == 'resnet18_improved'")
        .set_index("variant")["told"]
    )
    return told.to_dict() == {
        "augment=False": True, "schedule=constant": True, "weight_decay=0.0": True, "label_smoothing=0.0": False,
        "stem=7x7": True, "dropout=0.0": False, "stem_norm=False": False,
    }  # fmt: skip


@claim
def single_sure(runs):
    of = {
        run.recipe: run.info["temperature"]
        for run in colour(runs)
        if run.label == "resnet18_improved"
    }
    return of["tuned"] < 1 < of["tuned-label_smoothing=0.0"]


@claim
def too_modest(runs):
    return all(surplus(run) < 0 and run.info["temperature"] < 1 for run in tuned(runs))


@claim
def too_sure(runs):
    return all(surplus(run) > 0 for run in bare(runs))


@claim
def temperature_helps(runs):
    return all(
        run.info["test_ece_calibrated"] < run.info["test_ece"] for run in tuned(runs) + bare(runs)
    )


@claim
def modest(runs):
    found = {
        run.info["dataset"]: surplus(run)
        for run in runs
        if run.path.parts[-3:-1] == ("vgg16_improved", analysis.TUNED)
    }
    return found["cifar10"] < -0.3 and found["mnist"] < -0.2


@claim
def modest_start(_runs):
    found = {run.label: surplus(run) for run in find(ROOT / "results" / "confidence")}
    he, field = found["vgg16_improved"], found["vgg16_improved-init=field"]
    return he < -0.15 and he + 0.08 < 2 * (field + 0.08) < 0  # label smoothing alone gives -0.08


@claim
def brittle(runs):
    table = analysis.accuracies(colour(runs)).set_index(["recipe", "network"])
    families = product((analysis.PLAIN, analysis.TUNED), ("resnet18", "googlenet"))
    pairs = [
        (table.loc[(recipe, f"{family}_improved")], table.loc[(recipe, family)])
        for recipe, family in families
    ]
    worse = all(ours[kind] < theirs[kind] for ours, theirs in pairs for kind in ("noise", "blur"))
    return worse and all(ours["contrast"] > theirs["contrast"] for ours, theirs in pairs)


@claim
def single_stem(runs):
    worth = (
        analysis.changes(colour(runs))
        .query("network == 'resnet18_improved'")
        .set_index("variant")
        .loc["stem=7x7"]
    )
    ahead = analysis.primary(colour(runs)).set_index("network").loc["resnet18_improved", "value"]
    return worth["low"] < ahead < worth["value"]


@claim
def brittle_stem(runs):
    table = analysis.accuracies(colour(runs)).query("recipe == 'tuned'").set_index("network")
    original, undone, ours = (
        table.loc[name] for name in ("resnet18", "resnet18_improved-stem=7x7", "resnet18_improved")
    )
    return all(
        undone[kind] > original[kind] - 0.01 and undone[kind] - ours[kind] > 0.03
        for kind in ("noise", "blur")
    )


@claim
def gray(runs):
    table = analysis.accuracies(tuned(runs, "mnist")).set_index("network")
    lost, without = table["clean"] - table["contrast"], ["alexnet", "vgg11", "vgg16"]
    guessing = table.loc[["resnet18_improved", "vgg16_improved"], "contrast"]
    return (
        lost.drop(without).min() >= 0.05 and lost[without].max() < 0.005 and guessing.max() < 0.12
    )


@claim
def vehicles(runs):
    best = analysis.best(tuned(runs))
    names = np.array(best.info["classes"])[best.test["labels"]]
    drives = np.isin(names, ["airplane", "automobile", "ship", "truck"])
    return best.correct[drives].mean() > best.correct[~drives].mean()


@claim
def same_mistakes(runs):
    first = [seeds[0] for seeds in of_networks(tuned(runs), analysis.TUNED).values()]
    wrong, labels = np.stack([~run.correct for run in first]), first[0].test["labels"]
    by_class = [wrong[:, labels == k] for k in np.unique(labels)]
    return wrong.all(0).sum() > 10 * sum(part.mean(1).prod() * part.shape[1] for part in by_class)


@claim
def devices(runs):
    found = {}
    for run in runs:
        pair = analysis.ORIGINALS.get(run.label, run.label), run.info["dataset"], run.info["seed"]
        found.setdefault(pair, set()).add(run.on_gpu)
    families = {
        pair: kinds for pair, kinds in found.items() if pair[0] in analysis.ORIGINALS.values()
    }
    by_seed = [
        families[family, "cifar10", seed]
        for family in ("resnet18", "googlenet")
        for seed in range(3)
    ]
    return (
        all(len(kinds) == 1 for kinds in families.values())
        and by_seed == [{False}, {True}, {True}] * 2
    )


@claim
def both_others(runs, small):
    full, short = verdicts(runs), verdicts(small)
    return (
        len(full) == len(short) == 6
        and sum(full[pair] != said for pair, said in short.items()) == 2
    )


def said_by_seed(runs, improved):
    """What each seed alone says of the improved form on CIFAR-10: better, worse or not
    distinguishable.
    """
    by_seed = {(run.label, run.info["seed"]): run for run in tuned(runs)}
    said = {}
    for seed in sorted({seed for _, seed in by_seed}):
        pair = [by_seed.get((name, seed)) for name in (improved, analysis.ORIGINALS[improved])]
        if None not in pair:
            p, sign = (
                metrics.mcnemar(pair[0].correct, pair[1].correct),
                pair[0].accuracy - pair[1].accuracy,
            )
            said[seed] = analysis.ALIKE if p >= 0.05 else "better" if sign > 0 else "worse"
    return said


@claim
def small_bounded(runs):
    found = {(run.label, run.recipe): run.accuracy for run in colour(runs)}
    learns = [
        found["vgg16_improved", "plain-clip=5.0"],
        found["vgg16_improved-init=field", "plain"],
    ]
    stays = [found["vgg16_improved", recipe] for recipe in ("plain", "plain-warmup=0.05")]
    return min(learns) > 0.2 and max(stays) < 0.12


@claim
def small_start(runs):
    worth = analysis.changes(colour(runs)).set_index(["network", "effect"])
    worst = ("vgg16_improved", "He's initialisation")
    seeds = [run.accuracy for run in tuned(runs) if run.label == "vgg16"]
    gain = worth.loc[("vgg16", "batch norm")]
    more = len(seeds) == 3 and gain["told"] and gain["value"] > max(seeds) - min(seeds)
    return more and worth.loc[worst, "value"] < 0 and worth["value"].abs().idxmax() == worst


@claim
def small_poorest(runs):
    found = {run.info["seed"]: run.accuracy for run in tuned(runs) if run.label == "vgg16_improved"}
    return len(found) == 3 and min(found, key=found.get) == 0


@claim
def small_none_better(runs):
    return len(declared(runs)) == 3 and "better" not in declared(runs).values()


@claim
def small_one_seed(runs):
    said = {pair: word for pair, word in verdicts(runs).items() if word != analysis.ALIKE}
    alone = [run for run in tuned(runs, "mnist") if run.label in ("vgg16", "vgg16_improved")]
    return (
        said == {("MNIST", "vgg16_improved"): "better"}
        and len(verdicts(runs)) == 6
        and len(alone) == 2
    )


def told_changes(runs):
    """Network and effect of the changes with several seeds that can be told from none."""
    table = analysis.changes(runs).query("told and seeds > 1")
    return set(zip(table["network"], table["effect"], strict=True))


@claim
def small_shown(runs):
    worth = analysis.changes(colour(runs))
    several = worth[worth["seeds"] > 1]
    nearest = several.loc[several["value"].abs().idxmin(), ["network", "effect"]]
    gain = several.set_index(["network", "effect"])["value"][
        "googlenet_improved", "batch norm in the stem"
    ]
    families = {analysis.ORIGINALS.get(name, name) for name in several["network"]}
    return (
        told_changes(colour(runs)) == {("googlenet_improved", "batch norm in the stem")}
        and gain > 0
        and [*nearest] == ["resnet18_improved", "3x3 stem"]
        and families == {"resnet18", "googlenet"}
        and set(several["seeds"]) == {3}
    )


@claim
def small_again(runs):
    again = {
        (run.label, run.recipe, run.info["seed"]): run for run in find(ROOT / "results" / "again")
    }
    moved, before, after = [], [], []
    for run in colour(runs):
        other = again.get((run.label, run.recipe, run.info["seed"]))
        moved += [abs(other.accuracy - run.accuracy)] if other else []
        if run.label != "googlenet":  # that change was made on the other processor
            before.append(run)
            after.append(Run(other.path, other.info | {"tier": run.info["tier"]}) if other else run)
    first, second = told_changes(before), told_changes(after)
    return (
        len(moved) == 6
        and min(moved) > 0.009
        and len(first) == len(second) == 1
        and first != second
    )


@claim
def small_each_seed(runs):
    said = [
        said_by_seed(runs, f"{family}_improved") for family in ("googlenet", "resnet18", "vgg16")
    ]
    same, low, high = analysis.ALIKE, "worse", "better"
    by_seed = [[low, same, low], [same, low, same], [low, high, low]]
    return said == [dict(enumerate(each)) for each in by_seed] and set(declared(runs).values()) == {
        same
    }


@claim
def small_recipe_resnet(runs):
    table = analysis.two_by_two(colour(runs))
    rows = table[(table["effect"] == "recipe") & (table["seeds"] > 1)].to_dict("records")
    return [row["network"] for row in rows if row["low"] > 0 or row["high"] < 0] == [
        "resnet18_improved"
    ]


@claim
def small_recipe_hurts(runs):
    cells = {
        (run.info["dataset"], run.recipe): run.accuracy for run in runs if run.label == "alexnet"
    }
    return cells["mnist", "plain"] - cells["mnist", "tuned"] > 0.1
