"""Studies: `plan` reads which runs a study file asks for, `execute` trains the missing ones."""

import math
import time
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..runs import Run
from ..training import Job
from .dispatch import Progress, train
from .grids import plan as plan


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
        budget: seconds. A training that is not expected to end in time is not started; one that
            does not end in time stops at a checkpoint, where the next call continues.
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
    device = None if scheduler else how.get("device", "auto")
    progress = Progress(jobs, Path(out), time.monotonic() + budget, parallel, device)
    for job in jobs:
        if (progress.out / job.folder).is_dir():
            progress.note(job, *train(job, progress.out, how))
    if (scheduler or parallel > 1) and len(progress.finished) < len(jobs):
        from . import cluster  # Dask takes a second to import

        cluster.run(progress, parallel, scheduler, how)
    else:
        how = how | {"deadline": progress.deadline}
        for job in progress.startable():
            progress.note(job, *train(job, progress.out, how))
    return progress.finished, progress.missing
