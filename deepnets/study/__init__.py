"""Studies: `plan` reads which runs a study file asks for, `execute` trains the missing ones."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..runs import Run
from ..training import Busy, Diverged, Job, OutOfTime, fit
from .grids import plan as plan

PATIENCE = 10.0  # seconds for another process that was told to stop to save its training


def execute(
    jobs: list[Job],
    out: str | Path,
    *,
    budget: float = math.inf,
    parallel: int = 1,
    scheduler: str | None = None,
    **how: Any,
) -> tuple[list[Run], list[str]]:
    """Trains what is not finished yet.

    Args:
        jobs: the most valuable first.
        out: folder of runs.
        budget: seconds. What is not finished then stops at a checkpoint, where the next call
            continues.
        parallel: trainings at a time; several have a process each, with its share of the cores.
        scheduler: address of a Dask scheduler, whose workers train instead of this machine.
        how: keywords of `fit`.

    Returns:
        The finished runs, and for each other job a line that says why it is not finished.

    Raises:
        UserError: as `fit`. A loss that is not finite, or another process that trains the same run,
            does not stop the other trainings.
    """
    if not 1 <= parallel <= 64:
        raise UserError(f"jobs {parallel}: must be from 1 to 64")
    if scheduler and parallel > 1:
        raise UserError("--jobs is for this machine; a --scheduler counts its own workers")
    progress = Progress(jobs, Path(out), time.monotonic() + budget)
    for job in jobs:
        if (progress.out / job.folder).is_dir():
            progress.note(job, *train(job, progress.out, how))
    if (scheduler or parallel > 1) and len(progress.finished) < len(jobs):
        from . import cluster  # Dask takes a second to import

        cluster.run(progress, parallel, scheduler, how)
    else:
        how = how | {"stop": lambda: time.monotonic() > progress.deadline}
        for job in progress.startable():
            progress.note(job, *train(job, progress.out, how))
    return progress.finished, progress.missing


@dataclass
class Progress:
    """Keeps the finished runs of a study, and why others are missing."""

    jobs: list[Job]
    out: Path
    deadline: float  # on the clock of `time.monotonic`
    finished: list[Run] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def startable(self) -> Iterator[Job]:
        """Yields the unfinished jobs as long as there is time; the others become `missing`."""
        todo = [job for job in self.jobs if not (self.out / job.folder).is_dir()]
        for number, job in enumerate(todo, len(self.jobs) - len(todo) + 1):
            if time.monotonic() >= self.deadline:
                self.missing.append(f"{job.folder}: no time was left for it")
                continue
            print(f"[{number}/{len(self.jobs)}] {job.folder}", flush=True)
            yield job

    def note(self, job: Job, run: Run | None, why: str) -> None:
        """Records how a job ended: with a run and what it took, or without and why."""
        if run is None:
            self.missing.append(why)
            print(f"  {why}", flush=True)
            return
        self.finished.append(run)
        share = f"{100 * run.accuracy:.2f} % of {run.info.test_total} test images"
        print(f"  {job.folder}: {share}, {why}", flush=True)
        for warning in run.info.warnings:
            print(f"  warning: {warning}", flush=True)


def train(job: Job, out: Path, how: dict[str, Any]) -> tuple[Run | None, str]:
    """Trains a job of a study into the folder of runs `out`; `how` are keywords of `fit`.

    Returns:
        The run and what it took, or None and why there is none.
    """
    is_new = not (out / job.folder).is_dir()
    try:
        run = fit(job, out, **{"patience": PATIENCE} | how)
    except OutOfTime:
        return None, f"{job.folder}: stopped at a checkpoint when the time was up"
    except (Busy, Diverged) as error:
        if is_new and (out / job.folder).is_dir():  # another process has finished it meanwhile
            return train(job, out, how)
        return None, str(error)
    return run, f"{run.info.train_seconds:.0f} s" if is_new else "finished before"
