"""Checkpoints: one file, accepted only if it is complete and unchanged."""

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from .errors import UserError

MAGIC = b"deepnets checkpoint 1\n"
DIGEST = hashlib.sha256().digest_size


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; the file that was there stays until the new one is complete."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(MAGIC + hashlib.sha256(buffer.getbuffer()).digest())
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote.

    Raises:
        UserError: the file is no checkpoint, is damaged, or holds more than tensors and plain values.
    """
    content = memoryview(path.read_bytes())
    if content[: len(MAGIC)] != MAGIC:
        raise UserError(f"{path} is not a checkpoint of this program; delete it to start again")
    digest, payload = content[len(MAGIC) : len(MAGIC) + DIGEST], content[len(MAGIC) + DIGEST :]
    if hashlib.sha256(payload).digest() != digest:
        raise UserError(f"{path} is damaged (its checksum does not match); delete it to start again")
    try:
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # with a right checksum this is not an accident
        raise UserError(f"{path} holds more than tensors and numbers, which may be an attack; delete it") from None
