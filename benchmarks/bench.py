"""How fast this machine trains: our loop against the usual one, and both against what the processor
could do.

Timings mean something only beside each other, so every repeat runs one thing and then the other, in
one process.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from deepnets import models, recipes
from deepnets.data import Dataset, Images, facts
from deepnets.errors import UserError
from deepnets.training import Job, hardware
from deepnets.training.loop import Trainer
from deepnets.transforms import Transform, send

NETWORKS = ("resnet18", "googlenet", "alexnet", "vgg11", "vgg16")
SIZE = 64
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # CIFAR-10


def measure(
    networks: tuple[str, ...] = NETWORKS,
    *,
    repeats: int = 3,
    seconds: float = 10.0,
    batch_size: int = 128,
    device: str = "auto",
    precision: str = "auto",
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure everything.

    Args:
        networks: by name; those that torchvision has too are compared.
        repeats: of each comparison; a first, untimed one comes before.
        seconds: about how long a repeat of the slower loop takes, a few steps at least.
        batch_size: images a step.
        device: see `training.fit`.
        precision: of our loop, see `training.fit`; the usual loop has fp32, and this one as well.
        tell: is given a line as each result comes.

    Returns:
        `machine`; `peak`: matrix products in GFLOP/s by precision; `input`: images/s of the input
        pipelines alone;
        `networks`: a dict each, see `loops`; `growth`: see `growth`.
    """
    if not 1 <= repeats <= 100:
        raise UserError(f"repeats {repeats}: must be from 1 to 100")
    for name in networks:  # a mistake is reported before anything is measured
        models.blueprint(name)
    recipes.get("tuned", "", batch_size=batch_size)
    target, kind = hardware.hardware(device, precision)
    hardware.set_up(target)
    peak = {
        name: matrix_products(target, dtype)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    tell(
        "matrix products: "
        + ", ".join(f"{name} {value:.3g} GFLOP/s" for name, value in peak.items())
    )
    results: dict[str, Any] = {"machine": _machine(target, kind, batch_size), "peak": peak}
    results["input"] = input_pipelines(target, batch_size, repeats, min(seconds, 3))
    tell(
        "input alone: {ours:.0f} images/s, the usual loader {usual:.0f}, ratio {ratio:.1f}".format(
            **results["input"]
        )
    )
    results["networks"] = []
    for name in networks:
        results["networks"].append(
            loops(name, target, kind, batch_size, repeats, seconds, peak[kind])
        )
        tell(_network_line(results["networks"][-1]))
    results["growth"] = growth(target, kind, max(batch_size // 4, 3))
    for line in _growth_lines(results["growth"]):
        tell(line)
    return results


def _machine(device: torch.device, precision: str, batch_size: int) -> dict[str, Any]:
    return {
        "device": hardware.device_name(device),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "batch_size": batch_size,
        "versions": hardware.versions(),
        "commit": hardware.commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def matrix_products(device: torch.device, dtype: torch.dtype) -> float:
    """The best speed of matrix products of type `dtype` on the `device`, in GFLOP/s, in two seconds
    of ever larger ones.

    A processor without products of that type may emulate them thousands of times slower.
    """
    best, end, side = 0.0, time.perf_counter() + 2, 256
    while not best or (side <= 8192 and time.perf_counter() < end):
        a, b = torch.rand(2, side, side, device=device).to(dtype)
        best = max(
            best, *(2 * side**3 / 1e9 / _timed(device, partial(torch.mm, a, b)) for _ in range(4))
        )
        side *= 2
    return best


def input_pipelines(
    device: torch.device, batch_size: int, repeats: int, seconds: float
) -> dict[str, float]:
    """Images/s of augmented, normalised batches alone: ours, and a DataLoader with a worker for
    each core.

    Every one of the `repeats` takes about `seconds` with batches of `batch_size` on the `device`.
    """
    stored = pictures(5_000).images.to(device)
    transform = Transform(SIZE, MEAN, STD, facts("cifar10").standard)
    generator = torch.Generator().manual_seed(0)
    ours, usual = [], []

    def batch() -> None:
        drawn = [
            send(numbers, device)
            for numbers in transform.draw(batch_size, stored.shape[-1], generator)
        ]
        transform(stored[torch.randint(len(stored), (batch_size,), device=device)], drawn)

    for _ in range(repeats):
        ours.append(batch_size * _rate(device, seconds, batch))
        batches = iter(usual_loader(device, batch_size))
        for _ in range(8):  # while the workers start
            next(batches)
        usual.append(batch_size * _rate(device, seconds, partial(next, batches)))
        del batches
    return _compared(ours, usual)


def loops(
    name: str,
    device: torch.device,
    precision: str,
    batch_size: int,
    repeats: int,
    seconds: float,
    peak: float,
) -> dict[str, Any]:
    """Train a network by our loop and by the usual one, in turns: in fp32, and in our precision if
    that is another.

    Args:
        name: of the network.
        device: to train on.
        precision: of our loop.
        batch_size: images a step.
        repeats: turns; one more comes first and is not counted.
        seconds: about how long the slowest takes in a turn; all make the same steps.
        peak: GFLOP/s of matrix products in that precision.

    Returns:
        Images/s of both and their ratio, the usual loop in fp32; `same_precision`: likewise, the
        usual loop in ours; the `share_of_peak` that our loop reaches, counting three times the
        forward pass's multiply-adds for a step; `time`: the shares of data, forward, backward,
        update and the rest in our steps.
    """
    network = usual_network(name)
    usual = {}
    if network:
        network.to(device)
        kinds = sorted({"fp32", precision})
        usual = {
            kind: partial(usual_loop, network, device, batch_size, precision=kind) for kind in kinds
        }
    # a GPU is waited for at an epoch's end
    few = max(4 if device.type == "cpu" else 64, math.ceil(10 / batch_size))
    with our_trainer(name, device, precision, batch_size, few) as trainer:
        slowest = _timed(device, partial(train_epochs, trainer, 1))
        for loop in usual.values():
            with usual_settings():
                slowest = max(slowest, loop(few))
        epochs = max(1, round(seconds / slowest))
        steps = epochs * few
        ours = partial(train_epochs, trainer, epochs)
        taken: dict[str, list[float]] = defaultdict(list)
        for _ in range(repeats + 1):  # the first is not counted
            taken["ours"].append(_timed(device, ours))
            for kind, loop in usual.items():
                with usual_settings():
                    taken[kind].append(loop(steps))
        shares = where_time_goes(trainer, ours)
    speeds = {whose: [steps * batch_size / t for t in times[1:]] for whose, times in taken.items()}
    result: dict[str, Any] = {"name": name, "macs": trainer.macs, "steps": steps}
    result |= _compared(speeds["ours"], speeds.get("fp32", []))
    if len(usual) == 2:
        result["same_precision"] = _compared(speeds["ours"], speeds[precision])
    return result | {
        "share_of_peak": result["ours"] * 6 * trainer.macs / (peak * 1e9),
        "time": shares,
    }


@contextmanager
def our_trainer(
    name: str, device: torch.device, precision: str, batch_size: int, steps: int
) -> Iterator[Trainer]:
    """A trainer of the network `name` under `tuned` whose epoch has `steps` steps of `batch_size`
    images each.

    Its `precision` and `device` are as in `training.fit`.
    """
    images = pictures(steps * batch_size + 5_000)
    dataset = Dataset("cifar10", "random pictures", tuple("abcdefghij"), images, pictures(10), "")
    job = Job(
        name,
        "cifar10",
        recipes.get("tuned", name, batch_size=batch_size),
        limit=steps * batch_size,
        input_size=SIZE,
    )
    with (
        tempfile.TemporaryDirectory() as work,
        torch.random.fork_rng([device] if device.type == "cuda" else []),
    ):
        yield Trainer(job, dataset, device, precision, Path(work))


def train_epochs(trainer: Trainer, count: int) -> None:
    """Train the first epoch anew, so many times: every one costs the same."""
    for _ in range(count):
        trainer.step = 0
        trainer.train_epoch()


def pictures(count: int) -> Images:
    """Random pictures of CIFAR-10's shape and classes; how long a step takes does not depend on
    what they show.
    """
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Images(images, torch.arange(count) % 10)


@contextmanager
def usual_settings() -> Iterator[None]:
    """What `hardware.set_up` has changed as it is in other programs, but for TF32, which only
    helps the usual loop.
    """
    hardware.keep_memory(False)
    torch.backends.cudnn.deterministic = False
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = True
        hardware.keep_memory(True)


def usual_network(name: str) -> nn.Module | None:
    """The network of torchvision that our `name` stands for; None if it has none."""
    if name not in torchvision.models.list_models(module=torchvision.models):
        return None
    keywords: dict[str, Any] = (
        {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    )
    return torchvision.models.get_model(name, num_classes=10, **keywords)


class UsualDataset(torch.utils.data.Dataset):
    """Pictures as torchvision's CIFAR10 serves them: each decoded into a PIL image and put through
    the transforms.
    """

    def __init__(self, images: Images) -> None:
        self.images = images.images.permute(0, 2, 3, 1).numpy()
        self.labels = images.labels.tolist()
        self.transform = v2.Compose(
            [
                v2.Resize(SIZE),
                v2.RandomCrop(SIZE, padding=SIZE // 8),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def usual_loader(device: torch.device, batch_size: int) -> DataLoader:
    """Batches of `batch_size` without end, from a worker for each core (16 at most)."""
    dataset = UsualDataset(pictures(5_000))
    sampler = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=10**7)
    workers = min(hardware.cores(), 16)
    return DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=workers, pin_memory=device.type == "cuda"
    )


def usual_loop(
    network: nn.Module, device: torch.device, batch_size: int, steps: int, *, precision: str
) -> float:
    """The loop that most CIFAR-10 repositories have: SGD with momentum, the loss and the hits read
    at every step.

    Args:
        network: to train.
        device: that it is on.
        batch_size: images a step.
        steps: to time; one more comes first, which waits for the loader's workers.
        precision: "fp32", or "bf16" for a forward pass under autocast.

    Returns:
        Seconds.
    """
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
    criterion = nn.CrossEntropyLoss()
    batches = iter(usual_loader(device, batch_size))
    network.train()

    def train(count: int) -> None:
        total, hits = 0.0, 0.0
        for _ in range(count):
            images, labels = (tensor.to(device) for tensor in next(batches))
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                outputs = network(images)
                loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
            hits += outputs.max(1)[1].eq(labels).sum().item()

    train(1)  # waits for the workers
    return _timed(device, partial(train, steps))


def where_time_goes(trainer: Trainer, work: Callable[[], None]) -> dict[str, float]:
    """Shares of the `work` of a `trainer` that its parts take; `rest` is the loss, the clipping and
    the bookkeeping.

    On a GPU these are steps as they are before they are recorded.
    """
    spent: defaultdict[str, float] = defaultdict(float)

    def watch(part: str, function: Callable) -> Callable:
        def watched(*args: Any, **kwargs: Any) -> Any:
            result: list[Any] = []
            spent[part] += _timed(trainer.device, lambda: result.append(function(*args, **kwargs)))
            return result[0]

        return watched

    with (
        mock.patch.object(trainer, "cuda_graph", None),  # a recording on a GPU has no parts
        mock.patch.object(Transform, "draw", watch("data", Transform.draw)),
        mock.patch.object(Transform, "__call__", watch("data", Transform.__call__)),
        mock.patch.object(
            trainer.network, "weighted_logits", watch("forward", trainer.network.weighted_logits)
        ),
        mock.patch.object(Tensor, "backward", watch("backward", Tensor.backward)),
        mock.patch.object(trainer.optimizer, "step", watch("update", trainer.optimizer.step)),
    ):
        total = _timed(trainer.device, work)
    shares = {part: spent[part] / total for part in ("data", "forward", "backward", "update")}
    return shares | {"rest": 1 - sum(shares.values())}


def growth(
    device: torch.device, precision: str, base: int = 32
) -> dict[str, list[dict[str, float]]]:
    """Seconds an epoch and memory of a step of a CIFAR ResNet as images, batch (of `base` at first)
    and depth grow.

    On a `device` in a `precision`. Memory is what a step must keep, see `step_memory`.
    """
    series = {
        "images": [("resnet20", 2 * base, n * base) for n in (4, 8, 16)],
        "batch": [("resnet20", n * base, 8 * base) for n in (1, 2, 4)],
        "depth": [(f"resnet{n}", 2 * base, 4 * base) for n in (20, 32, 44)],
    }
    results: dict[str, list[dict[str, float]]] = {}
    for what, points in series.items():
        results[what] = []
        for name, batch_size, images in points:
            with our_trainer(name, device, precision, batch_size, images // batch_size) as trainer:
                memory = step_memory(trainer)
                train_epochs(trainer, 1)
                seconds = _timed(device, partial(train_epochs, trainer, 1))
            value = {
                "images": images,
                "batch": batch_size,
                "depth": int(name.removeprefix("resnet")),
            }[what]
            results[what].append(
                {what: float(value), "seconds": seconds, "megabytes": memory / 1e6}
            )
    return results


def step_memory(trainer: Trainer) -> int:
    """Bytes of what a step of the `trainer` must keep: parameters, gradients, momentum, and what
    backward needs.
    """
    parameters = list(trainer.network.parameters())
    index = torch.arange(trainer.recipe.batch_size, device=trainer.device)
    with mock.patch.object(trainer, "cuda_graph", None):
        kept = kept_for_backward(lambda: trainer.train_step(index), parameters)
    return kept + sum(3 * p.numel() * p.element_size() for p in parameters)


def kept_for_backward(work: Callable[[], Any], parameters: list[nn.Parameter]) -> int:
    """Bytes of the tensors, each counted once, that some `work` keeps for its backward pass, the
    `parameters` left out.
    """
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    own = {p.untyped_storage().data_ptr() for p in parameters}
    return sum(
        tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in own
    )


def _wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed(device: torch.device, work: Callable[[], Any]) -> float:
    """Seconds that some work takes."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _rate(device: torch.device, seconds: float, work: Callable[[], Any]) -> float:
    """How often a second some work is done when it is repeated for so many seconds."""
    _wait(device)
    start, times = time.perf_counter(), 0
    while not times or time.perf_counter() < start + seconds:
        work()
        times += 1
    _wait(device)
    return times / (time.perf_counter() - start)


def _compared(ours: list[float], usual: list[float]) -> dict[str, float]:
    """Medians, and the ratio of each repeat: its median, lowest and highest."""
    result = {"ours": statistics.median(ours)}
    if usual:
        ratios = np.divide(ours, usual).tolist()
        ends = {
            "ratio": statistics.median(ratios),
            "ratio_low": min(ratios),
            "ratio_high": max(ratios),
        }
        result |= {"usual": statistics.median(usual)} | ends
    return result


def _network_line(row: dict[str, Any]) -> str:
    line = (
        f"{row['name']:<20}{row['ours']:6.0f} images/s, {100 * row['share_of_peak']:.0f} % of peak"
    )
    if "ratio" in row:
        line += (
            ", usual {usual:.0f}, ratio {ratio:.2f} ({ratio_low:.2f} to {ratio_high:.2f})".format(
                **row
            )
        )
    if "same_precision" in row:
        line += "; usual in our precision {usual:.0f}, ratio {ratio:.2f}".format(
            **row["same_precision"]
        )
    return (
        line
        + "; time: "
        + ", ".join(f"{part} {100 * share:.0f} %" for part, share in row["time"].items())
    )


def _growth_lines(results: dict[str, list[dict[str, float]]]) -> list[str]:
    return [
        f"{what:<8}"
        + "   ".join(
            f"{p[what]:4.0f}: {p['seconds']:6.2f} s {p['megabytes']:6.0f} MB" for p in points
        )
        for what, points in results.items()
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measures, tells of it on stderr, and prints all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS), metavar="A,B")
    parser.add_argument("--repeats", type=int, default=3, help="of every comparison")
    parser.add_argument("--seconds", type=float, default=10.0, help="a repeat of the slower loop")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, fp32 or bf16")
    args = parser.parse_args(arguments)
    try:
        results = measure(
            tuple(args.networks.split(",")),
            repeats=args.repeats,
            seconds=args.seconds,
            batch_size=args.batch,
            device=args.device,
            precision=args.precision,
            tell=partial(print, file=sys.stderr, flush=True),
        )
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
