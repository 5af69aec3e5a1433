"""Checkpoints: one file, accepted only if it is complete and unchanged."""

import hashlib
import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import disk
from ..errors import UserError

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
        return isinstance(found, Tensor) and (found.shape, found.dtype) == (
            known.shape,
            known.dtype,
        )
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
