"""Odd inputs for the command line, each made from a good one, and what becomes of them.

An input is a few files and a command. The files are laid over a folder that has everything good: a
study, a finished run, a checkpoint, pictures. What is inside a checksum is changed before the
checksum is made, so that the check behind it is reached.
"""

import copy
import functools
import hashlib
import io
import itertools
import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import hypothesis
import numpy as np
import safetensors.torch
import torch
from hypothesis import strategies as st
from PIL import Image

from deepnets import cli, recipes
from deepnets.training import Job, OutOfTime, fit
from deepnets.training.checkpoint import DIGEST, MAGIC, VALUES

hypothesis.configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis"))
# The same inputs each time, and no verdict by the clock.
PROFILE = hypothesis.settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
SECONDS, BYTES = 10, 2 << 30  # of the processor and of memory that a command may take
HUNG = 120  # seconds after which it is killed, even if it only waits
ROOM = 4 << 30  # bytes that it may ask for, so that a mistake does not take the machine down


class Input(NamedTuple):
    """Files by name: their bytes, or what a link leads to (str), or None for a named pipe."""

    files: dict[str, bytes | str | None]
    command: list[str]

    def __repr__(self) -> str:
        """What fits a terminal; pytest keeps the files of what fails."""
        return f"{self.command} with {[*self.files]}"


# --- A command in a process of its own

PROCESSES = multiprocessing.get_context("forkserver")
# By the process that forks, once: what commands import, and torch and scikit-learn when first used
PROCESSES.set_forkserver_preload(
    [
        *(f"deepnets.{name}" for name in ("compare.report", "compare.text", "predict", "study")),
        *("hypothesis.strategies", "torch._dynamo", "torchvision.datasets", "sklearn.datasets"),
    ]
)


def run(target, *args) -> int | None:
    """Runs a function in a process; returns the exit code, or None if it hangs."""
    process = PROCESSES.Process(target=target, args=args)
    process.start()
    process.join(HUNG)
    code = process.exitcode
    process.kill()
    process.join()
    return code


def broken(folder: Path, given: Input) -> tuple[int | None, str]:
    """Lays the files over those of a folder and runs the command there.

    Returns its exit code, and which promise it breaks, or nothing.
    """
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
    code, file = run(_command, folder, given.command), folder / "usage"
    busy, peak = json.loads(file.read_text()) if file.exists() else (0, 0)
    error = (folder / "err").read_text(errors="replace")
    if code in (None, -signal.SIGXCPU) or busy > SECONDS:
        return code, "too long"
    if code not in (0, 1, 2) or "Traceback" in error:
        return code, f"traceback: {error}"
    if len(error.splitlines()) != (code == 2):
        return code, f"not one line: {error}"
    return code, "too much memory" if peak >= BYTES else ""


def begin(folder: Path) -> None:
    """Makes this process one that works in a folder."""
    os.chdir(folder)
    os.environ |= {"DEEPNETS_DATA": "data", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)


def _command(folder: Path, command: list[str]) -> None:
    begin(folder)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + 1,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        sys.exit(cli.main(command))
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        usage = used.ru_utime + used.ru_stime, used.ru_maxrss << 10
        Path(folder, "usage").write_text(json.dumps(usage))


# --- What is good

DIGITS, PETS = "runs/digits/resnet8/tuned/seed0", "runs/folder-pets/resnet8/tuned/seed0"
PARTIAL = "runs/digits/resnet8/tuned/seed1.partial"
TRAIN = {
    "dataset": "digits", "recipe": "tuned", "seed": "1", "epochs": "1", "limit": "60",
    "size": "16", "device": "cpu", "precision": "fp32", "out": "runs",
}  # fmt: skip
PLAN = ["study", "study.toml", "--budget=0.000001s", "--out=studied"]  # nothing is trained
STUDY = {
    "defaults": {"input_size": 16, "limit": 60, "batch_size": 16},
    "grid": [
        {
            "networks": ["resnet8", "resnet18"], "datasets": ["digits", "mnist"],
            "recipes": ["tuned", "best"], "seeds": [0, 1],
            "variants": [{}, {"augment": "none", "milestones": [0.1, 0.5]}],
            "resnet18": {"options": {"stem": "3x3"}, "warmup": 0.1},
        },
        {"networks": ["alexnet"], "datasets": ["folder:pets"], "recipes": ["vanilla"], "seeds": [2],
         "input_size": 64},
    ],
}  # fmt: skip


def train(network: str = "resnet8", **changes: str) -> list[str]:
    options = (f"--{name}={value}" for name, value in (TRAIN | changes).items())
    return ["train", network, *options]


def good(folder: Path) -> Path:
    """Makes the folder that inputs are laid over."""
    random = np.random.default_rng(0)
    for kind, number in itertools.product(("cat", "dog"), range(12)):
        (folder / "pets" / kind).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 255, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "pets" / kind / f"{number}.png")
    paper = np.full((60, 60), 220, np.uint8)
    paper[15:45, 28:33] = 30
    Image.fromarray(paper).save(folder / "one.png")
    (folder / "study.toml").write_text(toml(STUDY))
    for change in ({"seed": "0"}, {"seed": "0", "dataset": "folder:pets", "limit": "14"}):
        assert broken(folder, Input({}, train(**change))) == (0, "")
    job = Job("resnet8", "digits", recipes.get("tuned", "resnet8", epochs=1), 1, {}, 60, 16)
    with suppress(OutOfTime):
        how = {"device": "cpu", "precision": "fp32", "verbose": False}
        fit(job, folder / "runs", stop=lambda: True, **how)
    for name in ("out", "err", "usage"):
        (folder / name).unlink()
    shutil.rmtree(folder / "data")  # decoded pictures
    return folder


# --- What is changed in it

PLAIN = (
    None, True, False, "", "x", "x" * 5000, "\0", "\ud800", "a\nb", "../..", "folder:.", "resnet8",
    "alexnet", "vgg16", "resnet9998", "digits", "best", -1, 0, 1, 2, 7, 0.5, -0.0, 1e300, 5e-324,
    math.nan, math.inf, 2**31, 2**63, 10**4000, [], [[]], {}, {"": {}}, [0] * 1000,
    list(range(5000)), functools.reduce(lambda x, _: [x], range(300), 0),
    lambda old: [old], lambda old: [old] * 3, lambda old: {"x": old}, lambda old: str(old),
    lambda old: old * 2 if isinstance(old, int | float | list | str) else old,
)  # fmt: skip
TYPES = ("<f8", "|O", "<U99999999", "|V4", "<M8[ns]", "|b1", "<i8", "<c16", ">u2")
SHAPES = ((1 << 62,), (-1,), (360, 10), (1, 360), (10**9, 10**9), (0, 10), (360,), ())
ENTRIES = tuple(  # of a safetensors file's header
    {"dtype": t, "shape": [16], "data_offsets": [0, 64]} for t in ("F32", "F8_E4M3", "I64", "X")
)
EXTREMES = (b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\x40\0", b"\0")


@st.composite
def mutated(draw, tree, odd=PLAIN):
    """Nested tables and lists, with up to three values changed or gone."""
    tree = copy.deepcopy(tree)
    values = st.sampled_from(odd) | st.integers() | st.floats() | st.text(max_size=9)
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        node = tree
        while node:
            key = draw(st.sampled_from(range(len(node)) if isinstance(node, list) else list(node)))
            if isinstance(node[key], dict | list) and node[key] and draw(st.integers(0, 3)):
                node = node[key]
                continue
            if draw(st.integers(0, 5)) == 5:
                del node[key]
            else:
                value = draw(values)
                node[key] = value(node[key]) if callable(value) else copy.deepcopy(value)
            break
    return tree


@st.composite
def damaged(draw, content):
    """Bytes of which some are others, most often near the beginning; the end may be missing."""
    content = bytearray(content)
    places = st.integers(0, min(64, len(content))) | st.integers(0, len(content))
    for _ in range(draw(st.integers(1, 3))):
        at, new = draw(places), draw(st.sampled_from(EXTREMES) | st.binary(max_size=8))
        content[at : at + draw(st.just(len(new)) | st.integers(0, 8))] = new
    return bytes(content[: draw(places)] if draw(st.integers(0, 3)) == 3 else content)


def perhaps_damaged(strategy):
    """What a strategy gives, a quarter of it damaged."""
    return st.tuples(strategy, st.integers(0, 3)).flatmap(
        lambda pair: damaged(pair[0]) if pair[1] == 3 else st.just(pair[0])
    )


def toml(value, top=True) -> str:
    """A value as TOML writes it; what has no form there becomes a mistake."""
    if isinstance(value, dict):
        pairs = [f"{json.dumps(str(k))} = {toml(v, False)}" for k, v in value.items()]
        return "\n".join(pairs) if top else "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(v, False) for v in value) + "]"
    return json.dumps(value) if isinstance(value, str | bool) else str(value)


def csv(rows) -> str:
    lines = (",".join(map(str, row)) if isinstance(row, list) else str(row) for row in rows)
    return "\n".join(lines)


def arrays(content: bytes):
    """An `.npz` file, one of whose arrays is damaged or says another type and shape than it has."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}

    def file(name, part, method):
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", method) as packed:
            for key, values in (parts | {name: part}).items():
                packed.writestr(key, values)
        return made.getvalue()

    def head(descr, shape):
        text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
        return b"\x93NUMPY\1\0" + struct.pack("<H", len(text) + 1) + text + b"\n" + bytes(3600)

    heads = st.builds(head, st.sampled_from(TYPES), st.sampled_from(SHAPES))
    methods = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    return st.sampled_from(sorted(parts)).flatmap(
        lambda name: st.builds(file, st.just(name), heads | damaged(parts[name]), methods)
    )


def tensors(content: bytes):
    """A safetensors file with another header, or damaged."""
    length = struct.unpack("<Q", content[:8])[0]
    head, rest = json.loads(content[8 : 8 + length]), content[8 + length :]

    def file(head):
        text = json.dumps(head).encode()
        return struct.pack("<Q", len(text)) + text + rest

    return mutated(head, PLAIN + ENTRIES).map(file) | damaged(content)


# --- Inputs by kind


def studies(base):
    files = mutated(STUDY).map(lambda tree: toml(tree).encode(errors="surrogatepass"))
    return perhaps_damaged(files).map(lambda file: Input({"study.toml": file}, PLAN))


def run_folders(base):
    """Each of the four files of a run."""
    run = base / DIGITS
    info = json.loads((run / "run.json").read_text())
    table = [row.split(",") for row in (run / "history.csv").read_text().splitlines()]
    files = {
        "run.json": mutated(info).map(lambda info: json.dumps(info).encode()),
        "history.csv": mutated(table).map(lambda t: csv(t).encode(errors="surrogatepass")),
        "test.npz": arrays((run / "test.npz").read_bytes()),
        "views.npz": arrays((run / "views.npz").read_bytes()),
    }
    reads = [["compare", "runs"], ["compare", "runs", "--json"], ["report", DIGITS, "--out", "o"]]
    uses = [["evaluate", DIGITS], ["predict", DIGITS, "one.png"], train(seed="0")]
    return st.sampled_from(["run.json", *sorted(files)]).flatmap(
        lambda name: st.builds(
            lambda content, command: Input({f"{DIGITS}/{name}": content}, command),
            perhaps_damaged(files[name]),
            st.sampled_from(reads + uses * (name == "run.json")),
        )
    )


def checkpoints(base):
    """Checkpoints with a right checksum, and some with a wrong one."""
    path = f"{PARTIAL}/checkpoint.pt"
    payload = (base / path).read_bytes()[len(MAGIC) + DIGEST :]
    parts = safetensors.torch.load(payload)
    values = json.loads(parts.pop(VALUES).numpy().tobytes())

    def saved(values):
        text = json.dumps(values).encode(errors="surrogatepass")
        return safetensors.torch.save(parts | {VALUES: torch.tensor([*text], dtype=torch.uint8)})

    def signed(payload):
        return MAGIC + hashlib.sha256(payload).digest() + payload

    payloads = mutated(values).map(saved) | tensors(payload)
    return perhaps_damaged(payloads.map(signed)).map(lambda file: Input({path: file}, train()))


def weights(base):
    """Weights whose hash is the one in run.json."""
    info = json.loads((base / DIGITS / "run.json").read_text())

    def given(file, command):
        said = json.dumps(info | {"weights_sha256": hashlib.sha256(file).hexdigest()}).encode()
        return Input({f"{DIGITS}/model.safetensors": file, f"{DIGITS}/run.json": said}, command)

    commands = st.sampled_from([["predict", DIGITS, "one.png"], ["evaluate", DIGITS]])
    files = tensors((base / DIGITS / "model.safetensors").read_bytes())
    return st.builds(given, files, commands)


def image_files(base):
    """Pictures of all formats, to be classified or in a folder to train on."""
    ramp = np.arange(48 * 40 * 4, dtype=np.uint32).reshape(48, 40, 4)
    colour, made = Image.fromarray((ramp % 251).astype(np.uint8)), {}
    for suffix, mode, how in (
        ("png", "RGBA", {}), ("png", "P", {"transparency": 3}), ("png", "1", {}),
        ("png", "I;16", {"transparency": 5}), ("jpg", "RGB", {}), ("jpg", "CMYK", {}),
        ("jpg", "L", {"progressive": True}), ("gif", "P", {}), ("bmp", "RGB", {}),
        ("tif", "RGB", {"compression": "tiff_lzw"}), ("tif", "CMYK", {}), ("webp", "RGBA", {}),
        ("ppm", "RGB", {}), ("tga", "RGBA", {"compression": "tga_rle"}), ("pcx", "P", {}),
        ("sgi", "RGB", {}), ("jp2", "RGB", {}), ("avif", "RGB", {}), ("ico", "RGB", {}),
        ("eps", "RGB", {}), ("pdf", "RGB", {}), ("qoi", "RGB", {}),
    ):  # fmt: skip
        file = io.BytesIO()
        first = colour.convert("L" if mode == "I;16" else "RGBA" if mode == "RGBA" else "RGB")
        with suppress(KeyError, OSError, ValueError):  # a Pillow without this format
            first.convert(mode).save(file, Image.registered_extensions()[f".{suffix}"], **how)
            made[f"{len(made)}.{suffix}"] = file.getvalue()
    names = st.sampled_from(sorted(made))
    files = st.one_of(
        names.flatmap(lambda name: st.tuples(st.just(name), damaged(made[name]))),
        st.tuples(names, st.sampled_from([None, "nowhere", ".", "/dev/zero", "x.png", b""])),
        st.tuples(st.sampled_from(["\udce9.png", "a\nb.png", "x.txt"]), names.map(made.get)),
    )

    def given(pair, place):
        name, file = pair
        if place in (DIGITS, PETS):
            return Input({name: file}, ["predict", place, name])
        return Input({f"{place}/{name}": file}, train(dataset="folder:pets", limit="14"))

    places = st.sampled_from([DIGITS, DIGITS, PETS, "pets/cat", "pets/\udce9"])
    return st.builds(given, files, places)


ODD = (
    "", " ", "a\nb", "-1", "0", "2", "1e9", "9" * 5000, "nan", "x" * 300, "é", "\udcff", "folder:",
    "folder:.", "folder:pets", "folder:runs", "folder:one.png", "~", "..", "one.png", "runs",
    DIGITS, PARTIAL, "none", "/dev/null", "%s", "{}", "\x1b[0m", "--", "-", "-x", "resnet8",
    "resnet9998", "mnist", "digits", "cuda:0", "cuda:9", "bf16", "best", "study.toml",
)  # fmt: skip
ADDRESSES = ("x", "tcp://", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:1", "x://y", "tcp://[::1")


def command_lines(base):
    """Words in the wrong place, and wrong words."""
    odd = st.sampled_from(ODD)
    text = odd | st.text(st.characters(exclude_characters="\0/"), max_size=9)
    # Of a size that is trained at once, or refused
    small = st.sampled_from(["-1", "0", "x", "9" * 5000, "1e3", "", "1.5", "99999999999"])
    changes = st.fixed_dictionaries(
        {}, optional={k: small if k in ("epochs", "limit", "size") else text for k in TRAIN}
    )
    names = st.sampled_from(["models", "compare", "predict", "evaluate", "report", "", "x"])
    options = st.sampled_from(["--json", "--out", "--dataset", "--device", "--precision", "-h"])
    studied = st.sampled_from(["--jobs", "--budget", "--device", "--precision"])
    return st.one_of(
        st.builds(
            lambda network, change: train(network, **change), st.just("resnet8") | odd, changes
        ),
        st.builds(lambda name, rest: [name, *rest], names, st.lists(text | options, max_size=4)),
        st.builds(lambda name, n: [*PLAN, f"{name}={n}"], studied, small),
        st.sampled_from(ADDRESSES).map(lambda a: ["study", "study.toml", f"--scheduler={a}"]),
    ).map(lambda command: Input({}, command))


KINDS = {
    "studies": studies,
    "runs": run_folders,
    "checkpoints": checkpoints,
    "weights": weights,
    "pictures": image_files,
    "commands": command_lines,
}
