"""A training is a function of its job: not of interruptions, other random numbers, evaluations or
earlier failures. Kills: test_fuzz.py.
"""

import json
import random
import signal
from collections import deque
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz import same
from safetensors.torch import load_file
from test_steps import trainer_of
from torch.nn import functional as F

from deepnets import data, evaluation, metrics, models, predict, recipes, runs
from deepnets.data import Dataset, Images
from deepnets.errors import UserError
from deepnets.info import Info
from deepnets.training import Diverged, Job, OutOfTime, checkpoint, fit, hardware, session
from deepnets.training.interrupts import interruptions
from deepnets.training.loop import Trainer
from deepnets.transforms import Transform

QUIET = {"verbose": False, "device": "cpu", "precision": "fp32"}
AUTO = QUIET | {"precision": "auto"}
CPU = torch.device("cpu")


def stopped(settings, out, **how):
    """Trains for one step; returns the checkpoint."""
    with pytest.raises(OutOfTime):
        fit(settings, out, stop=lambda: True, **QUIET | how)
    return runs.partial_folder(out / settings.folder) / "checkpoint.pt"


@pytest.fixture
def after_step(monkeypatch):
    """Has a function of the trainer be called after every step."""
    step = Trainer.train_step

    def install(act):
        monkeypatch.setattr(Trainer, "train_step", lambda *given: (step(*given), act(given[0])))

    return install


def test_a_run_holds_what_the_contract_says_and_agrees_with_itself(job, tmp_path):
    torch.set_float32_matmul_precision("high")
    run = fit(job(), tmp_path, **QUIET)
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.deterministic
    assert run.path == tmp_path / "digits" / "resnet8" / "tuned" / "seed0"
    files = {"run.json", "history.csv", "test.npz", "views.npz", "logits.npy", "model.safetensors"}
    assert {path.name for path in run.path.iterdir()} == files
    (plain := tmp_path / "plain").touch()
    readable = plain.stat().st_mode  # as the umask says
    assert {path.stat().st_mode for path in run.path.iterdir()} == {readable}
    assert not list(tmp_path.rglob("*.partial"))
    assert (run.path / "views.npz").stat().st_size < 60_000
    text, odd = (run.path / "run.json").read_text(), pytest.fail  # NaN is not JSON
    assert json.loads(text, parse_constant=odd) == run.info.values()
    assert run.info.values().keys() == {field.name for field in fields(Info)}
    assert list(run.history.columns) == list(runs.HISTORY)
    assert (run.info.device_type, run.info.recipe) == ("cpu", job().recipe)
    assert run.info.parameters == models.count_parameters(models.blueprint("resnet8", 10, 1))
    assert len(run.info.commit.removesuffix("-dirty")) == 40 or run.info.commit == "unknown"
    dataset = data.load("digits")
    assert run.info.data_sha256 == dataset.sha256
    assert run.info.split_sha256 == dataset.split(0, 60)[2]
    assert np.array_equal(run.test["labels"], dataset.test.labels.numpy())


def test_the_test_images_are_looked_at_once_by_the_average_and_in_a_mirror(job, tmp_path, spy):
    """As all looks after the training are; the temperature is fitted on validation images."""
    looks, fits = spy(evaluation.Predictor, "__call__"), spy(metrics, "fit_temperature")
    trainer = trainer_of(job, folder=tmp_path, recipe="best", dataset="folder:x")
    trainer.train()
    session.finish(trainer, tmp_path)
    parts = {"test": trainer.dataset.test, "validation": trainer.validation_set}
    seen = [
        (predictor.flip, [name for name, part in parts.items() if torch.equal(images, part.images)])
        for predictor, images in looks
    ]
    # Blur changes nothing of 8 pixels
    noise, blur, contrast = [], ["test"], []
    after = ["test"], ["validation"], noise, blur, contrast
    assert seen == [(False, ["validation"])] * 2 + [(True, found) for found in after]
    assert [labels.tolist() for _, labels in fits] == [trainer.validation_set.labels.tolist()]
    kept, wanted = load_file(tmp_path / "model.safetensors"), trainer.evaluated.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in wanted.items())
    assert not all(map(torch.equal, trainer.network.parameters(), trainer.evaluated.parameters()))


def test_a_channel_that_tells_nothing_is_refused(job, tmp_path):
    red = torch.randint(0, 256, (80, 3, 16, 16), dtype=torch.uint8)
    red[:, 1:] = 0
    part = Images(red, torch.arange(80) % 10)
    with pytest.raises(UserError, match="or one channel is"):
        Trainer(job(), Dataset("red", "", (*"0123456789",), part, part, ""), CPU, "fp32", tmp_path)


def test_a_finished_run_is_reported_and_another_one_refused(job, tmp_path):
    run = fit(job(), tmp_path, **QUIET)
    for name in ("checkpoint.pt", "checkpoint.pt.part", "lock"):
        (run.path / name).write_text("what a kill left")
    before = {path: path.stat().st_mtime_ns for path in run.path.iterdir()}
    for how in (QUIET, AUTO):
        assert fit(job(), tmp_path, **how).info == run.info
    after = {path: path.stat().st_mtime_ns for path in run.path.iterdir()}
    assert len(after) == len(before) - 3
    assert after.items() <= before.items()
    with pytest.raises(UserError, match=r"another training's .epochs 2, not 3"):
        fit(job(epochs=3), tmp_path, **QUIET)
    with pytest.raises(UserError, match=r"another training's .precision 'fp32', not 'bf16'"):
        fit(job(), tmp_path, **QUIET | {"precision": "bf16"})


def test_equal_jobs_give_equal_runs_whatever_else_draws_random_numbers(job, tmp_path, after_step):
    """And the caller's random numbers are left alone."""
    settings = job(model="resnet18_improved")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = fit(settings, tmp_path / "a", **QUIET)
    assert torch.equal(torch.rand(3), expected)

    def meddle(trainer):
        torch.rand(3)
        random.random()
        if trainer.step == 1:
            trainer.logits(trainer.validation_set.images)

    after_step(meddle)
    torch.manual_seed(2)
    same(first, fit(settings, tmp_path / "b", **QUIET))


def test_losses_are_means_over_images(job, tmp_path):
    """At a rate of zero, without dropout and batch norm, an epoch in unequal batches is one look at
    all images. That the loss stays at chance level is said.
    """
    fixed = {"limit": 61, "input_size": 64, "learning_rate": 0.0, "epochs": 1}
    run = fit(job("alexnet", "vanilla", options={"dropout": 0.0}, **fixed), tmp_path, **QUIET)
    train, validation, _ = data.load("digits").split(0, 61)
    transform = Transform(64, tuple(run.info.mean), tuple(run.info.std))
    for part, name in ((train, "train"), (validation, "val")):
        with torch.no_grad():
            logits = predict.load_network(run)(transform(part.images))
        loss = F.cross_entropy(logits, part.labels).item()
        assert run.history[f"{name}_loss"][0] == pytest.approx(loss, rel=1e-5)
        accuracy = (logits.argmax(1) == part.labels).float().mean().item()
        assert run.history[f"{name}_accuracy"][0] == pytest.approx(accuracy, abs=1e-6)
    plateau, guesses = run.info.warnings
    assert plateau == "chance-level plateau: the loss stayed at ln 10 = 2.3026"
    assert guesses.startswith("not better than guessing: always saying '")
    assert fit(job(epochs=3), tmp_path, **QUIET).info.warnings == []


# --- what stops a training


@pytest.mark.parametrize("step", [0, 3])
def test_a_divergence_is_no_run_and_does_not_block_a_lower_rate(job, tmp_path, after_step, step):
    """There is a checkpoint. After the last step of an epoch only the validation loss tells."""

    def spoil(trainer):
        if (trainer.epoch, trainer.step) == (1, step) and trainer.recipe.learning_rate > 0.01:
            trainer.network.classifier[1].weight.data.fill_(float("inf"))

    after_step(spoil)
    with pytest.raises(Diverged, match="not finite in epoch 2"):
        fit(job(), tmp_path, checkpoint_seconds=0, **QUIET)
    assert not list(tmp_path.rglob("*.partial"))
    assert fit(job(learning_rate=0.01), tmp_path, **QUIET).info.epochs == 2


def test_a_loss_that_is_not_finite_stops_before_the_update(job, tmp_path, after_step):
    seen = deque(maxlen=2)
    after_step(lambda trainer: seen.append([p.clone() for p in trainer.network.parameters()]))
    fast = {"limit": 40, "input_size": 64, "learning_rate": 1e6, "epochs": 9}
    with pytest.raises(Diverged, match="not finite in epoch"):
        fit(job("alexnet", "vanilla", **fast), tmp_path, **QUIET)
    torch.testing.assert_close(*seen, rtol=0, atol=0, equal_nan=True)


def test_a_run_names_every_program_that_trained_a_part_of_it(job, tmp_path, monkeypatch):
    now = hardware.versions()
    for commit, torch_version in (("first", "1.0"), ("second", now["torch"])):
        monkeypatch.setenv("DEEPNETS_COMMIT", commit)
        versions = now | {"torch": torch_version}
        monkeypatch.setattr(hardware, "versions", lambda versions=versions: versions)
        stopped(job(), tmp_path)
        stopped(job(), tmp_path)
    run = fit(job(), tmp_path, **QUIET)
    assert (run.info.commit, run.info.versions) == ("second", now)
    assert [by["commit"] for by in run.info.made_by] == ["first", "second"]
    assert run.info.warnings[:1] == ["begun with torch 1.0"]


@pytest.mark.parametrize(("first", "then", "kept"), [(1.1, 2.0, "fp32"), (1.2, 0.5, "bf16")])
def test_a_training_is_continued_in_the_precision_and_by_the_threads_that_began_it(
    job, tmp_path, monkeypatch, first, then, kept
):
    torch.set_num_threads(3)
    monkeypatch.setattr(hardware, "bf16_speedup", lambda: first)
    whole = fit(job(), tmp_path / "whole", **AUTO)
    stopped(job(), tmp_path / "parts", **AUTO)
    torch.set_num_threads(1)  # as all tests
    monkeypatch.setattr(hardware, "bf16_speedup", lambda: then)
    other = QUIET | {"precision": "bf16" if kept == "fp32" else "fp32"}
    with pytest.raises(UserError, match=r"another training.s .precision"):
        fit(job(), tmp_path / "parts", **other)
    run = fit(job(), tmp_path / "parts", **AUTO)
    assert (run.info.precision, run.info.threads) == (kept, 3)
    assert torch.get_num_threads() == 1
    same(whole, run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_training_at_a_checkpoint(job, tmp_path, after_step, number):
    asked, handler = [], signal.getsignal(number)

    def ask(trainer):
        if not asked:
            asked.append(signal.raise_signal(number))

    after_step(ask)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as error:
        fit(job(), tmp_path / "a", **QUIET)
    assert getattr(error.value, "code", 130) == 128 + number
    assert signal.getsignal(number) is handler
    work = runs.partial_folder(tmp_path / "a" / job().folder)
    state = checkpoint.load(work / "checkpoint.pt")
    assert (state["epoch"], state["step"]) == (0, 1)
    same(fit(job(), tmp_path / "b", **QUIET), fit(job(), tmp_path / "a", **QUIET))


def test_a_signal_acts_at_once_while_another_process_has_the_run(job, tmp_path, monkeypatch):
    monkeypatch.setattr("filelock.FileLock.acquire", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit(job(), tmp_path, **QUIET)


def test_under_nohup_a_closed_terminal_stops_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruptions(lambda: False) as asked:
        signal.raise_signal(signal.SIGHUP)
        assert asked() is None
    signal.signal(signal.SIGHUP, before)


def test_an_interruption_at_the_very_end_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt), interruptions(lambda: False):
        signal.raise_signal(signal.SIGINT)


# --- every network learns

QUICK = (("resnet20", 1), ("resnet18_improved", 3), ("googlenet_improved", 1))


@pytest.mark.parametrize(
    ("name", "channels"),
    [*QUICK, *(pytest.param(name, channels, marks=pytest.mark.slow)
               for name in models.names() for channels in (1, 3) if (name, channels) not in QUICK)],
)  # fmt: skip
def test_every_network_overfits_64_images(name, channels):
    """Under its tuned recipe without augmentation."""
    size, most = (64, 240) if name.startswith("alexnet") else (32, 120)
    digits = data.load("digits")
    kept = digits.train[torch.arange(100)]
    images = Images(kept.images.expand(-1, channels, -1, -1).contiguous(), kept.labels)
    dataset = Dataset("digits", "Digits", digits.classes, images, images, "")
    # three times that suits batches of 128, not of 16
    changes = {"learning_rate": min(0.1, recipes.get("tuned", name).learning_rate)}
    changes |= {"epochs": most, "batch_size": 16, "augment": "none"}
    recipe, accuracy = recipes.get("tuned", name, **changes), 0.0
    with torch.random.fork_rng():
        job = Job(name, "digits", recipe, limit=64, input_size=size)
        trainer = Trainer(job, dataset, CPU, "fp32", Path())
        while trainer.epoch < recipe.epochs and accuracy <= 0.95:
            trainer.train_epoch()
            trainer.epoch, trainer.step = trainer.epoch + 1, 0
            logits = trainer.logits(trainer.train_set.images)
            accuracy = (logits.argmax(1) == trainer.train_set.labels).float().mean().item()
    print(f"{name}, {channels} channels: {accuracy:.1%} after {trainer.epoch} epochs", flush=True)
    assert accuracy > 0.95
