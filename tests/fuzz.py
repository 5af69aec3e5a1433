"""Odd inputs for the command line, each made from a good one, and what becomes of them.

An input is a few files and a command. The files are laid over a folder that has everything good: a
study, a finished run, a checkpoint, pictures. What is inside a checksum is changed before the
checksum is made, so that the check behind it is reached.
"""

import ast
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
import tempfile
import time
import zipfile
import zlib
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

SECONDS, BYTES = 10, 2 << 30  # that a command may take
HUNG = 120  # seconds after which it is killed, even if it only waits
ROOM = 4 << 30  # bytes that it may ask for, so that a mistake does not take the machine down


# By the process that forks, once: what commands import, and torch and scikit-learn when first used.
IMPORTED = [
    *(f"deepnets.{name}" for name in ("compare.report", "compare.text", "predict", "study")),
    *("hypothesis.strategies", "torch._dynamo", "torchvision.datasets", "sklearn.datasets"),
]


class Input(NamedTuple):
    """Files by name: their bytes, or what a link leads to (str), or None for a named pipe."""

    files: dict[str, bytes | str | None]
    command: list[str]

    def __repr__(self) -> str:
        """What fits a terminal; `make faults` keeps the files."""
        return f"{self.command} with {[*self.files]}"


class Answer(NamedTuple):
    """How a command ended: `seconds` that it took, apart from those that it waited for a processor
    that others used; `busy` seconds of the processor; peak memory in bytes.
    """

    code: int | None
    error: str
    seconds: float
    busy: float
    peak: int

    @property
    def broken(self) -> str:
        """Which promise is broken, or nothing."""
        if self.code in (None, -signal.SIGXCPU) or self.busy > SECONDS:
            return "too long"
        if self.code not in (0, 1, 2) or "Traceback" in self.error:
            return "traceback"
        if len(self.error.splitlines()) != (self.code == 2):
            return "not one line"
        return "too much memory" if self.peak >= BYTES else ""


# --- A command in a process of its own

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(IMPORTED)


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
    process = PROCESSES.Process(target=_child, args=(folder, given.command))
    process.start()
    process.join(HUNG)
    code = process.exitcode
    process.kill()
    process.join()
    file = folder / "usage"
    usage = json.loads(file.read_text()) if file.exists() else (0, 0, 0)
    return Answer(code, (folder / "err").read_text(errors="replace"), *usage)


def _child(folder: Path, command: list[str]) -> None:
    start = time.monotonic()
    os.chdir(folder)
    os.environ |= {"DEEPNETS_DATA": "data", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + 1,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        sys.exit(cli.main(command))
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        queued = int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
        seconds = time.monotonic() - start - queued
        usage = seconds, used.ru_utime + used.ru_stime, used.ru_maxrss << 10
        Path(folder, "usage").write_text(json.dumps(usage))


# --- What is good

DIGITS, PETS = "runs/digits/resnet8/tuned/seed0", "runs/folder-pets/resnet8/tuned/seed0"
PARTIAL = "runs/digits/resnet8/tuned/seed1.partial"
TRAIN = {
    "--dataset": "digits",
    "--recipe": "tuned",
    "--seed": "1",
    "--epochs": "1",
    "--limit": "60",
    "--size": "16",
    "--device": "cpu",
    "--precision": "fp32",
    "--out": "runs",
}
STUDY = {
    "defaults": {"input_size": 16, "limit": 60, "batch_size": 16},
    "grid": [
        {
            "networks": ["resnet8", "resnet18"],
            "datasets": ["digits", "mnist"],
            "recipes": ["tuned", "best"],
            "seeds": [0, 1],
            "variants": [{}, {"augment": "none", "milestones": [0.1, 0.5]}],
            "resnet18": {"options": {"stem": "3x3"}, "warmup": 0.1},
        },
        {
            "networks": ["alexnet"],
            "datasets": ["folder:pets"],
            "recipes": ["vanilla"],
            "seeds": [2],
            "input_size": 64,
        },
    ],
}


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
    (folder / "study.toml").write_text(toml(STUDY))
    for change in ({"--seed": "0"}, {"--seed": "0", "--dataset": "folder:pets", "--limit": "14"}):
        made = answer(folder, Input({}, train(change)))
        assert made.code == 0, made.error
    job = Job("resnet8", "digits", recipes.get("tuned", "resnet8", epochs=1), 1, {}, 60, 16)
    with suppress(OutOfTime):
        how = {"device": "cpu", "precision": "fp32", "verbose": False}
        fit(job, folder / "runs", stop=lambda: True, **how)
    for name in ("out", "err", "usage"):
        (folder / name).unlink()
    shutil.rmtree(folder / "data")  # decoded pictures
    return folder


def train(change: dict[str, str], network: str = "resnet8") -> list[str]:
    return ["train", network, *(f"{name}={value}" for name, value in (TRAIN | change).items())]


# --- What is changed in it

PLAIN = (
    None, True, False, "", "x", "x" * 5000, "\0", "\ud800", "a\nb", "../..", "folder:.", "resnet8", "alexnet", "vgg16",
    "resnet9998", "digits", "best", -1, 0, 1, 2, 7, 0.5, -0.0, 1e300, 5e-324, math.nan, math.inf, 2**31, 2**63, 10**4000,
    [], [[]], {}, {"": {}}, [0] * 1000, list(range(5000)),
    functools.reduce(lambda x, _: [x], range(300), 0),
    lambda old: [old], lambda old: [old] * 3, lambda old: {"x": old}, lambda old: str(old),
    lambda old: old * 2 if isinstance(old, int | float | list | str) else old,
)  # fmt: skip
ARRAYS = (
    "<f8", "|O", "<U99999999", "|V4", "<M8[ns]", "|b1", "<i8", "<c16", ">u2", [["a", "<f4"]], [1 << 62],
    [-1], [360, 10], [1, 360],
    [10**9, 10**9], [0, 10], [360], [],
)  # fmt: skip
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


def perhaps(strategy, change):
    """What a strategy gives, a quarter of it changed once more."""
    return strategy.flatmap(
        lambda value: st.integers(0, 3).flatmap(
            lambda n: change(value) if n == 3 else st.just(value)
        )
    )


def toml(value, top=True) -> str:
    """A value as TOML writes it; what has no form there becomes a mistake."""
    if isinstance(value, dict):
        pairs = [f"{json.dumps(str(k))} = {toml(v, False)}" for k, v in value.items()]
        return "\n".join(pairs) if top else "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(v, False) for v in value) + "]"
    return json.dumps(value) if isinstance(value, str | bool) else str(value)


def archive(parts: dict[str, bytes], compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as packed:
        for name, content in parts.items():
            packed.writestr(name, content)
    return file.getvalue()


def unpacked(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


# --- Inputs by kind


def studies(base):
    """Study files, of which nothing is trained."""
    files = perhaps(
        mutated(STUDY).map(lambda tree: toml(tree).encode(errors="surrogatepass")), damaged
    )
    command = ["study", "study.toml", "--budget=0.000001s", "--out=studied"]
    return files.map(lambda file: Input({"study.toml": file}, command))


def run_folders(base):
    """Each of the four files of a run."""
    run = base / DIGITS
    table = [row.split(",") for row in (run / "history.csv").read_text().splitlines()]
    files = {
        "run.json": mutated(json.loads((run / "run.json").read_text())).map(
            lambda info: json.dumps(info).encode()
        ),
        "history.csv": mutated(table).map(
            lambda rows: "\n".join(
                ",".join(map(str, row)) if isinstance(row, list) else str(row) for row in rows
            ).encode(errors="surrogatepass")
        ),
        "test.npz": arrays((run / "test.npz").read_bytes()),
        "views.npz": arrays((run / "views.npz").read_bytes()),
    }
    commands = [["compare", "runs"], ["compare", "runs", "--json"], ["report", DIGITS, "--out", "o"],
    ["report", "runs", "--out", "o"],
                ["evaluate", DIGITS], ["predict", DIGITS, "one.png"], train({"--seed": "0"})]  # fmt: skip
    return st.sampled_from(["run.json", *sorted(files)]).flatmap(
        lambda name: st.builds(
            lambda content, command: Input({f"{DIGITS}/{name}": content}, command),
            perhaps(files[name], damaged),
            st.sampled_from(commands if name == "run.json" else commands[:4]),
        )
    )


def arrays(content: bytes):
    """An `.npz` file whose arrays say other types and shapes than they have."""
    heads, values = {}, {}
    for name, part in unpacked(content).items():
        length = struct.unpack("<H", part[8:10])[0]
        heads[name] = ast.literal_eval(part[10 : 10 + length].decode())
        heads[name]["shape"] = list(heads[name]["shape"])
        values[name] = part[10 + length :]

    def stored(heads, method):
        parts = {}
        for name, head in heads.items():
            if isinstance(head, dict):
                head = {
                    k: tuple(v) if isinstance(v, list) and k == "shape" else v
                    for k, v in head.items()
                }
            text = repr(head).encode(errors="replace")[:60_000] + b"\n"
            parts[name] = (
                b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + values.get(name, b"")
            )
        return archive(parts, method)

    methods = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    return st.builds(stored, mutated(heads, PLAIN + ARRAYS), methods)


def checkpoints(base):
    """Checkpoints with a right checksum, and some with a wrong one."""
    path = f"{PARTIAL}/checkpoint.pt"
    payload = (base / path).read_bytes()[len(MAGIC) + DIGEST :]
    head, rest = safetensors_parts(payload)
    tensors = safetensors.torch.load(payload)
    values = json.loads(tensors.pop(VALUES).numpy().tobytes())

    def saved(values):
        text = json.dumps(values).encode(errors="surrogatepass")
        return safetensors.torch.save(tensors | {VALUES: torch.tensor([*text], dtype=torch.uint8)})

    def signed(payload):
        return MAGIC + hashlib.sha256(payload).digest() + payload

    payloads = st.one_of(
        mutated(values).map(saved),
        mutated(head, PLAIN + ENTRIES + ARRAYS).map(lambda head: safetensors_file(head, rest)),
        damaged(rest).map(lambda rest: safetensors_file(head, rest)),
        damaged(payload),
    )
    return perhaps(payloads.map(signed), damaged).map(lambda file: Input({path: file}, train({})))


ENTRIES = tuple(  # of a safetensors file's header
    {"dtype": t, "shape": [16], "data_offsets": [0, 64]} for t in ("F32", "F8_E4M3", "I64", "X")
)


def safetensors_parts(content):
    """The header of a safetensors file, and what follows it."""
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def safetensors_file(head, values):
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + values


def weights(base):
    """Weights whose hash is the one in run.json."""
    whole = (base / DIGITS / "model.safetensors").read_bytes()
    head, values = safetensors_parts(whole)
    info = json.loads((base / DIGITS / "run.json").read_text())
    files = st.one_of(
        mutated(head, PLAIN + ENTRIES + ARRAYS).map(lambda head: safetensors_file(head, values)),
        damaged(values).map(lambda values: safetensors_file(head, values)),
        damaged(whole),
    )

    def given(file, command):
        said = json.dumps(info | {"weights_sha256": hashlib.sha256(file).hexdigest()}).encode()
        return Input({f"{DIGITS}/model.safetensors": file, f"{DIGITS}/run.json": said}, command)

    commands = st.sampled_from([["predict", DIGITS, "one.png"], ["evaluate", DIGITS]])
    return st.builds(given, files, commands)


def image_files(base):
    """Pictures of all formats, to be classified or in a folder to train on."""
    made: dict[str, bytes] = {}
    ramp = np.arange(48 * 40 * 4, dtype=np.uint32).reshape(48, 40, 4)
    color = Image.fromarray((ramp % 251).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix, mode, how in (
        ("png", "RGBA", {}), ("png", "P", {"transparency": 3}), ("png", "1", {}), ("png", "I;16", {"transparency": 5}),
        ("jpg", "RGB", {"exif": exif}), ("jpg", "CMYK", {}), ("jpg", "L", {"progressive": True}), ("gif", "P", {}),
        ("bmp", "RGB", {}), ("bmp", "1", {}), ("tif", "RGB", {"compression": "tiff_lzw"}), ("tif", "CMYK", {}),
        ("tif", "L", {"compression": "tiff_adobe_deflate"}), ("webp", "RGBA", {}), ("ppm", "RGB", {}), ("pgm", "L", {}),
        ("tga", "RGBA", {"compression": "tga_rle"}), ("pcx", "P", {}), ("sgi", "RGB", {}), ("jp2", "RGB", {}),
        ("avif", "RGB", {}), ("ico", "RGB", {}), ("eps", "RGB", {}), ("pdf", "RGB", {}), ("qoi", "RGB", {}),
    ):  # fmt: skip
        file = io.BytesIO()
        first = color.convert("L") if mode == "I;16" else color.convert("RGB")
        picture = first.convert(mode) if mode != "RGBA" else color
        name = f"{len(made)}.{suffix}"
        with suppress(KeyError, OSError, ValueError):  # a Pillow without this format
            picture.save(file, Image.registered_extensions()[f".{suffix}"], **how)
            made[name] = file.getvalue()
    names = st.sampled_from(sorted(made))
    files = st.one_of(
        names.flatmap(lambda name: damaged(made[name]).map(lambda file: (name, file))),
        st.sampled_from([name for name in sorted(made) if name.endswith("png")]).flatmap(
            lambda name: chunks(made[name]).map(lambda file: (name, file))
        ),
        st.tuples(
            names,
            st.sampled_from(
                [None, "nowhere", ".", "/dev/zero", "x.png", b"", b"\x89PNG\r\n\x1a\n"]
            ),
        ),
        st.tuples(
            st.sampled_from(["\udce9.png", "a\nb.png", "x.PNG", "x.txt", ".png"]),
            names.map(made.get),
        ),
    )

    def given(pair, place):
        name, file = pair
        if place in (DIGITS, PETS):
            return Input({name: file}, ["predict", place, name])
        return Input(
            {f"{place}/{name}": file}, train({"--dataset": "folder:pets", "--limit": "14"})
        )

    return st.builds(
        given, files, st.sampled_from([DIGITS, DIGITS, PETS, "pets/cat", "pets/\udce9"])
    )


def chunks(content: bytes):
    """A PNG of changed chunks with right checksums."""
    found, at = [], 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    bomb = zlib.compress(bytes(1 << 24))
    extra = [(b"zTXt", b"a\0\0" + bomb), (b"iCCP", b"a\0\0" + bomb), (b"eXIf", b"II*\0\xff\xff\xff\xff"), (b"tRNS", b""),
             (b"PLTE", b"\1\2"), (b"acTL", b"\xff" * 8), (b"IDAT", bomb)]  # fmt: skip

    def written(parts):
        pieces = (
            struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b))
            for k, b in parts
        )
        return content[:8] + b"".join(pieces)

    def changed(place):
        kind, body = found[place]
        return st.one_of(
            damaged(body).map(lambda body: [(kind, body)]),
            st.sampled_from(extra).map(lambda other: [found[place], other]),
            st.just([]),
        ).map(lambda new: written([*found[:place], *new, *found[place + 1 :]]))

    return st.integers(0, len(found) - 1).flatmap(changed)


ODD = (
    "", " ", "a\nb", "-1", "0", "2", "1e9", "9" * 5000, "nan", "x" * 300, "é", "\udcff", "folder:", "folder:.", "folder:pets",
    "folder:runs", "folder:one.png", "~", "..", "one.png", "runs", DIGITS, PARTIAL, "none", "/dev/null", "%s", "{}", "\x1b[0m",
    "--", "-", "-x", "resnet8", "alexnet", "resnet9998", "vgg16", "mnist", "digits", "cuda:0", "cuda:9", "bf16", "best",
    "study.toml",
)  # fmt: skip
ADDRESSES = (
    "x",
    "tcp://",
    "tcp://127.0.0.1:99999",
    "tcp://127.0.0.1:1",
    "inproc://x",
    "x://y",
    "tcp://[::1",
)


def command_lines(base):
    """Words in the wrong place, and wrong words."""
    text = st.sampled_from(ODD) | st.text(st.characters(exclude_characters="\0/"), max_size=9)
    small = st.sampled_from(["-1", "0", "x", "9" * 5000, "1e3", "", "1.5", "99999999999"])
    # of a size that is trained at once, or refused
    numbers = ("--epochs", "--limit", "--size")
    trains = st.dictionaries(st.sampled_from(sorted(TRAIN)), text, min_size=1, max_size=2).flatmap(
        lambda change: small.map(
            lambda n: train({k: n if k in numbers else v for k, v in change.items()})
        )
    )
    names = st.sampled_from([name for name in ODD if name not in ("alexnet", "vgg16")])
    options = st.sampled_from(["--json", "--out", "--dataset", "--device", "--precision", "-h"])
    plain = st.builds(
        lambda command, rest: [command, *rest],
        st.sampled_from(["models", "compare", "predict", "evaluate", "report", "", "x"]),
        st.lists(text | options, max_size=4),
    )
    studied = st.sampled_from(["--jobs", "--budget", "--device", "--precision"]).flatmap(
        lambda name: small.map(
            lambda n: ["study", "study.toml", "--budget=0.000001s", f"{name}={n}"]
        )
    )
    far = st.sampled_from(ADDRESSES).map(lambda a: ["study", "study.toml", f"--scheduler={a}"])
    return st.one_of(
        trains, trains, names.map(lambda name: train({}, name)), plain, plain, studied, far
    ).map(lambda command: Input({}, command))


KINDS = {
    "studies": studies,
    "runs": run_folders,
    "checkpoints": checkpoints,
    "weights": weights,
    "pictures": image_files,
    "commands": command_lines,
}
