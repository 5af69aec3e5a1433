"""Applies a trained network: to its test set again, and to a person's own pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy import ndimage

from . import data, digit, evaluation, models
from .data.pictures import read_image
from .errors import UserError
from .models import Network
from .runs import Run, weights_sha256
from .training.hardware import device_and_precision, set_up
from .transforms import Transform


def load_network(run: Run) -> Network:
    """Loads the trained network of a run, in evaluation mode, on the CPU.

    Raises:
        UserError: the weights were not kept, are damaged, or are not the run's.
    """
    info = run.info
    path = run.path / "model.safetensors"
    if not path.is_file():
        wrong = f"{run.path} has no weights (model.safetensors)"
        raise UserError(f"{wrong}; train it again with another --out")
    if weights_sha256(run.path) != info.weights_sha256:
        wrong = f"{path} is damaged, or another network's"
        raise UserError(f"{wrong}: its hash is not the one in run.json")
    shape = (len(info.classes), info.in_channels)
    network = models.blueprint(info.model, *shape, **info.options)
    # Raises UserError if the images are too small
    models.multiply_adds(network, info.input_size, info.in_channels)
    try:
        network.load_state_dict(load_file(path), assign=True)
    except Exception:  # no safetensors at all, or others
        wrong = f"{path} does not hold the weights of the network that run.json names"
        raise UserError(f"{wrong}; train it again with another --out") from None
    return network.float().eval()


def evaluate(
    run: Run, *, dataset: str | None = None, device: str = "auto", precision: str = "auto"
) -> np.ndarray:
    """Predicts the classes (N,) of the test images anew.

    Args:
        run: with weights.
        dataset: name of the dataset here, if its folder was moved away from the run.
        device: see `training.fit`.
        precision: `fp32`, `bf16`, or `auto`: the run's own, if it is fast on this machine.

    Raises:
        UserError: no weights, no dataset, or another copy than the one that the run saw.
    """
    info = run.info
    name = f"folder:{info.dataset_folder}" if info.dataset_folder else info.dataset
    loaded = data.load(dataset or name, size=info.input_size)
    if loaded.sha256 != info.data_sha256:
        raise UserError(f"{loaded.title} is another copy than the one that {run.path} saw")
    target, able = device_and_precision(device, precision)
    set_up(target)
    kind = "fp32" if precision == "auto" and info.precision == "fp32" else able
    logits = _logits(run, load_network(run), loaded.test.images, target, kind)
    return logits.argmax(1).cpu().numpy()


def _logits(
    run: Run, network: Network, images: torch.Tensor, device: torch.device, precision: str
) -> torch.Tensor:
    """Returns logits for images (N, C, H, W), uint8, as the run computed those of its test set."""
    info = run.info
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    flip = data.facts(info.dataset).flips_test(info.recipe)
    return evaluation.Predictor(network, transform(run), precision, flip)(images)[1]


def transform(run: Run) -> Transform:
    """Returns how the network of a run sees images."""
    info = run.info
    return Transform(info.input_size, tuple(info.mean), tuple(info.std))


def prepare(file: Path, run: Run) -> tuple[torch.Tensor, list[str]]:
    """Makes a picture one of the run's dataset.

    A digit is cut out, made bright on black, and put where the dataset has its digits.

    Returns:
        (1, C, side, side), uint8, and what was done, in words.
    """
    side = run.info.image_side
    if share := data.facts(run.info.dataset).digit:
        picture, done = _digit(file, side, share)
    else:
        picture = Image.fromarray(read_image(file, side))
        done = [f"cropped to the middle square and scaled to {side}x{side}"]
    picture = picture.convert("L" if run.info.in_channels == 1 else "RGB")
    pixels = torch.from_numpy(np.array(picture).reshape(side, side, -1))
    return pixels.permute(2, 0, 1)[None], done


def _digit(file: Path, side: int, share: float) -> tuple[Image.Image, list[str]]:
    """Cuts out a digit and puts it on a black square of `side` pixels; says in words what was done.

    The digit's longer side is this share of the square's. Its centre of mass is in the middle, as
    in MNIST, unless it would stand over the edge.
    """
    picture = Image.fromarray(read_image(file))
    picture.thumbnail((digit.MOST, digit.MOST), Image.Resampling.BOX, None)
    found = digit.find(np.asarray(picture.convert("L"), float))
    if found is None:
        raise UserError(f"{file}: no digit stands out from the background")
    ink = Image.fromarray(np.round(255 * found.ink).astype(np.uint8))
    scale = round(share * side) / max(ink.size)
    width, height = (max(1, round(scale * length)) for length in ink.size)  # not 0 for a thin 1
    small = max(width, height) < 16
    ink = ink.resize((width, height), Image.Resampling.BOX if small else Image.Resampling.LANCZOS)
    row, column = ndimage.center_of_mass(np.asarray(ink))
    left = min(max(round((side - 1) / 2 - column), 0), side - width)
    top = min(max(round((side - 1) / 2 - row), 0), side - height)
    square = Image.new("L", (side, side))
    square.paste(ink, (left, top))
    done = ["light background: inverted"] * found.dark
    done.append(f"digit cut out and centred in {side}x{side}")
    return square, done + [f"doubtful: {doubt}" for doubt in found.doubts]


Answer = tuple[list[tuple[str, float]], list[str]]


def classifier(run: Run, top: int = 3) -> Callable[[Path], Answer]:
    """Returns a function that classifies a picture file of any size.

    It returns the `top` most likely classes with their probabilities, calibrated by the run's
    temperature, and what was done to the picture, in words. Raises UserError if the run has no
    weights; the function does if the file is no picture.
    """
    info, network = run.info, load_network(run)

    def classify(file: Path) -> Answer:
        pixels, done = prepare(file, run)
        logits = _logits(run, network, pixels, torch.device("cpu"), "fp32")[0]
        probabilities = (logits / info.temperature).softmax(0)
        best = probabilities.argsort(descending=True)[:top].tolist()
        return [(info.classes[i], probabilities[i].item()) for i in best], done

    return classify
