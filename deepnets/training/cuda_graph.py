"""CUDA graphs: a training step on a GPU is recorded once and replayed from then on.

A step of these networks is hundreds of small kernels. Launching them one by one from Python takes
longer than the GPU takes to run them; a recorded graph is launched as a whole.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class CudaGraph:
    """Calls a function that puts gradients into a network's parameters.

    For each length of the first argument, the first call runs as it is, the second is recorded,
    and that one and all later ones are replayed: the same kernels on the same memory. What a call
    returns, and the gradients, last until the next call. The network is on a GPU.
    """

    def __init__(self, network: nn.Module) -> None:
        self.parameters = list(network.parameters())
        self.device = self.parameters[0].device
        self.stream = torch.cuda.Stream(self.device)
        self.pool = torch.cuda.graph_pool_handle()  # graphs never run together, so they share it
        self.recordings: dict[int, Any] = {}  # by length; None after the first call

    def __call__(
        self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """Returns what the function returns for these tensors.

        It must be the same function every time and must not wait for the GPU. A replay runs no
        Python: only the inputs, the network's tensors and PyTorch's random numbers may change from
        call to call; any other value stays as it was when recorded.
        """
        size = len(inputs[0])
        if size not in self.recordings:  # libraries set themselves up, which cannot be recorded
            self.recordings[size] = None
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self.stream):
                outputs = function(*inputs)
            torch.cuda.current_stream(self.device).wait_stream(self.stream)
            return outputs
        if self.recordings[size] is None:
            self.recordings[size] = self.record(function, inputs)
        graph, kept, outputs, gradients = self.recordings[size]
        for mine, theirs in zip(kept, inputs, strict=True):
            mine.copy_(theirs)
        graph.replay()
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        return outputs

    def record(
        self, function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]
    ) -> tuple:
        """Returns a graph of the function, and the tensors it reads, returns and puts in `grad`."""
        kept = [values.clone() for values in inputs]
        for parameter in self.parameters:
            parameter.grad = None  # the graph makes its own
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self.pool, self.stream):
            outputs = function(*kept)
        return graph, kept, outputs, [parameter.grad for parameter in self.parameters]
