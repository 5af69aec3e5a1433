"""What runs say, in sentences, and in tables for a terminal and for Markdown."""

import math
import re
from pathlib import Path
from statistics import mode
from typing import Any, cast

import pandas as pd

from . import analysis, disk
from .errors import UserError
from .runs import CORRUPTIONS, Run, short_title

# Test accuracies that others report, in per cent. At 64x64: an earlier comparison of these
# networks, 50 epochs, one training each and no seed. At 32x32: CIFAR-10's original files with crops
# and flips; ResNet20 as in He et al. 2016, table 6, the others from the README files of
# github.com/bearpaw/pytorch-classification (AlexNet), kuangliu/pytorch-cifar,
# huyvnphan/PyTorch_CIFAR10, chenyaofo/pytorch-cifar-models and
# WeihaoZhuang/cifar10-100-fast-training, lowest to highest, read in November 2026. They are of
# forms made for 32 pixels: ResNet18 and GoogLeNet without the early strides and pools, VGG with
# batch norm, something like AlexNet.
REPORTED = {
    ("CIFAR-10", 32): {
        "alexnet": "77.22", "vgg11": "92.39 to 92.79", "vgg16": "92.64 to 94.27", "resnet20": "91.25",
        "resnet18": "93.02 to 95.32", "googlenet": "92.85 to 95.35",
    },
    ("CIFAR-10", 64): {
        "vgg16": "75.98", "vgg16_improved": "79.02", "resnet18": "65.53", "resnet18_improved": "81.87",
        "googlenet": "83.15", "googlenet_improved": "85.85",
    },
    ("MNIST", 64): {
        "vgg16": "99.19", "vgg16_improved": "99.65", "resnet18": "98.99", "resnet18_improved": "99.63",
        "googlenet": "99.51", "googlenet_improved": "99.65",
    },
}  # fmt: skip


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


def comparison_text(runs: list[Run]) -> str:
    """For a terminal: every network and recipe, what the runs say of improvements, and the pairs
    that can be told apart.
    """
    table = analysis.accuracies(runs)
    shown, lines = readable(table), []
    for group, part in table.groupby(["tier", "dataset"], sort=False):
        lines += [
            _heading(*cast(tuple[str, str], group)),
            shown.loc[part.index, BRIEF].to_string(index=False),
            "",
        ]
    lines += [f"warning: {run.path}: {text}" for run in runs for text in run.info["warnings"]]
    lines += findings(runs) + limits(runs)
    pairs = analysis.pairwise(runs)
    apart = [pair for pair in pairs if pair["p_holm"] < 0.05]
    lines.append(
        f"Exploratory: exact McNemar tests of all pairs on the same test images, Holm-adjusted: {len(apart)} of {len(pairs)} "
        "pairs differ (p < 0.05)."
    )
    for pair in apart:
        difference = f"{pair['first']} > {pair['second']} by {100 * pair['difference']:.2f} points"
        where = f"{_heading(pair['tier'], pair['dataset'])}, {pair['recipe']}, seed {pair['seed']}"
        lines.append(
            f"  {difference} ({'; '.join(filter(None, [_p(pair), where, pair['differ']]))})"
        )
    return "\n".join(lines)


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


def runs_table(runs: list[Run]) -> str:
    """The comparison of runs of one recipe and seed in Markdown."""
    machines = sorted(
        {
            f"{run.info['device']}, {run.info['precision']}, {run.info['threads']} threads"
            for run in runs
        }
    )
    kept = [
        "network",
        "accuracy %",
        "95 % interval",
        "parameters",
        "mult-adds M",
        "images",
        "epochs",
        "size",
    ]
    shown = readable(analysis.accuracies(runs))[[*kept, "seconds", "images/s"]]
    return f"{_markdown(shown)}\n\nTrained on: {'; '.join(machines)}."


def study_table(runs: list[Run]) -> str:
    """The runs of a study's tier in Markdown: of each dataset a table without the single changes,
    and what all of them say.
    """
    table = analysis.accuracies(analysis.unchanged(runs))
    shown, lines = readable(table), []
    kept = [
        "network",
        "recipe",
        "seeds",
        "accuracy %",
        "95 % interval",
        *(f"{name} %" for name in CORRUPTIONS),
    ]
    kept += ["ECE", "mult-adds M", "core-seconds"]
    said, folded = _comparisons(runs) + _limits(runs), _effects(runs)
    for group, part in table.groupby([*analysis.SHARED], sort=False):
        shared = dict(zip(analysis.SHARED, cast(tuple, group), strict=True))
        what = "{train_images:,} training images, {epochs} epochs, batches of {batch_size}, {precision}".format(
            **shared
        )
        machines = " and ".join(sorted(set(part["devices"].explode())))
        heading = f"**{_heading(shared['tier'], shared['dataset'])}**: {what}, {machines}"
        lines += [heading, "", _markdown(shown.loc[part.index, kept]), ""]
        lines += [*(f"- {line}" for where, line in said if where == group), ""]
        lines += _folded([f"- {line}" for where, line in folded if where == group])
    return "\n".join(lines[:-1])


def overview_table(full: list[Run], control: list[Run]) -> str:
    """In Markdown, a row a network: its accuracy by dataset and recipe, with half of the interval
    if there are several seeds.

    Of the `control` runs those under `best` that saw the same images as the `full` tier.
    Multiply-adds are of the first dataset's images; the highest accuracies on it, without `best`,
    come first.
    """
    seen = {run.info["data_sha256"] for run in full}
    best = [run for run in control if run.recipe == "best" and run.info["data_sha256"] in seen]
    table = analysis.accuracies(analysis.unchanged(full + best))
    table["dataset"] = table["dataset"].map(short_title)
    half = (
        (50 * (table["high"] - table["low"])).map(" ± {:.2f}".format).where(table["seeds"] > 1, "")
    )
    table["accuracy %"] = (100 * table["accuracy"]).map("{:.2f}".format) + half
    wide = table.pivot(index="network", columns=["dataset", "recipe"], values="accuracy %")
    wide = wide.reindex(
        columns=[
            (name, recipe)
            for name in table["dataset"].unique()
            for recipe in ("plain", "tuned", "best")
        ]
    )
    wide.columns = wide.columns.map(" ".join)
    costs = (
        readable(table[table["recipe"] != "best"]).drop_duplicates("network").set_index("network")
    )
    return _markdown(costs[["parameters", "mult-adds M"]].join(wide).fillna("").reset_index())


def reported_table(full: list[Run], control: list[Run]) -> str:
    """Trainings on all images beside what others report of networks of that name, if they do, in
    Markdown.

    What they report at 32x32 was trained on changed images and stands beside such runs only.
    """
    table = analysis.accuracies(analysis.unchanged(full) + control)  # no single changes
    shown = readable(table)
    for size in (64, 32):
        others = [REPORTED.get((short_title(title), size), {}) for title in shown["dataset"]]
        beside = (shown["recipe"] != analysis.PLAIN) | (size == 64)
        rows = zip(others, shown["network"], beside, strict=True)
        shown[f"others at {size}"] = [
            known.get(network, "") if there else "" for known, network, there in rows
        ]
    reported = (shown["others at 64"] != "") | (shown["others at 32"] != "")
    kept = ["network", "tier", "dataset", "recipe", "size", "epochs", "accuracy %", "95 % interval"]
    devices = " and ".join(sorted(set(table.loc[reported, "devices"].explode())))
    return f"{_markdown(shown.loc[reported, [*kept, 'others at 64', 'others at 32', 'core-hours']])}\n\nTrained on: {devices}."


def bench_table(results: dict[str, Any]) -> str:
    """What `deepnets bench --json` printed, in Markdown."""
    machine, rows = results["machine"], []
    precision = machine["precision"]
    for row in results["networks"]:
        named = {"network": row["name"], "images/s": f"{row['ours']:.0f}"}
        for kind, versus in (("fp32", row), (precision, row.get("same_precision", {}))):
            if "ratio" in versus:
                named[f"usual loop, {kind}"] = f"{versus['usual']:.0f}"
                named[f"ours / usual, {kind}"] = (
                    "{ratio:.2f} ({ratio_low:.2f} to {ratio_high:.2f})".format(**versus)
                )
        parts = {f"{part} %": f"{100 * share:.0f}" for part, share in row["time"].items()}
        rows.append(named | {"of peak %": f"{100 * row['share_of_peak']:.0f}"} | parts)
    peak = ", ".join(
        f"{name} {value:,.{int(value < 100)}f}" for name, value in results["peak"].items()
    )
    about = (
        f"{machine['device']}, {machine['threads']} threads, ours in {precision}, batches of "
        f"{machine['batch_size']}, 64x64; torch {machine['versions']['torch']}; {machine['date']}. Medians, lowest and highest "
        f"ratio of the repeats. Matrix products here, GFLOP/s: {peak}. "
    )
    speeds = "Input alone: {ours:,.0f} images/s, the usual loader {usual:,.0f} ({ratio:.1f} times).".format(
        **results["input"]
    )
    return f"{_markdown(pd.DataFrame(rows).fillna(''))}\n\n{about}{speeds}"


def _markdown(table: pd.DataFrame) -> str:
    rows = [" | ".join(table.columns), "|".join(["---"] + ["---:"] * (len(table.columns) - 1))]
    rows += [" | ".join(map(str, row)) for row in table.itertuples(index=False)]
    return "\n".join(f"| {row} |" for row in rows)


def filled(paths: list[Path], blocks: dict[str, str]) -> dict[Path, str]:
    """The text of each Markdown file with the blocks between the two comments that carry their
    names, where it has them.

    Raises:
        UserError: no file has such comments, or one is no text.
    """
    try:
        texts = {path: disk.read(path, 1 << 26).decode().replace("\r\n", "\n") for path in paths}
    except UnicodeDecodeError:
        raise UserError(f"one of {', '.join(map(str, paths))} is no text") from None
    for name, block in blocks.items():
        place = re.compile(rf"(?s)(<!-- {name} -->\n).*(<!-- /{name} -->)")
        places = {path: found for path in paths if (found := place.search(texts[path]))}
        if not places:
            files = ", ".join(map(str, paths))
            raise UserError(
                f"no place for the {name} in {files}: <!-- {name} --> and <!-- /{name} -->"
            )
        for path, found in places.items():
            texts[path] = f"{texts[path][: found.end(1)]}{block}\n{texts[path][found.start(2) :]}"
    return texts
