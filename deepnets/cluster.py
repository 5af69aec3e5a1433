"""Trains a study in several processes: Dask starts them on this machine, or knows them elsewhere.

Each trains one network at a time, and polls an event by which all are asked to stop. Dask gives a
run whose process died to another one, which continues from its checkpoint.
"""

import logging
import os
import tempfile
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from distributed import (
    Client,
    Event,
    Future,
    KilledWorker,
    LocalCluster,
    Reschedule,
    Status,
    get_client,
    get_worker,
    nanny,
    wait,
)
from distributed.comm import CommClosedError
from distributed.process import AsyncProcess

from . import data
from .dispatch import Progress, train
from .errors import UserError, lack_of_memory_told
from .runs import Run
from .training import Job
from .training.hardware import cores
from .training.interrupts import deaf, interruptions

_orphaned = threading.Event()  # in a process of this machine's cluster: its parent is gone
_training = threading.Lock()  # there: held while it trains


class _Process(AsyncProcess):
    """A process that leaves signals to its parent, and trains up to a checkpoint when that dies.

    A terminal sends Ctrl-C, and a batch system SIGTERM, to all processes of a group.
    """

    def _start_threads(self) -> None:
        with deaf():  # what the thread starts that is started here is deaf, too
            super()._start_threads()

    @classmethod
    def _immediate_exit_when_closed(cls, parent_alive_pipe: Any) -> None:
        def outlive() -> None:
            with suppress(EOFError, OSError):
                parent_alive_pipe.recv()
            _orphaned.set()
            with _training:
                os._exit(1)

        threading.Thread(target=outlive, daemon=True).start()


@contextmanager
def connect(parallel: int, scheduler: str | None) -> Iterator[Client]:
    """A client of the `scheduler` at this address, or of a cluster of `parallel` processes here."""
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL)  # what matters of it is told in one line
    if scheduler:
        try:
            client = Client(scheduler, timeout=7)  # every mistake is told within ten seconds
        except (OSError, ValueError):
            raise UserError(
                f"no Dask scheduler answers at {scheduler}; start one with dask scheduler"
            ) from None
        with client:
            yield client
        return
    nanny.AsyncProcess = _Process  # type: ignore[misc]
    with (
        LocalCluster(
            n_workers=parallel,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as local,
        Client(local) as client,
    ):
        yield client


def run(progress: Progress, parallel: int, scheduler: str | None, how: dict[str, Any]) -> None:
    """Train what a study may start; what ends this early ends the trainings at checkpoints first.

    Args:
        progress: of the study.
        parallel: processes to start here.
        scheduler: address of the Dask scheduler that has others.
        how: keywords of `fit`.

    Raises:
        UserError: see `fit`, or the scheduler is not there or no longer there.
    """
    how = dict(how)
    if how.pop("download", False):  # once, and not each worker for itself
        for name, size in {(job.dataset, job.input_size) for job in progress.jobs}:
            data.load(name, download=True, size=size)
    with interruptions(lambda: False) as interruption, connect(parallel, scheduler) as client:
        print(f"scheduler {client.scheduler_info()['address']}", end=", ")
        print(f"dashboard {client.dashboard_link}", flush=True)
        try:
            _train_all(progress, parallel, how, client, interruption)
        except CommClosedError:
            raise UserError("the Dask scheduler is gone; start it and repeat the command") from None
        if early := interruption():
            raise early


def _train_all(
    progress: Progress,
    parallel: int,
    how: dict[str, Any],
    client: Client,
    interruption: Callable[[], BaseException | None],
) -> None:
    """Keep all workers busy until nothing is left, the time is up, or one should stop."""
    out = progress.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    stop, running = Event(f"deepnets-{uuid.uuid4().hex}", client), dict[Future, Job]()

    def settle() -> None:
        """Wait a second for trainings to end, and note how they did."""
        with suppress(TimeoutError, CancelledError):
            wait(list(running), timeout=1, return_when="FIRST_COMPLETED")
        if client.status != "running" or any(future.cancelled() for future in running):
            raise CommClosedError
        for future in [future for future in running if future.done()]:
            job = running.pop(future)
            try:
                why = future.result()
            except KilledWorker:
                why = f"{job.folder}: its process died several times; repeat the command"
            folder = progress.out / job.folder
            progress.note(job, Run.load(folder) if folder.is_dir() else None, why)

    with tempfile.NamedTemporaryFile(dir=out, prefix=".study-") as marker:
        startable = progress.startable()
        try:
            while not interruption() and time.monotonic() < progress.deadline:
                hosts = Counter(address.rpartition(":")[0] for address in client.nthreads())
                share = max([parallel, *hosts.values()])
                progress.parallel = max(1, hosts.total())
                while len(running) < progress.parallel and (job := next(startable, None)):
                    task = job, out, how, Path(marker.name), share, stop.name
                    running[client.submit(_work, *task, pure=False)] = job
                if not running:
                    break
                settle()
        finally:
            if client.status == "running":
                stop.set()
            while running and client.status == "running":
                begun = {key for keys in client.processing().values() for key in keys}
                settle()
                if not begun & {future.key for future in running}:
                    break
    for job in running.values():
        progress.note(job, None, f"{job.folder}: no worker was free to train it")
    if not interruption():
        deque(startable, maxlen=0)  # what the deadline left is noted as missing


def _work(
    job: Job, out: Path, how: dict[str, Any], marker: Path, processes: int, event: str
) -> str:
    """Train in a worker; returns how it went.

    Args:
        job: what to train.
        out: folder of runs.
        how: keywords of `fit`.
        marker: a file in `out` that all workers must see.
        processes: that share the cores of this machine.
        event: name of the Dask event that asks to stop.
    """
    worker, asked = get_worker(), threading.Event()
    if worker.state.nthreads > 1:
        threads = worker.state.nthreads
        raise UserError(f"{worker.address} has {threads} threads: start workers with --nthreads 1")
    if not marker.exists():
        raise UserError(
            f"{worker.address} does not see {out}; take an --out that all workers share"
        )
    task = worker.state.tasks[worker.get_current_task()]
    client = get_client()

    def listen() -> None:
        with suppress(Exception):  # the scheduler is gone
            Event(event, client).wait()
        asked.set()

    def lost() -> bool:
        closing = worker.status not in (Status.running, Status.paused)
        return closing or task.state == "cancelled" or _orphaned.is_set()

    threading.Thread(target=listen, daemon=True).start()
    torch.set_num_threads(max(1, cores() // processes))
    how = how | {"stop": lambda: asked.is_set() or lost(), "verbose": False}
    with _training, lack_of_memory_told(f"{job.folder}: "):
        why = train(job, out, how)[1]
    if lost() and not asked.is_set():
        raise Reschedule
    return why
