"""The tables as text, for a terminal and in Markdown."""

from collections.abc import Iterator, Sequence

import pandas as pd

from ..runs import Run
from . import effects
from .effects import EQUAL, EXPLORATORY, IMAGES, ONE_TRAINING

# Columns that all rows of a table should share, and their names
ALIKE = {"train_images": "training images", "epochs": "epochs", "input_size": "image side"}
TWINS = ("epochs", "input_size", "precision")  # in which rows of one name may differ


def terminal(runs: Sequence[Run]) -> str:
    """Returns what the runs say: for each dataset a table and a few lines."""
    parts = []
    for dataset, table, lines in sections(runs):
        for name in ("network", "recipe"):  # pandas would align them to the right
            width = max(len(name), table[name].str.len().max())
            table[name] = table[name].str.ljust(width)
            table = table.rename(columns={name: name.ljust(width)})
        parts.append("\n".join([dataset, table.to_string(index=False), "", *lines]))
    return "\n\n".join(parts)


def markdown(table: pd.DataFrame) -> str:
    """Returns a table in Markdown; all columns but the first are aligned to the right."""
    rule = ["---"] + ["---:"] * (len(table.columns) - 1)
    rows = [table.columns, rule, *table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def sections(runs: Sequence[Run]) -> Iterator[tuple[str, pd.DataFrame, list[str]]]:
    """Yields the title of each dataset, its table for `readable` eyes, and lines about it."""
    tables = [table(runs) for table in (effects.accuracies, effects.effects, effects.changes)]
    for dataset, part in tables[0].groupby("dataset"):
        contrasts, changes = (table[table["dataset"] == dataset] for table in tables[1:])
        lines = [*_circumstances(part)]
        lines += [f"{row.network} minus {row.original}, {_worth(row)}" for row in _rows(contrasts)]
        lines += [f"{row.change} in {row.network}, {_worth(row)}" for row in _rows(changes)]
        here = [run for run in runs if run.info.dataset_title == dataset]
        lines += [
            f"Warning, {run.path}: {warning}" for run in here for warning in run.info.warnings
        ]
        yield str(dataset), readable(part), lines


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of `effects.accuracies` as text, the most accurate first.

    Where two rows have one network and recipe, the recipe says how else they differ.
    """
    table = table.sort_values("accuracy", ascending=False, kind="stable", ignore_index=True)
    options = table["options"].where(table["options"] == "", "-" + table["options"])
    twins = table.duplicated(["network", "options", "recipe"], keep=False)
    how = [", {} epochs, {} pixels, {}".format(*row) for row in _rows(table[list(TWINS)])]
    return pd.DataFrame(
        {
            "network": table["network"] + options,
            "recipe": table["recipe"].where(~twins, table["recipe"] + how),
            "seeds": table["seeds"].astype(str),
            "accuracy %": percent(table["accuracy"]),
            "95 % interval": percent(table["low"]) + " to " + percent(table["high"]),
            "parameters": table["parameters"].map("{:,}".format),
            "mult-adds M": (table["macs"] / 1e6).map("{:,.1f}".format),
            "seconds": table["seconds"].map("{:,.0f}".format).where(table["seconds"].notna(), ""),
        }
    )


def percent(shares: pd.Series) -> pd.Series:
    """Returns shares in percent, with two decimals and without the sign."""
    return (100 * shares).map("{:.2f}".format).astype(str)  # also if there are none


def _rows(table: pd.DataFrame) -> Iterator:
    return table.itertuples(index=False)


def _circumstances(table: pd.DataFrame) -> Iterator[str]:
    """Yields how the rows of a table were trained, and what their intervals are for."""
    machines = table["devices"].str.split("; ").explode().unique()
    precisions = table["precision"].str.split("; ").explode().unique()
    yield f"Trained on {' and '.join(sorted(machines))} in {' and '.join(sorted(precisions))}."
    if (table["interval"] == IMAGES).all():
        yield "One training each: intervals are for new test images, not for new trainings."
    else:
        yield "Intervals are for new test images and, with several seeds, for new trainings."
    differ = [
        f"{title} {table[name].min():,} to {table[name].max():,}"
        for name, title in ALIKE.items()
        if table[name].nunique() > 1
    ]
    if differ:
        yield f"Not all were trained alike: {', '.join(differ)}."


def _worth(row) -> str:
    """Returns a row of `effects.effects` or `effects.changes` as words, in points of accuracy."""
    value, low, high = (f"{100 * share:+.2f}" for share in (row.effect, row.low, row.high))
    said = row.verdict
    if said not in (ONE_TRAINING, EXPLORATORY, EQUAL):
        p = f"p = {row.p_holm:.3f}" if row.p_holm >= 0.001 else "p < 0.001"
        said = f"{said} ({p} after Holm)"
    return f"{row.recipe}: {value} points ({low} to {high}), {said}"
