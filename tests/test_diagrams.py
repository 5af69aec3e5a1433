"""Diagrams say what the networks are: numbers, shortcuts and branches, in letters one can read."""

import re
from itertools import combinations, groupby
from pathlib import Path

import pytest
import torch
import torchvision
from matplotlib.patches import ArrowStyle, Circle, FancyArrowPatch, Rectangle
from torch import nn

from assets import make as diagrams
from deepnets.compare import style
from deepnets.errors import UserError
from deepnets.models.googlenet import INCEPTION

BLOCKS = ("residual_block", "inception_module", "stems", "blocks")
ORIGINALS = ("alexnet", "vgg16", "resnet18", "googlenet")


@pytest.fixture(scope="module")
def pictures():
    networks = {name: diagrams.network(name) for name in (*style.COLOURS, "googlenet_2014")}
    return networks | {name: getattr(diagrams, name)() for name in BLOCKS}


def texts(figure):
    """Every text of a picture, those of the legend included."""
    (ax,) = figure.axes
    return [*ax.texts, *ax.get_legend().get_texts()]


def written(figure):
    return [text.get_text() for text in texts(figure)]


def below(figure):
    """The channels and the pixels that stand below a network, from left to right."""
    labels = [text for text in figure.axes[0].texts if text.get_va() == "baseline"]
    rows = {text.get_position()[1]: [] for text in labels}
    for text in sorted(labels, key=lambda text: text.get_position()[0]):
        rows[text.get_position()[1]].append(text.get_text().split()[0])
    return [rows[y] for y in sorted(rows, reverse=True)]


def shapes_of_torchvision(name):
    """What the image and the layers or stages of torchvision's network give, repeats left out."""
    with torch.device("meta"):
        options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        network = getattr(torchvision.models, name)(num_classes=10, **options).eval()
    shapes = [(3, 64, 64)]
    for child in network.children():
        for layer in child if isinstance(child, nn.Sequential) else [child]:
            if not isinstance(layer, nn.Dropout):
                layer.register_forward_hook(lambda *given: shapes.append(tuple(given[2].shape[1:])))
    network(torch.empty(1, 3, 64, 64, device="meta"))
    return [shape for shape, _ in groupby(shapes)]


@pytest.mark.parametrize("name", ORIGINALS)
def test_maps_are_torchvisions(pictures, name):
    channels, pixels = below(pictures[name])
    shapes = shapes_of_torchvision(name)
    sides = [shape[1:] or (1, 1) for shape in shapes]
    assert channels == [str(shape[0]) for shape in shapes]
    assert pixels == [f"{height}x{width}" for (height, width), _ in groupby(sides)]


def test_an_option_changes_the_numbers():
    plain, changed = (diagrams.network("resnet18", **options) for options in ({}, {"stem": "3x3"}))
    assert below(plain)[1][:3] == ["64x64", "32x32", "16x16"]
    assert below(changed)[1][:5] == ["64x64", "34x34", "32x32", "30x30", "15x15"]
    assert "7x7 /2" in written(plain)
    assert "7x7 /2" not in written(changed)
    assert "max to 5x5" in written(diagrams.network("vgg11", head_pool="max5"))
    assert below(diagrams.network("vgg11", in_channels=1))[0][0] == "1"
    assert below(diagrams.network("resnet20", input_size=32))[1] == ["32x32", "16x16", "8x8", "1x1"]


@pytest.mark.parametrize(
    ("name", "options", "blocks", "dashed", "kind"),
    [
        ("resnet18", {}, 8, 3, "1x1 convolution"),
        ("resnet18_improved", {}, 8, 3, "1x1 convolution"),
        ("resnet20", {}, 9, 2, "zeros for new channels"),
        ("resnet20", {"shortcuts": False}, 0, 0, None),
        ("vgg16", {}, 0, 0, None),
    ],
)
def test_every_block_has_its_shortcut(name, options, blocks, dashed, kind):
    figure = diagrams.network(name, **options)
    patches = figure.axes[0].patches
    lines = [patch for patch in patches if isinstance(patch, FancyArrowPatch)]
    heads = [isinstance(line.get_arrowstyle(), ArrowStyle.CurveFilledB) for line in lines]
    assert sum(heads) == sum(isinstance(patch, Circle) for patch in patches) == blocks
    assert sum(line.get_linestyle() not in ("-", "solid") for line in lines) == dashed
    assert (f"shortcut: {kind}" in written(figure)) == bool(blocks)


@pytest.mark.parametrize(("name", "large"), [("googlenet", "3"), ("googlenet_2014", "5")])
def test_every_module_has_its_branches(pictures, name, large):
    digits = [
        (text.get_position(), text.get_text())
        for text in pictures[name].axes[0].texts
        if re.fullmatch("[1-9]", text.get_text()) and text.get_va() == "center_baseline"
    ]
    modules = [digits[i : i + 7] for i in range(0, len(digits), 7)]
    assert len(modules) == len(INCEPTION) == 9
    for module in modules:
        rows = {}
        for (_, y), digit in module:
            rows.setdefault(y, []).append(digit)
        assert list(rows.values()) == [["1"], ["1", "3"], ["1", large], ["3", "1"]]
    titles = [text for text in written(pictures[name]) if text in INCEPTION]
    assert titles == list(INCEPTION)


def test_the_blocks_have_the_papers_numbers(pictures):
    taken, c1, c3_reduce, c3, c5_reduce, c5, pool = INCEPTION["3a"]
    found = written(pictures["inception_module"])
    for text in (
        f"{taken}x8x8", f"1x1, {c1}", f"1x1, {c3_reduce}", f"3x3, {c3}", f"1x1, {c5_reduce}",
        f"3x3, {c5}", "paper 5x5", f"1x1, {pool}", f"{c1} + {c3} + {c5} + {pool}", "max 3x3",
        f"{c1 + c3 + c5 + pool}x8x8",
    ):  # fmt: skip
        assert text in found
    found = written(pictures["residual_block"])
    for text in ("3x3, 64", "identity", "3x3, 128", "1x1, 128", "128x8x8"):
        assert text in found
    assert found.count("stride 2") == 2
    found = written(pictures["stems"])
    maps = ["3x64x64", "64x32x32", "64x16x16"]
    maps += ["3x64x64", "64x34x34", "64x32x32", "64x30x30", "64x15x15"]
    assert [text for text in found if re.fullmatch(r"\d+x\d+x\d+", text)] == maps
    layers = [found.count(text) for text in ("7x7, 64", "3x3, 64", "max 3x3", "stride 2")]
    assert layers == [1, 3, 2, 4]
    paddings = [text for text in found if text.startswith("padding")]
    assert paddings == [f"padding {pad}" for pad in (3, 1, 3, 0, 0, 1)]
    assert set(written(pictures["blocks"])) >= {"a", "b", "c", *found}


def test_texts_can_be_read(pictures):
    """At the width of a README they have 8 points, stand apart, in the picture and in their box."""
    for name, figure in pictures.items():
        figure.draw_without_rendering()  # puts the legend in its place
        shown = texts(figure)
        scale = min(1, 900 / 96 / figure.get_figwidth())
        assert min(text.get_fontsize() for text in shown) * scale >= 8, name
        places = {text: text.get_window_extent() for text in shown}
        for text, place in places.items():
            assert figure.bbox.containsx(place.x0), (name, text)
            assert figure.bbox.containsx(place.x1), (name, text)
            assert figure.bbox.containsy(place.y0), (name, text)
            assert figure.bbox.containsy(place.y1), (name, text)
        for (one, here), (other, there) in combinations(places.items(), 2):
            assert not here.padded(-0.5).overlaps(there.padded(-0.5)), (name, one, other)
        boxes = [
            patch.get_window_extent()
            for patch in figure.axes[0].patches
            if isinstance(patch, Rectangle) and patch.get_zorder() == 2
        ]
        for text in figure.axes[0].texts:
            x, y = (places[text].p0 + places[text].p1) / 2
            for box in boxes:
                if box.contains(x, y):
                    assert box.padded(1).contains(*places[text].p0), (name, text)
                    assert box.padded(1).contains(*places[text].p1), (name, text)


def test_the_papers_figure_is_seven_inches_wide(pictures):
    assert pictures["blocks"].get_figwidth() == pytest.approx(7)


def test_each_picture_can_be_told(pictures):
    for name in pictures:
        assert diagrams.alt(name).endswith(".")
    assert "9 modules have 4 branches each" in diagrams.alt("googlenet")
    assert "20 of them convolutions; 8 shortcuts" in diagrams.alt("resnet18")
    assert "3 of them dashed" in diagrams.alt("resnet18")
    assert "shortcuts" not in diagrams.alt("resnet20", shortcuts=False)


def test_files_are_small(tmp_path, monkeypatch):
    committed = Path(__file__).parent.parent / "assets"
    monkeypatch.setattr(style, "COLOURS", ["vgg11"])
    diagrams.main(tmp_path)
    names = ["blocks", "inception-module", "network-vgg11", "residual-block", "stems"]
    assert sorted(path.stem for path in tmp_path.iterdir()) == names
    pictures = [*committed.glob("network-*.png"), *(committed / f"{name}.png" for name in names)]
    assert len(pictures) >= 13
    assert max(picture.stat().st_size for picture in pictures) < 60_000


def test_images_too_small_for_the_network_are_named():
    with pytest.raises(UserError, match="too small"):
        diagrams.network("alexnet", input_size=16)
