"""Studies in several processes: they train what one trains, and nothing that dies or is asked to
stop loses anything.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import cloudpickle
import pytest
import torch
from distributed import Client
from fuzz import same

from deepnets import study
from deepnets.errors import UserError
from deepnets.training import checkpoint
from deepnets.training.folder import working_folder
from deepnets.training.hardware import cores
from deepnets.training.loop import Trainer

CLUSTER = """
from distributed import LocalCluster
with LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=None, silence_logs=50) as cluster:
    print(cluster.scheduler_address, flush=True)
    input()
"""
STUDY = """
grid = [{networks = ["resnet8", "resnet14", "resnet20"], seeds = [0]}]
[defaults]
datasets = ["digits"]
recipes = ["tuned"]
epochs = 10_000
batch_size = 16
limit = 60
input_size = 16
"""
HOW = {"checkpoint_seconds": 0, "precision": "fp32"}
SAVING = """
import functools, sys
from deepnets import cli, study
study.execute = functools.partial(study.execute, checkpoint_seconds=0)
sys.exit(cli.main())
"""


@contextmanager
def process(*command):
    """A process in a group of its own, of which nothing stays."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | {"text": True}
    with subprocess.Popen([sys.executable, *command], start_new_session=True, **pipes) as started:
        end = threading.Timer(300, os.killpg, (started.pid, signal.SIGKILL))  # whatever hangs
        end.start()
        try:
            yield started
        finally:
            end.cancel()
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def address():
    """Of a scheduler with two workers, in processes of their own; the last test that asks for it
    kills it.
    """
    # the workers cannot import this file
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with process("-c", CLUSTER) as started:
        yield started.stdout.readline().strip()


@pytest.fixture
def jobs(tmp_path):
    (tmp_path / "short.toml").write_text(STUDY.replace("10_000", "2").replace("[0]", "[0, 1]"))
    return study.plan(tmp_path / "short.toml")[:3]


@pytest.fixture
def alone(jobs, tmp_path):
    """The runs of one process, with as many threads as each of two has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, cores() // 2))
    yield study.execute(jobs, tmp_path / "alone", verbose=False, precision="fp32")[0]
    torch.set_num_threads(threads)


def kill_at_the_first_checkpoint(parent):
    """In a worker: have it, or its `parent`, die as by SIGKILL when it has saved a training for the
    first time.
    """
    save = Trainer.save

    def save_and_die(self):
        save(self)
        os.kill(os.getppid() if parent else os.getpid(), signal.SIGKILL)

    Trainer.save = save_and_die


@pytest.mark.xdist_group("cluster")
def test_workers_at_an_address_of_which_one_dies_train_what_one_process_trains(
    jobs, alone, address, tmp_path, capsys
):
    with Client(address, set_as_default=False) as client:
        before = client.run(os.getpid)
        client.run(kill_at_the_first_checkpoint, parent=False, workers=[min(before)])
    finished, missing = study.execute(jobs, tmp_path / "out", scheduler=address, **HOW)
    assert missing == []
    with Client(address, set_as_default=False) as client:
        assert len(set(client.run(os.getpid).values()) & set(before.values())) == 1
    for run in alone:
        same(run, next(other for other in finished if other.path.parts[-4:] == run.path.parts[-4:]))
    assert address in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["digits"]

    blocked = tmp_path / "blocked" / jobs[0].folder.parent
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")
    endless = replace(jobs[1], recipe=replace(jobs[1].recipe, epochs=10_000))
    with pytest.raises(UserError, match="cannot be written"):  # and the other one is stopped
        study.execute([jobs[0], endless], tmp_path / "blocked", scheduler=address)
    _, missing = study.execute([endless] * 3, tmp_path / "late", scheduler=address, budget=2)
    assert len(missing) == 3, "a line each"


@pytest.mark.xdist_group("cluster")
def test_a_study_whose_scheduler_died_goes_on_with_the_next_call(jobs, alone, address, tmp_path):
    with Client(address, set_as_default=False) as client:
        client.run(kill_at_the_first_checkpoint, parent=True)
    with pytest.raises(UserError, match="scheduler is gone"):
        study.execute(jobs, tmp_path / "out", scheduler=address, **HOW)
    assert list((tmp_path / "out").rglob("checkpoint.pt"))
    torch.set_num_threads(max(1, cores() // 2))
    finished, _ = study.execute(jobs, tmp_path / "out", verbose=False, **HOW)
    for run, other in zip(alone, finished, strict=True):
        same(run, other)


@pytest.fixture
def started(tmp_path):
    """`deepnets study --jobs 3` of three trainings that do not end, saved after every step."""
    (tmp_path / "study.toml").write_text(STUDY)
    command = ["study", tmp_path / "study.toml", "--jobs", "3", "--out", tmp_path / "out"]
    with process("-c", SAVING, *command, "--precision", "fp32") as running:
        yield running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_all_trainings_end_with_the_study_and_a_checkpoint_each_stays(started, tmp_path, number):
    """A terminal and a batch system signal all processes of a group; SIGKILL is for the parent
    alone.
    """
    found = []
    while len(found) < 3:
        assert started.poll() is None
        time.sleep(0.02)
        found = list((tmp_path / "out").rglob("checkpoint.pt"))
    before = time.time()
    (os.kill if number == signal.SIGKILL else os.killpg)(started.pid, number)
    _, error = started.communicate()  # until no process has the pipes any more
    assert started.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    assert "Traceback" not in error
    for path in found:
        saved = path.stat().st_mtime >= before
        assert saved or number == signal.SIGKILL, "saved when asked to stop"
        with working_folder(path.parent.with_suffix("")):  # nobody holds it any more
            assert checkpoint.load(path)["epoch"] < 10_000


def test_ctrl_c_while_processes_start_is_quiet(started):
    children = b""
    while not children:
        time.sleep(0.02)
        command = ["pgrep", "-P", str(started.pid)]
        children = subprocess.run(command, stdout=subprocess.PIPE).stdout
    os.killpg(started.pid, signal.SIGINT)
    _, error = started.communicate()
    assert (started.returncode, error) == (130, "\ninterrupted; the same command continues\n")


def test_where_nobody_answers_is_one_line(jobs, tmp_path):
    with pytest.raises(UserError, match="no Dask scheduler answers at nowhere://1"):
        study.execute(jobs, tmp_path / "out", scheduler="nowhere://1")
    with pytest.raises(UserError, match="a --scheduler counts"):
        study.execute(jobs, tmp_path / "out", scheduler="nowhere://1", parallel=2)
    assert not (tmp_path / "out").exists()
