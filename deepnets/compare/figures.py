"""Every picture, made from runs."""

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pandas as pd
import seaborn as sns
from cycler import cycler
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from .. import disk, metrics
from ..runs import CORRUPTIONS, Run

TRAIN, VALIDATION = sns.color_palette("colorblind", 2)
SECOND, WRONG = sns.color_palette("colorblind", 4)[2:]
# Whatever a person's matplotlibrc says, the pictures are the same; and a class called $x$ is no
# formula.
DEFAULTS = {
    name: value for name, value in rcParamsDefault.items() if not name.startswith("backend")
}
STYLE: dict[Any, Any] = DEFAULTS | {
    "text.parse_math": False,
    "font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False, "grid.alpha": 0.3,
    "lines.linewidth": 1.4, "pdf.fonttype": 42, "axes.prop_cycle": cycler(color=sns.color_palette("colorblind")),
}  # fmt: skip
# A family a hue, so that a network looks the same in every picture; improved forms are darker.
COLOURS = {
    "alexnet": "0.5", "vgg11": "#a1d99b", "vgg16": "#41ab5d", "vgg16_improved": "#005a32", "googlenet": "#fd8d3c",
    "googlenet_improved": "#a63603", "resnet20": "#6baed6", "resnet18": "#2171b5", "resnet18_improved": "#08306b",
}  # fmt: skip


def colours(networks: Sequence[str]) -> list[Any]:
    """A colour for each of the `networks`: its own, unless one is unknown or there twice; then any
    that differ.
    """
    if len(set(networks)) == len(networks) and set(networks) <= COLOURS.keys():
        return [COLOURS[name] for name in networks]
    return list(sns.color_palette("colorblind" if len(networks) <= 10 else "husl", len(networks)))


def save(figure: Figure, file: Path | BinaryIO, dpi: int = 150) -> None:
    """Write a `figure` at `dpi` dots an inch to a `file`, as its suffix says or as PNG."""
    content = encoded(figure, dpi, file.suffix[1:] if isinstance(file, Path) else "png")
    if isinstance(file, Path):
        disk.write(file, content)
    else:
        file.write(content)


def encoded(figure: Figure, dpi: int = 150, kind: str = "png") -> bytes:
    """The content of a file of that `kind` that shows a `figure` at `dpi` dots an inch: no date,
    hence the same bytes.
    """
    drawn, smaller = io.BytesIO(), io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(
            drawn, format=kind, dpi=dpi, metadata=None if kind == "png" else {"CreationDate": None}
        )
    if kind != "png":
        return drawn.getvalue()
    picture = Image.open(drawn).convert("RGB")
    # lines and letters do with few colours, at a third of the size
    if not any(ax.images for ax in figure.axes):
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    picture.save(smaller, "PNG", optimize=True)
    return smaller.getvalue()


def log_scale(ax: Axes, subs: Sequence[float] = (1, 2, 5)) -> None:
    """Make the y axis of `ax` logarithmic, with plain numbers (0.5, 1, 2) at these multiples,
    `subs`, of powers of ten.
    """
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def losses(runs: list[Run]) -> Figure:
    """Loss (nats) on training images by epoch, a colour a network, a line a run."""
    with rc_context(STYLE | {"axes.grid": True}):
        figure = Figure(figsize=(5.5, 2.8), layout="constrained")
        ax = figure.subplots()
        networks = dict.fromkeys(run.label for run in runs)
        colour = dict(zip(networks, colours([*networks]), strict=True))
        for run in runs:
            named = any(line.get_label() == run.label for line in ax.lines)
            ax.plot(
                run.history["epoch"],
                run.history["train_loss"],
                color=colour[run.label],
                label="" if named else run.label,
            )
        log_scale(ax)
        ax.set(xlabel="epoch", ylabel="loss on training images")
        ax.legend(frameon=False)
    return figure


def _panels(
    figure: Figure | SubFigure, runs: list[Run], sharey: bool
) -> Iterator[tuple[Run, Axes]]:
    """A panel a run, in rows of at most three; its title is the network (recipe and seed, too, if
    one is there more than once) and the test accuracy.
    """
    columns = min(3, len(runs))
    axes = figure.subplots(
        math.ceil(len(runs) / columns), columns, squeeze=False, sharey=sharey
    ).ravel()
    for ax in axes[len(runs) :]:
        ax.set_axis_off()
    repeated = len({run.label for run in runs}) < len(runs)
    for run, ax in zip(runs, axes, strict=False):
        name = f"{name_of(run)}, {run.info['seed']}" if repeated else run.label
        ax.set_title(f"{name}  {100 * run.accuracy:.1f} %")
        yield run, ax


def curves(runs: list[Run]) -> Figure:
    """Loss (nats) and accuracy by epoch on training and validation images, a panel a run; test
    accuracy in the titles.
    """
    with rc_context(STYLE | {"axes.grid": True}):
        figure = Figure(figsize=(12, 0.5 + 1.6 * math.ceil(len(runs) / 3)), layout="constrained")
        halves = cast(np.ndarray, figure.subfigures(1, 2))
        for part, what in zip(halves, ("loss", "accuracy"), strict=True):
            part.suptitle(f"{what} by epoch", fontsize=9)
            for number, (run, ax) in enumerate(_panels(part, runs, sharey=True)):
                for split, colour, name in (
                    ("train", TRAIN, "training"),
                    ("val", VALIDATION, "validation"),
                ):
                    ax.plot(
                        run.history["epoch"],
                        run.history[f"{split}_{what}"],
                        color=colour,
                        label=name,
                    )
                if what == "loss":
                    log_scale(ax)
                ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
                if number == 0:
                    ax.legend(frameon=False)
    return figure


def confusions(runs: list[Run]) -> Figure:
    """Test images of each class (row) by predicted class (column), in counts, a panel a run; shades
    are shares of the row.
    """
    columns, rows = min(3, len(runs)), math.ceil(len(runs) / 3)
    with rc_context(STYLE):
        figure = Figure(figsize=(4 * columns, 3.9 * rows), layout="constrained")
        for run, ax in _panels(figure, runs, sharey=False):
            classes = run.info["classes"]
            counts = metrics.confusion(run.test["labels"], run.test["predicted"], len(classes))
            heatmap(ax, counts, np.where(counts > 0, counts.astype(str), ""), classes)
    return figure


def heatmap(
    ax: Axes, counts: np.ndarray, text: np.ndarray, classes: Sequence[str], square: bool = True
) -> None:
    """Draw a confusion matrix, `counts` (classes, classes), into `ax` in shades of its rows'
    shares, with `text` in its cells, which may be `square`, unless there are too many `classes`.
    """
    sns.heatmap(
        counts / np.maximum(counts.sum(1, keepdims=True), 1), vmin=0, vmax=1, cmap="Blues", cbar=False, square=square,
        annot=text if len(classes) <= 12 else False, fmt="", annot_kws={"fontsize": 6}, xticklabels=classes,
        yticklabels=classes, ax=ax,
    )  # fmt: skip
    ax.set(xlabel="predicted", ylabel="true")


def together(runs: list[Run]) -> Figure:
    """Loss, accuracy and learning rate by epoch, all runs on the same axes: validation solid,
    training dashed.
    """
    with rc_context(STYLE | {"axes.grid": True}):
        figure = Figure(figsize=(10, 2.8), layout="constrained")
        axes = figure.subplots(1, 3)
        for run, colour in zip(runs, colours([run.label for run in runs]), strict=True):
            epochs = run.history["epoch"]
            # more points than that hide which line is dashed
            size = 2.5 if len(epochs) <= 40 else 0
            for ax, what in zip(axes, ("loss", "accuracy"), strict=False):
                for split, line, width, scale in (("val", "-", 1.4, 1), ("train", "--", 0.9, 0.6)):
                    style = {
                        "color": colour,
                        "linestyle": line,
                        "linewidth": width,
                        "marker": "o",
                        "markersize": scale * size,
                    }
                    ax.plot(
                        epochs,
                        run.history[f"{split}_{what}"],
                        **style,
                        label=name_of(run) if split == "val" else None,
                    )
            axes[2].step(
                epochs,
                run.history["learning_rate"],
                where="mid",
                color=colour,
                marker="o",
                markersize=size,
            )
        for ax, title in zip(
            axes, ("loss (nats)", "accuracy", "learning rate at the epoch's end"), strict=True
        ):
            ax.set(title=title, xlabel="epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        both = np.concatenate(
            [run.history[["train_loss", "val_loss"]].to_numpy().ravel() for run in runs]
        )
        if both.max() > 5 * both.min():
            log_scale(axes[0])
        for line, name in (("-", "validation"), ("--", "training")):
            axes[1].plot([], [], line, color="0.3", label=name)
        lines, names = axes[1].get_legend_handles_labels()
        if len(runs) == 1:
            figure.suptitle(names[0], fontsize=8)
            lines, names = lines[1:], names[1:]
        figure.legend(lines, names, loc="outside right center", frameon=False, fontsize=7)
    return figure


def name_of(run: Run) -> str:
    """Network and recipe."""
    return f"{run.label}, {run.recipe}"


def confusion(run: Run) -> Figure:
    """One run's confusion matrix, counts and shares of the true class side by side."""
    classes = run.info["classes"]
    counts = metrics.confusion(run.test["labels"], run.test["predicted"], len(classes))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        figure.suptitle(
            f"{name_of(run)}: {run.info['test_correct']:,} of {run.info['test_total']:,} right",
            fontsize=9,
        )
        texts = (
            np.where(counts > 0, counts.astype(str), ""),
            np.where(shares >= 0.005, np.char.mod("%.2f", shares), ""),
        )
        for ax, text, title in zip(
            figure.subplots(1, 2), texts, ("images", "share of the true class"), strict=True
        ):
            heatmap(ax, counts, text, classes)
            ax.set_title(title)
    return figure


def per_class(runs: list[Run]) -> Figure:
    """Accuracy on each class with its 95 % interval, the runs beside each other."""
    with rc_context(STYLE | {"axes.grid": True}):
        figure = Figure(figsize=(10, 2.8), layout="constrained")
        ax = figure.subplots()
        classes = runs[0].info["classes"]
        for number, (run, colour) in enumerate(
            zip(runs, colours([run.label for run in runs]), strict=True)
        ):
            labels = run.test["labels"]
            rows = [
                (run.correct[labels == k].sum(), (labels == k).sum()) for k in range(len(classes))
            ]
            shares = np.array([correct / total for correct, total in rows])
            ends = np.array(
                [metrics.accuracy_interval(int(correct), int(total)) for correct, total in rows]
            )
            place = np.arange(len(classes)) + 0.6 * ((number + 0.5) / len(runs) - 0.5)
            error = np.abs(ends.T - shares)
            ax.errorbar(
                place,
                shares,
                error,
                fmt="o",
                color=colour,
                markersize=3,
                linewidth=1,
                label=name_of(run),
            )
        ax.set_xticks(range(len(classes)), classes)
        ax.set(ylabel="accuracy")
        figure.legend(loc="outside right center", frameon=False, fontsize=7)
    return figure


def gallery(run: Run, images: np.ndarray, chosen: Sequence[int], title: str = "") -> Figure:
    """Some `chosen` test images (of all, (N, C, H, W), uint8) with what the run says and how sure
    it is; mistakes stand out.

    The `title` is the network and recipe unless given.
    """
    columns = min(10, max(1, len(chosen)))
    rows = max(1, math.ceil(len(chosen) / columns))
    classes, labels, predicted = run.info["classes"], run.test["labels"], run.test["predicted"]
    with rc_context(STYLE):
        figure = Figure(figsize=(columns, 0.3 + 1.45 * rows), layout="constrained")
        figure.suptitle(title or name_of(run), fontsize=9)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes:
            ax.set_axis_off()
        for ax, index in zip(axes, chosen, strict=False):
            ax.imshow(_picture(images[index]), cmap="gray", vmin=0, vmax=255)
            share = run.test["probabilities"][index].max()
            right = predicted[index] == labels[index]
            text = f"{classes[predicted[index]]}, {100 * share:.0f} %" + (
                "" if right else f"\nis {classes[labels[index]]}"
            )
            ax.set_title(text, fontsize=6, color="black" if right else WRONG)
    return figure


def pictures(
    rows: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """A table of images (C, H, W), uint8, under a `title` and the names of its `columns`, beside
    the `names` of its `rows`.
    """
    with rc_context(STYLE):
        figure = Figure(
            figsize=(max(map(len, rows)), len(rows) + 0.3 * bool(columns) + 0.3 * bool(title)),
            layout="constrained",
        )
        figure.suptitle(title, fontsize=9)
        axes = figure.subplots(len(rows), max(map(len, rows)), squeeze=False)
        for ax in axes.ravel():
            ax.set(xticks=[], yticks=[], frame_on=False)
        for line, row in zip(axes, rows, strict=True):
            for ax, image in zip(line, row, strict=False):
                ax.imshow(_picture(image), cmap="gray", vmin=0, vmax=255)
        for ax, name in zip(axes[0], columns, strict=False):
            ax.set_title(name, fontsize=7)
        for ax, name in zip(axes[:, 0], names, strict=False):
            ax.set_ylabel(name, fontsize=7)
    return figure


def _picture(image: np.ndarray) -> np.ndarray:
    """(C, H, W) as matplotlib wants it."""
    return image.transpose(1, 2, 0) if len(image) == 3 else image[0]


def representation(run: Run) -> Figure:
    """The test set in the first two principal components of what the network makes of it, classes
    in colour and named.

    Of many images each second, third, ... is drawn, so that there are 2,500 at most; a name stands
    at the median of all.
    """
    points, labels = run.view("pca"), run.test["labels"]
    with rc_context(STYLE):
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        ax = figure.subplots()
        palette = np.array(sns.color_palette("colorblind", len(run.info["classes"])))
        shown = slice(None, None, math.ceil(len(points) / 2500))
        size = 4 if len(points) > 2000 else 10
        x, y = points[shown].T
        ax.scatter(x, y, s=size, c=palette[labels[shown]], linewidths=0, alpha=0.6, rasterized=True)
        for k in np.unique(labels):
            x, y = np.median(points[labels == k], axis=0)
            name = ax.text(
                x,
                y,
                run.info["classes"][k],
                color=tuple(0.7 * palette[k]),
                ha="center",
                va="center",
            )
            name.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        # a network that gives all images the same answer has no variance
        share = np.nan_to_num(run.views["pca_share"])
        ax.set(
            xlabel=f"first component, {100 * share[0]:.0f} % of the variance", title=name_of(run)
        )
        ax.set(ylabel=f"second component, {100 * share[1]:.0f} %")
        ax.locator_params(nbins=5)  # small components have long numbers
    return figure


def filters(run: Run) -> Figure:
    """The windows of the first convolution, each stretched to the full range of brightness."""
    windows = run.view("filters")
    low, high = (f(windows, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    windows = (windows - low) / np.maximum(high - low, 1e-9)
    columns = 16
    rows = math.ceil(len(windows) / columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(columns * 0.45, rows * 0.45 + 0.3), layout="constrained")
        figure.suptitle(f"{name_of(run)}: first convolution", fontsize=9)
        for ax, window in zip(
            figure.subplots(rows, columns, squeeze=False).ravel(), windows, strict=False
        ):
            ax.imshow(_picture(window), cmap="gray", vmin=0, vmax=1)
        for ax in figure.axes:
            ax.set_axis_off()
    return figure


def attention(run: Run, images: np.ndarray) -> Figure:
    """Where the network sees the class (Grad-CAM) in the first test image (N, C, H, W) of each
    class; mistakes stand out.
    """
    maps = run.view("cam")
    classes, first = np.unique(run.test["labels"], return_index=True)
    with rc_context(STYLE):
        figure = Figure(figsize=(len(maps), 1.75), layout="constrained")
        figure.suptitle(
            f"{name_of(run)}: Grad-CAM on {run.views['cam_stage']}, {maps.shape[1]}x{maps.shape[2]}",
            fontsize=9,
        )
        for ax, heat, k, index in zip(
            figure.subplots(1, len(maps)), maps, classes, first, strict=False
        ):
            image = _picture(images[index])
            side = image.shape[0]
            ax.imshow(image, cmap="gray", extent=(0, side, side, 0))
            ax.imshow(
                heat, cmap="inferno", alpha=0.5, extent=(0, side, side, 0), interpolation="bilinear"
            )
            right = run.test["predicted"][index] == k
            found = "" if heat.any() else "no place"
            ax.set_title(
                f"{run.info['classes'][k]}\n{found}", fontsize=7, color="black" if right else WRONG
            )
            ax.set_axis_off()
    return figure


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
            inside = TRAIN if several else "white"
            ax.plot(
                [low, high], [place, place], "-" if several else "--", color=TRAIN, linewidth=1.2
            )
            ax.plot(value, place, "o", color=TRAIN, markerfacecolor=inside, markersize=4)
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
