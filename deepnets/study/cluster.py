"""Trains a study in several processes, which Dask starts here or finds at a scheduler.

Each worker trains one network at a time, into a folder of runs that all of them see. When a study
ends early, it tells them to stop at checkpoints. If a worker dies, Dask gives its training to
another one, which continues from the checkpoint.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import distributed
import torch
from distributed import Client, Future, KilledWorker, LocalCluster, get_worker
from distributed.comm import CommClosedError

from .. import data
from ..errors import UserError, explain_out_of_memory
from ..runs import Run
from ..training import Job, OutOfTime
from ..training.hardware import cores
from ..training.interrupts import interruptions, signals_blocked
from . import Progress, train

STOPPED: set[str] = set()  # in a worker: the studies, by client, that are to stop


@contextmanager
def connect(parallel: int, scheduler: str | None) -> Iterator[Client]:
    """Connects to the scheduler at an address, or else starts `parallel` workers here."""
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL)  # we report what matters, in one line
    if scheduler:
        try:
            client = Client(scheduler, timeout=7)  # every mistake is told within ten seconds
        except (OSError, ValueError):
            advice = "start one with dask scheduler"
            raise UserError(f"no Dask scheduler answers at {scheduler}; {advice}") from None
        with client:
            yield client
        return
    # A terminal sends Ctrl-C, and a batch system SIGTERM, to all processes of a group; only this
    # one shall hear it, and stop the workers. Python 3.11 unblocks signals when it starts the
    # resource tracker, so that goes first.
    resource_tracker.ensure_running()
    settings = {"threads_per_worker": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL}
    with signals_blocked():  # in the threads that start the workers, too
        local = LocalCluster(n_workers=parallel, dashboard_address="127.0.0.1:0", **settings)
    with local, Client(local) as client:
        yield client


def run(progress: Progress, parallel: int, scheduler: str | None, how: dict[str, Any]) -> None:
    """Trains what a study may start; whatever ends this early, all trainings stop at checkpoints.

    Arguments are as in `execute`.

    Raises:
        UserError: as `fit`, or the scheduler does not answer or is gone.
    """
    how = dict(how)
    if how.pop("download", False):  # here, once for all workers
        for name, size in {(job.dataset, job.input_size) for job in progress.jobs}:
            data.load(name, download=True, size=size)
    with (
        interruptions(lambda: time.monotonic() >= progress.deadline) as interruption,
        connect(parallel, scheduler) as client,
    ):
        print(f"scheduler {client.scheduler_info()['address']}", end=", ")
        print(f"dashboard {client.dashboard_link}", flush=True)
        try:
            early = _train_all(progress, parallel, how, client, interruption)
        except CommClosedError:
            raise UserError("the Dask scheduler is gone; start it and repeat the command") from None
    if early and not isinstance(early, OutOfTime):
        raise early


def _train_all(
    progress: Progress,
    parallel: int,
    how: dict[str, Any],
    client: Client,
    interruption: Callable[[], BaseException | None],
) -> BaseException | None:
    """Keeps all workers busy until nothing is left; returns what ended it early, or None."""
    out, startable = progress.out.absolute(), progress.startable()
    out.mkdir(parents=True, exist_ok=True)
    running: dict[Future, Job] = {}
    early: BaseException | None = None
    while True:
        if early := early or interruption():
            client.run(_stop, client.id, on_error="ignore")  # each time: some may be new
        else:
            hosts = Counter(address.rpartition(":")[0] for address in client.nthreads())
            task = out, how, client.id, max([parallel, *hosts.values()])
            while len(running) < max(1, hosts.total()) and (job := next(startable, None)):
                running[client.submit(_work, job, *task, pure=False)] = job
        if not running:
            break
        # What no worker has begun is not waited for in the end
        begun = {key for keys in client.processing().values() for key in keys}
        with suppress(TimeoutError, CancelledError):
            distributed.wait(list(running), timeout=1, return_when="FIRST_COMPLETED")
        if client.status != "running" or any(future.cancelled() for future in running):
            raise CommClosedError
        for future in [future for future in running if future.done()]:
            job = running.pop(future)
            try:
                why = future.result()
            except KilledWorker:
                why = f"{job.folder}: its process died several times; repeat the command"
            except UserError as error:
                why, early = str(error), early or error
            folder = progress.out / job.folder
            progress.note(job, Run.load(folder) if folder.is_dir() else None, why)
        if early and not begun & {future.key for future in running}:
            break
    for job in running.values():
        progress.note(job, None, f"{job.folder}: no worker was free to train it")
    if isinstance(early, OutOfTime):
        list(startable)  # records the rest as missing
    return early


def _stop(study: str) -> None:
    """Tells a worker to stop what it trains for a study."""
    STOPPED.add(study)


def _work(job: Job, out: Path, how: dict[str, Any], study: str, processes: int) -> str:
    """Trains in a worker with its share of the cores, which so many `processes` use.

    Returns what the training took, or why there is no run.
    """
    worker = get_worker()
    if (threads := worker.state.nthreads) > 1:
        raise UserError(f"{worker.address} has {threads} threads: start workers with --nthreads 1")
    if not out.is_dir():
        advice = "take an --out that all workers share"
        raise UserError(f"{worker.address} does not see {out}; {advice}")
    task = worker.state.tasks[worker.get_current_task()]

    def lost() -> bool:
        closing = worker.status.name not in ("running", "paused")
        return closing or task.state == "cancelled"

    torch.set_num_threads(max(1, cores() // processes))
    how = how | {"stop": lambda: lost() or study in STOPPED, "verbose": False}
    with explain_out_of_memory(f"{job.folder}: "):
        why = train(job, out, how)[1]
    if lost() and study not in STOPPED:
        raise distributed.Reschedule
    return why
