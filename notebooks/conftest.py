"""How long each notebook takes in `make test`, and that none takes more than 90 seconds."""

from collections import Counter

import pytest

LIMIT = 90
seconds: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add a cell's time to its notebook's."""
    seconds[report.nodeid.split("::")[0]] += report.duration


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Too slow is a failure."""
    if seconds and max(seconds.values()) > LIMIT:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line a notebook."""
    for notebook, taken in seconds.items():
        terminalreporter.write_line(
            f"{notebook}: {taken:.0f} s" + (f", more than {LIMIT} s" if taken > LIMIT else "")
        )
