"""Pictures show the run's own numbers, and the same bytes each time."""

from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from layout import check
from matplotlib.colors import to_rgb

from assets.make import PICTURES, figure
from deepnets import metrics
from deepnets.compare import figures, style
from deepnets.models import ORIGINALS
from deepnets.runs import Run

ROOT = Path(__file__).parent.parent


@pytest.fixture
def pair():
    folder = ROOT / "results" / "demo" / "digits"
    return [Run.load(folder / name / "tuned" / "seed0") for name in ("resnet20", "resnet18")]


@pytest.mark.parametrize("name", PICTURES)
def test_diagrams_can_be_read_and_are_those_that_are_committed(name):
    """If the latter fails: `make report`."""
    check(figure(name))
    assert (ROOT / "assets" / f"{name}.png").read_bytes() == style.encoded(figure(name), 200)


def test_pictures_can_be_read_and_the_same_data_gives_the_same_bytes(pair):
    for draw, shown in (
        (figures.curves, pair), (figures.confusions, pair),
        (figures.filters, pair[0]), (figures.representation, pair[0]),
    ):  # fmt: skip
        first, second = draw(shown), draw(shown)
        for kind in ("png", "pdf"):
            content = style.encoded(first, kind=kind)
            assert content == style.encoded(second, kind=kind)
        assert b"/Type3" not in content
        check(first)


def test_a_network_has_one_colour_in_every_picture():
    networks = list(style.COLOURS)
    assert {*ORIGINALS, *ORIGINALS.values()} < set(networks)
    assert style.colours(networks[::-1]) == style.colours(networks)[::-1]
    others = style.colours(["a", "b", "a"])
    assert others[0] == others[2] != others[1]


# What people without one kind of cones see, in linear RGB (Machado et al. 2009, table 1)
BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def lab(rgb):
    """A linear RGB colour in CIE Lab."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", BLIND)
def test_colours_differ_for_the_colour_blind(kind):
    """Ten units of Lab apart are colours that one tells apart at a glance."""
    rgb = np.array([to_rgb(colour) for colour in style.COLOURS.values()])
    linear = np.where(rgb < 0.04, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = [lab(np.array(BLIND[kind]) @ colour) for colour in linear]
    for first, second in combinations(zip(style.COLOURS, seen, strict=True), 2):
        assert np.linalg.norm(first[1] - second[1]) > 10, (first, second)


def test_curves_and_matrices_are_the_runs(pair):
    axes = [ax for half in figures.curves(pair).subfigs for ax in half.axes]
    for ax, (what, run) in zip(axes, product(("loss", "accuracy"), pair), strict=True):
        lines = [line.get_ydata().tolist() for line in ax.lines]
        assert lines == [run.history[f"{part}_{what}"].tolist() for part in ("train", "val")]
    counts = metrics.confusion(pair[0].test["labels"], pair[0].test["predicted"], 10)
    (ax,) = figures.confusions(pair[:1]).axes
    texts = [text.get_text() for text in ax.texts]
    assert sum(int(text) for text in texts if text) == counts.sum() == 360
    shares = counts / counts.sum(1, keepdims=True)  # of the true class, a row
    assert np.asarray(ax.collections[0].get_array()).reshape(10, 10) == pytest.approx(shares)


def test_filters_are_the_first_layer(pair):
    shown = [
        np.asarray(ax.images[0].get_array()) for ax in figures.filters(pair[0]).axes if ax.images
    ]
    windows = pair[0].view("filters")
    assert len(shown) == len(windows)
    for image, window in zip(shown, windows, strict=True):
        assert (image.min(), image.max()) == pytest.approx((0, 1))
        assert np.corrcoef(image.ravel(), window.transpose(1, 2, 0).ravel())[0, 1] > 0.999


def test_several_trainings_of_a_network_are_named_apart(pair):
    twice = [pair[0], Run(pair[0].path, replace(pair[0].info, seed=1))]
    titles = [ax.get_title() for found in (twice, pair) for ax in figures.confusions(found).axes]
    begin = ["ResNet20, tuned, 0 ", "ResNet20, tuned, 1 ", "ResNet20 ", "ResNet18 "]
    assert all(map(str.startswith, titles, begin))


def test_a_class_is_named_in_the_middle_of_its_images(pair):
    (ax,) = figures.representation(pair[0]).axes
    points, labels = pair[0].view("pca"), pair[0].test["labels"]
    assert [text.get_text() for text in ax.texts] == [str(k) for k in range(10)]
    middles = [np.median(points[labels == k], axis=0) for k in range(10)]
    assert np.array([text.xy for text in ax.texts]) == pytest.approx(np.array(middles))
    alike = replace(pair[0])  # all classes have one middle
    alike.__dict__["views"] = alike.views | {"pca_range": np.zeros_like(alike.views["pca_range"])}
    check(figures.representation(alike))
