"""A picture of the paths of a block."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .compare.style import GREEN, STYLE


def block(paths: Sequence[Sequence[tuple[str, bool]]], joined: str, title: str = "") -> Figure:
    """The `paths` from one map, side by side, a box a layer; below, how they are `joined`; above, a
    `title`.

    A layer is what it does and whether it has weights, which makes it green.
    """
    highest = max(map(len, paths))
    bottom = -highest - 1.0
    with rc_context(STYLE):
        figure = Figure(
            figsize=(1.5 * max(2, len(paths)), 1.1 + 0.55 * highest), layout="constrained"
        )
        ax = figure.subplots()
        box = {"boxstyle": "round", "facecolor": "white", "edgecolor": "0.6"}
        green = box | {"facecolor": (*GREEN, 0.3), "edgecolor": GREEN}
        centred: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7}
        ends = []
        for y, text in ((0.0, "map"), (bottom, joined)):  # as wide as all paths
            bar = Rectangle(
                (-0.45, y - 0.15), len(paths) - 0.1, 0.3, facecolor="0.9", edgecolor="0.6"
            )
            ends.append(ax.add_patch(bar))
            ax.text((len(paths) - 1) / 2, y, text, **centred)
        for place, layers in enumerate(paths):
            heights = np.linspace(0, bottom, len(layers) + 2)
            boxes = [
                ax.text(place, y, text, bbox=green if weights else box, **centred)
                for y, (text, weights) in zip(heights[1:-1], layers, strict=True)
            ]
            patches = [ends[0], *(text.get_bbox_patch() for text in boxes), ends[1]]
            for (high, low), (above, below) in zip(
                pairwise(heights), pairwise(patches), strict=True
            ):
                arrow = {"arrowstyle": "-|>", "color": "0.4", "patchA": above, "patchB": below}
                ax.annotate("", (place, low), (place, high), arrowprops=arrow)
        ax.set(xlim=(-0.6, len(paths) - 0.4), ylim=(bottom - 0.5, 0.5))
        ax.set_axis_off()
        figure.suptitle(title, fontsize=9)
    return figure
