"""Transforms agree with torchvision's, and depend on their generator alone."""

import math

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from deepnets.data.named import DATASETS, FOLDER
from deepnets.transforms import Policy, Transform, affine, cutout, random_matrices, warp

SIDE = 32

STANDARD = {name: known.standard for name, known in {**DATASETS, "folder": FOLDER}.items()}


def matrix(angle=0.0, shift=(0.0, 0.0), scale=1.0, flip=False, side=SIDE):
    """One matrix, from degrees and pixels, as torchvision counts them."""
    return affine(
        torch.tensor([math.radians(angle)]),
        torch.zeros(1),
        torch.tensor([scale]),
        torch.tensor([shift]) / side,
        torch.tensor([flip]),
    )


@pytest.fixture(params=[1, 3])
def image(request):
    torch.manual_seed(0)
    return torch.rand(1, request.param, SIDE, SIDE)


@pytest.mark.parametrize("angle", [-10.0, 0.0, 7.5, 90.0])
@pytest.mark.parametrize("shift", [(0, 0), (4, -3)])
@pytest.mark.parametrize("scale", [0.9, 1.0, 1.1])
def test_geometry_is_torchvisions_affine(image, angle, shift, scale):
    theirs = F.affine(
        image, angle, list(shift), scale, [0.0], interpolation=v2.InterpolationMode.BILINEAR
    )
    ours = warp(image, matrix(angle, tuple(map(float, shift)), scale), SIDE)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_flip_is_torchvisions_and_comes_first(image):
    torch.testing.assert_close(
        warp(image, matrix(flip=True), SIDE), F.hflip(image), atol=2e-6, rtol=0
    )
    theirs = F.affine(
        F.hflip(image), 10, [3, 1], 1.1, [0.0], interpolation=v2.InterpolationMode.BILINEAR
    )
    ours = warp(image, matrix(10, (3.0, 1.0), 1.1, True), SIDE)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [64, 48, 33, 32])
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
def test_draws_stay_within_the_policy(name):
    policy = STANDARD[name]
    matrices = random_matrices(policy, 2000, SIDE, torch.Generator().manual_seed(0))
    mirrored = torch.linalg.det(matrices[:, :, :2]) < 0
    assert 0.45 < mirrored.float().mean() < 0.55 if policy.flip else not mirrored.any()
    scale = torch.linalg.det(matrices[:, :, :2]).abs() ** -0.5
    assert (scale - 1).abs().max() <= policy.scale + 1e-5
    if policy.scale:
        assert (scale - 1).abs().max() > 0.95 * policy.scale
    upright = torch.where(mirrored[:, None], matrices[:, 0, :2] * -1, matrices[:, 0, :2])
    degrees = torch.rad2deg(torch.atan2(upright[:, 1], upright[:, 0])).abs()
    assert degrees.max() <= policy.degrees + 1e-4
    if not policy.degrees and not policy.scale:
        pixels = matrices[:, :, 2] * SIDE / 2
        assert torch.equal(pixels.round().abs().max(), torch.tensor(4.0))
        torch.testing.assert_close(pixels, pixels.round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_draws_reach_both_ends_and_do_not_depend_on_each_other(name):
    policy = STANDARD[name]
    matrices = random_matrices(policy, 4000, 28, torch.Generator().manual_seed(0)).double()
    turn = torch.linalg.inv(matrices[:, :, :2])  # from input to output: the scale times a rotation
    degrees, scale = (
        torch.rad2deg(torch.atan2(turn[:, 1, 0], turn[:, 0, 0])),
        torch.linalg.det(turn).sqrt(),
    )
    pixels = -(turn @ matrices[:, :, 2:])[:, :, 0] * 28 / 2
    drawn = [
        degrees / policy.degrees,
        (scale - 1) / policy.scale,
        *(pixels.T / round(policy.shift * 28)),
    ]
    for values in drawn:
        assert (values.min().item(), values.max().item()) == pytest.approx((-1, 1), abs=0.01)
    assert (torch.corrcoef(torch.stack(drawn)) - torch.eye(4)).abs().max() < 0.06


def test_mnist_is_never_mirrored_and_cifar_moves_by_up_to_four_pixels():
    assert not STANDARD["mnist"].flip
    assert not STANDARD["digits"].flip
    assert STANDARD["cifar10"] == Policy(shift=4 / 32, flip=True)


def test_shift_is_the_standard_policy_without_mirror_images():
    assert DATASETS["cifar10"].policy("shift") == Policy(shift=4 / 32)


def test_equal_generators_give_equal_batches_and_others_do_not():
    images = torch.randint(0, 256, (16, 3, SIDE, SIDE), dtype=torch.uint8)
    transform = Transform(64, (0.5,) * 3, (0.25,) * 3, STANDARD["cifar10"], 0.5)

    def changed(seed):
        return transform(images, transform.draw(16, SIDE, torch.Generator().manual_seed(seed)))

    first = changed(1)
    torch.rand(7)  # whatever happens to the global generator
    assert torch.equal(first, changed(1))
    assert not torch.equal(first, changed(2))
    assert first.shape == (16, 3, 64, 64)
    assert first.dtype == torch.float32


@pytest.mark.parametrize(
    ("policy", "cut", "drawn"),
    [(None, 0.0, 0), (None, 0.5, 1), (Policy(), 0.0, 1), (Policy(), 0.5, 2)],
)
def test_only_what_a_transform_changes_is_drawn(policy, cut, drawn):
    images = torch.full((64, 1, SIDE, SIDE), 255, dtype=torch.uint8)
    transform = Transform(SIDE, (0.5,), (0.5,), policy, cut)
    numbers = transform.draw(64, SIDE, torch.Generator().manual_seed(0))
    assert [len(values) for values in numbers] == [64] * drawn
    assert ((transform(images, numbers) == 0).any() > 0) == bool(cut)
    assert torch.equal(transform(images), torch.ones(64, 1, SIDE, SIDE))


def test_without_draws_images_are_resized_and_normalised_only():
    images = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    transform = Transform(28, (0.1307,), (0.3081,), STANDARD["mnist"], 0.5)
    expected = v2.Normalize([0.1307], [0.3081])(images / 255)
    torch.testing.assert_close(transform(images), expected)
    colour, mean, std = images[:3].reshape(1, 3, 28, 28), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    torch.testing.assert_close(
        Transform(28, mean, std)(colour), v2.Normalize(mean, std)(colour / 255)
    )


def test_cutout_blanks_one_square_inside_the_image():
    images = torch.ones(200, 3, 32, 32)
    cut = cutout(images, 0.5, torch.rand(200, 2, generator=torch.Generator().manual_seed(0))) == 0
    assert torch.equal(cut[:, 0], cut[:, 2])
    for mask in cut[:, 0]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None])
        assert 8 <= rows.sum() <= 16
    assert (cut[:, 0].sum((1, 2)) == 256).any()
