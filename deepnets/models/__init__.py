"""The networks, by name."""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import UserError
from .alexnet import AlexNet, alexnet_2012
from .googlenet import GoogLeNet, googlenet_2014, googlenet_improved
from .layers import Network
from .resnet import cifar_resnet, imagenet_resnet, resnet18_improved
from .vgg import CONFIGURATIONS, VGG, vgg16_improved

_BUILDERS: dict[str, Callable[..., Network]] = {
    "alexnet": AlexNet,
    "alexnet_2012": alexnet_2012,
    **{f"vgg{depth}": partial(VGG, depth) for depth in CONFIGURATIONS},
    "vgg16_improved": vgg16_improved,
    **{f"resnet{depth}": partial(cifar_resnet, depth) for depth in (20, 32, 44, 56, 110)},
    "resnet18": partial(imagenet_resnet, (2, 2, 2, 2)),
    "resnet34": partial(imagenet_resnet, (3, 4, 6, 3)),
    "resnet18_improved": resnet18_improved,
    "googlenet": GoogLeNet,
    "googlenet_2014": googlenet_2014,
    "googlenet_improved": googlenet_improved,
}
EVALUATION_BATCH = 256
# layers of He et al.'s deepest ResNet (2015, section 4.2); a deeper one would take minutes to build
DEEPEST = 1202
# options that are true or false
SWITCHES = ("as_published", "aux", "batch_norm", "narrow_head", "shortcuts", "stem_norm")
_IMAGENET_ONLY = ("50", "101", "152")  # 50 and 152 are 6n+2 too, and not what one would mean


def names() -> list[str]:
    """The networks that `create` knows by name (it also builds any other CIFAR ResNet, `resnet26`
    say).
    """
    return list(_BUILDERS)


def create(name: str, num_classes: int = 10, in_channels: int = 3, **options: Any) -> Network:
    """Build a network with weights drawn from torch's generator.

    Args:
        name: one of `names()`, or `resnetD` with D = 6n+2, at most 1202.
        num_classes: number of logits.
        in_channels: channels of the images; the first convolution alone depends on it.
        options: keywords of the network's class, such as `dropout` or `stem`.

    Raises:
        UserError: no such network, or an option it does not have.
    """
    builder = _BUILDERS.get(name)
    numbered = re.fullmatch(r"resnet([1-9]\d{0,3})", name)
    if (
        builder is None
        and numbered
        and numbered[1] not in _IMAGENET_ONLY
        and int(numbered[1]) <= DEEPEST
    ):
        builder = partial(cifar_resnet, int(numbered[1]))
    if builder is None:
        near = difflib.get_close_matches(name, _BUILDERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(_BUILDERS)}"
        raise UserError(f"no network is called {name!r}; {hint}")
    # any text would count as true
    if wrong := [key for key in SWITCHES if not isinstance(options.get(key, False), bool)]:
        raise UserError(
            f"{name}: the value of {wrong[0]} is true or false, without quotes, not {options[wrong[0]]!r}"
        )
    try:
        return builder(num_classes=num_classes, in_channels=in_channels, **options)
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown:
            raise UserError(f"{name} has no option {unknown[1]!r}") from None
        raise UserError(f"{name} cannot be built with {options}: {error}") from None
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


def blueprint(name: str, num_classes: int = 10, in_channels: int = 3, **options: Any) -> Network:
    """What `create` gives for `name`, `num_classes`, `in_channels` and `options`, without storage:
    to count shapes.
    """
    with torch.device("meta"):
        return create(name, num_classes, in_channels, **options).eval()


def count_parameters(network: nn.Module) -> int:
    """Number of trainable numbers, those of the auxiliary heads included."""
    return sum(parameter.numel() for parameter in network.parameters())


def trace(network: Network, input_size: int) -> list[dict[str, Any]]:
    """What happens to one RGB image on its way through a network, stage by stage.

    Args:
        network: a blueprint.
        input_size: side of the image.

    Returns:
        A dict a stage: its `name`, the `shape` of what it gives, its number of `parameters`, and
        the `windows` of its convolutions in words; the head and the classifier are the last two.

    Raises:
        UserError: the images are too small for the network.
    """
    modules = dict(network.stages.named_children()) | {
        "head": network.head,
        "classifier": network.classifier,
    }
    x, steps = torch.empty(1, 3, input_size, input_size, device="meta"), []
    for name, module in modules.items():
        with _large_enough(input_size):
            x = module(x)
        sides = Counter(
            part.kernel_size for part in module.modules() if isinstance(part, nn.Conv2d)
        )
        windows = ", ".join(
            f"{n} of {k}x{k}" if n > 1 else f"{k}x{k}" for (k, _), n in sorted(sides.items())
        )
        shape, parameters = tuple(x.shape[1:]), count_parameters(module)
        steps.append({"name": name, "shape": shape, "parameters": parameters, "windows": windows})
    return steps


@contextmanager
def _large_enough(input_size: int) -> Iterator[None]:
    """What fails for images of this side fails because a map has shrunk to nothing."""
    try:
        yield
    except RuntimeError:
        where = "--size, or input_size in a study"
        raise UserError(
            f"images of {input_size}x{input_size} are too small for this network; take 64 ({where})"
        ) from None


def multiply_adds(network: Network, input_size: int, in_channels: int = 3) -> int:
    """Multiply-adds of the convolutions and linear layers in one forward pass over one image.

    Args:
        network: a blueprint.
        input_size: side of the image.
        in_channels: its channels.

    Raises:
        UserError: the images are too small for the network.
    """
    with _large_enough(input_size), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, in_channels, input_size, input_size, device="meta"))
    return counter.get_total_flops() // 2


@torch.inference_mode()
def outputs(
    network: Network,
    images: Tensor,
    transform: Callable[[Tensor], Tensor],
    precision: str,
    flip: bool,
    pause: Callable,
) -> tuple[Tensor, Tensor]:
    """What a network makes of images.

    Args:
        network: in evaluation mode.
        images: (N, C, H, W), uint8.
        transform: makes of a batch of them what the network takes.
        precision: `fp32` or `bf16`.
        flip: average the logits with those of the mirror images.
        pause: is called between two batches, and may raise.

    Returns:
        Representations (N, D) and logits (N, classes), float32.
    """
    device, features, logits = next(network.parameters()).device, [], []
    for part in images.split(EVALUATION_BATCH):
        x = transform(part.to(device)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            features.append(network.features(x).float())
            logits.append(network.classifier(features[-1]).float())
            if flip:
                logits[-1] = (logits[-1] + network(x.flip(-1)).float()) / 2
        pause()
    return torch.cat(features), torch.cat(logits)
