"""The pictures of `assets/`: the images, the networks, and what the committed runs look like. The
READMEs show some.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from matplotlib.figure import Figure

from . import analysis, data, drawings, figures, models
from .analysis import NETWORKS
from .data import Dataset
from .errors import UserError
from .runs import Run

DATASETS = ("digits", "mnist", "cifar10")


def of_study(small: list[Run], out: Path, full: list[Run]) -> dict[Path, bytes]:
    """Draw the pictures of the networks, the images, and a study's runs as PNG, by their paths in
    the folder `out`.

    The names of pictures of the runs on all images, `full`, begin with that, those of the `small`
    tier with nothing. Pictures of images need these; where a dataset is missing, what shows it is
    left as it is.
    """
    return {
        out / f"{name}.png": figures.encoded(figure, dpi=110)
        for name, figure in _pictures(small, full)
    }


def _pictures(small: Sequence[Run], full: Sequence[Run]) -> Iterator[tuple[str, Figure]]:
    """Names and figures."""
    for name in NETWORKS:
        network = models.blueprint(name)
        yield f"network-{name}", drawings.stages(models.trace(network, 64), (3, 64, 64), name)
    sets = {name: loaded for name in DATASETS if (loaded := _load(name))}
    if len(sets) == len(DATASETS):
        yield "datasets", overview(list(sets.values()))
    for prefix, part in (("", small), ("full-", full)):
        for dataset in dict.fromkeys(run.info["dataset"] for run in part):
            group = [run for run in part if run.info["dataset"] == dataset]
            yield from (
                (f"{prefix}{_stem(dataset)}-{name}", figure)
                for name, figure in _of_dataset(group, sets.get(dataset))
            )


def _of_dataset(runs: list[Run], images: Dataset | None) -> Iterator[tuple[str, Figure]]:
    """Names and figures of the runs of one dataset, most of them under `tuned`, with its `images`,
    if they are here.
    """
    effects = analysis.two_by_two(runs)
    if len(effects):
        yield "crossed", figures.crossed(analysis.accuracies(analysis.unchanged(runs)), effects)
    tuned = analysis.unchanged([run for run in runs if run.recipe == analysis.TUNED])
    first = [run for run in tuned if run.info["seed"] == 0]
    if not first:
        return
    yield "curves", figures.curves(first)
    yield "accuracy", figures.trade_off(analysis.accuracies(tuned))
    best = analysis.best(tuned)
    yield "confusion", figures.confusion(best)
    if images and images.sha256 == best.info["data_sha256"]:  # the ones that it saw
        yield (
            "predictions",
            figures.gallery(best, images.test.images.numpy(), analysis.spread(best)),
        )


def _load(name: str) -> Dataset | None:
    """A dataset, if it is on this machine."""
    try:
        return data.load(name)
    except UserError:
        return None


def overview(sets: list[Dataset]) -> Figure:
    """An image of each class of several datasets of ten classes, two rows a dataset."""
    rows, names = [], []
    for dataset in sets:
        images, labels = dataset.train.images.numpy(), dataset.train.labels.numpy()
        rows += [[images[labels == k][i] for k in range(10)] for i in (0, 1)]
        names += [dataset.title.split()[0], ""]
    return figures.pictures(rows, names=names)


def of_runs(runs: list[Run], out: Path) -> dict[Path, bytes]:
    """Learning curves and confusion matrices of runs, a picture of each for every dataset, as PNG,
    by their paths in `out`.
    """
    drawn: dict[Path, bytes] = {}
    stems: set[str] = set()
    for tier, title in sorted({(run.info["tier"], run.info["dataset_title"]) for run in runs}):
        group = [
            run for run in runs if (run.info["tier"], run.info["dataset_title"]) == (tier, title)
        ]
        stem = _stem(f"{tier} {title}")
        # "my photos", "my-photos"
        stem = next(s for n in count(1) if (s := f"{stem}-{n}" if n > 1 else stem) not in stems)
        stems.add(stem)
        for name, draw in (("curves", figures.curves), ("confusion", figures.confusions)):
            drawn[out / f"{stem}-{name}.png"] = figures.encoded(draw(group))
    return drawn


def _stem(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")
