"""Tables made from runs."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from . import figures, metrics
from .errors import UserError
from .runs import Run

KEPT = (
    "seed", "epochs", "train_images", "input_size", "parameters", "macs", "train_seconds", "images_per_second", "device",
)  # fmt: skip


def comparison(runs: list[Run]) -> pd.DataFrame:
    """One row a run, the best first within each dataset: accuracy (share) with its 95 % interval, and what it cost.

    The interval is Wilson's over the test images: what another test set might give, not what another seed might.
    """
    rows = []
    for run in runs:
        low, high = metrics.accuracy_interval(run.info["test_correct"], run.info["test_total"])
        named = {"dataset": run.info["dataset_title"], "network": run.label, "recipe": run.info["recipe"]["name"]}
        rows.append(named | {"accuracy": run.accuracy, "low": low, "high": high} | {key: run.info[key] for key in KEPT})
    table = pd.DataFrame(rows)
    return table.sort_values(["dataset", "accuracy", "network"], ascending=[True, False, True], ignore_index=True)


def pairwise(runs: list[Run]) -> list[dict[str, Any]]:
    """Exact McNemar tests between networks with the same test images, recipe and seed; all of them are one family for Holm.

    Returns:
        A dict a pair: what the two share, both networks, the difference of their accuracies (first minus second, share),
        `p` and `p_holm`.
    """

    def shared(run: Run) -> tuple[str, str, str, int]:
        return run.info["dataset_title"], run.info["data_sha256"], run.info["recipe"]["name"], run.info["seed"]

    ranked = sorted(runs, key=lambda run: (shared(run), -run.accuracy))
    pairs = [(a, b) for a, b in combinations(ranked, 2) if shared(a) == shared(b)]
    p_values = [metrics.mcnemar(a.correct, b.correct) for a, b in pairs]
    results = []
    for (a, b), p, adjusted in zip(pairs, p_values, metrics.holm(p_values), strict=True):
        title, _, recipe, seed = shared(a)
        names = {"dataset": title, "recipe": recipe, "seed": seed, "first": a.label, "second": b.label}
        results.append(names | {"difference": a.accuracy - b.accuracy, "p": p, "p_holm": adjusted})
    return results


def comparison_text(runs: list[Run]) -> str:
    """Both tables for a terminal: every run, then the pairs that can be told apart, and how many cannot."""
    table = comparison(runs)
    shown, lines = _as_text(table), []
    for dataset in table["dataset"].unique():
        lines += [dataset, shown[table["dataset"] == dataset].to_string(index=False), ""]
    lines += [f"warning: {run.path}: {text}" for run in runs for text in run.info["warnings"]]
    pairs = pairwise(runs)
    apart = [pair for pair in pairs if pair["p_holm"] < 0.05]
    lines.append(
        f"Exact McNemar tests on the same test images, Holm-adjusted: {len(apart)} of {len(pairs)} pairs differ (p < 0.05)."
    )
    for pair in apart:
        difference = f"{pair['first']} > {pair['second']} by {100 * pair['difference']:.2f} points"
        lines.append(f"  {difference} (p = {pair['p_holm']:.2g}; {pair['dataset']}, {pair['recipe']}, seed {pair['seed']})")
    return "\n".join(lines)


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of `comparison` that a person reads, as text."""
    percent = (100 * table[["accuracy", "low", "high"]]).map("{:.2f}".format)
    return pd.DataFrame(
        {
            "network": table["network"],
            "recipe": table["recipe"],
            "seed": table["seed"],
            "accuracy %": percent["accuracy"],
            "95 % interval": percent["low"] + " to " + percent["high"],
            "parameters": table["parameters"].map("{:,}".format),
            "mult-adds M": (table["macs"] / 1e6).map("{:,.1f}".format),
            "images": table["train_images"],
            "epochs": table["epochs"],
            "size": table["input_size"],
            "seconds": table["train_seconds"].map("{:.0f}".format),
            "images/s": table["images_per_second"].map("{:.0f}".format),
        }
    )


def fill_readme(path: Path, runs: list[Run]) -> None:
    """Put the comparison of runs between the two comments in a Markdown file that name the program.

    Raises:
        UserError: the file has no such comments.
    """
    shown = _as_text(comparison(runs)).drop(columns=["recipe", "seed"])
    rows = [" | ".join(shown.columns), "|".join(["---"] + ["---:"] * (len(shown.columns) - 1))]
    rows += [" | ".join(map(str, row)) for row in shown.itertuples(index=False)]
    machines = sorted({f"{run.info['device']}, {run.info['precision']}, {run.info['threads']} threads" for run in runs})
    table = "\n".join(f"| {row} |" for row in rows) + f"\n\nTrained on: {'; '.join(machines)}."
    text, count = re.subn(r"(?s)(<!-- deepnets -->\n).*(<!-- /deepnets -->)", rf"\g<1>{table}\n\g<2>", path.read_text())
    if not count:
        raise UserError(f"{path} has no place for the table: <!-- deepnets --> and <!-- /deepnets -->")
    path.write_text(text)


def write_pictures(runs: list[Run], out: Path) -> list[Path]:
    """Learning curves and confusion matrices of runs, a picture of each for every dataset, as PNG in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for title in sorted({run.info["dataset_title"] for run in runs}):
        group = [run for run in runs if run.info["dataset_title"] == title]
        stem = re.sub(r"\W+", "-", title.lower()).strip("-")
        for name, draw in (("curves", figures.curves), ("confusion", figures.confusions)):
            paths.append(out / f"{stem}-{name}.png")
            figures.save(draw(group), paths[-1])
    return paths
