"""A report of a person's own runs: a page and its pictures."""

import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..runs import Run
from . import charts, effects, figures, style, text


def files(runs: Sequence[Run], out: Path) -> dict[Path, bytes]:
    """Returns report.md and, for each dataset, pictures of accuracies, learning curves and
    confusion matrices (PNG), by their paths in the folder `out`.
    """
    table, drawn, page = effects.accuracies(runs), {}, ["# Report"]
    for dataset, readable, lines in text.sections(runs):
        page += [f"## {dataset}", text.markdown(readable), "\n".join(f"- {line}" for line in lines)]
        part = [run for run in runs if run.info.dataset_title == dataset]
        pictures = {
            "accuracies": accuracies(table[table["dataset"] == dataset]),
            "curves": figures.curves(part),
            "confusion": figures.confusions(part),
        }
        # "my photos" and "my-photos" have pictures of their own
        stem = re.sub(r"\W+", "-", dataset.lower()).strip("-")
        names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
        stem = next(name for name in names if out / f"{name}-curves.png" not in drawn)
        for name, figure in pictures.items():
            drawn[out / f"{stem}-{name}.png"] = style.encoded(figure)
            page.append(f"![{dataset}: {name}]({stem}-{name}.png)")
    return {out / "report.md": "\n\n".join([*page, ""]).encode(errors="backslashreplace")} | drawn


@rc_context(style.GRID)
def accuracies(table: pd.DataFrame) -> Figure:
    """Draws rows of `effects.accuracies` with their intervals; hollow points are one training."""
    table = table.sort_values("accuracy", ascending=False, kind="stable")
    names = text.readable(table)[["network", "recipe"]].agg(", ".join, axis=1)
    figure = Figure(figsize=(6, 0.7 + 0.22 * len(table)), layout="constrained")
    ax = figure.subplots()
    charts.intervals(ax, table, "accuracy", names)
    ax.invert_yaxis()  # the best on top
    ax.set(xlabel="accuracy %, 95 % interval")
    return figure
