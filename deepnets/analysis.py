"""What runs say together: accuracy over seeds, and the effects of architecture, of recipe and of
single changes.

Every effect is a contrast: a number for each seed and test image, whose mean it is. Its interval
tells what other seeds and another test set might give; with a single seed it can tell of the test
set only.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, groupby
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from . import metrics
from .errors import UserError
from .runs import CORRUPTIONS, Run

# The networks of the study, and what the paper calls them.
NETWORKS = {
    "alexnet": "AlexNet", "vgg11": "VGG11", "vgg16": "VGG16", "vgg16_improved": "VGG16+", "googlenet": "GoogLeNet",
    "googlenet_improved": "GoogLeNet+", "resnet18": "ResNet18", "resnet18_improved": "ResNet18+", "resnet20": "ResNet20",
}  # fmt: skip
ORIGINALS = {
    "vgg16_improved": "vgg16",
    "resnet18_improved": "resnet18",
    "googlenet_improved": "googlenet",
}
PLAIN, TUNED = "plain", "tuned"
ALIKE = "not distinguishable"  # what is neither better nor worse is called
QUALITY = ("test_nll", "test_brier", "test_ece", "test_ece_calibrated")
PRIMARY_TESTS = 6  # of a tier: three families on two datasets, see studies/README.md
# an improved network that is its original once that is undone
ONE_CHANGE = {"googlenet_improved": "stem=7x7"}
# What a variant of studies/ablation.toml undoes in an improved network, or makes in an original
# one.
CHANGES = {
    "stem=7x7": "3x3 stem", "stem=3x3": "3x3 stem", "stem_norm=False": "batch norm in the stem", "dropout=0.0": "dropout",
    "dropout=0.2": "dropout", "init=field": "He's initialisation", "init=he": "He's initialisation",
    "batch_norm=False": "batch norm", "batch_norm=True": "batch norm", "head_pool=avg7": "5x5 max pool",
    "head_pool=max5": "5x5 max pool", "label_smoothing=0.0": "label smoothing", "weight_decay=0.0": "weight decay",
    "schedule=constant": "falling rate", "augment=False": "augmentation",
}  # fmt: skip
HARDLY = 0.1  # of the way from guessing to all right: below it, a network has hardly left guessing

SHARED = (
    "tier",
    "dataset",
    "train_images",
    "epochs",
    "input_size",
    "batch_size",
    "precision",
    "data_sha256",
)

# Of the four cells of two_by_two (original, plain; original, tuned; improved, plain; improved,
# tuned), the weights of each.
EFFECTS = {
    "architecture": (-0.5, -0.5, 0.5, 0.5),
    "recipe": (-0.5, 0.5, -0.5, 0.5),
    "interaction": (1, -1, -1, 1),
}

Where = dict[str, Any]  # what a group of runs shares
Cell = tuple[str, str]  # network with its changed options, recipe with its changed fields


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % interval of a contrast (seeds, images).

    Seeds and images are both samples, and all seeds saw the same images: the squares of two
    half-widths add up, Student's for the seeds' means and the normal one for the images' means.
    Three seeds that differ make it wide, as they must.
    """
    seeds, images = values.shape
    mean = values.mean()
    half = norm.ppf(0.975) * values.mean(0).std(ddof=1) / np.sqrt(images)
    if seeds > 1:
        half = np.hypot(half, t.ppf(0.975, seeds - 1) * values.mean(1).std(ddof=1) / np.sqrt(seeds))
    return float(mean), float(mean - half), float(mean + half)


def paired(first: Sequence[Run], second: Sequence[Run]) -> dict[str, Any]:
    """Two cells that share seeds and test images: `pairs` of runs, mean accuracy of the `first` and
    of the `second`, `value`, `low` and `high` of second minus first, and how far a pair is `apart`
    at most; all in shares.
    """
    mine, other = ({run.info["seed"]: run for run in found} for found in (first, second))
    pairs = [(mine[seed], other[seed]) for seed in sorted(mine.keys() & other.keys())]
    if not pairs:
        raise UserError(f"{first[0].path} and {second[0].path}: the two have no seed in common")
    value, low, high = interval(np.stack([1.0 * b.correct - a.correct for a, b in pairs]))
    before, after = (
        float(np.mean([run.accuracy for run in part])) for part in zip(*pairs, strict=True)
    )
    apart = max(abs(b.accuracy - a.accuracy) for a, b in pairs)
    return {
        "pairs": pairs,
        "first": before,
        "second": after,
        "value": value,
        "low": low,
        "high": high,
        "apart": apart,
    }


def groups(runs: Sequence[Run]) -> Iterator[tuple[Where, dict[Cell, dict[int, Run]]]]:
    """Runs that may be compared: of one tier, copy of the data, number of images and epochs, size,
    batch and precision.

    Yields:
        What the runs share, by the names in `SHARED`, and the cells, each with a run for every
        seed.

    Raises:
        UserError: the same training is there twice, or seeds of a cell had different recipes.
    """
    found: dict[tuple[Any, ...], dict[Cell, dict[int, Run]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for run in sorted(runs, key=lambda run: run.info["seed"]):
        info = run.info | {
            "dataset": run.info["dataset_title"],
            "batch_size": run.info["recipe"]["batch_size"],
        }
        cell = found[tuple(info[name] for name in SHARED)][run.label, run.recipe]
        first = next(iter(cell.values()), run)
        if info["recipe"] != first.info["recipe"]:
            raise UserError(
                f"{run.path} and {first.path} differ in their recipes, not in the seed alone; compare one of them"
            )
        if info["seed"] in cell:
            raise UserError(
                f"{run.path} and {cell[info['seed']].path} are the same training; compare one of them"
            )
        cell[info["seed"]] = run
    for shared, cells in sorted(found.items()):
        yield dict(zip(SHARED, shared, strict=True)), dict(cells)


def one_setting(runs: Sequence[Run]) -> None:
    """Raise UserError unless the runs on each dataset may be compared."""
    for title, settings in Counter(where["dataset"] for where, _ in groups(runs)).items():
        if settings > 1:
            differ = ", ".join(name for name in SHARED if name != "dataset")
            raise UserError(
                f"the runs on {title} differ in one of {differ}: they cannot be shown together"
            )


def unchanged(runs: Sequence[Run]) -> list[Run]:
    """The runs of networks and recipes as they are, without those of single changes
    (`studies/ablation.toml`); all of the `runs`, if there are only such.
    """
    kept = [run for run in runs if run.label == run.info["model"] and "-" not in run.recipe]
    return kept or list(runs)


def contrast(cells: dict[Cell, dict[int, Run]], weights: dict[Cell, float]) -> np.ndarray | None:
    """The weighted sum of whether each cell's networks were right (seeds, images), for the seeds
    that all cells have.

    None if there is no such seed or a cell of the `weights` is not among the `cells`.
    """
    if any(cell not in cells for cell in weights):
        return None
    seeds = sorted(set.intersection(*(set(cells[cell]) for cell in weights)))
    if not seeds:
        return None
    return np.stack(
        [
            sum(weight * cells[cell][seed].correct for cell, weight in weights.items())
            for seed in seeds
        ]
    )


def accuracies(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a cell, the best first: mean accuracy with its interval and all points, calibration,
    robustness and cost.

    Figures are means over seeds; `train_seconds` and `images_per_second` are of the trainings on a
    processor, or on a GPU if there are only such; `core_seconds` is time by threads, not a number
    for a GPU; `devices` are all of them. `stuck` says that the network hardly left the accuracy of
    guessing. Of the corrupted images there are the accuracy under each corruption, of the same
    images as they are (`clean`), and `corrupted`, the mean over the corruptions. The interval of a
    single run is Wilson's; no interval leaves 0 to 1.
    """
    rows = []
    for where, cells in groups(runs):
        for (network, recipe), by_seed in cells.items():
            info = pd.DataFrame([run.info for run in by_seed.values()])
            mean, low, high = interval(np.stack([run.correct for run in by_seed.values()]))
            if len(by_seed) == 1:
                low, high = metrics.accuracy_interval(
                    int(info["test_correct"].iloc[0]), int(info["test_total"].iloc[0])
                )
            # Student's interval of two seeds can be wider than there is room
            low, high = max(low, 0.0), min(high, 1.0)
            right = pd.DataFrame(info["robustness"].to_list())
            robustness = right[["clean", *CORRUPTIONS]].div(right["images"], axis=0).mean()
            on_cores = [run for run in by_seed.values() if not run.on_gpu]
            cost = pd.DataFrame([run.info for run in on_cores or by_seed.values()])
            rows.append(
                where
                | {"network": network, "recipe": recipe, "seeds": len(by_seed)}
                | {
                    "accuracy": mean,
                    "low": low,
                    "high": high,
                    "points": [run.accuracy for run in by_seed.values()],
                }
                | info[[*QUALITY, "temperature"]].mean().to_dict()
                | cost[["train_seconds", "images_per_second"]].mean().to_dict()
                | robustness.to_dict()
                | {"corrupted": robustness[[*CORRUPTIONS]].mean()}
                | info[["parameters", "macs"]].iloc[0].to_dict()
                | {"devices": sorted(set(info["device"]))}
                | {
                    "core_seconds": (cost["train_seconds"] * cost["threads"]).mean()
                    if on_cores
                    else np.nan
                }
                | {
                    "stuck": _stuck(by_seed),
                    "limited": any(run.info["limit"] for run in by_seed.values()),
                }
            )
    table = pd.DataFrame(rows)
    order = ["tier", "dataset", "accuracy", "network"]
    return table.sort_values(order, ascending=[True, True, False, True], ignore_index=True)


def between_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `accuracies` that have several seeds, with `apart`: the highest accuracy minus
    the lowest (share).
    """
    several = table[table["seeds"] > 1]
    return several.assign(apart=several["points"].map(lambda points: max(points) - min(points)))


def two_by_two(runs: Sequence[Run]) -> pd.DataFrame:
    """Architecture by recipe: a row for each family, dataset and effect, in shares of the test
    images.

    `architecture` is improved minus original, the mean over both recipes; `recipe` is tuned minus
    plain, the mean over both networks; `interaction` is how much more the recipe helps the improved
    network than the original one. `stuck` says that one of the four cells hardly left the accuracy
    of guessing, which the three effects then measure.
    """
    rows = []
    for where, cells in groups(runs):
        for improved, original in ORIGINALS.items():
            corners = [(original, PLAIN), (original, TUNED), (improved, PLAIN), (improved, TUNED)]
            stuck = any(_stuck(cells[corner]) for corner in corners if corner in cells)
            for effect, weights in EFFECTS.items():
                values = contrast(cells, dict(zip(corners, weights, strict=True)))
                if values is not None:
                    rows.append(_row(where, improved, effect, values) | {"stuck": stuck})
    return pd.DataFrame(
        rows, columns=[*SHARED, "network", "effect", "seeds", "value", "low", "high", "stuck"]
    )


def changes(runs: Sequence[Run]) -> pd.DataFrame:
    """Single changes under `tuned`, and what each is worth: with it minus without, in shares of the
    test images.

    Changes undone in the improved network and changes made to the original one: `effect` says
    which, in words, `variant` by what it was undone or made. `p` is the exact McNemar test of the
    smallest common seed, `p_holm` adjusts it over the changes of one network and dataset; `told`:
    the change can be told from none.
    """
    rows = []
    for where, cells in groups(runs):
        for base in (*ORIGINALS, *ORIGINALS.values()):
            family = []
            for cell in sorted(cells):
                variant = (
                    ONE_CHANGE.get(base, "")
                    if cell == (ORIGINALS.get(base), TUNED)
                    else _variation(base, cell)
                )
                sign = -1 if base in ORIGINALS else 1  # undone, or made
                values = contrast(cells, {cell: sign, (base, TUNED): -sign}) if variant else None
                if values is not None:
                    p = _first_seed_p(cells[cell], cells[base, TUNED])
                    change = CHANGES.get(variant, variant if sign > 0 else f"in place of {variant}")
                    family.append(_row(where, base, change, values) | {"variant": variant, "p": p})
            for row, adjusted in zip(
                family, metrics.holm([row["p"] for row in family]), strict=True
            ):
                told = verdict(row["low"], row["high"], adjusted) != ALIKE
                rows.append(row | {"p_holm": adjusted, "told": told})
    return pd.DataFrame(rows)


def primary(runs: Sequence[Run]) -> pd.DataFrame:
    """The comparison that was fixed beforehand (studies/README.md): improved minus original under
    `tuned`.

    The tests of a tier are one family for Holm, of the declared size even while some are missing.
    `better` is the probability that a training of the improved network beats one of the original.
    """
    rows: list[dict] = []
    for where, cells in groups(runs):
        for improved, original in ORIGINALS.items():
            values = contrast(cells, {(improved, TUNED): 1, (original, TUNED): -1})
            if values is not None:
                first, second = cells[improved, TUNED], cells[original, TUNED]
                p = _first_seed_p(first, second)
                better = probability_of_improvement(
                    [r.accuracy for r in first.values()], [r.accuracy for r in second.values()]
                )
                rows.append(
                    _row(where, improved, f"over {original}", values) | {"p": p, "better": better}
                )
    for tier in {row["tier"] for row in rows}:
        family = [row for row in rows if row["tier"] == tier]
        missing = [1.0] * (PRIMARY_TESTS - len(family))
        for row, adjusted in zip(
            family, metrics.holm([row["p"] for row in family] + missing), strict=False
        ):
            row["p_holm"] = adjusted
    return pd.DataFrame(rows)


def pairwise(runs: list[Run]) -> list[dict[str, Any]]:
    """Exact McNemar tests between networks with the same test images, recipe and seed: exploratory,
    a family a tier for Holm.

    Returns:
        A dict a pair: what the two share, both networks, the difference of their accuracies (first
        minus second, share), `p` and `p_holm`, and in words how else their trainings `differ`,
        "epochs 7 and 3" say.
    """

    def shared(run: Run) -> tuple[str, str, str, str, int]:
        info = run.info
        return info["tier"], info["dataset_title"], info["data_sha256"], run.recipe, info["seed"]

    ranked = sorted(runs, key=lambda run: (shared(run), -run.accuracy))
    pairs = [
        (a, b) for a, b in combinations(ranked, 2) if shared(a) == shared(b) and a.label != b.label
    ]
    results: list[dict[str, Any]] = []
    for tier, part in groupby(pairs, key=lambda pair: shared(pair[0])[0]):
        tested = list(part)
        p_values = [metrics.mcnemar(a.correct, b.correct) for a, b in tested]
        for (a, b), p, adjusted in zip(tested, p_values, metrics.holm(p_values), strict=True):
            _, title, _, recipe, seed = shared(a)
            names = {
                "tier": tier,
                "dataset": title,
                "recipe": recipe,
                "seed": seed,
                "first": a.label,
                "second": b.label,
            }
            found = {
                "difference": a.accuracy - b.accuracy,
                "p": p,
                "p_holm": adjusted,
                "differ": _differ(a, b),
            }
            results.append(names | found)
    return results


def _differ(first: Run, second: Run) -> str:
    """How much longer, on how many more or larger images one of two runs was trained; nothing if
    they are alike.
    """
    mine, theirs = (
        {"images": info["train_images"], "epochs": info["epochs"], "size": info["input_size"]}
        | {"batches of": info["recipe"]["batch_size"]}
        for info in (first.info, second.info)
    )
    return ", ".join(
        f"{what} {mine[what]:,} and {theirs[what]:,}" for what in mine if mine[what] != theirs[what]
    )


def ladder(runs: Sequence[Run]) -> pd.DataFrame:
    """From each original under `plain`, over it under `tuned`, to its improved form under `tuned`:
    the accuracy of every step that there are runs of, over the seeds that these steps share.
    """
    rows = []
    for where, cells in groups(runs):
        for improved, original in ORIGINALS.items():
            steps = {
                "original, plain": (original, PLAIN),
                "original, tuned": (original, TUNED),
                "improved, tuned": (improved, TUNED),
            }
            there = {effect: cell for effect, cell in steps.items() if cell in cells}
            seeds = (
                set.intersection(*(set(cells[cell]) for cell in there.values())) if there else set()
            )
            for effect, cell in there.items() if seeds else ():
                rows.append(
                    _row(
                        where,
                        improved,
                        effect,
                        np.stack([cells[cell][seed].correct for seed in sorted(seeds)]),
                    )
                )
    return pd.DataFrame(rows)


def best(runs: Sequence[Run]) -> Run:
    """Of the runs of one dataset and recipe, the first seed's one of the network with the highest
    mean accuracy.
    """
    by_network: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.info["seed"]):
        by_network[run.label].append(run)
    return max(by_network.values(), key=lambda seeds: np.mean([run.accuracy for run in seeds]))[0]


def mistakes(run: Run, classes: Sequence[int] | None = None) -> np.ndarray:
    """Indices of the test images that a run got wrong, the most confident first; of these true
    `classes` only, if given.
    """
    wrong = ~run.correct if classes is None else ~run.correct & np.isin(run.test["labels"], classes)
    found = np.flatnonzero(wrong)
    return found[np.argsort(-run.test["probabilities"][found].max(1), kind="stable")]


def worst_classes(run: Run, count: int = 5) -> list[int]:
    """The `count` classes that a run gets wrong most often, the worst first; fewer if there are no
    more mistakes.
    """
    labels = run.test["labels"]
    shares = np.array([run.correct[labels == k].mean() for k in range(len(run.info["classes"]))])
    return [int(k) for k in np.argsort(shares, kind="stable")[:count] if shares[k] < 1]


def spread(run: Run) -> list[int]:
    """Indices of twenty test images from the first to the last, since a test set may be sorted by
    class.
    """
    return np.linspace(0, run.info["test_total"] - 1, 20).astype(int).tolist()


def verdict(low: float, high: float, p: float = 0.0) -> str:
    """What an effect with the interval `low` to `high` and the adjusted `p` may be called
    (studies/README.md).
    """
    if (low <= 0 <= high) or p >= 0.05:
        return ALIKE
    return "better" if low > 0 else "worse"


def probability_of_improvement(first: Sequence[float], second: Sequence[float]) -> float:
    """How often one of the `first` accuracies is above one of the `second`, ties for a half
    (Agarwal et al. 2021).
    """
    a, b = np.asarray(first)[:, None], np.asarray(second)
    return float(((a > b) + 0.5 * (a == b)).mean())


def _variation(base: str, cell: Cell) -> str:
    """What a cell changes of a network under `tuned`; empty if it is that itself, or of another
    network or recipe.
    """
    network, recipe = cell
    for name, whole in ((base, network), (TUNED, recipe)):
        if whole != name and not whole.startswith(f"{name}-"):
            return ""
    return ", ".join(filter(None, (network[len(base) + 1 :], recipe[len(TUNED) + 1 :])))


def _first_seed_p(first: dict[int, Run], second: dict[int, Run]) -> float:
    """Of the exact McNemar test of two cells, by the smallest seed that both have."""
    seed = min(first.keys() & second.keys())
    return metrics.mcnemar(first[seed].correct, second[seed].correct)


def _stuck(by_seed: dict[int, Run]) -> bool:
    """Whether the mean accuracy of a cell is hardly above that of guessing; a run's own warning
    looks at the loss alone.
    """
    labels = next(iter(by_seed.values())).test["labels"]
    guessing = np.bincount(labels).max() / len(labels)  # always the most frequent class
    return bool(
        np.mean([run.accuracy for run in by_seed.values()]) < guessing + HARDLY * (1 - guessing)
    )


def _row(where: Where, network: str, effect: str, values: np.ndarray) -> dict[str, Any]:
    mean, low, high = interval(values)
    return where | {
        "network": network,
        "effect": effect,
        "seeds": len(values),
        "value": mean,
        "low": low,
        "high": high,
    }
