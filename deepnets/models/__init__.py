"""The networks, by name."""

import difflib
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..errors import UserError
from .alexnet import AlexNet
from .googlenet import GoogLeNet
from .layers import Network
from .resnet import cifar_resnet, imagenet_resnet
from .shapes import count_parameters as count_parameters
from .shapes import module_shapes as module_shapes
from .shapes import multiply_adds as multiply_adds
from .vgg import CONFIGURATIONS, VGG, vgg16_improved

_resnet18 = partial(imagenet_resnet, (2, 2, 2, 2))
# Those called improved: Skoularikis 2021
_BUILDERS: dict[str, Callable[..., Network]] = {
    "alexnet": AlexNet,
    "alexnet_2012": partial(AlexNet, as_published=True),
    **{f"vgg{depth}": partial(VGG, depth) for depth in CONFIGURATIONS},
    "vgg16_improved": vgg16_improved,
    **{f"resnet{depth}": partial(cifar_resnet, depth) for depth in (20, 32, 44, 56, 110)},
    "resnet18": _resnet18,
    "resnet34": partial(imagenet_resnet, (3, 4, 6, 3)),
    "resnet18_improved": partial(_resnet18, stem="3x3", dropout=0.1, narrow_head=True),
    "googlenet": GoogLeNet,
    "googlenet_2014": partial(GoogLeNet, as_published=True, aux=True),
    "googlenet_improved": partial(GoogLeNet, stem="3x3"),
}
# What each improved network improves
ORIGINALS = {
    "vgg16_improved": "vgg16",
    "resnet18_improved": "resnet18",
    "googlenet_improved": "googlenet",
}
# CIFAR's form of every depth up to He et al.'s deepest (2016, section 4.2). 50 and 152 are 6n+2,
# too, but everybody means ImageNet's.
_OTHERS = {
    f"resnet{depth}": partial(cifar_resnet, depth)
    for depth in range(8, 1203, 6)
    if depth not in (50, 152)
}
SWITCHES = {"as_published", "aux", "batch_norm", "narrow_head", "shortcuts", "stem_norm"}


def names() -> list[str]:
    """Returns the names of the networks; `create` also builds other CIFAR ResNets (`resnet26`)."""
    return list(_BUILDERS)


def create(name: str, num_classes: int = 10, in_channels: int = 3, **options: Any) -> Network:
    """Builds a network and draws its weights from torch's generator.

    The name is one of `names()`, or `resnetD` with D = 6n+2, at most 1202; the options are keywords
    of the network's class, such as `dropout` or `stem`.

    Raises:
        UserError: no such network, or an option it does not have.
    """
    builder = _BUILDERS.get(name) or _OTHERS.get(name)
    if builder is None:
        near = difflib.get_close_matches(name, _BUILDERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(_BUILDERS)}"
        raise UserError(f"no network is called {name!r}; {hint}")
    for key in SWITCHES & options.keys():
        if not isinstance(options[key], bool):  # any text would count as true
            raise UserError(f"{name}: {key} is true or false, without quotes, not {options[key]!r}")
    try:
        return builder(num_classes=num_classes, in_channels=in_channels, **options)
    except (TypeError, ValueError) as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        wrong = f"has no option {unknown[1]!r}" if unknown else f"cannot be built: {error}"
        raise UserError(f"{name} {wrong}") from None


def blueprint(name: str, num_classes: int = 10, in_channels: int = 3, **options: Any) -> Network:
    """Builds what `create` does, but without memory for weights: for counts and shapes."""
    with torch.device("meta"):
        return create(name, num_classes, in_channels, **options).eval()
