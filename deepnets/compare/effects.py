"""Tidy tables from runs, one function a table: runs in, a DataFrame out.

Accuracies, effects and the ends of their 95 % intervals (`low`, `high`) are shares of the test
images. What is not known is not a number. Everything else formats these tables.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from .. import metrics, recipes
from ..info import CORRUPTIONS
from ..models import ORIGINALS
from ..recipes import Recipe
from ..runs import Run
from . import statistics
from .groups import NETWORKS, PRIMARY, SEEDS, Group, changed, closed, complete, groups

# The published comparison (Skoularikis 2021): accuracy of the original network and training, and of
# the improved network and training.
PUBLISHED = {
    ("cifar10", "vgg16_improved"): (0.7598, 0.7902),
    ("cifar10", "resnet18_improved"): (0.6553, 0.8187),
    ("cifar10", "googlenet_improved"): (0.8315, 0.8585),
    ("mnist", "vgg16_improved"): (0.9919, 0.9965),
    ("mnist", "resnet18_improved"): (0.9899, 0.9963),
    ("mnist", "googlenet_improved"): (0.9951, 0.9965),
}
VANILLA, ALTERED = recipes.VANILLA.name, recipes.ALTERED.name  # its two trainings
# What others report, by dataset, network, recipe, size and epochs (He et al. 2016, table 6)
REPORTED = {("cifar10", "resnet20", "classic", 32, 182): 0.9125}
# On MNIST, fixed beforehand like the primary comparisons: a share, and trainings of each network
EQUAL_WITHIN, EQUAL_TRAININGS = 0.002, 3

# What the published gain is made of: weights of original network and vanilla training, original
# and altered, improved and vanilla, improved and altered. Each factor counts as the mean over both
# kinds of the other, so training and architecture add up to the gain; the interaction says how much
# more the architecture gives under the altered training.
CORNERS = ("original_vanilla", "original_altered", "improved_vanilla", "improved_altered")
PARTS = {
    "gain": (-1, 0, 0, 1),
    "training": (-0.5, 0.5, -0.5, 0.5),
    "architecture": (-0.5, -0.5, 0.5, 0.5),
    "interaction": (1, -1, -1, 1),
}
# What runs call the columns of accuracies' quality
QUALITY = {
    "nll": "test_nll", "brier": "test_brier", "ece": "test_ece", "temperature": "temperature",
    "calibrated_ece": "test_ece_calibrated",
}  # fmt: skip

# What `interval` and `verdict` may say
BOTH, IMAGES = "new trainings and test images", "new test images"
MISSING, ONE_TRAINING, EXPLORATORY = "runs are missing", "one training", "exploratory"
EQUAL = "equal within 0.2 points"

_TRAINED = "dataset network options recipe input_size epochs train_images"
_QUALITY = " ".join([*QUALITY, *CORRUPTIONS])
COLUMNS = {
    "accuracies": f"{_TRAINED} seeds accuracy deviation low high interval parameters macs "
    f"{_QUALITY} seconds devices precision",
    "seeds": f"{_TRAINED} seed accuracy training_accuracy validation_accuracy {_QUALITY} seconds devices precision "
    "torch commit",
    "effects": "dataset network original recipe epochs primary seeds original_seeds effect low high "
    "own_low own_high p p_holm p_equal welch same_machine verdict",
    "equal_rates": "dataset network original recipe learning_rate seeds original_seeds effect low "
    "high same_machine",
    "corners": f"dataset network original epochs seeds {' '.join(CORNERS)} published_original "
    "published_improved published_gain "
    + " ".join(f"{part} {part}_low {part}_high" for part in PARTS)
    + " training_share verdict",
    "changes": "dataset network recipe change seeds whole_seeds accuracy effect low high "
    "same_machine verdict",
    "control": f"{_TRAINED} seeds accuracy low high interval reported devices precision",
}
SORTED_BY = "dataset network recipe options change input_size epochs train_images seed precision"


def accuracies(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns a row a network and way to train it: accuracy, calibration, robustness and cost.

    Figures are means over `seeds`; `deviation` is accuracy's standard deviation over them. Several
    seeds have the interval of `statistics.contrast`, one seed has Wilson's, and `interval` says
    what it is for. `noise`, `blur` and `contrast` are accuracies on images so corrupted. `seconds`
    are of one training, unknown where the seeds were trained on different devices.
    """
    found = groups(runs)
    hidden = closed(found)
    rows = []
    for group in found:
        row = group.columns() | _machine([*group.runs.values()])
        row |= {name: getattr(group.info, name) for name in ("parameters", "macs")}
        figures = {"interval": MISSING} if group in hidden else _accuracy(group) | _quality(group)
        rows.append(row | figures)
    return _table("accuracies", rows)


def seeds(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns a row a run.

    Accuracies on training and validation images are those of the last epoch; training images are
    seen as augmented, while the network learns.
    """
    found = groups(runs)
    hidden = closed(found)
    rows = []
    for group in found:
        for seed, run in group.runs.items():
            row = group.columns() | _machine([run]) | {"seed": seed, "commit": run.info.commit}
            row["training_accuracy"] = run.history["train_accuracy"].iloc[-1]
            row["validation_accuracy"] = run.history["val_accuracy"].iloc[-1]
            row["torch"] = run.info.versions["torch"]
            if group not in hidden:
                row |= {"accuracy": run.accuracy} | _quality(Group({seed: run}))
            rows.append(row)
    return _table("seeds", rows)


def effects(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns a row a contrast: an improved network minus its original, by one recipe.

    The two `primary` ones have p, Holm's p over the two and a verdict; their variance between seeds
    is pooled over all four networks, and `welch` says where it could not be; `own_low` and
    `own_high` are the interval's ends with that of the pair alone. On MNIST `p_equal` is that of a
    difference of 0.2 points or more. All else is exploratory: effect and interval.
    `same_machine`: both trainings of each seed had one device, precision and version of PyTorch.
    """
    found = groups(runs)
    hidden = closed(found)
    rows = _missing(found) if hidden else []
    by_one_recipe = _pairs(found, lambda a, b: a.recipe == b.recipe)
    pairs = [pair for pair in by_one_recipe if pair[0] not in hidden]
    tested = [pair for pair in pairs if complete(found) and pair[0].whole and pair[1].whole]
    pooled = statistics.pooled_variance([group.right(SEEDS) for pair in tested for group in pair])
    primary = {
        (a, b): statistics.difference(a.right(SEEDS), b.right(SEEDS), pooled) for a, b in tested
    }
    adjusted = metrics.holm([effect.p for effect in primary.values()])
    p_holm = dict(zip(primary, adjusted, strict=True))
    for improved, original in pairs:
        pair, said = (improved, original), dict[str, Any]()
        if pair in primary:
            effect, p = primary[pair], p_holm[pair]
            said = {"p": effect.p, "p_holm": p, "verdict": statistics.verdict(effect, p)}
            own = statistics.difference(improved.right(SEEDS), original.right(SEEDS))
            said["own_low"], said["own_high"] = own.interval
        else:
            effect = statistics.difference(improved.right(), original.right())
            trainings = min(len(improved.runs), len(original.runs))
            if improved.info.dataset == "mnist" and trainings >= EQUAL_TRAININGS:
                said["p_equal"] = effect.equivalence(EQUAL_WITHIN)
                said |= {"verdict": EQUAL} if said["p_equal"] < 0.05 else {}
        said["primary"] = pair in primary
        row = improved.columns() | _effect(effect) | said | _same_machine(improved, original)
        row |= {"original": original.info.model, "original_seeds": len(original.runs)}
        rows.append(row | {"welch": effect.welch})
    return _table("effects", rows)


def equal_rates(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns a row an improved network minus its original at the same learning rate.

    They stand beside `effects`, where each network has a rate of its own. No verdict is given.
    """
    found = groups(runs)
    hidden = closed(found)
    rows = []
    for improved, original in _pairs(found, lambda a, b: _numbers(a) == _numbers(b)):
        if improved.recipe != original.recipe and not {improved, original} & {*hidden}:
            effect = statistics.difference(improved.right(), original.right())
            row = improved.columns() | _effect(effect) | _same_machine(improved, original)
            row |= {"original": original.info.model, "original_seeds": len(original.runs)}
            rows.append(row | {"learning_rate": improved.info.recipe.learning_rate})
    return _table("equal_rates", rows)


def corners(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns the published gains taken apart: a row an improved network and dataset.

    It has the accuracy of both networks under both published trainings, what was published, and the
    effects that `PARTS` explains, if all four are there. `training_share` is training's part of the
    gain, where there is one.
    """
    found = _by_place(groups(runs))
    settings = {place[0] for place in found if place[2] in (VANILLA, ALTERED)}
    rows = []
    for setting in settings:
        for improved, original in ORIGINALS.items():
            places = [(setting, n, r) for n in (original, improved) for r in (VANILLA, ALTERED)]
            there = {c: found[p] for c, p in zip(CORNERS, places, strict=True) if p in found}
            if not there:
                continue
            one = next(iter(there.values()))
            row = one.columns() | {"network": improved, "original": original}
            row |= {corner: group.accuracy for corner, group in there.items()}
            row["seeds"] = min(len(group.runs) for group in there.values())
            if published := PUBLISHED.get((one.info.dataset, improved)):
                row["published_original"], row["published_improved"] = published
                row["published_gain"] = published[1] - published[0]
            full = len(there) == len(CORNERS)
            rows.append(row | (_parts([*there.values()]) if full else {"verdict": MISSING}))
    return _table("corners", rows)


def changes(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns a row a single change: a network with it minus the whole network, trained alike.

    A change is one option of the network or one field of the recipe.
    """
    found = groups(runs)
    hidden = closed(found)
    whole = [g for g in found if not g.info.options and g.recipe in recipes.RECIPES]
    rows = []
    for group in (group for group in found if group not in whole):
        for base in whole:
            change = _difference(base, group)
            if len(change) != 1:
                continue
            row = group.columns() | {"recipe": base.recipe, "change": changed(change)}
            row |= {"accuracy": group.accuracy, "whole_seeds": len(base.runs), "verdict": MISSING}
            if base not in hidden:
                row |= _effect(statistics.difference(group.right(), base.right()))
            rows.append(row | _same_machine(group, base))
    return _table("changes", rows)


def control(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns a row a training that others report an accuracy of, or for accuracy alone (`best`)."""
    rows = []
    for group in groups(runs):
        info = group.info
        key = info.dataset, info.model, group.recipe, info.input_size, info.epochs
        if key in REPORTED or group.recipe == recipes.BEST.name:
            row = group.columns() | _machine([*group.runs.values()]) | _accuracy(group)
            rows.append(row | {"reported": REPORTED.get(key, math.nan)})
    return _table("control", rows)


TABLES: dict[str, Callable[[Sequence[Run]], pd.DataFrame]] = {
    "accuracies": accuracies, "seeds": seeds, "effects": effects, "equal_rates": equal_rates,
    "corners": corners, "changes": changes, "control": control,
}  # fmt: skip


def _table(name: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Returns the rows of a table in an order that does not depend on that of the runs."""
    columns = COLUMNS[name].split()
    order = [column for column in SORTED_BY.split() if column in columns]
    return pd.DataFrame(rows, columns=columns).sort_values(order, ignore_index=True)


def _accuracy(group: Group) -> dict[str, Any]:
    """Returns accuracy, its deviation over seeds and its interval as columns."""
    shares = [run.accuracy for run in group.runs.values()]
    if len(shares) == 1:
        low, high = metrics.accuracy_interval(group.info.test_correct, group.info.test_total)
        deviation = math.nan
    else:
        low, high = statistics.contrast([group.right()], [1]).interval
        low, high = max(low, 0.0), min(high, 1.0)  # Student's interval of two seeds can be wide
        deviation = float(np.std(shares, ddof=1))
    row = {"accuracy": group.accuracy, "deviation": deviation, "low": low, "high": high}
    return row | {"interval": IMAGES if len(shares) == 1 else BOTH}


def _quality(group: Group) -> dict[str, float]:
    """Returns calibration and robustness as columns, means over seeds."""
    infos = [run.info for run in group.runs.values()]
    means = {
        column: np.mean([getattr(info, key) for info in infos]) for column, key in QUALITY.items()
    }
    right = [info.robustness for info in infos]
    return means | {kind: np.mean([r[kind] / r["images"] for r in right]) for kind in CORRUPTIONS}


def _machine(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns what the runs were trained on, and how long one took, as columns."""

    def device(run: Run) -> str:
        threads = f", {run.info.threads} thread{'s' * (run.info.threads > 1)}"
        return run.info.device + threads * (run.info.device_type == "cpu")

    devices, precisions = {device(run) for run in runs}, {run.info.precision for run in runs}
    row = {"devices": "; ".join(sorted(devices)), "precision": "; ".join(sorted(precisions))}
    seconds = np.mean([run.info.train_seconds for run in runs])
    return row | {"seconds": seconds if len(devices) == 1 else math.nan}


def _same_machine(first: Group, second: Group) -> dict[str, bool]:
    """Returns whether the trainings of each seed had one device, precision and PyTorch."""

    def machine(run: Run) -> tuple[str, ...]:
        return run.info.device, run.info.precision, run.info.versions["torch"]

    shared = first.runs.keys() & second.runs.keys()
    same = (machine(first.runs[seed]) == machine(second.runs[seed]) for seed in shared)
    return {"same_machine": all(same)}


def _effect(effect: statistics.Effect) -> dict[str, Any]:
    low, high = effect.interval
    verdict = ONE_TRAINING if effect.one_training else EXPLORATORY
    return {"effect": effect.value, "low": low, "high": high, "verdict": verdict}


def _missing(found: Sequence[Group]) -> list[dict[str, Any]]:
    """Returns the rows of the primary comparisons while these are closed: without figures."""
    there = {group.info.model: group for group in found if group.primary}
    seeds = {name: len(there[name].runs) if name in there else 0 for name in NETWORKS}
    row = next(iter(there.values())).columns() | {"primary": True, "verdict": MISSING}
    pairs = [(name, ORIGINALS[name]) for name in PRIMARY]
    return [
        row | {"network": a, "seeds": seeds[a], "original": b, "original_seeds": seeds[b]}
        for a, b in pairs
    ]


def _by_place(found: Sequence[Group]) -> dict[tuple[Any, str, str], Group]:
    """Returns the whole networks by setting, network and recipe."""
    whole = (group for group in found if not group.info.options)
    return {(group.setting, group.info.model, group.recipe): group for group in whole}


def _pairs(
    found: Sequence[Group], alike: Callable[[Group, Group], bool]
) -> Iterator[tuple[Group, Group]]:
    """Yields the improved networks with their originals that were trained alike."""
    whole = [group for group in found if not group.info.options]
    for improved, original in product(whole, whole):
        family = ORIGINALS.get(improved.info.model) == original.info.model
        if family and improved.setting == original.setting and alike(improved, original):
            yield improved, original


def _numbers(group: Group) -> Recipe:
    """Returns the recipe without its name."""
    return replace(group.info.recipe, name="")


def _parts(four: Sequence[Group]) -> dict[str, Any]:
    """Returns the effects of `PARTS`, from the groups of the four corners, as columns."""
    row: dict[str, Any] = {}
    for part, weights in PARTS.items():
        used = [(group.right(), w) for group, w in zip(four, weights, strict=True) if w]
        found = _effect(statistics.contrast([right for right, _ in used], [w for _, w in used]))
        row |= {part: found["effect"], "verdict": found["verdict"]}
        row |= {f"{part}_{end}": found[end] for end in ("low", "high")}
    if row["gain"] > 0:
        row["training_share"] = row["training"] / row["gain"]
    return row


def _difference(base: Group, group: Group) -> dict[str, Any]:
    """Returns the options and fields of the recipe that a group has otherwise than the base.

    None are returned where network or images are others.
    """
    same = ("model", "data_sha256", "train_images", "input_size")
    if any(getattr(base.info, name) != getattr(group.info, name) for name in same):
        return {}
    first, second = (g.info.options | asdict(g.info.recipe) | {"name": ""} for g in (base, group))
    return {key: value for key, value in second.items() if first.get(key) != value}
