"""Checkpoints: one file, accepted only if it is complete and unchanged.

It has tensors and plain values, and no code: to read it runs nothing.
"""

import hashlib
import json
import sys
from contextlib import suppress
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


def load(path: Path, most: int = 1 << 34) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save` wrote.

    Raises:
        UserError: the file is no checkpoint, is damaged, or is larger than `most` bytes.
    """
    content = disk.read(path, most)
    start = len(MAGIC) + DIGEST
    digest, payload = content[len(MAGIC) : start], content[start:]
    wrong = "is not a checkpoint of this program"
    if content.startswith(MAGIC) and hashlib.sha256(payload).digest() != digest:
        wrong = "is damaged (its checksum does not match)"
    elif content.startswith(MAGIC):
        with suppress(Exception):  # the checksum is right, so this is no accident
            tensors = unpacked(payload)
            return tensors, json.loads(tensors.pop(VALUES).numpy().tobytes())
    raise UserError(f"{path} {wrong}; delete it to start again")


def alike(found: Any, known: Any) -> bool:
    """Returns whether `found` has the form of `known`, which has an item of each list.

    That is: the same names, types and shapes, and finite numbers.
    """
    if isinstance(known, dict):
        same_keys = isinstance(found, dict) and found.keys() == known.keys()
        return same_keys and all(alike(found[key], known[key]) for key in known)
    if isinstance(known, list):
        return isinstance(found, list) and all(alike(item, known[0]) for item in found)
    if isinstance(known, float):
        return type(found) in (int, float) and abs(found) <= sys.float_info.max
    if isinstance(known, Tensor):
        return (found.shape, found.dtype) == (known.shape, known.dtype)
    return type(found) is type(known)
