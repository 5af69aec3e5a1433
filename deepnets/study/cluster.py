"""Trains a study in several processes, which Dask starts here or finds at a scheduler.

Each worker trains one network at a time and is stopped by a Dask event. If a worker dies, Dask
gives its training to another one, which continues from the checkpoint.
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
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import distributed
import torch
from distributed import Client, Event, Future, KilledWorker, LocalCluster, get_client, get_worker
from distributed.comm import CommClosedError
from distributed.process import AsyncProcess

from .. import data
from ..errors import UserError, explain_out_of_memory
from ..runs import Run
from ..training import Job
from ..training.hardware import cores
from ..training.interrupts import interruptions, signals_blocked
from .dispatch import Progress, train

# Of a worker that Dask starts on this machine.
_orphaned = threading.Event()  # set when the parent process is gone
_training = threading.Lock()  # held during a training


class _Process(AsyncProcess):
    """Runs a worker that ignores signals, and stops at a checkpoint when its parent dies.

    A terminal sends Ctrl-C, and a batch system SIGTERM, to all processes of a group; the parent
    receives it and stops the workers by the event.
    """

    def _start_threads(self) -> None:
        with signals_blocked():  # one of these threads starts the process, which inherits this
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
    distributed.nanny.AsyncProcess = _Process  # type: ignore[misc]
    # Python 3.11 unblocks SIGINT and SIGTERM when it starts this one, and the first worker, which
    # would be next, would hear them.
    resource_tracker.ensure_running()
    settings = {"threads_per_worker": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL}
    with (
        LocalCluster(parallel, dashboard_address="127.0.0.1:0", **settings) as local,
        Client(local) as client,
    ):
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
    """Keeps all workers busy until nothing is left, the time is up, or a signal asks to stop."""
    out = progress.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    stop, running = Event(f"deepnets-{uuid.uuid4().hex}", client), dict[Future, Job]()

    def settle() -> None:
        """Waits up to a second for trainings to end, and records how they ended."""
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
        deque(startable, maxlen=0)  # records as missing what the deadline left


def _work(
    job: Job, out: Path, how: dict[str, Any], marker: Path, processes: int, event: str
) -> str:
    """Trains in a worker; returns what it took, or why there is no run.

    A worker that shares the folder `out` sees the file `marker` there. It has its share of the
    cores, which so many `processes` use. The Dask event called `event` asks to stop.
    """
    worker, asked = get_worker(), threading.Event()
    if (threads := worker.state.nthreads) > 1:
        raise UserError(f"{worker.address} has {threads} threads: start workers with --nthreads 1")
    if not marker.exists():
        advice = "take an --out that all workers share"
        raise UserError(f"{worker.address} does not see {out}; {advice}")
    task, client = worker.state.tasks[worker.get_current_task()], get_client()

    def listen() -> None:
        with suppress(Exception):  # the scheduler is gone
            Event(event, client).wait()
        asked.set()

    def lost() -> bool:
        closing = worker.status.name not in ("running", "paused")
        return closing or task.state == "cancelled" or _orphaned.is_set()

    threading.Thread(target=listen, daemon=True).start()
    torch.set_num_threads(max(1, cores() // processes))
    how = how | {"stop": lambda: asked.is_set() or lost(), "verbose": False}
    with _training, explain_out_of_memory(f"{job.folder}: "):
        why = train(job, out, how)[1]
    if lost() and not asked.is_set():
        raise distributed.Reschedule
    return why
