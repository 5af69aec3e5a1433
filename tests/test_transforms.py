"""Transforms agree with torchvision's, and depend on their generator alone."""

import math

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from deepnets.data.named import DATASETS, FOLDER
from deepnets.transforms import Policy, Transform, affine, cutout, random_matrices, warp

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


@pytest.mark.parametrize("size", [64, 48])
def test_one_matrix_does_what_torchvisions_steps_do(size):
    """Those of the published comparison: a turn, then shear, shift and scale. On smooth images,
    since two samplings blur more than one; away from edges, where black is mixed in once or twice.
    """
    rng = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(2 * [torch.arange(size) / size], indexing="ij")
    inside = (slice(None), *2 * [slice(size // 4, -size // 4)])
    for _ in range(20):
        phase = 6 * torch.rand(4, generator=rng)
        waves = [torch.cos(3 * columns + phase[c]) for c in (1, 2, 3)]
        image = torch.sin(2 * rows + phase[0]) * torch.stack(waves)
        drawn = (torch.rand(5, generator=rng) * 2 - 1).tolist()
        angle, shear, scale = 10 * drawn[0], 10 * drawn[1], 1 + 0.2 * drawn[2]
        shift, flip = [round(0.1 * size * part) for part in drawn[3:]], bool(phase[0] > 3)
        theirs = F.hflip(image) if flip else image
        theirs = F.affine(theirs, angle, [0, 0], 1.0, [0.0], **BILINEAR)
        theirs = F.affine(theirs, 0.0, shift, scale, [shear, 0.0], **BILINEAR)
        ours = warp(image[None], matrix(angle, shear, shift, scale, flip, size), size)[0]
        torch.testing.assert_close(ours[inside], theirs[inside], atol=3e-3, rtol=0)


@pytest.mark.parametrize("size", [64, 48, 33, 32, 20])
def test_resize_is_torchvisions_with_or_without_a_matrix(image, size):
    theirs = F.resize(image, [size, size], antialias=False)
    torch.testing.assert_close(warp(image, None, size), theirs, atol=2e-6, rtol=0)
    torch.testing.assert_close(warp(image, matrix(), size), theirs, atol=2e-5, rtol=0)


def test_a_shift_by_whole_pixels_commutes_with_the_resize(image):
    """The one sampling equals torchvision's two away from the black that comes in."""
    theirs = F.resize(F.affine(image, 0, [4, -2], 1, [0.0]), [64, 64], antialias=False)
    ours = warp(image, matrix(shift=(4.0, -2.0)), 64)
    torch.testing.assert_close(ours[..., 2:-6, 10:-1], theirs[..., 2:-6, 10:-1], atol=2e-5, rtol=0)
    assert not ours[..., :7].any()
    assert not ours[..., -3:, :].any()


@pytest.mark.parametrize("name", STANDARD)
def test_draws_reach_both_ends_of_the_policy_and_do_not_depend_on_each_other(name):
    policy = STANDARD[name]
    matrices = random_matrices(policy, 4000, SIDE, torch.Generator().manual_seed(0)).double()
    mirrored = torch.linalg.det(matrices[:, :, :2]) < 0
    matrices[mirrored, 0] *= -1
    assert mirrored.double().mean() == pytest.approx(0.5 * policy.flip, abs=0.03)
    turn = torch.linalg.inv(matrices[:, :, :2])  # from input to output: the scale times a rotation
    degrees = torch.rad2deg(torch.atan2(turn[:, 1, 0], turn[:, 0, 0]))
    scale, pixels = torch.linalg.det(turn).sqrt(), -(turn @ matrices[:, :, 2:])[:, :, 0] * SIDE / 2
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-4, rtol=0)
    most = round(policy.shift * SIDE)
    drawn = []
    moves = ((degrees, policy.degrees), (scale - 1, policy.scale), *((p, most) for p in pixels.T))
    for values, end in moves:
        drawn += [values / end] if end else []
        assert end or values.abs().max() < 1e-4
    for values in drawn:
        assert (values.min().item(), values.max().item()) == pytest.approx((-1, 1), abs=0.01)
    assert (torch.corrcoef(torch.stack(drawn)) - torch.eye(len(drawn))).abs().max() < 0.06


def test_mnist_is_never_mirrored_and_cifar_moves_by_up_to_four_pixels():
    assert not STANDARD["mnist"].flip
    assert not STANDARD["digits"].flip
    assert STANDARD["cifar10"] == Policy(shift=4 / 32, flip=True)
    assert DATASETS["cifar10"].policy("shift") == Policy(shift=4 / 32)


def test_what_is_drawn_depends_on_the_generator_alone():
    images = torch.randint(0, 256, (16, 3, SIDE, SIDE), dtype=torch.uint8)
    transform = Transform(64, (0.5,) * 3, (0.25,) * 3, STANDARD["cifar10"], 0.5)
    first, again, other = (
        transform(images, transform.draw(16, SIDE, torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.shape, first.dtype) == ((16, 3, 64, 64), torch.float32)


@pytest.mark.parametrize(
    ("policy", "cut", "drawn"),
    [(None, 0.0, 0), (None, 0.5, 1), (Policy(), 0.0, 1), (Policy(), 0.5, 2)],
)
def test_only_what_a_transform_changes_is_drawn(policy, cut, drawn):
    images = torch.full((64, 1, SIDE, SIDE), 255, dtype=torch.uint8)
    transform = Transform(SIDE, (0.5,), (0.5,), policy, cut)
    numbers = transform.draw(64, SIDE, torch.Generator().manual_seed(0))
    assert [len(values) for values in numbers] == [64] * drawn
    assert (transform(images, numbers) == 0).any() == bool(cut)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.1307,), (0.3081,)), ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))]
)
def test_without_draws_images_are_resized_and_normalised_only(mean, std):
    images = torch.randint(0, 256, (4, len(mean), 28, 28), dtype=torch.uint8)
    transform = Transform(28, mean, std, STANDARD["cifar10"], 0.5)
    torch.testing.assert_close(transform(images), v2.Normalize(mean, std)(images / 255))


def test_cutout_blanks_one_square_inside_the_image():
    images = torch.ones(200, 3, 32, 32)
    cut = cutout(images, 0.5, torch.rand(200, 2, generator=torch.Generator().manual_seed(0))) == 0
    assert torch.equal(cut[:, 0], cut[:, 2])
    for mask in cut[:, 0]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None])
        assert 8 <= rows.sum() <= 16
    assert (cut[:, 0].sum((1, 2)) == 256).any()
