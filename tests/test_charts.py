"""Pictures of the tables draw the tables' values, and letters that one can read."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layout import check
from matplotlib.colors import to_rgba

from deepnets.compare import charts, style

RESULTS = Path(__file__).parent.parent / "results"
ON_A_TELEPHONE = 8 * charts.WIDTH * 96 / 390  # points that are 8 when 390 pixels wide


def committed(name):
    table = pd.read_csv(RESULTS / f"{name}.csv")
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


def heights(line):
    return np.asarray(line.get_ydata(), float)


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
            assert heights(line) == pytest.approx(wanted, nan_ok=True)
            assert line.get_color() == style.COLOURS[row[network]]
        wanted = [100 * row["published_original"], 100 * row["published_improved"]]
        assert heights(published) == pytest.approx(wanted)
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
    """The best is on top, or the least calibrated."""
    panels = charts.robustness(accuracies).axes
    assert [ax.get_title() for ax in panels] == ["noise", "blur", "contrast"]
    error, temperature = charts.calibration(accuracies).axes
    pairs = [(ax, "accuracy", ax.get_title(), "accuracy") for ax in panels]
    for ax, order, first, second in (*pairs, (error, "ece", "ece", "calibrated_ece")):
        table = accuracies.sort_values(order)
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
