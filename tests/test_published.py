"""The published comparison (Skoularikis 2021): its two trainings and its augmentation are what it
says. Its networks: tests/test_models.py.
"""

import pytest
import torch
from torchvision.transforms.v2 import Normalize
from torchvision.transforms.v2 import functional as F

from deepnets import data, recipes
from deepnets.compare import effects
from deepnets.data.named import JITTERED, TURNED
from deepnets.transforms import Policy, Transform, blends, random_blends, recolour, warp


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
    steps = random_blends(JITTERED, 3000, torch.Generator().manual_seed(0))
    own = steps[:, :, 0]
    assert (own.min().item(), own.max().item()) == pytest.approx((0.8, 1.2), abs=0.002)
    gray, mean = steps[:, :, 1] != 0, steps[:, :, 2] != 0
    kinds = 2 * gray.long() + mean.long()  # 0 brightness, 1 contrast, 2 saturation
    assert (kinds.sort(1).values == torch.tensor([0, 1, 2])).all()
    assert len({tuple(row) for row in kinds.tolist()}) == 6


def test_the_published_policies():
    both = {"shift": 0.1, "scale": 0.2, "resized": True}
    assert Policy(degrees=10, shear=10, flip=True, colour=0.2, **both) == JITTERED
    assert Policy(degrees=15, **both) == TURNED
    assert (data.facts("cifar10").published, data.facts("mnist").published) == (JITTERED, TURNED)


def test_images_are_recoloured_before_they_are_normalised_and_gray_ones_never():
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=draw)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    transform = Transform(16, mean, std, JITTERED)
    matrices, steps = transform.draw(8, 16, draw)
    expected = recolour(warp(images.float(), matrices, 16), steps) / 255
    found = transform(images, [matrices, steps])
    torch.testing.assert_close(found, Normalize(mean, std)(expected))
    assert len(Transform(16, (0.5,), (0.2,), JITTERED).draw(8, 16, draw)) == 1


def test_the_published_accuracies():
    """Of the original and of the improved network, in per cent."""
    table = {
        "cifar10": {
            "vgg16": (75.98, 79.02),
            "resnet18": (65.53, 81.87),
            "googlenet": (83.15, 85.85),
        },
        "mnist": {"vgg16": (99.19, 99.65), "resnet18": (98.99, 99.63), "googlenet": (99.51, 99.65)},
    }
    told = {(d, f"{name}_improved"): ends for d, row in table.items() for name, ends in row.items()}
    found = {place: [100 * share for share in ends] for place, ends in effects.PUBLISHED.items()}
    assert found == {place: pytest.approx(ends) for place, ends in told.items()}


@pytest.mark.parametrize(
    ("name", "model", "fields", "rate", "milestones"),
    [
        ("vanilla", "resnet18", {}, 0.001, []),
        ("vanilla", "vgg16_improved", {}, 0.001, []),
        ("altered", "resnet18_improved", {"weight_decay": 4e-5}, 0.01, [5, 27, 40, 47]),
        ("altered", "vgg16_improved", {}, 0.01, [5, 27, 40, 47]),
    ],
)
def test_the_recipes_are_torchs(name, model, fields, rate, milestones):
    ours = recipes.get(name, model)
    if name == "altered":
        fields = fields | {"label_smoothing": 0.1, "augment": "published", "decay_all": True}
        fields |= {"schedule": "steps", "milestones": ours.milestones}
    assert ours == recipes.Recipe(name, learning_rate=rate, epochs=50, **fields)
    assert (ours.batch_size, ours.momentum, ours.nesterov, ours.clip) == (128, 0.9, False, 0)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=rate)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    for epoch in range(50):
        for step in (0, 351):
            found = ours.rate((epoch * 352 + step + 0.5) / (50 * 352))
            assert found == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        schedule.step()
