"""The pen of the diagrams: layers as boxes in columns, with arrows and a legend.

A unit is an inch, so that letters keep their size whatever is drawn.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Patch, Rectangle
from matplotlib.path import Path
from matplotlib.transforms import Bbox
from torch import nn

# Names and colours of layers, Okabe and Ito's, which colour-blind readers can tell apart
KINDS: dict[type[nn.Module], tuple[str, str]] = {
    nn.Conv2d: ("convolution", "#56b4e9"),
    nn.BatchNorm2d: ("batch norm", "#009e73"),
    nn.ReLU: ("ReLU", "#f0e442"),
    nn.MaxPool2d: ("pool", "#e69f00"),
}
LAYERS = tuple(KINDS)
ATTACHED = (nn.BatchNorm2d, nn.ReLU)  # drawn touching the layer before
DARK = "0.25"
ARROW, LINE = 0.16, 0.13  # of arrows, of a line of text
FONT = 8  # points


def words(layer: Any, padding: bool = False) -> str:
    """Returns what a convolution or a pool does, in one to three lines, with its `padding`."""
    side = one(layer.kernel_size)
    text = f"{side}x{side}"
    text = f"max {text}" if isinstance(layer, nn.MaxPool2d) else f"{text}, {layer.out_channels}"
    text += f"\nstride {one(layer.stride)}" if one(layer.stride) > 1 else ""
    return text + (f"\npadding {one(layer.padding)}" if padding else "")


def one(size: Any) -> int:
    """Returns a size, an int or a tuple of equal ones, as an int."""
    return size[0] if isinstance(size, tuple) else size


class Pen:
    """Draws on a figure whose unit is the inch, and remembers what, for the legend."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(1, 1))  # until it is finished
        self.ax = self.figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(0, 1))
        self.ax.set_axis_off()
        self.legend: dict[str, Artist] = {}

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write lines with their middle at (x, y), unless `style` says otherwise."""
        centred: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": FONT}
        lines = text.split("\n")
        for number, line in enumerate(lines):  # evenly, whatever letters they have
            self.ax.text(x, y + LINE * ((len(lines) - 1) / 2 - number), line, **centred | style)

    def area(self, left: float, bottom: float, right: float, top: float, **style: Any) -> None:
        """Fill a rectangle; its `label` goes to the legend."""
        style = dict[str, Any](edgecolor=DARK, linewidth=0.6, zorder=2) | style
        self.ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, **style))
        self.legend[style["label"]] = Patch(**style)

    def line(
        self, *points: tuple[float, float], dashed: bool = False, head: bool = True, zorder: int = 1
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
        if dashed:  # but for the head
            dashes = FancyArrowPatch(path=path, arrowstyle="-", linestyle=(0, (3, 1.5)), **style)
            self.ax.add_patch(dashes)
            step = np.subtract(points[-1], points[-2])
            path = Path([points[-1] - step * 0.09 / np.hypot(*step), points[-1]])
        self.ax.add_patch(FancyArrowPatch(path=path, arrowstyle=arrow, **style))

    def plus(self, x: float, y: float) -> None:
        """Draw an addition."""
        circle = Circle((x, y), 0.07, facecolor="white", edgecolor=DARK, linewidth=0.9, zorder=2)
        self.ax.add_patch(circle)
        self.line((x - 0.04, y), (x + 0.04, y), head=False, zorder=3)
        self.line((x, y - 0.04), (x, y + 0.04), head=False, zorder=3)

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
            name, colour = next(k for kind, k in KINDS.items() if isinstance(layer, kind))
            if isinstance(layer, ATTACHED):
                text = name.removeprefix("batch ") if named else ""
                height = LINE + 0.03 if named else 0.07
            else:
                text = label(layer)
                height = 0.1 + LINE * (1 + text.count("\n"))
                if arrow is not None:
                    self.line((x + arrow, y), (x + arrow, y - ARROW))
                    y -= ARROW
            top, y = y, y - height
            self.area(x - width / 2, y, x + width / 2, top, facecolor=colour, label=name)
            self.text(x, (y + top) / 2, text)
        return y

    def finish(self, width: float = 0.0) -> Figure:
        """Put the legend below, and cut the figure to what it shows, or to a `width`."""
        left, bottom, right, _ = self._extent()
        handles = list(self.legend.values())
        for rows in (1, 2, 3):  # as few as are no wider than the drawing
            legend = self.ax.legend(
                handles=handles, loc="upper center", bbox_transform=self.ax.transData,
                bbox_to_anchor=((left + right) / 2, bottom - 0.06), ncols=-(-len(handles) // rows),
                frameon=False, fontsize=FONT, handlelength=1.5, columnspacing=1.2, borderpad=0,
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
