"""What a step of a training is: what it sees, at which rate, what its random draws depend on; and
what is evaluated.
"""

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import deepnets
from deepnets import data, evaluation, transforms
from deepnets.data import Dataset
from deepnets.training.loop import Trainer

CPU = torch.device("cpu")


def trainer_of(job, precision="fp32", folder=Path(), **fields):
    """A trainer on the digits, under whatever name of a dataset."""
    settings, digits = job(**fields), data.load("digits")
    named = Dataset(settings.dataset, "", digits.classes, digits.train, digits.test, "")
    trainer = Trainer(settings, named, CPU, precision, folder)
    trainer.save = lambda: None  # there may be no folder for checkpoints
    return trainer


def watched(trainer, epochs=1):
    """Lists with an item a step: the images' indices, what the network is given, and what dropout
    leaves of fifty ones.
    """
    steps, step = [], trainer.train_step

    def look(module, inputs):
        if module.training:
            steps[-1] += (inputs[0].clone(), F.dropout(torch.ones(50)))

    trainer.network.register_forward_pre_hook(look)
    trainer.train_step = lambda index: (steps.append((index,)), step(index))
    for _ in range(epochs):
        trainer.train_epoch()
        trainer.epoch, trainer.step = trainer.epoch + 1, 0
    return [list(values) for values in zip(*steps, strict=True)]


def floats(network):
    return {k: v.clone() for k, v in network.state_dict().items() if v.is_floating_point()}


@pytest.mark.parametrize(
    ("recipe", "clip"), [("vanilla", 0.0), ("altered", 0.0), ("tuned", 0.5), ("best", 1e6)]
)
def test_steps_are_those_of_the_textbook_loop(job, monkeypatch, recipe, clip):
    """Smoothing, decay of some or all weights, Nesterov's momentum, the schedule's rates, a bound
    on the gradient that binds at every step or at none, and the running average of weights and
    statistics. To double precision, and further, where nothing is bound.
    """
    if not clip:
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    fields = {"clip": clip, "augment": "none", "cutout": 0.0, "epochs": 5}
    fields |= {"average": 0.3} if recipe == "best" else {}
    trainer = trainer_of(job, recipe=recipe, **fields)
    if not clip:
        trainer.network.double()
    network, recipe = copy.deepcopy(trainer.network).train(), trainer.recipe
    groups = [
        {
            "params": [p for p in network.parameters() if (p.ndim > 1) == several],
            "weight_decay": recipe.weight_decay if several or recipe.decay_all else 0.0,
        }
        for several in (True, False)
    ]
    optimizer = torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    norms, step, mean = [], trainer.train_step, floats(network)

    def both(index):
        batch, done = trainer.train_set[index], len(norms)
        optimizer.zero_grad()
        criterion(network(trainer.transform(batch.images)), batch.labels).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(network.parameters(), clip or math.inf))
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate((done + 0.5) / 20)  # 60 images in batches of 15, five times
        optimizer.step()
        step(index)
        for name, now in floats(network).items():  # its own decay counts from the fourth step on
            weight = 1 - min(recipe.average, (1 + done) / (10 + done))
            mean[name] = mean[name].lerp(now, weight)

    trainer.train_step = both
    for epoch in range(1 if clip else 5):
        trainer.epoch, trainer.step = epoch, 0
        trainer.train_epoch()
    assert not clip or min(norms) > clip or max(norms) < clip
    close = {"rtol": 1e-4, "atol": 1e-5} if clip else {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(floats(trainer.network), floats(network), **close)
    torch.testing.assert_close(floats(trainer.evaluated), mean, **close)


@pytest.mark.parametrize(
    ("augment", "cut"),
    [("none", 0.0), ("standard", 0.0), ("published", 0.0), ("none", 0.5), ("standard", 0.5)],
)
def test_the_network_sees_what_the_recipe_says(job, augment, cut):
    trainer = trainer_of(job, augment=augment, cutout=cut)
    indices, inputs, _ = watched(trainer)
    seen, plain = torch.cat(inputs), trainer.transform(trainer.train_set[torch.cat(indices)].images)
    changed = (seen != plain).flatten(1).any(1).float().mean()
    assert changed > 0.9 if augment != "none" or cut else changed == 0
    black = (seen == 0).flatten(1).sum(1)  # of a square of 8x8 pixels a quarter at least
    assert black.min() >= 16 if cut else not black.any()


def test_the_last_batch_is_never_a_single_image(job):
    indices, *_ = watched(trainer_of(job, limit=33))
    assert [len(index) for index in indices] == [11, 11, 11]


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10", "folder:somewhere"])
def test_images_are_changed_as_is_right_for_their_dataset(job, name):
    assert trainer_of(job, dataset=name).transform.policy == data.facts(name).standard


def test_mean_and_deviation_are_of_the_training_images_alone(job):
    trainer = trainer_of(job)
    found = trainer.transform.mean, trainer.transform.std
    assert found == data.statistics(trainer.train_set.images)


def test_a_seed_decides_everything_and_every_epoch_and_step_draws_anew(job, spy):
    turns = spy(transforms, "affine")
    first, other = trainers = [trainer_of(job, seed=seed) for seed in (0, 1)]
    assert first.split_sha256 != other.split_sha256
    weights = [[p for p in trainer.network.parameters() if p.ndim > 1] for trainer in trainers]
    assert not any(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    orders, masks = [], []
    for trainer in trainers:
        indices, _, left = watched(trainer, 2)
        orders += [torch.cat(indices[:4]), torch.cat(indices[4:])]
        masks += left
    assert all(order.sort().values.tolist() == list(range(60)) for order in orders)
    for values in (orders, masks, [angles for angles, *_ in turns]):
        assert not [pair for pair in itertools.combinations(values, 2) if torch.equal(*pair)]


@pytest.mark.parametrize(("name", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_precision_is_what_is_computed_in(job, name, kind):
    trainer, seen = trainer_of(job, name), []
    classifier = trainer.network.classifier
    classifier.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    trainer.train_step(torch.arange(8))
    trainer.logits(trainer.validation_set.images)
    assert seen == [kind] * 2


def test_mirror_images_count_for_a_half(finished):
    (network, _, transform), images = deepnets.load(finished.path), data.load("digits").test.images

    def logits(images, flip):
        return evaluation.Predictor(network, transform, "fp32", flip)(images)[1]

    mean = (logits(images, False) + logits(images.flip(-1), False)) / 2
    torch.testing.assert_close(logits(images, True), mean)
