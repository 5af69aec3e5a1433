"""Write CIFAR-10's original images into a folder of PNG files, named as in the JPEG copy.

`python studies/cifar10_as_png.py data-original data/CIFAR-10` downloads the original batches into
`data-original` unless they are there, and gives the folder that `studies/compression.toml` and
`studies/control.toml` train on beside the copy (which is not read while the batches themselves lie
in `data`). In both folders a file is called by its number among the images of its class, so both
are split alike, and what a network says of an image and of its compressed form can be compared one
by one.
"""

import sys
from collections import Counter
from pathlib import Path

from PIL import Image
from torchvision.datasets import CIFAR10


def main(root: Path, target: Path) -> None:
    """Write the batches below `root` as `target`/{train,test}/CLASS/NNNN.png, without loss."""
    for part in ("train", "test"):
        batches = CIFAR10(str(root), train=part == "train", download=True)
        written: Counter[int] = Counter()
        for pixels, label in zip(batches.data, batches.targets, strict=True):
            folder = target / part / batches.classes[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{written[label]:04}.png")
            written[label] += 1
        print(f"{target / part}: {written.total():,} images")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: cifar10_as_png.py FROM TO (folders)")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
