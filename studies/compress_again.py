"""What does JPEG cost? Compress a folder of images once more, and store the result without loss.

`python studies/compress_again.py data/cifar10 data/cifar10-twice` takes the JPEG copy of CIFAR-10 and gives the folder that
`studies/compression.toml` trains on. The copy went through JPEG at quality 75 with colours at half the resolution. The same
again on the same grid of blocks would change next to nothing, so the grid is moved by three pixels, an odd number because
colours are averaged over blocks of two. What the second compression costs only suggests what the first one did: most of the
detail of colours is gone by then, and cannot be lost twice.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

QUALITY, SHIFT = 75, 3


def compress(pixels: np.ndarray) -> np.ndarray:
    """An image (H, W, 3), uint8, after JPEG with its grid of blocks moved."""
    padded = np.pad(pixels, ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="reflect")
    file = io.BytesIO()
    Image.fromarray(padded).save(file, "JPEG", quality=QUALITY, subsampling="4:2:0")
    height, width, _ = pixels.shape
    return np.asarray(Image.open(file))[SHIFT : SHIFT + height, SHIFT : SHIFT + width]


def main(source: Path, target: Path) -> None:
    """Compress every .jpg below `source` into the same place below `target`, as PNG."""
    files = sorted(source.rglob("*.jpg"))
    if not files:
        sys.exit(f"there are no .jpg files in {source}")
    errors = []
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGB"))
        again = compress(pixels)
        errors.append(np.mean((again.astype(float) - pixels) ** 2))
        place = (target / file.relative_to(source)).with_suffix(".png")
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(again).save(place)
    print(f"{len(files)} images; root mean square change {np.mean(errors) ** 0.5:.2f} of 255 levels")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: compress_again.py FROM TO (folders)")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
