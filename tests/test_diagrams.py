"""Diagrams say what networks are built from, in letters one can read."""

import re
from pathlib import Path

import pytest
from layout import check
from matplotlib.patches import Rectangle

from assets.make import PICTURES, figure
from deepnets.compare.style import encoded
from deepnets.models.googlenet import INCEPTION

ASSETS = Path(__file__).parent.parent / "assets"


def written(name):
    """Every text of a picture, those of the legend included."""
    (ax,) = figure(name).axes
    return [text.get_text() for text in (*ax.texts, *ax.get_legend().get_texts())]


def test_the_blocks_have_the_papers_numbers():
    taken, c1, c3_reduce, c3, c5_reduce, c5, pool = INCEPTION["3a"]
    assert {
        f"{taken}x8x8", f"1x1, {c1}", f"1x1, {c3_reduce}", f"3x3, {c3}", f"1x1, {c5_reduce}",
        f"3x3, {c5}", "paper 5x5", f"1x1, {pool}", f"{c1} + {c3} + {c5} + {pool}", "max 3x3",
        f"{c1 + c3 + c5 + pool}x8x8",
    } <= {*written("inception-module")}  # fmt: skip
    found = written("residual-block")
    assert {"3x3, 64", "identity", "3x3, 128", "1x1, 128", "128x8x8"} <= {*found}
    assert found.count("stride 2") == 2
    found = written("stems")
    maps = ["3x64x64", "64x32x32", "64x16x16"]
    maps += ["3x64x64", "64x34x34", "64x32x32", "64x30x30", "64x15x15"]
    assert [text for text in found if re.fullmatch(r"\d+x\d+x\d+", text)] == maps
    layers = [found.count(text) for text in ("7x7, 64", "3x3, 64", "max 3x3", "stride 2")]
    assert layers == [1, 3, 2, 4]
    paddings = [text for text in found if text.startswith("padding")]
    assert paddings == [f"padding {pad}" for pad in (3, 1, 3, 0, 0, 1)]


@pytest.mark.parametrize("name", PICTURES)
def test_texts_can_be_read_and_what_is_committed_is_what_is_drawn(name):
    """If the latter fails: `make report`."""
    drawn = figure(name)
    check(drawn)
    (ax,) = drawn.axes
    boxes = [patch.get_window_extent() for patch in ax.patches if isinstance(patch, Rectangle)]
    for text in ax.texts:
        place = text.get_window_extent()
        for box in boxes:
            if box.contains(*(place.p0 + place.p1) / 2):
                assert box.padded(1).contains(*place.p0), text
                assert box.padded(1).contains(*place.p1), text
    assert (ASSETS / f"{name}.png").read_bytes() == encoded(figure(name), 200)


def test_the_papers_figure_is_seven_inches_wide():
    assert figure("blocks").get_figwidth() == pytest.approx(7)
