"""Training: one loop, which is a function of its job and of nothing else, and which continues where
it was stopped.

Whatever is random in step s of epoch e is drawn from generators seeded by (seed, e, s). So neither
an evaluation more or less, nor other uses of random numbers, nor an interruption changes what comes
out, and a checkpoint holds no random state.
"""

import copy
import io
import math
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as packed_weights
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.random import fork_rng
from tqdm import tqdm

from .. import data, disk, evaluation, metrics, models, runs, transforms
from ..errors import UserError
from ..recipes import Recipe
from ..runs import Run
from ..transforms import Transform, send
from . import checkpoint, hardware
from .cuda_graph import CudaGraph
from .folder import complete, tidy, working_folder
from .interrupts import OutOfTime, interruptions
from .job import Job, check_same

INITIALISE, ORDER, AUGMENT, DROPOUT = range(4)  # what random numbers are for
PLATEAU = 0.02  # nats from the loss of guessing


class Diverged(UserError):
    """The loss is no longer a number."""


def fit(
    job: Job,
    out: str | Path = "runs",
    *,
    download: bool = False,
    device: str = "auto",
    precision: str = "auto",
    deadline: float = math.inf,
    stop: Callable[[], bool] = lambda: False,
    patience: float = 0,
    checkpoint_seconds: float = 180.0,
    verbose: bool = True,
) -> Run:
    """Train a network, or continue, or report what is finished.

    Args:
        job: what to train.
        out: folder of runs; the run goes to `job.folder` below it.
        download: fetch the dataset if it is missing.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `fp32`, `bf16` (autocast), or `auto`: the checkpoint's, or bf16 where the
            hardware multiplies it faster.
        deadline: on the clock of `time.monotonic`; a checkpoint is written when it passes.
        stop: asked between any two steps; a checkpoint is written when it says yes.
        patience: seconds to wait for another process that trains the same run.
        checkpoint_seconds: largest time between two checkpoints; there is one at an epoch's end
            besides, unless saving would take more than a twentieth of the time since the last.
        verbose: print a line an epoch, and a bar within it on a terminal.

    Raises:
        UserError: the job, the data or the folder will not do, or the loss is no longer finite.
        Busy: another process trains this run.
        OutOfTime, KeyboardInterrupt, SystemExit(143): stopped by deadline or `stop`, Ctrl-C,
        SIGTERM; the same call continues.
    """
    folder = Path(out) / job.folder
    target, kind = hardware.hardware(device, precision)
    if folder.is_dir():
        run = Run.load(folder)
        ours = job.settings() | ({} if precision == "auto" else {"precision": kind})
        if data.is_folder(job.dataset):  # one's own images may have changed since
            ours["data_sha256"] = data.load(job.dataset, size=job.input_size).sha256
        check_same(folder, run.info, ours)
        tidy(folder)
        return run
    if folder.exists() or folder.is_symlink():  # a link that leads nowhere, say
        raise UserError(
            f"{folder} is in the way and is no folder; remove it or choose another --out"
        )
    models.blueprint(job.model, **job.options)  # a wrong name is reported before the data is read
    dataset = data.load(job.dataset, download=download, size=job.input_size)
    if dataset.left_out and verbose:
        print(f"  {dataset.left_out}", flush=True)
    hardware.set_up(target)
    gpus = [target] if target.type == "cuda" else []

    def over() -> bool:
        return time.monotonic() > deadline or stop()

    with (
        working_folder(folder, patience) as work,
        interruptions(over) as interruption,
        fork_rng(gpus),
        ExitStack() as end,
    ):
        # a training that is continued sets its own
        end.callback(torch.set_num_threads, torch.get_num_threads())
        trainer = Trainer(job, dataset, target, kind, work)
        trainer.interruption, trainer.checkpoint_seconds, trainer.verbose = (
            interruption,
            checkpoint_seconds,
            verbose,
        )
        trainer.bf16_speedup = (
            hardware.bf16_speedup() if precision == "auto" and target.type == "cpu" else None
        )
        trainer.resume(any_precision=precision == "auto")
        try:
            trainer.train()
        except Diverged as error:
            trainer.checkpoint.unlink(missing_ok=True)  # it would diverge again
            if (asked := interruption()) and not isinstance(asked, OutOfTime):
                print(f"  {error}", flush=True)
                raise asked from None
            raise
        trainer.finish(work)
        complete(work, folder)
        asked = interruption()
    tidy(folder)
    if asked and not isinstance(asked, OutOfTime):
        raise asked
    return Run.load(folder)


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
        self.policy = transforms.policy(dataset.name)
        mean, std = data.statistics(train.images)
        if min(std) == 0:
            raise UserError(
                f"{dataset.name}: all training images are blank, or one channel is: store in gray or without it"
            )
        augment = (
            None
            if self.recipe.augment == "none"
            else transforms.policy(dataset.name, self.recipe.augment)
        )
        self.transform = Transform(job.input_size, mean, std, augment, self.recipe.cutout)
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
        if not isinstance(state, dict) or not isinstance(state.get("identity"), dict):
            raise strange
        if any_precision and state["identity"].get("precision") in ("fp32", "bf16"):
            self.precision = state["identity"]["precision"]
        check_same(self.checkpoint, state["identity"], self.identity())
        if not self.fits(state):
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

    def fits(self, state: dict[str, Any]) -> bool:
        """Whether the `state` in a checkpoint is of the form of this training's."""
        known, alike = self.state(), checkpoint.alike
        parameters = [values for group in self.optimizer.param_groups for values in group["params"]]
        try:
            progress, optimizer, made_by = state["progress"], state["optimizer"], state["made_by"]
            history = progress["history"]
            moments = [
                (number, *pair)
                for number, kept in optimizer["state"].items()
                for pair in kept.items()
            ]
            return (
                all(alike(state[key], known[key]) for key in ("network", "evaluated", "threads"))
                and alike(
                    [group["lr"] for group in optimizer["param_groups"]],
                    [0.0] * len(self.optimizer.param_groups),
                )
                and all(
                    name == "momentum_buffer" and alike(values, parameters[k])
                    for k, name, values in moments
                )
                and progress.keys() == known["progress"].keys()
                and all(
                    alike(progress[key], known["progress"][key])
                    for key in ("epoch", "step", "sums")
                )
                and all(alike(row, dict.fromkeys(runs.HISTORY, 0.0)) for row in history)
                and all(
                    alike(
                        [by["commit"], *by["versions"].values()], [""] * (1 + len(by["versions"]))
                    )
                    for by in made_by
                )
                and all("torch" in by["versions"] for by in made_by)
                and isinstance(made_by, list)
                and len(made_by) > 0
                and progress["epoch"] == len(history) <= self.recipe.epochs
                and 0 <= progress["step"] <= self.batches
                and 1 <= state["threads"] <= 4096
            )
        except Exception:  # something else may lack, or be, anything
            return False

    def finish(self, folder: Path) -> None:
        """Looks at the test set, once, and writes the run to `folder`."""
        network, test = self.evaluated.eval(), self.dataset.test
        flip = self.recipe.flip_test and self.policy.flip
        found = evaluation.evaluate(
            network, test, self.validation_set, self.transform, self.precision, flip,
            self.pause_point,
        )  # fmt: skip
        logits = io.BytesIO()
        np.save(logits, found.logits)
        disk.write(folder / "logits.npy", logits.getbuffer())
        weights = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
        disk.write(folder / "model.safetensors", packed_weights(weights))
        info = self.info() | found.figures | {"weights_sha256": runs.weights_sha256(folder)}
        labels = test.labels.numpy()
        info["warnings"] += metrics.guesses(info["test_correct"], labels, self.dataset.classes)
        if data.is_folder(self.job.dataset):
            info["dataset_folder"] = data.folder_from(self.job.dataset, folder)
        runs.write(folder, info, self.history, labels, found.levels, found.corrupted, found.views)

    def info(self) -> dict[str, Any]:
        """What `run.json` says beside the test's figures."""
        seconds = sum(row["seconds"] for row in self.history)
        others = {by["versions"]["torch"] for by in self.made_by} - {
            self.made_by[-1]["versions"]["torch"]
        }
        chance = math.log(len(self.dataset.classes))
        stuck = abs(min(row["train_loss"] for row in self.history) - chance) < PLATEAU
        plateau = f"chance-level plateau: the loss stayed at ln {len(self.dataset.classes)} = {chance:.4f}"
        warnings = [plateau] * stuck + [f"begun with torch {other}" for other in sorted(others)]
        warnings += [self.dataset.left_out] if self.dataset.left_out else []
        return self.identity() | {
            "dataset_title": self.dataset.title,
            "classes": list(self.dataset.classes),
            "train_images": len(self.train_set),
            "validation_images": len(self.validation_set),
            "in_channels": self.train_set.images.shape[1],
            "image_side": self.train_set.images.shape[-1],
            "mean": list(self.transform.mean),
            "std": list(self.transform.std),
            "parameters": self.parameters,
            "macs": self.macs,
            "train_seconds": seconds,
            "images_per_second": len(self.train_set) * self.recipe.epochs / seconds,
            "device": hardware.device_name(self.device),  # in place of the identity's
            "device_type": self.device.type,
            "bf16_speedup": self.bf16_speedup,
            "threads": torch.get_num_threads(),
            **self.made_by[-1],
            "made_by": self.made_by,
            "warnings": warnings,
        }


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
