"""Writes the diagrams of what networks are built from: blocks.png and its three parts.

python -m assets.make
"""

from pathlib import Path

from deepnets import disk
from deepnets.compare.style import encoded

from .blocks import blocks, figure, inception, residual, stems

if __name__ == "__main__":
    pictures = {
        "blocks": blocks(), "residual-block": figure(residual),
        "inception-module": figure(inception), "stems": figure(stems),
    }  # fmt: skip
    here = Path(__file__).parent
    disk.write_all({here / f"{name}.png": encoded(made, 200) for name, made in pictures.items()})
