"""Writes the study's tables, results/*.csv, from its runs, and README's pictures from the tables.

`--check` names the files that differ.

python results/make.py [--check]
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from deepnets import disk, runs
from deepnets.compare import charts, effects, style
from deepnets.errors import UserError
from deepnets.runs import Run

HERE = Path(__file__).resolve().parent
ASSETS = HERE.parent / "assets"
STUDIES = ("main", "replication", "changes", "control")


def find(root: Path = HERE) -> list[Run]:
    """Returns the runs of the study, from the folders of `STUDIES` that are there."""
    folders = [root / study for study in STUDIES if (root / study).is_dir()]
    found = [run for folder in folders for run in runs.find(folder)]
    return [run for run in found if not run.info.tier]  # others are of the earlier study


def tables(found: Sequence[Run]) -> dict[str, pd.DataFrame]:
    """Returns the tables by their names."""
    return {name: table(found) for name, table in effects.TABLES.items()}


def text(table: pd.DataFrame) -> str:
    """Returns a table as the content of a CSV file."""
    return table.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def pictures(made: dict[str, pd.DataFrame]) -> dict[str, bytes]:
    """Returns README's pictures (PNG) of CIFAR-10 by their names, those whose table is complete.

    That of `corners` says itself what is missing.
    """
    part = {name: table[table["dataset"] == "CIFAR-10"] for name, table in made.items()}
    rows = part["accuracies"]
    whole = rows[(rows["recipe"] == "tuned") & (rows["options"] == "")]
    draw: list[tuple[Callable[[pd.DataFrame], Figure], pd.DataFrame, str]] = [
        (charts.corners, part["corners"], "network"), (charts.changes, part["changes"], "effect"),
        (charts.cost, whole, "accuracy"), (charts.robustness, whole, "accuracy"),
        (charts.calibration, whole, "accuracy"),
    ]  # fmt: skip
    return {
        f"{chart.__name__}.png": style.encoded(chart(table), dpi=200)
        for chart, table, needed in draw
        if len(table) and table[needed].notna().all()
    }


def main(arguments: Sequence[str], root: Path = HERE, assets: Path = ASSETS) -> int:
    """Writes the tables of the runs in `root` there, and pictures into `assets`, or checks them.

    Returns:
        The exit code.
    """
    if unknown := [word for word in arguments if word != "--check"]:
        print(f"results/make.py: {unknown[0]!r} is not known; it has --check", file=sys.stderr)
        return 2
    try:
        found = tables(find(root))
    except UserError as error:
        print(f"results/make.py: {error}", file=sys.stderr)
        return 2
    made = {root / f"{name}.csv": text(table).encode() for name, table in found.items()}
    made |= {assets / name: content for name, content in pictures(found).items()}
    old = [path for path in made if not path.is_file() or path.read_bytes() != made[path]]
    if "--check" in arguments:
        for path in old:
            print(f"{path.name} is not what the runs say; python results/make.py writes it")
        return 1 if old else 0
    print(*disk.write_all({path: made[path] for path in old}), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
