"""Runs by what was trained."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError
from ..info import Info
from ..models import ORIGINALS
from ..runs import Run, labelled

# The primary comparisons, fixed in studies/README.md before the first run: each of these networks
# minus its original, trained under `tuned` with these seeds and settings.
PRIMARY = ("resnet18_improved", "googlenet_improved")
NETWORKS = (*PRIMARY, *(ORIGINALS[name] for name in PRIMARY))
SEEDS = (0, 1, 2, 3)
TUNED = "tuned"
DECLARED = {"dataset": "cifar10", "options": {}, "input_size": 64, "epochs": 24, "limit": None}


@dataclass(frozen=True, eq=False)
class Group:
    """Trainings that differ in nothing but their seeds.

    Args:
        runs: by seed.
        precision: the runs', where other runs differ from these in nothing else.
    """

    runs: dict[int, Run]
    precision: str = ""

    @property
    def info(self) -> Info:
        """What the runs share, as the first one says it."""
        return next(iter(self.runs.values())).info

    @property
    def recipe(self) -> str:
        """The recipe's name with the fields that were changed."""
        return self.info.recipe.name

    @property
    def setting(self) -> tuple[Any, ...]:
        """What groups must share to be compared: images, their size, epochs, batches."""
        info = self.info
        size = info.train_images, info.input_size, info.epochs
        return info.data_sha256, *size, info.recipe.batch_size, self.precision

    @property
    def primary(self) -> bool:
        """Whether a primary comparison is made of it."""
        declared = all(getattr(self.info, key) == value for key, value in DECLARED.items())
        return declared and self.recipe == TUNED and self.info.model in NETWORKS

    @property
    def whole(self) -> bool:
        """Whether it has every declared run of a network of the primary comparisons."""
        return self.primary and self.runs.keys() >= set(SEEDS)

    @property
    def accuracy(self) -> float:
        """Mean over seeds."""
        return float(np.mean([run.accuracy for run in self.runs.values()]))

    def right(self, seeds: Iterable[int] = ()) -> np.ndarray:
        """Returns whether each training got each test image right (S, N), of these seeds or all."""
        return np.stack([self.runs[seed].correct for seed in seeds or self.runs])

    def columns(self) -> dict[str, Any]:
        """Returns what was trained and how, as columns of a table."""
        info = self.info
        row = {"dataset": info.dataset_title, "network": info.model, "recipe": self.recipe}
        row |= {name: getattr(info, name) for name in ("input_size", "epochs", "train_images")}
        return row | {"options": changed(info.options), "seeds": len(self.runs)}


def changed(values: dict[str, Any]) -> str:
    """Returns options or fields as a text, `dropout=0.0-stem=7x7` say, empty if there are none."""
    return labelled("", values).removeprefix("-")


def groups(runs: Sequence[Run]) -> list[Group]:
    """Returns the runs by what was trained.

    Devices and precisions may differ between the seeds of a group. Where one seed was trained in
    both precisions, each precision has a group.

    Raises:
        UserError: the same training is there twice.
    """
    times = Counter((_settings(run), run.info.seed) for run in runs)
    twice = {settings for (settings, _), count in times.items() if count > 1}
    found: dict[tuple[str, str], dict[int, Run]] = defaultdict(dict)
    for run in sorted(runs, key=lambda run: run.info.seed):
        settings, seed = _settings(run), run.info.seed
        same = found[settings, run.info.precision if settings in twice else ""]
        if seed in same:
            both = f"{same[seed].path} and {run.path}"
            raise UserError(f"{both} are the same training; compare one of them")
        same[seed] = run
    return [Group(same, precision) for (_, precision), same in found.items()]


def _settings(run: Run) -> str:
    """Returns all that two trainings share if they differ in their seed alone."""
    names = ("data_sha256", "model", "options", "recipe", "train_images", "input_size")
    values = run.info.values()
    return json.dumps([values[name] for name in names], sort_keys=True)


def complete(found: Iterable[Group]) -> bool:
    """Returns whether every declared run of the primary comparisons is among the groups."""
    return {group.info.model for group in found if group.whole} >= set(NETWORKS)
