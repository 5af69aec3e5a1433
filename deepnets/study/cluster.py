"""Trains a study in several processes, which Dask starts here or finds at a scheduler.

Each worker trains one network at a time, into a folder of runs that all of them see. When a study
ends early, it tells them to stop at checkpoints. If a worker dies, Dask gives its training to
another one, which continues from the checkpoint.
"""

import logging
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import distributed
import torch
from distributed import Client, Future, KilledWorker, LocalCluster, Worker, get_worker
from distributed.comm import CommClosedError

from .. import data
from ..errors import UserError, explain_out_of_memory
from ..runs import Run
from ..training import Job
from ..training.hardware import cores
from ..training.interrupts import STOPS, interruptions
from . import Progress, train

STOPPED: set[str] = set()  # in a worker: the studies, by client, that are to stop


@contextmanager
def connect(parallel: int, scheduler: str | None) -> Iterator[Client]:
    """Connects to the scheduler at an address, or else starts `parallel` workers here.

    Raises UserError if the scheduler does not answer, or is gone before the end.
    """
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL)  # we report what matters, in one line
    settings: dict[str, Any] = {"n_workers": parallel, "threads_per_worker": 1, "memory_limit": 0}
    settings |= {"dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    # A terminal sends Ctrl-C, and a batch system SIGTERM, to all processes of a group; only this
    # one shall hear it, and stop the workers: what is started here has these signals blocked.
    # Python 3.11 unblocks them when it starts the resource tracker, so that goes first.
    resource_tracker.ensure_running()
    with ExitStack() as started:
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
            started.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        local = None if scheduler else LocalCluster(**settings)
        try:
            # Every mistake is told within ten seconds
            client = Client(scheduler, timeout=7) if scheduler else Client(local)
        except (OSError, ValueError):
            advice = "start one with dask scheduler"
            raise UserError(f"no Dask scheduler answers at {scheduler}; {advice}") from None
    try:
        with local or nullcontext(), client:
            yield client
    except CommClosedError:
        raise UserError("the Dask scheduler is gone; start it and repeat the command") from None


def run(progress: Progress, parallel: int, scheduler: str | None, how: dict[str, Any]) -> None:
    """Trains what a study may start; whatever ends this early, all trainings stop at checkpoints.

    Arguments are as in `execute`.

    Raises:
        UserError: as `fit`, or the scheduler does not answer or is gone.
    """
    how, out = dict(how), progress.out.absolute()
    if how.pop("download", False):  # here, once for all workers
        for name, size in {(job.dataset, job.input_size) for job in progress.jobs}:
            data.load(name, download=True, size=size)
    startable = progress.startable()
    running: dict[Future, Job] = {}
    failure: UserError | None = None
    with interruptions(lambda: False) as interruption, connect(parallel, scheduler) as client:
        print(f"scheduler {client.scheduler_info()['address']}", end=", ")
        print(f"dashboard {client.dashboard_link}", flush=True)
        out.mkdir(parents=True, exist_ok=True)
        while True:
            hosts = Counter(address.rpartition(":")[0] for address in client.nthreads())
            early = failure or interruption()
            over = time.monotonic() >= progress.deadline
            begun: set[str] = set()
            if early or over:  # each time: some workers may be new
                begun.update(*client.run(_stop, client.id, on_error="ignore").values())
            task = out, how, client.id, max([parallel, *hosts.values()])
            room = len(progress.jobs) if over else max(1, hosts.total())  # if over, all are missing
            while not early and len(running) < room and (job := next(startable, None)):
                running[client.submit(_work, job, *task, pure=False)] = job
            if not running:
                break
            with suppress(TimeoutError, CancelledError):
                distributed.wait(list(running), timeout=1, return_when="FIRST_COMPLETED")
            if client.status != "running" or any(future.cancelled() for future in running):
                raise CommClosedError
            for future in [future for future in running if future.done()]:
                failure = _note(progress, running.pop(future), future) or failure
            if (early or over) and not begun & {future.key for future in running}:
                break  # what no worker has begun is not waited for
        for job in running.values():
            progress.note(job, None, f"{job.folder}: no worker was free to train it")
    if failure:
        raise failure


def _note(progress: Progress, job: Job, future: Future) -> UserError | None:
    """Records how a training ended; returns the mistake that must end the study, if it is one."""
    try:
        progress.note(job, *future.result())
    except KilledWorker:
        why = f"{job.folder}: its process died several times; repeat the command"
        progress.note(job, None, why)
    except UserError as mistake:
        progress.note(job, None, str(mistake))
        return mistake
    return None


def _stop(study: str, dask_worker: Worker) -> list[str]:
    """Tells a worker to stop what it trains for a study; returns the keys of what it has begun."""
    STOPPED.add(study)
    return [str(task.key) for task in dask_worker.state.executing]


def _work(
    job: Job, out: Path, how: dict[str, Any], study: str, processes: int
) -> tuple[Run | None, str]:
    """Trains in a worker with its share of the cores, which so many `processes` use.

    Returns what `train` does.
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
        end = train(job, out, how)
    if lost() and study not in STOPPED:
        raise distributed.Reschedule
    return end
