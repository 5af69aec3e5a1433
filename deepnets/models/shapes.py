"""Parameters, multiply-adds, and the shapes of the maps that a network makes of an image."""

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.flop_counter import FlopCounterMode

from ..errors import UserError
from .layers import Network

Shapes = dict[nn.Module, tuple[tuple[int, ...], tuple[int, ...]]]


def count_parameters(network: nn.Module) -> int:
    """Returns the number of trainable parameters, those of auxiliary heads included."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: Network, input_size: int, in_channels: int = 3) -> int:
    """Counts the multiply-adds of convolutions and linear layers in a forward pass of one image.

    The network is a blueprint. Raises UserError if images of this size are too small for it.
    """
    with FlopCounterMode(display=False) as counter:
        _run(network, input_size, in_channels)
    return counter.get_total_flops() // 2


def module_shapes(network: Network, input_size: int) -> Shapes:
    """Returns the shapes that every module of a blueprint takes and gives for one colour image.

    They are (C, H, W) or (D,). Raises UserError if images of this size are too small.
    """
    shapes: Shapes = {}

    def note(module: nn.Module, taken: tuple, given: torch.Tensor) -> None:
        shapes[module] = tuple(taken[0].shape[1:]), tuple(given.shape[1:])

    with register_module_forward_hook(note):
        _run(network, input_size, in_channels=3)
    return shapes


def _run(network: Network, input_size: int, in_channels: int) -> None:
    """Runs a blueprint on an image; it fails where a map has shrunk to nothing."""
    try:
        network(torch.empty(1, in_channels, input_size, input_size, device="meta"))
    except RuntimeError:
        wrong = f"images of {input_size}x{input_size} are too small for this network"
        raise UserError(f"{wrong}; take 64 (--size, or input_size in a study)") from None
