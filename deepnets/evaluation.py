"""Measures a trained network, once: predictions, corrupted images, and views of it."""

from collections.abc import Callable, Sequence
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
from .transforms import Transform

BATCH = 256
NOISE = 0.1  # standard deviation, as a share of the range of brightness
BLUR = 1 / 32  # standard deviation, as a share of the side: one pixel of CIFAR-10
CONTRAST = 0.4  # share of the contrast that is left
CHUNK = 1024  # images corrupted at a time: as floats they take four to eight times the memory
CAM_SIDE = 4  # smallest side of a map in which Grad-CAM shows a place


@dataclass(frozen=True)
class Predictor:
    """Applies a network, which is in evaluation mode, to stored images."""

    network: Network
    transform: Transform
    precision: str  # `fp32` or `bf16`
    flip: bool = False  # average the logits with those of the mirrored images
    pause: Callable[[], None] = lambda: None  # called between two batches; may raise

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Computes representations (N, D) and logits (N, classes) of images (N, C, H, W), uint8."""
        network, features, logits = self.network, [], []
        device = next(network.parameters()).device
        for part in images.split(BATCH):
            x = self.transform(part.to(device)).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                features.append(network.features(x).float())
                logits.append(network.classifier(features[-1]).float())
                if self.flip:
                    logits[-1] = (logits[-1] + network(x.flip(-1)).float()) / 2
            self.pause()
        return torch.cat(features), torch.cat(logits)


@dataclass(frozen=True)
class Evaluation:
    """What a run keeps of the test set."""

    logits: np.ndarray  # (N, classes), float32
    figures: dict[str, Any]  # accuracy, calibration and robustness, as `run.json` has them
    test: runs.Arrays
    """Contents of `test.npz`: `labels` (N,), log-probabilities as `levels` (N, classes), and for
    each corruption a bit an image, whether it is predicted right."""
    views: runs.Arrays  # contents of `views.npz`: see `views`


def evaluate(predictor: Predictor, test: Images, validation: Images) -> Evaluation:
    """Measures a network on the test images; the validation images are for the temperature.

    All figures are those of the predictions as stored, so that they can be computed from these.
    """

    def predict(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        features, logits = predictor(images)
        return features.cpu().numpy(), logits.cpu().numpy()

    features, logits = predict(test.images)
    labels = test.labels.numpy()
    validation_logits = predict(validation.images)[1]
    temperature = metrics.fit_temperature(validation_logits, validation.labels.cpu().numpy())
    levels = runs.levels(log_softmax(logits, axis=1))
    figures: dict[str, Any] = metrics.summary(runs.restored(levels), labels, temperature)
    figures["robustness"] = {"images": len(labels), "clean": figures["test_correct"]}
    small = np.min_scalar_type(levels.shape[1] - 1)
    stored = {"labels": labels.astype(small), "levels": levels}
    for name in CORRUPTIONS:
        generator = Generator().manual_seed(0)
        parts = (corrupt(part, name, generator) for part in test.images.split(CHUNK))
        right = np.concatenate([predict(part)[1].argmax(1) for part in parts]) == labels
        stored[name] = np.packbits(right)
        figures["robustness"][name] = int(right.sum())
    classes, first = np.unique(labels, return_index=True)
    network = predictor.network
    samples = test[first[:10]].images.to(next(network.parameters()).device)
    shown = views(network, features, predictor.transform(samples), classes[:10].tolist())
    return Evaluation(logits, figures, stored, shown)


def corrupt(images: Tensor, name: str, generator: Generator | None = None) -> Tensor:
    """Adds Gaussian `noise` or `blur` to images (N, C, H, W), uint8, or takes `contrast`.

    The corruptions are this project's own. Noise is that of the generator, by default always the
    same.
    """
    x = images.float()
    if name == "noise":
        generator = generator or Generator().manual_seed(0)
        x += 255 * NOISE * torch.randn(x.shape, generator=generator)
    elif name == "blur":
        sigma = BLUR * x.shape[-1]
        x = torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="nearest"))
    elif name == "contrast":
        mean = x.mean((1, 2, 3), keepdim=True)
        x = mean + CONTRAST * (x - mean)
    else:
        raise ValueError(f"no corruption is called {name!r}")
    return x.round().clamp(0, 255).to(torch.uint8)


def views(
    network: Network, features: np.ndarray, samples: Tensor, classes: Sequence[int]
) -> dict[str, np.ndarray]:
    """Computes views of a network in evaluation mode, small enough to keep for every run.

    Args:
        network: of the run.
        features: representations of the test images (N, D).
        samples: a few transformed test images (M, C, H, W).
        classes: labels of the samples.

    Returns:
        `pca_*`: first two principal components of the representations (N, 2), and `pca_share`,
        their shares of the variance (2,); `filters_*`: weights of the first convolution; `cam_*`:
        Grad-CAM maps (M, h, w) of the samples for their own class, each divided by its largest
        value, and `cam_stage`, the stage they are from. `Run.view` reads those with a star.
    """
    pca = PCA(2, svd_solver="randomized", random_state=0)  # scikit-learn fixes the signs
    with np.errstate(invalid="ignore"):  # features that are all equal have no variance
        projected = pca.fit_transform(features)
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    stage, cams = grad_cam(network, samples, classes)
    return {
        "pca_share": pca.explained_variance_ratio_.astype(np.float32),
        "cam_stage": np.array(stage),
        **quantise("pca", projected, 0),  # one component may vary far more than the other
        **quantise("filters", first.weight.detach().float().cpu().numpy()),
        **quantise("cam", (cams / cams.amax((1, 2), True).clamp(min=1e-9)).float().cpu().numpy()),
    }


def quantise(name: str, values: np.ndarray, axis: int | None = None) -> dict[str, np.ndarray]:
    """Rounds values to 256 levels between their smallest and largest along an axis.

    Returns:
        `NAME_levels`, uint8, and `NAME_range` (2, ...), float32.
    """
    low, high = values.min(axis), values.max(axis)
    levels = np.round((values - low) * (255 / np.where(high > low, high - low, 1)))
    limits = np.array([low, high], np.float32)
    return {f"{name}_levels": levels.astype(np.uint8), f"{name}_range": limits}


def grad_cam(network: Network, images: Tensor, classes: Sequence[int]) -> tuple[str, Tensor]:
    """Computes where a network sees a class (Grad-CAM: Selvaraju et al. 2017, eq. 1 and 2).

    The network is in evaluation mode, the images (M, C, H, W) are transformed and have a class
    each. The last maps are 2x2 at 64x64 pixels, so those of the last stage with at least 4x4 are
    taken. Returns the stage's name and the maps (M, h, w), not negative.
    """
    maps = network.maps(images)
    *_, last = maps.values()
    logits = network.classifier(network.head(last))
    stage = [name for name, values in maps.items() if values.shape[-1] >= CAM_SIDE][-1]
    score = logits[torch.arange(len(images)), list(classes)].sum()
    (gradient,) = torch.autograd.grad(score, maps[stage])
    weights = gradient.mean((2, 3), keepdim=True)
    return stage, (weights * maps[stage]).sum(1).relu().detach()
