"""CUDA graphs: what a training step launches on a GPU, recorded once and launched as a whole from then on.

A step of these networks is hundreds of small kernels, which Python takes longer to launch one by one than the GPU to run.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Recorded:
    """A function of tensors on a GPU that puts gradients into the parameters of a network.

    For each size of its first argument the first call runs as it is, the second is recorded, and that and all others are
    replayed: the same kernels on the same numbers. What it returns is overwritten by the next call.

    Args:
        function: its arguments are tensors, and nothing else may change from call to call but what they, the network and
            PyTorch's generator of random numbers hold; it must not wait for the GPU.
        network: whose parameters get gradients.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], network: nn.Module) -> None:
        self.function, self.parameters = function, list(network.parameters())
        self.stream = torch.cuda.Stream(self.parameters[0].device)
        self.pool = torch.cuda.graph_pool_handle()  # for all: what one has left over the next may use
        self.recordings: dict[int, Any] = {}  # by size; None once a call has run as it is

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the function returns."""
        size = len(inputs[0])
        if size not in self.recordings:  # libraries set themselves up in a first call, which cannot be recorded
            self.recordings[size] = None
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                outputs = self.function(*inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            return outputs
        if self.recordings[size] is None:
            self.recordings[size] = self.record(inputs)
        graph, kept, outputs, gradients = self.recordings[size]
        for mine, theirs in zip(kept, inputs, strict=True):
            mine.copy_(theirs)
        graph.replay()
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        return outputs

    def record(self, inputs: tuple[Tensor, ...]) -> tuple:
        """A graph of the function's kernels, with the tensors that it reads, returns and leaves as gradients."""
        kept = [values.clone() for values in inputs]
        for parameter in self.parameters:
            parameter.grad = None  # the graph makes its own
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self.pool, self.stream):
            outputs = self.function(*kept)
        return graph, kept, outputs, [parameter.grad for parameter in self.parameters]
