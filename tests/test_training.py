"""A training is a function of its job: not of interruptions, other random numbers, evaluations or
earlier failures.
"""

import errno
import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import random
import signal
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from deepnets import data, evaluation, metrics, models, predict, recipes, runs
from deepnets.data import Dataset, Images
from deepnets.errors import UserError
from deepnets.info import Info
from deepnets.training import Diverged, Job, OutOfTime, checkpoint, fit, hardware, session
from deepnets.training.folder import complete, working_folder
from deepnets.training.loop import Trainer
from deepnets.transforms import Transform

QUIET = {"verbose": False, "device": "cpu", "precision": "fp32"}
AUTO = QUIET | {"precision": "auto"}
AT_ONCE = {"stop": lambda: True}  # stop after a step
CPU = torch.device("cpu")


def same(first, second):
    """Weights, logits and history of two runs are equal bit for bit (but for the time it took)."""
    for name, value in load_file(first.path / "model.safetensors").items():
        assert torch.equal(value, load_file(second.path / "model.safetensors")[name]), name
    assert np.array_equal(np.load(first.path / "logits.npy"), np.load(second.path / "logits.npy"))
    assert first.history.drop(columns="seconds").equals(second.history.drop(columns="seconds"))


def stopped(settings, out, **how):
    """Trains for one step; returns the checkpoint."""
    with pytest.raises(OutOfTime):
        fit(settings, out, **AT_ONCE, **QUIET | how)
    return runs.partial_folder(out / settings.folder) / "checkpoint.pt"


@pytest.fixture
def before_step(monkeypatch):
    """Has a function of the trainer be called before every step."""
    step = Trainer.train_step

    def install(act):
        def acting(trainer, index):
            act(trainer)
            step(trainer, index)

        monkeypatch.setattr(Trainer, "train_step", acting)

    return install


def test_a_run_holds_what_the_contract_says_and_agrees_with_itself(job, tmp_path):
    run = fit(job(), tmp_path, **QUIET)
    assert run.path == tmp_path / "digits" / "resnet8" / "tuned" / "seed0"
    files = {"run.json", "history.csv", "test.npz", "views.npz", "logits.npy", "model.safetensors"}
    assert {path.name for path in run.path.iterdir()} == files
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
    assert run.info.test_total == len(dataset.test)
    assert run.correct.sum() == run.info.test_correct


def test_whatever_trains_or_evaluates_sets_its_process_up(job, tmp_path, monkeypatch):
    def evaluate():
        predict.evaluate(fit(job(epochs=1), tmp_path, **QUIET), device="cpu", precision="fp32")

    for act in (lambda: fit(job(epochs=1), tmp_path, **QUIET), evaluate):
        hardware.set_up(torch.device("cuda"))
        assert torch.get_float32_matmul_precision() == "high"
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
        act()
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.cudnn.deterministic


def test_the_test_images_are_looked_at_once_and_the_temperature_is_not_fitted_on_them(
    job, tmp_path, monkeypatch
):
    seen, fitted = [], []
    call, fit_temperature = evaluation.Predictor.__call__, metrics.fit_temperature

    def look(predictor, images):
        seen.append(images)
        return call(predictor, images)

    def note(logits, labels):
        fitted.append(labels.tolist())
        return fit_temperature(logits, labels)

    monkeypatch.setattr(evaluation.Predictor, "__call__", look)
    monkeypatch.setattr(metrics, "fit_temperature", note)
    fit(job(epochs=3), tmp_path, **QUIET)
    dataset = data.load("digits")
    _, validation, _ = dataset.split(0, 60)
    assert all(torch.equal(images, validation.images) for images in seen[:3]), "one look an epoch"
    tested = [torch.equal(images, dataset.test.images) for images in seen[3:]]
    # Of the test images, validation, noise, blur (which changes nothing of 8 pixels) and contrast
    assert [tested[i] for i in (0, 1, 2, 4)] == [True, False, False, False]
    assert len(tested) == 5
    assert fitted == [validation.labels.tolist()]


def test_a_channel_that_tells_nothing_is_refused(job, tmp_path):
    red = torch.randint(0, 256, (80, 3, 16, 16), dtype=torch.uint8)
    red[:, 1:] = 0
    part = Images(red, torch.arange(80) % 10)
    with pytest.raises(UserError, match="or one channel is"):
        Trainer(job(), Dataset("red", "", (*"0123456789",), part, part, ""), CPU, "fp32", tmp_path)


def test_a_copy_without_history_says_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "__file__", str(tmp_path / "deepnets" / "hardware.py"))
    assert hardware.commit() == "unknown"
    monkeypatch.setenv("DEEPNETS_COMMIT", "0123abc")
    assert hardware.commit() == "0123abc"


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


def test_equal_jobs_give_equal_runs_whatever_else_draws_random_numbers(job, tmp_path, before_step):
    torch.manual_seed(1)
    first = fit(job(model="resnet18_improved"), tmp_path / "a", **QUIET)

    def meddle(trainer):
        torch.rand(3)
        random.random()
        if trainer.step == 1:
            trainer.logits(trainer.validation_set.images)

    before_step(meddle)
    torch.manual_seed(2)
    same(first, fit(job(model="resnet18_improved"), tmp_path / "b", **QUIET))
    other = fit(job(model="resnet18_improved", seed=1), tmp_path / "b", **QUIET)
    assert (first.path / "logits.npy").read_bytes() != (other.path / "logits.npy").read_bytes()


def test_a_training_leaves_the_callers_random_numbers_and_signals_alone(job, tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(job(), tmp_path, **QUIET)
    assert torch.equal(torch.rand(3), expected)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_losses_are_means_over_images(job, tmp_path):
    """At a rate of zero, without dropout and batch norm, an epoch in unequal batches is one look at
    all images.
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


def test_a_finished_run_is_on_the_disk_before_and_after_it_is_moved(tmp_path, monkeypatch):
    (work := tmp_path / "seed0.partial").mkdir()
    synced = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append((tmp_path / "seed0").exists()))
    complete(work, tmp_path / "seed0")
    assert synced == [False, True]


# --- what stops a training


def test_an_interruption_at_the_very_end_is_not_swallowed(job, tmp_path, monkeypatch):
    finish = session.finish

    def interrupted(*given):
        finish(*given)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(session, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(job(), tmp_path, **QUIET)
    assert not list(tmp_path.rglob("*.partial"))
    assert fit(job(), tmp_path, **QUIET).info.epochs == 2


def test_a_divergence_leaves_nothing_that_blocks_a_lower_rate(job, tmp_path, before_step):
    @torch.no_grad()
    def explode(trainer):
        if trainer.epoch == 1 and trainer.recipe.learning_rate > 0.01:
            trainer.network.classifier[1].weight.fill_(float("inf"))

    before_step(explode)
    with pytest.raises(Diverged, match="epoch 2, step 1"):
        fit(job(), tmp_path, **QUIET)
    assert not list(tmp_path.iterdir())
    assert fit(job(learning_rate=0.01), tmp_path, **QUIET).info.epochs == 2


def test_a_loss_that_is_not_finite_stops_before_the_update(job, tmp_path, before_step):
    seen = {}

    def watch(trainer):
        seen["network"] = trainer.network
        seen["before"] = [p.detach().clone() for p in trainer.network.parameters()]

    before_step(watch)
    fast = {"limit": 40, "input_size": 64, "learning_rate": 1e6, "epochs": 9}
    with pytest.raises(Diverged, match=r"not finite at epoch \d+, step \d+, rate 1e\+06"):
        fit(job("alexnet", "vanilla", **fast), tmp_path, **QUIET)
    now = [*seen["network"].parameters()]
    torch.testing.assert_close(now, seen["before"], rtol=0, atol=0, equal_nan=True)
    assert not list(tmp_path.iterdir())


def test_a_network_that_its_last_update_spoils_is_no_run(job, tmp_path, monkeypatch):
    step = Trainer.train_step

    def spoiling(trainer, index):
        step(trainer, index)
        if (trainer.epoch, trainer.step) == (1, trainer.batches - 1):
            trainer.network.classifier[1].weight.data.fill_(float("inf"))

    monkeypatch.setattr(Trainer, "train_step", spoiling)
    with pytest.raises(Diverged, match="the validation loss is not finite at epoch 2"):
        fit(job(), tmp_path, **QUIET)
    assert not list(tmp_path.iterdir())


def test_a_chance_level_plateau_is_named(job, tmp_path):
    still = {"learning_rate": 0.0, "limit": 40, "input_size": 64, "epochs": 1}
    run = fit(job("alexnet", "vanilla", **still), tmp_path, **QUIET)
    assert run.info.warnings[:1] == ["chance-level plateau: the loss stayed at ln 10 = 2.3026"]
    assert fit(job(epochs=3), tmp_path, **QUIET).info.warnings == []


def test_a_run_names_every_program_that_trained_a_part_of_it(job, tmp_path, monkeypatch):
    now = hardware.versions()
    for commit, torch_version in (("first", "1.0"), ("second", now["torch"])):
        monkeypatch.setattr(hardware, "commit", lambda commit=commit: commit)
        versions = now | {"torch": torch_version}
        monkeypatch.setattr(hardware, "versions", lambda versions=versions: versions)
        stopped(job(), tmp_path)
        stopped(job(), tmp_path)
    run = fit(job(), tmp_path, **QUIET)
    assert (run.info.commit, run.info.versions) == ("second", now)
    assert [by["commit"] for by in run.info.made_by] == ["first", "second"]
    assert run.info.warnings[:1] == ["begun with torch 1.0"]
    monkeypatch.setattr(hardware, "commit", lambda: "third")
    assert fit(job(), tmp_path, **QUIET).info == run.info


@pytest.fixture
def threads():
    """Restores the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_training_is_continued_by_as_many_threads_as_began_it(job, tmp_path, threads):
    torch.set_num_threads(3)
    stopped(job(), tmp_path)
    torch.set_num_threads(1)
    assert fit(job(), tmp_path, **QUIET).info.threads == 3
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("speedup", "chosen"), [(0.5, "fp32"), (1.1, "fp32"), (1.2, "bf16")])
def test_a_processor_computes_in_bf16_if_its_products_are_faster(monkeypatch, speedup, chosen):
    monkeypatch.setattr(hardware, "bf16_speedup", lambda: speedup)
    assert hardware.device_and_precision("cpu") == (CPU, chosen)
    for asked in ("fp32", "bf16"):
        assert hardware.device_and_precision("cpu", asked) == (CPU, asked)


def test_products_are_timed_once_a_process_on_one_thread(monkeypatch, threads):
    timed, product = [], torch.mm

    def watched(a, b):
        timed.append((a.dtype, torch.get_num_threads()))
        return product(a, b)

    monkeypatch.setattr(torch, "mm", watched)
    torch.set_num_threads(2)
    hardware.bf16_speedup.cache_clear()
    assert hardware.bf16_speedup() == hardware.bf16_speedup() > 0
    assert timed == [(torch.float32, 1), (torch.bfloat16, 1)] * (len(timed) // 2) != []
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("first", "then", "kept"), [(0.5, 2.0, "fp32"), (2.0, 0.5, "bf16")])
def test_a_training_is_continued_in_the_precision_that_began_it(
    job, tmp_path, monkeypatch, first, then, kept
):
    monkeypatch.setattr(hardware, "bf16_speedup", lambda: first)
    whole = fit(job(), tmp_path / "whole", **AUTO)
    stopped(job(), tmp_path / "parts", **AUTO)
    monkeypatch.setattr(hardware, "bf16_speedup", lambda: then)
    other = QUIET | {"precision": "bf16" if kept == "fp32" else "fp32"}
    with pytest.raises(UserError, match=r"another training.s .precision"):
        fit(job(), tmp_path / "parts", **other)
    run = fit(job(), tmp_path / "parts", **AUTO)
    assert (run.info.precision, run.info.bf16_speedup) == (kept, first)
    same(whole, run)
    asked = fit(job(), tmp_path / "asked", **QUIET).info
    assert (asked.precision, asked.bf16_speedup) == ("fp32", None)


@pytest.mark.parametrize(("parameters", "expected"), [(10**12, []), (0, [1, 2])])
def test_a_checkpoint_that_would_take_long_waits_for_longer_epochs(
    job, tmp_path, monkeypatch, clock, parameters, expected
):
    saved = []
    monkeypatch.setattr(Trainer, "save", lambda trainer: saved.append(trainer.epoch))
    monkeypatch.setattr(models, "count_parameters", lambda network: parameters)
    fit(job(epochs=2), tmp_path, **QUIET)
    assert saved == expected


@pytest.mark.parametrize(
    ("number", "stop"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_ctrl_c_and_sigterm_end_at_a_checkpoint(job, tmp_path, before_step, number, stop):
    asked = []

    def ask(trainer):
        if not asked:
            asked.append(signal.raise_signal(number))

    before_step(ask)
    with pytest.raises(stop) as error:
        fit(job(), tmp_path / "a", **QUIET)
    assert getattr(error.value, "code", 143) == 143
    work = runs.partial_folder(tmp_path / "a" / job().folder)
    _, values = checkpoint.load(work / "checkpoint.pt")
    assert (values["epoch"], values["step"]) == (0, 1)
    same(fit(job(), tmp_path / "b", **QUIET), fit(job(), tmp_path / "a", **QUIET))


PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["deepnets.training", "sklearn.datasets", "torchvision.datasets"])


def _fit_until_killed(settings, out, count, in_save):
    """Train with a checkpoint after every step until SIGKILL comes: before the step or evaluation
    of that `count`, or in the first save after it, when half of it is on the disk.
    """
    torch.set_num_threads(1)
    left = count

    def watched(function):
        def watch(*given):
            nonlocal left
            left -= function is not sync
            if left == 0 and in_save == (function is sync):
                if in_save:
                    os.ftruncate(given[0], os.fstat(given[0]).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given)

        return watch

    sync = os.fsync
    for owner, name in ((Trainer, "train_step"), (Trainer, "logits"), (os, "fsync")):
        setattr(owner, name, watched(getattr(owner, name)))
    fit(settings, out, checkpoint_seconds=0, **QUIET)


def test_twenty_kills_change_nothing(job, tmp_path):
    """SIGKILL at random moments, every third one during a save; dropout and augmentation are on."""
    settings = job(model="resnet18_improved", recipe="best", epochs=4, limit=80, batch_size=10)
    whole = fit(settings, tmp_path / "whole", **QUIET)
    work, chance = runs.partial_folder(tmp_path / "killed" / settings.folder), random.Random(0)
    for number in range(20):  # which do 20 of the 32 steps and 4 evaluations
        count, in_save = chance.randint(1, 3), number % 3 == 0
        arguments = settings, tmp_path / "killed", count, in_save
        process = PROCESSES.Process(target=_fit_until_killed, args=arguments, daemon=True)
        process.start()
        process.join(1200)
        assert process.exitcode == -signal.SIGKILL
        assert (work / "checkpoint.pt.part").exists() or not in_save
    same(whole, fit(settings, tmp_path / "killed", **QUIET))
    files = [{p.name for p in (tmp_path / x).rglob("*.*")} for x in ("killed", "whole")]
    assert files[0] == files[1]


def test_two_processes_do_not_train_the_same_run(job, tmp_path, before_step):
    def meanwhile(trainer):
        with PROCESSES.Pool(1) as other, pytest.raises(UserError, match="another process"):
            other.apply_async(fit, (job(epochs=1), tmp_path), QUIET).get(1200)

    before_step(meanwhile)
    assert fit(job(epochs=1, batch_size=60), tmp_path, **QUIET).info.epochs == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_the_file_system_has_no_locks_a_file_is_one(job, tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with working_folder(tmp_path / job().folder), pytest.raises(UserError, match="by another"):
        fit(job(), tmp_path, **QUIET)
    run = fit(job(), tmp_path, **QUIET)
    assert not [path for path in run.path.iterdir() if "lock" in path.name]


# --- checkpoints that are not what they seem


def _pickled(_):
    """What PyTorch itself saves, with a right checksum."""
    buffer = io.BytesIO()
    torch.save({"identity": 1}, buffer)
    payload = buffer.getvalue()
    return checkpoint.MAGIC + hashlib.sha256(payload).digest() + payload


DAMAGE = {
    "truncated": (lambda good: good[: len(good) // 2], "damaged"),
    "bit flipped": (lambda good: good[:1000] + bytes([good[1000] ^ 1]) + good[1001:], "damaged"),
    "last bit flipped": (lambda good: good[:-1] + bytes([good[-1] ^ 128]), "damaged"),
    "empty": (lambda good: b"", "not a checkpoint"),
    "plain safetensors": (lambda good: good[len(checkpoint.MAGIC) + 32 :], "not a checkpoint"),
    "pickle": (_pickled, "not a checkpoint"),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGE.values(), ids=DAMAGE)
def test_a_bad_checkpoint_is_refused_in_one_line_and_stays(job, tmp_path, damage, says):
    path = stopped(job(), tmp_path)
    path.write_bytes(bad := damage(path.read_bytes()))
    with pytest.raises(UserError, match=says) as error:
        fit(job(), tmp_path, **QUIET)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == bad


def test_another_trainings_checkpoint_is_refused_and_stays(job, tmp_path):
    good = (path := stopped(job(), tmp_path)).read_bytes()
    with pytest.raises(UserError, match="another training's"):
        fit(job(epochs=5), tmp_path, **QUIET)
    assert path.read_bytes() == good
    assert fit(job(), tmp_path, **QUIET).info.epochs == 2


def test_a_failed_save_leaves_the_good_file(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"a": torch.ones(3)}, {"b": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space"):
        checkpoint.save(path, {"a": torch.zeros(3)}, {})
    tensors, values = checkpoint.load(path)
    assert (tensors["a"].tolist(), values) == ([1, 1, 1], {"b": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


# --- every network learns


def overfit(name: str, channels: int, size: int, epochs: int) -> tuple[float, int]:
    """Accuracy on 64 images, learned under its tuned recipe without augmentation, and the epochs
    that took.
    """
    digits = data.load("digits")
    kept = digits.train[torch.arange(100)]
    images = Images(kept.images.expand(-1, channels, -1, -1).contiguous(), kept.labels)
    dataset = Dataset("digits", "Digits", digits.classes, images, images, "")
    # three times that suits batches of 128, not of 16
    changes = {"learning_rate": min(0.1, recipes.get("tuned", name).learning_rate)}
    changes |= {"epochs": epochs, "batch_size": 16, "augment": "none"}
    recipe, accuracy = recipes.get("tuned", name, **changes), 0.0
    with torch.random.fork_rng():
        job = Job(name, "digits", recipe, limit=64, input_size=size)
        trainer = Trainer(job, dataset, CPU, "fp32", Path())
        while trainer.epoch < recipe.epochs and accuracy <= 0.95:
            trainer.train_epoch()
            trainer.epoch, trainer.step = trainer.epoch + 1, 0
            logits = trainer.logits(trainer.train_set.images)
            accuracy = (logits.argmax(1) == trainer.train_set.labels).float().mean().item()
    return accuracy, trainer.epoch


@pytest.mark.parametrize(
    ("name", "channels"), [("resnet20", 1), ("resnet18_improved", 3), ("googlenet_improved", 1)]
)
def test_a_network_overfits_64_images(name, channels):
    assert overfit(name, channels, 32, 40)[0] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", models.names())
def test_every_network_overfits_64_images(name, channels):
    size, most = (64, 240) if name.startswith("alexnet") else (32, 120)
    accuracy, epochs = overfit(name, channels, size, most)
    print(f"{name}, {channels} channels: {accuracy:.1%} after {epochs} epochs", flush=True)
    assert accuracy > 0.95
