"""The pen of the diagrams: layers as boxes, in rows or columns, with arrows and a legend.

A unit is an inch, so that letters keep their size whatever is drawn.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, Patch, Rectangle
from matplotlib.path import Path
from matplotlib.transforms import Bbox
from torch import nn

from deepnets.models.layers import AdaptivePool, LocalResponseNorm

# what is drawn, with Okabe and Ito's colours, which colour-blind readers can tell apart
KINDS: dict[type[nn.Module], tuple[str, str]] = {
    nn.Conv2d: ("convolution", "#56b4e9"),
    nn.BatchNorm2d: ("batch norm", "#009e73"),
    LocalResponseNorm: ("local response norm", "#009e73"),
    nn.ReLU: ("ReLU", "#f0e442"),
    nn.MaxPool2d: ("pool", "#e69f00"),
    AdaptivePool: ("pool", "#e69f00"),
    nn.Linear: ("linear layer", "#cc79a7"),
}
LAYERS = tuple(KINDS)
ATTACHED = (nn.BatchNorm2d, LocalResponseNorm, nn.ReLU)  # drawn touching the layer before
DARK, DASHES = "0.25", (0, (3, 1.5))
ARROW, PADDING, LINE = 0.16, 0.09, 0.13  # of arrows, of boxes, of text


def kind(layer: nn.Module) -> tuple[str, str]:
    """Returns what a layer is called and its colour."""
    return next(found for parent, found in KINDS.items() if isinstance(layer, parent))


def window(layer: Any) -> int:
    """Returns the side of the window of a convolution or a pool."""
    return _one(layer.kernel_size)


def words(layer: Any, *, channels: bool = True, padding: bool = False) -> str:
    """Returns what a layer does, in one to three lines, with its `channels` and its `padding`."""
    if isinstance(layer, nn.Linear):
        return "linear"
    if isinstance(layer, AdaptivePool):
        what = "mean" if layer.kind == "avg" else layer.kind
        return what if layer.size == 1 else f"{what} to {layer.size}x{layer.size}"
    text = f"{window(layer)}x{window(layer)}"
    if isinstance(layer, nn.MaxPool2d):
        text = f"max {text}"
    elif channels:
        text += f", {layer.out_channels}"
    text += f"\nstride {_one(layer.stride)}" if _one(layer.stride) > 1 else ""
    return text + (f"\npadding {_one(layer.padding)}" if padding else "")


def _one(size: int | tuple[int, ...]) -> int:
    """Of a size that is the same along both axes."""
    return size[0] if isinstance(size, tuple) else size


class Pen:
    """Draws on a figure whose unit is the inch, and remembers what, for the legend.

    Args:
        font: size of letters in points.
    """

    def __init__(self, font: float) -> None:
        self.font = font
        self.figure = Figure(figsize=(1, 1))  # until it is finished
        self.ax = self.figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(0, 1))
        self.ax.set_axis_off()
        self.legend: dict[str, Artist] = {}

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write lines with their middle at (x, y), unless `style` says otherwise."""
        centred: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": self.font}
        lines = text.split("\n")
        for number, line in enumerate(lines):  # evenly, whatever letters they have
            self.ax.text(x, y + LINE * ((len(lines) - 1) / 2 - number), line, **centred | style)

    def area(self, left: float, bottom: float, right: float, top: float, **style: Any) -> None:
        """Fill a rectangle; a `label` in its `style` goes to the legend."""
        self.ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, **style))
        if "label" in style:
            self.legend[style["label"]] = Patch(**style)

    def box(
        self, left: float, bottom: float, right: float, top: float, layer: nn.Module, text: str,
        rotation: float = 0,
    ) -> None:  # fmt: skip
        """Draw a `layer` as a rectangle with a `text` in it."""
        name, colour = kind(layer)
        style = {"label": name, "facecolor": colour, "edgecolor": DARK, "linewidth": 0.6}
        self.area(left, bottom, right, top, zorder=2, **style)
        va = "center" if rotation else "center_baseline"
        self.text((left + right) / 2, (bottom + top) / 2, text, rotation=rotation, va=va)

    def line(
        self,
        *points: tuple[float, float],
        dashed: bool = False,
        head: bool = True,
        zorder: float = 1,
    ) -> None:
        """Draw a line through points, its corners rounded, with an arrow's head at its end."""
        vertices, codes = [np.array(points[0])], [Path.MOVETO]
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            at = np.array(corner)
            near, far = (
                at + step * min(0.08 / np.hypot(*step), 0.5) for step in (before - at, after - at)
            )
            vertices += [near, at, far]
            codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
        path = Path([*vertices, np.array(points[-1])], [*codes, Path.LINETO])
        style: dict[str, Any] = {"color": DARK, "zorder": zorder, "mutation_scale": 9}
        arrow = "-|>,head_width=0.25,head_length=0.5" if head else "-"
        if dashed:
            dashes = FancyArrowPatch(path=path, arrowstyle="-", linestyle=DASHES, **style)
            self.ax.add_patch(dashes)
            step = np.subtract(points[-1], points[-2])
            path = Path([points[-1] - step * 0.09 / np.hypot(*step), points[-1]])
        if head or not dashed:
            self.ax.add_patch(FancyArrowPatch(path=path, arrowstyle=arrow, **style))

    def plus(self, x: float, y: float) -> None:
        """Draw an addition."""
        circle = Circle((x, y), 0.07, facecolor="white", edgecolor=DARK, linewidth=0.9, zorder=2)
        self.ax.add_patch(circle)
        self.line((x - 0.04, y), (x + 0.04, y), head=False, zorder=3)
        self.line((x, y - 0.04), (x, y + 0.04), head=False, zorder=3)

    def join(self, left: float, bottom: float, right: float, top: float) -> None:
        """Draw a concatenation."""
        style = {"facecolor": DARK, "edgecolor": DARK, "label": "concatenation"}
        self.area(left, bottom, right, top, zorder=2, **style)

    def grid(self, x: float, y: float, side: int) -> None:
        """Draw a window with its middle at (x, y), a square a pixel."""
        cells = np.linspace(-0.5, 0.5, side + 1) * side * 0.032
        self.ax.vlines(x + cells, y + cells[0], y + cells[-1], colors=DARK, linewidth=0.4)
        self.ax.hlines(y + cells, x + cells[0], x + cells[-1], colors=DARK, linewidth=0.4)
        white: dict[str, Any] = {"facecolor": "white", "edgecolor": DARK, "linewidth": 0.4}
        self.legend["window"] = Patch(label="its window", hatch="++++", **white)

    def explain(self, text: str, **style: Any) -> None:
        """Add a text to the legend, with a line if a `style` is given."""
        self.legend[text] = Line2D([], [], label=text, **style or {"linestyle": "none"})

    def row(
        self, x: float, y: float, width: float, height: float, layers: Iterable[nn.Module],
        label: Callable[[Any], str], rotation: float = 0,
    ) -> float:  # fmt: skip
        """Draw layers to the right of x, a norm as a stripe and no ReLU; return where they end.

        Args:
            x: where they begin.
            y: their middle.
            width: of a layer.
            height: of a layer.
            layers: what to draw.
            label: gives the text of a layer.
            rotation: of the text, in degrees.
        """
        for number, layer in enumerate(layers):
            if isinstance(layer, nn.ReLU):
                continue
            attached = isinstance(layer, ATTACHED)
            start = x if attached or not number else x + width / 3
            x = start + (width / 4 if attached else width)
            text = "" if attached else label(layer).replace("\nstride ", " /")
            self.box(start, y - height / 2, x, y + height / 2, layer, text, rotation)
        return x

    def column(
        self, x: float, y: float, width: float, layers: Iterable[nn.Module],
        label: Callable[[Any], str] = words, named: bool = False, arrow: float | None = 0.0,
    ) -> float:  # fmt: skip
        """Draw layers below y, and return where they end.

        Args:
            x: their middle.
            y: where they begin.
            width: of a layer.
            layers: what to draw.
            label: gives the text of a layer.
            named: write the names of norm and ReLU, too, which else are stripes.
            arrow: how far from the middle arrows stand; None for no arrows.
        """
        for layer in layers:
            if isinstance(layer, ATTACHED):
                text = kind(layer)[0].removeprefix("batch ") if named else ""
                height = LINE + 0.03 if named else 0.07
            else:
                text = label(layer)
                height = 0.1 + LINE * (1 + text.count("\n"))
                if arrow is not None:
                    self.line((x + arrow, y), (x + arrow, y - ARROW))
                    y -= ARROW
            self.box(x - width / 2, y - height, x + width / 2, y, layer, text)
            y -= height
        return y

    def finish(self, width: float = 0.0) -> Figure:
        """Put the legend below, and cut the figure to what it shows, or to a `width`."""
        left, bottom, right, _ = self._extent()
        handles = list(self.legend.values())
        for rows in (1, 2, 3):  # as few as are no wider than the drawing
            legend = self.ax.legend(
                handles=handles, loc="upper center", bbox_transform=self.ax.transData,
                bbox_to_anchor=((left + right) / 2, bottom - 0.06), ncols=-(-len(handles) // rows),
                frameon=False, fontsize=self.font, handlelength=1.5, columnspacing=1.2, borderpad=0,
            )  # fmt: skip
            extent = self._extent(legend)
            if extent[2] - extent[0] <= right - left:
                break
        left, bottom, right, top = extent
        margin = max(0.04, (width - (right - left)) / 2)
        limits = left - margin, right + margin, bottom - 0.04, top + 0.04
        self.figure.set_size_inches(limits[1] - limits[0], limits[3] - limits[2])
        self.ax.set(xlim=limits[:2], ylim=limits[2:])
        return self.figure

    def _extent(self, *more: Artist) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of everything drawn, and of `more`."""
        shown = [*self.ax.patches, *self.ax.texts, *more]
        pixels = Bbox.union([artist.get_window_extent() for artist in shown])
        return pixels.transformed(self.figure.dpi_scale_trans.inverted()).extents
