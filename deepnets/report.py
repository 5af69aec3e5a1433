"""What runs say, in sentences, and in tables for a terminal and for Markdown."""

import math
from statistics import mode
from typing import Any, cast

import pandas as pd

from . import analysis
from .runs import CORRUPTIONS, Run

BRIEF = [
    "network",
    "recipe",
    "seeds",
    "accuracy %",
    "95 % interval",
    "ECE",
    *(f"{name} %" for name in CORRUPTIONS),
]
BRIEF += ["images", "epochs", "size", "core-seconds"]  # what a page or a terminal has room for


def _heading(tier: str, dataset: str) -> str:
    return f"{dataset}, {tier} tier" if tier else dataset


def findings(runs: list[Run]) -> list[str]:
    """What the runs say, in sentences: improved against original, architecture against recipe, and
    single changes.
    """
    return [
        f"{_heading(*where[:2])}, {said}" for where, said in _comparisons(runs) + _effects(runs)
    ]


def said_of(network: str, runs: list[Run]) -> str:
    """The findings among `runs` that speak of a `network`, in Markdown: comparisons fixed
    beforehand, and folded all others.
    """
    fixed, others = (
        [f"- {_heading(*where[:2])}, {said}" for where, said in lines if network in said]
        for lines in (_comparisons(runs), _effects(runs))
    )
    return "\n".join([*fixed, "", *_folded(others)])


def limits(runs: list[Run]) -> list[str]:
    """What the runs of a tier cannot say, in sentences: about longer training, about other seeds,
    about what never trained.
    """
    return [f"{_heading(*where[:2])}, {said}" for where, said in _limits(runs)]


# what runs share, the values of `analysis.SHARED`, and a sentence about them
Said = list[tuple[tuple[Any, ...], str]]


def _folded(lines: list[str]) -> list[str]:
    return lines and [
        "<details><summary>Architecture against recipe, and every single change</summary>",
        "",
        *lines,
        "",
        "</details>",
        "",
    ]


def _comparisons(runs: list[Run]) -> Said:
    """Improved against original.

    An improvement counts as one if the adjusted p is below 0.05 and the interval leaves out zero
    (studies/README.md).
    """
    lines = []
    for where, group in _by_network(analysis.primary(runs)):
        for row in group:
            verdict = analysis.verdict(row["low"], row["high"], row["p_holm"])
            said = f"{row['network']} {row['effect']}: {verdict}, {_points(row)}, {_p(row)}"
            if row["seeds"] > 2:
                said += f", ahead in {100 * row['better']:.0f} % of the pairs of trainings"
            lines.append((where, f"tuned: {said}, {_seeds(row)}."))
    return lines


def _effects(runs: list[Run]) -> Said:
    """The way to each improved network, architecture against recipe, and single changes."""
    lines = []
    several = analysis.between_seeds(analysis.accuracies(analysis.unchanged(runs))).query(
        f"recipe == {analysis.TUNED!r}"
    )
    apart_by_seed = several.set_index([*analysis.SHARED, "network"])["apart"].to_dict()
    for where, group in _by_network(analysis.ladder(runs)):
        if len(group) > 2:
            said = " -> ".join(f"{row['effect']} {100 * row['value']:.2f} %" for row in group)
            lines.append(
                (
                    where,
                    f"{group[0]['network']}, the way there: {said}, {_seeds(group[0]).partition(' (')[0]}.",
                )
            )
    for where, group in _by_network(analysis.two_by_two(runs)):
        effects = {row["effect"]: row for row in group}
        said = "; ".join(f"{name} {_points(effects[name])}" for name in analysis.EFFECTS)
        said += (
            f", {_seeds(group[0])}"
            + "; one of the four cells hardly left the accuracy of guessing" * group[0]["stuck"]
        )
        lines.append((where, f"{group[0]['network']}: {said}."))
    for where, group in _by_network(analysis.changes(runs)):
        network = group[0]["network"]
        primary = analysis.ONE_CHANGE.get(network)
        if [row["variant"] for row in group] == [primary]:
            continue  # the comparison of both networks says it
        ranked = sorted(group, key=lambda row: -abs(row["value"]))
        what = "undone" if network in analysis.ORIGINALS else "made"
        usual = mode(_seeds(row) for row in ranked)
        gave = []
        for row in ranked:
            notes = ["the comparison above"] * (row["variant"] == primary) + [_seeds(row)] * (
                _seeds(row) != usual
            )
            gave.append(", ".join([f"{row['effect']} {_points(row)}, {_p(row)}", *notes]))
        lines.append(
            (
                where,
                f"{network}, changes {what} one at a time, accuracy with each minus without it, {usual}:",
            )
        )
        lines += [(where, f"{network}, {effect}.") for effect in gave]
        if len(group) > 1:
            told = [row for row in ranked if row["told"]]
            rest = ", ".join(row["effect"] for row in ranked if row not in told)
            most = (
                f"the largest effect is that of {told[0]['effect']}"
                if told
                else "none can be told from no change"
            )
            others = f"; not to be told from no change: {rest}" if told and rest else ""
            apart = apart_by_seed.get((*where, network), 0.0)
            seeds = (
                f"; its own trainings under tuned lie up to {100 * apart:.2f} points apart"
                if apart
                else ""
            )
            lines.append(
                (where, f"{network}, of these {len(group)} changes: {most}{others}{seeds}.")
            )
    return lines


def _limits(runs: list[Run]) -> Said:
    """What the runs of a tier cannot say: about longer training, about other seeds, about what
    never trained.
    """
    lines = []
    for group, part in analysis.accuracies(analysis.unchanged(runs)).groupby(
        [*analysis.SHARED], sort=False
    ):
        shared = dict(zip(analysis.SHARED, cast(tuple, group), strict=True))
        said = []
        if part["limited"].any():
            said.append(
                f"{shared['train_images']:,} images and {shared['epochs']} epochs tell nothing of long training on more"
            )
        several = analysis.between_seeds(part)
        if once := len(part) - len(several):
            said.append(
                f"{once} of {len(part)} cells have one seed, and what is said of them holds for these trainings only"
            )
        if len(several):
            most = several.loc[several["apart"].idxmax()]
            where = f"{most['network']}, {most['recipe']}"
            said.append(
                f"trainings of one cell lie up to {100 * most['apart']:.2f} points apart ({where})"
            )
        if len(stuck := part[part["stuck"]]):
            named = ", ".join(
                f"{row['network']} under {row['recipe']}" for _, row in stuck.iterrows()
            )
            said.append(
                f"{named} hardly left the accuracy of guessing, and effects that include such a cell measure that"
            )
        if said:
            lines.append((cast(tuple, group), f"what this cannot say: {'; '.join(said)}."))
    return lines


def _by_network(table: pd.DataFrame) -> list[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """The rows of each network among runs that may be compared, with what these share."""
    if table.empty:
        return []
    grouped = table.groupby([*analysis.SHARED, "network"], sort=False)
    return [
        (cast(tuple, group)[:-1], cast(Any, part).to_dict("records")) for group, part in grouped
    ]


def _points(row: dict[str, Any]) -> str:
    """An effect with its interval, in points of accuracy."""
    sure = "" if row["low"] > 0 or row["high"] < 0 else ", includes zero"
    return f"{100 * row['value']:+.2f} points ({100 * row['low']:+.2f} to {100 * row['high']:+.2f}{sure})"


def _p(row: dict[str, Any]) -> str:
    """The adjusted p of a test; none is zero, whatever a float says."""
    return f"p = {row['p_holm']:.2g}" if row["p_holm"] >= 1e-10 else "p < 1e-10"


def _seeds(row: dict[str, Any]) -> str:
    return (
        "one seed (the interval is over test images only)"
        if row["seeds"] == 1
        else f"{row['seeds']} seeds"
    )


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of `analysis.accuracies` that a person reads, as text."""
    percent = (100 * table[["accuracy", "low", "high"]]).map("{:.2f}".format)
    corrupted = (100 * table[[*CORRUPTIONS]]).map("{:.1f}".format)  # of a thousand images
    return pd.DataFrame(
        {
            "network": table["network"],
            "tier": table["tier"],
            "dataset": table["dataset"],
            "recipe": table["recipe"].str.replace(r"-(?=[a-z_]+=)", ", ", regex=True),
            "seeds": table["seeds"],
            "accuracy %": percent["accuracy"],
            "95 % interval": percent["low"] + " to " + percent["high"],
            "ECE": table["test_ece"].map("{:.3f}".format),
            "temperature": table["temperature"].map("{:.2f}".format),
            "ECE then": table["test_ece_calibrated"].map("{:.3f}".format),
            **{f"{name} %": corrupted[name] for name in CORRUPTIONS},
            "parameters": table["parameters"].map("{:,}".format),
            "mult-adds M": (table["macs"] / 1e6).map("{:,.1f}".format),
            "images": table["train_images"],
            "epochs": table["epochs"],
            "size": table["input_size"],
            "seconds": table["train_seconds"].map("{:.0f}".format),
            "core-seconds": _cost(table, 1, 0),
            "core-hours": _cost(table, 3600, 1),
            "images/s": table["images_per_second"].map("{:.0f}".format),
        }
    )


def _cost(table: pd.DataFrame, seconds: int, decimals: int) -> list[str]:
    """Time by threads in units of so many `seconds`; a GPU's time is called so, and has twice the
    `decimals`.
    """
    pairs = zip(table["core_seconds"] / seconds, table["train_seconds"] / seconds, strict=True)
    return [
        f"GPU {gpu:.{2 * decimals}f}" if math.isnan(cores) else f"{cores:.{decimals}f}"
        for cores, gpu in pairs
    ]
