"""Transforms agree with torchvision's, and depend on their generator alone."""

import math
from itertools import permutations

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from deepnets import transforms
from deepnets.data.named import DATASETS, FOLDER, JITTERED, TURNED
from deepnets.transforms import Policy, Transform, affine, cutout, random_colours, recolour, warp

SIDE = 32
BILINEAR = {"interpolation": v2.InterpolationMode.BILINEAR}
STANDARD = {name: known.standard for name, known in {**DATASETS, "folder": FOLDER}.items()}


def matrix(angle=0.0, shear=0.0, shift=(0.0, 0.0), scale=1.0, flip=False, side=SIDE):
    """One matrix, from degrees and pixels, as torchvision counts them."""
    turns = (torch.tensor([math.radians(degrees)]) for degrees in (angle, shear))
    return affine(*turns, torch.tensor([scale]), torch.tensor([shift]) / side, torch.tensor([flip]))


@pytest.fixture(params=[1, 3])
def image(request):
    torch.manual_seed(0)
    return torch.rand(1, request.param, SIDE, SIDE)


@pytest.mark.parametrize(
    ("angle", "shear"), [(-10, 0), (0, 0), (7.5, 0), (90, 0), (0, 10), (0, -9)]
)
@pytest.mark.parametrize("shift", [(0, 0), (4, -3)])
@pytest.mark.parametrize("scale", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("flip", [False, True])
def test_geometry_is_torchvisions_flip_and_affine(image, angle, shear, shift, scale, flip):
    theirs = F.hflip(image) if flip else image
    theirs = F.affine(theirs, angle, list(shift), scale, [shear, 0.0], **BILINEAR)
    ours = warp(image, matrix(angle, shear, shift, scale, flip), SIDE)
    torch.testing.assert_close(ours, theirs, atol=5e-5, rtol=0)


@pytest.mark.parametrize(("angle", "shear"), [(10, -8), (-7, 10)])
@pytest.mark.parametrize(("shift", "scale"), [((6, -3), 0.8), ((-4, 5), 1.2)])
@pytest.mark.parametrize("flip", [False, True])
def test_one_matrix_does_what_torchvisions_steps_do(angle, shear, shift, scale, flip):
    """Those of the published comparison: a turn, then shear, shift and scale. On a smooth image,
    since two samplings blur more than one; away from edges, where black is mixed in once or twice.
    """
    rows, columns = torch.meshgrid(2 * [torch.arange(64) / 64], indexing="ij")
    image = torch.stack(
        [torch.sin(2 * rows + k) * torch.cos(3 * columns + 2 * k) for k in range(3)]
    )
    theirs = F.hflip(image) if flip else image
    theirs = F.affine(theirs, angle, [0, 0], 1.0, [0.0], **BILINEAR)
    theirs = F.affine(theirs, 0.0, list(shift), scale, [shear, 0.0], **BILINEAR)
    ours = warp(image[None], matrix(angle, shear, shift, scale, flip, side=64), 64)[0]
    inside = (slice(None), slice(16, -16), slice(16, -16))
    torch.testing.assert_close(ours[inside], theirs[inside], atol=3e-3, rtol=0)


@pytest.mark.parametrize("size", [64, 48, 33, 32, 20])
def test_resize_is_torchvisions_with_or_without_a_matrix(image, size):
    theirs = F.resize(image, [size, size], antialias=False)
    torch.testing.assert_close(warp(image, None, size), theirs, atol=2e-6, rtol=0)
    torch.testing.assert_close(warp(image, matrix(), size), theirs, atol=2e-5, rtol=0)


@pytest.mark.parametrize("policy", [*STANDARD.values(), JITTERED])
def test_draws_reach_both_ends_of_the_policy_and_do_not_depend_on_each_other(policy, spy):
    calls = spy(transforms, "affine")
    transforms.random_matrices(policy, 4000, SIDE, torch.Generator().manual_seed(0))
    [(angle, shear, scale, shift, flip)] = calls
    pixels, most = SIDE * shift.T, round(policy.shift * SIDE)
    assert torch.equal(pixels, pixels.round())
    assert flip.float().mean() == pytest.approx(0.5 * policy.flip, abs=0.03)
    drawn = [flip.float()] if policy.flip else []
    moves = angle.rad2deg(), shear.rad2deg(), scale - 1, *pixels
    ends = policy.degrees, policy.shear, policy.scale, most, most
    for values, end in zip(moves, ends, strict=True):
        wanted = pytest.approx((-end, end), rel=0.01, abs=1e-6)
        assert (values.min().item(), values.max().item()) == wanted
        drawn += [values] if end else []
    assert (torch.corrcoef(torch.stack(drawn)) - torch.eye(len(drawn))).abs().max() < 0.06


def test_digits_are_never_mirrored_and_the_policies_are_the_published_ones():
    assert not STANDARD["mnist"].flip
    assert not STANDARD["digits"].flip
    assert STANDARD["cifar10"] == Policy(shift=4 / 32, flip=True)
    assert DATASETS["cifar10"].policy("shift") == Policy(shift=4 / 32)
    both = {"shift": 0.1, "scale": 0.2, "resized": True}
    assert Policy(degrees=10, shear=10, flip=True, colour=0.2, **both) == JITTERED
    assert Policy(degrees=15, **both) == TURNED
    assert (DATASETS["cifar10"].published, DATASETS["mnist"].published) == (JITTERED, TURNED)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.1307,), (0.3081,)), ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))]
)
def test_without_draws_images_are_resized_and_normalised_only(mean, std):
    images = torch.randint(0, 256, (4, len(mean), 28, 28), dtype=torch.uint8)
    transform = Transform(28, mean, std, STANDARD["cifar10"], 0.5)
    torch.testing.assert_close(transform(images), v2.Normalize(mean, std)(images / 255))
    with pytest.raises(ValueError, match="not 3 axes"):
        transform(images[0])


def test_cutout_blanks_one_square_inside_the_image():
    images = torch.ones(200, 3, 32, 32)
    cut = cutout(images, 0.5, torch.rand(200, 2, generator=torch.Generator().manual_seed(0))) == 0
    assert torch.equal(cut[:, 0], cut[:, 2])
    for mask in cut[:, 0]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None])
        assert 8 <= rows.sum() <= 16
    assert (cut[:, 0].sum((1, 2)) == 256).any()


# --- colours


def test_colours_change_as_torchvisions_image_by_image():
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    order, factors = random_colours(JITTERED, 12, torch.Generator().manual_seed(1))
    ours = recolour(255 * images, order, factors) / 255
    steps = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    for number, theirs in enumerate(images):
        for change, factor in zip(order[number], factors[number].tolist(), strict=True):
            theirs = steps[change](theirs, factor)
        torch.testing.assert_close(ours[number], theirs, atol=1e-5, rtol=0)


def test_colours_are_drawn_within_bounds_in_every_order():
    order, factors = random_colours(JITTERED, 3000, torch.Generator().manual_seed(0))
    ends = pytest.approx((0.8, 1.2), abs=0.002)
    assert all((f.min().item(), f.max().item()) == ends for f in factors.T)
    assert {*map(tuple, order.tolist())} == {*permutations(range(3))}


def test_images_are_recoloured_before_they_are_normalised_and_gray_ones_never():
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=draw)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    transform = Transform(16, mean, std, JITTERED)
    matrices, *colours = transform.draw(8, 16, draw)
    expected = recolour(warp(images.float(), matrices, 16), *colours) / 255
    found = transform(images, [matrices, *colours])
    torch.testing.assert_close(found, v2.Normalize(mean, std)(expected))
    assert len(Transform(16, (0.5,), (0.2,), JITTERED).draw(8, 16, draw)) == 1
