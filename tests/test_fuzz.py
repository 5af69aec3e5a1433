"""Whatever stands in a file or on the command line: one line and exit code 2, or it works; and
whenever a training is killed, nothing is lost.
"""

import shutil

import faults
import fuzz
import pytest

EXAMPLES = 15  # of each kind; `make faults` tries two thousand inputs


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """What is changed, and was good before."""
    folder, place = fuzz.good(tmp_path_factory.mktemp("good")), tmp_path_factory.mktemp("tried")
    commands = [["compare", "runs", "--json"], ["predict", fuzz.DIGITS, "one.png"]]
    commands += [["evaluate", fuzz.DIGITS], fuzz.train({}), fuzz.PLAN]
    for number, command in enumerate(commands):
        copy = shutil.copytree(folder, place / str(number))
        found = fuzz.answer(copy, fuzz.Input({}, command))
        assert (found.code, found.broken) == (command is fuzz.PLAN, ""), found
    return folder


@pytest.mark.xdist_group("fuzz")
@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_odd_input_is_refused_in_one_line_or_works(base, tmp_path, kind):
    for number in range(EXAMPLES):
        given, found = fuzz.attempt(base, tmp_path / "given", kind, number)
        assert not found.broken, (found, given.command)
        shutil.rmtree(tmp_path / "given")


def test_a_broken_promise_is_called_so():
    fine = fuzz.Answer(2, "one", 1)
    assert fine.broken == fine._replace(code=0, error="").broken == ""
    assert fine._replace(error="one\ntwo\n").broken == "not one line"
    assert fine._replace(code=1, error="Traceback (most recent call last):").broken == "traceback"
    assert fine._replace(code=-9).broken == "too long"
    assert fine._replace(peak=2 << 30).broken == "too much memory"


def test_twenty_kills_change_nothing(tmp_path):
    """SIGKILL before a change of the files or in the middle of a write, with a checkpoint after
    each step; dropout and augmentation are on.
    """
    assert faults.try_kills(tmp_path, 20, seed=0, by_time=0) == 0
