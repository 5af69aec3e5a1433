"""Diagrams of whole networks and of their building blocks, drawn from the networks themselves.

Every number is read from a network without storage: what a layer is from its module, what it gives
from a pass over one image.

python -m assets.make    (writes network-*.png and blocks.png)
"""

from functools import partial
from itertools import groupby
from math import log2
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import nn

from deepnets import models
from deepnets.compare import style
from deepnets.models.googlenet import Inception
from deepnets.models.resnet import BasicBlock, PaddedShortcut
from deepnets.models.shapes import module_shapes

from .blocks import ALT, blocks, by, inception_module, parts, residual_block, stems
from .pen import ATTACHED, DARK, DASHES, Pen, window, words

__all__ = ["alt", "blocks", "inception_module", "network", "residual_block", "stems"]

BAR, GAP, MIDDLE = 0.16, 0.09, 0.86  # of a whole network: a layer, the space between, half a height
DIGIT = 0.087  # of the numbers below it


def alt(name: str, **options: Any) -> str:
    """Returns what a picture shows, for those who cannot see it.

    Args:
        name: of a picture of blocks, or of a network as `models.create` has it.
        options: of the network.
    """
    if name in ALT:
        return ALT[name]
    modules = [*models.blueprint(name, **options).stages.modules()]
    count = sum(isinstance(module, nn.Conv2d) for module in modules)
    shortcuts = [m.shortcut for m in modules if isinstance(m, BasicBlock) and m.shortcut]
    branches = [len(module.branches) for module in modules if isinstance(module, Inception)]
    text = f"The layers of {name} from left to right, {count} of them convolutions"
    if shortcuts:
        dashed = sum(not isinstance(shortcut, nn.Identity) for shortcut in shortcuts)
        text += f"; {len(shortcuts)} shortcuts lead over its blocks, {dashed} of them dashed"
    if branches:
        text += f"; {len(branches)} modules have {max(branches)} branches each"
    return text + "."


def network(name: str, input_size: int = 64, **options: Any) -> Figure:
    """Draw a whole network, from left to right; auxiliary heads are left out.

    A panel holds what gives maps of one size; below stand their channels and their pixels.

    Args:
        name: as for `models.create`.
        input_size: side of the image in pixels.
        options: of the network.
    """
    built, channels = models.blueprint(name, **options), options.get("in_channels", 3)
    shapes = module_shapes(built, input_size, channels)
    stages = [*built.stages.named_children(), ("", built.head), ("", built.classifier)]
    found: list[tuple[str, Any, tuple]] = [("", None, (channels, input_size, input_size))]
    found += [(stage, part, shapes[part][1]) for stage, of in stages for part in parts(of)]
    kinds = {type(part) for _, part, _ in found}
    above = 0.23 if BasicBlock in kinds else 0.1  # of a box: room for a shortcut
    with rc_context(style.STYLE):
        pen, x = Pen(9), 0.0
        for pixels, panel in groupby(found, key=lambda part: part[2][1:] or (1, 1)):
            members, left, taken, height = list(panel), x, x, 0.75 + 0.16 * log2(pixels[-1])
            alone = sum(not isinstance(part, ATTACHED) for _, part, _ in members) == 1
            x += 0.06 * alone
            for shape, same in groupby(members, key=lambda part: part[2]):
                half = DIGIT * len(str(shape[0])) / 2
                x = max(x, taken + half - GAP - BAR / 2)  # below, numbers keep apart
                start = x + GAP
                for stage, alike in groupby(same, key=lambda part: part[0]):
                    first = x + GAP
                    for _, part, _ in alike:
                        x = _part(pen, x, part, height)
                    if isinstance(part, BasicBlock | Inception):
                        title = stage.removeprefix("inception")
                        pen.text((first + x) / 2, height / 2 + above, title)
                _below(pen, start, x, 0.5, str(shape[0]), "channels")
                taken = (start + x) / 2 + half + DIGIT / 2
            x += GAP + 0.06 * alone
            _below(pen, left, x, 0.66, by(pixels), "pixels")
            ends = left + 0.015, -MIDDLE - 0.78, x - 0.015, MIDDLE + above + 0.1
            pen.area(*ends, facecolor="0.95", zorder=0)
        pen.line((GAP + BAR, 0), (x - GAP - BAR, 0), head=False)
        written = " ".join(text.get_text() for text in pen.ax.texts)
        if "/2" in written:
            pen.explain("/2: stride 2")
        if Inception in kinds:
            pen.explain("3: window of 3x3")
        if "channels" not in written:
            pen.explain("below: channels, pixels")
        return pen.finish()


def _below(pen: Pen, left: float, right: float, depth: float, size: str, unit: str) -> None:
    """Write a size below the boxes, with its unit where there is room."""
    long = f"{size} {unit}"
    text = long if right - left > 0.09 * len(long) else size
    pen.text((left + right) / 2, -MIDDLE - depth - 0.05, text, va="baseline")


def _part(pen: Pen, x: float, part: Any, height: float) -> float:
    """Draw an image (None), a layer, a block or a module to the right of x; return its end."""
    if isinstance(part, BasicBlock):
        return _arched(pen, x + 0.06, part, height)
    if isinstance(part, Inception):
        return _branched(pen, x + GAP, part, height)
    if part is not None:
        return _chain(pen, x + GAP * (not isinstance(part, ATTACHED)), [part], height)
    left, right = x + GAP, x + GAP + BAR
    style = {"facecolor": "0.85", "edgecolor": DARK, "linewidth": 0.6, "zorder": 2}
    pen.area(left, -height / 2, right, height / 2, **style)
    pen.text((left + right) / 2, 0, "image", rotation=90, va="center")
    return right


def _chain(pen: Pen, x: float, layers: list[nn.Module], height: float) -> float:
    """Draw layers to the right of x, and below each convolution its window; return their end."""
    for number, layer in enumerate(layers):
        x += BAR / 3 if number and not isinstance(layer, ATTACHED) else 0
        end = pen.row(x, 0, BAR, height, [layer], partial(words, channels=False), 90)
        if isinstance(layer, nn.Conv2d):
            pen.grid(x + BAR / 2, -MIDDLE - 0.21, window(layer))
        x = end
    return x


def _arched(pen: Pen, fork: float, block: BasicBlock, height: float) -> float:
    """Draw a block whose shortcut leaves the chain at `fork`; return where it ends."""
    end = _chain(pen, fork + 0.06, list(parts(block.residual)), height)
    if block.shortcut is None:
        return end
    plus, over = end + 0.11, height / 2 + 0.1
    kinds = {nn.Identity: "identity", PaddedShortcut: "zeros for new channels"}
    kind = kinds.get(type(block.shortcut), "1x1 convolution")
    dashed = kind != "identity"
    pen.line((fork, 0), (fork, over), (plus, over), (plus, 0.07), dashed=dashed)
    pen.explain(f"shortcut: {kind}", color=DARK, linestyle=DASHES if dashed else "-")
    pen.plus(plus, 0)
    return plus + 0.07


def _branched(pen: Pen, x: float, module: Inception, height: float) -> float:
    """Draw a module to the right of x, a branch a row, and return where it ends."""
    step = height / len(module.branches)
    rows = [(height / 2 - step * (n + 0.5), branch) for n, branch in enumerate(module.branches)]
    draw = partial(pen.row, x + 0.04, width=0.12, height=0.8 * step)
    right = 0.04 + max(
        draw(y=y, layers=parts(branch), label=lambda layer: str(window(layer)))
        for y, branch in rows
    )
    pen.area(x + 0.01, -0.03, right, 0.03, facecolor="0.95", zorder=1.5)  # the chain stops here
    for y, _ in rows:
        pen.line((x, 0), (x, y), (right, y), head=False)
    pen.join(right, -height / 2, right + 0.05, height / 2)
    return right + 0.05


def main(folder: Path) -> None:
    """Write a PNG of each network of the study, and of what it is built from, into a `folder`."""
    pictures = {f"network-{name}": network(name) for name in style.COLOURS} | {
        "blocks": blocks(),
        "residual-block": residual_block(),
        "inception-module": inception_module(),
        "stems": stems(),
    }
    for name, figure in pictures.items():
        style.save(figure, folder / f"{name}.png", dpi=200)


if __name__ == "__main__":
    main(Path(__file__).parent)
