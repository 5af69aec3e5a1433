"""Checkpoints: one file, accepted only if it is complete and unchanged."""

import hashlib
import io
import json
import math
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import disk
from ..errors import UserError
from ..runs import HISTORY

MAGIC = b"deepnets checkpoint 1\n"
DIGEST = hashlib.sha256().digest_size


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; the file that was there stays until the new one is
    complete.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    disk.write(path, MAGIC, hashlib.sha256(buffer.getbuffer()).digest(), buffer.getbuffer())


def load(path: Path, most: int = 1 << 34) -> dict[str, Any]:
    """Read what `save` wrote into at most `most` bytes.

    Raises:
        UserError: the file is no checkpoint, is damaged, or holds more than tensors and plain
        values.
    """
    content = memoryview(disk.read(path, most))
    if content[: len(MAGIC)] != MAGIC:
        raise UserError(f"{path} is not a checkpoint of this program; delete it to start again")
    digest, payload = content[len(MAGIC) : len(MAGIC) + DIGEST], content[len(MAGIC) + DIGEST :]
    if hashlib.sha256(payload).digest() != digest:
        raise UserError(
            f"{path} is damaged (its checksum does not match); delete it to start again"
        )
    stored = io.BytesIO(payload)
    try:
        with zipfile.ZipFile(stored) as archive:  # torch packs nothing: unpacked it is no larger
            if sum(entry.file_size for entry in archive.infolist()) > len(payload):
                raise ValueError("a zip bomb")
        stored.seek(0)
        with warnings.catch_warnings(action="ignore"):  # of pickle's version, say
            return torch.load(stored, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # with a right checksum this is not an accident
        raise UserError(
            f"{path} holds more than tensors and numbers, which may be an attack; delete it"
        ) from None
    except Exception:  # nor is this, and what is no archive of tensors fails in many ways
        raise UserError(
            f"{path} is not a checkpoint of this program: its checksum is right, not its content; delete it"
        ) from None


def alike(found: Any, known: Any) -> bool:
    """Whether what was `found` has the names, shapes and types of what is `known`, and only finite
    numbers.
    """
    if isinstance(known, Tensor):
        form = known.shape, known.dtype, known.layout
        is_like = isinstance(found, Tensor) and (found.shape, found.dtype, found.layout) == form
        return is_like and not found.is_meta
    if isinstance(known, dict):
        return (
            isinstance(found, dict)
            and found.keys() == known.keys()
            and all(alike(found[k], known[k]) for k in known)
        )
    if isinstance(known, list):
        return (
            isinstance(found, list) and len(found) == len(known) and all(map(alike, found, known))
        )
    if isinstance(known, float):
        return type(found) in (int, float) and math.isfinite(found)
    return type(found) is type(known)


def plain(value: Any) -> bool:
    """Returns whether JSON has the value."""
    try:
        json.dumps(value, allow_nan=False)
        return True
    except (TypeError, ValueError, RecursionError):
        return False


def fits(state: Any, known: dict[str, Any], parameters: list[Tensor], batches: int) -> bool:
    """Returns whether a stored state has the form of the training's own.

    Args:
        state: what a checkpoint holds.
        known: the state of the training at its start.
        parameters: of the optimizer, in its order.
        batches: of an epoch.
    """
    try:
        progress, optimizer, made_by = state["progress"], state["optimizer"], state["made_by"]
        history, epochs = progress["history"], known["identity"]["epochs"]
        momentum = [
            (number, name, values)
            for number, kept in optimizer["state"].items()
            for name, values in kept.items()
        ]
        rates = [group["lr"] for group in optimizer["param_groups"]]
        seconds = [row["seconds"] for row in history]
        words = [text for by in made_by for text in (by["commit"], *by["versions"].values())]
        return (
            all(alike(state[key], known[key]) for key in ("network", "evaluated", "threads"))
            and alike(rates, [0.0] * len(known["optimizer"]["param_groups"]))
            and all(name == "momentum_buffer" for _, name, _ in momentum)
            and all(alike(values, parameters[number]) for number, _, values in momentum)
            and progress.keys() == known["progress"].keys()
            and all(
                alike(progress[key], known["progress"][key]) for key in ("epoch", "step", "sums")
            )
            and alike(history, [dict.fromkeys(HISTORY, 0.0)] * len(history))
            and min(seconds, default=1) > 0
            and (progress["sums"]["seconds"] > 0 or progress["step"] == 0)
            and (progress["bf16_speedup"] is None or alike(progress["bf16_speedup"], 0.0))
            and isinstance(made_by, list)
            and len(made_by) > 0
            and plain(made_by)
            and alike(words, [""] * len(words))
            and all("torch" in by["versions"] for by in made_by)
            and progress["epoch"] == len(history) <= epochs
            and 0 <= progress["step"] <= batches
            and 1 <= state["threads"] <= 4096
        )
    except Exception:  # a foreign file may lack, or hold, anything
        return False
