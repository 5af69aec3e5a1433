"""Pictures of networks: the stages of one, and the paths of a block."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter

from .figures import SECOND, STYLE, TRAIN


def stages(
    trace: list[dict[str, Any]], input_shape: tuple[int, int, int], title: str = ""
) -> Figure:
    """A network from its trace (`models.trace`) for an image of `input_shape` (C, H, W): a box a
    stage, under a `title`.

    A box is as high as the map (square root of its side) and as wide as it has channels
    (logarithm); above it what it gives, below it the windows of its convolutions or else its number
    of weights. Blue is a pool, green has weights.
    """
    steps = [{"name": "image", "shape": input_shape, "parameters": 0}, *trace]
    with rc_context(STYLE):
        figure = Figure(figsize=(max(6, 0.52 * len(steps)), 2.8), layout="constrained")
        ax = figure.subplots()
        left = 0.0
        for step in steps:
            channels, *sides = step["shape"]
            side = sides[-1] if sides else 1
            width, height = 0.25 * math.log2(channels + 1), math.sqrt(side)
            colour = TRAIN if "pool" in step["name"] else SECOND if step["parameters"] else "0.75"
            ax.add_patch(
                Rectangle((left, -height / 2), width, height, facecolor=colour, edgecolor="white")
            )
            shape = "x".join(map(str, step["shape"]))
            ax.text(
                left + width / 2,
                height / 2 + 0.15,
                shape,
                ha="center",
                va="bottom",
                rotation=90,
                fontsize=6,
            )
            places = int(step["parameters"] >= 1000)
            weights = (
                f"{EngFormatter(sep='', places=places)(step['parameters'])} weights"
                if step["parameters"]
                else ""
            )
            text = f"{step['name']}\n{step.get('windows') or weights}".strip()
            ax.text(
                left + width / 2,
                -height / 2 - 0.15,
                text,
                ha="center",
                va="top",
                rotation=90,
                fontsize=6,
            )
            left += width + 0.35
        figure.suptitle(title, fontsize=9)
        top = math.sqrt(input_shape[-1]) / 2 + 3
        ax.set(xlim=(-0.5, left), ylim=(-top - 0.5, top))
        ax.set_axis_off()
    return figure


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
        green = box | {"facecolor": (*SECOND, 0.3), "edgecolor": SECOND}
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
