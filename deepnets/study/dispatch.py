"""The progress of a study: what is finished, what may still start, and how each training ended."""

import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from .. import models
from ..info import Info
from ..runs import Run, partial_folder
from ..training import Busy, Diverged, Job, OutOfTime, fit
from ..training.hardware import device_name, named_device

PATIENCE = 10.0  # seconds for another process that was told to stop to save its training


class Progress:
    """Keeps the finished runs of a study, why others are missing, and what may still start.

    The deadline is on the clock of `time.monotonic`. Times are estimated from runs on the same
    device, or from all runs if it is None.
    """

    def __init__(
        self, jobs: list[Job], out: Path, deadline: float, parallel: int, device: str | None
    ) -> None:
        self.jobs, self.out, self.deadline, self.parallel = jobs, out, deadline, parallel
        self.device = device and device_name(named_device(device))
        self.finished: list[Run] = []
        self.missing: list[str] = []
        self.slowest: dict[str, Info] = {}  # `info` by network, and of all under ""

    def startable(self) -> Iterator[Job]:
        """Yields the unfinished jobs that are expected to end in time; others become `missing`."""
        todo = [job for job in self.jobs if not (self.out / job.folder).is_dir()]
        for number, job in enumerate(todo):
            begun = (partial_folder(self.out / job.folder) / "checkpoint.pt").exists()
            left = self.deadline - time.monotonic()
            expected = 0.0 if begun else self.expected_seconds(job)
            if expected > left:
                what = "continued" if begun else "started"
                needed = f"about {expected:.0f} s needed, " if expected >= 0.5 else ""
                why = f"not {what} ({needed}{max(left, 0):.0f} s left)"
                self.missing.append(f"{job.folder}: {why}")
                continue
            rest = sum(map(self.expected_seconds, todo[number:])) / self.parallel
            clock = time.strftime("%a %H:%M", time.localtime(time.time() + rest))
            place = f"{len(self.jobs) - len(todo) + number + 1}/{len(self.jobs)}"
            end = f", all may be by {clock}" if rest else ""
            print(f"[{place}] {job.folder}{end}", flush=True)
            yield job

    def expected_seconds(self, job: Job) -> float:
        """Estimates a job's time from the slowest run of its network, or of any; 0 if unknown."""
        like = self.slowest.get(job.model) or self.slowest.get("")
        if not like:
            return 0.0
        images = job.limit or like.train_images
        macs = multiply_adds(job, like.in_channels)
        return 1.2 * _pace(like) * macs * images * job.recipe.epochs  # evaluating takes a little

    def note(self, job: Job, run: Run | None, why: str) -> None:
        """Records how a job ended: with a run and what it took, or without and why."""
        if run is None:
            self.missing.append(why)
            print(f"  {why}", flush=True)
            return
        self.finished.append(run)
        if self.device in (None, run.info.device):
            for key in (job.model, ""):
                self.slowest[key] = max(self.slowest.get(key, run.info), run.info, key=_pace)
        share = f"{100 * run.accuracy:.2f} % of {run.info.test_total} test images"
        print(f"  {job.folder}: {share}, {why}", flush=True)
        for warning in run.info.warnings:
            print(f"  warning: {warning}", flush=True)


def _pace(info: Info) -> float:
    """Returns the seconds of a multiply-add, by a run's `info`."""
    return info.train_seconds / (info.macs * info.train_images * info.epochs)


def multiply_adds(job: Job, channels: int) -> int:
    """Returns the multiply-adds of one image; raises UserError if the network cannot be built."""
    return _count(job.model, channels, job.input_size, tuple(sorted(job.options.items())))


@cache
def _count(model: str, channels: int, size: int, options: tuple[tuple[str, Any], ...]) -> int:
    blueprint = models.blueprint(model, in_channels=channels, **dict(options))
    return models.multiply_adds(blueprint, size, channels)


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
