"""What the notebooks share: the runs they show, the images these saw, pictures and tables on the
page.

The environment variable `DEEPNETS_PROFILE` decides where a run comes from. `full`, the default,
loads it from the committed results; `smoke` trains for real, but on a few digits and into a folder
that goes away, so that tests need neither minutes nor a network. `python -m deepnets.notebook`
executes every notebook in place in the full profile.
"""

import base64
import hashlib
import html
import inspect
import io
import os
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
from IPython.display import HTML, Image, Markdown, display
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from nbclient import NotebookClient
from torch import nn

from . import analysis, data, disk, drawings, models, recipes, report, runs
from .compare import diagrams, style
from .errors import UserError
from .models.resnet import PaddedShortcut
from .runs import Run
from .training import Job, fit

SMOKE = os.environ.get("DEEPNETS_PROFILE", "full") == "smoke"
ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "notebooks").is_dir():
    elsewhere = "the notebooks and their runs are in the repository: run this in a clone of it, where it is installed with -e"
    if __name__ == "__main__":
        print(f"deepnets: {elsewhere}", file=sys.stderr)
        raise SystemExit(2)
    raise UserError(elsewhere)
# a notebook runs in its own folder
os.environ["DEEPNETS_DATA"] = os.environ.get("DEEPNETS_DATA") or str(ROOT / "data")
TIER = "full"  # of the study: every network, trained on all images


def run(
    model: str,
    dataset: str,
    recipe: str = "tuned",
    *,
    seed: int = 0,
    tier: str = TIER,
    study: str = "",
    train: bool = False,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> Run:
    """A committed run (of the demo for digits, of a tier of the study for others), or a new
    training.

    Args:
        model: see `models.create`.
        dataset: see `data.load`.
        recipe: `plain`, `tuned` or `best`.
        seed: of the run.
        tier: of the study's committed runs, `full` or `small`.
        study: whose committed run, `main` say; it is loaded in both profiles.
        train: train anew, into `runs/notebooks`; the same call continues and then reports that
            training.
        options: of the network.
        changes: for a new training: fields of the recipe, and `limit` and `input_size`; committed
            runs are as they are.

    Raises:
        UserError: the run is not there, or what is asked for makes no sense.
    """
    options = options or {}
    if unknown := [key for key in changes if key not in {*recipes.FIELDS, "limit", "input_size"}]:
        raise UserError(
            f"{unknown[0]!r} is no argument of notebook.run, nor a field of a recipe: {', '.join(recipes.FIELDS)}"
        )
    if SMOKE and not study:
        size = 64 if model.startswith("alexnet") else 32
        # VGG's classifier alone has 120 million weights
        epochs, limit = (1, 50) if model.startswith("vgg") else (2, 200)
        return fit(
            Job(
                model,
                "digits",
                recipes.get(recipe, model, epochs=epochs),
                seed,
                options,
                limit,
                size,
            ),
            _smoke_folder().name,
        )
    if train:
        settings = {key: changes.pop(key) for key in ("limit", "input_size") if key in changes}
        job = Job(model, dataset, recipes.get(recipe, model, **changes), seed, options, **settings)
        # other settings, another run
        version = hashlib.sha256(repr(sorted(job.settings().items())).encode()).hexdigest()[:8]
        return fit(job, ROOT / "runs/notebooks" / version)
    part = study or ("demo" if dataset == "digits" else tier)
    folder = (
        ROOT / "results" / part / dataset / runs.labelled(model, options) / recipe / f"seed{seed}"
    )
    if not folder.is_dir():
        raise UserError(
            f"there is no committed run in {folder.relative_to(ROOT)}; train=True makes one"
        )
    return Run.load(folder)


def committed(tier: str = TIER) -> list[Run]:
    """All committed runs of a study's `tier`, in both profiles: what is computed from them alone is
    the same in both.
    """
    return runs.find(ROOT / "results" / tier)


def by_dataset(found: list[Run]) -> dict[str, list[Run]]:
    """The runs of each dataset, by its title; in the smoke profile several datasets are one, and so
    are their runs.
    """
    found = [*{run.path: run for run in found}.values()]
    titles = dict.fromkeys(run.info["dataset_title"] for run in found)
    return {title: [run for run in found if run.info["dataset_title"] == title] for title in titles}


def dataset(name: str, size: int = 64) -> data.Dataset:
    """The dataset called `name`, pictures of a folder at `size`; digits in the smoke profile."""
    return data.load("digits" if SMOKE else name, size=size)


def datasets(names: Sequence[str]) -> dict[str, data.Dataset]:
    """Returns those of the datasets `names` that are on this machine, by name.

    Of each other one a line says how to get it. The smoke profile has the digits only.
    """
    found = {}
    for name in ["digits"] if SMOKE else names:
        try:
            found[name] = data.load(name)
        except UserError:
            print(f"{data.facts(name).title or name} is not on this machine: {_fetch(name)}.")
    return found


def _fetch(name: str) -> str:
    return f'data.load("{name}", download=True) fetches it, then run this cell again'


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
    return disk.read_arrays(file, 1 << 24) if file.is_file() else {}


def samples(name: str, each: int = 1) -> tuple[np.ndarray, list[str]]:
    """Returns the first test images, so many of `each` class, of a dataset called `name`: (N, C, H,
    W), uint8, class by class, and the names of their classes.
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
    try:
        sha256, images = _test_images(info["dataset"], info["input_size"])
        if sha256 == info["data_sha256"]:
            return images
    except UserError:
        pass
    side = info["image_side"]
    images = np.full((info["test_total"], info["in_channels"], side, side), 128, np.uint8)
    found = kept(info["dataset"])
    if found and str(found["sha256"]) == info["data_sha256"]:
        images[found["indices"]] = found["images"]
    else:
        what = f"The images of {info['dataset_title']} that this run saw are not on this machine"
        print(f"{what}: gray in their place.")
    return images


def surest_mistakes(run: Run, count: int = 10) -> list[int]:
    """Returns the indices of so many test images that a run got wrong, the most confident first."""
    wrong = np.flatnonzero(~run.correct)
    confidence = run.test["probabilities"][wrong].max(1)
    return wrong[np.argsort(-confidence, kind="stable")][:count].tolist()


@cache
def _test_images(name: str, size: int) -> tuple[str, np.ndarray]:
    found = data.load(name, size=size)
    return found.sha256, found.test.images.numpy()


def source(*parts: Any) -> Markdown:
    """The lines of the library that define these classes and functions, to be read on the page."""
    return Markdown(
        "\n".join(f"```python\n{textwrap.dedent(inspect.getsource(part))}```" for part in parts)
    )


def shapes(model: str, input_size: int = 64, **options: Any) -> pd.DataFrame:
    """A row a stage: what comes out of it for one image of 3 x `input_size` x `input_size`, and its
    parameters.

    `model` and `options` as for `models.create`.
    """
    steps = models.trace(models.blueprint(model, **options), input_size)
    rows = [
        (step["name"], " x ".join(map(str, step["shape"])), f"{step['parameters']:,}")
        for step in steps
    ]
    return pd.DataFrame(rows, columns=["stage", "output", "parameters"]).set_index("stage")


def costs(names: list[str]) -> pd.DataFrame:
    """A row for each of the networks `names`: parameters for ten classes, multiply-adds for a 64x64
    image.
    """
    colour, gray = (
        [models.blueprint(name, in_channels=channels) for name in names] for channels in (3, 1)
    )
    columns = {
        "parameters, colour": [models.count_parameters(network) for network in colour],
        "parameters, gray": [models.count_parameters(network) for network in gray],
        "multiply-adds, 64x64 colour": [models.multiply_adds(network, 64) for network in colour],
    }
    return pd.DataFrame(columns, index=pd.Index(names, name="network")).map("{:,}".format)


def results(found: list[Run], columns: Sequence[str] = report.BRIEF) -> pd.DataFrame:
    """A row for each of the runs `found`, the best first: the `columns` of `report.readable` that a
    page has room for.
    """
    return report.readable(analysis.accuracies(found))[[*columns]].set_index(["network", "recipe"])


def drawing(model: str, input_size: int = 64, **options: Any) -> Figure:
    """The picture of `diagrams.network` for one image of 3 x `input_size` x `input_size`; `model`,
    `options` as for `shapes`.
    """
    return diagrams.network(model, input_size, **options)


def block(paths: Iterable[nn.Module], joined: str, title: str = "") -> Figure:
    """The picture of `drawings.block` for the modules `paths` that a block runs side by side, with
    `joined` and `title`.
    """
    return drawings.block([_layers(path) for path in paths], joined, title)


def _layers(path: nn.Module) -> list[tuple[str, bool]]:
    """What the layers of a path do, in order, and whether each has weights; what follows a
    convolution stands with it.
    """
    layers: list[tuple[str, bool]] = []
    for layer in path.modules():
        match layer:
            case nn.Conv2d():
                stride = f", stride {layer.stride[0]}" if layer.stride[0] > 1 else ""
                layers.append(
                    (
                        f"{layer.kernel_size[0]}x{layer.kernel_size[1]}, {layer.out_channels}{stride}",
                        True,
                    )
                )
            case nn.BatchNorm2d() | nn.ReLU() if layers:
                text, weights = layers.pop()
                layers.append(
                    (
                        text + ("\nbatch norm" if isinstance(layer, nn.BatchNorm2d) else ", ReLU"),
                        weights,
                    )
                )
            case nn.MaxPool2d():
                layers.append((f"max pool {layer.kernel_size}x{layer.kernel_size}", False))
            case nn.Identity():
                layers.append(("identity", False))
            case PaddedShortcut():
                layers.append(("every second pixel,\nzeros for new channels", False))
            case nn.Sequential():
                pass
            case _:
                raise TypeError(f"how is {type(layer).__name__} to be drawn?")
    return layers


def show(figure: Figure, says: str) -> None:
    """Put a picture on the page and below it what it `says`, also for those who cannot see it. Same
    data, same bytes.
    """
    file = io.BytesIO()
    style.save(figure, file, dpi=110)
    display(
        Image(file.getvalue(), alt=says, width=round(100 * figure.get_figwidth())),
        Markdown(f"*{says}.*"),
    )


def picture(figure: Figure, says: str) -> None:
    """Puts a picture on the page, with what it `says` below it and as its alternative text.

    It is HTML, since JupyterLab and nbconvert drop the alternative text of an image. Same data,
    same bytes.
    """
    content = base64.b64encode(style.encoded(figure, dpi=110)).decode()
    says, width = html.escape(says), round(100 * figure.get_figwidth())
    source = f'src="data:image/png;base64,{content}"'
    shown = f'<img alt="{says}" width="{width}" style="max-width: 100%; height: auto" {source}>'
    display(HTML(f"{shown}<p><em>{says}.</em></p>"))


def code(*parts: Any) -> None:
    """Puts the lines of the library that define these classes and functions on the page.

    In HTML, since nbconvert sets the code of Markdown in a proportional font.
    """
    text = "\n".join(textwrap.dedent(inspect.getsource(part)) for part in parts)
    display(HTML(f"<pre><code>{html.escape(text)}</code></pre>"))


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
    with rc_context(style.STYLE):
        size = 1.15 * columns, (1.15 + 0.17 * lines) * rows
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes:
            ax.set_axis_off()
        for ax, image in zip(axes, every, strict=False):
            shown = image.transpose(1, 2, 0)
            limits = (0, 255) if image.dtype == np.uint8 else (image.min(), image.max())
            ax.imshow(shown, cmap="gray", vmin=limits[0], vmax=limits[1])
        for ax, title in zip(axes, titles, strict=False):
            ax.set_title(title, fontsize=9, color=style.RED if wrong else "black")
    return figure


def lines(panels: dict[str, dict[str, Sequence[float]]], x: str) -> Figure:
    """Draws `panels` one above the other, each named by its y axis, of lines by their names, over
    1, 2, 3, ...; `x` is what that counts.
    """
    with rc_context(style.GRID):
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


@cache
def _smoke_folder() -> tempfile.TemporaryDirectory[str]:
    """One a process, gone at its end."""
    return tempfile.TemporaryDirectory()


def digest(notebook: nbformat.NotebookNode) -> str:
    """A hash of what the outputs of a notebook are made from: its code, the library, the committed
    results.
    """
    found = hashlib.sha256(
        "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code").encode()
    )
    files = [*(ROOT / "deepnets").rglob("*.py")]
    files += [
        path for kind in ("json", "csv", "npz") for path in (ROOT / "results").rglob(f"*.{kind}")
    ]
    for path in sorted(files):
        if not any(part.endswith(".partial") for part in path.parts):
            found.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def execute(path: Path) -> None:
    """Run a notebook from top to bottom, in place, and note in its metadata what its outputs were
    made from.

    Raises:
        CellExecutionError: a cell fails; the file stays as it was.
    """
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(
        notebook, resources=where, record_timing=False, extra_arguments=["--log-level=ERROR"]
    ).execute()
    # as JupyterLab writes it, so that to open a notebook changes no file
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata = {
        "kernelspec": kernel,
        "language_info": notebook.metadata["language_info"],
        "deepnets": {"made_from": digest(notebook)},
    }
    nbformat.write(notebook, path)


if __name__ == "__main__":
    os.environ["DEEPNETS_PROFILE"] = "full"
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        execute(path)
        print(path.relative_to(ROOT))
