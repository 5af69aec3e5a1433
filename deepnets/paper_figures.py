"""The paper's figures, drawn at the size at which they are printed, so that their letters are as
large as they say.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import analysis, figures, metrics
from .analysis import NETWORKS, ORIGINALS, PLAIN, TUNED
from .runs import Run, short_title

COLUMN, PAGE = 3.3, 6.9  # widths of a column and of the text, in inches
FAMILIES = (
    ("alexnet", "vgg11", "resnet20"),
    *((original, improved) for improved, original in ORIGINALS.items()),
)
STYLE: dict[Any, Any] = figures.STYLE | {
    "font.size": 6.5, "axes.titlesize": 6.5, "axes.labelsize": 6.5, "xtick.labelsize": 6, "ytick.labelsize": 6,
    "legend.fontsize": 6, "lines.linewidth": 1.0, "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "grid.linewidth": 0.5, "xtick.major.size": 2, "ytick.major.size": 2, "legend.handlelength": 1.6,
    "legend.labelspacing": 0.25, "legend.borderaxespad": 0.2,
}  # fmt: skip


def of_networks(runs: Sequence[Run], recipe: str) -> dict[str, list[Run]]:
    """The runs, by seed, of each of the paper's networks that there is under a `recipe`, in the
    paper's order.
    """
    found = sorted((run for run in runs if run.recipe == recipe), key=lambda run: run.info["seed"])
    return {
        name: seeds for name in NETWORKS if (seeds := [run for run in found if run.label == name])
    }


def curves(runs: Sequence[Run]) -> Figure:
    """Error on validation images by epoch, mean over seeds: a row a dataset, a panel a family;
    plain dashed, tuned solid.
    """
    datasets = sorted({run.info["dataset"] for run in runs})
    with rc_context(STYLE | {"axes.grid": True}):
        figure = Figure(figsize=(PAGE, 0.55 + 0.85 * len(datasets)), layout="constrained")
        families = [family for family in FAMILIES if any(run.label in family for run in runs)]
        grid = figure.subplots(len(datasets), len(families), squeeze=False, sharey="row")
        for row, dataset in zip(grid, datasets, strict=True):
            shown = [run for run in runs if run.info["dataset"] == dataset]
            lines = [
                (of_networks(shown, recipe), style)
                for recipe, style in ((TUNED, "-"), (PLAIN, "--"))
            ]
            for ax, family in zip(row, families, strict=True):
                for network in family:
                    for found, style in lines:
                        _curve(
                            ax,
                            found.get(network, []),
                            style,
                            figures.COLOURS[network],
                            NETWORKS[network],
                        )
                ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
                low, high = ax.get_ylim()
                figures.log_scale(ax, (1, 1.5, 2, 3, 5, 8) if high < 20 * low else (1, 2, 5))
                ax.set_visible(bool(ax.lines))
            first = next((ax for ax in row if ax.lines), row[0])
            first.set_ylabel(f"{short_title(shown[0].info['dataset_title'])}, error %")
            first.tick_params(labelleft=True)
        for column in grid.T:
            if drawn := [ax for ax in column if ax.lines]:
                drawn[0].legend(
                    frameon=False,
                    loc="lower center",
                    bbox_to_anchor=(0.5, 1),
                    ncols=3,
                    columnspacing=0.8,
                )
                drawn[-1].set_xlabel("epoch")
    return figure


def _curve(ax: Axes, runs: list[Run], line: str, colour: Any, name: str) -> None:
    if runs:
        epochs, errors = (
            runs[0].history["epoch"],
            100 - 100 * np.mean([run.history["val_accuracy"] for run in runs], axis=0),
        )
        label = None if any(drawn.get_label() == name for drawn in ax.lines) else name
        ax.plot(
            epochs,
            errors,
            line,
            color=colour,
            label=label,
            marker="o",
            markersize=1.5 if len(epochs) <= 10 else 0,
        )


def confusion(runs: Sequence[Run]) -> Figure:
    """The confusion matrix, in counts, of the best network under `tuned` on CIFAR-10 or, without
    it, on what there is.
    """
    dataset = min(run.info["dataset"] for run in runs)
    shown = [run for run in runs if run.info["dataset"] == dataset]
    best = analysis.best(
        [run for seeds in of_networks(shown, TUNED).values() for run in seeds] or shown
    )
    classes = best.info["classes"]
    counts = metrics.confusion(best.test["labels"], best.test["predicted"], len(classes))
    with rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 2.0), layout="constrained")
        ax = figure.subplots()
        figures.heatmap(ax, counts, counts, classes, square=False)
        ax.tick_params(length=0)
        ax.set_xticks(ax.get_xticks(), classes, rotation=45, ha="right", rotation_mode="anchor")
        ax.tick_params(axis="y", rotation=0)
    return figure


FIGURES: dict[str, Callable[[Sequence[Run]], Figure]] = {"curves": curves, "confusion": confusion}
