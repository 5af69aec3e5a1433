"""What the notebooks share: stored runs, the images these saw, pictures and code on the page.

With the environment variable `DEEPNETS_PROFILE` set to `smoke`, as in tests, new trainings are of a
few digits and leave nothing on disk. Stored runs are the same in both profiles.
"""

import base64
import hashlib
import html
import inspect
import io
import os
import tempfile
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML, display
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from scipy.ndimage import zoom

from . import data, disk, metrics, models, recipes
from .compare import figures, style
from .errors import UserError
from .runs import Run
from .training import Job, fit

SMOKE = os.environ.get("DEEPNETS_PROFILE", "full") == "smoke"
ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "notebooks").is_dir():
    raise UserError("the notebooks and their runs are in the repository: install it with pip -e")
PASSING = tempfile.TemporaryDirectory()  # of the smoke profile's runs, until the process ends
SETTINGS = ("seed", "limit", "input_size")  # of a job
_loaded = cache(data.load)
# A notebook runs in its own folder
os.environ["DEEPNETS_DATA"] = os.environ.get("DEEPNETS_DATA") or str(ROOT / "data")


def stored(
    networks: Sequence[str], dataset: str, recipe: str = "tuned", study: str = "main"
) -> list[Run]:
    """Returns the runs of seed 0 that this repository keeps, in the order of `networks`.

    Of each that is not there a line says so. `study` is the name of one of studies/*.toml.
    """
    place = ROOT / "results" / study / dataset
    folders = {name: place / name / recipe / "seed0" for name in networks}
    for name, folder in folders.items():
        if not folder.is_dir():
            where = f"{data.facts(dataset).title}, {recipe}"
            print(f"{style.NAMES.get(name, name)} on {where}: not trained yet.")
    return [Run.load(folder) for folder in folders.values() if folder.is_dir()]


def train(network: str, dataset: str, recipe: str = "tuned", **changes: Any) -> Run:
    """Trains a network, into runs/notebooks; the same call continues, and then loads the run.

    `changes` are fields of the recipe, fields of `Job`, and options of the network.
    """
    if SMOKE:
        dataset, changes = "digits", changes | {"epochs": 1, "limit": 100, "input_size": 32}
    fields = {key: changes.pop(key) for key in [*changes] if key in recipes.FIELDS}
    settings = {key: changes.pop(key) for key in SETTINGS if key in changes}
    job = Job(network, dataset, recipes.get(recipe, network, **fields), options=changes, **settings)
    # Other settings, another run
    version = hashlib.sha256(repr(sorted(job.settings().items())).encode()).hexdigest()[:8]
    out = Path(PASSING.name) if SMOKE else ROOT / "runs" / "notebooks"
    what = f"{style.NAMES.get(network, network)} on {data.facts(dataset).title or dataset}"
    print(f"{what}, {recipe}. Interrupt it when you like: run the cell again to continue.")
    return fit(job, out / version)


def datasets(names: Sequence[str]) -> dict[str, data.Dataset]:
    """Returns those of the datasets `names` that are on this machine, by name.

    Of each other one a line says how to get it. The smoke profile has the digits only.
    """
    found = {}
    for name in ["digits"] if SMOKE else names:
        try:
            found[name] = data.load(name)
        except UserError:
            fetch = f'data.load("{name}", download=True) fetches it, then run this cell again'
            print(f"{data.facts(name).title or name} is not on this machine: {fetch}.")
    return found


def kept(name: str) -> dict[str, np.ndarray]:
    """Returns the test images of a dataset that this repository keeps, and of `digits` all.

    Returns:
        `indices` in the test set (N,), rising; `images` (N, C, H, W), uint8; `labels` (N,);
        `sha256` of the dataset. Nothing of a dataset of which none are kept.
    """
    if name == "digits":
        digits = data.load(name)
        images, labels = digits.test.images.numpy(), digits.test.labels.numpy()
        return {
            "indices": np.arange(len(labels)), "images": images, "labels": labels,
            "sha256": np.array(digits.sha256),
        }  # fmt: skip
    file = ROOT / "results" / "images" / f"{name}.npz"
    return disk.read_arrays(file) if file.is_file() else {}


def samples(name: str, each: int = 1) -> tuple[np.ndarray, list[str]]:
    """Returns the first test images, so many of `each` class, of a dataset called `name`.

    Returns:
        Images (N, C, H, W), uint8, class by class, and the names of their classes.
    """
    found, classes = kept(name), data.facts(name).classes
    chosen = [i for k in range(len(classes)) for i in np.flatnonzero(found["labels"] == k)[:each]]
    return found["images"][chosen], [classes[k] for k in found["labels"][chosen]]


def images_of(run: Run) -> np.ndarray:
    """Returns the test images (N, C, H, W), uint8, that a run predicted, in its order.

    Where the dataset is not on this machine, the images that the repository keeps are there, and
    all others are gray.
    """
    info = run.info
    with suppress(UserError):
        dataset = _loaded(info.dataset, size=info.input_size)
        if dataset.sha256 == info.data_sha256:
            return dataset.test.images.numpy()
    side = info.image_side
    images = np.full((info.test_total, info.in_channels, side, side), 128, np.uint8)
    found = kept(info.dataset)
    if found and str(found["sha256"]) == info.data_sha256:
        images[found["indices"]] = found["images"]
    else:
        what = f"The images of {info.dataset_title} that this run saw are not on this machine"
        print(f"{what}: gray in their place.")
    return images


def surest_mistakes(run: Run, count: int = 10) -> list[int]:
    """Returns the indices of so many test images that a run got wrong, the most confident first."""
    wrong = np.flatnonzero(~run.correct)
    confidence = run.test["probabilities"][wrong].max(1)
    return wrong[np.argsort(-confidence, kind="stable")][:count].tolist()


def mistakes(run: Run, count: int = 5) -> Figure:
    """Draws the `surest_mistakes` of a run, each under its answer and its label."""
    chosen, classes, test = surest_mistakes(run, count), run.info.classes, run.test
    answers, labels = test["predicted"][chosen], test["labels"][chosen]
    titles = [f"{classes[a]}?\nlabel {classes[k]}" for a, k in zip(answers, labels, strict=True)]
    return tiles(images_of(run)[chosen], titles, wrong=True)


def lit(run: Run) -> Figure:
    """Draws the first test image of each class in gray, glowing where Grad-CAM finds its class.

    Images are left out whose map hardly rises above the levels in which a run stores it.
    """
    images, names = samples(run.info.dataset)
    clear = run.views["cam_levels"].max((1, 2)) >= 10
    images, names = images[clear], [name for name, seen in zip(names, clear, strict=True) if seen]
    heat = run.view("cam")[clear]  # (N, h, w)
    heat = heat / heat.max((1, 2), keepdims=True).clip(1e-9)
    sides = [1, *(np.array(images.shape[2:]) / heat.shape[1:])]
    heat = zoom(heat, sides, order=1, grid_mode=True, mode="nearest").clip(0, 1)
    glow = 255 * colormaps["inferno"](heat)[..., :3]
    share = 0.25 + 0.5 * heat[..., None]  # of the glow; the rest is the image
    mixed = share * glow + (1 - share) * images.mean(1)[..., None]
    return tiles(mixed.transpose(0, 3, 1, 2).astype(np.uint8), names)


def shapes(model: str, input_size: int = 64, **options: Any) -> pd.DataFrame:
    """Returns a row a stage, head and classifier: its output for a colour image, its parameters.

    `model` is named as for `models.create`; `input_size` is the side of the image in pixels.
    """
    network = models.blueprint(model, **options)
    shapes = models.module_shapes(network, input_size)
    steps = dict(network.stages.named_children())
    steps |= {"head": network.head, "classifier": network.classifier}
    rows = [
        (name, " x ".join(map(str, shapes[step][1])), f"{models.count_parameters(step):,}")
        for name, step in steps.items()
    ]
    return pd.DataFrame(rows, columns=["stage", "output", "parameters"]).set_index("stage")


def accuracies(found: Iterable[Run]) -> pd.DataFrame:
    """Returns a row a run: its test accuracy with Wilson's 95 % interval, for new test images."""
    rows = []
    for run in found:
        ends = metrics.accuracy_interval(run.info.test_correct, run.info.test_total)
        interval = " to ".join(f"{100 * end:.2f}" for end in ends)
        named = figures.network(run), run.info.dataset_title, run.recipe
        rows.append((*named, f"{100 * run.accuracy:.2f}", interval))
    columns = ["network", "data set", "recipe", "accuracy %", "95 % interval"]
    return pd.DataFrame(rows, columns=columns).set_index("network")


def picture(figure: Figure, says: str) -> None:
    """Puts a picture on the page, with what it `says` below it and as its alternative text.

    It is HTML, since JupyterLab and nbconvert drop the alternative text of an image. Same data,
    same bytes.
    """
    _show(style.encoded(figure, dpi=110), round(100 * figure.get_figwidth()), says)


def drawing(name: str, says: str) -> None:
    """Puts the diagram of assets/ that is called `name` on the page, as `picture` does."""
    content = (ROOT / "assets" / f"{name}.png").read_bytes()
    _show(content, Image.open(io.BytesIO(content)).width // 2, says)  # of 200 pixels an inch


def _show(png: bytes, width: int, says: str) -> None:
    source = f'src="data:image/png;base64,{base64.b64encode(png).decode()}"'
    says = html.escape(says)
    shown = f'<img alt="{says}" width="{width}" style="max-width: 100%; height: auto" {source}>'
    display(HTML(f"{shown}<p><em>{says}.</em></p>"))


def code(*parts: Any) -> None:
    """Puts the lines of the library that define these classes and functions on the page.

    In HTML, since nbconvert sets the code of Markdown in a proportional font.
    """
    text = "\n".join(textwrap.dedent(inspect.getsource(part)) for part in parts)
    display(HTML(f"<pre><code>{html.escape(text)}</code></pre>"))


@rc_context(style.STYLE)
def tiles(
    images: Iterable[np.ndarray], titles: Sequence[str] = (), columns: int = 5, wrong: bool = False
) -> Figure:
    """Draws images (C, H, W) in rows of so many `columns`, each under its title.

    Those of uint8 are drawn from black at 0 to white at 255; others from their smallest to their
    largest value. The titles of what is `wrong` stand out.
    """
    every = list(images)
    rows = -(-len(every) // columns)
    lines = 1 + max((title.count("\n") for title in titles), default=-1)
    size = 1.15 * columns, (1.15 + 0.17 * lines) * rows
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, image, title in zip_longest(axes, every, titles):
        ax.set_axis_off()
        if image is not None:
            low, high = (0, 255) if image.dtype == np.uint8 else (image.min(), image.max())
            ax.imshow(image.transpose(1, 2, 0), cmap="gray", vmin=low, vmax=high)
        ax.set_title(title or "", fontsize=9, color=style.RED if wrong else "black")
    return figure


@rc_context(style.GRID)
def lines(panels: dict[str, dict[str, Sequence[float]]], x: str) -> Figure:
    """Draws lines by their names over 1, 2, 3, ... of what `x` counts.

    The `panels`, one above the other, are named by their y axes.
    """
    figure = Figure(figsize=(5.5, 0.5 + 1.9 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False).ravel()
    for ax, (y, values) in zip(axes, panels.items(), strict=True):
        for name, found in values.items():
            ax.plot(range(1, len(found) + 1), found, label=name)
        ax.set_ylabel(y)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1].set_xlabel(x)
    if len(values) > 1:
        axes[0].legend(frameon=False)
    return figure
