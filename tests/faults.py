"""The long test of faults (`make faults`): thousands of odd inputs, and hundreds of kills.

    python tests/faults.py [--inputs 2000] [--kills 200] [--seed 0] [--jobs N]

It prints what was found, and exits with 1 if a promise of tests/README.md is broken. What broke one
stays in runs/faults, a folder each, with the command in `command`.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import fuzz
import numpy as np
import torch
from safetensors.torch import load_file

from deepnets import recipes
from deepnets.runs import Run
from deepnets.training import Job, fit
from deepnets.training.hardware import cores

KEPT = Path("runs/faults")
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")  # of a folder; `open` makes files
BEST = recipes.get("best", "resnet8", epochs=3, batch_size=20)
JOB = Job("resnet8", "digits", BEST, options={"dropout": 0.1}, limit=60, input_size=16)


def same(first: Run, second: Run) -> None:
    """Fails unless weights, logits and history (but for the time it took) are equal bit for bit."""
    for name, value in load_file(first.path / "model.safetensors").items():
        assert torch.equal(value, load_file(second.path / "model.safetensors")[name]), name
    assert np.array_equal(np.load(first.path / "logits.npy"), np.load(second.path / "logits.npy"))
    assert first.history.drop(columns="seconds").equals(second.history.drop(columns="seconds"))


def try_kind(kind: str, base: Path, count: int, seed: int) -> list[tuple[str, fuzz.Answer]]:
    """Tries so many inputs of a kind; returns for each which promise was broken, and the answer."""
    tried, folder = [], base.with_name(kind)
    for number in range(count):
        given, found = fuzz.attempt(base, folder, kind, seed * 1_000_000 + number)
        tried.append((found.broken, found))
        if found.broken:
            (folder / "command").write_text(repr(given.command))
            print(f"  {found.broken}: {kind}: {given.command}: {found.error[-200:]!r}", flush=True)
            shutil.move(folder, KEPT / f"{kind}-{number}")
        shutil.rmtree(folder, ignore_errors=True)
    return tried


def try_inputs(count: int, seed: int, pool: Executor) -> int:
    """Tries at least so many inputs; returns how many broke a promise."""
    each = -(-count // len(fuzz.KINDS))
    with tempfile.TemporaryDirectory() as place:
        base = fuzz.good(Path(place, "good"))
        kinds = [pool.submit(try_kind, kind, base, each, seed) for kind in fuzz.KINDS]
        tried = [pair for kind in kinds for pair in kind.result()]
    broken, refused = Counter(why for why, _ in tried if why), sum(a.code == 2 for _, a in tried)
    print(f"inputs: {len(tried)}, of which {refused} were refused; broken promises: {dict(broken)}")
    print(f"peak memory: {max(a.peak for _, a in tried) / 2**20:.0f} MiB", flush=True)
    return broken.total()


def train(change: int = 0) -> None:
    """In a process: a tiny training with a checkpoint at each step. It is killed at the change of
    that number to its files: before it, or when half of a file is on the disk.
    """
    left, sync = change, os.fsync

    def count(handle=None):
        nonlocal left
        left -= 1
        if left == 0:
            with suppress(TypeError, OSError):  # no file, or a folder
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event, given):
        writes = event == "open" and isinstance(given[1], str) and given[1] != "r"
        if event in CHANGES or (writes and "runs" in str(given[0])):
            count()

    sys.addaudithook(watch)
    os.fsync = lambda handle: (count(handle), sync(handle))
    fit(JOB, "runs", checkpoint_seconds=0, device="cpu", precision="fp32")


def try_kills(place: Path, count: int, seed: int, by_time: float = 0.5) -> int:
    """Kills trainings so many times, of which a share `by_time` at any time, the others at a change
    of their files; each is repeated till it ends, and held against one that was not disturbed.

    Returns how many were lost or ended with other bits: their folders stay in the place.
    """
    chance, kills, lost, whole = random.Random(seed), 0, 0, 0.0
    for name in ("first", "undisturbed"):  # the first waits for imports
        (undisturbed := place / name).mkdir(parents=True)
        begin = time.monotonic()
        assert fuzz.run(train, undisturbed) == 0, (undisturbed / "err").read_text()
        whole = time.monotonic() - begin
    while kills < count:
        (folder := place / f"killed{kills}").mkdir()
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            begun = bool([*folder.rglob("*.partial/checkpoint.pt")])
            if chance.random() < by_time:
                code = fuzz.run(train, folder, seconds=chance.uniform(0, whole))
            else:
                code = fuzz.run(train, folder, chance.randint(1, 40))
            kills += code == -signal.SIGKILL
        try:
            assert code == 0, (folder / "err").read_text()[-300:]
            assert "continuing from" in (folder / "out").read_text() or not begun, "begun again"
            runs = [Run.load(done / "runs" / JOB.folder) for done in (folder, undisturbed)]
            same(*runs)
            assert len({len([*run.path.parent.rglob("*")]) for run in runs}) == 1, "files are left"
            shutil.rmtree(folder)
        except Exception as error:
            lost += 1
            print(f"  lost: exit code {code}: {error}")
    print(f"kills: {kills}; runs lost or of other bits: {lost}", flush=True)
    return lost


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("--inputs", 2000), ("--kills", 200), ("--seed", 0), ("--jobs", cores())):
        parser.add_argument(name, type=int, default=default, help="(default %(default)s)")
    asked = parser.parse_args()
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    with ProcessPoolExecutor(asked.jobs, fuzz.PROCESSES) as pool:
        kills = pool.submit(try_kills, KEPT / "kills", asked.kills, asked.seed)
        broken = try_inputs(asked.inputs, asked.seed, pool)
    sys.exit(broken + kills.result() > 0)
