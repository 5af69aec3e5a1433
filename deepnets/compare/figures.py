"""Pictures of runs: learning curves, confusion matrices, representations, filters."""

import math
from typing import Any, cast

import numpy as np
import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from .. import metrics
from ..runs import Run
from .style import BLUE, GRID, NAMES, ORANGE, STYLE, move_apart


def network(run: Run) -> str:
    """Returns the network's name as people write it: ResNet18+."""
    return NAMES.get(run.label, run.label)


def name_of(run: Run) -> str:
    """Returns network and recipe."""
    return f"{network(run)}, {run.recipe}"


@rc_context(GRID)
def curves(runs: list[Run]) -> Figure:
    """Draws loss (nats) and accuracy (%) by epoch, in training and validation: two panels a run.

    Titles have the test accuracy.
    """
    height = 0.4 + 1.6 * math.ceil(len(runs) / 3)
    both = np.concatenate([run.history[["train_loss", "val_loss"]].to_numpy() for run in runs])
    figure = Figure(figsize=(2.9 * min(3, len(runs)), 2 * height), layout="constrained")
    halves = cast(np.ndarray, figure.subfigures(2, 1))
    columns, scales = ("loss", "accuracy"), (1, 100)
    for part, what, scale in zip(halves, columns, scales, strict=True):
        part.supylabel(what if scale == 1 else f"{what} (%)", fontsize=8)
        part.supxlabel("epoch", fontsize=8)
        for run, ax in zip(runs, _panels(part, runs, 3, sharey=True), strict=True):
            for split, colour in (("train", BLUE), ("val", ORANGE)):
                ax.plot(run.history["epoch"], scale * run.history[f"{split}_{what}"], color=colour)
            if what == "loss" and both.max() > 5 * both.min():
                ax.set_yscale("log")
                ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
                ax.yaxis.set_major_formatter("{x:g}")
                ax.yaxis.set_minor_formatter(NullFormatter())
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    handles = [Line2D([], [], color=colour) for colour in (BLUE, ORANGE)]
    names = ["training images", "validation images"]
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


@rc_context(STYLE)
def confusions(runs: list[Run]) -> Figure:
    """Draws a confusion matrix a run; titles have the test accuracy.

    The shades are shares of the true class. The counts of test images are written if there are at
    most twelve classes.
    """
    columns, rows = min(2, len(runs)), math.ceil(len(runs) / 2)
    figure = Figure(figsize=(4.4 * columns, 4.3 * rows), layout="constrained")
    for run, ax in zip(runs, _panels(figure, runs, 2, sharey=False), strict=True):
        classes, test = run.info.classes, run.test
        counts = metrics.confusion(test["labels"], test["predicted"], len(classes))
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        text = np.where(counts > 0, counts.astype(str), "")
        sns.heatmap(
            shares, vmin=0, vmax=1, cmap="Blues", cbar=False, square=True, ax=ax,
            annot=text if len(classes) <= 12 else False, fmt="", annot_kws={"fontsize": 8},
            xticklabels=classes, yticklabels=classes,
        )  # fmt: skip
        ax.tick_params(axis="x", rotation=90 if max(map(len, classes)) > 3 else 0)
        ax.tick_params(axis="y", rotation=0)
        ax.set(xlabel="predicted", ylabel="true")
    return figure


@rc_context(STYLE)
def representation(run: Run) -> Figure:
    """Draws the test set in the first two principal components of the network's features.

    A colour a class, whose name stands at the median of its images, or above or below it where
    another name does. Of many images every second, third, ... is drawn, 2,500 at most.
    """
    points, labels = run.view("pca"), run.test["labels"]
    palette = np.array(sns.color_palette("colorblind", len(run.info.classes)))
    shown = slice(None, None, math.ceil(len(points) / 2500))
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    ax = figure.subplots()
    x, y = points[shown].T
    side, shade = 4 if len(points) > 2000 else 10, palette[labels[shown]]
    ax.scatter(x, y, s=side, c=shade, alpha=0.6, linewidths=0, rasterized=True)
    for k in np.unique(labels):
        middle, dark = np.median(points[labels == k], axis=0), tuple(0.7 * palette[k])
        where: dict[str, Any] = {"xytext": (0, 0), "textcoords": "offset points"}
        where |= {"ha": "center", "va": "center", "annotation_clip": False}
        name = ax.annotate(run.info.classes[k], middle, color=dark, **where)
        name.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    # A network that gives all images the same answer has no variance.
    first, second = 100 * np.nan_to_num(run.views["pca_share"])
    ax.set(xlabel=f"first component, {first:.0f} % of the variance", title=name_of(run))
    ax.set(ylabel=f"second component, {second:.0f} %")
    ax.locator_params(nbins=5)  # small components have long numbers
    figure.draw_without_rendering()  # only then is it known where the names are
    move_apart(ax)
    return figure


@rc_context(STYLE)
def filters(run: Run) -> Figure:
    """Draws the windows of the first convolution, each from black at its least to white."""
    windows = run.view("filters")
    low, high = (f(windows, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    windows = (windows - low) / np.maximum(high - low, 1e-9)
    rows = math.ceil(len(windows) / 16)
    figure = Figure(figsize=(7.2, rows * 0.45 + 0.3), layout="constrained")
    figure.suptitle(name_of(run))
    axes = figure.subplots(rows, 16, squeeze=False).ravel()
    for ax, window in zip(axes, windows, strict=False):
        ax.imshow(window.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=1)
    for ax in axes:
        ax.set_axis_off()
    return figure


def _panels(figure: Figure | SubFigure, runs: list[Run], columns: int, sharey: bool) -> list[Axes]:
    """Returns a panel a run, titled with network and test accuracy.

    Where a network is there more than once, recipe and seed are in the titles, too.
    """
    columns = min(columns, len(runs))
    rows = math.ceil(len(runs) / columns)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
    for ax in axes[len(runs) :]:
        ax.set_axis_off()
    repeated = len({run.label for run in runs}) < len(runs)
    for run, ax in zip(runs, axes, strict=False):
        name = f"{name_of(run)}, {run.info.seed}" if repeated else network(run)
        ax.set_title(f"{name}  {100 * run.accuracy:.2f} %")
    return [*axes[: len(runs)]]
