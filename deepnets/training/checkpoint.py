"""Checkpoints: one file, accepted only if it is complete and unchanged.

It has tensors and plain values, and no code: to read it runs nothing.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as unpacked
from safetensors.torch import save as packed
from torch import Tensor

from .. import disk
from ..errors import UserError

MAGIC = b"deepnets checkpoint 2\n"
DIGEST = hashlib.sha256().digest_size
VALUES = "values"  # the tensor that holds the plain values: the bytes of their JSON


def save(path: Path, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Writes tensors and plain values; the old file stays until the new one is complete."""
    text = torch.frombuffer(bytearray(json.dumps(values).encode()), dtype=torch.uint8)
    every = tensors | {VALUES: text}
    payload = packed({name: tensor.detach().cpu().contiguous() for name, tensor in every.items()})
    disk.write(path, MAGIC, hashlib.sha256(payload).digest(), payload)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save` wrote; raises UserError if the file is damaged, or no checkpoint."""
    content = disk.read(path)
    start = len(MAGIC) + DIGEST
    payload = content[start:]
    if content[:start] != MAGIC + hashlib.sha256(payload).digest():
        wrong = "is damaged, or not a checkpoint of this program (its checksum does not match)"
        raise UserError(f"{path} {wrong}; delete it to start again")
    tensors = unpacked(payload)
    return tensors, json.loads(tensors.pop(VALUES).numpy().tobytes())
