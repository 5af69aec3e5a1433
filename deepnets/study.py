"""Studies: grids of runs, the most valuable first; `dispatch` trains them."""

import math
import re
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

from . import data, recipes
from .dispatch import Progress, multiply_adds, train
from .errors import UserError
from .runs import Run, labelled
from .training import Job

AXES = {"seeds": int, "datasets": str, "recipes": str, "networks": str, "variants": dict}
AXIS_WORDS = {int: "number", str: "name", dict: "table"}  # of AXES, whose first varies slowest
SETTINGS = ("input_size", "limit", "options")
LARGEST_FILE, LONGEST_NAME, DEEPEST, MOST_JOBS = 2**18, 99, 10, 20_000  # bytes, dots, tables, runs
TEXT = r"[^\0-\x1f]{0,4096}"


def plan(path: str | Path, tier: str | None = None) -> list[Job]:
    """Read a study file.

    The file is TOML. Every table of `[[grid]]` crosses its `networks`, `datasets`, `recipes` and
    `seeds`; its other keys (`input_size`, `limit`, `options` of the network, any field of a recipe)
    hold for all of its runs, and those in a table called like a network for that network alone.
    `variants` is one more axis, of tables of changed options and fields, which the run's folder
    names; it has one empty table by default. `[defaults]` holds what every grid has unless it says
    otherwise. `[tiers.NAME]` holds what a tier has whatever else is said, and in it a table called
    like a dataset for that dataset alone.

    Args:
        path: of the file.
        tier: one of the file's; the first by default.

    Returns:
        The jobs: by seed, by dataset, and then as written.

    Raises:
        OSError: the file cannot be read.
        UserError: it is malformed, names what does not exist, or asks for one run twice.
    """
    path = Path(path)
    content = _read(path)
    defaults, grids = content.pop("defaults", {}), content.pop("grid", [])
    tiers = content.pop("tiers", {"": {}})
    if content:
        part = repr(next(iter(content)))
        parts = "[defaults], [tiers.NAME], [[grid]]"
        raise UserError(f"{path}: {part} is not a part of a study; it has {parts}")
    tables = isinstance(grids, list) and all(isinstance(table, dict) for table in grids)
    if not tables or not grids:
        raise UserError(f"{path}: a study has at least one [[grid]]")
    if not isinstance(defaults, dict):
        raise UserError(f"{path}: a study has defaults only as [defaults]")
    if not isinstance(tiers, dict) or not all(isinstance(table, dict) for table in tiers.values()):
        raise UserError(f"{path}: tiers are tables, [tiers.NAME]")
    if bad := next((name for name in tiers if name and not re.fullmatch(r"\w[\w.-]*", name)), None):
        raise UserError(f"{path}: tier {bad!r} names a folder; use letters, digits, '_', '-', '.'")
    tier = next(iter(tiers), "") if tier is None else tier
    if tier not in tiers:
        known = ", ".join(filter(None, tiers)) or "none: leave it out"
        raise UserError(f"{path} has no tier {tier!r}; choose from {known}")
    every = (job for grid in grids for job in _cross(defaults | grid, tiers[tier]))
    try:
        jobs = [replace(job, tier=tier) for job in islice(every, MOST_JOBS + 1)]
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if len(jobs) > MOST_JOBS:
        raise UserError(f"{path} asks for more than {MOST_JOBS} runs; divide it")
    order = {name: place for place, name in enumerate(dict.fromkeys(job.dataset for job in jobs))}
    jobs.sort(key=lambda job: (job.seed, order[job.dataset]))
    for folder, times in Counter(str(job.folder) for job in jobs).items():
        if times > 1:
            raise UserError(f"{path}: {folder} is asked for twice")
    return jobs


def _read(path: Path) -> dict[str, Any]:
    """Returns what a TOML file holds, unless it holds what no study does."""
    if path.exists() and not path.is_file():  # a named pipe would be waited for
        raise UserError(f"{path} is not a file")
    with path.open("rb") as file:
        text = file.read(LARGEST_FILE + 1)
    if len(text) > LARGEST_FILE:
        raise UserError(f"{path} is larger than {LARGEST_FILE >> 10} KB, too large for a study")
    # The parser's time grows with the square of a name's parts.
    names = re.split(rb"[=,\[\]{}\n]", text.replace(b" ", b"").replace(b"\t", b""))
    if max(name.count(b".") for name in names) > LONGEST_NAME:
        raise UserError(f"{path}: a name has too many parts")
    try:
        content = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # also UTF-8, integers of 5,000 digits, brackets
        raise UserError(f"{path} is not TOML: {error}") from None
    left: list[tuple[Any, int]] = [(content, 0)]
    while left:
        value, depth = left.pop()
        if depth > DEEPEST:
            raise UserError(f"{path}: tables are nested more than {DEEPEST} deep")
        if isinstance(value, dict | list):
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            left += ((part, depth + 1) for part in parts)
        elif isinstance(value, int) and abs(value) >= 2**63:
            raise UserError(f"{path} is not TOML: an integer has more than 64 bits")
        elif isinstance(value, str) and not re.fullmatch(TEXT, value):
            raise UserError(f"{path}: {value[:40]!r} is too long, or not all of it prints")
    return content


def _cross(grid: dict[str, Any], tier: dict[str, Any]) -> Iterator[Job]:
    """The jobs of one grid."""
    grid = {"variants": [{}]} | grid
    for axis, kind in AXES.items():
        values = grid.get(axis)
        typed = isinstance(values, list) and all(type(value) is kind for value in values)
        if not typed or not values:
            raise UserError(f"a grid needs {axis} = [...] with at least one {AXIS_WORDS[kind]}")
    tables = {k: value for k, value in grid.items() if isinstance(value, dict) and k != "options"}
    for name in tables:
        if name not in grid["networks"]:
            raise UserError(f"[grid.{name}]: {name!r} is not one of the grid's networks")
    common = {k: value for k, value in grid.items() if k not in AXES and k not in tables}
    special = {k: value for k, value in tier.items() if isinstance(value, dict) and k != "options"}
    for name in (*grid["datasets"], *special):
        data.check_name(name)
    tier = {key: value for key, value in tier.items() if key not in special}
    for seed, dataset, name, network, variant in product(*(grid[axis] for axis in AXES)):
        values = common | tables.get(network, {}) | tier | special.get(dataset, {})
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


def execute(
    jobs: list[Job],
    out: str | Path,
    *,
    budget: float = math.inf,
    parallel: int = 1,
    scheduler: str | None = None,
    **how: Any,
) -> tuple[list[Run], list[str]]:
    """Train what is not finished yet.

    Args:
        jobs: in order of value.
        out: folder of runs.
        budget: seconds; a run that is not expected to end within what is left of it is not started,
            and one that does not end in time stops at a checkpoint, where the next call continues.
        parallel: trainings at a time; several have a process each, with its share of the cores.
        scheduler: address of a Dask scheduler, all of whose workers train instead of this machine.
        how: keywords of `fit`.

    Returns:
        The finished runs, and a line for each job that is not: why.

    Raises:
        UserError: see `fit`; neither a loss that is not finite nor another process that trains the
            same run is a reason to stop the others.
    """
    if not 1 <= parallel <= 64:
        raise UserError(f"jobs {parallel}: must be from 1 to 64")
    if scheduler and parallel > 1:
        raise UserError("--jobs is for this machine; a --scheduler counts its own workers")
    device = None if scheduler else how.get("device", "auto")
    progress = Progress(jobs, Path(out), time.monotonic() + budget, parallel, device)
    for job in progress.jobs:
        if (progress.out / job.folder).is_dir():
            progress.note(job, *train(job, progress.out, how))
    if (scheduler or parallel > 1) and len(progress.finished) < len(jobs):
        try:
            from . import cluster
        except ModuleNotFoundError:
            raise UserError("--jobs and --scheduler need Dask; pip install distributed") from None
        cluster.run(progress, parallel, scheduler, how)
    else:
        for job in progress.startable():
            progress.note(job, *train(job, progress.out, how | {"deadline": progress.deadline}))
    return progress.finished, progress.missing
