"""What the paper's text reads: number macros, tables and figures, made from the runs of one tier,
and what others add.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import analysis, disk, figures, metrics, paper_figures
from .analysis import NETWORKS, PLAIN, TUNED
from .errors import UserError
from .paper_figures import of_networks
from .runs import CORRUPTIONS, Run
from .tables import (
    DATASETS,
    FORMS,
    TABLES,
    TABLES_OF_SMALL,
    TITLES,
    dataset_names,
    escape,
    form,
    p_value,
    percent,
    signed,
)

RELATIONS = {
    "better": "better than",
    "worse": "worse than",
    analysis.ALIKE: f"{analysis.ALIKE} from",
}


def write(
    runs: Sequence[Run],
    out: Path,
    small: Sequence[Run],
    control: Sequence[Run],
    compression: Sequence[Run],
) -> list[Path]:
    """Write `numbers.tex`, a file for every table and a PDF for every figure into the folder `out`.

    Args:
        runs: of the tier that the paper is about.
        out: folder.
        small: of short training on few images, which has `TABLES_OF_SMALL`; its numbers' keys begin
            with `small/`.
        control: held against the literature; of those on CIFAR-10 there are accuracies,
            `control/copy/resnet20/plain/accuracy` of the JPEG copy, `control/original/...` of the
            original images.
        compression: on the original images and on the JPEG copy; `compression/value` is what that
            changed.

    Raises:
        UserError: the runs are of several tiers or settings, or of no dataset that the paper speaks
        of.
    """
    runs, small = _alike(runs), _alike(small)
    found = numbers(runs) | {f"small/{key}": value for key, value in numbers(small).items()}
    found |= {f"models/{name}/macs": f"{form(name)['macs'] / 1e6:,.1f}" for name in FORMS}
    found |= _outside_tiers(control, compression)
    macros = "".join(f"\\resdef{{{key}}}{{{value}}}\n" for key, value in sorted(found.items()))
    texts = {"numbers": macros} | {name: table(runs) for name, table in TABLES.items()}
    texts |= {name: table(small) for name, table in TABLES_OF_SMALL.items()}
    head = "% made by 'deepnets report --paper', do not edit\n"
    files = {out / f"{name}.tex": f"{head}{text}".encode() for name, text in texts.items()}
    pictures = paper_figures.FIGURES
    return disk.write_all(
        files
        | {
            out / f"{name}.pdf": figures.encoded(draw(runs), kind="pdf")
            for name, draw in pictures.items()
        }
    )


def _outside_tiers(control: Sequence[Run], compression: Sequence[Run]) -> dict[str, str]:
    """Numbers of the runs outside the tiers, see `write`."""
    found: dict[str, str] = {}
    held = analysis.accuracies(control)
    for _, row in held[held["dataset"].str.startswith("CIFAR-10")].iterrows():
        key = f"control/{'copy' if 'JPEG' in row['dataset'] else 'original'}/{row['network']}/{row['recipe'].split('-')[0]}"
        found |= {f"{key}/{name}": percent(row[name]) for name in ("accuracy", "low", "high")}
    copy = [run for run in compression if "JPEG" in run.info["dataset_title"]]
    original = [run for run in compression if run not in copy]
    if copy and original:
        row = analysis.paired(original, copy)
        found |= _effect("compression", row) | {"compression/seeds": _seeds(len(row["pairs"]))}
        found["compression/epochs"] = _span(run.info["epochs"] for run in compression)
    return found


def _alike(runs: Sequence[Run]) -> list[Run]:
    """The runs of the paper's datasets, which must be of one tier and, for each dataset, of one
    setting.
    """
    chosen = [run for run in runs if run.info["dataset"] in DATASETS]
    tiers = sorted({run.info["tier"] or "(no tier)" for run in chosen})
    if not any(run.label in NETWORKS for run in chosen):
        raise UserError(
            f"the paper needs runs on {' or '.join(DATASETS)} of {', '.join(NETWORKS)}, and there are none"
        )
    if len(tiers) > 1:
        raise UserError(
            f"the paper speaks of one tier, and the runs are of {', '.join(tiers)}: name the folder of one"
        )
    analysis.one_setting(chosen)
    return chosen


def numbers(runs: Sequence[Run]) -> dict[str, str]:
    """Every number of a tier's `runs` that the text may name, by key:
    `cifar10/resnet18_improved/tuned/accuracy` and the like.

    Accuracies and effects are in percent and points with two decimals, p-values have two
    significant digits.
    """
    found = _circumstances(runs)
    names = dataset_names(runs)
    table = analysis.accuracies(runs)
    several = analysis.between_seeds(
        table[table["network"].isin(list(NETWORKS)) & table["recipe"].isin([PLAIN, TUNED])]
    )
    for (title, recipe), part in several.groupby(["dataset", "recipe"]):
        found[f"{names[title]}/spread/{recipe}"] = percent(part["apart"].max())
    for _, row in table.iterrows():
        cell = f"{names[row['dataset']]}/{row['network']}/{row['recipe']}"
        found |= {f"{cell}/{name}": percent(row[name]) for name in ("accuracy", *CORRUPTIONS)}
        found |= {
            f"{cell}/{name.removeprefix('test_')}": f"{row[name]:.3f}"
            for name in ("test_ece", "test_ece_calibrated")
        }
    verdicts: list[str] = []
    for _, row in analysis.primary(runs).iterrows():
        key = f"{names[row['dataset']]}/{row['network']}/primary"
        verdict = analysis.verdict(row["low"], row["high"], row["p_holm"])
        found |= _effect(key, row) | {
            f"{key}/holm": _equation(row["p_holm"]),
            f"{key}/relation": RELATIONS[verdict],
        }
        found[f"{key}/better"] = f"{row['better']:.2f}"
        verdicts.append(verdict)
    found |= {f"study/{verdict}": _word(verdicts.count(verdict)) for verdict in RELATIONS}
    for _, row in analysis.two_by_two(runs).iterrows():
        found |= _effect(f"{names[row['dataset']]}/{row['network']}/{row['effect']}", row)
    for dataset in names.values():
        found |= _mistakes([run for run in runs if run.info["dataset"] == dataset], dataset)
    return found | _changes(runs)


def _changes(runs: Sequence[Run]) -> dict[str, str]:
    """What single changes on CIFAR-10 are worth; and, of those that have `several` seeds, how many
    can be told from no change by seed 0 alone (`first`) and by all seeds (`shown`).
    """
    colour = [run for run in runs if run.info["dataset"] == "cifar10"]
    both = [
        analysis.changes(part)
        for part in (colour, [run for run in colour if run.info["seed"] == 0])
    ]
    if any(table.empty for table in both):
        return {}
    every, first = (table.set_index(["network", "variant"]) for table in both)
    several = every[every["seeds"] > 1]
    told = {
        "several": len(several),
        "first": first["told"].reindex(several.index, fill_value=False).sum(),
    }
    told["shown"] = several["told"].sum()
    found = {f"changes/{name}": _word(count) for name, count in told.items()}
    for (network, variant), row in every.iterrows():
        found |= _effect(f"changes/{network}/{variant}", row)
    return found


def _circumstances(runs: Sequence[Run]) -> dict[str, str]:
    """What was trained where, on what, and for how long."""
    infos = [run.info for run in runs]
    on_cores, on_gpu = ([run.info for run in runs if run.on_gpu == gpu] for gpu in (False, True))
    cells = analysis.accuracies(runs)
    steps = [i["epochs"] * -(-i["train_images"] // i["recipe"]["batch_size"]) for i in infos]
    seeds, threads = _span(cells["seeds"]), _span(i["threads"] for i in on_cores or on_gpu)
    found = {
        "study/tier": infos[0]["tier"],
        "study/runs": str(len(runs)),
        "study/single": _word(len(runs) - len(analysis.unchanged(runs))),
        "study/seeds": _seeds(seeds),
        "study/epochs": _span(i["epochs"] for i in infos),
        "study/batch": _span(i["recipe"]["batch_size"] for i in infos),
        "study/size": _span(i["input_size"] for i in infos),
        "study/images": _span(i["train_images"] for i in infos),
        "study/test": _span(i["test_total"] for i in infos),
        "study/corrupted": _span(i["robustness"]["images"] for i in infos),
        "study/steps": _span(steps),
        "study/hours": _hours(on_cores or on_gpu),
        "study/device": _devices(on_cores or on_gpu),
        "study/threads": "one thread" if threads == "1" else f"{threads} threads",
        "study/precision": " and ".join(sorted({i["precision"] for i in infos})),
        "study/torch": " and ".join(sorted({i["versions"]["torch"].split("+")[0] for i in infos})),
    }
    if on_cores and on_gpu:
        found |= {"study/gpu": _devices(on_gpu), "study/gpu/hours": _hours(on_gpu)}
    for info in infos:
        for what, key in (
            ("images", "train_images"),
            ("validation", "validation_images"),
            ("epochs", "epochs"),
        ):
            found[f"{info['dataset']}/{what}"] = f"{info[key]:,}"
    return found


def _hours(infos: Sequence[dict[str, Any]]) -> str:
    """Of training."""
    return f"{sum(info['train_seconds'] for info in infos) / 3600:.1f}"


def _devices(infos: Sequence[dict[str, Any]]) -> str:
    """On which it was done."""
    return escape(" and ".join(sorted({info["device"] for info in infos})))


def _mistakes(runs: Sequence[Run], dataset: str) -> dict[str, str]:
    """The best network, and the test images that all networks get wrong, under `tuned`, each
    network's first seed.
    """
    tuned = of_networks(runs, TUNED)
    if not tuned:
        return {}
    first = [seeds[0] for seeds in tuned.values()]
    right = np.stack([run.correct for run in first])
    labels, classes = first[0].test["labels"], first[0].info["classes"]
    best = analysis.best([run for seeds in tuned.values() for run in seeds])
    by_class = {k: best.correct[labels == k].mean() for k in range(len(classes))}
    confused = sum(metrics.confusion(labels, run.test["predicted"], len(classes)) for run in first)
    confused = confused * (1 - np.eye(len(classes)))
    true, said = np.unravel_index(np.argmax(confused), confused.shape)
    by_chance = sum(
        (1 - right[:, labels == k].mean(1)).prod() * (labels == k).sum() for k in by_class
    )
    key = f"{dataset}/mistakes"
    return {
        f"{dataset}/best": TITLES[best.label],
        f"{dataset}/best/accuracy": percent(
            float(np.mean([run.accuracy for run in tuned[best.label]]))
        ),
        f"{dataset}/best/class": escape(classes[max(by_class, key=lambda k: by_class[k])]),
        f"{dataset}/best/class/accuracy": percent(max(by_class.values())),
        f"{dataset}/worst/class": escape(classes[min(by_class, key=lambda k: by_class[k])]),
        f"{dataset}/worst/class/accuracy": percent(min(by_class.values())),
        f"{key}/networks": str(len(first)),
        f"{key}/all_wrong": f"{(~right).all(0).sum():,}",
        f"{key}/all_right": f"{right.all(0).sum():,}",
        f"{key}/expected": f"{by_chance:,.0f}" if by_chance >= 1 else "fewer than one",
        f"{key}/true": escape(classes[true]),
        f"{key}/said": escape(classes[said]),
        f"{key}/share": percent(confused[true, said] / ((~right).sum())),
    }


def _effect(key: str, row: Any) -> dict[str, str]:
    """A row's effect and its interval, with signs."""
    return {f"{key}/{name}": signed(row[name]) for name in ("value", "low", "high")}


def _word(count: int) -> str:
    words = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[count] if count < len(words) else str(count)


def _seeds(count: int | str) -> str:
    return "one seed" if str(count) == "1" else f"{count} seeds"


def _equation(p: float) -> str:
    """The p-value as a sentence has it: p = 0.031, or p < a bound."""
    text = p_value(p).strip("$")
    return f"$p{text}$" if text.startswith("<") else f"$p={text}$"


def _span(values: Iterable[int]) -> str:
    """One number, or the smallest to the largest."""
    found = sorted(set(values))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"
