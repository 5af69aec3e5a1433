"""Pictures of the tables of `effects`: each has the rows of one dataset, and of one recipe.

They are 5.2 inches wide. Their letters have 8 points or more down to 390 pixels, a telephone.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from ..info import CORRUPTIONS
from .effects import ALTERED, CORNERS, VANILLA
from .style import BLUE, GREY, GRID, NAMES, colours, move_apart

WIDTH, POINTS = 5.2, 10.5
CHART = GRID | dict.fromkeys(("font.size", "axes.titlesize", "legend.fontsize"), POINTS)
PUBLISHED_POINT: dict[str, Any] = {
    "linestyle": "", "marker": "D", "markersize": 7, "color": "black", "markerfacecolor": "none",
}  # fmt: skip
TIGHT: dict[str, Any] = {"handlelength": 1.6, "columnspacing": 1.2, "handletextpad": 0.5}
# Plain words for the single changes of studies/changes.toml
CHANGES = {
    "augment=none": "no augmentation",
    "schedule=constant": "constant learning rate",
    "weight_decay=0.0": "no weight decay",
    "label_smoothing=0.0": "no label smoothing",
    "stem=7x7": "7x7 stem",
    "stem_norm=False": "no batch norm in the stem",
    "dropout=0.0": "no dropout",
}


@rc_context(CHART)
def corners(table: pd.DataFrame) -> Figure:
    """Draws the published gains taken apart, from rows of `effects.corners`: a panel a family.

    A line a network goes from its accuracy under the first training to that under the second: its
    slope is the training's effect, the lines' distance the architecture's. Diamonds are what was
    published. Below a panel stands the gain's make-up, or which runs are missing.
    """
    table = table.sort_values("published_gain", ascending=False, kind="stable")
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots(1, len(table), sharey=True, squeeze=False)[0]
    for ax, row in zip(axes, table.to_dict("records"), strict=True):
        networks = row["original"], row["network"]
        kinds = zip(("original", "improved"), colours(networks), "os", strict=True)
        for kind, colour, marker in kinds:
            values = [100 * row[f"{kind}_{recipe}"] for recipe in (VANILLA, ALTERED)]
            ax.plot([0, 1], values, color=colour, marker=marker, markersize=6)
        published = [100 * row["published_original"], 100 * row["published_improved"]]
        ax.plot([-0.3, 1.3], published, **PUBLISHED_POINT)
        ax.set_title(NAMES.get(row["original"], row["original"]), fontweight="bold")
        ax.set_xticks([0, 1], [VANILLA, ALTERED])
        ax.set(xlim=(-0.55, 1.55), xlabel=_made_of(row))
        ax.xaxis.labelpad = 8
        ax.margins(y=0.12)
        ax.grid(False, axis="x")
    axes[0].set_ylabel("test accuracy (%)")
    looks = [{"color": "0.65", "marker": "o"}, {"color": "0.2", "marker": "s"}, PUBLISHED_POINT]
    handles = [Line2D([], [], **look) for look in looks]
    names = ["original network", "improved network", "published"]
    figure.legend(handles, names, loc="outside upper center", ncols=3, **TIGHT)
    return figure


def _made_of(row: dict[str, Any]) -> str:
    """Returns the gain and its parts in points, or which of its four runs are missing."""
    missing = [corner.replace("_", ", ") for corner in CORNERS if math.isnan(row[corner])]
    if missing:
        return "\n".join(["missing runs:", *missing])
    parts = {name: row[name] for name in ("gain", "training", "architecture")}
    parts["published"] = row["published_gain"]
    return "\n".join(f"{k} {100 * gain:+.1f}" for k, gain in parts.items() if not math.isnan(gain))


@rc_context(CHART)
def changes(table: pd.DataFrame) -> Figure:
    """Draws rows of `effects.changes` as effects with their 95 % intervals, in points, sorted.

    Hollow points are one training each.
    """
    table = table.sort_values("effect", kind="stable")
    names = table["change"].replace(CHANGES)
    if table["network"].nunique() > 1:
        names = names + ", " + table["network"].replace(NAMES)
    figure = Figure(figsize=(WIDTH, 0.8 + 0.3 * len(table)), layout="constrained")
    ax = figure.subplots()
    intervals(ax, table, "effect", names)
    ax.axvline(0, color=GREY, linewidth=1)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set(xlabel="change of accuracy (points)", ylim=(len(table) - 0.5, -0.5))
    ax.grid(False, axis="y")
    return figure


def intervals(ax: Axes, table: pd.DataFrame, column: str, names: pd.Series) -> None:
    """Draws shares with their 95 % intervals, in per cent, a row each under its name."""
    for place, row in enumerate(table.to_dict("records")):
        reach, look = _interval(row, column, BLUE)
        ax.errorbar(100 * row[column], place, xerr=reach, **look)
    ax.set_yticks(range(len(table)), names)


@rc_context(CHART)
def cost(table: pd.DataFrame) -> Figure:
    """Draws accuracy with its 95 % interval against multiply-adds: a named point a network.

    Takes rows of `effects.accuracies`. Hollow points are one training.
    """
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    ax = figure.subplots()
    rows = table.to_dict("records")
    for row, colour in zip(rows, colours([*table["network"]]), strict=True):
        reach, look = _interval(row, "accuracy", colour)
        ax.errorbar(row["macs"] / 1e6, 100 * row["accuracy"], yerr=reach, **look)
    ax.set_xscale("log")
    ax.set(xlabel="million multiply-adds an image", ylabel="test accuracy (%)")
    ax.margins(0.15, 0.12)
    low, high = ax.get_xlim()
    few = MaxNLocator(6, steps=(1, 2, 5, 10))  # 1, 2, 5 would label a point or two
    ax.xaxis.set_major_locator(few if high < 10 * low else LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    _name_points(figure, ax, table)
    return figure


def _name_points(figure: Figure, ax: Axes, table: pd.DataFrame) -> None:
    """Writes each network's name beside its point, towards the middle, with a line to it."""
    places = np.c_[table["macs"] / 1e6, 100 * table["accuracy"]]
    look: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
    look["arrowprops"] = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkB": 3}
    middle = math.sqrt(math.prod(ax.get_xlim()))
    for name, place in zip(_names(table), places, strict=True):
        aside = {"xytext": (9, 0)} if place[0] < middle else {"xytext": (-9, 0), "ha": "right"}
        ax.annotate(name, place, **look, **aside)
    figure.draw_without_rendering()  # only then is it known where the points are
    ends = (np.c_[places[:, 0], 100 * table[end]] for end in ("low", "high"))
    pairs = zip(*map(ax.transData.transform, ends), strict=True)
    move_apart(ax, [Bbox(pair).padded(7) for pair in pairs])


@rc_context(CHART)
def robustness(table: pd.DataFrame) -> Figure:
    """Draws accuracy on clean and on corrupted test images: a panel a corruption, a row a network.

    Takes rows of `effects.accuracies`; the most accurate network is on top.
    """
    table = table.sort_values("accuracy", kind="stable")
    figure, axes = _rows(table, len(CORRUPTIONS), sharex=True)
    for ax, kind in zip(axes, CORRUPTIONS, strict=True):
        _pairs(ax, table, 100 * table[kind], 100 * table["accuracy"])
        ax.set_title(kind)
    figure.supxlabel("test accuracy (%)", fontsize=POINTS)
    _legend(figure, "corrupted images", "clean images")
    return figure


@rc_context(CHART)
def calibration(table: pd.DataFrame) -> Figure:
    """Draws calibration error before and after temperature scaling, and the temperature.

    Takes rows of `effects.accuracies`; the most accurate network is on top, as in `robustness`. A
    temperature above 1 says that a network was too sure.
    """
    table = table.sort_values("accuracy", kind="stable")
    figure, (error, temperature) = _rows(table, 2)
    _pairs(error, table, 100 * table["ece"], 100 * table["calibrated_ece"])
    error.set(xlabel="calibration error (%)", xlim=(0, None))
    _pairs(temperature, table, table["temperature"], pd.Series(1.0, table.index), hollow=False)
    temperature.axvline(1, color=GREY, linewidth=1)
    temperature.set(xlabel="temperature", xscale="log")
    temperature.xaxis.set_major_locator(FixedLocator([0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5]))
    temperature.xaxis.set_minor_locator(NullLocator())
    temperature.xaxis.set_major_formatter("{x:g}")
    _legend(figure, "as trained", "temperature scaled")
    return figure


def _rows(table: pd.DataFrame, panels: int, sharex: bool = False) -> tuple[Figure, Sequence[Axes]]:
    """Returns a figure of panels side by side that share a row, from below, for each network."""
    figure = Figure(figsize=(WIDTH, 1.3 + 0.26 * len(table)), layout="constrained")
    axes = figure.subplots(1, panels, sharex=sharex, sharey=True, squeeze=False)[0]
    axes[0].set_yticks(range(len(table)), _names(table))
    axes[0].set_ylim(-0.6, len(table) - 0.4)
    for ax in axes:
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10)))
        ax.margins(x=0.12)
        ax.grid(False, axis="y")
    return figure, axes


def _pairs(
    ax: Axes, table: pd.DataFrame, first: pd.Series, second: pd.Series, hollow: bool = True
) -> None:
    """Draws two values a network in its colour: a filled and a hollow point, a line between."""
    looks = zip(colours([*table["network"]]), first, second, strict=True)
    for place, (colour, a, b) in enumerate(looks):
        ax.plot([a, b], [place, place], color=colour)
        if hollow:
            ax.plot(b, place, "o", color=colour, markerfacecolor="white", markersize=5.5)
        ax.plot(a, place, "o", color=colour, markersize=5.5)


def _legend(figure: Figure, filled: str, hollow: str) -> None:
    look: dict[str, Any] = {"marker": "o", "linestyle": "", "color": GREY, "markersize": 5.5}
    handles = [Line2D([], [], **look), Line2D([], [], markerfacecolor="white", **look)]
    figure.legend(handles, [filled, hollow], loc="outside upper center", ncols=2, **TIGHT)


def _interval(row: dict[str, Any], column: str, colour: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns how far a share's interval reaches, in per cent, and the look of its point.

    The point is hollow unless it is of several seeds.
    """
    inside = colour if row["seeds"] > 1 else "white"
    look = {"fmt": "o", "color": colour, "markerfacecolor": inside, "markersize": 6}
    return 100 * np.array([[row[column] - row["low"]], [row["high"] - row[column]]]), look


def _names(table: pd.DataFrame) -> pd.Series:
    """Returns networks' names, with the recipe where a network is there more than once."""
    names = table["network"].replace(NAMES)
    return names if names.is_unique else names + ", " + table["recipe"]
