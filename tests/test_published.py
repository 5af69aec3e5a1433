"""The published comparison (Skoularikis 2021): its networks, its two trainings and its augmentation
are what it says.
"""

import math

import pytest
import torch
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from deepnets import data, models, recipes
from deepnets.training.loop import Trainer
from deepnets.transforms import Transform, affine, blends, random_blends, recolour, warp

IMPROVED = ("vgg16_improved", "resnet18_improved", "googlenet_improved")


@pytest.mark.parametrize(
    ("name", "rgb", "gray"),
    [
        ("vgg16_improved", 83_978_314, 83_977_162),
        ("resnet18_improved", 11_247_946, 11_246_794),
        ("googlenet_improved", 5_676_458, 5_675_306),
    ],
)
def test_parameters_are_those_published(name, rgb, gray):
    assert models.count_parameters(models.blueprint(name)) == rgb
    assert models.count_parameters(models.blueprint(name, in_channels=1)) == gray


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        (
            "resnet18_improved",
            {"conv1": (64, 30), "pool1": (64, 15), "conv2_x": (64, 15), "conv5_x": (512, 2)},
        ),
        (
            "googlenet_improved",
            {"conv1": (64, 30), "pool1": (64, 15), "conv2": (192, 15), "inception5b": (1024, 2)},
        ),
        (
            "vgg16_improved",
            {"conv1_2": (64, 64), "pool1": (64, 32), "pool4": (512, 4), "pool5": (512, 2)},
        ),
    ],
)
def test_maps_at_64_pixels(name, stages):
    maps = models.blueprint(name).maps(torch.empty(1, 3, 64, 64, device="meta"))
    assert {stage: tuple(maps[stage].shape[1:]) for stage in stages} == {
        k: (c, s, s) for k, (c, s) in stages.items()
    }


@pytest.mark.parametrize("name", ["resnet18_improved", "googlenet_improved"])
def test_the_stem_is_three_3x3_with_paddings_3_0_0(name):
    x, seen = torch.empty(1, 3, 64, 64, device="meta"), []
    for block in models.blueprint(name).stages.conv1:
        conv, norm, relu = block
        x = block(x)
        seen.append(
            (
                conv.kernel_size,
                conv.stride,
                conv.padding,
                conv.bias,
                norm.eps,
                type(relu),
                x.shape[-1],
            )
        )
    expected = [((2, 2), (3, 3), 34), ((1, 1), (0, 0), 32), ((1, 1), (0, 0), 30)]
    assert seen == [
        ((3, 3), stride, padding, None, 1e-5, nn.ReLU, side) for stride, padding, side in expected
    ]


def test_the_heads():
    vgg = models.blueprint("vgg16_improved")
    linear = [m for m in [*vgg.head.modules(), vgg.classifier] if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [
        (12_800, 4096),
        (4096, 4096),
        (4096, 10),
    ]
    assert [m.p for m in vgg.head if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert [
        m.p for m in models.blueprint("resnet18_improved").classifier if isinstance(m, nn.Dropout)
    ] == [0.1]
    assert models.blueprint("googlenet_improved").stages.conv2[0][1].eps == 1e-3, (
        "nothing else of GoogLeNet changes"
    )
    maps = torch.randn(2, 512, 2, 2)
    theirs = nn.AdaptiveMaxPool2d(5)(maps)
    torch.testing.assert_close(vgg.head[0](maps), theirs, rtol=0, atol=0)


def published_deviation(name, path, module):
    """Of a layer's first weights, as published; torch's default is uniform within 1 /
    sqrt(fan-in).
    """
    fan_in = module.weight[0].numel()
    default = 1 / math.sqrt(3 * fan_in)
    if name.startswith("googlenet"):
        kept = path == "classifier.1" or (
            name == "googlenet_improved" and path.startswith("stages.conv1.")
        )
        return default if kept else 0.01
    if isinstance(module, nn.Conv2d):
        return math.sqrt(2 / (module.out_channels * module.kernel_size[0] ** 2))
    last = path == "classifier" if name.startswith("vgg") else path == "classifier.1"
    return default if last and name not in IMPROVED else 0.01


@pytest.mark.parametrize("name", [*IMPROVED, "vgg16", "resnet18", "googlenet"])
def test_first_weights_layer_by_layer(name):
    torch.manual_seed(0)
    for path, module in models.create(name).named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weights = module.weight.detach().flatten()
            expected = published_deviation(name, path, module)
            tolerance = 5 / math.sqrt(2 * len(weights))  # five standard errors of a deviation
            assert weights.std().item() == pytest.approx(expected, rel=tolerance), path
            assert abs(weights.mean().item()) < 5 * expected / math.sqrt(len(weights)), path
            if module.bias is not None and expected in (
                0.01,
                math.sqrt(2 / (module.weight.shape[0] * 9)),
            ):
                assert not module.bias.any(), path
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()


def theirs_step(image, angle, shear, scale, shift, flip):
    """What torchvision's transforms do to one image (C, H, W), in the published order, each time
    bilinearly.
    """
    image = F.hflip(image) if flip else image
    image = F.affine(image, angle, [0, 0], 1.0, [0.0], interpolation=v2.InterpolationMode.BILINEAR)
    return F.affine(
        image, 0.0, shift, scale, [shear, 0.0], interpolation=v2.InterpolationMode.BILINEAR
    )


@pytest.mark.parametrize("size", [64, 48])
def test_one_matrix_does_what_torchvisions_steps_do(size):
    """On smooth images, since two samplings blur more than one; away from edges, where black is
    mixed in once or twice.
    """
    rng = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(
        torch.arange(size) / size, torch.arange(size) / size, indexing="ij"
    )
    inside = (slice(None), slice(size // 4, -size // 4), slice(size // 4, -size // 4))
    for _ in range(20):
        phase, (angle, shear, grow, *move) = (
            torch.rand(4, generator=rng) * 6,
            (torch.rand(5, generator=rng) * 2 - 1).tolist(),
        )
        image = torch.stack(
            [torch.sin(2 * rows + phase[0]) * torch.cos(3 * columns + phase[c]) for c in (1, 2, 3)]
        )
        angle, shear, scale, flip = 10 * angle, 10 * shear, 1 + 0.2 * grow, bool(phase[0] > 3)
        shift = [round(0.1 * size * part) for part in move]
        ours = affine(
            torch.tensor([math.radians(angle)]), torch.tensor([math.radians(shear)]), torch.tensor([scale]),
            torch.tensor([shift]) / size, torch.tensor([flip]),
        )  # fmt: skip
        theirs = theirs_step(image, angle, shear, scale, shift, flip)
        torch.testing.assert_close(
            warp(image[None], ours, size)[0][inside], theirs[inside], atol=3e-3, rtol=0
        )


def test_the_inverse_matrix_is_torchvisions_for_one_affine_change():
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    for shear, scale, shift in ((10.0, 0.8, [6, -6]), (-10.0, 1.2, [-3, 2]), (4.0, 1.0, [0, 0])):
        theirs = F.affine(
            image, 0.0, shift, scale, [shear, 0.0], interpolation=v2.InterpolationMode.BILINEAR
        )
        ours = affine(
            torch.zeros(1), torch.tensor([math.radians(shear)]), torch.tensor([scale]), torch.tensor([shift]) / 64,
            torch.tensor([False]),
        )  # fmt: skip
        torch.testing.assert_close(warp(image[None], ours, 64)[0], theirs, atol=5e-5, rtol=0)


def test_colours_change_as_torchvisions_image_by_image():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 3, 16, 16, generator=generator)
    factors = 0.8 + 0.4 * torch.rand(3, 12, generator=generator)
    order = torch.rand(12, 3, generator=generator).argsort(1)
    ours = recolour(255 * images, blends(*factors, order)) / 255
    steps = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    for number, theirs in enumerate(images):
        for step in order[number].tolist():
            theirs = steps[step](theirs, factors[step, number].item())
        torch.testing.assert_close(ours[number], theirs, atol=1e-5, rtol=0)


def test_colours_are_drawn_within_bounds_in_every_order():
    steps = random_blends(data.facts("cifar10").published, 3000, torch.Generator().manual_seed(0))
    assert (steps.sum(2) - 1)[steps.sum(2) > 1.3].numel() == 0
    own = steps[:, :, 0]
    assert (own.min().item(), own.max().item()) == pytest.approx((0.8, 1.2), abs=0.002)
    gray, mean = steps[:, :, 1] != 0, steps[:, :, 2] != 0
    kinds = 2 * gray.long() + mean.long()  # 0 brightness, 1 contrast, 2 saturation
    assert (kinds.sort(1).values == torch.tensor([0, 1, 2])).all()
    assert len({tuple(row) for row in kinds.tolist()}) == 6


def test_the_published_policies():
    colour, digits = data.facts("cifar10").published, data.facts("mnist").published
    assert (
        colour.degrees,
        colour.shear,
        colour.shift,
        colour.scale,
        colour.flip,
        colour.colour,
    ) == (10, 10, 0.1, 0.2, True, 0.2)
    assert (
        digits.degrees,
        digits.shear,
        digits.shift,
        digits.scale,
        digits.flip,
        digits.colour,
    ) == (15, 0, 0.1, 0.2, False, 0)
    assert all(one.resized for one in (colour, digits))


def test_images_are_recoloured_before_they_are_normalised_and_gray_ones_never():
    images = torch.randint(
        0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    transform = Transform(16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), data.facts("cifar10").published)
    matrices, steps = transform.draw(8, 16, torch.Generator().manual_seed(1))
    expected = recolour(warp(images.float(), matrices, 16), steps) / 255
    torch.testing.assert_close(
        transform(images, [matrices, steps]),
        v2.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))(expected),
    )
    gray = Transform(16, (0.5,), (0.2,), data.facts("cifar10").published)
    assert len(gray.draw(8, 16, torch.Generator().manual_seed(1))) == 1


@pytest.mark.parametrize("name", ["vanilla", "altered"])
@pytest.mark.parametrize("model", ["resnet18_improved", "vgg16_improved"])
def test_the_recipes_are_torchs(name, model):
    theirs = recipes.get(name, model)
    assert (theirs.epochs, theirs.batch_size, theirs.momentum, theirs.nesterov, theirs.clip) == (
        50,
        128,
        0.9,
        False,
        0,
    )
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.001 if name == "vanilla" else 0.01)
    milestones = [] if name == "vanilla" else [5, 27, 40, 47]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    for epoch in range(50):
        for step in (0, 351):
            ours = theirs.rate((epoch * 352 + step + 0.5) / (50 * 352))
            assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        schedule.step()
    assert theirs.weight_decay == (4e-5 if (name, model) == ("altered", "resnet18_improved") else 0)
    assert theirs.label_smoothing == (0.1 if name == "altered" else 0)
    assert theirs.augment == ("published" if name == "altered" else "none")


@pytest.mark.parametrize("name", ["vanilla", "altered"])
def test_twenty_steps_are_torchs_to_double_precision(name, job, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    doubled = job(recipe=name, limit=64, epochs=5, batch_size=16, augment="none")
    trainer = Trainer(doubled, data.load("digits"), torch.device("cpu"), "fp32", tmp_path)
    network = trainer.network.double()
    trainer.optimizer.state.clear()  # momentum in single precision
    copy = models.create("resnet8", 10, 1).double()
    copy.load_state_dict(network.state_dict())
    decay = 4e-5 if name == "altered" else 0.0
    optimizer = torch.optim.SGD(
        copy.parameters(), 0.01 if name == "altered" else 0.001, momentum=0.9, weight_decay=decay
    )
    # Milestones in steps: 10, 54, 80 and 94 % of 20, where a step counts by its middle.
    milestones = [2, 11, 16, 19] if name == "altered" else []
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1 if name == "altered" else 0.0)
    for step in range(20):
        trainer.epoch, trainer.step = divmod(step, 4)
        trainer.good_steps.fill_(trainer.step)
        index = torch.randperm(64, generator=torch.Generator().manual_seed(step))[:16]
        batch = trainer.train_set[index]
        images = trainer.transform(batch.images)
        assert images.dtype == torch.float64
        optimizer.zero_grad()
        criterion(copy.train()(images), batch.labels).backward()
        optimizer.step()
        schedule.step()
        trainer.train_step(index)
    for ours, theirs in zip(network.parameters(), copy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
