"""Every picture, made from runs."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from . import metrics
from .runs import Run

TRAIN, VALIDATION = sns.color_palette("colorblind", 2)
STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False, "grid.alpha": 0.3,
    "lines.linewidth": 1.4, "pdf.fonttype": 42,
}  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """Write a picture as its suffix says; the same data gives the same bytes, so no date goes in."""
    with rc_context(STYLE):
        figure.savefig(path, dpi=150, metadata={"Software": None} if path.suffix == ".png" else {"CreationDate": None})


def _panels(figure: Figure | SubFigure, runs: list[Run], sharey: bool) -> Iterator[tuple[Run, Axes]]:
    """A panel a run, in rows of at most three, with its network and test accuracy for a title."""
    columns = min(3, len(runs))
    axes = figure.subplots(math.ceil(len(runs) / columns), columns, squeeze=False, sharey=sharey).ravel()
    for ax in axes[len(runs) :]:
        ax.set_axis_off()
    for run, ax in zip(runs, axes, strict=False):
        ax.set_title(f"{run.label}  {100 * run.accuracy:.1f} %")
        yield run, ax


def curves(runs: list[Run]) -> Figure:
    """Loss (nats) and accuracy by epoch on training and validation images, a panel a run; test accuracy in the titles."""
    rows = math.ceil(len(runs) / 3)
    with rc_context(STYLE | {"axes.grid": True}):
        figure = Figure(figsize=(12, 0.5 + 1.6 * rows), layout="constrained")
        halves = cast(np.ndarray, figure.subfigures(1, 2))
        for part, what, scale in zip(halves, ("loss", "accuracy"), ("log", "linear"), strict=True):
            part.suptitle(f"{what} by epoch", fontsize=9)
            for number, (run, ax) in enumerate(_panels(part, runs, sharey=True)):
                for split, colour, name in (("train", TRAIN, "training"), ("val", VALIDATION, "validation")):
                    ax.plot(run.history["epoch"], run.history[f"{split}_{what}"], color=colour, label=name)
                ax.set_yscale(scale)
                ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
                if number == 0:
                    ax.legend(frameon=False)
    return figure


def confusions(runs: list[Run]) -> Figure:
    """Test images of each class (row) by predicted class (column), in counts, a panel a run; shades are shares of the row."""
    columns, rows = min(3, len(runs)), math.ceil(len(runs) / 3)
    with rc_context(STYLE):
        figure = Figure(figsize=(4 * columns, 3.9 * rows), layout="constrained")
        for run, ax in _panels(figure, runs, sharey=False):
            classes = run.info["classes"]
            counts = metrics.confusion(run.test["labels"], run.test["predicted"], len(classes))
            shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
            text = np.where(counts > 0, counts.astype(str), "")
            annotate = text if len(classes) <= 12 else False
            sns.heatmap(
                shares, vmin=0, vmax=1, cmap="Blues", cbar=False, square=True, annot=annotate, fmt="",
                annot_kws={"fontsize": 6}, xticklabels=classes, yticklabels=classes, ax=ax,
            )  # fmt: skip
            ax.set(xlabel="predicted", ylabel="true")
    return figure
