"""The paper's tables in LaTeX, made from the networks and from runs; cells without a run are
dashes.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import groupby, product
from typing import Any, cast

import pandas as pd

from . import analysis, models
from .analysis import EFFECTS, NETWORKS, ORIGINALS, PLAIN, TUNED
from .models.googlenet import INCEPTION
from .models.vgg import CONFIGURATIONS
from .runs import Run

DATASETS = {"cifar10": "CIFAR-10", "mnist": "MNIST"}
COLUMNS = tuple(product(DATASETS, (PLAIN, TUNED)))  # of the tables that have a row a network
# The networks as published and as the field builds them, in the table's order: options, side of the
# published images.
FORMS: dict[str, tuple[dict[str, Any], int]] = {
    "alexnet_2012": ({}, 227),  # the paper says 224, but its first map of 55x55 needs 227
    "alexnet": ({}, 224),
    "vgg11": ({}, 224),
    "vgg16": ({}, 224),
    "vgg16_improved": ({}, 224),
    "googlenet_2014": ({"aux": False}, 224),
    "googlenet": ({}, 224),
    "googlenet_improved": ({}, 224),
    "resnet18": ({}, 224),
    "resnet18_improved": ({}, 224),
    "resnet20": ({}, 32),
}
TITLES = NETWORKS | {"alexnet_2012": "AlexNet 2012", "googlenet_2014": "GoogLeNet 2014"}
DASH = "--"


@cache
def form(name: str) -> dict[str, Any]:
    """Sides of the maps, parameters and multiply-adds of a form as published and here (ten classes,
    64 pixels).
    """
    options, side = FORMS[name]
    there = models.blueprint(name, 10 if name == "resnet20" else 1000, **options)
    here = models.blueprint(name, **options)
    return {
        "published_maps": _sides(there, side),
        "published": models.count_parameters(there),
        "published_macs": models.multiply_adds(there, side),
        "maps": _sides(here, 64),
        "parameters": models.count_parameters(here),
        "macs": models.multiply_adds(here, 64),
    }


def _sides(network: models.Network, size: int) -> str:
    """The sides of the maps for images of `size`, each once, from the first convolution to the
    head.
    """
    shapes = [step["shape"] for step in models.trace(network, size)]
    return " ".join(
        str(side) for side, _ in groupby(shape[-1] for shape in shapes if len(shape) == 3)
    )


def networks_table(_runs: Sequence[Run]) -> str:
    """What each network is as published and what is left of it at 64x64: maps, parameters,
    multiply-adds.
    """
    rows = []
    for name, (_, side) in FORMS.items():
        found = form(name)
        there = [
            str(side),
            found["published_maps"],
            f"{found['published'] / 1e6:.2f}",
            f"{found['published_macs'] / 1e9:.2f}",
        ]
        rows.append(
            [
                TITLES[name],
                *there,
                found["maps"],
                f"{found['parameters'] / 1e6:.2f}",
                f"{found['macs'] / 1e6:,.1f}",
            ]
        )
    return _booktabs(
        "lrlrrlrr",
        [
            r"& \multicolumn{4}{c}{at the published size} & \multicolumn{3}{c}{here: 64 pixels, 10 classes, RGB}",
            "\\cmidrule(lr){2-5}\\cmidrule(lr){6-8}\n"
            r"network & side & sides of the maps & par.\ M & mult-adds G & sides of the maps & par.\ M & mult-adds M",
        ],
        rows,
    )


def vgg_table(_runs: Sequence[Run]) -> str:
    """VGG's configurations: the number and the width of the 3x3 convolutions of each block."""
    rows = [
        [
            str(block + 1),
            *(
                rf"${len(widths[block])}\times{widths[block][0]}$"
                for widths in CONFIGURATIONS.values()
            ),
        ]
        for block in range(5)
    ]
    names = " & ".join(
        f"{letter} ({depth})" for letter, depth in zip("ABDE", CONFIGURATIONS, strict=True)
    )
    return _booktabs("lrrrr", [f"block & {names}"], rows)


def inception_table(_runs: Sequence[Run]) -> str:
    """The widths of the nine Inception modules and the channels that each gives."""
    rows = [
        [name, *map(str, (*widths, widths[1] + widths[3] + widths[5] + widths[6]))]
        for name, widths in INCEPTION.items()
    ]
    head = r"& in & $1\!\times\!1$ & r & $3\!\times\!3$ & r & $5\!\times\!5$ & pool & out"
    return _booktabs("lrrrrrrrr", [head], rows)


def resnet_table(_runs: Sequence[Run]) -> str:
    """The stages of the residual networks: blocks of two 3x3 convolutions, and their width."""
    columns = []
    for name in ("resnet18", "resnet34", "resnet20"):
        network = models.blueprint(name)
        stages = [
            (stage, getattr(network.stages, stage))
            for stage, _ in network.stages.named_children()
            if "_x" in stage
        ]
        shapes = {step["name"]: step["shape"] for step in models.trace(network, 64)}
        columns.append(
            {stage: rf"${len(blocks)}\times{shapes[stage][0]}$" for stage, blocks in stages}
        )
    stems = [
        [r"conv1", *([r"$7\times7$, 64, /2"] * 2), r"$3\times3$, 16"],
        ["pool1", *([r"$3\times3$, /2"] * 2), DASH],
    ]
    rows = [
        [f"conv{n}", *(column.get(f"conv{n}_x", DASH) for column in columns)] for n in (2, 3, 4, 5)
    ]
    return _booktabs("lrrr", ["stage & 18 & 34 & 20 (CIFAR)"], [*stems, *rows])


def recipes_table(runs: Sequence[Run]) -> str:
    """What the two recipes have in them, from the runs' own records."""
    by_name = {
        name: [run.info["recipe"] for run in runs if run.recipe == name] for name in (PLAIN, TUNED)
    }
    shown: dict[str, Callable[[Any], str]] = {
        "momentum": str, "nesterov": _yes, "weight_decay": lambda x: f"{x:g}", "label_smoothing": lambda x: f"{x:g}",
        "schedule": str, "warmup": lambda x: f"{100 * x:g}\\,\\%", "clip": lambda x: f"{x:g}" if x else "no", "augment": _yes,
    }  # fmt: skip
    names = {
        "weight_decay": "weight decay", "label_smoothing": "label smoothing", "warmup": "warm-up", "nesterov": "Nesterov",
        "clip": "gradient norm at most", "augment": "augmentation",
    }  # fmt: skip
    rows = [
        [
            names.get(key, key),
            *(_one(text(recipe[key]) for recipe in recipes) for recipes in by_name.values()),
        ]
        for key, text in shown.items()
    ]
    return _booktabs("lrr", [r"& \texttt{plain} & \texttt{tuned}"], rows)


def rates_table(runs: Sequence[Run]) -> str:
    """The learning rate of each network, the same in both recipes."""
    rates: dict[str, list[str]] = {}
    for name, title in NETWORKS.items():
        found = {f"{run.info['recipe']['learning_rate']:g}" for run in runs if run.label == name}
        for rate in found:
            rates.setdefault(rate, []).append(title)
    rows = [
        [rate, ", ".join(titles)]
        for rate, titles in sorted(rates.items(), key=lambda item: float(item[0]))
    ]
    return _booktabs("rl", ["rate & networks"], rows)


def results_table(runs: Sequence[Run]) -> str:
    """Test accuracy of every network under both recipes on both datasets, with intervals."""
    rows = [
        [
            title,
            *(
                text
                for cell in cells
                for text in (_accuracy(cell), _between(cell) + _star(cell) if cell else "")
            ),
        ]
        for title, cells in _grid(runs).items()
    ]
    heads = [rf"\multicolumn{{4}}{{c}}{{{_title(runs, dataset)}}}" for dataset in DATASETS]
    recipes = " & ".join(rf"\multicolumn{{2}}{{c}}{{\texttt{{{recipe}}}}}" for _, recipe in COLUMNS)
    rules = r"\cmidrule(lr){2-5}\cmidrule(lr){6-9}"
    return _booktabs(
        "l" + "r@{\\enspace}l" * 4,
        ["& " + " & ".join(heads), f"{rules}\nnetwork & {recipes}"],
        rows,
    )


def effects_table(runs: Sequence[Run]) -> str:
    """The comparison fixed beforehand, with its tests, and architecture against recipe: a row a
    family, a block a dataset.
    """
    declared, crossed = (
        _index(analysis.primary(runs), runs),
        _index(analysis.two_by_two(runs), runs),
    )
    rows = []
    for dataset in DATASETS:
        for improved, original in ORIGINALS.items():
            row = [NETWORKS[original], *[DASH] * 4]
            primary = declared.get((dataset, improved, f"over {original}"))
            if primary is not None:
                verdict = analysis.verdict(primary["low"], primary["high"], primary["p_holm"])
                row[1:] = [
                    _with_half(primary, primary["p_holm"]),
                    p_value(primary["p"]),
                    p_value(primary["p_holm"]),
                    verdict,
                ]
            found = [crossed.get((dataset, improved, effect)) for effect in EFFECTS]
            rows.append(row + [DASH if effect is None else _with_half(effect) for effect in found])
    head = [
        r"& \multicolumn{4}{c}{improved minus original under \texttt{tuned}} & \multicolumn{3}{c}{two by two}",
        "\\cmidrule(lr){2-5}\\cmidrule(lr){6-8}\n"
        r"family & difference & $p$ & Holm's $p$ & verdict & architecture & recipe & interaction",
    ]
    titles = [_title(runs, dataset) for dataset in DATASETS]
    return _booktabs("lrrrlrrr", head, rows, groups=len(ORIGINALS), titles=titles)


def quality_table(runs: Sequence[Run]) -> str:
    """Calibration, and accuracy on corrupted images, of every network under both recipes on both
    datasets.
    """

    def quality(cell: dict[str, Any] | None) -> list[str]:
        if cell is None:
            return [DASH] * 5
        return [
            *(f"{cell[key]:.3f}".lstrip("0") for key in analysis.QUALITY),
            f"{100 * cell['corrupted']:.1f}",
        ]

    rows = [
        [title, *(text for cell in cells for text in quality(cell))]
        for title, cells in _grid(runs).items()
    ]
    heads = [
        rf"\multicolumn{{5}}{{c}}{{{DATASETS[dataset]}, \texttt{{{recipe}}}}}"
        for dataset, recipe in COLUMNS
    ]
    rules = "".join(rf"\cmidrule(lr){{{5 * k + 2}-{5 * k + 6}}}" for k in range(4))
    names = " & ".join(["NLL", "Brier", "ECE", r"ECE$_T$", "corr."] * 4)
    return _booktabs(
        "l" + 4 * r"@{\hspace{8pt}}rrrrr",
        ["& " + " & ".join(heads), f"{rules}\nnetwork & {names}"],
        rows,
    )


def small_table(runs: Sequence[Run]) -> str:
    """Test accuracy of every network under both recipes on both datasets, without intervals, and
    the core-hours of each row.
    """
    rows = []
    for title, cells in _grid(runs).items():
        hours = sum(cell["core_seconds"] * cell["seeds"] for cell in cells if cell) / 3600
        rows.append(
            [
                title,
                *(_accuracy(cell) + (_star(cell) if cell else "") for cell in cells),
                f"{hours:.1f}",
            ]
        )
    heads = [rf"\multicolumn{{2}}{{c}}{{{_title(runs, dataset)}}}" for dataset in DATASETS]
    recipes = " & ".join(rf"\texttt{{{recipe}}}" for _, recipe in COLUMNS)
    rules = r"\cmidrule(lr){2-3}\cmidrule(lr){4-5}"
    head = ["& " + " & ".join(heads) + " & core-", f"{rules}\nnetwork & {recipes} & hours"]
    return _booktabs("lrrrrr", head, rows)


def changes_table(runs: Sequence[Run]) -> str:
    """What single changes are worth under `tuned` on the first dataset, with Holm's p over the
    changes of one network.

    Bold is what the words of the report tell from no change: the interval leaves out zero, and
    Holm's p is below 0.05.
    """
    rows: list[list[str]] = []
    found = _index(analysis.changes(runs), runs)
    first = min(found, key=lambda key: list(DATASETS).index(key[0]))[0] if found else ""
    for (dataset, network, effect), row in found.items():
        if dataset == first:
            name = NETWORKS[network]
            change = re.sub(r"(\d)x(\d)", r"$\1\\times\2$", escape(effect))
            cells = [change, _with_half(row, row["p_holm"]), p_value(row["p_holm"])]
            rows.append(["" if any(name == above[0] for above in rows) else name, *cells])
    return _booktabs("llrr", [r"network & change & worth & Holm's $p$"], rows or [[DASH] * 4])


TABLES: dict[str, Callable[[Sequence[Run]], str]] = {
    "networks": networks_table, "vgg": vgg_table, "inception": inception_table, "resnet": resnet_table,
    "recipes": recipes_table, "rates": rates_table, "results": results_table, "effects": effects_table,
    "quality": quality_table,
}  # fmt: skip
TABLES_OF_SMALL: dict[str, Callable[[Sequence[Run]], str]] = {
    "small": small_table,
    "changes": changes_table,
}


def _booktabs(
    columns: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    groups: int = 0,
    titles: Sequence[str] = (),
) -> str:
    """A tabular of rows below the lines of its head, with space after every so many rows and a
    title above each such group.
    """
    lines = [
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        *(rf"{line} \\" for line in head),
        r"\midrule",
    ]
    for number, row in enumerate(rows):
        if groups and number and number % groups == 0:
            lines.append(r"\addlinespace")
        if titles and number % groups == 0:
            lines.append(
                rf"\multicolumn{{{len(row)}}}{{@{{}}l}}{{\emph{{{titles[number // groups]}}}}} \\"
            )
        lines.append(rf"{' & '.join(row)} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _index(
    table: pd.DataFrame, runs: Sequence[Run], column: str = "effect"
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Rows of a table of `analysis` by dataset, network and what is in the `column`."""
    names = dataset_names(runs)
    rows = cast(list[dict[str, Any]], table.to_dict("records"))
    return {(names[row["dataset"]], row["network"], row[column]): row for row in rows}


def dataset_names(runs: Sequence[Run]) -> dict[str, str]:
    """Datasets by the titles that the tables of `analysis` have."""
    return {run.info["dataset_title"]: run.info["dataset"] for run in runs}


def _title(runs: Sequence[Run], dataset: str) -> str:
    """As the runs call it, or the usual name."""
    titles = [run.info["dataset_title"] for run in runs if run.info["dataset"] == dataset]
    return escape(titles[0]) if titles else DATASETS[dataset]


def _grid(runs: Sequence[Run]) -> dict[str, list[dict[str, Any] | None]]:
    """By the network's title its cells of `analysis.accuracies`, one of each of `COLUMNS`; None
    where there is no run.
    """
    cells = _index(analysis.accuracies(runs), runs, "recipe")
    return {
        title: [cells.get((dataset, name, recipe)) for dataset, recipe in COLUMNS]
        for name, title in NETWORKS.items()
    }


def _accuracy(cell: dict[str, Any] | None) -> str:
    return percent(cell["accuracy"]) if cell else DASH


def percent(share: float) -> str:
    """With two decimals, without the sign."""
    return f"{100 * share:.2f}"


def signed(share: float) -> str:
    """In points, with a sign that is as long as it should be; nothing is `-0.00`."""
    text = f"{100 * share:+.2f}"
    text = "0.00" if text in ("+0.00", "-0.00") else text
    return text.replace("-", "$-$").replace("+", "$+$")


def _between(row: dict[str, Any]) -> str:
    return f"[{percent(row['low'])}, {percent(row['high'])}]"


def _with_half(row: Any, p: float = 0.0) -> str:
    """An effect and half the width of its interval; bold if that leaves out zero and `p` is low; a
    star for one seed.
    """
    value, half = signed(row["value"]), f"{50 * (row['high'] - row['low']):.2f}"
    plain = analysis.verdict(row["low"], row["high"], p) == analysis.ALIKE or row.get("stuck")
    value = value if plain else rf"\textbf{{{value}}}"
    return rf"{value}\,$\pm$\,{half}{_star(row)}"


def _star(row: Any) -> str:
    """After what one seed gave, and after what hardly left guessing; it takes no room, so that
    columns stay in line.
    """
    marks = r"\ast" * (row["seeds"] == 1) + r"\dagger" * bool(row.get("stuck"))
    return rf"\rlap{{$^{{{marks}}}$}}" if marks else ""


def p_value(p: float) -> str:
    """Two significant digits; a power of ten below a thousandth."""
    if p > 0.995:
        return "1"
    if p >= 0.001:
        return f"{p:#.2g}"
    if p < 1e-10:
        return r"$<10^{-10}$"
    digits, power = f"{p:.1e}".split("e")
    return rf"${digits}\cdot10^{{{int(power)}}}$"


def _one(texts: Iterable[str]) -> str:
    """What all say."""
    return " or ".join(sorted(set(texts))) or DASH


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def escape(text: str) -> str:
    """Text as LaTeX writes it."""
    return re.sub(r"([&%$#_{}])", r"\\\1", text)
