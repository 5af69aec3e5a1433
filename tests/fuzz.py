"""Odd inputs for the command line, each made from a good one, and what becomes of them; and a
training that is killed.

An input is a few files and a command. The files are laid over a folder that has everything good: a
study, finished runs, pictures. Of weights the hash is made after the change, so that the check
behind it is reached.
"""

import copy
import functools
import hashlib
import io
import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import struct
import sys
import tomllib
import zlib
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from deepnets import cli, recipes
from deepnets.runs import Run
from deepnets.training import Job, fit

SECONDS, BYTES = 10, 2 << 30  # of the processor, and of memory, that a command may take
HUNG = 60  # seconds after which it is killed, even if it only waits
ROOM = 4 << 30  # bytes that it may ask for, so that a mistake does not take the machine down

PROCESSES = multiprocessing.get_context("forkserver")
# By the process that forks, once: what commands import, and torch and scikit-learn when first used
PROCESSES.set_forkserver_preload([
    *(f"deepnets.{name}" for name in ("compare.report", "compare.text", "predict", "study")),
    *("torch._dynamo", "torchvision.datasets", "sklearn.datasets"),
])  # fmt: skip


class Input(NamedTuple):
    """Files by name: their bytes, or what a link leads to (str), or None for a named pipe."""

    files: dict[str, bytes | str | None]
    command: list[str]


class Answer(NamedTuple):
    """How a command ended, and what it printed of mistakes."""

    code: int | None
    error: str

    @property
    def broken(self) -> bool:
        """Whether it was killed, or printed a traceback, or not the one line of a mistake."""
        lines = 1 if self.code == 2 else 0
        return self.code not in (0, 1, 2) or len(self.error.splitlines()) != lines


# --- A command in a process of its own


def answer(folder: Path, given: Input) -> Answer:
    """Lays the files over those of a folder and runs the command there."""
    for name, content in given.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if content is None:
            os.mkfifo(path)
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    code = run(_command, folder, given.command, seconds=HUNG)
    return Answer(code, (folder / "err").read_text(errors="replace"))


def run(function, folder: Path, *args, seconds: float | None = None) -> int | None:
    """Calls a function in a process that works in a folder and writes there what it prints; it is
    killed after so many seconds. Returns the exit code.
    """
    process = PROCESSES.Process(target=_in_folder, args=(function, folder, *args))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode


def _in_folder(function, folder: Path, *args) -> None:
    os.chdir(folder)
    torch.set_num_threads(1)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    function(*args)


def _command(command: list[str]) -> None:
    os.environ |= {"DEEPNETS_DATA": "data", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        sys.exit(cli.main(command))
    finally:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        assert peak < BYTES, f"it took {peak} bytes of memory"


# --- A training that is killed

BEST = recipes.get("best", "resnet8", epochs=3, batch_size=20)
JOB = Job("resnet8", "digits", BEST, options={"dropout": 0.1}, limit=60, input_size=16)


def killed(change: int = 0) -> None:
    """In a process: a tiny training with a checkpoint at each step. It is killed at the change of
    that number to its files: before it, or when half of a file is on the disk. What is on the disk
    between two changes is the same at any time.
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
        if event == "open":
            writes = isinstance(given[1], str) and given[1][0] in "wax" and "runs" in str(given[0])
        else:
            writes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
        if writes:
            count()

    sys.addaudithook(watch)
    os.fsync = lambda handle: (count(handle), sync(handle))
    fit(JOB, "runs", checkpoint_seconds=0, device="cpu", precision="fp32")


def same(first: Run, second: Run) -> None:
    """Fails unless weights, logits and history (but for the time it took) are equal bit for bit."""
    for name, value in load_file(first.path / "model.safetensors").items():
        assert torch.equal(value, load_file(second.path / "model.safetensors")[name]), name
    assert np.array_equal(np.load(first.path / "logits.npy"), np.load(second.path / "logits.npy"))
    assert first.history.drop(columns="seconds").equals(second.history.drop(columns="seconds"))


# --- What is good

DIGITS, PETS = "runs/digits/resnet8/tuned/seed0", "runs/folder-pets/resnet8/tuned/seed0"
TRAIN = {
    "--dataset": "digits", "--recipe": "tuned", "--seed": "1", "--epochs": "1", "--limit": "60",
    "--size": "16", "--device": "cpu", "--precision": "fp32", "--out": "runs",
}  # fmt: skip
STUDY = tomllib.loads((Path(__file__).parent.parent / "studies" / "demo.toml").read_text())
STUDY["grid"][0] |= {"variants": [{}, {"batch_size": 8, "milestones": [0.1, 0.5]}], "options": {}}
PLAN = ["study", "study.toml", "--budget=0.000001s", "--out=studied"]  # nothing is trained


def train(change: dict[str, str], network: str = "resnet8") -> list[str]:
    return ["train", network, *(f"{name}={value}" for name, value in (TRAIN | change).items())]


def good(folder: Path) -> Path:
    """Makes the folder that inputs are laid over."""
    random = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (folder / "pets" / kind).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 255, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "pets" / kind / f"{number}.png")
    paper = np.full((60, 60), 220, np.uint8)
    paper[15:45, 28:33] = 30
    Image.fromarray(paper).save(folder / "one.png")
    (folder / "study.toml").write_bytes(toml(STUDY))
    for change in ({"--seed": "0"}, {"--seed": "0", "--dataset": "folder:pets", "--limit": "14"}):
        made = answer(folder, Input({}, train(change)))
        assert made.code == 0, made.error
    shutil.rmtree(folder / "data")  # decoded pictures
    return folder


# --- What is changed in it

PLAIN = (
    None, True, False, "", "x", "x" * 5000, "\0", "\ud800", "a\nb", "../..", "folder:.", "resnet8",
    "alexnet", "vgg16", "resnet9998", "digits", "best", -1, 0, 1, 2, 7, 0.5, -0.0, 1e300, 5e-324,
    math.nan, math.inf, 2**31, 2**63, 10**4000, [], [[]], {}, {"": {}}, [0] * 1000,
    list(range(5000)), functools.reduce(lambda x, _: [x], range(300), 0), "F32", "F8_E4M3", "I64",
    [16], [0, 64], lambda old: [old], lambda old: [old] * 3, lambda old: {"x": old}, str,
    lambda old: old * 2 if isinstance(old, int | float | list | str) else old,
)  # fmt: skip
EXTREMES = (b"\xff" * 4, b"\0" * 4, b"\x7f" + b"\xff" * 3, b"\xff" * 3 + b"\x7f", b"99999")


def mutated(draw: Random, tree):
    """Nested tables and lists, with up to three values changed or gone."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.choice([1, 1, 2, 3])):
        node = tree
        while node:
            key = draw.choice(range(len(node)) if isinstance(node, list) else list(node))
            if isinstance(node[key], dict | list) and node[key] and draw.random() < 0.75:
                node = node[key]
                continue
            value = draw.choice(PLAIN)
            if draw.random() < 0.15:
                del node[key]
            else:
                node[key] = value(node[key]) if callable(value) else copy.deepcopy(value)
            break
    return tree


def damaged(draw: Random, content: bytes) -> bytes:
    """Bytes of which some are others, most often near the beginning; the end may be missing."""
    found = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        at = draw.randint(0, draw.choice([64, len(found)]))
        new = draw.choice([*EXTREMES, draw.randbytes(draw.randint(0, 8))])
        found[at : at + draw.choice([len(new), draw.randint(0, 8)])] = new
    return bytes(found[: draw.randint(0, len(found))] if draw.random() < 0.25 else found)


def perhaps(draw: Random, content: bytes) -> bytes:
    """A quarter of all files damaged."""
    return damaged(draw, content) if draw.random() < 0.25 else content


def toml(tree: dict) -> bytes:
    """Tables as TOML writes them; what has no form there becomes a mistake."""
    lines = (f"{json.dumps(k)} = {json.dumps(v, separators=(',', '='))}" for k, v in tree.items())
    return "\n".join(lines).encode()


# --- Inputs by kind


def studies(draw: Random, base: Path) -> Input:
    return Input({"study.toml": perhaps(draw, toml(mutated(draw, STUDY)))}, PLAN)


def run_folders(draw: Random, base: Path) -> Input:
    """Each of the four files of a run."""
    name = draw.choice(["run.json", "run.json", "history.csv", "test.npz", "views.npz"])
    content = (base / DIGITS / name).read_bytes()
    commands = [["compare", "runs"], ["report", "runs", "--out=o"]]
    if name == "run.json":
        content = perhaps(draw, json.dumps(mutated(draw, json.loads(content))).encode())
        commands += [["evaluate", DIGITS], ["predict", DIGITS, "one.png"], train({"--seed": "0"})]
    else:
        content = damaged(draw, content)
    return Input({f"{DIGITS}/{name}": content}, draw.choice(commands))


def weights(draw: Random, base: Path) -> Input:
    """Weights changed in their header, or anywhere, whose hash is the one in run.json."""
    file = (base / DIGITS / "model.safetensors").read_bytes()
    if draw.random() < 0.5:
        file = damaged(draw, file)
    else:
        start = 8 + int.from_bytes(file[:8], "little")
        head = json.dumps(mutated(draw, json.loads(file[8:start]))).encode()
        file = len(head).to_bytes(8, "little") + head + file[start:]
    info = json.loads((base / DIGITS / "run.json").read_text())
    said = json.dumps(info | {"weights_sha256": hashlib.sha256(file).hexdigest()}).encode()
    files = {f"{DIGITS}/model.safetensors": file, f"{DIGITS}/run.json": said}
    return Input(files, draw.choice([["predict", DIGITS, "one.png"], ["evaluate", DIGITS]]))


@functools.cache
def good_pictures() -> dict[str, bytes]:
    """Pictures of many formats, by the names of files."""
    ramp = np.arange(48 * 40 * 4, dtype=np.uint32).reshape(48, 40, 4) % 251
    color, made, exif = Image.fromarray(ramp.astype(np.uint8)), {}, Image.Exif()
    exif[0x0112] = 6
    for suffix, mode, how in (
        ("png", "RGBA", {}), ("png", "P", {"transparency": 3}), ("png", "1", {}),
        ("png", "LA", {}), ("jpg", "RGB", {"exif": exif}), ("jpg", "CMYK", {}), ("gif", "P", {}),
        ("bmp", "RGB", {}), ("tif", "RGB", {"compression": "tiff_lzw"}),
        ("tif", "L", {"compression": "tiff_adobe_deflate"}), ("webp", "RGBA", {}),
        ("ppm", "RGB", {}), ("avif", "RGB", {}), ("tga", "RGBA", {}), ("jp2", "RGB", {}),
        ("ico", "RGB", {}), ("eps", "RGB", {}), ("pdf", "RGB", {}),
    ):  # fmt: skip
        file = io.BytesIO()
        with suppress(KeyError, OSError, ValueError):  # a Pillow without this format
            kind = Image.registered_extensions()[f".{suffix}"]
            color.convert(mode).save(file, kind, **how)
            made[f"{len(made)}.{suffix}"] = file.getvalue()
    return made


def chunk(kind: bytes, body: bytes) -> bytes:
    """A part of a PNG, with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def image_files(draw: Random, base: Path) -> Input:
    """Pictures of all formats, to be classified or in a folder to train on."""
    name, content = draw.choice(list(good_pictures().items()))
    bomb = zlib.compress(bytes(1 << 24))
    odd = ((b"zTXt", b"a\0\0" + bomb), (b"eXIf", b"II*\0" + b"\xff" * 4), (b"PLTE", b"\1\2"))
    if name.endswith("png") and draw.random() < 0.5:
        content = content[:33] + chunk(*draw.choice(odd)) + content[33:]
    content = draw.choice([damaged(draw, content), content, None, "nowhere", ".", "/dev/zero"])
    name = draw.choice([name, name, "\udce9.png", "a\nb.png", "x.PNG", "x.txt", ".png"])
    place = draw.choice([DIGITS, PETS, "pets/cat", "pets/\udce9"])
    if place in (DIGITS, PETS):
        return Input({name: content}, ["predict", place, name])
    pets = train({"--dataset": "folder:pets", "--limit": "14"})
    return Input({f"{place}/{name}": content}, pets)


ODD = (
    "", " ", "a\nb", "-1", "0", "2", "1e9", "9" * 5000, "nan", "x" * 300, "é", "\udcff", "folder:",
    "folder:.", "folder:pets", "folder:runs", "folder:one.png", "~", "..", "one.png", "runs",
    DIGITS, "none", "/dev/null", "%s", "{}", "\x1b[0m", "-", "-x", "resnet8", "resnet9998",
    "mnist", "cuda:9", "bf16", "best", "study.toml", "\x85", "\u2028", "--out", "-h",
)  # fmt: skip
# Of a size that is trained at once, or refused
NUMBERS = ("-1", "0", "x", "9" * 5000, "1e3", "", "1.5", "99999999999")


def command_lines(draw: Random, base: Path) -> Input:
    """Words in the wrong place, and wrong words."""
    name = draw.choice(["models", "compare", "predict", "report", "", "study", *["train"] * 4])
    if name == "study":
        option = draw.choice(["--jobs", "--budget", "--device", "--precision", "--scheduler"])
        return Input({}, [*PLAN, f"{option}={draw.choice(NUMBERS)}"])
    if name == "train":
        numbers, option = ("--epochs", "--limit", "--size"), draw.choice(sorted(TRAIN))
        changed = {option: draw.choice(NUMBERS if option in numbers else ODD)}
        return Input({}, train(changed, draw.choice([*["resnet8"] * 3, draw.choice(ODD)])))
    most = 2 if name == "predict" else 4  # a line for each bad picture is right
    return Input({}, [name, *draw.choices(ODD, k=draw.randint(0, most))])


KINDS = {
    made.__name__: made for made in (studies, run_folders, weights, image_files, command_lines)
}
