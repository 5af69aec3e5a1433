"""Prints how long each notebook took; none fails for it, as the machine may be busy."""

from collections import defaultdict

import pytest

seconds: defaultdict[str, float] = defaultdict(float)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add a cell's time to its notebook's."""
    seconds[report.nodeid.split("::")[0]] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line a notebook."""
    for notebook, taken in seconds.items():
        terminalreporter.write_line(f"{notebook}: {taken:.0f} s")
