r"""Makes paper/generated, the paper's numbers, tables and figures, from results/*.csv.

main.tex asks for a number with \res{TABLE/DATASET/NETWORK/RECIPE/COLUMN}, and with
`COLUMN:interval` for its 95 % interval. What is not known yet is not defined:
\when{KEY}{TEXT}{ELSE} prints TEXT where it is, and \claim{NAME}{TEXT} where the claim (claims.py)
has its runs. A claim that is wrong stops the paper. `--check` writes nothing and names what is out
of date.

python -m paper.make [--check]
"""

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from deepnets import disk, models, recipes, runs
from deepnets.compare import style
from deepnets.compare.effects import ONE_TRAINING

from . import claims, figures

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
UNKNOWN = "--"
DATASETS = ("CIFAR-10", "MNIST")
# How a row of each table is found
PLACES = {
    "accuracies": ("dataset", "network", "recipe"), "effects": ("dataset", "network", "recipe"),
    "corners": ("dataset", "network"), "changes": ("change",), "control": ("network", "recipe"),
    "seeds": ("dataset", "network", "recipe", "seed"),
    "equal_rates": ("dataset", "network", "recipe"),
}  # fmt: skip
VERDICTS = {"better": "better than", "worse": "worse than"}  # others: not significantly different
# By what a column is multiplied, and its decimals
UNITS = {
    "parameters": (1e-6, 1), "macs": (1e-6, 0), "temperature": (1, 2), "reported": (100, 2),
    "original_seeds": (1, 0),
}  # fmt: skip
Tables = Mapping[str, pd.DataFrame]


def find(tables: Tables, table: str, *place: str) -> dict[str, Any]:
    """Returns the row of a table at a place, or nothing."""
    where = dict(zip(PLACES[table], place, strict=True))
    try:
        return claims.row(tables[table], PLACES[table][0], **where).to_dict()
    except claims.Missing:
        return {}


def written(row: Mapping[str, Any], name: str) -> str:
    """Returns a column of a row as the paper prints it: shares in per cent, effects in points."""
    column, _, form = name.partition(":")
    value = row.get(column, math.nan)
    if pd.isna(value):
        return UNKNOWN
    low, high = ("low", "high") if "low" in row else (f"{column}_low", f"{column}_high")
    if column == "verdict":
        return VERDICTS.get(value, "not significantly different from")
    if column.startswith("p_"):
        return "below 0.001" if value < 0.001 else f"{value:.3f}"
    scale, digits = UNITS.get(column, (100, 2 if row["dataset"] == "MNIST" else 1))
    if form == "interval":
        ends = (f"{scale * row[end]:.{digits}f}" for end in (low, high))
        return " to ".join(ends).replace("-", "$-$")
    up = math.copysign(1e-9, value)  # 81.05 is a little less in binary
    text = f"{scale * value + up:,.{digits}f}".replace("-", "$-$")
    if form == "reach":  # half of the interval
        return rf"{text} $\pm$ {scale * (row[high] - row[low]) / 2:.{digits}f}"
    return text


def tabular(columns: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a LaTeX table."""
    lines = [" & ".join(cells) + r" \\" for cells in (head, *rows)]
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:]]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def networks(tables: Tables) -> str:
    """Returns the table of the nine networks: size, and accuracy under `tuned`."""
    rows = []
    for name, title in style.NAMES.items():
        built = models.blueprint(name)
        size = {"dataset": "", "parameters": models.count_parameters(built)}
        size["macs"] = models.multiply_adds(built, 64)
        cells = [title, written(size, "parameters"), written(size, "macs")]
        found = [find(tables, "accuracies", dataset, name, "tuned") for dataset in DATASETS]
        rate = f"{recipes.get(recipes.TUNED.name, name).learning_rate:g}"
        cells.append(rate if any(found) else UNKNOWN)
        for row in found:
            accuracy = written(row, "accuracy:reach")
            cells.append(accuracy + "*" * (row.get("seeds") == 1 and accuracy != UNKNOWN))
        rows.append(cells)
    head = ["network", "param.", "mult.-add.", "rate", "CIFAR-10", "MNIST"]
    return tabular("@{}lrrlll@{}", head, rows)


def effects(tables: Tables) -> str:
    """Returns the table of improved minus original under `tuned`, a row a trained family."""
    rows = []
    for original, title in claims.FAMILIES.items():
        color, gray = (
            find(tables, "effects", d, f"{original}_improved", "tuned") for d in DATASETS
        )
        if not color:  # not trained yet
            continue
        p = written(color, "p_holm") if color.get("primary") else "--"
        star = ["*" * (row.get("verdict") == ONE_TRAINING) for row in (color, gray)]
        cells = [written(color, "effect"), written(color, "effect:interval") + star[0], p]
        rows.append([title, *cells, written(gray, "effect:interval") + star[1]])
    head = ["family", "effect", "95\\,\\% interval", "$p$", "MNIST, interval"]
    return tabular("@{}lrlll@{}", head, rows)


def gains(tables: Tables) -> str:
    """Returns the table of the published gains, taken apart, of families with all four corners."""
    found = {
        title: row
        for name, title in claims.FAMILIES.items()
        if pd.notna((row := find(tables, "corners", "CIFAR-10", f"{name}_improved")).get("gain"))
    }
    parts = {"published gain": "published_gain", "our gain": "gain:reach"}
    parts |= {part: f"{part}:reach" for part in ("training", "architecture", "interaction")}
    rows = [[t, *(written(row, part) for row in found.values())] for t, part in parts.items()]
    return tabular("@{}l" + "l" * len(found) + "@{}", ["", *found], rows)


def trainings(_: Tables) -> str:
    """Returns the table of the three recipes."""
    three = [recipes.VANILLA, recipes.ALTERED, recipes.TUNED]
    falls = [", ".join(f"{100 * m:.3g}" for m in r.milestones) + "\\,\\%" for r in three]
    rows = [
        ["learning rate", *(str(r.learning_rate) for r in three[:2]), "the network's"],
        ["falls tenfold after", "never", *falls[1:]],
        ["warm-up", *(f"{100 * r.warmup:g}\\,\\%" if r.warmup else "none" for r in three)],
        ["largest gradient", *(f"{r.clip:g}" if r.clip else "no limit" for r in three)],
        ["epochs", *(str(r.epochs) for r in three)],
        ["weight decay", *(f"{r.weight_decay:.5f}".rstrip("0.") or "0" for r in three)],
        ["label smoothing", *(f"{r.label_smoothing:g}" for r in three)],
        ["augmentation", "none", "as published", "shift, mirror"],
    ]
    head = ["", *(rf"\{r.name}{{}}" for r in three)]
    return tabular("@{}llll@{}", head, rows)


TABLES: dict[str, Callable[[Tables], str]] = {
    "networks": networks, "effects": effects, "gains": gains, "recipes": trainings,
}  # fmt: skip


def definitions(tables: Tables, facts: Mapping[str, str]) -> str:
    """Returns the LaTeX that defines the known numbers of main.tex, and the claims that hold."""
    found = {}
    asked = re.findall(r"\\(?:res|when)\{([^}#]+)\}", (HERE / "main.tex").read_text())
    for key in dict.fromkeys(asked):
        table, *place, column = key.split("/")
        if table == "rate":
            found[key] = str(recipes.get(recipes.TUNED.name, column).learning_rate)
        elif table == "mistakes":
            found[key] = facts[column]
        else:
            found[key] = written(find(tables, table, *place), column)
    said = {name: claims.verdict(claim, tables) for name, claim in claims.claims().items()}
    found |= {f"claim/{name}": "" for name, verdict in said.items() if verdict == "holds"}
    known = {key: value for key, value in found.items() if value != UNKNOWN}
    return "".join(f"\\resdef{{{key}}}{{{value}}}\n" for key, value in known.items())


def main(arguments: Sequence[str]) -> int:
    """Writes paper/generated, or checks it; returns 1 if it is out of date or a claim is wrong."""
    tables = {name: pd.read_csv(RESULTS / f"{name}.csv") for name in PLACES}
    [best] = figures.best(runs.find(RESULTS / "main"))
    made = {"numbers.tex": definitions(tables, figures.facts(best)).encode()}
    made |= {f"{name}.tex": table(tables).encode() for name, table in TABLES.items()}
    made |= {f"{name}.pdf": figure for name, figure in figures.drawn(tables, best).items()}
    paths = {HERE / "generated" / name: content for name, content in made.items()}
    said = {name: claims.verdict(claim, tables) for name, claim in claims.claims().items()}
    found = [f"claim {name} {text}" for name, text in said.items() if text.startswith("is wrong")]
    if "--check" in arguments:
        old = [p for p, content in paths.items() if not p.is_file() or p.read_bytes() != content]
        found += [f"{path.name} is out of date; python -m paper.make writes it" for path in old]
    else:
        disk.write_all(paths)
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
