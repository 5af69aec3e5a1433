"""Pictures of runs draw the runs' own numbers, pictures of tables the tables' values, with letters
that one can read, and the same bytes each time.
"""

import math
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from assets.make import PICTURES, figure
from deepnets import metrics
from deepnets.compare import charts, figures, style
from deepnets.models import ORIGINALS
from deepnets.runs import Run

ROOT = Path(__file__).parent.parent
ON_A_TELEPHONE = 8 * charts.WIDTH * 96 / 390  # points that are 8 when 390 pixels wide


def check(figure, least=8.0):
    """Fails where letters are under `least` points, cover each other or leave the picture, or a legend
    covers data.
    """
    figure.draw_without_rendering()
    hidden = set()
    for ax in figure.axes:
        for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            ticks = axis.get_major_ticks() + axis.get_minor_ticks()
            outside = [t for t in ticks if not min(low, high) <= t.get_loc() <= max(low, high)]
            hidden |= {label for tick in outside for label in (tick.label1, tick.label2)}
            hidden |= set() if ax.axison else {t.label1 for t in ticks} | {axis.label}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text not in hidden]
    found = [(text, Text.get_window_extent(text)) for text in texts if text.get_text().strip()]
    assert found
    page = Bbox(figure.bbox.padded(1).get_points())
    for text, box in found:
        assert text.get_fontsize() >= least, text.get_text()
        assert page.contains(*box.p0), text.get_text()
        assert page.contains(*box.p1), text.get_text()
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert not any(ax.get_window_extent().padded(-1).overlaps(box) for ax in figure.axes)
    for (first, one), (second, other) in combinations(found, 2):
        apart = not one.padded(-1).overlaps(other.padded(-1))
        assert apart, f"{first.get_text()!r} covers {second.get_text()!r}"


# --- of runs


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
        shown = run.history[[f"train_{what}", f"val_{what}"]] * (1 if what == "loss" else 100)
        assert lines == shown.T.to_numpy().tolist()
    counts = metrics.confusion(pair[0].test["labels"], pair[0].test["predicted"], 10)
    (ax,) = figures.confusions(pair[:1]).axes
    texts = [text.get_text() for text in ax.texts]
    assert sum(int(text) for text in texts if text) == counts.sum() == 360
    shares = counts / counts.sum(1, keepdims=True)  # of the true class, a row
    assert np.asarray(ax.collections[0].get_array()).reshape(10, 10) == pytest.approx(shares)


def test_filters_are_the_first_layer(pair):
    axes = [ax for ax in figures.filters(pair[0]).axes if ax.images]
    for ax, window in zip(axes, pair[0].view("filters"), strict=True):
        image = np.asarray(ax.images[0].get_array())
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


# --- of tables


def committed(name):
    table = pd.read_csv(ROOT / "results" / f"{name}.csv")
    return table[table["dataset"] == "CIFAR-10"]


@pytest.fixture
def corners():
    """In the order of the panels; of the last one a run is missing."""
    table = committed("corners").sort_values("published_gain", ascending=False, ignore_index=True)
    table.loc[table.index[-1], "improved_vanilla"] = math.nan
    return table


@pytest.fixture
def accuracies():
    """Some of one training, some of several."""
    table = committed("accuracies").query("recipe == 'tuned' and options.isna()")
    return table.assign(seeds=[1, *range(1, len(table))])


@pytest.fixture
def changes():
    effect = np.array([0.001, -0.046, -0.03, -0.008, 0.0025, -0.004, -0.006])
    table = pd.DataFrame({"change": [*charts.CHANGES], "effect": effect, "seeds": 1})
    return table.assign(network="resnet18_improved", low=effect - 0.006, high=effect + 0.004)


def words(labels):
    return [label.get_text() for label in labels]


def test_the_corners_stand_where_the_table_has_them(corners):
    figure = charts.corners(corners)
    for ax, row in zip(figure.axes, corners.to_dict("records"), strict=True):
        assert ax.get_title() == style.NAMES[row["original"]]
        *ours, published = ax.lines
        names = words(ax.get_xticklabels())
        assert names == ["vanilla", "altered"]
        for line, kind, network in zip(ours, ("original", "improved"), ("original", "network"),
                                       strict=True):  # fmt: skip
            assert line.get_xdata().tolist() == [0, 1]
            wanted = [100 * row[f"{kind}_{name}"] for name in names]
            assert line.get_ydata() == pytest.approx(wanted, nan_ok=True)
            assert line.get_color() == style.COLOURS[row[network]]
        wanted = [100 * row["published_original"], 100 * row["published_improved"]]
        assert published.get_ydata() == pytest.approx(wanted)
        assert len({line.get_marker() for line in ax.lines}) == 3
    first, *_, last = [ax.get_xlabel().splitlines() for ax in figure.axes]
    parts = corners.loc[0, ["gain", "training", "architecture", "published_gain"]]
    assert [float(line.split()[1]) for line in first] == pytest.approx(100 * parts, abs=0.05)
    assert "improved, vanilla" in last


def test_changes_are_sorted_and_in_points(changes):
    (ax,) = charts.changes(changes).axes
    order = changes.sort_values("effect")
    drawn = [container.lines for container in ax.containers]
    assert [point.get_xdata().item() for point, *_ in drawn] == pytest.approx(100 * order["effect"])
    ends = [segment[:, 0] for *_, (bar,) in drawn for segment in bar.get_segments()]
    assert np.array(ends) == pytest.approx(100 * order[["low", "high"]].to_numpy())
    assert words(ax.get_yticklabels()) == [charts.CHANGES[name] for name in order["change"]]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first is on top"
    unknown = changes[:1].assign(change="epochs=1")
    assert words(charts.changes(unknown).axes[0].get_yticklabels()) == ["epochs=1"]


def test_cost_has_a_named_point_a_network(accuracies):
    (ax,) = charts.cost(accuracies).axes
    points = [container.lines[0] for container in ax.containers]
    assert [p.get_xdata().item() for p in points] == pytest.approx(accuracies["macs"] / 1e6)
    assert [p.get_ydata().item() for p in points] == pytest.approx(100 * accuracies["accuracy"])
    hollow = [to_rgba(p.get_markerfacecolor()) == to_rgba("white") for p in points]
    assert hollow == (accuracies["seeds"] == 1).tolist()
    assert {text.get_text(): text.xy for text in ax.texts} == {
        style.NAMES[row.network]: pytest.approx((row.macs / 1e6, 100 * row.accuracy))
        for row in accuracies.itertuples()
    }


def test_robustness_and_calibration_are_pairs_of_points_a_network(accuracies):
    """The most accurate is on top."""
    panels = charts.robustness(accuracies).axes
    assert [ax.get_title() for ax in panels] == ["noise", "blur", "contrast"]
    error, temperature = charts.calibration(accuracies).axes
    table = accuracies.sort_values("accuracy")
    pairs = [(ax, ax.get_title(), "accuracy") for ax in panels]
    for ax, first, second in (*pairs, (error, "ece", "calibrated_ece")):
        hollow, filled = ([line.get_xdata()[0] for line in ax.lines[k::3]] for k in (1, 2))
        assert filled == pytest.approx(100 * table[first])
        assert hollow == pytest.approx(100 * table[second])
        names = words(ax.figure.axes[0].get_yticklabels())
        assert names == [style.NAMES[name] for name in table["network"]]
    points = [line.get_xdata()[0] for line in temperature.lines if line.get_marker() == "o"]
    assert points == pytest.approx(table["temperature"])


@pytest.mark.parametrize("name", ["corners", "changes", "cost", "robustness", "calibration"])
def test_letters_can_be_read_on_a_telephone(name, request):
    table = request.getfixturevalue(name if name in ("corners", "changes") else "accuracies")
    check(getattr(charts, name)(table), ON_A_TELEPHONE)
