"""A digit on paper is found whatever the light, the paper and what else lies there: real digits on
made-up photographs.
"""

from pathlib import Path

import numpy as np
import photos
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from deepnets import digit, predict, runs

RUN = runs.Run.load(Path(__file__).parent.parent / "results/main/mnist/resnet20/tuned/seed0")


def test_nine_in_ten_of_200_photographs_are_read_right(real, tmp_path):
    """By ResNet20 as it is stored, trained on MNIST under `tuned`."""
    mnist, classify = real("mnist").test, predict.classifier(RUN)
    right = {kind: [] for kind in photos.KINDS}
    for number in range(200):
        kind = photos.KINDS[number // 20]
        values = photos.photo(mnist.images[number, 0].numpy(), kind, np.random.default_rng(number))
        Image.fromarray(values).save(tmp_path / "photo.png")
        answer = classify(tmp_path / "photo.png")[0][0][0]
        right[kind].append(answer == str(int(mnist.labels[number])))
    shares = {kind: np.mean(answers) for kind, answers in right.items()}
    assert np.mean(list(shares.values())) >= 0.95, shares
    assert min(shares.values()) >= 0.8, shares


def seven(paper, ink=40.0, side=400):
    drawn = Image.new("L", (side, side))
    corners = [(150, 110), (250, 110), (190, 290)]
    ImageDraw.Draw(drawn).line(corners, fill=255, width=22, joint="curve")
    share = np.asarray(drawn, float) / 255
    return paper * (1 - share) + ink * share


def ink(values):
    """What is found, on a square of 40 pixels."""
    found = Image.fromarray(digit.find(values).ink.astype(np.float32))
    return np.asarray(found.resize((40, 40), Image.Resampling.BOX))


Y, X = np.mgrid[:400, :400] / 400
PLAIN = seven(225.0)


def test_the_middle_of_the_ink_is_the_middle_of_the_square(tmp_path):
    """As in MNIST; the middle of a seven's box is further down."""
    Image.fromarray(PLAIN.astype(np.uint8)).save(tmp_path / "seven.png")
    pixels = predict.prepare(tmp_path / "seven.png", RUN)[0][0, 0].numpy()
    assert ndimage.center_of_mass(pixels) == pytest.approx((13.5, 13.5), abs=0.6)


@pytest.mark.parametrize("dark", [True, False], ids=["pen", "chalk"])
@pytest.mark.parametrize(
    "paper",
    [
        225 - 140 * Y,
        225 - 100 * (X + Y) / 2,
        225 - 110 * (X > 0.5),
        225 - 200 * ((Y < 0.1) | (X < 0.05)),
        225 - 60 * (400 * Y % 33 < 2),
    ],
    ids=["slope", "corner", "edge of a shadow", "dark table", "ruled"],
)
def test_the_same_digit_is_found_on_any_paper(paper, dark):
    changed = seven(paper, ink=15.0)
    assert np.abs(ink(changed if dark else 255 - changed) - ink(PLAIN)).mean() < 0.08


def test_dust_is_no_ink():
    values = PLAIN.copy()
    values[20:24, 30:34] = values[380:384, 200:204] = 0
    np.testing.assert_allclose(ink(values), ink(PLAIN), atol=0.02)


def test_what_is_doubtful_is_said():
    assert digit.find(PLAIN).doubts == ()
    two = np.minimum(np.roll(PLAIN, -90, 1), np.roll(PLAIN, 90, 1))
    assert any("more on the picture" in said for said in digit.find(two - 60 * Y).doubts)
    cut = np.roll(PLAIN - 60 * Y, -115, 0)[:250]
    assert any("edge" in said for said in digit.find(cut).doubts)


@pytest.mark.parametrize(
    "values",
    [np.full((50, 70), 200.0), np.full((1, 1), 3.0), 200 - 90 * Y],
    ids=["blank", "a pixel", "light alone"],
)
def test_nothing_is_found_where_nothing_is(values):
    assert digit.find(values) is None
