"""Pictures of the tables draw the tables' values, and letters that one can read."""

import math

import numpy as np
import pandas as pd
import pytest
from layout import check
from matplotlib.colors import to_rgba

from deepnets.compare import charts, effects, style

ON_A_TELEPHONE = 8 * charts.WIDTH * 96 / 390  # points that are 8 when 390 pixels wide


@pytest.fixture
def corners():
    """Rows of `effects.corners`; accuracies in the order of `effects.CORNERS`."""
    rows = []
    for original, *four in (
        ("googlenet", 0.82, math.nan, math.nan, 0.86), ("vgg16", 0.75, 0.82, 0.80, 0.85),
        ("resnet18", 0.64, 0.80, 0.66, 0.82),
    ):  # fmt: skip
        row = dict(zip(effects.CORNERS, four, strict=True))
        row |= {name: np.dot(four, weights) for name, weights in effects.PARTS.items()}
        row |= {"original": original, "network": f"{original}_improved"}
        first, last = effects.PUBLISHED["cifar10", row["network"]]
        row |= {"published_original": first, "published_improved": last}
        rows.append(row | {"published_gain": last - first})
    return pd.DataFrame(rows)


@pytest.fixture
def accuracies():
    """Nine networks as close to each other as they may come out, and not in order."""
    shares = np.array([0.81, 0.871, 0.885, 0.905, 0.895, 0.902, 0.883, 0.893, 0.904])
    errors = np.linspace(0.04, 0.08, 9)
    return pd.DataFrame({
        "network": [*style.COLOURS], "recipe": "tuned", "seeds": [1, 3, 3, 3, 4, 4, 3, 4, 4],
        "macs": np.multiply((94, 730, 1372, 1330, 122, 183, 161, 148, 207), 1e6),
        "accuracy": shares, "low": shares - 0.006, "high": shares + 0.005,
        "ece": errors[::-1], "calibrated_ece": errors / 4, "temperature": np.linspace(0.6, 1.7, 9),
        "noise": shares - 0.1, "blur": shares - 0.3, "contrast": shares - 0.4,
    })  # fmt: skip


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
    assert [ax.get_title() for ax in figure.axes] == ["ResNet18", "VGG16", "GoogLeNet"]
    for ax, row in zip(figure.axes, corners.to_dict("records")[::-1], strict=True):
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
    resnet, _, googlenet = [ax.get_xlabel().splitlines() for ax in figure.axes]
    assert resnet == ["gain +18.0", "training +16.0", "architecture +2.0", "published +16.3"]
    assert googlenet == ["missing runs:", "original, altered", "improved, vanilla"]


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


def test_a_network_under_two_recipes_is_named_with_them(accuracies):
    both = pd.concat([accuracies[:2], accuracies[:2].assign(recipe="classic")])
    names = words(charts.calibration(both).axes[0].get_yticklabels())
    assert {"AlexNet, tuned", "AlexNet, classic"} < set(names)


@pytest.mark.parametrize("name", ["corners", "changes", "cost", "robustness", "calibration"])
def test_letters_can_be_read_on_a_telephone(name, request):
    table = request.getfixturevalue(name if name in ("corners", "changes") else "accuracies")
    check(getattr(charts, name)(table), ON_A_TELEPHONE)
