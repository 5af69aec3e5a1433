"""Pictures of runs: learning curves, confusion matrices, test images, what a network sees."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from .. import metrics
from ..runs import Run
from .style import BLUE, GREY, GRID, NAMES, ORANGE, RED, STYLE, colours, lines, log_scale


def network(run: Run) -> str:
    """Returns the network's name as people write it: ResNet18+."""
    return NAMES.get(run.label, run.label)


def name_of(run: Run) -> str:
    """Returns network and recipe."""
    return f"{network(run)}, {run.recipe}"


def losses(runs: list[Run]) -> Figure:
    """Draws the loss (nats) on training images by epoch: a colour a network, a line a run."""
    with rc_context(GRID):
        figure = Figure(figsize=(5.5, 2.8), layout="constrained")
        ax = figure.subplots()
        for run, colour in zip(runs, colours([run.label for run in runs]), strict=True):
            new = network(run) not in [line.get_label() for line in ax.lines]
            loss, label = run.history["train_loss"], network(run) if new else ""
            ax.plot(run.history["epoch"], loss, color=colour, label=label)
        log_scale(ax)
        ax.set(xlabel="epoch", ylabel="loss on training images")
        figure.legend(loc="outside right center")
    return figure


def curves(runs: list[Run]) -> Figure:
    """Draws loss (nats) and accuracy by epoch on training and validation images: two panels a run.

    Titles have the test accuracy.
    """
    height = 0.4 + 1.6 * math.ceil(len(runs) / 3)
    with rc_context(GRID):
        figure = Figure(figsize=(2.9 * min(3, len(runs)), 2 * height), layout="constrained")
        halves = cast(np.ndarray, figure.subfigures(2, 1))
        for part, what in zip(halves, ("loss", "accuracy"), strict=True):
            part.supylabel(what, fontsize=8)
            part.supxlabel("epoch", fontsize=8)
            for run, ax in zip(runs, _panels(part, runs, 3, sharey=True), strict=True):
                for split, colour in (("train", BLUE), ("val", ORANGE)):
                    ax.plot(run.history["epoch"], run.history[f"{split}_{what}"], color=colour)
                if what == "loss":
                    log_scale(ax)
                ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        handles = [Line2D([], [], color=colour) for colour in (BLUE, ORANGE)]
        names = ["training images", "validation images"]
        figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


def together(runs: list[Run]) -> Figure:
    """Draws loss and accuracy by epoch, all runs on the same axes.

    A network has a colour and a recipe a line style; training images have thin, pale lines.
    """
    looks = zip(
        runs, colours([r.label for r in runs]), lines([r.recipe for r in runs]), strict=True
    )
    with rc_context(GRID):
        figure = Figure(figsize=(8, 3 + 0.2 * math.ceil((len(runs) + 2) / 3)), layout="constrained")
        axes = figure.subplots(1, 2)
        for run, colour, line in looks:
            style = {"color": colour, "linestyle": line}
            for ax, what in zip(axes, ("loss", "accuracy"), strict=True):
                x, y = run.history["epoch"], run.history[f"val_{what}"]
                ax.plot(x, y, label=name_of(run), **style)
                ax.plot(x, run.history[f"train_{what}"], linewidth=0.9, alpha=0.55, **style)
        for ax, what in zip(axes, ("loss (nats)", "accuracy"), strict=True):
            ax.set(ylabel=what, xlabel="epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        both = np.concatenate([run.history[["train_loss", "val_loss"]].to_numpy() for run in runs])
        if both.max() > 5 * both.min():
            log_scale(axes[0])
        shown = dict(zip(*axes[1].get_legend_handles_labels()[::-1], strict=True))
        shown["validation images"] = Line2D([], [], color=GREY)
        shown["training images"] = Line2D([], [], color=GREY, linewidth=0.9, alpha=0.55)
        figure.legend([*shown.values()], [*shown], loc="outside lower center", ncols=3)
    return figure


def confusions(runs: list[Run]) -> Figure:
    """Draws a confusion matrix a run, in counts of test images; titles have the test accuracy."""
    columns, rows = min(2, len(runs)), math.ceil(len(runs) / 2)
    with rc_context(STYLE):
        figure = Figure(figsize=(4.4 * columns, 4.3 * rows), layout="constrained")
        for run, ax in zip(runs, _panels(figure, runs, 2, sharey=False), strict=True):
            heatmap(ax, *_counts(run), run.info.classes)
    return figure


def confusion(run: Run) -> Figure:
    """Draws a run's confusion matrix in counts and, if the classes' sizes differ, in shares."""
    classes, (counts, written) = run.info.classes, _counts(run)
    sizes = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(sizes, 1)
    panels = {"images": written, "share of the true class": _written(shares, "%.2f", 0.005)}
    if np.ptp(sizes) == 0:
        panels = {"": written}
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(panels), 4.4), layout="constrained")
        correct, total = run.info.test_correct, run.info.test_total
        figure.suptitle(f"{name_of(run)}: {correct:,} of {total:,} right")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, text) in zip(axes, panels.items(), strict=True):
            heatmap(ax, counts, text, classes)
            ax.set_title(title)
    return figure


def heatmap(ax: Axes, counts: np.ndarray, text: np.ndarray, classes: Sequence[str]) -> None:
    """Draws a confusion matrix (true class, predicted class) in shades of the rows' shares.

    Cells have the `text` of their place if there are at most twelve classes.
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    sns.heatmap(
        shares, vmin=0, vmax=1, cmap="Blues", cbar=False, square=True, ax=ax,
        annot=text if len(classes) <= 12 else False, fmt="", annot_kws={"fontsize": 8},
        xticklabels=classes, yticklabels=classes,
    )  # fmt: skip
    ax.tick_params(axis="x", rotation=90 if max(map(len, classes)) > 3 else 0)
    ax.tick_params(axis="y", rotation=0)
    ax.set(xlabel="predicted", ylabel="true")


def per_class(runs: list[Run]) -> Figure:
    """Draws the accuracy on each class with its 95 % interval, the runs beside each other."""
    classes = runs[0].info.classes
    recipes = [*dict.fromkeys(run.recipe for run in runs)]
    with rc_context(GRID):
        figure = Figure(figsize=(8, 3), layout="constrained")
        ax = figure.subplots()
        ax.grid(False, axis="x")
        for number, (run, colour) in enumerate(
            zip(runs, colours([run.label for run in runs]), strict=True)
        ):
            right = [run.correct[run.test["labels"] == k] for k in range(len(classes))]
            shares = np.array([part.mean() for part in right])
            ends = [metrics.accuracy_interval(int(part.sum()), len(part)) for part in right]
            place = np.arange(len(classes)) + 0.6 * ((number + 0.5) / len(runs) - 0.5)
            look: dict[str, Any] = {"fmt": "osD^v"[recipes.index(run.recipe) % 5], "color": colour}
            look |= {"markersize": 3.5, "linewidth": 1, "label": name_of(run)}
            ax.errorbar(place, shares, np.abs(np.transpose(ends) - shares), **look)
        ax.set_xticks(range(len(classes)), classes)
        ax.set(ylabel="accuracy")
        figure.legend(loc="outside lower center", ncols=4)
    return figure


def gallery(run: Run, images: np.ndarray, chosen: Sequence[int], title: str = "") -> Figure:
    """Draws some test images with what the run says and how sure it is; mistakes stand out.

    Args:
        run: one whose predictions are written above the images.
        images: all test images, (N, C, H, W), uint8.
        chosen: places of the images to draw.
        title: above the picture; network and recipe unless given.
    """
    rows = max(1, math.ceil(len(chosen) / 8))
    columns = max(1, math.ceil(len(chosen) / rows))
    classes, labels, predicted = run.info.classes, run.test["labels"], run.test["predicted"]
    with rc_context(STYLE):
        figure = Figure(figsize=(1.1 * columns, 0.3 + 1.55 * rows), layout="constrained")
        figure.suptitle(title or name_of(run))
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes:
            ax.set_axis_off()
        for ax, index in zip(axes, chosen, strict=False):
            ax.imshow(_picture(images[index]), cmap="gray", vmin=0, vmax=255)
            right = predicted[index] == labels[index]
            sure = f"{100 * run.test['probabilities'][index].max():.0f} %"
            text = sure if right else f"{sure}\nis {classes[labels[index]]}"
            colour = "black" if right else RED
            ax.set_title(f"{classes[predicted[index]]}\n{text}", color=colour)
    return figure


def pictures(
    rows: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Draws a table of images, (C, H, W), uint8, with names of its columns and of its rows."""
    width = max(map(len, rows))
    height = len(rows) + 0.3 * bool(columns) + 0.3 * bool(title)
    with rc_context(STYLE):
        figure = Figure(figsize=(0.9 * width, 0.9 * height), layout="constrained")
        figure.suptitle(title)
        axes = figure.subplots(len(rows), width, squeeze=False)
        for ax in axes.ravel():
            ax.set(xticks=[], yticks=[], frame_on=False)
        for line, row in zip(axes, rows, strict=True):
            for ax, image in zip(line, row, strict=False):
                ax.imshow(_picture(image), cmap="gray", vmin=0, vmax=255)
        for ax, name in zip(axes[0], columns, strict=False):
            ax.set_title(name)
        for ax, name in zip(axes[:, 0], names, strict=False):
            ax.set_ylabel(name)
    return figure


def representation(run: Run) -> Figure:
    """Draws the test set in the first two principal components of the network's features.

    A colour a class, whose name stands at the median of its images. Of many images every second,
    third, ... is drawn, 2,500 at most.
    """
    points, labels = run.view("pca"), run.test["labels"]
    palette = np.array(sns.color_palette("colorblind", len(run.info.classes)))
    shown = slice(None, None, math.ceil(len(points) / 2500))
    with rc_context(STYLE):
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        ax = figure.subplots()
        look: dict[str, Any] = {"s": 4 if len(points) > 2000 else 10, "alpha": 0.6}
        x, y = points[shown].T
        ax.scatter(x, y, c=palette[labels[shown]], linewidths=0, rasterized=True, **look)
        for k in np.unique(labels):
            x, y = np.median(points[labels == k], axis=0)
            place: dict[str, Any] = {
                "color": tuple(0.7 * palette[k]),
                "ha": "center",
                "va": "center",
            }
            name = ax.text(x, y, run.info.classes[k], **place)
            name.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        # A network that gives all images the same answer has no variance.
        first, second = 100 * np.nan_to_num(run.views["pca_share"])
        ax.set(xlabel=f"first component, {first:.0f} % of the variance", title=name_of(run))
        ax.set(ylabel=f"second component, {second:.0f} %")
        ax.locator_params(nbins=5)  # small components have long numbers
    return figure


def filters(run: Run) -> Figure:
    """Draws the windows of the first convolution, each stretched to the full range of brightness."""
    windows = run.view("filters")
    low, high = (f(windows, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    windows = (windows - low) / np.maximum(high - low, 1e-9)
    rows = math.ceil(len(windows) / 16)
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, rows * 0.45 + 0.3), layout="constrained")
        figure.suptitle(name_of(run))
        axes = figure.subplots(rows, 16, squeeze=False).ravel()
        for ax, window in zip(axes, windows, strict=False):
            ax.imshow(_picture(window), cmap="gray", vmin=0, vmax=1)
        for ax in axes:
            ax.set_axis_off()
    return figure


def attention(run: Run, images: np.ndarray) -> Figure:
    """Draws where the network sees the class (Grad-CAM) in the first test image of each class.

    Images are all test images, (N, C, H, W), uint8; the classes of mistakes stand out.
    """
    maps = run.view("cam")
    classes, first = np.unique(run.test["labels"], return_index=True)
    with rc_context(STYLE):
        figure = Figure(figsize=(0.9 * len(maps), 1.6), layout="constrained")
        size = f"{maps.shape[1]}x{maps.shape[2]}"
        figure.suptitle(f"{name_of(run)}: Grad-CAM on {run.views['cam_stage']}, {size}")
        axes = figure.subplots(1, len(maps), squeeze=False)[0]
        for ax, heat, k, index in zip(axes, maps, classes, first, strict=False):
            image = _picture(images[index])
            where = {"extent": (0, len(image), len(image), 0)}
            ax.imshow(image, cmap="gray", **where)
            ax.imshow(heat, cmap="inferno", alpha=0.5, interpolation="bilinear", **where)
            found = "" if heat.any() else "no place"
            colour = "black" if run.test["predicted"][index] == k else RED
            ax.set_title(f"{run.info.classes[k]}\n{found}".strip(), color=colour)
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
        ax.set_title(f"{name}  {100 * run.accuracy:.1f} %")
    return [*axes[: len(runs)]]


def _counts(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Returns a run's confusion matrix in counts of test images, and these as text."""
    test = run.test
    counts = metrics.confusion(test["labels"], test["predicted"], len(run.info.classes))
    return counts, _written(counts, "%d", 1)


def _written(values: np.ndarray, form: str, least: float) -> np.ndarray:
    """Returns the values as text, empty for those below `least`."""
    return np.where(values >= least, np.char.mod(form, values), "")


def _picture(image: np.ndarray) -> np.ndarray:
    """Returns an image (C, H, W) as matplotlib wants it."""
    return image.transpose(1, 2, 0) if len(image) == 3 else image[0]
