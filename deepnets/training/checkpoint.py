"""Checkpoints: one file, accepted only if it is complete and unchanged.

It has tensors and plain values, and no code: to read it runs nothing.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from .. import disk
from ..errors import UserError

MAGIC = b"deepnets checkpoint 3\n"
DIGEST = hashlib.sha256().digest_size


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values; the old file stays until the new one is complete."""
    file = io.BytesIO()
    torch.save(state, file)
    payload = file.getbuffer()
    disk.write(path, MAGIC, hashlib.sha256(payload).digest(), payload)


def load(path: Path) -> dict[str, Any]:
    """Reads what `save` wrote; raises UserError if the file is damaged, or no checkpoint."""
    content = disk.read(path)
    start = len(MAGIC) + DIGEST
    payload = content[start:]
    if content[:start] != MAGIC + hashlib.sha256(payload).digest():
        wrong = "is damaged, or not a checkpoint of this program (its checksum does not match)"
        raise UserError(f"{path} {wrong}; delete it to start again")
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
