"""What every network has and costs, without torch: from counts.json, while the hash in it is that
of models/*.py.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "models"
FILE = SOURCES / "counts.json"


def entries() -> list[dict[str, Any]]:
    """A dict a network: its `name`, `parameters` and `macs` (multiply-adds of one image) at 10
    classes, RGB, 64x64.
    """
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    return stored["networks"] if stored["sources"] == _digest() else _count()


def write() -> None:
    """Count anew and write the file."""
    FILE.write_text(
        json.dumps({"sources": _digest(), "networks": _count()}, indent=1) + "\n", encoding="utf-8"
    )


def _count() -> list[dict[str, Any]]:
    from . import models

    networks = {name: models.blueprint(name) for name in models.names()}
    return [
        {
            "name": name,
            "parameters": models.count_parameters(network),
            "macs": models.multiply_adds(network, 64),
        }
        for name, network in networks.items()
    ]


def _digest() -> str:
    """Of the sources of the networks."""
    return hashlib.sha256(
        b"\0".join(path.read_bytes() for path in sorted(SOURCES.glob("*.py")))
    ).hexdigest()
