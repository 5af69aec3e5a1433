"""Pictures of the tables draw the tables' values, and letters that one can read."""

import math

import numpy as np
import pandas as pd
import pytest
from layout import check, letters
from matplotlib.colors import to_rgba

from deepnets.compare import charts, effects, style

ON_A_TELEPHONE = 8 * charts.WIDTH * 96 / 390  # points that are 8 when 390 pixels wide


def corner_row(original, four, published):
    """A row of `effects.corners`; accuracies in the order of `effects.CORNERS`."""
    row = dict(zip(effects.CORNERS, four, strict=True))
    row |= {name: np.dot(four, weights) for name, weights in effects.PARTS.items()}
    row |= {"dataset": "CIFAR-10", "network": f"{original}_improved", "original": original}
    row |= {"published_original": published[0], "published_improved": published[1]}
    return row | {"published_gain": published[1] - published[0]}


@pytest.fixture
def corners():
    published = {name.removesuffix("_improved"): effects.PUBLISHED["cifar10", name]
                 for name in ("googlenet_improved", "vgg16_improved", "resnet18_improved")}  # fmt: skip
    four = {
        "googlenet": (0.82, math.nan, math.nan, 0.86),
        "vgg16": (0.75, 0.82, 0.80, 0.85),
        "resnet18": (0.64, 0.80, 0.66, 0.82),
    }
    return pd.DataFrame([corner_row(name, four[name], published[name]) for name in published])


@pytest.fixture
def accuracies():
    """Nine networks as close to each other as they may come out, and not in order."""
    macs = (94, 730, 1372, 1330, 122, 183, 161, 148, 207)
    shares = np.array([0.81, 0.871, 0.885, 0.905, 0.895, 0.902, 0.883, 0.893, 0.904])
    table = pd.DataFrame({"network": [*style.COLOURS], "accuracy": shares, "recipe": "tuned"})
    table = table.assign(macs=np.multiply(macs, 1e6), low=shares - 0.006, high=shares + 0.005)
    table["seeds"] = [1, 3, 3, 3, 4, 4, 3, 4, 4]
    errors = np.linspace(0.04, 0.08, 9)
    table = table.assign(ece=errors[::-1], calibrated_ece=errors / 4)
    table["temperature"] = np.linspace(0.6, 1.7, 9)
    return table.assign(noise=shares - 0.1, blur=shares - 0.3, contrast=shares - 0.4)


@pytest.fixture
def changes():
    effect = np.array([0.001, -0.046, -0.03, -0.008, 0.0025, -0.004, -0.006])
    table = pd.DataFrame({"change": [*charts.CHANGES], "effect": effect, "seeds": 1})
    table["network"] = "resnet18_improved"
    return table.assign(low=effect - 0.006, high=effect + 0.004)


def heights(line):
    return np.asarray(line.get_ydata(), float)


def test_the_corners_stand_where_the_table_has_them(corners):
    figure = charts.corners(corners)
    assert [ax.get_title() for ax in figure.axes] == ["ResNet18", "VGG16", "GoogLeNet"]
    for ax, row in zip(figure.axes, corners.to_dict("records")[::-1], strict=True):
        original, improved, published = ax.lines
        assert original.get_xdata().tolist() == improved.get_xdata().tolist() == [0, 1]
        names = [label.get_text() for label in ax.get_xticklabels()]
        assert names == ["vanilla", "altered"]
        for line, network in ((original, "original"), (improved, "improved")):
            wanted = [100 * row[f"{network}_{name}"] for name in names]
            assert heights(line) == pytest.approx(wanted, nan_ok=True)
        assert original.get_color() == style.COLOURS[row["original"]]
        assert improved.get_color() == style.COLOURS[row["network"]]
        assert len({line.get_marker() for line in ax.lines}) == 3
    published = {ax.get_title(): heights(ax.lines[2]).tolist() for ax in figure.axes}
    assert published == {
        "VGG16": pytest.approx([75.98, 79.02]),
        "ResNet18": pytest.approx([65.53, 81.87]),
        "GoogLeNet": pytest.approx([83.15, 85.85]),
    }


def test_a_panel_says_what_the_gain_is_made_of_or_which_runs_are_missing(corners):
    resnet, _, googlenet = charts.corners(corners).axes
    assert resnet.get_xlabel().splitlines() == [
        "gain +18.0", "training +16.0", "architecture +2.0", "published +16.3"]  # fmt: skip
    assert googlenet.get_xlabel().splitlines() == [
        "missing runs:", "original, altered", "improved, vanilla"]  # fmt: skip


def test_a_gain_that_nobody_published_has_no_diamonds(corners):
    corners[["published_original", "published_improved", "published_gain"]] = math.nan
    figure = charts.corners(corners[:2])
    assert all(np.isnan(heights(ax.lines[2])).all() for ax in figure.axes)
    assert "nan" not in "".join(text.get_text() for text, _ in letters(figure))


def test_changes_are_sorted_and_in_points(changes):
    (ax,) = charts.changes(changes).axes
    order = changes.sort_values("effect")
    drawn = [container.lines for container in ax.containers]
    assert [point.get_xdata().item() for point, *_ in drawn] == pytest.approx(100 * order["effect"])
    ends = [segment[:, 0] for *_, (bar,) in drawn for segment in bar.get_segments()]
    assert np.array(ends) == pytest.approx(100 * order[["low", "high"]].to_numpy())
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [charts.CHANGES[name] for name in order["change"]]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first is on top"
    assert ax.lines[-1].get_xdata() == [0, 0], "zero has a line"
    unknown = changes.assign(change="epochs=1", effect=[0.0, *[math.nan] * 6])
    (ax,) = charts.changes(unknown).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["epochs=1"]


def test_cost_has_a_named_point_a_network(accuracies):
    figure = charts.cost(accuracies)
    (ax,) = figure.axes
    points = [container.lines[0] for container in ax.containers]
    assert [p.get_xdata().item() for p in points] == pytest.approx(accuracies["macs"] / 1e6)
    assert [p.get_ydata().item() for p in points] == pytest.approx(100 * accuracies["accuracy"])
    hollow = [to_rgba(p.get_markerfacecolor()) == to_rgba("white") for p in points]
    assert hollow == (accuracies["seeds"] == 1).tolist()
    assert {text.get_text(): text.xy for text in ax.texts} == {
        style.NAMES[row.network]: pytest.approx((row.macs / 1e6, 100 * row.accuracy))
        for row in accuracies.itertuples()
    }
    places = ax.transData.transform([text.xy for text in ax.texts])
    for name, box in letters(figure):
        assert not any(box.contains(*place) for place in places), name.get_text()


def test_cost_has_three_labels_however_close_the_networks(accuracies):
    for rows in ([0, 6], [2, 3], [6, 7], [0, 1], range(9)):
        (ax,) = charts.cost(accuracies.iloc[list(rows)]).axes
        low, high = ax.get_xlim()
        assert sum(low <= place <= high for place in ax.get_xticks()) >= 3


def test_corrupted_images_have_a_panel_each(accuracies):
    figure = charts.robustness(accuracies)
    table = accuracies.sort_values("accuracy")
    assert [ax.get_title() for ax in figure.axes] == ["noise", "blur", "contrast"]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [style.NAMES[name] for name in table["network"]], "the best is on top"
    for ax in figure.axes:
        clean, corrupted = ([line.get_xdata()[0] for line in ax.lines[k::3]] for k in (1, 2))
        assert clean == pytest.approx(100 * table["accuracy"])
        assert corrupted == pytest.approx(100 * table[ax.get_title()])


def test_calibration_is_before_and_after_the_temperature(accuracies):
    error, temperature = charts.calibration(accuracies).axes
    table = accuracies.sort_values("ece")
    after, before = ([line.get_xdata()[0] for line in error.lines[k::3]] for k in (1, 2))
    assert before == pytest.approx(100 * table["ece"])
    assert after == pytest.approx(100 * table["calibrated_ece"])
    points = [line.get_xdata()[0] for line in temperature.lines if line.get_marker() == "o"]
    assert points == pytest.approx(table["temperature"])


def test_rows_that_are_withheld_are_not_drawn(accuracies):
    accuracies.loc[3, ["accuracy", "low", "high", "ece", "noise", "blur", "contrast"]] = math.nan
    for draw in (charts.cost, charts.robustness, charts.calibration):
        shown = {text.get_text() for text, _ in letters(draw(accuracies))}
        assert not any("VGG16+" in text for text in shown)
        assert "VGG16" in shown


def test_a_network_under_two_recipes_is_named_with_them(accuracies):
    both = pd.concat([accuracies[:2], accuracies[:2].assign(recipe="classic")])
    names = [label.get_text() for label in charts.calibration(both).axes[0].get_yticklabels()]
    assert {"AlexNet, tuned", "AlexNet, classic"} < set(names)


@pytest.mark.parametrize("name", ["corners", "changes", "cost", "robustness", "calibration"])
def test_letters_can_be_read_on_a_telephone(name, request):
    table = request.getfixturevalue(name if name in ("corners", "changes") else "accuracies")
    first, second = (style.encoded(getattr(charts, name)(table), dpi=200) for _ in range(2))
    assert first == second
    assert len(first) < 60_000
    check(getattr(charts, name)(table), ON_A_TELEPHONE)
