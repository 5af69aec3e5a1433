"""Study files: grids of runs."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

from .. import data, disk, recipes
from ..errors import UserError
from ..runs import labelled
from ..training import Job
from .dispatch import multiply_adds

AXES = {"seeds": int, "datasets": str, "recipes": str, "networks": str, "variants": dict}
WORDS = {int: "number", str: "name", dict: "table"}
SETTINGS = ("input_size", "limit", "options")  # of a job; other keys are fields of the recipe
LARGEST_FILE, LONGEST_NAME, DEEPEST, MOST_JOBS = (
    1 << 16,
    99,
    10,
    20_000,
)  # bytes, dots, tables, runs


def plan(path: str | Path) -> list[Job]:
    """Returns the jobs of a study file: by seed, then by dataset, then as written.

    The file is TOML. Each `[[grid]]` crosses its `networks`, `datasets`, `recipes`, `seeds` and
    `variants`. A variant is a table of changed options and fields, which the run's folder names; by
    default there is one, empty. All other keys (`input_size`, `limit`, `options` of the network,
    fields of the recipe) hold for all runs of the grid; those in a table called like a network, for
    that network alone. `[defaults]` holds what every grid has unless it says otherwise.

    Raises:
        UserError: it cannot be read, is malformed, names what does not exist, or asks for one run
            twice.
    """
    path = Path(path)
    content = disk.read(path, LARGEST_FILE)
    try:
        defaults, grids = _parts(content)
        every = (job for grid in grids for job in _cross(defaults | grid))
        jobs = list(islice(every, MOST_JOBS + 1))
        if len(jobs) > MOST_JOBS:
            raise UserError(f"it asks for more than {MOST_JOBS} runs; divide it")
        for folder, times in Counter(str(job.folder) for job in jobs).items():
            if times > 1:
                raise UserError(f"{folder} is asked for twice")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    order = {name: place for place, name in enumerate(dict.fromkeys(job.dataset for job in jobs))}
    return sorted(jobs, key=lambda job: (job.seed, order[job.dataset]))


def _parts(content: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the defaults and the grids of a file."""
    # The parser's time grows with the square of the dots in a name
    names = re.split(rb"[=,\[\]{}\n]", re.sub(rb"[ \t]", b"", content))
    if max(name.count(b".") for name in names) > LONGEST_NAME:
        raise UserError("a name has too many parts")
    try:
        parts = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # also not UTF-8, or nested too deep
        raise UserError(f"this is not TOML: {error}") from None
    _check(parts)
    defaults, grids = parts.pop("defaults", {}), parts.pop("grid", [])
    if parts:
        known = "it has [defaults] and [[grid]]"
        raise UserError(f"{next(iter(parts))!r} is not a part of a study; {known}")
    if not isinstance(grids, list) or not grids or not all(isinstance(g, dict) for g in grids):
        raise UserError("a study has at least one [[grid]]")
    if not isinstance(defaults, dict):
        raise UserError("a study has defaults only as [defaults]")
    return defaults, grids


def _check(value: Any, depth: int = 0) -> None:
    """Raises UserError for what no study needs, and what cannot even be printed in a message."""
    if depth > DEEPEST:
        raise UserError(f"tables are nested more than {DEEPEST} deep")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise UserError("this is not TOML: an integer has more than 64 bits")
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _check(part, depth + 1)


def _cross(grid: dict[str, Any]) -> Iterator[Job]:
    """Yields the jobs of one grid; seeds vary slowest."""
    grid = {"variants": [{}]} | grid
    for axis, kind in AXES.items():
        values = grid.get(axis)
        if not isinstance(values, list) or not values or any(type(v) is not kind for v in values):
            raise UserError(f"a grid needs {axis} = [...] with at least one {WORDS[kind]}")
    for name in grid["datasets"]:
        data.check_name(name)
    others = {key: value for key, value in grid.items() if key not in AXES}
    tables = {k: v for k, v in others.items() if isinstance(v, dict) and k != "options"}
    for name in tables:
        if name not in grid["networks"]:
            raise UserError(f"[grid.{name}]: {name!r} is not one of the grid's networks")
    common = {key: value for key, value in others.items() if key not in tables}
    for seed, dataset, name, network, variant in product(*(grid[axis] for axis in AXES)):
        values = common | tables.get(network, {})
        settings = {key: values.pop(key) for key in SETTINGS if key in values}
        fields = {key: value for key, value in variant.items() if key in recipes.FIELDS}
        options = {key: value for key, value in variant.items() if key not in recipes.FIELDS}
        recipe = recipes.get(name, network, **(values | fields))
        changed = {key: getattr(recipe, key) for key in fields}
        recipe = replace(recipe, name=labelled(name, changed))
        job = Job(network, dataset, recipe, seed, **settings)
        job = replace(job, options=job.options | options)
        multiply_adds(job, 3)  # raises if it cannot be built, or the images are too small for it
        yield job
