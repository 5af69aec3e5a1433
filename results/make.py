"""Writes the study's tables, results/*.csv, from its runs; `--check` names those that differ.

python results/make.py [--check]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from deepnets import disk, runs
from deepnets.compare import effects
from deepnets.errors import UserError
from deepnets.runs import Run

HERE = Path(__file__).resolve().parent
STUDIES = ("main", "replication", "changes", "control")


def find(root: Path = HERE) -> list[Run]:
    """Returns the runs of the study, from the folders of `STUDIES` that are there."""
    folders = [root / study for study in STUDIES if (root / study).is_dir()]
    found = [run for folder in folders for run in runs.find(folder)]
    return [run for run in found if not run.info["tier"]]  # others are of the earlier study


def tables(found: Sequence[Run]) -> dict[str, str]:
    """Returns the content of each CSV file, by its name."""
    how = {"index": False, "float_format": "%.6f", "lineterminator": "\n"}
    return {f"{name}.csv": table(found).to_csv(**how) for name, table in effects.TABLES.items()}


def main(arguments: Sequence[str], root: Path = HERE) -> int:
    """Writes the tables into the folder `root`, or checks them; returns the exit code."""
    if unknown := [word for word in arguments if word != "--check"]:
        print(f"results/make.py: {unknown[0]!r} is not known; it has --check", file=sys.stderr)
        return 2
    try:
        made = {root / name: content.encode() for name, content in tables(find(root)).items()}
    except UserError as error:
        print(f"results/make.py: {error}", file=sys.stderr)
        return 2
    old = [path for path in made if not path.is_file() or path.read_bytes() != made[path]]
    if "--check" in arguments:
        for path in old:
            print(f"{path.name} is not what the runs say; python results/make.py writes it")
        return 1 if old else 0
    print(*disk.write_all({path: made[path] for path in old}), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
