"""A job: all that determines the outcome of a training."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import data, runs
from ..errors import UserError
from ..recipes import Recipe

RESERVED = ("name", "num_classes", "in_channels")  # what no option of a network is called


@dataclass(frozen=True)
class Job:
    """Says what to train."""

    model: str  # name for `models.create`
    dataset: str  # name for `data.load`
    recipe: Recipe
    seed: int = 0  # fixes initialisation, validation split, order, augmentation and dropout
    options: dict[str, Any] = field(default_factory=dict)  # of the network
    limit: int | None = None  # training images; None for all
    input_size: int = 64  # side of the images that the network sees, in pixels

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("seed", self.seed, 0, 2**32 - 1),
            ("limit", 10 if self.limit is None else self.limit, 10, 10_000_000),
            ("size", self.input_size, 8, 1024),
        ):
            if type(value) is not int or not low <= value <= high:
                raise UserError(f"{name} {value!r}: must be a whole number from {low} to {high}")
        if not isinstance(self.options, dict):
            raise UserError("options must be a table, as in options = { dropout = 0.1 }")
        for name, value in self.options.items():
            if name in RESERVED or type(value) not in (str, bool, int, float) or value != value:
                kinds = "an option of a network is a number, a word, true or false"
                raise UserError(f"option {name} = {value!r}: {kinds}")

    @property
    def folder(self) -> Path:
        """The run's place below the folder of runs."""
        name = self.dataset
        dataset = f"folder-{data.folder_title(name)}" if data.is_folder(name) else name
        network = runs.labelled(self.model, self.options)
        return Path(dataset, network, self.recipe.name, f"seed{self.seed}")

    def settings(self) -> dict[str, Any]:
        """Returns all that determines the outcome, as plain values of JSON."""
        return json.loads(json.dumps(asdict(self))) | {"epochs": self.recipe.epochs}


def check_same(where: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raises UserError unless what lies at `where` was made with our settings."""
    for key, value in ours.items():
        if key == "dataset" and data.is_folder(value) and data.is_folder(str(theirs.get(key))):
            continue  # paths can be written in many ways: the hash of the pictures decides
        if theirs.get(key) != value:
            if isinstance(value, dict) and isinstance(theirs.get(key), dict):
                check_same(where, theirs[key], value)  # names the one field
            found = f"{key} {theirs.get(key)!r}, not {value!r}"
            raise UserError(f"{where} is another training's ({found}); choose another --out")
