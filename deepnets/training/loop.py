"""Training: one loop, which is a function of its job and of nothing else, and which continues where
it was stopped.

Whatever is random in step s of epoch e is drawn from generators seeded by (seed, e, s). So neither
an evaluation more or less, nor other uses of random numbers, nor an interruption changes what comes
out, and a checkpoint holds no random state.
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
    """The loss is no longer a number."""


class Trainer:
    """A training under way. Its state is what `state` returns; everything else follows from the
    job.

    It neither stops, nor saves within an epoch, nor prints until `interruption`,
    `checkpoint_seconds` and `verbose` are set.

    Args:
        job: what to train.
        dataset: what `data.load` gave for it.
        device: to train on.
        precision: `fp32` or `bf16`.
        work: folder of the checkpoint, which need not be there yet.

    Raises:
        UserError: the images do not split, have a constant channel, or are too small for the
        network.
    """

    def __init__(
        self, job: Job, dataset: data.Dataset, device: torch.device, precision: str, work: Path
    ) -> None:
        self.job, self.recipe, self.dataset = job, job.recipe, dataset
        self.device, self.precision, self.checkpoint = device, precision, work / "checkpoint.pt"
        self.interruption: Callable[[], BaseException | None] = lambda: None
        self.checkpoint_seconds, self.verbose = math.inf, False
        self.bf16_speedup: float | None = None  # measured, if the precision was chosen by it

        train, validation, self.split_sha256 = dataset.split(job.seed, job.limit)
        channels = train.images.shape[1]
        shape = (len(dataset.classes), channels)
        blueprint = models.blueprint(job.model, *shape, **job.options)
        self.parameters = models.count_parameters(blueprint)
        # How long saving takes, until measured: weights and momentum, at 250 MB/s.
        self.saved_at, self.save_seconds = time.monotonic(), 8 * self.parameters / 2.5e8
        self.macs = models.multiply_adds(blueprint, job.input_size, channels)
        mean, std = data.statistics(train.images)
        if min(std) == 0:
            what = "all training images are blank, or one channel is"
            raise UserError(f"{dataset.name}: {what}: store in gray or without it")
        policy = data.facts(dataset.name).policy(self.recipe.augment)
        self.transform = Transform(job.input_size, mean, std, policy, self.recipe.cutout)
        # A dataset of small images fits the device whole; a batch is an index into it. Of a larger
        # one batches are read.
        self.train_set, self.validation_set = train.to(device), validation.to(device)
        self.batches = math.ceil(len(train) / self.recipe.batch_size)

        torch.manual_seed(_seed(job.seed, INITIALISE))
        network = models.create(job.model, *shape, **job.options)
        self.network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # What is evaluated: a running average of the network, if the recipe says so, or the network
        # itself.
        self.evaluated = copy.deepcopy(self.network) if self.recipe.average else self.network
        self.optimizer = _optimizer(self.network, self.recipe)
        resident = isinstance(self.train_set.images, Tensor)
        self.cuda_graph = CudaGraph(self.network) if device.type == "cuda" and resident else None

        self.epoch, self.step = 0, 0
        # of the epoch under way
        self.sums: dict[str, Any] = {"loss": 0.0, "correct": 0.0, "seconds": 0.0}
        # of the epoch under way, before the first that is not finite
        self.good_steps = torch.tensor(0, device=device)
        self.history: list[dict[str, float]] = []
        # After what else trained a part of it, if it is continued.
        self.made_by: list[dict[str, Any]] = [
            {"commit": hardware.commit(), "versions": hardware.versions()}
        ]

    def train(self) -> None:
        """Run the epochs that are left."""
        while self.epoch < self.recipe.epochs:
            self.train_epoch()
            self.history.append(self.epoch_row())
            if not math.isfinite(self.history[-1]["val_loss"]):
                raise self.diverged("validation loss")
            if self.verbose:
                self.report_epoch()
            self.epoch, self.step, self.sums = self.epoch + 1, 0, dict.fromkeys(self.sums, 0.0)
            # a gigabyte an epoch might take as long as that
            if time.monotonic() - self.saved_at > 20 * self.save_seconds:
                self.save()

    def train_epoch(self) -> None:
        """Run the steps of this epoch that are left, each on one batch of a new order of the
        images.
        """
        order = torch.randperm(
            len(self.train_set), generator=_generator(self.job.seed, ORDER, self.epoch)
        )
        # sizes differ by one at most: none is a single image
        batches = order.to(self.device).tensor_split(self.batches)
        left = batches[self.step :]
        self.good_steps = torch.tensor(self.step, device=self.device)
        watched = self.verbose and (
            "ipykernel" in sys.modules or bool(sys.stdout and sys.stdout.isatty())
        )  # a notebook rewrites a line, too
        for batch in tqdm(
            left,
            f"epoch {self.epoch + 1}",
            leave=False,
            disable=not watched,
            file=sys.stdout,
            mininterval=0.5,
        ):
            start = time.perf_counter()
            self.train_step(batch)
            self.step += 1
            if self.device.type == "cpu" or self.step == self.batches:
                # a GPU works through all steps of an epoch before the answer is there
                self.check_finite()
            self.sums["seconds"] += time.perf_counter() - start
            self.pause_point()

    def train_step(self, index: Tensor) -> None:
        """One update from the images at `index`."""
        torch.manual_seed(_seed(self.job.seed, DROPOUT, self.epoch, self.step))
        generator = _generator(self.job.seed, AUGMENT, self.epoch, self.step)
        drawn = self.transform.draw(len(index), self.train_set.images.shape[-1], generator)
        self.network.train()
        inputs = [index, *(send(numbers, self.device) for numbers in drawn)]
        loss, logits, labels = (
            self.cuda_graph(self.gradients, *inputs) if self.cuda_graph else self.gradients(*inputs)
        )

        # A step whose loss is not finite updates nothing, nor does any after it; `check_finite`
        # tells of it. The fused SGD divides gradients by `grad_scale` and skips the update where
        # `found_inf` is 1 (made for torch.amp.GradScaler), so neither that nor clipping makes the
        # processor wait for a GPU.
        finite = loss.isfinite() & (self.good_steps == self.step)
        if self.recipe.clip:
            norm = nn.utils.get_total_norm(
                [p.grad for p in self.network.parameters() if p.grad is not None]
            )
            self.optimizer.grad_scale = (norm / self.recipe.clip).clamp(min=1)  # type: ignore[attr-defined]
            finite &= norm.isfinite()
        self.optimizer.found_inf = (~finite).to(torch.float32)  # type: ignore[attr-defined]
        self.good_steps += finite
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.progress)
        self.optimizer.step()
        if self.recipe.average:
            self.average()

        # Curves show the plain loss, which compares with validation's.
        self.sums["loss"] += F.cross_entropy(logits, labels, reduction="sum").double()
        self.sums["correct"] += (logits.argmax(1) == labels).sum()

    def gradients(self, index: Tensor, *drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Put the gradients for the images at `index`, changed as was `drawn`, into the parameters'
        `grad`.

        Returns:
            The loss, its classifier's logits (N, classes), and the labels (N,).
        """
        batch = self.train_set[index]
        images = self.transform(batch.images, drawn).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            outputs = self.network.weighted_logits(images)
        smoothing = self.recipe.label_smoothing
        losses = [
            w * F.cross_entropy(z.float(), batch.labels, label_smoothing=smoothing)
            for w, z in outputs
        ]
        loss = torch.stack(losses).sum()
        self.optimizer.zero_grad()
        loss.backward()
        return loss.detach(), outputs[0][1].detach().float(), batch.labels

    def check_finite(self) -> None:
        """Raise Diverged, with the place, if the loss or the gradient was not finite in a step of
        this epoch.
        """
        good_steps = int(self.good_steps)
        if good_steps < self.step:
            self.step = good_steps
            raise self.diverged("loss or its gradient")

    @property
    def progress(self) -> float:
        """Share of the training that is done, in the middle of this step."""
        return (self.epoch * self.batches + self.step + 0.5) / (self.recipe.epochs * self.batches)

    @torch.no_grad()
    def average(self) -> None:
        """Move the running average of weights and batch statistics towards the present ones; faster
        at first.
        """
        done = self.epoch * self.batches + self.step
        weight = 1 - min(self.recipe.average, (1 + done) / (10 + done))
        means, present = (
            [*network.parameters(), *network.buffers()]
            for network in (self.evaluated, self.network)
        )
        torch._foreach_lerp_(
            [x for x in means if x.is_floating_point()],
            [x for x in present if x.is_floating_point()],
            weight,
        )
        for count, now in zip(self.evaluated.buffers(), self.network.buffers(), strict=True):
            if not count.is_floating_point():
                count.copy_(now)

    def logits(self, images: Tensor) -> Tensor:
        """Returns the logits (N, classes) of images (N, C, H, W), uint8."""
        network = self.evaluated.eval()
        how = self.transform, self.precision, False, self.pause_point
        return evaluation.outputs(network, images, *how)[1]

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
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": self.sums["seconds"],
        }

    def report_epoch(self) -> None:
        """Print the last row of the history, with the speed and the time left."""
        row = self.history[-1]
        left = round(
            np.mean([r["seconds"] for r in self.history]) * (self.recipe.epochs - self.epoch - 1)
        )
        losses = f"loss {row['train_loss']:.4f} / {row['val_loss']:.4f}"
        shares = f"accuracy {100 * row['train_accuracy']:5.1f} / {100 * row['val_accuracy']:5.1f} %"
        speed = f"{len(self.train_set) / self.sums['seconds']:5.0f} images/s  {left // 60}:{left % 60:02} left"
        rate = f"rate {row['learning_rate']:.2g}"
        # of a terminal that is gone or a full disk; a training does not end for a line
        with suppress(OSError):
            print(
                f"  epoch {row['epoch']:3}/{self.recipe.epochs}  {losses}  {shares}  {rate}  {speed}",
                flush=True,
            )

    def diverged(self, what: str) -> Diverged:
        """The error that says where it happened."""
        return Diverged(
            f"{self.job.folder}: the {what} is not finite at epoch {self.epoch + 1}, step {min(self.step + 1, self.batches)}, "
            f"rate {self.recipe.rate(self.progress):.3g}; lower the learning rate"
        )

    def pause_point(self) -> None:
        """Between two steps or batches, where nothing is half done: save if it is time, stop if
        that was asked for.
        """
        interruption = self.interruption()
        if interruption or time.monotonic() - self.saved_at > self.checkpoint_seconds:
            self.save()
        if interruption:
            raise interruption

    def identity(self) -> dict[str, Any]:
        """What decides the outcome: a checkpoint must agree on it with the training that continues
        it.
        """
        return self.job.settings() | {
            "data_sha256": self.dataset.sha256,
            "split_sha256": self.split_sha256,
            "device": self.device.type,
            "precision": self.precision,
        }

    def state(self) -> dict[str, Any]:
        """Everything that changes during a training."""
        sums = {name: float(value) for name, value in self.sums.items()}
        return {
            "identity": self.identity(),
            "network": self.network.state_dict(),
            "evaluated": self.evaluated.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": {"sums": sums}
            | {k: getattr(self, k) for k in ("epoch", "step", "history", "bf16_speedup")},
            "made_by": self.made_by,
            "threads": torch.get_num_threads(),
        }

    def save(self) -> None:
        """Write the checkpoint; raise Diverged, and write nothing, if a step was not finite."""
        self.check_finite()
        start = time.monotonic()
        checkpoint.save(self.checkpoint, self.state())
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - start

    def resume(self, any_precision: bool = False) -> None:
        """Continue from the checkpoint, if there is one; in its precision, if any will do.

        Raises:
            UserError: it is damaged or another training's.
        """
        if not self.checkpoint.exists():
            return
        # weights, their average and momentum
        state = checkpoint.load(self.checkpoint, most=16 * self.parameters + 2**26)
        strange = UserError(
            f"{self.checkpoint} does not hold the state of a training; delete it to start again"
        )
        identity = state.get("identity") if isinstance(state, dict) else None
        if not isinstance(identity, dict) or not checkpoint.plain(identity):
            raise strange
        if any_precision and identity.get("precision") in ("fp32", "bf16"):
            self.precision = identity["precision"]
        check_same(self.checkpoint, identity, self.identity())
        parameters = [values for group in self.optimizer.param_groups for values in group["params"]]
        if not checkpoint.fits(state, self.state(), parameters, self.batches):
            raise strange
        self.network.load_state_dict(state["network"])
        self.evaluated.load_state_dict(state["evaluated"])
        saved, groups = state["optimizer"], self.optimizer.state_dict()["param_groups"]
        for group, other in zip(groups, saved["param_groups"], strict=True):
            group["lr"] = other["lr"]  # the rest is the recipe's
        self.optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})
        torch.set_num_threads(state["threads"])  # other threads add in another order
        self.made_by = [by for by in state["made_by"] if by not in self.made_by] + self.made_by
        for key, value in state["progress"].items():
            setattr(self, key, value)
        if self.verbose:
            print(f"  continuing from epoch {self.epoch + 1}, step {self.step + 1}", flush=True)


def _seed(*words: int) -> int:
    """A seed for torch from a few numbers, well mixed."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _generator(*words: int) -> Generator:
    return Generator().manual_seed(_seed(*words))


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD that decays the weights of convolutions and linear layers, which have more than one axis,
    and the rest if asked.
    """
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {
            "params": [p for p in parameters if p.ndim == 1],
            "weight_decay": recipe.weight_decay if recipe.decay_all else 0.0,
        },
    ]
    return torch.optim.SGD(
        groups, recipe.learning_rate, recipe.momentum, nesterov=recipe.nesterov, fused=True
    )
