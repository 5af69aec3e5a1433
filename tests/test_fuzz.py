"""Whatever stands in a file or on the command line: one line and exit code 2, or it works."""

import shutil

import fuzz
import pytest
from hypothesis import given, settings

EXAMPLES = 25  # of each kind; `make faults` tries two thousand inputs


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return fuzz.good(tmp_path_factory.mktemp("good"))


@pytest.mark.xdist_group("fuzz")
@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_odd_input_is_refused_in_one_line_or_works(base, tmp_path, kind):
    @settings(fuzz.PROFILE, max_examples=EXAMPLES)
    @given(fuzz.KINDS[kind](base))
    def holds(case):
        shutil.rmtree(tmp_path)
        found = fuzz.answer(shutil.copytree(base, tmp_path), case)
        assert not found.broken, (found, case)

    holds()


@pytest.mark.xdist_group("fuzz")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["study", "study.toml", "--budget=0.000001s", "--out=studied"], 1),
        (["compare", "runs", "--json"], 0),
        (["predict", fuzz.DIGITS, "one.png"], 0),
        (["evaluate", fuzz.DIGITS], 0),
        (fuzz.train({}), 0),
    ],
    ids=["study", "compare", "predict", "evaluate", "train"],
)
def test_what_is_changed_was_good_before(base, tmp_path, command, code):
    found = fuzz.answer(
        shutil.copytree(base, tmp_path, dirs_exist_ok=True), fuzz.Input({}, command)
    )
    assert (found.code, found.broken) == (code, "")


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"error": "one\n"}, ""),
        ({"error": ""}, "not one line"),
        ({"error": "one\ntwo\n"}, "not one line"),
        ({"code": 0}, "not one line"),
        ({"code": 0, "error": ""}, ""),
        ({"code": 1, "error": "Traceback (most recent call last):"}, "traceback"),
        ({"code": -11}, "traceback"),
        ({"code": None}, "too long"),
        ({"busy": 11.0}, "too long"),
        ({"peak": 2 << 30}, "too much memory"),
    ],
    ids=range(10),
)
def test_a_broken_promise_is_called_so(change, broken):
    fine = {"code": 2, "error": "one", "seconds": 1.0, "busy": 1.0, "peak": 1}
    assert fuzz.Answer(**(fine | change)).broken == broken
