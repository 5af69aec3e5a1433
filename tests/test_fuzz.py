"""Whatever stands in a file or on the command line: one line and exit code 2, or it works; and
whenever a training is killed, nothing is lost. `make faults` tries more.
"""

import os
import shutil
import signal
from random import Random

import fuzz
import pytest

from deepnets.runs import Run

INPUTS, KILLS, SEED = (
    int(os.environ.get(name, usual))
    for name, usual in (("INPUTS", 150), ("KILLS", 20), ("SEED", 0))
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """What is changed, and was good before."""
    folder, place = fuzz.good(tmp_path_factory.mktemp("good")), tmp_path_factory.mktemp("tried")
    commands = [["compare", "runs"], ["predict", fuzz.DIGITS, "one.png"]]
    commands += [["evaluate", fuzz.DIGITS], fuzz.train({}), fuzz.PLAN]
    for number, command in enumerate(commands):
        copy = shutil.copytree(folder, place / str(number))
        found = fuzz.answer(copy, fuzz.Input({}, command))
        assert (found.code, found.broken) == (command is fuzz.PLAN, False), found
    return folder


@pytest.mark.xdist_group("fuzz")
@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_odd_input_is_refused_in_one_line_or_works(base, tmp_path, kind):
    broken = []
    for number in range(INPUTS // len(fuzz.KINDS)):
        given = fuzz.KINDS[kind](Random(f"{kind} {SEED} {number}"), base)
        folder = shutil.copytree(base, tmp_path / str(number))
        found = fuzz.answer(folder, given)
        if found.broken:
            broken.append((folder, given.command, found))
        else:
            shutil.rmtree(folder)
    assert not broken


def test_a_broken_promise_is_seen():
    kept = ((0, ""), (1, ""), (2, "a mistake\n"))
    broken = ((0, "a warning\n"), (1, "Traceback\n"), (2, ""), (2, "two\nlines\n"), (-9, ""))
    assert not any(fuzz.Answer(*ended).broken for ended in kept)
    assert all(fuzz.Answer(*ended).broken for ended in broken)


def test_kills_change_nothing(tmp_path):
    """SIGKILL before a change of the files or in the middle of a write, with a checkpoint after
    each step; dropout and augmentation are on. The same call continues.
    """
    chance, kills = Random(SEED), 0
    (whole := tmp_path / "whole").mkdir()
    assert fuzz.run(fuzz.killed, whole) == 0
    while kills < KILLS:
        (folder := tmp_path / f"killed{kills}").mkdir()
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            begun = bool([*folder.rglob("*.partial/checkpoint.pt")])
            code = fuzz.run(fuzz.killed, folder, chance.randint(1, 60))
            kills += code == -signal.SIGKILL
            assert kills < 10 * KILLS, "it never ends"
        assert code == 0, (folder / "err").read_text()
        assert "continuing from" in (folder / "out").read_text() or not begun
        fuzz.same(*(Run.load(done / "runs" / fuzz.JOB.folder) for done in (folder, whole)))
        names = [sorted(path.name for path in (f / "runs").rglob("*")) for f in (folder, whole)]
        assert names[0] == names[1]
