"""Studies: grids of runs, the most valuable first, that can be stopped and continued anywhere."""

import math
import time
import tomllib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from . import data, models, recipes
from .environment import OutOfTime
from .errors import UserError
from .runs import Run, partial_folder
from .training import Diverged, Job, fit

AXES = ("seeds", "datasets", "recipes", "networks")  # the first varies slowest
SETTINGS = ("input_size", "limit", "options")


def plan(path: str | Path) -> list[Job]:
    """Read a study file.

    The file is TOML. Every table of `[[grid]]` crosses its `networks`, `datasets`, `recipes` and `seeds`; its other keys
    (`input_size`, `limit`, `options` of the network, and any field of a recipe) hold for all of its runs, and those in a
    table called like a network for that network alone. `[defaults]` holds what every grid has unless it says otherwise.

    Returns:
        The jobs: grid after grid; within one a seed of everything before the next seed, and a dataset before the next.

    Raises:
        UserError: the file is missing or malformed, names what does not exist, or asks for one run twice.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    defaults, grids = content.pop("defaults", {}), content.pop("grid", [])
    if content:
        raise UserError(f"{path}: {next(iter(content))!r} is not a part of a study; it has [defaults] and [[grid]]")
    if not isinstance(grids, list) or not grids or not all(isinstance(table, dict) for table in (defaults, *grids)):
        raise UserError(f"{path}: a study has at least one [[grid]], and defaults only as [defaults]")
    try:
        jobs = [job for grid in grids for job in _cross(defaults | grid)]
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    folders = [job.folder for job in jobs]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice:
        raise UserError(f"{path}: {twice} is asked for twice")
    return jobs


def _cross(grid: dict[str, Any]) -> Iterator[Job]:
    """The jobs of one grid."""
    for axis in AXES:
        kind, values = (int if axis == "seeds" else str), grid.get(axis)
        if not isinstance(values, list) or not values or not all(type(value) is kind for value in values):
            raise UserError(f"a grid needs {axis} = [...] with at least one {'number' if kind is int else 'name'}")
    tables = {key: value for key, value in grid.items() if isinstance(value, dict) and key != "options"}
    for name in tables:
        if name not in grid["networks"]:
            raise UserError(f"[grid.{name}]: {name!r} is not one of the grid's networks")
    common = {key: value for key, value in grid.items() if key not in AXES and key not in tables}
    for seed, dataset, recipe, network in product(*(grid[axis] for axis in AXES)):
        values = common | tables.get(network, {})
        settings = {key: values.pop(key) for key in SETTINGS if key in values}
        job = Job(network, dataset, recipes.get(recipe, network, **values), seed, **settings)
        data.check_name(dataset)
        models.multiply_adds(models.blueprint(network, **job.options), job.input_size)
        yield job


def execute(jobs: list[Job], out: str | Path, *, budget: float = math.inf, **how: Any) -> tuple[list[Run], list[str]]:
    """Train what is not finished yet.

    Args:
        jobs: in order of value.
        out: folder of runs.
        budget: seconds; a run that is not expected to end within what is left of it is not started, and one that does not
            end in time is stopped at a checkpoint, from which the next call continues.
        how: keywords of `fit`.

    Returns:
        The finished runs, and a line for each job that is not: why.

    Raises:
        UserError: see `fit`; a loss that is not finite is no reason to stop the others.
    """
    deadline = time.monotonic() + budget
    finished: list[Run] = []
    missing: list[str] = []
    for number, job in enumerate(jobs, start=1):
        folder = Path(out) / job.folder
        is_new = not folder.is_dir()
        begun = (partial_folder(folder) / "checkpoint.pt").exists()
        left = deadline - time.monotonic()
        expected = expect_seconds(job, finished) if is_new and not begun else 0.0
        if expected > left:
            missing.append(f"{job.folder}: not started (about {expected:.0f} s needed, {max(left, 0):.0f} s left)")
            continue
        print(f"[{number}/{len(jobs)}] {job.folder}", flush=True)
        try:
            run = fit(job, out, deadline=deadline, **how)
        except OutOfTime:
            missing.append(f"{job.folder}: stopped at a checkpoint when the time was up")
        except Diverged as error:
            missing.append(str(error))
            print(f"  {error}", flush=True)
        else:
            finished.append(run)
            state = f"{run.info['train_seconds']:.0f} s" if is_new else "finished before"
            print(f"  {100 * run.accuracy:.2f} % of {run.info['test_total']} test images, {state}", flush=True)
            for warning in run.info["warnings"]:
                print(f"  warning: {warning}", flush=True)
    return finished, missing


def expect_seconds(job: Job, finished: list[Run]) -> float:
    """About how long a job will take, by the slowest finished run of its network, or of any; 0 while nothing is known."""
    like = [run.info for run in finished if run.info["model"] == job.model] or [run.info for run in finished]
    if not like:
        return 0.0
    seconds = max(info["train_seconds"] / (info["macs"] * info["train_images"] * info["epochs"]) for info in like)
    channels = like[0]["in_channels"]
    macs = models.multiply_adds(models.blueprint(job.model, in_channels=channels, **job.options), job.input_size, channels)
    images = job.limit or max(info["train_images"] for info in like)
    return 1.2 * seconds * macs * images * job.recipe.epochs  # evaluation and saving take a little
