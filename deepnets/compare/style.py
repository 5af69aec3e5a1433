"""How every picture looks: letters, colours, line styles, and how it is stored."""

import io
from collections.abc import Sequence
from typing import Any, cast

import seaborn as sns
from cycler import cycler
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from PIL import Image

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
LINES = {"tuned": "-", "classic": "--", "vanilla": ":", "altered": "-.", "best": (0, (8, 2))}
BLUE, ORANGE, _, RED = sns.color_palette("colorblind", 4)
GREY = "0.4"


def colours(networks: Sequence[str]) -> list[Any]:
    """Returns a colour for each network: its own, or other ones if any network has none."""
    if set(networks) <= COLOURS.keys():
        return [COLOURS[name] for name in networks]
    names = [*dict.fromkeys(networks)]
    palette = sns.color_palette("colorblind" if len(names) <= 10 else "husl", len(names))
    return [palette[names.index(name)] for name in networks]


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


def move_apart(ax: Axes, taken: Sequence[Bbox] = ()) -> None:
    """Moves the annotations of a plot up or down, by as little as frees them from each other.

    They leave free what is `taken`, too. Where ten lines are not enough, one stays.
    """
    found, figure = [*taken], ax.figure
    for text in cast(list[Annotation], ax.texts):
        box = Text.get_window_extent(text)
        shifts = (n * box.height / 2 for k in range(21) for n in (-k, k))
        moved = ((shift, box.translated(0, shift)) for shift in shifts)
        free = (one for one in moved if not one[1].count_overlaps(found))
        shift, box = next(free, (0, box))
        found.append(box)
        x, y = text.xyann
        text.xyann = x, y + shift * 72 / figure.dpi
