"""Writes the study's tables, results/*.csv, from its runs, and from these what README and
results/README show.

`--check` names the files that differ.

python -m results.make [--check]
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from deepnets import disk, models, runs
from deepnets.compare import charts, effects, groups, style
from deepnets.compare.text import markdown, percent
from deepnets.errors import UserError
from deepnets.info import CORRUPTIONS
from deepnets.runs import Run
from paper import figures

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
STUDIES = ("main", "replication", "changes", "equal_rates", "control")
DATASETS = ("CIFAR-10", "MNIST")
RECIPES = ["tuned", "best", "classic", "vanilla", "altered"]


def find(root: Path = HERE) -> list[Run]:
    """Returns the runs of the study, from the folders of `STUDIES` that are there."""
    folders = [root / study for study in STUDIES if (root / study).is_dir()]
    return [run for folder in folders for run in runs.find(folder)]


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
        (charts.corners, part["corners"], "network"), (charts.changes, of_whole(part["changes"]), "effect"),
        (charts.cost, whole, "accuracy"), (charts.robustness, whole, "accuracy"),
        (charts.calibration, whole, "accuracy"),
    ]  # fmt: skip
    return {
        f"{chart.__name__}.png": style.encoded(chart(table), dpi=200)
        for chart, table, needed in draw
        if len(table) and table[needed].notna().all()
    }


def mistakes(found: Sequence[Run]) -> dict[str, bytes]:
    """Returns README's picture of the most accurate network's mistakes by its name, if there is any."""
    best = figures.best(groups.opened(found))
    drawn = [style.encoded(figures.mistakes(run), dpi=200) for run in best]
    return dict(zip(["mistakes.png"], drawn, strict=False))


def networks(accuracies: pd.DataFrame) -> pd.DataFrame:
    """Returns README's table: a row a network, with its accuracies under `tuned` in percent.

    Several seeds have half of their 95 % interval; of what is not trained yet a cell is empty.
    """
    rows = accuracies[(accuracies["recipe"] == "tuned") & (accuracies["options"] == "")]
    table = pd.DataFrame(index=pd.Index(style.NAMES, name="network"))
    blueprints = [models.blueprint(name) for name in table.index]
    table["parameters"] = [f"{models.count_parameters(network):,}" for network in blueprints]
    costs = [models.multiply_adds(network, 64) for network in blueprints]
    table["multiply-adds, M"] = [f"{cost / 1e6:,.0f}" for cost in costs]
    for title in DATASETS:
        found = rows[rows["dataset"] == title].dropna(subset="accuracy").set_index("network")
        half = (50 * (found["high"] - found["low"])).map(" ± {:.2f}".format)
        shown = percent(found["accuracy"]) + half.where(found["seeds"] > 1, "")
        table[title] = shown.astype(object).reindex(table.index, fill_value="")
    return table.rename(index=style.NAMES).reset_index()


def measured(accuracies: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Returns what was measured of each network on a dataset, by recipe, the most accurate first.

    Shares are in percent. Networks whose test accuracies may not be looked at yet are left out.
    """
    rows = accuracies[(accuracies["dataset"] == dataset) & (accuracies["options"] == "")]
    rows = rows[rows["recipe"].isin(RECIPES) & (rows["input_size"] == 64)]
    rows = rows.dropna(subset="accuracy")
    rows = rows.sort_values("accuracy", ascending=False)
    rows = rows.sort_values("recipe", key=lambda names: names.map(RECIPES.index), kind="stable")
    seconds = rows["seconds"].map("{:,.0f}".format).where(rows["seconds"].notna(), "differs")
    return pd.DataFrame(
        {"network": rows["network"].map(style.NAMES), "recipe": rows["recipe"]}
        | {"epochs": rows["epochs"], "seeds": rows["seeds"], "accuracy": percent(rows["accuracy"])}
        | {"95 % interval": percent(rows["low"]) + " to " + percent(rows["high"])}
        | {name: (100 * rows[name]).map("{:.1f}".format) for name in (*CORRUPTIONS, "ece")}
        | {"temperature": rows["temperature"].map("{:.2f}".format)}
        | {"seconds": seconds, "trained on": rows["devices"]}
    )


def points(rows: pd.DataFrame, part: str, ends: str = "") -> pd.Series:
    """Returns effects as text, in points with their 95 % intervals, empty where they are missing.

    Args:
        rows: of a table.
        part: the effects' column.
        ends: what the columns of the intervals' ends begin with.
    """
    value, low, high = (
        (100 * rows[name]).map("{:+.2f}".format) for name in (part, f"{ends}low", f"{ends}high")
    )
    return (value + " (" + low + " to " + high + ")").where(rows[f"{ends}low"].notna(), "")


def contrasts(effects: pd.DataFrame) -> pd.DataFrame:
    """Returns the effects of the improved forms, as a table to read."""
    p = effects["p_holm"].map("{:.3f}".format).where(effects["p_holm"].notna(), "")
    return pd.DataFrame(
        {"improved minus original": effects["network"].map(style.NAMES)}
        | {"dataset": effects["dataset"], "recipe": effects["recipe"]}
        | {"trainings": effects["seeds"].astype(str) + ", " + effects["original_seeds"].astype(str)}
        | {"effect in points": points(effects, "effect"), "adjusted p": p}
        | {"by its own variance": points(effects, "effect", "own_")}
        | {
            "verdict": effects["verdict"]
            + effects["welch"].map({True: ", by Welch's form"}).fillna("")
        }
    )


def at_one_rate(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the effects at equal learning rates, as a table to read."""
    return pd.DataFrame(
        {"improved minus original": rows["network"].map(style.NAMES)}
        | {"recipe": rows["recipe"], "learning rate": rows["learning_rate"]}
        | {"trainings": rows["seeds"].astype(str) + ", " + rows["original_seeds"].astype(str)}
        | {"effect in points": points(rows, "effect")}
    )


def taken_apart(corners: pd.DataFrame) -> pd.DataFrame:
    """Returns the published gains and what they are made of, as a table to read."""
    found = {"improved": corners["network"].map(style.NAMES), "dataset": corners["dataset"]}
    for column in effects.CORNERS:
        share = percent(corners[column]).where(corners[column].notna(), "")
        found[column.replace("_", ", ")] = share
    ends = ("published_original", "published_improved")
    found["published"] = percent(corners[ends[0]]) + ", " + percent(corners[ends[1]])
    found |= {part: points(corners, part, f"{part}_") for part in effects.PARTS}
    return pd.DataFrame(found)


def of_whole(changes: pd.DataFrame) -> pd.DataFrame:
    """Returns the single changes of ResNet18+, the network of studies/changes.toml."""
    return changes[changes["network"] == "resnet18_improved"]


def single_changes(changes: pd.DataFrame) -> pd.DataFrame:
    """Returns the effects of single changes, as a table to read."""
    return pd.DataFrame(
        {"change": changes["change"].replace(charts.CHANGES)}
        | {"effect in points": points(changes, "effect"), "verdict": changes["verdict"]}
    )


def others(control: pd.DataFrame) -> pd.DataFrame:
    """Returns what others report beside ours, as a table to read."""
    reported = percent(control["reported"]).where(control["reported"].notna(), "")
    return pd.DataFrame(
        {"network": control["network"].map(style.NAMES), "recipe": control["recipe"]}
        | {"side in pixels": control["input_size"], "epochs": control["epochs"]}
        | {"accuracy": percent(control["accuracy"])}
        | {"95 % interval": percent(control["low"]) + " to " + percent(control["high"])}
        | {"reported": reported}
    )


def filled(text: str, shown: dict[str, pd.DataFrame]) -> str:
    """Returns a page whose tables, each between two comments with its name, are made anew."""
    for name, table in shown.items():
        body = markdown(table) if len(table) else "*Not trained yet.*"
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        text = f"{text[: text.index(start)]}{start}\n{body}\n{text[text.index(end) :]}"
    return text


def readme(made: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Returns README's tables by their names."""
    return {"networks": networks(made["accuracies"])}


def page(made: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Returns the tables of results/README by their names."""
    return {title: measured(made["accuracies"], title) for title in DATASETS} | {
        "effects": contrasts(made["effects"]), "rates": at_one_rate(made["equal_rates"]), "corners": taken_apart(made["corners"]),
        "changes": single_changes(of_whole(made["changes"])), "control": others(made["control"]),
    }  # fmt: skip


def main(arguments: Sequence[str], root: Path = HERE, readme_file: Path = README) -> int:
    """Writes the tables of the runs in `root` there, and what README shows, or checks them.

    Returns:
        The exit code.
    """
    if unknown := [word for word in arguments if word != "--check"]:
        print(f"results/make.py: {unknown[0]!r} is not known; it has --check", file=sys.stderr)
        return 2
    try:
        found = find(root)
        table = tables(found)
    except UserError as error:
        print(f"results/make.py: {error}", file=sys.stderr)
        return 2
    made = {root / f"{name}.csv": text(rows).encode() for name, rows in table.items()}
    drawn = pictures(table) | mistakes(found)
    made |= {readme_file.parent / "assets" / name: content for name, content in drawn.items()}
    for path, shown in ((readme_file, readme(table)), (root / "README.md", page(table))):
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
