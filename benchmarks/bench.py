"""How fast this machine trains: our loop, the usual one, and what the processor could do.

Timings mean something only beside each other, so every repeat runs one loop and then the other, in
one process. README.md says what each figure is.
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
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torchvision
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


@dataclass(frozen=True)
class Settings:
    """Says how to measure."""

    device: torch.device
    precision: str  # of our loop; the usual one has fp32, and this one as well
    batch_size: int
    repeats: int  # of each comparison, after a first one that is not counted
    seconds: float  # about how long a repeat of the slower loop takes, a few steps at least


def measure(networks: list[str], settings: Settings) -> dict[str, Any]:
    """Measures everything, and prints each result on stderr as it comes."""
    if not 1 <= settings.repeats <= 100:
        raise UserError(f"repeats {settings.repeats}: must be from 1 to 100")
    for name in networks:  # a mistake is reported before anything is measured
        models.blueprint(name)
    recipes.get("tuned", "", batch_size=settings.batch_size)
    hardware.set_up(settings.device)
    tell = partial(print, file=sys.stderr, flush=True)

    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    peak = {name: matrix_products(settings.device, dtype) for name, dtype in kinds.items()}
    tell("matrix products: fp32 {fp32:.3g}, bf16 {bf16:.3g} GFLOP/s".format(**peak))
    alone = input_pipelines(settings)
    speeds = "{ours:.0f} images/s, the usual loader {usual:.0f}, ratio {ratio:.1f}"
    tell("input alone:", speeds.format(**alone))
    rows = []
    for name in networks:
        rows.append(loops(name, settings, peak[settings.precision]))
        tell("{name:<20}{ours:6.0f} images/s".format(**rows[-1]))
    machine = {
        "device": hardware.device_name(settings.device),
        "threads": torch.get_num_threads(),
        "precision": settings.precision,
        "batch_size": settings.batch_size,
        "versions": hardware.versions(),
        "commit": hardware.commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    return {"machine": machine, "peak": peak, "input": alone, "networks": rows}


def matrix_products(device: torch.device, dtype: torch.dtype) -> float:
    """Returns the best speed of ever larger matrix products in two seconds, in GFLOP/s."""
    best, end, side = 0.0, time.perf_counter() + 2, 256
    # At least one: a CPU without such products emulates them, thousands of times slower.
    while not best or (side <= 8192 and time.perf_counter() < end):
        a, b = torch.rand(2, side, side, device=device).to(dtype)
        taken = min(_timed(device, partial(torch.mm, a, b)) for _ in range(4))
        best = max(best, 2 * side**3 / 1e9 / taken)
        side *= 2
    return best


def input_pipelines(settings: Settings) -> dict[str, float]:
    """Measures augmented, normalised batches without a network: ours and a DataLoader's."""
    device, batch_size, seconds = settings.device, settings.batch_size, min(settings.seconds, 3)
    stored = pictures(5_000).images.to(device)
    transform = Transform(SIZE, MEAN, STD, facts("cifar10").standard)
    generator = torch.Generator().manual_seed(0)
    ours, usual = [], []

    def batch() -> None:
        numbers = transform.draw(batch_size, stored.shape[-1], generator)
        index = torch.randint(len(stored), (batch_size,), device=device)
        transform(stored[index], [send(drawn, device) for drawn in numbers])

    for _ in range(settings.repeats):
        ours.append(batch_size / _timed(device, batch, seconds))
        batches = iter(usual_loader(device, batch_size))
        for _ in range(8):  # while the workers start
            next(batches)
        usual.append(batch_size / _timed(device, partial(next, batches), seconds))
        del batches
    return _compared(ours, usual)


def loops(name: str, settings: Settings, peak: float) -> dict[str, Any]:
    """Trains a network by our loop and by the usual one, in turns; returns their figures.

    The usual loop has fp32; `same_precision` is with the usual loop in ours, if that is another.
    """
    device, batch_size, usual = settings.device, settings.batch_size, {}
    if network := usual_network(name):
        network.to(device)
        for kind in sorted({"fp32", settings.precision}):
            usual[kind] = partial(usual_loop, network, device, batch_size, precision=kind)
    # Our loop waits for a GPU only at an epoch's end, so there are many steps in one.
    few = max(4 if device.type == "cpu" else 64, math.ceil(10 / batch_size))
    with our_trainer(name, settings, few) as trainer:
        slowest = _timed(device, partial(train_epochs, trainer, 1))
        for loop in usual.values():
            slowest = max(slowest, loop(few))
        epochs = max(1, round(settings.seconds / slowest))
        steps, ours = epochs * few, partial(train_epochs, trainer, epochs)
        taken: dict[str, list[float]] = defaultdict(list)
        for _ in range(settings.repeats + 1):
            taken["ours"].append(_timed(device, ours))
            for kind, loop in usual.items():
                taken[kind].append(loop(steps))
        shares = where_time_goes(trainer, ours)
    images = steps * batch_size
    speeds = {whose: [images / seconds for seconds in times[1:]] for whose, times in taken.items()}
    result: dict[str, Any] = {"name": name, "macs": trainer.macs, "steps": steps}
    result |= _compared(speeds["ours"], speeds.get("fp32", []))
    if len(usual) == 2:
        result["same_precision"] = _compared(speeds["ours"], speeds[settings.precision])
    share = result["ours"] * 6 * trainer.macs / (peak * 1e9)
    return result | {"share_of_peak": share, "time": shares}


@contextmanager
def our_trainer(name: str, settings: Settings, steps: int) -> Iterator[Trainer]:
    """Makes a trainer of a network under `tuned`, with so many steps an epoch."""
    images, device = steps * settings.batch_size, settings.device
    train, test = pictures(images + 5_000), pictures(10)
    dataset = Dataset("cifar10", "random pictures", tuple("abcdefghij"), train, test, "")
    recipe = recipes.get("tuned", name, batch_size=settings.batch_size)
    job = Job(name, "cifar10", recipe, limit=images, input_size=SIZE)
    gpus = [device] if device.type == "cuda" else []
    with tempfile.TemporaryDirectory() as work, torch.random.fork_rng(gpus):
        yield Trainer(job, dataset, device, settings.precision, Path(work))


def train_epochs(trainer: Trainer, count: int) -> None:
    """Trains the first epoch anew, so many times: each costs the same."""
    for _ in range(count):
        trainer.step = 0
        trainer.train_epoch()


def where_time_goes(trainer: Trainer, work: Callable[[], None]) -> dict[str, float]:
    """Returns the shares of training that its parts take.

    On a GPU these are steps without a CUDA graph, which has no parts.
    """
    spent: defaultdict[str, float] = defaultdict(float)

    def watch(owner: Any, method: str, part: str) -> Any:
        """Replaces a method by one that is timed."""
        function = getattr(owner, method)

        def watched(*args: Any, **kwargs: Any) -> Any:
            result: list[Any] = []
            spent[part] += _timed(trainer.device, lambda: result.append(function(*args, **kwargs)))
            return result[0]

        return mock.patch.object(owner, method, watched)

    with (
        mock.patch.object(trainer, "cuda_graph", None),
        watch(Transform, "draw", "data"),
        watch(Transform, "__call__", "data"),
        watch(trainer.network, "weighted_logits", "forward"),
        watch(Tensor, "backward", "backward"),
        watch(trainer.optimizer, "step", "update"),
    ):
        total = _timed(trainer.device, work)
    shares = {part: spent[part] / total for part in ("data", "forward", "backward", "update")}
    return shares | {"rest": 1 - sum(shares.values())}


def pictures(count: int) -> Images:
    """Draws random pictures of CIFAR-10's shape: what they show does not change a step's time."""
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Images(images, torch.arange(count) % 10)


def usual_network(name: str) -> nn.Module | None:
    """Returns torchvision's network of that name; None if it has none."""
    if name not in torchvision.models.list_models(module=torchvision.models):
        return None
    keywords = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, num_classes=10, **keywords)


class UsualDataset(torchvision.datasets.CIFAR10):
    """Serves random pictures as torchvision's CIFAR10 serves its own."""

    def __init__(self) -> None:
        images = pictures(5_000)
        self.data, self.targets = images.images.permute(0, 2, 3, 1).numpy(), images.labels.tolist()
        crop, flip = v2.RandomCrop(SIZE, padding=SIZE // 8), v2.RandomHorizontalFlip()
        floats, normalise = v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)
        steps = [v2.Resize(SIZE), crop, flip, v2.ToImage(), floats, normalise]
        self.transform, self.target_transform = v2.Compose(steps), None


def usual_loader(device: torch.device, batch_size: int) -> DataLoader:
    """Returns batches without end, from a worker for each core (16 at most)."""
    dataset = UsualDataset()
    sampler = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=10**7)
    workers, pin = min(hardware.cores(), 16), device.type == "cuda"
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, pin_memory=pin)


def usual_loop(
    network: nn.Module, device: torch.device, batch_size: int, steps: int, *, precision: str
) -> float:
    """Returns the seconds of `steps` steps of the loop that most CIFAR-10 repositories have.

    It is SGD with momentum, and reads the loss and the hits at every step. In `bf16` its forward
    pass runs under autocast. Of what `hardware.set_up` has set only TF32 stays, which helps it.
    """
    hardware.keep_memory(False)
    torch.backends.cudnn.deterministic = False
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
    seconds = _timed(device, partial(train, steps))
    hardware.set_up(device)
    return seconds


def _timed(device: torch.device, work: Callable[[], Any], repeat_for: float = 0.0) -> float:
    """Returns the mean seconds that some work takes, on the device, too; repeats it for some."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda device: None
    times: list[float] = []
    while not times or sum(times) < repeat_for:
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - start)
    return statistics.fmean(times)


def _compared(ours: list[float], usual: list[float]) -> dict[str, float]:
    """Returns the medians, and the median, lowest and highest ratio within a repeat."""
    result = {"ours": statistics.median(ours)}
    if usual:
        ratios = np.divide(ours, usual).tolist()
        result |= {"usual": statistics.median(usual), "ratio": statistics.median(ratios)}
        result |= {"ratio_low": min(ratios), "ratio_high": max(ratios)}
    return result


def main(arguments: list[str] | None = None) -> None:
    """Measures, and prints all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS), metavar="A,B")
    parser.add_argument("--repeats", type=int, default=3, help="of every comparison")
    parser.add_argument("--seconds", type=float, default=10.0, help="a repeat of the slower loop")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, fp32 or bf16")
    args = parser.parse_args(arguments)
    try:
        chosen = hardware.device_and_precision(args.device, args.precision)
        settings = Settings(*chosen, args.batch, args.repeats, args.seconds)
        results = measure(args.networks.split(","), settings)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
