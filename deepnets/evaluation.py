"""Measures a trained network, once: predictions, corrupted images, and views of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from torch import Generator, Tensor, nn

from . import metrics, runs
from .data import Images
from .info import CORRUPTIONS
from .models import Network

BATCH = 256
NOISE = 0.1  # standard deviation, as a share of the range of brightness
BLUR = 1 / 32  # standard deviation, as a share of the side: one pixel of CIFAR-10
CONTRAST = 0.4  # share of the contrast that is left
CHUNK = 1024  # images corrupted at a time: as floats they take four to eight times the memory
CAM_SIDE = 4  # smallest side of a map in which Grad-CAM shows a place


@dataclass(frozen=True)
class Evaluation:
    """What a run keeps of the test set."""

    logits: np.ndarray
    """(N, classes), float32."""
    levels: np.ndarray
    """Log-probabilities (N, classes) as `runs.levels` stores them."""
    figures: dict[str, Any]
    """Accuracy, calibration and robustness, as `run.json` has them."""
    corrupted: dict[str, np.ndarray]
    """For each corruption whether each image is predicted right (N,), bool."""
    views: dict[str, np.ndarray]
    """Contents of `views.npz`: see `views`."""


def evaluate(
    network: Network,
    test: Images,
    validation: Images,
    transform: Callable[[Tensor], Tensor],
    precision: str,
    flip: bool,
    pause: Callable[[], None],
) -> Evaluation:
    """Measures a network on the test images.

    All figures are those of the predictions as stored, so that they can be computed from these.

    Args:
        network: in evaluation mode.
        test: images and labels.
        validation: images and labels, for the temperature.
        transform: turns images (N, C, H, W), uint8, into what the network takes.
        precision: `fp32` or `bf16`.
        flip: average the logits with those of the mirrored images.
        pause: called between two batches; may raise.
    """

    def predict(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        found = outputs(network, images, transform, precision, flip, pause)
        return found[0].cpu().numpy(), found[1].cpu().numpy()

    features, logits = predict(test.images)
    labels = test.labels.numpy()
    validation_logits = predict(validation.images)[1]
    temperature = metrics.fit_temperature(validation_logits, validation.labels.cpu().numpy())
    levels = runs.levels(log_softmax(logits, axis=1))
    figures: dict[str, Any] = metrics.summary(runs.restored(levels), labels, temperature)
    corrupted = {}
    for name in CORRUPTIONS:
        parts = [predict(part)[1].argmax(1) for part in corruptions(test.images, name)]
        corrupted[name] = np.concatenate(parts) == labels
    counts = {name: int(right.sum()) for name, right in corrupted.items()}
    figures["robustness"] = {"images": len(labels), "clean": figures["test_correct"]} | counts
    classes, first = np.unique(labels, return_index=True)
    device = next(network.parameters()).device
    samples = transform(test[first[:10]].images.to(device))
    shown = views(network, features, samples, classes[:10].tolist())
    return Evaluation(logits, levels, figures, corrupted, shown)


@torch.inference_mode()
def outputs(
    network: Network,
    images: Tensor,
    transform: Callable[[Tensor], Tensor],
    precision: str,
    flip: bool,
    pause: Callable[[], None],
) -> tuple[Tensor, Tensor]:
    """Computes representations (N, D) and logits (N, classes), float32; arguments as `evaluate`."""
    device, features, logits = next(network.parameters()).device, [], []
    for part in images.split(BATCH):
        x = transform(part.to(device)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            features.append(network.features(x).float())
            logits.append(network.classifier(features[-1]).float())
            if flip:
                logits[-1] = (logits[-1] + network(x.flip(-1)).float()) / 2
        pause()
    return torch.cat(features), torch.cat(logits)


def corrupt(images: Tensor, name: str) -> Tensor:
    """Adds Gaussian `noise` or `blur` to images (N, C, H, W), uint8, or takes `contrast`.

    The corruptions are this project's own, and the same every time.
    """
    return torch.cat(list(corruptions(images, name)))


def corruptions(images: Tensor, name: str) -> Iterator[Tensor]:
    """Yields what `corrupt` returns in parts, since all of it may not fit in memory."""
    if name not in CORRUPTIONS:
        raise ValueError(f"no corruption is called {name!r}")
    generator = Generator().manual_seed(0)
    for part in images.split(CHUNK):
        yield _change(part.float(), name, generator).round().clamp(0, 255).to(torch.uint8)


def _change(images: Tensor, name: str, generator: Generator) -> Tensor:
    if name == "noise":
        return images + 255 * NOISE * torch.randn(images.shape, generator=generator)
    if name == "blur":
        sigma = BLUR * images.shape[-1]
        blurred = gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest")
        return torch.from_numpy(blurred)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + CONTRAST * (images - mean)


def views(
    network: Network, features: np.ndarray, samples: Tensor, classes: Sequence[int]
) -> dict[str, np.ndarray]:
    """Computes views of a network, small enough to keep for every run.

    Args:
        network: in evaluation mode.
        features: representations of the test images (N, D).
        samples: a few transformed test images (M, C, H, W).
        classes: labels of the samples.

    Returns:
        `pca_*`: first two principal components of the representations (N, 2), and `pca_share`,
        their shares of the variance (2,); `filters_*`: weights of the first convolution; `cam_*`:
        Grad-CAM maps (M, h, w) of the samples for their own class, and `cam_stage`, the stage they
        are taken from. `Run.view` reads those with a star.
    """
    pca = PCA(2, svd_solver="randomized", random_state=0)  # scikit-learn fixes the signs
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    stage, cams = grad_cam(network, samples, classes)
    with np.errstate(invalid="ignore"):  # features that are all equal have no variance
        projected = pca.fit_transform(features)
    filters = first.weight.detach().float().cpu().numpy()
    share = pca.explained_variance_ratio_.astype(np.float32)
    found = {"cam_stage": np.array(stage), "pca_share": share}
    stored = {
        "pca": quantise(projected, 0),  # one component may vary far more than the other
        "filters": quantise(filters),
        "cam": quantise(cams.float().cpu().numpy()),
    }
    for name, parts in stored.items():
        found |= {f"{name}_{part}": array for part, array in parts.items()}
    return found


def quantise(values: np.ndarray, axis: int | None = None) -> dict[str, np.ndarray]:
    """Rounds values to 256 levels between their smallest and largest along an axis.

    Returns:
        `levels`, uint8, and `range` (2, ...), float32.
    """
    low, high = values.min(axis), values.max(axis)
    levels = np.round((values - low) * (255 / np.where(high > low, high - low, 1)))
    return {"levels": levels.astype(np.uint8), "range": np.array([low, high], np.float32)}


def grad_cam(network: Network, images: Tensor, classes: Sequence[int]) -> tuple[str, Tensor]:
    """Computes where a network sees a class (Grad-CAM: Selvaraju et al. 2017, eq. 1 and 2).

    The last maps are 2x2 at 64x64 pixels, so those of the last stage with at least 4x4 are taken.

    Args:
        network: in evaluation mode.
        images: transformed (M, C, H, W).
        classes: one an image.

    Returns:
        The stage's name and the maps (M, h, w), not negative.
    """
    maps = network.maps(images)
    *_, last = maps.values()
    logits = network.classifier(network.head(last))
    stage = [name for name, values in maps.items() if values.shape[-1] >= CAM_SIDE][-1]
    score = logits[torch.arange(len(images)), list(classes)].sum()
    (gradient,) = torch.autograd.grad(score, maps[stage])
    weights = gradient.mean((2, 3), keepdim=True)
    return stage, (weights * maps[stage]).sum(1).relu().detach()
