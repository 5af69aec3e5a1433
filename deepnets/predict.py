"""A person's own picture, through a trained network."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file

from . import models
from .data import read_image
from .errors import UserError
from .models import Network
from .runs import Run
from .transforms import Transform

# Digits are bright on black and fill this share of their image's side.
DIGIT_SHARE = {"mnist": 20 / 28, "digits": 1.0}


def load_network(run: Run) -> Network:
    """The trained network of a run, in evaluation mode, on the CPU.

    Raises:
        UserError: the weights were not kept, or are damaged.
    """
    info = run.info
    path = run.path / "model.safetensors"
    if not path.is_file():
        raise UserError(f"{run.path} has no weights (model.safetensors); train it again with another --out")
    network = models.create(info["model"], len(info["classes"]), info["in_channels"], **info["options"])
    try:
        network.load_state_dict(load_file(path))
    except Exception:  # the file can be wrong in many ways
        raise UserError(f"{path} is damaged, or another network's") from None
    return network.eval()


def prepare(file: Path, run: Run) -> tuple[torch.Tensor, list[str]]:
    """A picture as the run's dataset would hold it.

    A digit is made bright on black if its background is light, cut out, and put where the dataset has its digits.

    Args:
        file: a picture of any size and form.
        run: decides channels, side, and whether it is about digits.

    Returns:
        (1, C, side, side), uint8, and what was done, in words.
    """
    side, dataset = run.info["image_side"], run.info["dataset"]
    digits = dataset in DIGIT_SHARE
    picture = Image.fromarray(read_image(file, None if digits else side))
    done = [] if digits else [f"cropped to the middle square and scaled to {side}x{side}"]
    if run.info["in_channels"] == 1:
        picture = picture.convert("L")
    if digits:
        values = np.asarray(picture)
        if np.median(np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])) > 127:
            picture = ImageOps.invert(picture)
            done.append("light background: inverted")
        ink = np.asarray(picture).astype(float) - np.median(np.asarray(picture))
        rows, columns = np.nonzero(ink > max(ink.max() / 4, 16))
        if not len(rows):
            raise UserError(f"{file}: no digit stands out from the background")
        digit = picture.crop((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        inner = round(DIGIT_SHARE[dataset] * side)
        digit = ImageOps.contain(digit, (inner, inner), Image.Resampling.BOX if inner < 16 else Image.Resampling.LANCZOS)
        picture = Image.new("L", (side, side))
        picture.paste(digit, ((side - digit.width) // 2, (side - digit.height) // 2))
        done.append(f"digit cut out and centred in {side}x{side}")
    array = np.array(picture).reshape(side, side, -1).transpose(2, 0, 1)
    return torch.from_numpy(array[None].copy()), done


@torch.inference_mode()
def classify(run: Run, files: list[Path], top: int = 3) -> list[tuple[Path, list[tuple[str, float]], list[str]]]:
    """The most likely classes of pictures of any size, with probabilities after the run's temperature.

    Args:
        run: with weights.
        files: pictures.
        top: how many classes.

    Returns:
        For each file: its path, pairs of class and probability, and what was done to the picture.

    Raises:
        UserError: no weights, or a file that is no picture.
    """
    info = run.info
    network = load_network(run)
    transform = Transform(info["input_size"], tuple(info["mean"]), tuple(info["std"]))
    results = []
    for file in files:
        pixels, done = prepare(file, run)
        probabilities = (network(transform(pixels))[0] / info["temperature"]).softmax(0)
        best = probabilities.argsort(descending=True)[:top].tolist()
        results.append((file, [(info["classes"][i], probabilities[i].item()) for i in best], done))
    return results
