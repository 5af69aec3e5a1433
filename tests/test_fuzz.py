"""Whatever stands in a file or on the command line: one line and exit code 2, or it works. Whenever
a training is killed: nothing is lost.

`make faults` tries more of both.
"""

import os
import shutil
import signal
import sys
from functools import partial

import fuzz
import numpy as np
import pytest
from hypothesis import given, settings

from deepnets import cli, training

EXAMPLES = int(os.environ.get("FAULTS", "25"))  # of each kind
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")  # of a folder; `open` makes files
pytestmark = pytest.mark.xdist_group("fuzz")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return fuzz.good(tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_odd_input_is_refused_in_one_line_or_works(base, tmp_path, kind):
    @settings(fuzz.PROFILE, max_examples=EXAMPLES)
    @given(fuzz.KINDS[kind](base))
    def holds(case):
        shutil.rmtree(tmp_path)
        assert not fuzz.broken(shutil.copytree(base, tmp_path), case)[1], case

    holds()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (fuzz.PLAN, 1),
        (["compare", "runs", "--json"], 0),
        (["predict", fuzz.DIGITS, "one.png"], 0),
        (["evaluate", fuzz.DIGITS], 0),
        (fuzz.train(), 0),
    ],
    ids=["study", "compare", "predict", "evaluate", "train"],
)
def test_what_is_changed_was_good_before(base, tmp_path, command, code):
    folder = shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    assert fuzz.broken(folder, fuzz.Input({}, command)) == (code, "")


def train(folder, number=0):
    """In a process: a tiny training with a checkpoint at each step; before the change of that
    number to its files it is killed.
    """
    fuzz.begin(folder)
    training.fit = partial(training.fit, checkpoint_seconds=0)
    left = number

    def watch(event, given):
        nonlocal left
        writes = event == "open" and isinstance(given[1], str) and given[1] != "r"
        if event in CHANGES or (writes and "runs" in str(given[0])):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    sys.exit(cli.main(fuzz.train(epochs="3", recipe="best")))


def test_a_kill_before_any_change_of_a_file_loses_nothing(tmp_path):
    def result(folder):
        run = folder / "runs/digits/resnet8/best/seed1"
        arrays = dict(np.load(run / "test.npz"))
        return [(run / "logits.npy").read_bytes(), (run / "model.safetensors").read_bytes()] + [
            arrays[name].tobytes() for name in sorted(arrays)
        ]

    def killed(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        return folder, fuzz.run(train, folder, number) == -signal.SIGKILL

    undisturbed, _ = killed(0)
    expected, number = result(undisturbed), 1
    while True:
        folder, before_the_end = killed(number)
        if not before_the_end:
            break
        assert fuzz.run(train, folder) == 0, (folder / "err").read_text()
        assert result(folder) == expected, number
        shutil.rmtree(folder)
        number += max(1, 200 // EXAMPLES)
    assert number > 20
