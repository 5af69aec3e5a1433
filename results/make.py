"""Writes the study's tables, results/*.csv, from its runs, and from these what README and
results/README show.

`--check` names the files that differ.

python -m results.make [--check]
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from string import Formatter

import pandas as pd

from deepnets import disk, models, runs
from deepnets.compare import charts, effects, style
from deepnets.compare.text import markdown, percent
from deepnets.errors import UserError
from deepnets.runs import Run
from paper import figures

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
STUDIES = ("main", "replication", "changes", "equal_rates", "control")
DATASETS = ("CIFAR-10", "MNIST")
RECIPES = ["tuned", "best", "classic", "vanilla", "altered"]


def points(effect: str, ends: str = "") -> str:
    """Returns the format of an effect and its interval, the columns `ends`low and `ends`high."""
    return f"{{{effect}:+.2%}} ({{{ends}low:+.2%}} to {{{ends}high:+.2%}})"


# The tables to read: their titles, and how `cells` writes a row
MEASURED = {
    "network": "{network}", "recipe": "{recipe}", "epochs": "{epochs}", "seeds": "{seeds}",
    "accuracy": "{accuracy:.2%}", "95 % interval": "{low:.2%} to {high:.2%}",
    "noise": "{noise:.1%}", "blur": "{blur:.1%}", "contrast": "{contrast:.1%}",
    "ece": "{ece:.1%}", "temperature": "{temperature:.2f}", "seconds": "{seconds:,.0f}",
    "trained on": "{devices}",
}  # fmt: skip
READ = {
    "effects": {
        "improved minus original": "{network}", "dataset": "{dataset}", "recipe": "{recipe}",
        "trainings": "{seeds}, {original_seeds}", "effect in points": points("effect"),
        "adjusted p": "{p}", "by its own variance": points("effect", "own_"),
        "verdict": "{verdict}{welch}",
    },
    "rates": {
        "improved minus original": "{network}", "recipe": "{recipe}",
        "learning rate": "{learning_rate}", "trainings": "{seeds}, {original_seeds}",
        "effect in points": points("effect"),
    },
    "corners": {
        "improved": "{network}", "dataset": "{dataset}",
        "original, vanilla": "{original_vanilla:.2%}",
        "original, altered": "{original_altered:.2%}",
        "improved, vanilla": "{improved_vanilla:.2%}",
        "improved, altered": "{improved_altered:.2%}",
        "published": "{published_original:.2%}, {published_improved:.2%}",
    } | {part: points(part, f"{part}_") for part in effects.PARTS},
    "changes": {
        "change": "{change}", "effect in points": points("effect"), "verdict": "{verdict}",
    },
    "control": {
        "network": "{network}", "recipe": "{recipe}", "side in pixels": "{input_size}",
        "epochs": "{epochs}", "accuracy": "{accuracy:.2%}",
        "95 % interval": "{low:.2%} to {high:.2%}", "reported": "{reported:.2%}",
    },
}  # fmt: skip


def tuned(accuracies: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of whole networks under `tuned`."""
    return accuracies[(accuracies["recipe"] == "tuned") & (accuracies["options"] == "")]


def of_whole(changes: pd.DataFrame) -> pd.DataFrame:
    """Returns the single changes of ResNet18+, the network of studies/changes.toml."""
    return changes[changes["network"] == "resnet18_improved"]


def pictures(made: dict[str, pd.DataFrame], found: Sequence[Run]) -> dict[str, bytes]:
    """Returns README's pictures (PNG) of CIFAR-10 by their names, those that have rows.

    `mistakes` are the most accurate network's.
    """
    part = {name: table[table["dataset"] == "CIFAR-10"] for name, table in made.items()}
    rows = tuned(part["accuracies"])
    drawn = {
        chart.__name__: chart(table)
        for chart, table in (
            (charts.cost, rows), (charts.robustness, rows), (charts.calibration, rows),
            (charts.corners, part["corners"]), (charts.changes, of_whole(part["changes"])),
        )
        if len(table)
    }  # fmt: skip
    for run in figures.best(found):
        drawn["mistakes"] = figures.mistakes(run)
    return {f"{name}.png": style.encoded(figure, dpi=200) for name, figure in drawn.items()}


def networks(accuracies: pd.DataFrame) -> pd.DataFrame:
    """Returns README's table: a row a network, with its accuracies under `tuned` in percent.

    Several seeds have half of their 95 % interval; of what is not trained yet a cell is empty.
    """
    table = pd.DataFrame(index=pd.Index(style.NAMES, name="network"))
    blueprints = [models.blueprint(name) for name in table.index]
    table["parameters"] = [f"{models.count_parameters(network):,}" for network in blueprints]
    costs = [models.multiply_adds(network, 64) for network in blueprints]
    table["multiply-adds, M"] = [f"{cost / 1e6:,.0f}" for cost in costs]
    rows = tuned(accuracies)
    for title in DATASETS:
        found = rows[rows["dataset"] == title].set_index("network")
        half = (50 * (found["high"] - found["low"])).map(" ± {:.2f}".format)
        shown = percent(found["accuracy"]) + half.where(found["seeds"] > 1, "")
        table[title] = shown.astype(object).reindex(table.index, fill_value="")
    return table.rename(index=style.NAMES).reset_index()


def cells(table: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Returns a table to read: each row as the formats of `columns` write it.

    Percent signs are left out. A cell is empty where a value that it needs is not known.
    """
    rows = table.replace({"network": style.NAMES, "change": charts.CHANGES}).to_dict("records")
    made = {}
    for title, form in columns.items():
        needed = [name for _, name, _, _ in Formatter().parse(form) if name]
        known = zip(rows, table[needed].notna().all(axis=1), strict=True)
        written = (form.format(**row) if all_known else "" for row, all_known in known)
        made[title] = [cell.replace("%", "") for cell in written]
    return pd.DataFrame(made)


def measured(accuracies: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Returns what was measured of each network on a dataset by recipe, the most accurate first."""
    rows = accuracies[(accuracies["dataset"] == dataset) & (accuracies["options"] == "")]
    rows = rows[rows["recipe"].isin(RECIPES) & (rows["input_size"] == 64)]
    rows = rows.sort_values("accuracy", ascending=False)
    rows = rows.sort_values("recipe", key=lambda names: names.map(RECIPES.index), kind="stable")
    return cells(rows, MEASURED).replace({"seconds": {"": "differs"}})


def filled(text: str, shown: dict[str, pd.DataFrame]) -> str:
    """Returns a page whose tables, each between two comments with its name, are made anew."""
    for name, table in shown.items():
        body = markdown(table) if len(table) else "*Not trained yet.*"
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        text = f"{text[: text.index(start)]}{start}\n{body}\n{text[text.index(end) :]}"
    return text


def page(made: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Returns the tables of results/README by their names."""
    welch = made["effects"]["welch"].map({True: ", by Welch's form"}).fillna("")
    p = made["effects"]["p_holm"].map("{:.3f}".format).replace({"0.000": "< 0.001", "nan": ""})
    rows = made | {"effects": made["effects"].assign(p=p, welch=welch)}
    rows["rates"] = made["equal_rates"]
    rows["changes"] = of_whole(made["changes"])
    return {title: measured(made["accuracies"], title) for title in DATASETS} | {
        name: cells(rows[name], columns) for name, columns in READ.items()
    }


def main(arguments: Sequence[str], root: Path = HERE, readme_file: Path = README) -> int:
    """Writes the tables of the runs in `root` there, and what README shows, or checks them.

    Returns:
        The exit code.
    """
    if unknown := [word for word in arguments if word != "--check"]:
        print(f"results/make.py: {unknown[0]!r} is not known; it has --check", file=sys.stderr)
        return 2
    folders = [root / study for study in STUDIES if (root / study).is_dir()]
    try:
        found = [run for folder in folders for run in runs.find(folder)]
        table = {name: make(found) for name, make in effects.TABLES.items()}
    except UserError as error:
        print(f"results/make.py: {error}", file=sys.stderr)
        return 2
    as_text = {"index": False, "float_format": "%.6f", "lineterminator": "\n"}
    made = {root / f"{name}.csv": rows.to_csv(**as_text).encode() for name, rows in table.items()}
    drawn = pictures(table, found)
    made |= {readme_file.parent / "assets" / name: content for name, content in drawn.items()}
    front = {"networks": networks(table["accuracies"])}
    for path, shown in ((readme_file, front), (root / "README.md", page(table))):
        made[path] = filled(path.read_text(), shown).encode()
    old = [path for path in made if not path.is_file() or path.read_bytes() != made[path]]
    if "--check" in arguments:
        for path in old:
            print(f"{path.name} is not what the runs say; python -m results.make writes it")
        return 1 if old else 0
    print(*disk.write_all({path: made[path] for path in old}), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
