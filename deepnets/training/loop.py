"""The training loop: a function of its job alone, which resumes where it was stopped.

What is random in step s of epoch e is drawn from generators seeded by (seed, e, s). So neither an
additional evaluation, nor random numbers drawn elsewhere, nor an interruption changes the result,
and a checkpoint holds no random state.
"""

import copy
import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from .. import data, evaluation, models
from ..errors import UserError
from ..recipes import Recipe
from ..transforms import Transform, send
from . import checkpoint, hardware
from .cuda_graph import CudaGraph
from .job import Job, check_same

INITIALISE, ORDER, AUGMENT, DROPOUT = range(4)  # what random numbers are for


class Diverged(UserError):
    """Says that the loss is no longer finite."""


class Trainer:
    """Trains one network. `save` writes what changes during a training.

    By default it neither prints, nor stops, nor saves; `verbose`, `interruption` and
    `checkpoint_seconds` change that. The precision is `fp32` or `bf16`; the checkpoint is in the
    folder `work`, which need not exist yet.

    Raises:
        UserError: the images cannot be split, have a constant channel, or are too small for the
            network.
    """

    def __init__(
        self, job: Job, dataset: data.Dataset, device: torch.device, precision: str, work: Path
    ) -> None:
        self.job, self.recipe, self.dataset = job, job.recipe, dataset
        self.device, self.precision, self.checkpoint = device, precision, work / "checkpoint.pt"
        self.interruption: Callable[[], BaseException | None] = lambda: None
        self.checkpoint_seconds, self.verbose = math.inf, False

        train, validation, self.split_sha256 = dataset.split(job.seed, job.limit)
        channels = train.images.shape[1]
        shape = len(dataset.classes), channels
        blueprint = models.blueprint(job.model, *shape, **job.options)
        self.parameters = models.count_parameters(blueprint)
        self.macs = models.multiply_adds(blueprint, job.input_size, channels)
        mean, std = data.statistics(train.images)
        if min(std) == 0:
            what = "all training images are blank, or one channel is"
            raise UserError(f"{dataset.name}: {what}: store in gray or without it")
        policy = data.facts(dataset.name).policy(self.recipe.augment)
        self.transform = Transform(job.input_size, mean, std, policy, self.recipe.cutout)
        # Small images are all moved to the device, where a batch is an index into them; of a large
        # dataset batches are read from disk.
        self.train_set, self.validation_set = train.to(device), validation.to(device)
        self.batches = math.ceil(len(train) / self.recipe.batch_size)

        torch.manual_seed(_seed(job.seed, INITIALISE))
        self.network = network = models.create(job.model, *shape, **job.options)
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # The network to evaluate: a running average, if the recipe has one.
        self.evaluated = copy.deepcopy(self.network) if self.recipe.average else self.network
        self.optimizer: Any = _optimizer(self.network, self.recipe)
        resident = self.train_set.images.device.type == "cuda"  # not sent batch by batch
        self.cuda_graph = CudaGraph(self.network) if resident else None

        self.epoch, self.step = 0, 0
        self.history: list[dict[str, float]] = []
        self.sums: dict[str, Any] = {"loss": 0.0, "correct": 0.0, "seconds": 0.0}  # of this epoch
        self.finite = torch.tensor(True, device=device)  # all losses and gradients so far
        # Which program trains; `resume` adds those that trained earlier parts.
        program: dict[str, Any] = {"commit": hardware.commit(), "versions": hardware.versions()}
        self.made_by = [program]
        self.saved_at = time.monotonic()

    def train(self) -> None:
        """Trains for the epochs that are left."""
        while self.epoch < self.recipe.epochs:
            self.train_epoch()
            self.history.append(self.epoch_row())
            self.finite &= math.isfinite(self.history[-1]["val_loss"])
            self.check_finite()
            if self.verbose:
                self.report_epoch()
            self.epoch, self.step, self.sums = self.epoch + 1, 0, dict.fromkeys(self.sums, 0.0)

    def train_epoch(self) -> None:
        """Trains for the steps that are left of this epoch, over the images in a new order."""
        generator = _generator(self.job.seed, ORDER, self.epoch)
        order = torch.randperm(len(self.train_set), generator=generator).to(self.device)
        # Sizes differ by one at most, so that no batch is a single image.
        batches = order.tensor_split(self.batches)
        shown = "ipykernel" in sys.modules or (sys.stdout and sys.stdout.isatty())
        how: dict[str, Any] = {"leave": False, "file": sys.stdout, "mininterval": 0.5}
        how |= {"desc": f"epoch {self.epoch + 1}", "disable": not (self.verbose and shown)}
        for batch in tqdm(batches[self.step :], **how):
            start = time.perf_counter()
            self.train_step(batch)
            self.step += 1
            # To look at a GPU's loss is to wait for all steps before: once an epoch is enough.
            if self.device.type == "cpu" or self.step == self.batches:
                self.check_finite()
            self.sums["seconds"] += time.perf_counter() - start
            self.pause_point()

    def train_step(self, index: Tensor) -> None:
        """Updates the network from the images at `index` (N,)."""
        torch.manual_seed(_seed(self.job.seed, DROPOUT, self.epoch, self.step))
        generator = _generator(self.job.seed, AUGMENT, self.epoch, self.step)
        drawn = self.transform.draw(len(index), self.train_set.images.shape[-1], generator)
        self.network.train()
        inputs = [index, *(send(numbers, self.device) for numbers in drawn)]
        if self.cuda_graph:
            loss, logits, labels = self.cuda_graph(self.gradients, *inputs)
        else:
            loss, logits, labels = self.gradients(*inputs)

        # A step whose loss is not finite updates nothing, nor does any after it; `check_finite`
        # raises. The fused SGD divides gradients by `grad_scale` and skips the update where
        # `found_inf` is 1 (both made for torch.amp.GradScaler), so that neither this nor clipping
        # makes the CPU wait for a GPU.
        self.finite &= loss.isfinite()
        if self.recipe.clip:
            grads = [p.grad for p in self.network.parameters() if p.grad is not None]
            norm = nn.utils.get_total_norm(grads)
            self.optimizer.grad_scale = (norm / self.recipe.clip).clamp(min=1)
            self.finite &= norm.isfinite()
        self.optimizer.found_inf = (~self.finite).to(torch.float32)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        self.optimizer.step()
        if self.recipe.average:
            self.average()

        # Without label smoothing and auxiliary classifiers, as the validation loss.
        self.sums["loss"] += F.cross_entropy(logits, labels, reduction="sum").double()
        self.sums["correct"] += (logits.argmax(1) == labels).sum()

    def gradients(self, index: Tensor, *drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Computes the gradients of one batch into the parameters' `grad`.

        Args:
            index: of the images (N,).
            drawn: how to augment them, from `Transform.draw`.

        Returns:
            The loss, the logits (N, classes) and the labels (N,).
        """
        batch = self.train_set[index]
        images = self.transform(batch.images, drawn).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            outputs = self.network.weighted_logits(images)
        smoothing = self.recipe.label_smoothing
        losses = [
            weight * F.cross_entropy(logits.float(), batch.labels, label_smoothing=smoothing)
            for weight, logits in outputs
        ]
        loss = torch.stack(losses).sum()
        self.optimizer.zero_grad()
        loss.backward()
        return loss.detach(), outputs[0][1].detach().float(), batch.labels

    def check_finite(self) -> None:
        """Raises Diverged if a loss or its gradient was not finite."""
        if not self.finite:
            where = f"{self.job.folder}: the loss or its gradient is not finite"
            raise Diverged(f"{where} in epoch {self.epoch + 1}; lower the learning rate")

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step of this epoch, which is that in its middle."""
        done = self.epoch * self.batches + step + 0.5
        return self.recipe.rate(done / (self.recipe.epochs * self.batches))

    @torch.no_grad()
    def average(self) -> None:
        """Moves the running average of weights and batch statistics, faster in the first steps."""
        done = self.epoch * self.batches + self.step
        weight = 1 - min(self.recipe.average, (1 + done) / (10 + done))
        torch._foreach_lerp_(_floats(self.evaluated), _floats(self.network), weight)

    def predictor(self, flip: bool = False) -> evaluation.Predictor:
        """Returns what applies the network as it is now; with `flip` to mirrored images, too."""
        network, how = self.evaluated.eval(), (self.precision, flip, self.pause_point)
        return evaluation.Predictor(network, self.transform, *how)

    def logits(self, images: Tensor) -> Tensor:
        """Returns the logits (N, classes) of images (N, C, H, W), uint8."""
        return self.predictor()(images)[1]

    def epoch_row(self) -> dict[str, float]:
        """Returns this epoch's row of the history, with figures of the validation images."""
        labels = self.validation_set.labels
        logits = self.logits(self.validation_set.images)
        return {
            "epoch": self.epoch + 1,
            "train_loss": float(self.sums["loss"]) / len(self.train_set),
            "train_accuracy": float(self.sums["correct"]) / len(self.train_set),
            "val_loss": F.cross_entropy(logits, labels).item(),
            "val_accuracy": (logits.argmax(1) == labels).float().mean().item(),
            "learning_rate": self.rate(self.batches - 1),
            "seconds": self.sums["seconds"],
        }

    def report_epoch(self) -> None:
        """Prints the last row of the history, with the speed and the time left."""
        row, epochs = self.history[-1], self.recipe.epochs
        left = round(np.mean([r["seconds"] for r in self.history]) * (epochs - self.epoch - 1))
        speed = len(self.train_set) / row["seconds"]
        line = (
            f"  epoch {row['epoch']:3}/{epochs}"
            f"  loss {row['train_loss']:.4f} / {row['val_loss']:.4f}"
            f"  accuracy {100 * row['train_accuracy']:5.1f} / {100 * row['val_accuracy']:5.1f} %"
            f"  rate {row['learning_rate']:.2g}  {speed:5.0f} images/s"
            f"  {left // 60}:{left % 60:02} left"
        )
        with suppress(OSError):  # a closed terminal or a full disk is no reason to stop
            print(line, flush=True)

    def pause_point(self) -> None:
        """Saves if it is time, and stops if asked to; called between two steps or batches."""
        interruption = self.interruption()
        if interruption or time.monotonic() - self.saved_at > self.checkpoint_seconds:
            self.save()
        if interruption:
            raise interruption

    def identity(self) -> dict[str, Any]:
        """Returns what determines the result; a checkpoint must agree with all of it."""
        return self.job.settings() | {
            "data_sha256": self.dataset.sha256,
            "split_sha256": self.split_sha256,
            "device_type": self.device.type,
            "precision": self.precision,
        }

    def save(self) -> None:
        """Writes the checkpoint; raises Diverged instead if a loss was not finite."""
        self.check_finite()
        state = {
            "identity": self.identity(),
            "network": self.network.state_dict(),
            "evaluated": self.evaluated.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": {name: float(value) for name, value in self.sums.items()},
            "history": self.history,
            "made_by": self.made_by,
            "threads": torch.get_num_threads(),
        }
        checkpoint.save(self.checkpoint, state)
        self.saved_at = time.monotonic()

    def resume(self, any_precision: bool = False) -> None:
        """Continues from the checkpoint if there is one; in its precision if `any_precision`.

        Raises UserError if it is damaged or another training's.
        """
        if not self.checkpoint.exists():
            return
        state = checkpoint.load(self.checkpoint)
        if any_precision:
            self.precision = state["identity"]["precision"]
        check_same(self.checkpoint, state["identity"], self.identity())
        for name in ("network", "evaluated", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("epoch", "step", "sums", "history"):
            setattr(self, name, state[name])
        self.made_by = [by for by in state["made_by"] if by not in self.made_by] + self.made_by
        torch.set_num_threads(state["threads"])  # another number of threads rounds otherwise
        if self.verbose:
            print(f"  continuing from epoch {self.epoch + 1}, step {self.step + 1}", flush=True)


def _seed(*numbers: int) -> int:
    """Returns a seed for PyTorch that mixes a few numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _generator(*numbers: int) -> Generator:
    return Generator().manual_seed(_seed(*numbers))


def _floats(network: nn.Module) -> list[Tensor]:
    """Returns weights and batch statistics, not the counts of batches, which have no effect."""
    return [t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()]


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Returns SGD with weight decay for convolutions and linear layers, or for all if asked."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]  # biases, batch norm
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": recipe.weight_decay * recipe.decay_all},
    ]
    return torch.optim.SGD(
        groups, recipe.learning_rate, recipe.momentum, nesterov=recipe.nesterov, fused=True
    )
