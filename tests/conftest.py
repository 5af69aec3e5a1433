"""Tests are offline, keep to one thread each, and pass however slow or fast the machine is."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deepnets import recipes
from deepnets.recipes import FIELDS
from deepnets.training import Job, fit


@pytest.fixture(autouse=True, scope="session")
def one_thread_that_hears_signals():
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGHUP):  # a shell's `&` and nohup have them ignored
        signal.signal(number, signal.default_int_handler)


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    connect = socket.socket.connect

    def refuse(self, address):
        if self.family != socket.AF_UNIX and address[0] != "127.0.0.1":
            raise OSError("tests do not use the network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.fixture
def spy(monkeypatch):
    """Lists the arguments of all calls of a function, which does what it did."""

    def watch(owner, name):
        calls, function = [], getattr(owner, name)

        def noted(*args, **kwargs):
            calls.append(args)
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, noted)
        return calls

    return watch


@pytest.fixture(scope="session")
def job():
    """A small training of the smallest network, changed by keywords."""

    def make(model="resnet8", recipe="tuned", **changes):
        fields = {"epochs": 2, "batch_size": 16} | {
            k: changes.pop(k) for k in FIELDS if k in changes
        }
        settings = {"dataset": "digits", "limit": 60, "input_size": 16} | changes
        return Job(model, recipe=recipes.get(recipe, model, **fields), **settings)

    return make


@pytest.fixture(scope="session")
def finished(job, tmp_path_factory):
    """The run of `job(epochs=1)`: to be read, or copied."""
    return fit(job(epochs=1), tmp_path_factory.mktemp("finished"), verbose=False, precision="fp32")


@pytest.fixture(scope="session")
def python():
    """Runs Python on this package."""

    def run(*arguments, **how):
        path = str(Path(__file__).parent.parent)
        environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": ""}
        pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        how = pipes | {"env": environment, "text": True} | how
        return subprocess.run([sys.executable, *arguments], **how)

    return run
