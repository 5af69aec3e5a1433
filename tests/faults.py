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
from functools import partial
from pathlib import Path

import fuzz
import hypothesis
import numpy as np
import torch
from safetensors.torch import load_file

from deepnets import cli, training
from deepnets.training.hardware import cores

KEPT = Path("runs/faults")
SLOW = 10  # seconds, within which every answer is there
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")  # of a folder; `open` makes files


def try_kind(kind: str, base: Path, count: int, seed: int) -> list[tuple[str, fuzz.Answer]]:
    """Tries so many inputs of a kind; returns for each which promise was broken, and the answer."""
    tried, start = [], time.monotonic()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        fuzz.PROFILE, max_examples=count, phases=[hypothesis.Phase.generate], derandomize=False
    )
    @hypothesis.given(fuzz.KINDS[kind](base))
    def note(case):
        folder = shutil.copytree(base, base.with_name(kind))
        found = fuzz.answer(folder, case)
        why = found.broken or ("too long" if found.seconds > SLOW else "")
        tried.append((why, found))
        if why:
            (folder / "command").write_text(repr(case.command))
            print(f"  {why}: {kind}: {case.command}: {found.error[-200:]!r}", flush=True)
            shutil.move(folder, KEPT / f"{kind}-{len(tried)}")
        shutil.rmtree(folder, ignore_errors=True)

    note()
    print(f"  {kind}: {len(tried)} in {time.monotonic() - start:.0f} s", flush=True)
    return tried


def try_inputs(count: int, seed: int, pool: Executor) -> bool:
    """Tries at least so many inputs; returns whether all promises are kept."""
    each = -(-count // len(fuzz.KINDS))
    with tempfile.TemporaryDirectory() as place:
        base = fuzz.good(Path(place, "good"))
        kinds = [pool.submit(try_kind, kind, base, each, seed) for kind in fuzz.KINDS]
        tried = [pair for kind in kinds for pair in kind.result()]
    broken, answers = Counter(why for why, _ in tried if why), [found for _, found in tried]
    codes = Counter(found.code for found in answers)
    slowest, peak = max(found.seconds for found in answers), max(found.peak for found in answers)
    print(
        f"inputs: {len(answers)}, of which {codes[2]} were refused and {codes[0] + codes[1]} worked"
    )
    print(f"tracebacks: {broken['traceback']}, not one line: {broken['not one line']}")
    print(f"over {SLOW} s: {broken['too long']}, slowest {slowest:.1f} s")
    print(
        f"peak memory: {peak / 2**20:.0f} MiB, over 2 GiB: {broken['too much memory']}", flush=True
    )
    return not broken and len(answers) >= count


def train(folder: Path, operation: int = 0) -> None:
    """In a process: a tiny training with a checkpoint at each step; before the change of that
    number to its files it is killed.
    """
    os.chdir(folder)
    torch.set_num_threads(1)
    training.fit = partial(training.fit, checkpoint_seconds=0)
    left = operation

    def watch(event, given):
        nonlocal left
        writes = event == "open" and isinstance(given[1], str) and given[1] != "r"
        if event in CHANGES or (writes and "runs" in str(given[0])):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    with open("out", "w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.exit(cli.main(fuzz.train({"--epochs": "3", "--recipe": "best"})))


def until_killed(folder: Path, chance: random.Random, whole: float) -> int | None:
    """Starts the training and kills it: after a while, or at a change of its files; the exit
    code.
    """
    by_time = chance.random() < 0.5
    number = 0 if by_time else chance.randint(1, 40)
    process = fuzz.PROCESSES.Process(target=train, args=(folder, number))
    process.start()
    process.join(chance.uniform(0, whole) if by_time else None)
    process.kill()
    process.join()
    return process.exitcode


def different_bits(run: Path, other: Path) -> int:
    """How many bits of weights, logits and stored predictions are not the same in two runs."""

    def contents(folder):
        with np.load(folder / "test.npz") as test:
            arrays = {**test, "logits": np.load(folder / "logits.npy")}
        return arrays | {k: v.numpy() for k, v in load_file(folder / "model.safetensors").items()}

    ours, theirs = contents(run), contents(other)
    assert ours.keys() == theirs.keys()
    pairs = (
        (np.frombuffer(ours[k].tobytes(), "u1"), np.frombuffer(theirs[k].tobytes(), "u1"))
        for k in ours
    )
    return sum(int(np.bitwise_count(a ^ b).sum()) for a, b in pairs)


def try_kills(count: int, seed: int) -> bool:
    """Kills trainings so many times; each is repeated till it ends, and held against one that was
    not disturbed.
    """
    chance, kills, finished, lost, bits = random.Random(seed), 0, 0, 0, 0
    run = Path("runs/digits/resnet8/best/seed1")
    with tempfile.TemporaryDirectory() as place:
        for name in ("first", "undisturbed"):  # the first waits for imports
            undisturbed = Path(place, name)
            undisturbed.mkdir()
            start = time.monotonic()
            process = fuzz.PROCESSES.Process(target=train, args=(undisturbed,))
            process.start()
            process.join()
            assert process.exitcode == 0, (undisturbed / "out").read_text()
            whole = time.monotonic() - start
        while kills < count:
            folder = Path(place, "killed")
            folder.mkdir()
            checkpoint, begun = folder / f"{run}.partial" / "checkpoint.pt", False
            while (code := until_killed(folder, chance, whole)) == -signal.SIGKILL:
                kills, begun = kills + 1, checkpoint.exists()
            continued = "continuing from" in (folder / "out").read_text() or not begun
            if code == 0 and continued and (folder / run / "run.json").exists():
                finished += 1
                bits += different_bits(folder / run, undisturbed / run)
                shutil.rmtree(folder)
            else:
                lost += 1
                print(f"  lost: exit code {code}: {(folder / 'out').read_text()[-300:]!r}")
                shutil.move(folder, KEPT / f"lost{lost}")
    print(f"kills: {kills}, in {finished + lost} runs of {whole:.1f} s")
    print(f"runs lost: {lost}, differing bits: {bits}", flush=True)
    return not lost and not bits


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("--inputs", 2000), ("--kills", 200), ("--seed", 0), ("--jobs", cores())):
        parser.add_argument(name, type=int, default=default, help="(default %(default)s)")
    asked = parser.parse_args()
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    with ProcessPoolExecutor(asked.jobs, fuzz.PROCESSES) as pool:
        kills = pool.submit(try_kills, asked.kills, asked.seed)
        kept = [try_inputs(asked.inputs, asked.seed, pool), kills.result()]
    sys.exit(not all(kept))
