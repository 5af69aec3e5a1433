"""Pictures of the earlier study's tables (`analysis`). To be deleted with the old notebooks."""

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from . import metrics
from .compare.figures import name_of
from .compare.style import BLUE, COLOURS, STYLE, colours, log_scale
from .runs import CORRUPTIONS, Run


def effects(table: pd.DataFrame, title: str = "") -> Figure:
    """Rows of effects (`effect`, `value`, `low`, `high`, in shares, `seeds`) as points with
    intervals, in points of accuracy.

    An interval over test images only is dashed, with a hollow point. An effect that is `stuck`,
    because a cell hardly left the
    accuracy of guessing, is written instead: drawn, it would leave no room for the others.
    """
    with rc_context(STYLE | {"axes.grid": True}):
        figure = Figure(figsize=(5, 0.7 + 0.25 * len(table)), layout="constrained")
        ax = figure.subplots()
        rows = range(len(table))[::-1]
        for place, row in zip(rows, table.to_dict("records"), strict=True):
            value, low, high = (100 * row[name] for name in ("value", "low", "high"))
            if row.get("stuck"):
                text = f"{value:+.2f}: one of the four hardly left guessing"
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
                ax.text(
                    0.02,
                    place,
                    text,
                    color="0.4",
                    va="center",
                    fontsize=7,
                    bbox=box,
                    transform=ax.get_yaxis_transform(),
                )
                continue
            several = row["seeds"] > 1
            inside = BLUE if several else "white"
            ax.plot(
                [low, high], [place, place], "-" if several else "--", color=BLUE, linewidth=1.2
            )
            ax.plot(value, place, "o", color=BLUE, markerfacecolor=inside, markersize=4)
        ax.axvline(0, color="0.4", linewidth=0.8)
        ax.set_yticks(rows, table["effect"])
        ax.set(
            xlabel="points of accuracy, 95 % interval", title=title, ylim=(-0.6, len(table) - 0.4)
        )
    return figure


def crossed(table: pd.DataFrame, found: pd.DataFrame) -> Figure:
    """Both forms of each family under both recipes: the slope is the recipe's effect, the distance
    the architecture's.

    `table` is of `analysis.accuracies`, for one dataset; a panel for each family in `found`, the
    effects of `analysis.two_by_two`, which are in the titles in points of accuracy, unless they
    only say that a cell did not learn: then every panel has a scale of its own. Points are means
    over a cell's seeds, effects over the seeds that the four cells share.
    """
    with rc_context(STYLE | {"axes.grid": True}):
        families = found["network"].unique()
        figure = Figure(figsize=(0.6 + 2.4 * len(families), 2.6), layout="constrained")
        axes = figure.subplots(1, len(families), sharey=not found["stuck"].any(), squeeze=False)[0]
        for ax, improved in zip(axes, families, strict=True):
            effect = found[found["network"] == improved].set_index("effect")
            recipe, architecture = 100 * effect.loc[["recipe", "architecture"], "value"]
            says = f"recipe {recipe:+.2f}, architecture {architecture:+.2f}"
            original = improved.removesuffix("_improved")
            for name, place in ((original, -0.02), (improved, 0.02)):
                rows = table[table["network"] == name].set_index("recipe").loc[["plain", "tuned"]]
                spread = _bars(rows)
                style = {"fmt": "o-", "color": COLOURS[name], "markersize": 4, "label": name}
                ax.errorbar([place, 1 + place], 100 * rows["accuracy"], spread, **style)
            ax.set_title("one of the four hardly left guessing" if effect["stuck"].any() else says)
            ax.set_xticks([0, 1], ["plain", "tuned"])
            ax.set(xlim=(-0.3, 1.3), xlabel="recipe")
            ax.legend(frameon=False, fontsize=7, loc="lower right")
        axes[0].set_ylabel("accuracy %, 95 % interval")
    return figure


def _bars(rows: pd.DataFrame) -> np.ndarray:
    """How far the intervals of rows of `accuracies` reach down and up, in points of accuracy: (2,
    rows).
    """
    return 100 * np.abs(rows[["low", "high"]].to_numpy().T - rows["accuracy"].to_numpy())


def trade_off(table: pd.DataFrame) -> Figure:
    """Error and its interval against parameters, multiply-adds and training time: a point a row of
    `accuracies`.

    Axes are logarithmic: 0.4 % and 0.5 % lie as far apart as 40 % and 50 %. A hollow point has one
    seed, and an interval over test images only.
    """
    with rc_context(STYLE | {"axes.grid": True}):
        figure = Figure(figsize=(11, 3.2), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True)
        costs = {
            "parameters": "parameters",
            "macs": "multiply-adds an image",
            "core_seconds": "core-seconds of training",
        }
        parts = table.groupby("network", sort=False)
        for ax, (column, label) in zip(axes, costs.items(), strict=True):
            for (network, row), colour in zip(parts, colours(list(parts.groups)), strict=True):
                inside = colour if (row["seeds"] > 1).all() else "white"
                style = {
                    "fmt": "o",
                    "color": colour,
                    "markerfacecolor": inside,
                    "markersize": 4,
                    "label": network,
                }
                ax.errorbar(row[column], 100 - 100 * row["accuracy"], _bars(row)[::-1], **style)
            ax.set(xscale="log", xlabel=label)
            subs = (
                (1, 3) if table[column].max() > 10 * table[column].min() else (1, 1.5, 2, 3, 5, 7)
            )
            ax.xaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
            ax.xaxis.set_minor_formatter(NullFormatter())
            log_scale(ax, (1, 2, 3, 5, 7))
        axes[0].set(ylabel="error %, 95 % interval")
        axes[2].legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def robustness(table: pd.DataFrame) -> Figure:
    """Accuracy on the same few test images as they are and under each corruption: a line a row of
    `accuracies`.
    """
    with rc_context(STYLE | {"axes.grid": True}):
        figure = Figure(figsize=(7, 0.8 + 0.2 * len(table)), layout="constrained")
        ax = figure.subplots()
        for kind, marker in zip(("clean", *CORRUPTIONS), "osv^", strict=True):
            ax.plot(100 * table[kind], table["network"], marker, markersize=4, label=kind)
        ax.invert_yaxis()  # the first row on top
        ax.set(xlabel="accuracy %")
        figure.legend(loc="outside right center", frameon=False, fontsize=7)
    return figure


def reliability(runs: list[Run]) -> Figure:
    """How often predictions of a given confidence are right, a line a run; the diagonal is
    honest.
    """
    with rc_context(STYLE | {"axes.grid": True}):
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
        for run, colour in zip(runs, colours([run.label for run in runs]), strict=True):
            points = metrics.reliability(run.test["probabilities"].max(1), run.correct)
            name = f"{name_of(run)}, ECE {run.info['test_ece']:.3f}"
            ax.plot(*points, color=colour, marker="o", markersize=3, label=name)
        ax.set(xlabel="confidence", ylabel="share right", xlim=(0, 1), ylim=(0, 1))
        figure.legend(loc="outside right center", frameon=False, fontsize=7)
    return figure
