"""Study files: grids of runs."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from .. import data, disk, models, recipes
from ..errors import UserError
from ..recipes import misfit
from ..training import Job

# What a grid crosses; the first varies slowest
AXES = {
    "seeds": list[int], "datasets": list[str], "recipes": list[str], "networks": list[str],
    "variants": list[dict[str, Any]],
}  # fmt: skip
PARTS = {"defaults": dict[str, Any], "grid": list[dict[str, Any]]}
SETTINGS = ("input_size", "limit", "options")  # of a job; other keys are fields of the recipe


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
    content = disk.read(Path(path))
    try:
        study = {"defaults": {}, "grid": []} | tomllib.loads(content.decode())
        if others := study.keys() - PARTS:
            raise UserError(f"{min(others)!r} is not a part of a study: [defaults] or [[grid]]")
        if not study["grid"] or any(misfit(study[part], kind) for part, kind in PARTS.items()):
            raise UserError("a study has at least one [[grid]], and perhaps [defaults]")
        jobs = [job for grid in study["grid"] for job in _cross(study["defaults"] | grid)]
        for folder, times in Counter(str(job.folder) for job in jobs).items():
            if times > 1:
                raise UserError(f"{folder} is asked for twice")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        # Not UTF-8, nested too deep, or an integer of more digits than Python prints, too
        raise UserError(f"{path} is not TOML: {error}") from None
    order = {name: place for place, name in enumerate(dict.fromkeys(job.dataset for job in jobs))}
    return sorted(jobs, key=lambda job: (job.seed, order[job.dataset]))


def _cross(grid: dict[str, Any]) -> Iterator[Job]:
    """Yields the jobs of one grid."""
    axes = {axis: grid.pop(axis, [{}] if axis == "variants" else []) for axis in AXES}
    for axis, kind in AXES.items():
        if why := misfit(axes[axis], kind) if axes[axis] else "there is none":
            raise UserError(f"a grid needs {axis} = [...], as in studies/demo.toml: {why}")
    for name in axes["datasets"]:
        data.check_name(name)
    tables = {k: v for k, v in grid.items() if isinstance(v, dict) and k != "options"}
    for name in tables:
        if name not in axes["networks"]:
            raise UserError(f"[grid.{name}]: {name!r} is not one of the grid's networks")
    common = {key: value for key, value in grid.items() if key not in tables}
    for seed, dataset, name, network, variant in product(*axes.values()):
        values = common | tables.get(network, {})
        settings = {key: values.pop(key) for key in SETTINGS if key in values}
        fields = {key: value for key, value in variant.items() if key in recipes.FIELDS}
        options = {key: value for key, value in variant.items() if key not in recipes.FIELDS}
        recipe = recipes.get(name, network, fields, **values)
        job = Job(network, dataset, recipe, seed, **settings)
        job = replace(job, options=job.options | options)
        _check(network, job.input_size, tuple(job.options.items()))
        yield job


@cache
def _check(network: str, input_size: int, options: tuple[tuple[str, Any], ...]) -> None:
    """Raises UserError if a network cannot be built, or the images are too small for it."""
    models.multiply_adds(models.blueprint(network, **dict(options)), input_size)
