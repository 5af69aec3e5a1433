"""Study files: grids of runs."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

from .. import data, recipes
from ..errors import UserError
from ..runs import labelled
from ..training import Job
from .dispatch import multiply_adds

AXES = {"seeds": int, "datasets": str, "recipes": str, "networks": str, "variants": dict}
WORDS = {int: "number", str: "name", dict: "table"}
SETTINGS = ("input_size", "limit", "options")  # of a job; other keys are fields of the recipe
LARGEST_FILE, LONGEST_NAME, DEEPEST, MOST_JOBS = 2**18, 99, 10, 20_000  # bytes, dots, tables, runs
TEXT = r"[^\0-\x1f]{0,4096}"


def plan(path: str | Path, tier: str | None = None) -> list[Job]:
    """Returns the jobs of a study file: by seed, then by dataset, then as written.

    The file is TOML. Each `[[grid]]` crosses its `networks`, `datasets`, `recipes`, `seeds` and
    `variants`. A variant is a table of changed options and fields, which the run's folder names; by
    default there is one, empty. All other keys (`input_size`, `limit`, `options` of the network,
    fields of the recipe) hold for all runs of the grid; those in a table called like a network, for
    that network alone. `[defaults]` holds what every grid has unless it says otherwise.
    `[tiers.NAME]` overrides all of these; a table in it called like a dataset, for that dataset
    alone.

    Args:
        path: of the file.
        tier: one of the file's; the first by default.

    Raises:
        OSError: the file cannot be read.
        UserError: it is malformed, names what does not exist, or asks for one run twice.
    """
    path = Path(path)
    try:
        defaults, grids, tiers = _parts(_read(path))
        tier = next(iter(tiers), "") if tier is None else tier
        if tier not in tiers:
            known = ", ".join(filter(None, tiers)) or "none: leave it out"
            raise UserError(f"it has no tier {tier!r}; choose from {known}")
        every = (job for grid in grids for job in _cross(defaults | grid, tiers[tier]))
        jobs = [replace(job, tier=tier) for job in islice(every, MOST_JOBS + 1)]
        if len(jobs) > MOST_JOBS:
            raise UserError(f"it asks for more than {MOST_JOBS} runs; divide it")
        for folder, times in Counter(str(job.folder) for job in jobs).items():
            if times > 1:
                raise UserError(f"{folder} is asked for twice")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    order = {name: place for place, name in enumerate(dict.fromkeys(job.dataset for job in jobs))}
    return sorted(jobs, key=lambda job: (job.seed, order[job.dataset]))


def _read(path: Path) -> dict[str, Any]:
    """Returns what a TOML file holds, unless it is too large or too deep for a study."""
    if path.exists() and not path.is_file():  # reading a named pipe would never end
        raise UserError("this is not a file")
    with path.open("rb") as file:
        text = file.read(LARGEST_FILE + 1)
    if len(text) > LARGEST_FILE:
        raise UserError(f"it is larger than {LARGEST_FILE >> 10} KB, too large for a study")
    # The parser's time grows with the square of the dots in a name.
    names = re.split(rb"[=,\[\]{}\n]", text.replace(b" ", b"").replace(b"\t", b""))
    if max(name.count(b".") for name in names) > LONGEST_NAME:
        raise UserError("a name has too many parts")
    try:
        content = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # also not UTF-8, or thousands of digits
        raise UserError(f"this is not TOML: {error}") from None
    _check(content, 0)
    return content


def _check(value: Any, depth: int) -> None:
    """Raises UserError for values that no study needs and that later steps might choke on."""
    if depth > DEEPEST:
        raise UserError(f"tables are nested more than {DEEPEST} deep")
    if isinstance(value, dict | list):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            _check(part, depth + 1)
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise UserError("this is not TOML: an integer has more than 64 bits")
    elif isinstance(value, str) and not re.fullmatch(TEXT, value):
        raise UserError(f"{value[:40]!r} is too long, or not all of it prints")


def _parts(content: dict[str, Any]) -> tuple[dict, list[dict], dict[str, dict]]:
    """Returns the defaults, the grids and the tiers, of which one without a name is the default."""
    defaults, grids = content.pop("defaults", {}), content.pop("grid", [])
    tiers = content.pop("tiers", {"": {}})
    if content:
        parts = "it has [defaults], [tiers.NAME], [[grid]]"
        raise UserError(f"{next(iter(content))!r} is not a part of a study; {parts}")
    if not isinstance(grids, list) or not grids or not all(isinstance(g, dict) for g in grids):
        raise UserError("a study has at least one [[grid]]")
    if not isinstance(defaults, dict):
        raise UserError("a study has defaults only as [defaults]")
    if not isinstance(tiers, dict) or not all(isinstance(t, dict) for t in tiers.values()):
        raise UserError("tiers are tables, [tiers.NAME]")
    for name in tiers:
        if name and not re.fullmatch(r"\w[\w.-]*", name):
            raise UserError(f"tier {name!r} names a folder; use letters, digits, '_', '-', '.'")
    return defaults, grids, tiers


def _cross(grid: dict[str, Any], tier: dict[str, Any]) -> Iterator[Job]:
    """Yields the jobs of one grid; seeds vary slowest."""
    grid = {"variants": [{}]} | grid
    for axis, kind in AXES.items():
        values = grid.get(axis)
        if not isinstance(values, list) or not values or any(type(v) is not kind for v in values):
            raise UserError(f"a grid needs {axis} = [...] with at least one {WORDS[kind]}")
    common, by_network = _split({k: v for k, v in grid.items() if k not in AXES})
    for name in by_network:
        if name not in grid["networks"]:
            raise UserError(f"[grid.{name}]: {name!r} is not one of the grid's networks")
    tier, by_dataset = _split(tier)
    for name in (*grid["datasets"], *by_dataset):
        data.check_name(name)
    for seed, dataset, name, network, variant in product(*(grid[axis] for axis in AXES)):
        values = common | by_network.get(network, {}) | tier | by_dataset.get(dataset, {})
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


def _split(table: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict]]:
    """Returns the keys that hold for all, and the tables that hold for one name each."""
    named = {k: v for k, v in table.items() if isinstance(v, dict) and k != "options"}
    return {k: v for k, v in table.items() if k not in named}, named
