"""What only the weights can show, kept small, since the weights of large networks are not."""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from .models import Network

CAM_SIDE = 4  # a map of fewer rows says nothing about where


def quantise(values: np.ndarray, axis: int | None = None) -> dict[str, np.ndarray]:
    """Values as 256 levels between their smallest and largest along `axis`: `levels` (uint8) and
    `range` (2, ...).
    """
    low, high = values.min(axis), values.max(axis)
    levels = np.round((values - low) * (255 / np.where(high > low, high - low, 1)))
    return {"levels": levels.astype(np.uint8), "range": np.array([low, high], np.float32)}


def compute(
    network: Network, features: np.ndarray, samples: Tensor, classes: Sequence[int]
) -> dict[str, np.ndarray]:
    """The contents of `views.npz`.

    Args:
        network: in evaluation mode.
        features: representations of the test set (N, D), float32.
        samples: a few transformed test images (M, C, H, W).
        classes: their labels.

    Returns:
        `pca_*`: the representations' first two principal components (N, 2); `filters_*`: the first
        convolution's weights;
        `cam_*`: Grad-CAM maps (M, h, w) of the samples for their own class; `cam_stage`: the stage
        they are taken from;
        `pca_share`: the components' share of the variance (2,). `Run.view` reads the starred ones.
    """
    pca = PCA(2, svd_solver="randomized", random_state=0)  # scikit-learn fixes the signs
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    stage, cams = grad_cam(network, samples, classes)
    # to a network that tells nothing apart there is no variance to share out
    with np.errstate(invalid="ignore"):
        projected = pca.fit_transform(features)
    arrays = {
        "pca": projected,
        "filters": first.weight.detach().float().cpu().numpy(),
        "cam": cams.float().cpu().numpy(),
    }
    axes = {"pca": 0}  # one component may spread far more than the other
    views = {
        f"{name}_{part}": v
        for name, values in arrays.items()
        for part, v in quantise(values, axes.get(name)).items()
    }
    return views | {
        "cam_stage": np.array(stage),
        "pca_share": pca.explained_variance_ratio_.astype(np.float32),
    }


def grad_cam(network: Network, images: Tensor, classes: Sequence[int]) -> tuple[str, Tensor]:
    """Where a network sees a class (Selvaraju et al. 2017, eq. 1 and 2).

    The last stage is 2x2 at 64x64 pixels; the last one of at least 4x4 is taken.

    Args:
        network: in evaluation mode.
        images: transformed (M, C, H, W).
        classes: one an image.

    Returns:
        The stage's name and its maps (M, h, w), not negative.
    """
    maps = network.maps(images)
    *_, last = maps.values()
    logits = network.classifier(network.head(last))
    stage = [name for name, values in maps.items() if values.shape[-1] >= CAM_SIDE][-1]
    score = logits[torch.arange(len(images)), list(classes)].sum()
    (gradient,) = torch.autograd.grad(score, maps[stage])
    weights = gradient.mean((2, 3), keepdim=True)
    return stage, (weights * maps[stage]).sum(1).relu().detach()
