"""Studies: grids of runs, the most valuable first, that can be stopped and continued anywhere."""

import math
import multiprocessing
import re
import signal
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import product
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import torch

from . import data, models, recipes
from .environment import OutOfTime, cores, device_name, interruptions, named_device
from .errors import UserError, lack_of_memory_told
from .runs import Run, labelled, partial_folder
from .training import Diverged, Job, fit

AXES = {"seeds": int, "datasets": str, "recipes": str, "networks": str, "variants": dict}  # the first varies slowest
AXIS_WORDS = {int: "number", str: "name", dict: "table"}
SETTINGS = ("input_size", "limit", "options")


def plan(path: str | Path, tier: str | None = None) -> list[Job]:
    """Read a study file.

    The file is TOML. Every table of `[[grid]]` crosses its `networks`, `datasets`, `recipes` and `seeds`; its other keys
    (`input_size`, `limit`, `options` of the network, and any field of a recipe) hold for all of its runs, and those in a
    table called like a network for that network alone. `variants` is one more axis, of tables of changed options of the
    network and fields of the recipe, which the run's folder names; it has one empty table by default. `[defaults]` holds what
    every grid has unless it says otherwise. `[tiers.NAME]` holds what a tier of the study has whatever else is said: how many
    images and epochs; a table in it that is called like a dataset holds for that dataset alone.

    Args:
        path: of the file.
        tier: one of the file's; the first by default.

    Returns:
        The jobs: one seed of everything before the next seed of anything, then a dataset before the next, then as written.

    Raises:
        OSError: the file cannot be read.
        UserError: it is malformed, names what does not exist, or asks for one run twice.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    defaults, grids, tiers = content.pop("defaults", {}), content.pop("grid", []), content.pop("tiers", {"": {}})
    if content:
        raise UserError(f"{path}: {next(iter(content))!r} is not a part of a study; it has [defaults], [tiers.NAME], [[grid]]")
    if not isinstance(grids, list) or not grids or not all(isinstance(table, dict) for table in (defaults, *grids)):
        raise UserError(f"{path}: a study has at least one [[grid]], and defaults only as [defaults]")
    if not isinstance(tiers, dict) or not tiers or not all(isinstance(table, dict) for table in tiers.values()):
        raise UserError(f"{path}: tiers are tables, [tiers.NAME]")
    if bad := next((name for name in tiers if name and not re.fullmatch(r"\w[\w.-]*", name)), None):
        raise UserError(f"{path}: tier {bad!r} names a folder; use letters, digits, '_', '-' and '.'")
    tier = next(iter(tiers)) if tier is None else tier
    if tier not in tiers:
        raise UserError(f"{path} has no tier {tier!r}; choose from {', '.join(filter(None, tiers)) or 'none: leave it out'}")
    try:
        jobs = [replace(job, tier=tier) for grid in grids for job in _cross(defaults | grid, tiers[tier])]
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    datasets = list(dict.fromkeys(job.dataset for job in jobs))
    jobs.sort(key=lambda job: (job.seed, datasets.index(job.dataset)))
    folders = [job.folder for job in jobs]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice:
        raise UserError(f"{path}: {twice} is asked for twice")
    return jobs


def _cross(grid: dict[str, Any], tier: dict[str, Any]) -> Iterator[Job]:
    """The jobs of one grid."""
    grid = {"variants": [{}]} | grid
    for axis, kind in AXES.items():
        values = grid.get(axis)
        if not isinstance(values, list) or not values or not all(type(value) is kind for value in values):
            raise UserError(f"a grid needs {axis} = [...] with at least one {AXIS_WORDS[kind]}")
    tables = {key: value for key, value in grid.items() if isinstance(value, dict) and key != "options"}
    for name in tables:
        if name not in grid["networks"]:
            raise UserError(f"[grid.{name}]: {name!r} is not one of the grid's networks")
    common = {key: value for key, value in grid.items() if key not in AXES and key not in tables}
    per_dataset = {key: value for key, value in tier.items() if isinstance(value, dict) and key != "options"}
    for name in (*grid["datasets"], *per_dataset):
        data.check_name(name)
    tier = {key: value for key, value in tier.items() if key not in per_dataset}
    for seed, dataset, name, network, variant in product(*(grid[axis] for axis in AXES)):
        values = common | tables.get(network, {}) | tier | per_dataset.get(dataset, {})
        settings = {key: values.pop(key) for key in SETTINGS if key in values}
        fields = {key: value for key, value in variant.items() if key in recipes.FIELDS}
        options = {key: value for key, value in variant.items() if key not in recipes.FIELDS}
        recipe = recipes.get(name, network, **(values | fields))
        recipe = replace(recipe, name=labelled(name, {key: getattr(recipe, key) for key in fields}))
        job = Job(network, dataset, recipe, seed, **settings)
        job = replace(job, options=job.options | options)
        _multiply_adds(job, 3)  # raises if the network cannot be built or the images are too small for it
        yield job


def _multiply_adds(job: Job, channels: int) -> int:
    """Of one image of so many channels."""
    return _count(job.model, channels, job.input_size, tuple(sorted(job.options.items())))


@cache
def _count(model: str, channels: int, size: int, options: tuple[tuple[str, Any], ...]) -> int:
    return models.multiply_adds(models.blueprint(model, in_channels=channels, **dict(options)), size, channels)


def execute(
    jobs: list[Job], out: str | Path, *, budget: float = math.inf, parallel: int = 1, **how: Any
) -> tuple[list[Run], list[str]]:
    """Train what is not finished yet.

    Args:
        jobs: in order of value.
        out: folder of runs.
        budget: seconds; a run that is not expected to end within what is left of it is not started, and one that does not
            end in time is stopped at a checkpoint, from which the next call continues.
        parallel: trainings at a time, each in a process of its own that has its share of the processor's cores.
        how: keywords of `fit`.

    Returns:
        The finished runs, and a line for each job that is not: why.

    Raises:
        UserError: see `fit`; a loss that is not finite is no reason to stop the others.
    """
    if not 1 <= parallel <= 64:
        raise UserError(f"jobs {parallel}: must be from 1 to 64")
    out, deadline = Path(out), time.monotonic() + budget
    device = device_name(named_device(how.get("device", "auto")))
    progress = Progress(jobs, out, deadline, parallel, device)
    for job in jobs:
        if (out / job.folder).is_dir():
            progress.note(job, *_train(job, out, how))
    if parallel == 1:
        for job in progress.startable():
            progress.note(job, *_train(job, out, how | {"deadline": deadline}))
    else:
        if how.pop("download", False):
            for name, size in {(job.dataset, job.input_size) for job in jobs if not (out / job.folder).is_dir()}:
                data.load(name, download=True, size=size)
        _in_parallel(progress, parallel, out, how | {"deadline": deadline, "verbose": False})
    return progress.finished, progress.missing


class Progress:
    """What of a study is finished, what is missing and why, and what may still be started before the `deadline`."""

    def __init__(self, jobs: list[Job], out: Path, deadline: float, parallel: int, device: str) -> None:
        self.jobs, self.out, self.deadline, self.parallel, self.device = jobs, out, deadline, parallel, device
        self.finished: list[Run] = []
        self.missing: list[str] = []

    def startable(self) -> Iterator[Job]:
        """The unfinished jobs that are expected to end in time, one when asked for one; the others become `missing`."""
        todo = [job for job in self.jobs if not (self.out / job.folder).is_dir()]
        for number, job in enumerate(todo):
            begun = (partial_folder(self.out / job.folder) / "checkpoint.pt").exists()
            left = self.deadline - time.monotonic()
            here = [run for run in self.finished if run.info["device"] == self.device]
            expected = 0.0 if begun else expect_seconds(job, here)
            if expected > left:
                needed, what = f"about {expected:.0f} s needed, " * (expected >= 0.5), "continued" if begun else "started"
                self.missing.append(f"{job.folder}: not {what} ({needed}{max(left, 0):.0f} s left)")
                continue
            rest = sum(expect_seconds(other, here) for other in todo[number:]) / self.parallel
            end = f", all may be by {time.strftime('%a %H:%M', time.localtime(time.time() + rest))}" if rest else ""
            print(f"[{len(self.jobs) - len(todo) + number + 1}/{len(self.jobs)}] {job.folder}{end}", flush=True)
            yield job

    def note(self, job: Job, run: Run | None, why: str) -> None:
        """Take down how a job ended: with a run, or `why` not."""
        if run is None:
            self.missing.append(why)
            print(f"  {why}", flush=True)
            return
        self.finished.append(run)
        print(f"  {job.folder}: {100 * run.accuracy:.2f} % of {run.info['test_total']} test images, {why}", flush=True)
        for warning in run.info["warnings"]:
            print(f"  warning: {warning}", flush=True)


def _train(job: Job, out: Path, how: dict[str, Any]) -> tuple[Run | None, str]:
    """The run and what it took, or None and why there is none."""
    is_new = not (out / job.folder).is_dir()
    try:
        run = fit(job, out, **how)
    except OutOfTime:
        return None, f"{job.folder}: stopped at a checkpoint when the time was up"
    except Diverged as error:
        return None, str(error)
    return run, f"{run.info['train_seconds']:.0f} s" if is_new else "finished before"


def _in_parallel(progress: Progress, parallel: int, out: Path, how: dict[str, Any]) -> None:
    """Train in so many processes, one a job; whatever ends this early ends them at checkpoints first."""
    context = multiprocessing.get_context("spawn")
    startable, running = progress.startable(), dict[int, tuple[Job, Any, Connection]]()  # by the sentinel of the process
    with interruptions(math.inf) as interruption:
        try:
            while True:
                while len(running) < parallel and not interruption() and (job := next(startable, None)):
                    answer, theirs = context.Pipe(duplex=False)
                    process = context.Process(target=_work, args=(theirs, max(1, cores() // parallel), job, out, how))
                    with _deaf():  # or the process would tell of Ctrl-C in its own way before it knows better
                        process.start()
                    theirs.close()
                    running[process.sentinel] = job, process, answer
                if stop := interruption():
                    raise stop
                if not running:  # and nothing left to start
                    break
                for sentinel in wait(list(running), timeout=1):
                    job, process, answer = running.pop(cast(int, sentinel))
                    progress.note(job, *_answer(job, process, answer, out))
        finally:
            while running:  # asked again and again: one that is only starting does not hear it yet
                for _, process, _ in running.values():
                    process.terminate()
                for sentinel in wait(list(running), timeout=1):
                    running.pop(cast(int, sentinel))


@contextmanager
def _deaf() -> Iterator[None]:
    """Hear SIGINT only afterwards, and not at all in processes that are started meanwhile."""
    resource_tracker.ensure_running()  # it would hear again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(answer: Connection, threads: int, job: Job, out: Path, how: dict[str, Any]) -> None:
    """Train in a process of its own, and answer how it went. Of several signals to stop the first one is enough."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(threads)
    try:
        with lack_of_memory_told(f"{job.folder}: "):
            answer.send(_train(job, out, how)[1])
    except (UserError, OSError) as error:
        answer.send(error)
    except (KeyboardInterrupt, SystemExit):
        pass


def _answer(job: Job, process: Any, answer: Connection, out: Path) -> tuple[Run | None, str]:
    """What `_train` would have given."""
    process.join()
    try:
        why = answer.recv()
    except EOFError:
        return None, f"{job.folder}: its process ended with code {process.exitcode}; repeat the command"
    if isinstance(why, Exception):
        raise why
    folder = out / job.folder
    return (Run.load(folder) if folder.is_dir() else None), why


def expect_seconds(job: Job, finished: list[Run]) -> float:
    """About how long a job will take, by the slowest finished run of its network, or of any; 0 while nothing is known."""
    like = [run.info for run in finished if run.info["model"] == job.model] or [run.info for run in finished]
    if not like:
        return 0.0
    seconds = max(info["train_seconds"] / (info["macs"] * info["train_images"] * info["epochs"]) for info in like)
    macs = _multiply_adds(job, like[0]["in_channels"])
    images = job.limit or max(info["train_images"] for info in like)
    return 1.2 * seconds * macs * images * job.recipe.epochs  # evaluation and saving take a little
