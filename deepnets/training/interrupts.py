"""Being asked to stop: signals and deadlines take effect between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class OutOfTime(Exception):
    """The deadline passed, or whoever asked for the training stopped it; a checkpoint is there."""


@contextmanager
def interruptions(over: Callable[[], bool]) -> Iterator[Callable[[], BaseException | None]]:
    """Collects SIGINT, SIGTERM and SIGHUP, so that none interrupts a step.

    A second signal acts as usual. SIGHUP, which Windows lacks, means that the terminal was closed;
    where `nohup` has it ignored, it stays ignored. Off the main thread Python allows no handlers,
    and signals act as usual.

    Args:
        over: whether the time is up; asked between any two steps.

    Yields:
        A function that returns what to raise at the next good moment: KeyboardInterrupt,
        SystemExit(128 + signal), OutOfTime, or None.
    """
    caught: list[BaseException] = []
    previous: dict[int, Any] = {}

    def note(number: int, _frame: object) -> None:
        caught.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number))
        signal.signal(number, previous[number])

    if threading.current_thread() is threading.main_thread():
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            previous[number] = signal.signal(number, note)
    try:
        yield lambda: caught[0] if caught else OutOfTime() if over() else None
    finally:
        for changed, handler in previous.items():
            signal.signal(changed, handler)


@contextmanager
def deaf() -> Iterator[None]:
    """Starts threads and processes that receive neither SIGINT nor SIGTERM; not on Windows."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
