"""Whatever stands in a file or on the command line: one line and exit code 2, or it works."""

import shutil

import fuzz
import pytest
from hypothesis import given, settings

EXAMPLES = 25  # of each kind; `make faults` tries two thousand


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
        assert not found.broken, (found, case.command)

    holds()
