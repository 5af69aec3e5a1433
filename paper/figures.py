"""Draws the figures of the paper: charts of deepnets.compare at the size that is printed."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from assets import make as diagrams
from deepnets import metrics, notebook
from deepnets.compare import charts, style
from deepnets.runs import Run

SHOWN = 20  # images that a confusion needs to have its number written
MISTAKES = 3, 4  # rows and columns of images


def drawn(tables: Mapping[str, pd.DataFrame], run: Run) -> dict[str, bytes]:
    """Returns the figures (PDF) by their names."""
    ours = {name: table[table["dataset"] == "CIFAR-10"] for name, table in tables.items()}
    rows = ours["accuracies"]
    rows = rows[(rows["recipe"] == "tuned") & rows["options"].isna()]
    made = {
        "corners": printed(charts.corners(ours["corners"]), 4.3, 3.1),
        "calibration": printed(charts.calibration(rows), 3.3, 2.1),
        "robustness": printed(charts.robustness(rows), 3.6, 2.1),
    }
    unscaled = {"mistakes": mistakes(run), "blocks": diagrams.figure("blocks")}
    return made | {name: style.encoded(figure, kind="pdf") for name, figure in unscaled.items()}


def printed(figure: Figure, width: float, height: float) -> bytes:
    """Returns a chart as PDF whose letters have 8 points when it is printed so many inches wide."""
    figure.set_size_inches(*(charts.POINTS / 8 * np.array([width, height])))
    return style.encoded(figure, kind="pdf")


def best(found: Sequence[Run]) -> list[Run]:
    """Returns the first seed of the most accurate network of `tuned` on CIFAR-10, if any."""
    rows = [run for run in found if run.info.dataset == "cifar10" and run.info.seed == 0]
    rows = [run for run in rows if run.recipe == "tuned" and not run.info.options]
    return sorted(rows, key=lambda run: -run.accuracy)[:1]


def confusion(run: Run) -> np.ndarray:
    """Returns the test images by class (row) and predicted class (column)."""
    return metrics.confusion(run.test["labels"], run.test["predicted"], len(run.info.classes))


def facts(run: Run) -> dict[str, str]:
    """Returns in words what the confusion matrix of a run says."""
    counts, names = confusion(run), run.info.classes
    right = np.diag(counts)
    wrong = counts - np.diag(right)
    label, answer = np.unravel_index(wrong.argmax(), wrong.shape)
    return {
        "network": style.NAMES[run.info.model], "count": str(wrong.max()), "true": names[label],
        "predicted": names[answer], "best": names[right.argmax()], "worst": names[right.argmin()],
    }  # fmt: skip


@rc_context(style.STYLE)
def mistakes(run: Run) -> Figure:
    """Draws a run's confusion matrix, and its surest mistakes beside it, 7 inches wide."""
    counts, names = confusion(run), run.info.classes
    figure = Figure(figsize=(7, 3.1), layout="constrained")
    parts = figure.subfigures(1, 2, width_ratios=(3.6, 3.4))
    left, right = cast(np.ndarray, parts)
    ax = left.subplots()
    ax.imshow(counts / counts.sum(1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="predicted", ylabel="true")
    for i, k in zip(*np.nonzero(counts >= SHOWN), strict=True):
        colour = "white" if i == k else "black"
        ax.text(k, i, counts[i, k], ha="center", va="center", color=colour)
    chosen = notebook.surest_mistakes(run, MISTAKES[0] * MISTAKES[1])
    images = notebook.images_of(run)[chosen].transpose(0, 2, 3, 1)
    axes = right.subplots(*MISTAKES).ravel()
    for ax, image, i in zip(axes, images, chosen, strict=True):
        ax.imshow(image)
        ax.set_axis_off()
        ax.set_title(f"{names[run.test['predicted'][i]]}?\nlabel {names[run.test['labels'][i]]}")
    return figure
