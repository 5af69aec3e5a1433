"""CUDA graphs: what a training step launches on a GPU, recorded once and launched as a whole from
then on.

A step of these networks is hundreds of small kernels, which Python takes longer to launch one by
one than the GPU to run.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class CudaGraph:
    """Calls a function that puts gradients into a network's parameters.

    For each size of the first argument the first call runs as it is, the second is recorded, and
    that and all others are
    replayed: the same kernels on the same memory. What a call returns, and its gradients, last
    until the next call.

    Args:
        network: whose parameters get gradients; it is on a GPU.
    """

    def __init__(self, network: nn.Module) -> None:
        self.parameters = list(network.parameters())
        self.device = self.parameters[0].device
        self.stream = torch.cuda.Stream(self.device)
        # one: recordings never run at the same time, so they share memory
        self.pool = torch.cuda.graph_pool_handle()
        self.recordings: dict[int, Any] = {}  # by size; None once a call has run as it is

    def __call__(
        self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """What the `function` returns for these tensors.

        Give the same one every time; it must not wait for the GPU. A replay repeats the recorded
        kernels and runs no Python: from call to call only what is in the `inputs`, the network's
        tensors and PyTorch's generator of random numbers may change, and any other value stays what
        it was when recorded.
        """
        size = len(inputs[0])
        # libraries set themselves up in a first call, which cannot be recorded
        if size not in self.recordings:
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
        """A graph of the `function`'s kernels for `inputs` of these sizes, with the tensors that it
        reads, returns and leaves as gradients.
        """
        kept = [values.clone() for values in inputs]
        for parameter in self.parameters:
            parameter.grad = None  # the graph makes its own
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self.pool, self.stream):
            outputs = function(*kept)
        return graph, kept, outputs, [parameter.grad for parameter in self.parameters]
