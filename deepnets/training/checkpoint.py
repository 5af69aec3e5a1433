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
    """Writes tensors and plain values; the old file stays until the new one is complete."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    disk.write(path, MAGIC, hashlib.sha256(buffer.getbuffer()).digest(), buffer.getbuffer())


def load(path: Path, most: int = 1 << 34) -> dict[str, Any]:
    """Reads what `save` wrote.

    Raises:
        UserError: the file is no checkpoint, is damaged, is larger than `most` bytes, or holds
            more than tensors and plain values.
    """

    def refuse(why: str) -> UserError:
        return UserError(f"{path} {why}; delete it to start again")

    content = memoryview(disk.read(path, most))
    if content[: len(MAGIC)] != MAGIC:
        raise refuse("is not a checkpoint of this program")
    digest, payload = content[len(MAGIC) : len(MAGIC) + DIGEST], content[len(MAGIC) + DIGEST :]
    if hashlib.sha256(payload).digest() != digest:
        raise refuse("is damaged (its checksum does not match)")
    stored = io.BytesIO(payload)
    try:
        with zipfile.ZipFile(stored) as archive:  # torch.save does not compress
            if sum(entry.file_size for entry in archive.infolist()) > len(payload):
                raise ValueError("a zip bomb")
        stored.seek(0)
        with warnings.catch_warnings(action="ignore"):  # of pickle's version, say
            return torch.load(stored, map_location="cpu", weights_only=True)
    # The checksum is right, so from here on nothing is an accident.
    except pickle.UnpicklingError:
        raise refuse("holds more than tensors and numbers, which may be an attack") from None
    except Exception:  # a foreign archive fails in many ways
        raise refuse("is not a checkpoint of this program, though its checksum is right") from None


def alike(found: Any, known: Any) -> bool:
    """Returns whether `found` has the names, shapes and types of `known`, and finite numbers."""
    if isinstance(known, float):
        return type(found) in (int, float) and math.isfinite(found)
    if isinstance(known, dict):  # of any kind: PyTorch's own are ordered
        same_keys = isinstance(found, dict) and found.keys() == known.keys()
        return same_keys and all(alike(found[key], known[key]) for key in known)
    if type(found) is not type(known):
        return False
    if isinstance(known, Tensor):
        form = known.shape, known.dtype, known.layout
        return (found.shape, found.dtype, found.layout) == form and not found.is_meta
    if isinstance(known, list):
        return len(found) == len(known) and all(map(alike, found, known))
    return True


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
        start, epochs = known["progress"], known["identity"]["epochs"]
        rates = [group["lr"] for group in optimizer["param_groups"]]
        momenta, history = optimizer["state"].items(), progress["history"]
        seconds = [row["seconds"] for row in history]
        words = [text for by in made_by for text in (by["commit"], *by["versions"].values())]
        return (
            all(alike(state[key], known[key]) for key in ("network", "evaluated", "threads"))
            and alike(rates, [0.0] * len(known["optimizer"]["param_groups"]))
            and all(alike(kept, {"momentum_buffer": parameters[n]}) for n, kept in momenta)
            and progress.keys() == start.keys()
            and all(alike(progress[key], start[key]) for key in ("epoch", "step", "sums"))
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
