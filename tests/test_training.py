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
import pickle
import random
import signal
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from benchmarks import bench
from deepnets import data, evaluation, metrics, models, predict, recipes, runs
from deepnets.data import Dataset, Images
from deepnets.errors import UserError
from deepnets.info import Info
from deepnets.predict import load_network
from deepnets.training import Diverged, Job, OutOfTime, checkpoint, fit, hardware, session
from deepnets.training.folder import working_folder
from deepnets.training.loop import Trainer
from deepnets.transforms import Transform

QUIET = {"verbose": False, "device": "cpu", "precision": "fp32"}
AT_ONCE = {"stop": lambda: True}  # stop after a step


def same(first, second):
    """Weights, logits and history of two runs are equal bit for bit (but for the time it took)."""
    for name, value in load_file(first.path / "model.safetensors").items():
        assert torch.equal(value, load_file(second.path / "model.safetensors")[name]), name
    assert np.array_equal(np.load(first.path / "logits.npy"), np.load(second.path / "logits.npy"))
    assert first.history.drop(columns="seconds").equals(second.history.drop(columns="seconds"))


def test_a_run_holds_what_the_contract_says_and_agrees_with_itself(job, tmp_path):
    run = fit(job(), tmp_path, **QUIET)
    assert run.path == tmp_path / "digits" / "resnet8" / "tuned" / "seed0"
    files = {path.name for path in run.path.iterdir()}
    assert files == {
        "run.json",
        "history.csv",
        "test.npz",
        "views.npz",
        "logits.npy",
        "model.safetensors",
    }
    assert not list(tmp_path.rglob("*.partial"))
    assert run.info.device_type == "cpu"
    assert run.info.recipe == job().recipe
    assert list(run.history.columns) == list(runs.HISTORY)
    assert run.info.test_total == 360 == len(run.test["labels"])
    assert run.correct.sum() == run.info.test_correct
    assert run.test["probabilities"].sum(1) == pytest.approx(1, abs=0.04)
    assert run.info.parameters == models.count_parameters(models.blueprint("resnet8", 10, 1))
    assert len(run.info.commit.removesuffix("-dirty")) == 40 or run.info.commit == "unknown"
    dataset = data.load("digits")
    assert run.info.data_sha256 == dataset.sha256
    assert run.info.split_sha256 == dataset.split(0, 60)[2]
    assert np.array_equal(run.test["labels"], dataset.test.labels.numpy())
    assert (run.path / "views.npz").stat().st_size < 60_000


@pytest.mark.parametrize("where", ["fit", "evaluate", "bench"])
def test_whatever_trains_or_evaluates_sets_its_process_up(job, tmp_path, monkeypatch, where):
    asked = []
    monkeypatch.setattr(hardware, "set_up", asked.append)
    monkeypatch.setattr(predict, "set_up", asked.append)
    run = fit(job(epochs=1), tmp_path, **QUIET)
    if where == "fit":
        assert len(asked) == 1
        fit(job(epochs=1), tmp_path, **QUIET)  # reports what is finished
    elif where == "evaluate":
        predict.evaluate(run, device="cpu", precision="fp32")
    else:
        monkeypatch.setattr(bench, "matrix_products", lambda *_: 1 / 0)  # what is measured next
        with pytest.raises(ZeroDivisionError):
            bench.measure(["resnet8"], bench.Settings(torch.device("cpu"), "fp32", 4, 1, 0.1))
    assert asked == [torch.device("cpu")] * (1 if where == "fit" else 2)


def test_a_processors_products_have_their_full_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", (asked := []).append)
    hardware.set_up(torch.device("cpu"))
    hardware.set_up(torch.device("cuda"))
    assert asked == ["highest", "high"]
    assert torch.backends.cudnn.deterministic


def test_the_test_images_are_looked_at_once_and_the_temperature_is_not_fitted_on_them(
    job, tmp_path, monkeypatch
):
    seen, fitted = [], []
    call, fit_temperature = evaluation.Predictor.__call__, metrics.fit_temperature
    monkeypatch.setattr(
        evaluation.Predictor,
        "__call__",
        lambda self, images: (seen.append(images), call(self, images))[1],
    )
    monkeypatch.setattr(
        metrics,
        "fit_temperature",
        lambda logits, labels: (fitted.append(labels), fit_temperature(logits, labels))[1],
    )
    fit(job(epochs=3), tmp_path, **QUIET)
    dataset = data.load("digits")
    _, validation, _ = dataset.split(0, 60)
    assert all(torch.equal(images, validation.images) for images in seen[:3]), "one look an epoch"
    test, *others = (torch.equal(images, dataset.test.images) for images in seen[3:])
    assert test
    assert [others[i] for i in (0, 1, 3)] == 3 * [False], (
        "validation, noise, contrast; blur changes nothing of 8 pixels"
    )
    assert len(others) == 4
    assert [labels.tolist() for labels in fitted] == [validation.labels.tolist()]


def test_a_channel_that_tells_nothing_is_refused(job, tmp_path):
    red = torch.randint(0, 256, (80, 3, 16, 16), dtype=torch.uint8)
    red[:, 1:] = 0
    part = Images(red, torch.arange(80) % 10)
    with pytest.raises(UserError, match="or one channel is"):
        Trainer(
            job(),
            Dataset("red", "red", tuple("0123456789"), part, part, ""),
            torch.device("cpu"),
            "fp32",
            tmp_path,
        )


def test_a_copy_without_history_says_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "__file__", str(tmp_path / "deepnets" / "hardware.py"))
    assert hardware.commit() == "unknown"
    monkeypatch.setenv("DEEPNETS_COMMIT", "0123abc")
    assert hardware.commit() == "0123abc"


def test_a_finished_run_is_reported_and_another_one_refused(job, tmp_path):
    run = fit(job(), tmp_path, **QUIET)
    before = (run.path / "run.json").stat().st_mtime_ns
    assert fit(job(), tmp_path, **QUIET).info == run.info
    assert (run.path / "run.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"another training's .epochs 2, not 3"):
        fit(job(epochs=3), tmp_path, **QUIET)
    with pytest.raises(UserError, match=r"another training's .precision 'fp32', not 'bf16'"):
        fit(job(), tmp_path, **QUIET | {"precision": "bf16"})
    assert fit(job(), tmp_path, **QUIET | {"precision": "auto"}).info == run.info


def test_equal_jobs_give_equal_runs_whatever_else_draws_random_numbers(job, tmp_path, monkeypatch):
    torch.manual_seed(1)
    first = fit(job(model="resnet18_improved"), tmp_path / "a", **QUIET)
    step = Trainer.train_step

    def meddle(self, index):
        torch.rand(3)
        random.random()
        if self.step == 1:
            self.logits(self.validation_set.images)
        step(self, index)

    monkeypatch.setattr(Trainer, "train_step", meddle)
    torch.manual_seed(2)
    same(first, fit(job(model="resnet18_improved"), tmp_path / "b", **QUIET))
    other = fit(job(model="resnet18_improved", seed=1), tmp_path / "b", **QUIET)
    assert not np.array_equal(
        np.load(first.path / "logits.npy"), np.load(other.path / "logits.npy")
    )


def test_a_training_leaves_the_callers_random_numbers_and_signals_alone(job, tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(job(), tmp_path, **QUIET)
    assert torch.equal(torch.rand(3), expected)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_the_last_batch_is_never_a_single_image(job, tmp_path, monkeypatch):
    sizes = []
    step = Trainer.train_step
    monkeypatch.setattr(
        Trainer, "train_step", lambda self, index: (sizes.append(len(index)), step(self, index))[1]
    )
    fit(job(limit=33, batch_size=16, epochs=1), tmp_path, **QUIET)
    assert sizes == [11, 11, 11]


def test_losses_are_means_over_images(job, tmp_path):
    """At a rate of zero, without dropout and batch norm, an epoch in unequal batches is one look at
    all images.
    """
    settings = job(
        "alexnet",
        "vanilla",
        options={"dropout": 0.0},
        limit=61,
        input_size=64,
        learning_rate=0.0,
        epochs=1,
    )
    run = fit(settings, tmp_path, **QUIET)
    train, validation, _ = data.load("digits").split(0, 61)
    transform = Transform(64, tuple(run.info.mean), tuple(run.info.std))
    for part, name in ((train, "train"), (validation, "val")):
        with torch.no_grad():
            logits = load_network(run)(transform(part.images))
        assert run.history[f"{name}_loss"][0] == pytest.approx(
            F.cross_entropy(logits, part.labels).item(), rel=1e-5
        )
        accuracy = (logits.argmax(1) == part.labels).float().mean().item()
        assert run.history[f"{name}_accuracy"][0] == pytest.approx(accuracy, abs=1e-6)


def test_an_interruption_at_the_very_end_is_not_swallowed(job, tmp_path, monkeypatch):
    asked = []
    finish = session.finish
    monkeypatch.setattr(
        session, "finish", lambda trainer, folder: (finish(trainer, folder), asked.append(1))
    )
    with monkeypatch.context() as patch:
        patch.setattr(
            session,
            "interruptions",
            lambda _: nullcontext(lambda: KeyboardInterrupt() if asked else None),
        )
        with pytest.raises(KeyboardInterrupt):
            fit(job(), tmp_path, **QUIET)
    assert not list(tmp_path.rglob("*.partial"))
    assert fit(job(), tmp_path, **QUIET).info.epochs == 2


def test_what_a_kill_left_in_a_finished_run_is_removed(job, tmp_path):
    run = fit(job(), tmp_path, **QUIET)
    for name in ("checkpoint.pt", "checkpoint.pt.part", "lock"):
        (run.path / name).write_text("left")
    fit(job(), tmp_path, **QUIET)
    assert not {"checkpoint.pt", "checkpoint.pt.part", "lock"} & {
        p.name for p in run.path.iterdir()
    }


def test_a_divergence_leaves_nothing_that_blocks_a_lower_rate(job, tmp_path, monkeypatch):
    step = Trainer.train_step

    def explode(self, index):
        if self.epoch == 1:
            with torch.no_grad():
                self.network.classifier[1].weight.fill_(float("inf"))
        step(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", explode)
        with pytest.raises(Diverged, match="epoch 2, step 1"):
            fit(job(), tmp_path, **QUIET)
    assert not list(tmp_path.iterdir())
    assert fit(job(learning_rate=0.01), tmp_path, **QUIET).info.epochs == 2


def test_a_divergence_that_meets_ctrl_c_is_told(job, tmp_path, monkeypatch, capsys):
    def explode(self, index):
        signal.raise_signal(signal.SIGINT)
        raise self.diverged("loss")

    monkeypatch.setattr(Trainer, "train_step", explode)
    with pytest.raises(KeyboardInterrupt):
        fit(job(), tmp_path, **QUIET)
    assert "lower the learning rate" in capsys.readouterr().out


def test_the_running_average_is_what_is_kept(job, tmp_path, monkeypatch):
    kept, finish = [], session.finish
    monkeypatch.setattr(
        session,
        "finish",
        lambda trainer, folder: (kept.append(trainer.evaluated), finish(trainer, folder)),
    )
    run = fit(job(recipe="best", average=0.5), tmp_path, **QUIET)
    weights = load_file(run.path / "model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in kept[0].state_dict().items())


# --- what stops a training


def test_a_loss_that_is_not_finite_stops_before_the_update(job, tmp_path, monkeypatch):
    seen = {}
    step = Trainer.train_step

    def watch(self, index):
        seen["before"] = [p.detach().clone() for p in self.network.parameters()]
        seen["trainer"] = self
        step(self, index)

    monkeypatch.setattr(Trainer, "train_step", watch)
    with pytest.raises(Diverged, match=r"not finite at epoch \d+, step \d+, rate 1e\+06"):
        fit(
            job("alexnet", "vanilla", limit=40, input_size=64, learning_rate=1e6, epochs=9),
            tmp_path,
            **QUIET,
        )
    for before, now in zip(seen["before"], seen["trainer"].network.parameters(), strict=True):
        torch.testing.assert_close(now, before, rtol=0, atol=0, equal_nan=True)
    assert not list(tmp_path.iterdir())


def test_a_chance_level_plateau_is_named(job, tmp_path):
    run = fit(
        job("alexnet", "vanilla", learning_rate=0.0, limit=40, input_size=64, epochs=1),
        tmp_path,
        **QUIET,
    )
    assert run.info.warnings[:1] == ["chance-level plateau: the loss stayed at ln 10 = 2.3026"]
    assert fit(job(epochs=3), tmp_path, **QUIET).info.warnings == []


def test_the_caller_stops_at_a_checkpoint_that_continues_bit_for_bit(job, tmp_path):
    whole = fit(job(), tmp_path / "a", **QUIET)
    for _ in range(6):
        with pytest.raises(OutOfTime):
            fit(job(), tmp_path / "b", **AT_ONCE, **QUIET)
    same(whole, fit(job(), tmp_path / "b", **QUIET))


def test_a_run_names_every_commit_that_trained_a_part_of_it(job, tmp_path, monkeypatch):
    for commit in ("first", "second", "first"):
        monkeypatch.setattr(hardware, "commit", lambda commit=commit: commit)
        with pytest.raises(OutOfTime):
            fit(job(), tmp_path, **AT_ONCE, **QUIET)
    run = fit(job(), tmp_path, **QUIET)
    assert run.info.commit == "first"
    assert [by["commit"] for by in run.info.made_by] == ["second", "first"]
    assert not [text for text in run.info.warnings if "begun" in text], (
        "another commit need not be another training"
    )
    monkeypatch.setattr(hardware, "commit", lambda: "third")
    assert fit(job(), tmp_path, **QUIET).info == run.info


def test_a_run_that_another_torch_began_says_so(job, tmp_path, monkeypatch):
    now = hardware.versions()
    with monkeypatch.context() as patch:
        patch.setattr(hardware, "versions", lambda: now | {"torch": "1.0"})
        with pytest.raises(OutOfTime):
            fit(job(), tmp_path, **AT_ONCE, **QUIET)
    run = fit(job(), tmp_path, **QUIET)
    assert run.info.versions == now
    assert run.info.warnings[:1] == ["begun with torch 1.0"]


def test_a_training_is_continued_by_as_many_threads_as_began_it(job, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(OutOfTime):
            fit(job(), tmp_path, **AT_ONCE, **QUIET)
        torch.set_num_threads(1)
        assert fit(job(), tmp_path, **QUIET).info.threads == 3
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def measure(monkeypatch):
    """Has a new process's products take so many seconds, in fp32 and in bf16."""

    def inject(fp32, bf16):
        monkeypatch.setattr(hardware, "bf16_speedup", lambda: round(fp32 / bf16, 2))

    return inject


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen"),
    [(1.0, 2.0, "fp32"), (1.1, 1.0, "fp32"), (1.2, 1.0, "bf16"), (4.2, 1.0, "bf16")],
)
def test_a_processor_computes_in_bf16_if_its_products_are_faster(measure, fp32, bf16, chosen):
    measure(fp32, bf16)
    assert hardware.device_and_precision("cpu") == (torch.device("cpu"), chosen)
    assert hardware.device_and_precision("cpu", "fp32")[1] == "fp32"
    assert hardware.device_and_precision("cpu", "bf16")[1] == "bf16"


def test_products_are_timed_once_a_process_on_one_thread(monkeypatch):
    timed, product = [], torch.mm
    monkeypatch.setattr(
        torch, "mm", lambda a, b: (timed.append((a.dtype, torch.get_num_threads())), product(a, b))
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        hardware.bf16_speedup.cache_clear()
        assert hardware.bf16_speedup() == hardware.bf16_speedup() > 0
        assert 6 <= len(timed) <= 40
        assert timed == [(torch.float32, 1), (torch.bfloat16, 1)] * (len(timed) // 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_run_says_what_chose_its_precision(job, tmp_path, measure):
    measure(1.9, 1.0)
    auto = QUIET | {"precision": "auto"}
    chosen = fit(job(epochs=1), tmp_path / "auto", **auto).info
    assert (chosen.precision, chosen.bf16_speedup) == ("bf16", 1.9)
    asked = fit(job(epochs=1), tmp_path / "asked", **QUIET).info
    assert (asked.precision, asked.bf16_speedup) == ("fp32", None)


@pytest.mark.parametrize(("first", "then", "kept"), [(0.5, 2.0, "fp32"), (2.0, 0.5, "bf16")])
def test_a_training_is_continued_in_the_precision_that_began_it(
    job, tmp_path, measure, first, then, kept
):
    auto = QUIET | {"precision": "auto"}
    other = QUIET | {"precision": "bf16" if kept == "fp32" else "fp32"}
    measure(first, 1.0)
    whole = fit(job(), tmp_path / "whole", **auto)
    with pytest.raises(OutOfTime):
        fit(job(), tmp_path / "parts", **AT_ONCE, **auto)
    measure(then, 1.0)
    with pytest.raises(UserError, match=r"another training.s .precision"):
        fit(job(), tmp_path / "parts", **other)
    run = fit(job(), tmp_path / "parts", **auto)
    assert (run.info.precision, run.info.bf16_speedup) == (kept, first)
    same(whole, run)


def _child(settings, out, started):
    """Train in a process of its own; every step writes a checkpoint."""
    torch.set_num_threads(1)
    started.set()
    fit(settings, out, checkpoint_seconds=0, **QUIET)


def _start(settings, out):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["deepnets.training", "sklearn.datasets", "torchvision.datasets"]
    )
    started = context.Event()
    process = context.Process(target=_child, args=(settings, out, started), daemon=True)
    process.start()
    started.wait(60)
    return process


def test_a_checkpoint_that_would_take_long_waits_for_longer_epochs(
    job, tmp_path, monkeypatch, clock
):
    saved = []
    monkeypatch.setattr(Trainer, "save", lambda trainer: saved.append(trainer.epoch))
    for parameters, expected in ((10**12, []), (0, [1, 2])):
        monkeypatch.setattr(
            models, "count_parameters", lambda network, parameters=parameters: parameters
        )
        saved.clear()
        fit(job(epochs=2), tmp_path / str(parameters), **QUIET)
        assert saved == expected


STOPS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]


@pytest.mark.parametrize(("number", "stop"), STOPS)
def test_ctrl_c_and_sigterm_end_at_a_checkpoint(job, tmp_path, monkeypatch, number, stop):
    step = Trainer.train_step
    with monkeypatch.context() as patch:

        def asked(*given):
            step(*given)
            signal.raise_signal(number)

        patch.setattr(Trainer, "train_step", asked)
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
    assert {p.name for p in (tmp_path / "killed").rglob("*.*")} == {
        p.name for p in (tmp_path / "whole").rglob("*.*")
    }


def test_two_processes_do_not_train_the_same_run(job, tmp_path, monkeypatch):
    step = Trainer.train_step

    def meanwhile(*given):
        with PROCESSES.Pool(1) as other, pytest.raises(UserError, match="another process"):
            other.apply_async(fit, (job(epochs=1), tmp_path), QUIET).get(1200)
        step(*given)

    monkeypatch.setattr(Trainer, "train_step", meanwhile)
    assert fit(job(epochs=1, batch_size=60), tmp_path, **QUIET).info.epochs == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_the_file_system_has_no_locks_a_file_is_one(job, tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        working_folder(tmp_path / job().folder),
        pytest.raises(UserError, match="by another process"),
    ):
        fit(job(), tmp_path, **QUIET)
    run = fit(job(), tmp_path, **QUIET)
    assert not [path for path in run.path.iterdir() if "lock" in path.name]


# --- checkpoints that are not what they seem


class _Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


def _pickled_attack():
    buffer = io.BytesIO()
    torch.save({"identity": _Attack()}, buffer)
    payload = buffer.getvalue()
    return checkpoint.MAGIC + hashlib.sha256(payload).digest() + payload


@pytest.fixture
def stopped(job, tmp_path):
    """A job with a checkpoint, and the checkpoint's path."""
    with pytest.raises(OutOfTime):
        fit(job(), tmp_path, **AT_ONCE, **QUIET)
    return job(), runs.partial_folder(tmp_path / job().folder) / "checkpoint.pt"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda good: good[: len(good) // 2], "damaged"),
        (lambda good: good[:1000] + bytes([good[1000] ^ 1]) + good[1001:], "damaged"),
        (lambda good: good[:-1] + bytes([good[-1] ^ 128]), "damaged"),
        (lambda good: b"", "not a checkpoint"),
        (lambda good: good[len(checkpoint.MAGIC) + 32 :], "not a checkpoint"),
        (lambda good: pickle.dumps({"identity": 1}), "not a checkpoint"),
        (lambda good: _pickled_attack(), "not a checkpoint"),
    ],
    ids=[
        "truncated",
        "bit flipped",
        "last bit flipped",
        "empty",
        "plain safetensors file",
        "pickle",
        "malicious",
    ],
)
def test_a_bad_checkpoint_is_refused_in_one_line_and_stays(
    stopped, tmp_path, monkeypatch, damage, says
):
    settings, path = stopped
    monkeypatch.chdir(tmp_path)
    bad = damage(path.read_bytes())
    path.write_bytes(bad)
    with pytest.raises(UserError, match=says) as error:
        fit(settings, tmp_path, **QUIET)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == bad
    assert not (tmp_path / "attacked").exists()


def test_another_trainings_checkpoint_is_refused_and_stays(stopped, job, tmp_path):
    _, path = stopped
    good = path.read_bytes()
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
    assert torch.equal(tensors["a"], torch.ones(3))
    assert values == {"b": 1}
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
    rate = min(0.1, recipes.get("tuned", name).learning_rate)
    recipe = recipes.get(
        "tuned", name, learning_rate=rate, epochs=epochs, batch_size=16, augment="none"
    )
    with torch.random.fork_rng():
        job = Job(name, "digits", recipe, limit=64, input_size=size)
        trainer = Trainer(job, dataset, torch.device("cpu"), "fp32", Path())
        assert len(trainer.train_set) == 64
        accuracy = 0.0
        while trainer.epoch < recipe.epochs and accuracy <= 0.95:
            trainer.train_epoch()
            trainer.epoch, trainer.step = trainer.epoch + 1, 0
            logits = trainer.logits(trainer.train_set.images)
            accuracy = (logits.argmax(1) == trainer.train_set.labels).float().mean().item()
    return accuracy, trainer.epoch


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["resnet20", "resnet18_improved", "googlenet_improved"])
def test_a_network_overfits_64_images(name, channels):
    assert overfit(name, channels, 32, 40)[0] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", models.names())
def test_every_network_overfits_64_images(name, channels):
    accuracy, epochs = overfit(
        name, channels, *((64, 240) if name.startswith("alexnet") else (32, 120))
    )
    print(
        f"{name}, {channels} channels: {100 * accuracy:.1f} % of 64 images after {epochs} epochs",
        flush=True,
    )
    assert accuracy > 0.95


def test_run_json_is_readable_by_anything(job, tmp_path):
    run = fit(job(), tmp_path, **QUIET)
    text = (run.path / "run.json").read_text()
    values = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert values == run.info.values()
    assert values.keys() == {field.name for field in fields(Info)}
