"""What runs say together: accuracy over seeds, and the effects of architecture, of recipe and of single changes.

Every effect is a contrast: a number for each seed and test image, whose mean it is. Its 95 % interval is a bootstrap over
seeds and over images (drawn once for all networks, since all saw the same ones), so it tells what other seeds and another
test set might give; with a single seed it can tell of the test set only.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from . import metrics
from .runs import Run

ORIGINALS = {"vgg16_improved": "vgg16", "resnet18_improved": "resnet18", "googlenet_improved": "googlenet"}
PLAIN, TUNED = "plain", "tuned"
DRAWS = 2000

Cell = tuple[str, str]  # network with its changed options, recipe with its changed fields


def interval(contrast: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval of a contrast (seeds, images): its percentiles over resampled seeds and images."""
    seeds, images = contrast.shape
    by_seed = _resampled(images) @ contrast.T.astype(np.float32) / images  # (draws, seeds)
    chosen = np.random.default_rng(0).integers(seeds, size=(DRAWS, seeds))
    low, high = np.quantile(np.take_along_axis(by_seed, chosen, axis=1).mean(1), (0.025, 0.975))
    return float(contrast.mean()), float(low), float(high)


@lru_cache(maxsize=2)
def _resampled(images: int) -> np.ndarray:
    """How often each image is drawn (draws, images), the same for every contrast."""
    return np.random.default_rng(1).multinomial(images, np.full(images, 1 / images), size=DRAWS).astype(np.float32)


def groups(runs: Sequence[Run]) -> Iterator[tuple[str, str, dict[Cell, dict[int, Run]]]]:
    """Runs that may be compared: tier, dataset, and its cells, each with a run for every seed."""
    found: dict[tuple[str, str, str], dict[Cell, dict[int, Run]]] = defaultdict(lambda: defaultdict(dict))
    for run in sorted(runs, key=lambda run: run.info["seed"]):
        where = run.info["tier"], run.info["dataset_title"], run.info["data_sha256"]
        found[where][run.label, run.info["recipe"]["name"]][run.info["seed"]] = run
    for (tier, dataset, _), cells in sorted(found.items()):
        yield tier, dataset, dict(cells)


def contrast(cells: dict[Cell, dict[int, Run]], weights: dict[Cell, float]) -> np.ndarray | None:
    """The weighted sum of whether each cell's networks were right (seeds, images), for the seeds that all cells have.

    None if there is no such seed or a cell of the `weights` is not among the `cells`.
    """
    if any(cell not in cells for cell in weights):
        return None
    seeds = sorted(set.intersection(*(set(cells[cell]) for cell in weights)))
    if not seeds:
        return None
    return np.stack([sum(weight * cells[cell][seed].correct for cell, weight in weights.items()) for seed in seeds])


def accuracies(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a cell: mean accuracy with its interval and all points, calibration, robustness and cost (means over seeds)."""
    rows = []
    for tier, dataset, cells in groups(runs):
        for (network, recipe), by_seed in cells.items():
            info = pd.DataFrame([run.info for run in by_seed.values()])
            mean, low, high = interval(np.stack([run.correct for run in by_seed.values()]))
            corrupted = [
                np.mean([count for name, count in entry.items() if name not in ("images", "clean")]) / entry["images"]
                for entry in info["robustness"]
            ]
            rows.append(
                {"tier": tier, "dataset": dataset, "network": network, "recipe": recipe}
                | {"accuracy": mean, "low": low, "high": high, "points": [run.accuracy for run in by_seed.values()]}
                | info[["test_nll", "test_brier", "test_ece", "test_ece_calibrated", "train_seconds"]].mean().to_dict()
                | {"corrupted": float(np.mean(corrupted))}
                | info[["parameters", "macs", "train_images", "epochs", "device"]].iloc[0].to_dict()
            )
    table = pd.DataFrame(rows)
    order = ["tier", "dataset", "accuracy", "network"]
    return table.sort_values(order, ascending=[True, True, False, True], ignore_index=True)


def two_by_two(runs: Sequence[Run]) -> pd.DataFrame:
    """Architecture by recipe: a row for each family, dataset and effect, in shares of the test images.

    `architecture` is improved minus original, the mean over both recipes; `recipe` is tuned minus plain, the mean over both
    networks; `interaction` is how much more the recipe helps the improved network than the original one.
    """
    rows = []
    for tier, dataset, cells in groups(runs):
        for improved, original in ORIGINALS.items():
            corners = [(original, PLAIN), (original, TUNED), (improved, PLAIN), (improved, TUNED)]
            effects = {
                "original, plain": (1, 0, 0, 0),
                "original, tuned": (0, 1, 0, 0),
                "improved, plain": (0, 0, 1, 0),
                "improved, tuned": (0, 0, 0, 1),
                "architecture": (-0.5, -0.5, 0.5, 0.5),
                "recipe": (-0.5, 0.5, -0.5, 0.5),
                "interaction": (1, -1, -1, 1),
            }
            for effect, weights in effects.items():
                values = contrast(cells, dict(zip(corners, weights, strict=True)))
                if values is not None:
                    rows.append(_row(tier, dataset, improved, effect, values))
    return pd.DataFrame(rows)


def changes(runs: Sequence[Run]) -> pd.DataFrame:
    """Single changes under `tuned`, and what each is worth: with it minus without, in shares of the test images.

    Changes undone in the improved network (`from` is the improved one) and changes made to the original one. `p` is the exact
    McNemar test of the smallest common seed, `p_holm` adjusts it over the changes of one network and dataset.
    """
    rows = []
    for tier, dataset, cells in groups(runs):
        for base in (*ORIGINALS, *ORIGINALS.values()):
            family = []
            for cell in sorted(cells):
                variant = _variation(base, cell)
                sign = -1 if base in ORIGINALS else 1  # undone, or made
                values = contrast(cells, {cell: sign, (base, TUNED): -sign}) if variant else None
                if values is not None:
                    seed = min(set(cells[cell]) & set(cells[base, TUNED]))
                    p = metrics.mcnemar(cells[cell][seed].correct, cells[base, TUNED][seed].correct)
                    family.append(_row(tier, dataset, base, variant, values) | {"p": p})
            for row, adjusted in zip(family, metrics.holm([row["p"] for row in family]), strict=True):
                rows.append(row | {"p_holm": adjusted})
    return pd.DataFrame(rows)


def primary(runs: Sequence[Run]) -> pd.DataFrame:
    """The comparison that was fixed beforehand (studies/README.md): improved minus original under `tuned`, every family and
    dataset of a tier being one family for Holm; with the probability that a training of the improved one is the better.
    """
    rows: list[dict] = []
    for tier, dataset, cells in groups(runs):
        for improved, original in ORIGINALS.items():
            values = contrast(cells, {(improved, TUNED): 1, (original, TUNED): -1})
            if values is not None:
                first, second = cells[improved, TUNED], cells[original, TUNED]
                seed = min(set(first) & set(second))
                p = metrics.mcnemar(first[seed].correct, second[seed].correct)
                better = probability_of_improvement([r.accuracy for r in first.values()], [r.accuracy for r in second.values()])
                rows.append(_row(tier, dataset, improved, f"over {original}", values) | {"p": p, "better": better})
    for tier in {row["tier"] for row in rows}:
        family = [row for row in rows if row["tier"] == tier]
        for row, adjusted in zip(family, metrics.holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = adjusted
    return pd.DataFrame(rows)


def probability_of_improvement(first: Sequence[float], second: Sequence[float]) -> float:
    """How often one of the `first` accuracies is above one of the `second`, ties for a half (Agarwal et al. 2021)."""
    a, b = np.asarray(first)[:, None], np.asarray(second)
    return float(((a > b) + 0.5 * (a == b)).mean())


def _variation(base: str, cell: Cell) -> str:
    """What a cell changes of a network under `tuned`; empty if it is that itself, or of another network or recipe."""
    network, recipe = cell
    for name, whole in ((base, network), (TUNED, recipe)):
        if whole != name and not whole.startswith(f"{name}-"):
            return ""
    return ", ".join(filter(None, (network[len(base) + 1 :], recipe[len(TUNED) + 1 :])))


def _row(tier: str, dataset: str, network: str, effect: str, values: np.ndarray) -> dict:
    mean, low, high = interval(values)
    where = {"tier": tier, "dataset": dataset, "network": network, "effect": effect, "seeds": len(values)}
    return where | {"value": mean, "low": low, "high": high}
