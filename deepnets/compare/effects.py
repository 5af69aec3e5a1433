"""Tidy tables from runs, one function a table: runs in, a DataFrame out.

Accuracies, effects and the ends of their 95 % intervals (`low`, `high`) are shares of the test
images. What is not known is not a number. Everything else formats these tables.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from .. import metrics, recipes
from ..info import CORRUPTIONS, Info
from ..models import ORIGINALS
from ..runs import Run
from . import statistics
from .groups import SEEDS, Group, changed, complete, groups

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
    "seeds": f"{_TRAINED} seed accuracy training_accuracy validation_accuracy {_QUALITY} seconds "
    "devices precision torch commit",
    "effects": "dataset network original recipe epochs primary seeds original_seeds effect low "
    "high own_low own_high p p_holm p_equal welch same_machine verdict",
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
    rows = []
    for group in groups(runs):
        found = group.runs.values()
        row = group.columns() | _machine(found) | _accuracy(group) | _quality(found)
        rows.append(row | {name: getattr(group.info, name) for name in ("parameters", "macs")})
    return _table("accuracies", rows)


def seeds(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns a row a run.

    Accuracies on training and validation images are those of the last epoch; training images are
    seen as augmented, while the network learns.
    """
    rows = []
    for group in groups(runs):
        for seed, run in group.runs.items():
            row = group.columns() | _machine([run]) | _quality([run])
            row |= {"seed": seed, "accuracy": run.accuracy, "commit": run.info.commit}
            row["training_accuracy"] = run.history["train_accuracy"].iloc[-1]
            row["validation_accuracy"] = run.history["val_accuracy"].iloc[-1]
            row["torch"] = run.info.versions["torch"]
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
    found, rows = groups(runs), []
    pairs = _pairs(found, lambda group: group.recipe)
    declared = pairs if complete(found) else []
    primary = [pair for pair in declared if all(group.whole for group in pair)]
    cells = {(a, b): (a.right(SEEDS), b.right(SEEDS)) for a, b in primary}
    pooled = statistics.pooled_variance([right for both in cells.values() for right in both])
    tested = {pair: statistics.difference(*both, pooled) for pair, both in cells.items()}
    adjusted = metrics.holm([effect.p for effect in tested.values()])
    p_holm = dict(zip(tested, adjusted, strict=True))
    for pair in pairs:
        said: dict[str, Any] = {"primary": pair in tested}
        if effect := tested.get(pair):
            said |= {"p": effect.p, "p_holm": p_holm[pair]}
            said["verdict"] = statistics.verdict(effect, p_holm[pair])
            said["own_low"], said["own_high"] = statistics.difference(*cells[pair]).interval
        else:
            effect = statistics.difference(pair[0].right(), pair[1].right())
            trainings = min(len(group.runs) for group in pair)
            if pair[0].info.dataset == "mnist" and trainings >= EQUAL_TRAININGS:
                said["p_equal"] = effect.equivalence(EQUAL_WITHIN)
                said |= {"verdict": EQUAL} if said["p_equal"] < 0.05 else {}
        rows.append(_contrast(*pair, effect) | said)
    return _table("effects", rows)


def equal_rates(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns a row an improved network minus its original at the same learning rate.

    They stand beside `effects`, where each network has a rate of its own. No verdict is given.
    """
    rows = []
    for improved, original in _pairs(groups(runs), lambda g: replace(g.info.recipe, name="")):
        if improved.recipe != original.recipe:
            effect = statistics.difference(improved.right(), original.right())
            rate = {"learning_rate": improved.info.recipe.learning_rate}
            rows.append(_contrast(improved, original, effect) | rate)
    return _table("equal_rates", rows)


def corners(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns the published gains taken apart: a row an improved network and dataset.

    It has the accuracy of both networks under both published trainings, what was published, and the
    effects that `PARTS` explains, if all four are there. `training_share` is training's part of the
    gain, where there is one.
    """
    by_setting: dict[Any, dict[tuple[str, str], Group]] = defaultdict(dict)
    for group in groups(runs):
        if not group.info.options and group.recipe in (VANILLA, ALTERED):
            by_setting[group.setting][group.info.model, group.recipe] = group
    rows = []
    for found in by_setting.values():
        for improved, original in ORIGINALS.items():
            places = product((original, improved), (VANILLA, ALTERED))
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
    whole = [g for g in found if not g.info.options and g.recipe in recipes.RECIPES]
    rows = []
    for group in (group for group in found if group not in whole):
        for base in whole:
            change = _difference(base, group)
            if len(change) != 1:
                continue
            row = group.columns() | {"recipe": base.recipe, "change": changed(change)}
            row |= {"accuracy": group.accuracy, "whole_seeds": len(base.runs)}
            row |= _effect(statistics.difference(group.right(), base.right()))
            rows.append(row | {"same_machine": _same_machine(group, base)})
    return _table("changes", rows)


def control(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns a row a training that others report an accuracy of, or one for accuracy alone."""
    rows = []
    for group in groups(runs):
        info = group.info
        key = info.dataset, info.model, group.recipe, info.input_size, info.epochs
        if key in REPORTED or group.recipe == recipes.BEST.name:
            row = group.columns() | _machine(group.runs.values()) | _accuracy(group)
            rows.append(row | {"reported": REPORTED.get(key, math.nan)})
    return _table("control", rows)


TABLES: dict[str, Callable[[Sequence[Run]], pd.DataFrame]] = {
    table.__name__: table
    for table in (accuracies, seeds, effects, equal_rates, corners, changes, control)
}


def _table(name: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Returns the rows of a table in an order that does not depend on that of the runs."""
    columns = COLUMNS[name].split()
    order = [column for column in SORTED_BY.split() if column in columns]
    return pd.DataFrame(rows, columns=columns).sort_values(order, ignore_index=True)


def _accuracy(group: Group) -> dict[str, Any]:
    """Returns accuracy, its deviation over seeds and its interval as columns."""
    row: dict[str, Any] = {"accuracy": group.accuracy}
    if len(group.runs) == 1:
        low, high = metrics.accuracy_interval(group.info.test_correct, group.info.test_total)
        return row | {"low": low, "high": high, "interval": IMAGES}
    low, high = statistics.contrast([group.right()], [1]).interval
    deviation = np.std([run.accuracy for run in group.runs.values()], ddof=1)
    # Student's interval of two seeds can be wide
    ends = {"low": max(low, 0.0), "high": min(high, 1.0), "interval": BOTH}
    return row | ends | {"deviation": deviation}


def _quality(runs: Collection[Run]) -> dict[str, float]:
    """Returns calibration and robustness as columns, means over the runs."""
    infos = [run.info for run in runs]
    row = {name: np.mean([getattr(info, key) for info in infos]) for name, key in QUALITY.items()}
    right = [info.robustness for info in infos]
    return row | {kind: np.mean([r[kind] / r["images"] for r in right]) for kind in CORRUPTIONS}


def _machine(runs: Collection[Run]) -> dict[str, Any]:
    """Returns what the runs were trained on, and how long one took, as columns."""

    def device(info: Info) -> str:
        threads = f", {info.threads} thread{'s' * (info.threads > 1)}"
        return info.device + threads * (info.device_type == "cpu")

    infos = [run.info for run in runs]
    devices, precisions = {device(info) for info in infos}, {info.precision for info in infos}
    row = {"devices": "; ".join(sorted(devices)), "precision": "; ".join(sorted(precisions))}
    known = {"seconds": np.mean([info.train_seconds for info in infos])}
    return row | (known if len(devices) == 1 else {})


def _same_machine(first: Group, second: Group) -> bool:
    """Returns whether the trainings of each seed had one device, precision and PyTorch."""

    def machine(run: Run) -> tuple[str, ...]:
        return run.info.device, run.info.precision, run.info.versions["torch"]

    shared = first.runs.keys() & second.runs.keys()
    return all(machine(first.runs[seed]) == machine(second.runs[seed]) for seed in shared)


def _effect(effect: statistics.Effect) -> dict[str, Any]:
    low, high = effect.interval
    verdict = ONE_TRAINING if effect.one_training else EXPLORATORY
    return {"effect": effect.value, "low": low, "high": high, "verdict": verdict}


def _contrast(improved: Group, original: Group, effect: statistics.Effect) -> dict[str, Any]:
    """Returns the effect of an improved network as columns."""
    row = improved.columns() | _effect(effect) | {"welch": effect.welch}
    row |= {"original": original.info.model, "original_seeds": len(original.runs)}
    return row | {"same_machine": _same_machine(improved, original)}


def _pairs(found: Sequence[Group], alike: Callable[[Group], Any]) -> list[tuple[Group, Group]]:
    """Returns the improved networks with their originals that were trained `alike`."""
    whole = [group for group in found if not group.info.options]
    return [
        (improved, original)
        for improved, original in product(whole, whole)
        if ORIGINALS.get(improved.info.model) == original.info.model
        and improved.setting == original.setting
        and alike(improved) == alike(original)
    ]


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
