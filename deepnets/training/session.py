"""A training from its job to its run on disk."""

import io
import math
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as packed_weights
from torch.random import fork_rng

from .. import data, disk, evaluation, metrics, models, runs
from ..errors import UserError
from ..info import Info
from ..runs import Run
from . import hardware
from .folder import tidy, working_folder
from .interrupts import interruptions
from .job import Job, check_same
from .loop import Diverged, Trainer

PLATEAU = 0.02  # nats: a training loss this near to that of chance has not moved


def fit(
    job: Job,
    out: str | Path = "runs",
    *,
    download: bool = False,
    device: str = "auto",
    precision: str = "auto",
    stop: Callable[[], bool] = lambda: False,
    patience: float = 0,
    checkpoint_seconds: float = 180.0,
    verbose: bool = True,
) -> Run:
    """Trains a network, continues an interrupted training, or loads a finished run.

    Args:
        job: what to train.
        out: folder of runs; the run goes to `job.folder` below it.
        download: fetch the dataset if it is missing.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `fp32`, `bf16` (autocast), or `auto`: the checkpoint's, or bf16 where the
            hardware multiplies it faster.
        stop: asked between any two steps whether to stop at a checkpoint.
        patience: seconds to wait for another process that trains the same run.
        checkpoint_seconds: time between two checkpoints; another one is at the end.
        verbose: print a line an epoch, and a bar within it on a terminal.

    Raises:
        UserError: the job, the data or the folder will not do, or the loss is no longer finite.
        Busy: another process trains this run.
        OutOfTime, KeyboardInterrupt, SystemExit(143): stopped by `stop`, Ctrl-C,
            SIGTERM; the same call continues.
    """
    folder = Path(out) / job.folder
    target, kind = hardware.device_and_precision(device, precision)
    if folder.is_dir():
        return _finished(job, folder, None if precision == "auto" else kind)
    if os.path.lexists(folder):  # a file, or a link that leads nowhere
        raise UserError(f"{folder} is in the way; remove it or choose another --out")
    models.blueprint(job.model, **job.options)  # a wrong name is reported before the data is read
    dataset = data.load(job.dataset, download=download, size=job.input_size)
    if dataset.left_out and verbose:
        print(f"  {dataset.left_out}", flush=True)
    hardware.set_up(target)
    with fork_rng([target] if target.type == "cuda" else []), ExitStack() as end:
        # `resume` may set another number of threads
        end.callback(torch.set_num_threads, torch.get_num_threads())
        # Most mistakes are told here, before there is a folder
        trainer = Trainer(job, dataset, target, kind, runs.partial_folder(folder))
        work = end.enter_context(working_folder(folder, patience))
        trainer.interruption = end.enter_context(interruptions(stop))
        trainer.checkpoint_seconds, trainer.verbose = checkpoint_seconds, verbose
        trainer.resume(any_precision=precision == "auto")
        try:
            trainer.train()
        except Diverged:
            trainer.checkpoint.unlink(missing_ok=True)  # it would diverge again
            raise
        trainer.save()  # what follows may find the disk full
        finish(trainer, work)
        work.rename(folder)
        tidy(folder)
    return Run.load(folder)


def _finished(job: Job, folder: Path, precision: str | None) -> Run:
    """Loads a finished run; raises UserError if another job, or another precision, made it."""
    run = Run.load(folder)
    ours = job.settings() | ({"precision": precision} if precision else {})
    if data.is_folder(job.dataset):  # one's own images may have changed since
        ours["data_sha256"] = data.load(job.dataset, size=job.input_size).sha256
    check_same(folder, run.info.values(), ours)
    tidy(folder)
    return run


def finish(trainer: Trainer, folder: Path) -> None:
    """Evaluates the trained network on the test set, once, and writes the run."""
    dataset, name, recipe = trainer.dataset, trainer.job.dataset, trainer.recipe
    flip = data.facts(name).flips_test(recipe)
    found = evaluation.evaluate(trainer.predictor(flip), dataset.test, trainer.validation_set)
    logits = io.BytesIO()
    np.save(logits, found.logits)
    disk.write(folder / "logits.npy", logits.getbuffer())
    weights = trainer.evaluated.state_dict()
    kept = packed_weights({key: value.cpu().contiguous() for key, value in weights.items()})
    disk.write(folder / "model.safetensors", kept)
    labels = dataset.test.labels.numpy()
    guesses = metrics.guesses(found.figures["test_correct"], labels, dataset.classes)
    seconds = sum(row["seconds"] for row in trainer.history)
    values: dict[str, Any] = trainer.identity() | {"recipe": recipe} | found.figures
    info = Info(
        **values,
        dataset_title=dataset.title,
        dataset_folder=str(data.folder_path(name).resolve()) if data.is_folder(name) else "",
        classes=list(dataset.classes),
        train_images=len(trainer.train_set),
        validation_images=len(trainer.validation_set),
        in_channels=trainer.train_set.images.shape[1],
        image_side=trainer.train_set.images.shape[-1],
        mean=list(trainer.transform.mean),
        std=list(trainer.transform.std),
        parameters=trainer.parameters,
        macs=trainer.macs,
        train_seconds=seconds,
        images_per_second=len(trainer.train_set) * recipe.epochs / seconds,
        device=hardware.device_name(trainer.device),
        threads=torch.get_num_threads(),
        **trainer.made_by[-1],
        made_by=trainer.made_by,
        weights_sha256=runs.weights_sha256(folder),
        warnings=_warnings(trainer) + guesses,
    )
    runs.write(folder, info, trainer.history, found.test, found.views)


def _warnings(trainer: Trainer) -> list[str]:
    """Returns what a reader of the run should know."""
    warnings, classes = [], len(trainer.dataset.classes)
    chance = math.log(classes)
    if abs(min(row["train_loss"] for row in trainer.history) - chance) < PLATEAU:
        plateau = f"the loss stayed at ln {classes} = {chance:.4f}"
        warnings.append(f"chance-level plateau: {plateau}")
    *others, last = [by["versions"]["torch"] for by in trainer.made_by]
    warnings += [f"begun with torch {other}" for other in sorted({*others} - {last})]
    if trainer.dataset.left_out:
        warnings.append(trainer.dataset.left_out)
    return warnings
