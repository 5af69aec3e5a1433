"""A digit on paper is found whatever the light, the paper and what else lies there: real digits of
MNIST, drawn on made-up paper with one kind of trouble each, as a phone sees them. And what is
said of a picture.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.ndimage import gaussian_filter

from deepnets import digit, evaluation, notebook, predict
from deepnets.errors import UserError
from deepnets.runs import Run

RUN = Run.load(Path(__file__).parent.parent / "results/main/mnist/resnet20/tuned/seed0")
SIDE = 360
KINDS = (
    "even", "slope", "shadow", "texture", "specks", "frame", "ruled", "squared", "pencil", "board",
)  # fmt: skip


def photo(shown: np.ndarray, kind: str, random: np.random.Generator) -> np.ndarray:
    """A picture (SIDE, SIDE), uint8, of `shown` (28, 28), bright on black, on paper with a kind of
    trouble.
    """
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    side = int(SIDE * random.uniform(0.4, 0.75))
    top, left = (int((SIDE - side) * random.uniform(0.2, 0.8)) for _ in range(2))
    ink = np.zeros((SIDE, SIDE))
    enlarged = Image.fromarray(shown).resize((side, side), Image.Resampling.BICUBIC)
    ink[top : top + side, left : left + side] = np.asarray(enlarged) / 255
    paper = np.full((SIDE, SIDE), random.uniform(190, 235))
    level, noise = random.uniform(25, 70), 1.5
    if kind == "slope":
        angle = random.uniform(0, 2 * np.pi)
        along = (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)) / 1.4 + 0.5
        paper = paper - random.uniform(60, 140) * along
    elif kind == "shadow":  # with an edge, as of a hand
        angle, place = random.uniform(0, 2 * np.pi), random.uniform(-0.25, 0.25)
        dark = (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) > place).astype(float)
        depth = random.uniform(0.25, 0.5)
        paper = paper * (1 - depth * gaussian_filter(dark, random.uniform(1, 12)))
    elif kind == "texture":
        grain = gaussian_filter(random.standard_normal((SIDE, SIDE)), random.uniform(0.5, 3))
        paper, noise = paper + random.uniform(8, 18) * grain / grain.std(), 4
    elif kind == "specks":
        for _ in range(random.integers(3, 25)):
            row, column, radius = *random.uniform(0, 1, 2), random.uniform(0.002, 0.01)
            paper[(y - row) ** 2 + (x - column) ** 2 < radius**2] = random.uniform(30, 120)
    elif kind == "frame":  # what the paper lies on
        for edge in (y, 1 - y, x, 1 - x):
            if random.random() < 0.8:
                paper[edge < random.uniform(0.02, 0.1)] = random.uniform(15, 70)
    elif kind in ("ruled", "squared"):
        step, tilt = SIDE / random.integers(6, 14), random.uniform(-0.03, 0.03)
        grid, width = random.uniform(30, 80), random.uniform(1.2, 3)
        for across, along in ((y, x), (x, -y))[: 1 + (kind == "squared")]:
            paper = paper - grid * ((SIDE * (across + tilt * along)) % step < width)
        paper = gaussian_filter(paper, 0.7)
    elif kind == "pencil":
        level = paper[0, 0] - random.uniform(35, 70)
        # it leaves the paper's grain white
        ink = ink * np.clip(1 + 0.35 * random.standard_normal(ink.shape), 0, 1)
        paper, noise = paper - random.uniform(0, 40) * x, 3
    elif kind == "board":  # chalk, unevenly wiped
        wiped = 15 * gaussian_filter(random.standard_normal((SIDE, SIDE)), 25) * 25
        paper = 55 + wiped + random.uniform(0, 40) * y
        level, noise = random.uniform(170, 240), 3
    values = paper * (1 - ink) + level * ink + noise * random.standard_normal(ink.shape)
    return np.clip(gaussian_filter(values, random.uniform(0.3, 1)), 0, 255).astype(np.uint8)


def test_nine_in_ten_of_200_photographs_are_read_right(tmp_path):
    """By ResNet20 as it is stored, trained on MNIST under `tuned`."""
    (images, labels), classify = notebook.samples("mnist", 4), predict.classifier(RUN)
    right = {kind: [] for kind in KINDS}
    for number in range(200):
        kind, place = KINDS[number // 20], 7 * number % len(images)
        values = photo(images[place, 0], kind, np.random.default_rng(number))
        Image.fromarray(values).save(tmp_path / "photo.png")
        right[kind].append(classify(tmp_path / "photo.png")[0][0][0] == labels[place])
    shares = {kind: np.mean(answers) for kind, answers in right.items()}
    assert np.mean(list(shares.values())) >= 0.95, shares
    assert min(shares.values()) >= 0.8, shares


def seven():
    drawn = Image.new("L", (400, 400), 225)
    ImageDraw.Draw(drawn).line([(150, 110), (250, 110), (190, 290)], 40, 22, joint="curve")
    return np.asarray(drawn, float)


SLOPE = 60 * np.mgrid[:400, :400][0] / 400


@pytest.fixture
def draw(tmp_path):
    """Gives a file of gray values."""

    def drawn(values):
        Image.fromarray(values.round().astype(np.uint8)).save(tmp_path / "drawn.png")
        return tmp_path / "drawn.png"

    return drawn


def test_the_middle_of_the_ink_is_the_middle_of_the_square(draw):
    """As in MNIST; the middle of a seven's box is further down."""
    pixels = predict.prepare(draw(seven()), RUN)[0][0, 0].numpy()
    assert ndimage.center_of_mass(pixels) == pytest.approx((13.5, 13.5), abs=0.6)


def test_what_is_doubtful_is_said():
    plain = seven()
    assert digit.find(plain).doubts == ()
    two = np.minimum(np.roll(plain, -90, 1), np.roll(plain, 90, 1))
    assert any("more on the picture" in said for said in digit.find(two - SLOPE).doubts)
    cut = np.roll(plain - SLOPE, -115, 0)[:250]
    assert any("edge" in said for said in digit.find(cut).doubts)


def test_nothing_is_found_where_nothing_is(draw):
    """On blank paper, on a pixel, and where there is light alone."""
    for values in (np.full((50, 70), 200.0), np.full((1, 1), 3.0), 200 - 1.5 * SLOPE):
        with pytest.raises(UserError, match=r"drawn\.png: no digit"):
            predict.prepare(draw(values), RUN)


def test_dark_ink_on_light_paper_is_said_and_equals_the_inverse(draw):
    (light, said), (dark, unsaid) = (
        predict.prepare(draw(values), RUN) for values in (seven(), 255 - seven())
    )
    assert torch.equal(light, dark)
    assert said == ["light background: inverted", *unsaid]


def test_probabilities_are_those_of_the_runs_temperature(draw):
    def told(temperature):
        run = Run(RUN.path, replace(RUN.info, temperature=temperature))
        return dict(predict.classifier(run, top=10)(draw(seven()))[0])

    roots = {name: share**0.5 for name, share in told(1.0).items()}
    wanted = {name: root / sum(roots.values()) for name, root in roots.items()}
    assert told(2.0) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("dataset", "augment", "flip"),
    [("folder:x", "standard", True), ("folder:x", "none", False), ("digits", "standard", False)],
)
def test_pictures_are_mirrored_as_in_the_runs_test(spy, draw, dataset, augment, flip):
    looks = spy(evaluation.Predictor, "__call__")
    recipe = replace(RUN.info.recipe, flip_test=True, augment=augment)
    predict.classifier(Run(RUN.path, replace(RUN.info, dataset=dataset, recipe=recipe)))(
        draw(seven())
    )
    assert [predictor.flip for predictor, _ in looks] == [flip]
