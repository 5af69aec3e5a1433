"""What a step of a training is: what it sees, at which rate, what its random draws depend on; and
what is evaluated.
"""

import copy
import itertools
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from deepnets import data, evaluation, models
from deepnets.data import Dataset
from deepnets.training import session
from deepnets.training.loop import Trainer
from deepnets.transforms import Transform

CPU = torch.device("cpu")


def trainer_of(job, **fields):
    trainer = Trainer(job(**fields), data.load("digits"), CPU, "fp32", Path())
    trainer.save = lambda: None  # there is no folder for checkpoints
    return trainer


def named(name):
    """The digits under the name of another dataset."""
    digits = data.load("digits")
    return Dataset(name, "A title", digits.classes, digits.train, digits.test, "")


def watched(trainer, epochs):
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


@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_an_epoch_is_that_of_the_textbook_loop(job, clip):
    """Smoothing, decay, Nesterov's momentum, and a bound on the gradient that binds at every step
    or at none.
    """
    trainer = trainer_of(job, clip=clip, augment="none", epochs=1)
    network, recipe, step = (
        copy.deepcopy(trainer.network).train(),
        trainer.recipe,
        trainer.train_step,
    )
    weights, others = (
        [p for p in network.parameters() if (p.ndim > 1) == several] for several in (True, False)
    )
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others}]
    optimizer = torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov)
    norms = []

    def both(index):
        batch = trainer.train_set[index]
        loss = F.cross_entropy(
            network(trainer.transform(batch.images)),
            batch.labels,
            label_smoothing=recipe.label_smoothing,
        )
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip))
        for group in optimizer.param_groups:
            group["lr"] = trainer.rate(trainer.step)
        optimizer.step()
        step(index)

    trainer.train_step = both
    trainer.train_epoch()
    assert min(norms) > recipe.clip or max(norms) < recipe.clip
    for ours, theirs in zip(trainer.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_rate_of_every_step_is_the_schedules(job):
    trainer = trainer_of(job, recipe="best", epochs=5, warmup=0.25)
    rates, step = [], trainer.optimizer.step
    trainer.optimizer.step = lambda: (
        rates.append([group["lr"] for group in trainer.optimizer.param_groups]),
        step(),
    )
    trainer.train()
    # 60 images in batches of 15, five times
    expected = [trainer.recipe.rate((done + 0.5) / 20) for done in range(20)]
    assert rates == [pytest.approx([rate] * 2) for rate in expected]
    assert trainer.history[-1]["learning_rate"] == rates[-1][0]


@pytest.mark.parametrize(
    ("augment", "cut"),
    [("none", 0.0), ("standard", 0.0), ("published", 0.0), ("none", 0.5), ("standard", 0.5)],
)
def test_the_network_sees_what_the_recipe_says(job, augment, cut):
    trainer = trainer_of(job, augment=augment, cutout=cut)
    indices, inputs, _ = watched(trainer, 1)
    seen, plain = torch.cat(inputs), trainer.transform(trainer.train_set[torch.cat(indices)].images)
    changed = (seen != plain).flatten(1).any(1).float().mean()
    assert changed > 0.9 if augment != "none" or cut else changed == 0
    assert (seen == 0).flatten(1).sum(1).min() >= (16 if cut else 0), (
        "a quarter of the square's 8x8 pixels at least"
    )
    assert cut or not (seen == 0).any()


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10", "folder:somewhere"])
def test_images_are_changed_as_is_right_for_their_dataset(job, name):
    trainer = Trainer(job(dataset=name), named(name), CPU, "fp32", Path())
    assert trainer.transform.policy == data.facts(name).standard


def test_mean_and_deviation_are_of_the_training_images_alone(job):
    trainer = trainer_of(job)
    assert (trainer.transform.mean, trainer.transform.std) == data.statistics(
        trainer.train_set.images
    )


def test_a_seed_decides_everything_and_every_epoch_and_step_draws_anew(job, monkeypatch):
    drawn, draw = [], Transform.draw
    monkeypatch.setattr(
        Transform, "draw", lambda *given: (drawn.append((found := draw(*given))[0]), found)[1]
    )
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
    for values in (orders, masks, drawn):
        assert not [pair for pair in itertools.combinations(values, 2) if torch.equal(*pair)]


def test_bf16_is_what_is_computed(job):
    trainer, seen = Trainer(job(), data.load("digits"), CPU, "bf16", Path()), []
    trainer.network.classifier.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    trainer.train_step(torch.arange(8))
    trainer.logits(trainer.validation_set.images)
    assert seen == [torch.bfloat16] * 2


def test_the_running_average_is_of_weights_and_statistics(job):
    trainer = trainer_of(job, recipe="best", average=0.3)
    mean = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    step, done = trainer.train_step, []

    def watch(index):
        step(index)
        weight = 1 - min(0.3, (1 + len(done)) / (10 + len(done)))
        done.append(1)
        for name, now in trainer.network.state_dict().items():
            mean[name] = mean[name].lerp(now, weight) if now.is_floating_point() else now.clone()

    trainer.train_step = watch
    trainer.train()
    assert len(done) > 4, "its own decay counts from the fourth step on"
    for name, value in trainer.evaluated.state_dict().items():
        torch.testing.assert_close(value, mean[name])


def test_mirror_images_count_for_a_half():
    torch.manual_seed(0)
    network, transform = (
        models.create("resnet8").eval(),
        Transform(16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
    )
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)

    def logits(images, flip):
        return evaluation.Predictor(network, transform, "fp32", flip)(images)[1]

    torch.testing.assert_close(
        logits(images, True), (logits(images, False) + logits(images.flip(-1), False)) / 2
    )


def test_mirror_images_count_in_every_look_after_the_training(job, tmp_path, monkeypatch):
    asked, call = [], evaluation.Predictor.__call__
    monkeypatch.setattr(
        evaluation.Predictor,
        "__call__",
        lambda self, images: (asked.append(self.flip), call(self, images))[1],
    )
    trainer = Trainer(
        job(recipe="best", dataset="folder:x"), named("folder:x"), CPU, "fp32", tmp_path
    )
    trainer.train()
    session.finish(trainer, tmp_path)
    assert asked == [False] * 2 + [True] * 5, (
        "two epochs; test, validation for the temperature, three corruptions"
    )
