"""Signals and other wishes to stop, which take effect between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Ctrl-C, `kill`, and, but on Windows, that the terminal was closed
STOPS = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}


class OutOfTime(Exception):
    """Says that the caller stopped the training; a checkpoint is there."""


@contextmanager
def interruptions(stop: Callable[[], bool]) -> Iterator[Callable[[], BaseException | None]]:
    """Holds back SIGINT, SIGTERM and SIGHUP until the end, so that none interrupts a step.

    A second signal of a kind acts as usual, and under nohup SIGHUP stays ignored. Off the main
    thread all act as usual, since Python allows no handlers there.

    Yields:
        A function to call between two steps. It returns what to raise there: KeyboardInterrupt,
        SystemExit(128 + signal), OutOfTime if the caller wishes to stop, or None.

    Raises:
        KeyboardInterrupt, SystemExit: at the end, after a signal that came too late for a step.
    """
    caught: list[BaseException] = []
    previous: dict[int, Any] = {}

    def note(number: int, _frame: object) -> None:
        caught.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number))
        signal.signal(number, previous[number])

    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            nohup = signal.getsignal(number) == signal.SIG_IGN  # a script's `&` ignores SIGINT, too
            if number in (signal.SIGINT, signal.SIGTERM) or not nohup:
                previous[number] = signal.signal(number, note)
    try:
        yield lambda: caught[0] if caught else OutOfTime() if stop() else None
    finally:
        for changed, handler in previous.items():
            signal.signal(changed, handler)
    if caught:
        raise caught[0]
