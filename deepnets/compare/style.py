"""How every picture looks: letters, colours, line styles, and how it is stored."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import seaborn as sns
from cycler import cycler
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image

from .. import disk

# Pictures do not depend on a person's matplotlibrc, and a class called $x$ is no formula.
DEFAULTS = {key: value for key, value in rcParamsDefault.items() if not key.startswith("backend")}
STYLE: dict[Any, Any] = DEFAULTS | {
    "text.parse_math": False, "font.size": 8, "axes.titlesize": 8, "figure.titlesize": 9,
    "legend.fontsize": 8, "legend.frameon": False, "axes.spines.top": False,
    "axes.spines.right": False, "axes.axisbelow": True, "grid.alpha": 0.3, "lines.linewidth": 1.4,
    "pdf.fonttype": 42, "axes.prop_cycle": cycler(color=sns.color_palette("colorblind")),
}  # fmt: skip
GRID = STYLE | {"axes.grid": True}
# A hue a family, improved forms darker. Colour-blind readers tell them apart, too.
COLOURS = {
    "alexnet": "0.5", "vgg11": "#a1d99b", "vgg16": "#41ab5d", "vgg16_improved": "#005a32",
    "googlenet": "#fd8d3c", "googlenet_improved": "#a63603",
    "resnet20": "#6baed6", "resnet18": "#2171b5", "resnet18_improved": "#08306b",
}  # fmt: skip
NAMES = {
    "alexnet": "AlexNet", "vgg11": "VGG11", "vgg16": "VGG16", "vgg16_improved": "VGG16+",
    "googlenet": "GoogLeNet", "googlenet_improved": "GoogLeNet+",
    "resnet20": "ResNet20", "resnet18": "ResNet18", "resnet18_improved": "ResNet18+",
}  # fmt: skip
LINES = {
    "tuned": "-", "classic": "--", "vanilla": ":", "altered": "-.", "best": (0, (8, 2)),
}  # fmt: skip
BLUE, ORANGE, GREEN, RED = sns.color_palette("colorblind", 4)
GREY = "0.4"


def colours(networks: Sequence[str]) -> list[Any]:
    """Returns a colour for each network: its own, or other ones if any network has none."""
    if set(networks) <= COLOURS.keys():
        return [COLOURS[name] for name in networks]
    names = [*dict.fromkeys(networks)]
    palette = sns.color_palette("colorblind" if len(names) <= 10 else "husl", len(names))
    return [palette[names.index(name)] for name in networks]


def save(figure: Figure, file: Path | BinaryIO, dpi: int = 150) -> None:
    """Writes a figure to a file as its suffix says, or to a stream as PNG."""
    content = encoded(figure, dpi, file.suffix[1:] if isinstance(file, Path) else "png")
    if isinstance(file, Path):
        disk.write(file, content)
    else:
        file.write(content)


def encoded(figure: Figure, dpi: int = 150, kind: str = "png") -> bytes:
    """Returns the content of a PNG or PDF file without a date: same figure, same bytes."""
    drawn, smaller = io.BytesIO(), io.BytesIO()
    metadata = None if kind == "png" else {"CreationDate": None}
    with rc_context(STYLE):
        figure.savefig(drawn, format=kind, dpi=dpi, metadata=metadata)
    if kind != "png":
        return drawn.getvalue()
    picture = Image.open(drawn).convert("RGB")
    # Lines and letters need few colours, and a third of the bytes.
    if not any(ax.images for ax in figure.axes):
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    picture.save(smaller, "PNG", optimize=True)
    return smaller.getvalue()


def log_scale(ax: Axes, subs: Sequence[float] = (1, 2, 5)) -> None:
    """Makes the y axis logarithmic, with plain numbers at `subs` times each power of ten."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
