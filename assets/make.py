"""Diagrams of what networks are built from: a residual block, an Inception module, the stems.

Every number is read from a network without storage: what a layer is from its module, what it gives
from a pass over one image.

python -m assets.make    (writes assets/blocks.png and its three parts)
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import nn

from deepnets import disk, models
from deepnets.compare.style import STYLE, encoded
from deepnets.models.googlenet import Inception
from deepnets.models.resnet import BasicBlock
from deepnets.models.shapes import module_shapes

from .pen import ATTACHED, DARK, LAYERS, Pen, one, words

WIDE = 0.61  # of a layer, in inches


@rc_context(STYLE)
def figure(name: str) -> Figure:
    """Returns the drawings of `PICTURES` side by side; several have letters, and are 7 inches."""
    draws, pen, x = PICTURES[name], Pen(), 0.0
    several = len(draws) > 1
    for letter, draw in zip("abc", draws, strict=False):
        if several:
            pen.text(x, 0.1, letter, fontweight="bold", ha="left")
        x = draw(pen, x) + 0.2
    return pen.finish(7 if several else 0)


def residual(pen: Pen, x: float) -> float:
    """Draw both forms of a block to the right of x, from y = 0 down; return where they end."""
    built = models.blueprint("resnet18")
    shapes = module_shapes(built, 64)
    found = [module for module in built.modules() if isinstance(module, BasicBlock)]
    forms = {type(block.shortcut): block for block in reversed(found)}  # the first of each
    for kind in (nn.Identity, nn.Sequential):
        block, middle, fork = forms[kind], x + WIDE / 2, -0.24
        taken, given = shapes[block]
        pen.text(middle, -0.08, by(taken))
        pen.line((middle, -0.15), (middle, fork), head=False)
        end = pen.column(middle, fork, WIDE, parts(block.residual), named=True)
        plus = end - 0.22
        pen.line((middle, end), (middle, plus + 0.07))
        pen.plus(middle, plus)
        half = (fork + plus) / 2
        if isinstance(block.shortcut, nn.Sequential):
            x, top = middle + WIDE + 0.07, half + 0.26
            pen.line((middle, fork), (x, fork), (x, top), dashed=True)
            bottom = pen.column(x, top, WIDE, parts(block.shortcut), named=True, arrow=None)
            pen.line((x, bottom), (x, plus), (middle + 0.07, plus), dashed=True)
            x += WIDE / 2
        else:
            x = middle + WIDE / 2 + 0.15
            pen.line((middle, fork), (x, fork), (x, plus), (middle + 0.07, plus))
            pen.text(x + 0.09, half, "identity", rotation=90, va="center")
            x += 0.26
        pen.line((middle, plus - 0.07), (middle, plus - 0.2))
        end = pen.column(middle, plus - 0.2, WIDE, [nn.ReLU()], named=True)
        pen.line((middle, end), (middle, end - 0.16))
        pen.text(middle, end - 0.24, by(given))
    return x


def inception(pen: Pen, x: float) -> float:
    """Draw a module to the right of x, from y = 0 down; return where it ends."""
    built = models.blueprint("googlenet")
    shapes = module_shapes(built, 64)
    module, published = (
        next(part for part in network.modules() if isinstance(part, Inception))
        for network in (built, models.blueprint("googlenet_2014"))
    )
    places = [x + WIDE / 2 + (WIDE + 0.07) * n for n in range(len(module.branches))]
    top, low, bottom = -0.26, -0.82, -1.7
    for place, branch, original in zip(places, module.branches, published.branches, strict=True):
        layers = list(parts(branch))
        last = max(n for n, layer in enumerate(layers) if not isinstance(layer, ATTACHED))
        end = pen.column(place, top, WIDE, layers[:last])
        pen.line((place, end), (place, low), head=False)
        papers = [part for part in parts(original) if not isinstance(part, ATTACHED)][-1]
        side = one(papers.kernel_size)
        remark = "" if side == one(layers[last].kernel_size) else f"\npaper {side}x{side}"
        label = {layers[last]: words(layers[last]) + remark}
        end = pen.column(place, low, WIDE, layers[last:], label.__getitem__)
        pen.line((place, end), (place, bottom))
    right, middle = places[-1] + WIDE / 2, (places[0] + places[-1]) / 2
    taken, given = shapes[module]
    pen.text(middle, -0.08, by(taken))
    pen.line((middle, -0.15), (middle, top), head=False)
    pen.line((places[0], top), (places[-1], top), head=False)
    pen.area(x, bottom - 0.07, right, bottom, facecolor=DARK, linewidth=1, label="concatenation")
    pen.line((middle, bottom - 0.07), (middle, bottom - 0.27))
    channels = " + ".join(str(shapes[branch][1][0]) for branch in module.branches)
    pen.text(middle + 0.07, bottom - 0.17, channels, ha="left")
    pen.text(middle, bottom - 0.35, by(given))
    return right


def stems(pen: Pen, x: float) -> float:
    """Draw both stems to the right of x, from y = 0 down; return where they end."""
    for name in ("resnet18", "resnet18_improved"):
        built = models.blueprint(name)
        shapes, middle, y = module_shapes(built, 64), x + WIDE / 2, -0.15
        stages = dict(built.stages.named_children())
        layers = [layer for name in ("conv1", "pool1") for layer in parts(stages[name])]
        pen.text(middle, -0.08, by(shapes[layers[0]][0]))
        for layer in layers:
            if y < -0.2 and not isinstance(layer, ATTACHED):
                pen.text(middle - 0.14, y - 0.075, by(shapes[layer][0]), ha="left")
            label = partial(words, padding=True)
            y = pen.column(middle, y, WIDE, [layer], label, arrow=-0.2)
        pen.line((middle - 0.2, y), (middle - 0.2, y - 0.16))
        pen.text(middle, y - 0.24, by(shapes[layers[-1]][1]))
        x += WIDE + 0.16
    return x - 0.06


def parts(module: nn.Module) -> Iterator[nn.Module]:
    """Returns the layers of a `module`, in order."""
    return (layer for layer in module.modules() if isinstance(layer, LAYERS))


def by(shape: tuple[int, ...]) -> str:
    """Returns a `shape` in words, 64x16x16."""
    return "x".join(map(str, shape))


PICTURES: dict[str, Sequence[Callable[[Pen, float], float]]] = {
    "blocks": (residual, inception, stems), "residual-block": (residual,),
    "inception-module": (inception,), "stems": (stems,),
}  # fmt: skip

if __name__ == "__main__":
    here = Path(__file__).parent
    disk.write_all({here / f"{name}.png": encoded(figure(name), 200) for name in PICTURES})
