"""A trained network at work again: on the test set it was measured by, and on a person's own
pictures.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from . import data, digit, evaluation, models
from .data.pictures import read_image
from .errors import UserError
from .models import Network
from .runs import Run, weights_sha256
from .training import checkpoint
from .training.hardware import hardware, set_up
from .transforms import Transform


class Trained(NamedTuple):
    """A trained network in evaluation mode, the names of its classes, the transform of its
    images.
    """

    network: Network
    classes: tuple[str, ...]
    transform: Transform


def load(path: str | Path) -> Trained:
    """Returns what is in the folder of a run, ready for images of one's own: see
    `deepnets.load`.
    """
    if not Path(path).exists():
        raise UserError(
            f"there is no run in {path}: 'deepnets train MODEL' makes one and prints its folder"
        )
    run = Run.load(path)
    return Trained(load_network(run), tuple(run.info["classes"]), _transform(run))


def load_network(run: Run) -> Network:
    """The trained network of a run, in evaluation mode, on the CPU.

    Raises:
        UserError: the weights were not kept, are damaged, or are not those that the run was
        measured with.
    """
    info = run.info
    path = run.path / "model.safetensors"
    if not path.is_file():
        raise UserError(
            f"{run.path} has no weights (model.safetensors); train it again with another --out"
        )
    if weights_sha256(run.path) != info.get("weights_sha256"):
        raise UserError(
            f"{path} is damaged, or another network's: its hash is not the one in run.json"
        )
    shape = (len(info["classes"]), info["in_channels"])
    blueprint = models.blueprint(info["model"], *shape, **info["options"])
    # raises UserError if the images are too small
    models.multiply_adds(blueprint, info["input_size"], info["in_channels"])
    weights = _weights(path, blueprint.state_dict())
    network = models.create(info["model"], *shape, **info["options"])
    network.load_state_dict(weights)
    return network.eval()


def _weights(path: Path, wanted: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those of a file, if they have the names, shapes and types of what is `wanted`, and are
    finite; else raises UserError.
    """
    strange = UserError(
        f"{path} does not hold the weights of the network that run.json names; train it again with another --out"
    )
    if path.stat().st_size > sum(values.nbytes for values in wanted.values()) + (1 << 24):
        raise strange
    try:
        found = load_file(path)
    except Exception:  # no safetensors at all
        raise strange from None
    if not checkpoint.alike(found, wanted) or not all(
        values.isfinite().all() for values in found.values()
    ):
        raise strange
    return found


def evaluate(
    run: Run, *, dataset: str | None = None, device: str = "auto", precision: str = "auto"
) -> np.ndarray:
    """What a run's network says of the test images, computed anew: predicted classes (N,).

    Args:
        run: with weights; its dataset must be on this machine.
        dataset: the name of the dataset here, if its folder was moved away from the run.
        device: see `training.fit`.
        precision: `fp32`, `bf16`, or `auto` for the run's own, if this machine multiplies it faster
            than fp32.

    Raises:
        UserError: no weights, no dataset, or another copy of it than the one that the run saw.
    """
    info = run.info
    loaded = data.load(dataset or _dataset(run), size=info["input_size"])
    if loaded.sha256 != info["data_sha256"]:
        raise UserError(f"{loaded.title} is another copy than the one that {run.path} saw")
    target, able = hardware(device, precision)
    set_up(target)
    kind = "fp32" if precision == "auto" and info["precision"] == "fp32" else able
    return _logits(run, load_network(run), loaded.test.images, target, kind).argmax(1).cpu().numpy()


def _dataset(run: Run) -> str:
    """The name of a run's dataset; of a folder the path from here."""
    name, way = run.info["dataset"], run.info.get("dataset_folder")
    if not data.is_folder(name) or not way:
        return name
    folder = run.path.resolve() / way
    if not folder.is_dir():
        if data.folder_path(name).is_dir():
            return name
        raise UserError(
            f"the pictures of {run.path} are no longer in {data.folder_path(name)}: say --dataset folder:PATH"
        )
    return f"folder:{folder}"


def _logits(
    run: Run, network: Network, images: torch.Tensor, device: torch.device, precision: str
) -> torch.Tensor:
    """Of images (N, C, H, W), uint8, as the run computed its test images'."""
    info = run.info
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    flip = info["recipe"]["flip_test"] and data.facts(info["dataset"]).standard.flip
    return evaluation.outputs(network, images, _transform(run), precision, flip, lambda: None)[1]


def _transform(run: Run) -> Transform:
    info = run.info
    return Transform(info["input_size"], tuple(info["mean"]), tuple(info["std"]))


def prepare(file: Path, run: Run) -> tuple[torch.Tensor, list[str]]:
    """A picture as the run's dataset would hold it.

    A digit is made bright on black, whatever its paper, cut out, and put where the dataset has its
    digits.

    Args:
        file: a picture of any size and form.
        run: decides channels, side, and whether it is about digits.

    Returns:
        (1, C, side, side), uint8, and what was done, in words.
    """
    side, dataset = run.info["image_side"], run.info["dataset"]
    if share := data.facts(dataset).digit:
        picture, done = _digit(file, side, share)
    else:
        picture = Image.fromarray(read_image(file, side))
        done = [f"cropped to the middle square and scaled to {side}x{side}"]
        if run.info["in_channels"] == 1:
            picture = picture.convert("L")
    array = np.array(picture).reshape(side, side, -1).transpose(2, 0, 1)
    return torch.from_numpy(array[None].copy()), done


def _digit(file: Path, side: int, share: float) -> tuple[Image.Image, list[str]]:
    """The digit of a picture, bright on black, filling a `share` of a square of `side`, and what
    was done, in words.

    As in MNIST its centre of mass is in the middle, unless it would stand over the edge so.
    """
    values = np.asarray(Image.fromarray(read_image(file, most=digit.MOST)).convert("L")).astype(
        float
    )
    found = digit.find(values)
    if found is None:
        raise UserError(f"{file}: no digit stands out from the background")
    ink = Image.fromarray(np.round(255 * found.ink).astype(np.uint8))
    scale = round(share * side) / max(ink.size)
    # a thin 1 keeps its stroke
    size = max(1, round(scale * ink.width)), max(1, round(scale * ink.height))
    ink = ink.resize(size, Image.Resampling.BOX if max(size) < 16 else Image.Resampling.LANCZOS)
    mass = np.asarray(ink, float)
    if not mass.any():  # of which nothing is left at this size
        raise UserError(f"{file}: no digit stands out from the background")
    across, down = (
        np.average(np.arange(n) + 0.5, weights=mass.sum(axis)) for axis, n in enumerate(ink.size)
    )
    left, top = (
        min(max(round(side / 2 - c), 0), side - n)
        for c, n in zip((across, down), ink.size, strict=True)
    )
    square = Image.new("L", (side, side))
    square.paste(ink, (left, top))
    done = ["light background: inverted"] * found.dark + [
        f"digit cut out and centred in {side}x{side}"
    ]
    return square, done + [f"doubtful: {doubt}" for doubt in found.doubts()]


Answer = tuple[list[tuple[str, float]], list[str]]


def classifier(run: Run, top: int = 3) -> Callable[[Path], Answer]:
    """A function that says of a picture of any size what it shows.

    Args:
        run: with weights.
        top: how many classes.

    Returns:
        A function of a file's path. It returns pairs of class and probability, after the run's
        temperature, and what was done to the picture; it raises UserError if that is no picture.

    Raises:
        UserError: no weights.
    """
    info, network = run.info, load_network(run)

    def classify(file: Path) -> Answer:
        pixels, done = prepare(file, run)
        probabilities = (
            _logits(run, network, pixels, torch.device("cpu"), "fp32")[0] / info["temperature"]
        ).softmax(0)
        best = probabilities.argsort(descending=True)[:top].tolist()
        return [(info["classes"][i], probabilities[i].item()) for i in best], done

    return classify


def classify(
    run: Run, files: list[Path], top: int = 3
) -> list[tuple[Path, list[tuple[str, float]], list[str]]]:
    """For each of the `files` its path and what `classifier` gives for `run` and `top`; the first
    bad one is a UserError.
    """
    answer = classifier(run, top)
    return [(file, *answer(file)) for file in files]
