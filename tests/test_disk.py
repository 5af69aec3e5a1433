"""What comes from a disk may be anything, and what goes to one may find it full; Windows lacks half
of what Unix has. More odd files: test_fuzz.py.
"""

import errno
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import MISSING, fields, replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from safetensors.torch import load_file, save
from test_training import QUIET, stopped

from deepnets import cli, disk, predict, runs
from deepnets.compare import figures, style
from deepnets.errors import UserError
from deepnets.info import Info
from deepnets.runs import Run
from deepnets.training import checkpoint, fit


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished.path, tmp_path / "run")


def told(action, *arguments):
    """The text of the UserError that an action ends with."""
    with pytest.raises(UserError) as error:
        action(*arguments)
    return str(error.value)


STRANGE = (None, "x", -1, 1e300, [], [1], {}, {"a": None}, True, 2**70, 0.5)


@pytest.mark.parametrize("field", fields(Info), ids=lambda field: field.name)
def test_a_run_of_other_values_is_refused_by_name(finished, field):
    """What is not refused disturbs nothing: test_fuzz.py."""
    whole, refused = finished.info.values(), 0
    for value in STRANGE:
        try:
            Info.read(whole | {field.name: value})
        except (UserError, ValueError):
            refused += 1
    assert refused >= (5 if field.name == "options" else 8)
    del whole[field.name]
    if field.default is MISSING:
        with pytest.raises((UserError, ValueError), match=field.name):
            Info.read(whole)
    else:
        assert Info.read(whole)


def test_a_run_json_of_any_text_is_refused(folder):
    for text in (b"", b"[]", b"\xff", b"[" * 100_000, b'{"seed": ' + b"9" * 5000 + b"}"):
        (folder / "run.json").write_bytes(text)
        assert "run.json" in told(Run.load, folder)


DAMAGED = [  # contents of a part of a run, or what is changed in its arrays
    *((name, None) for name in ("test.npz", "history.csv", "views.npz")),
    ("views.npz", b"PK\x03\x04 no archive"), ("history.csv", b"a,b\n1,2\n"),
    ("history.csv", ",".join(runs.HISTORY).encode() + b"\n1,x,3,4,5,6,7\n"),
    # Of a run with other classes, and of one with other test images
    ("test.npz", {"levels": np.zeros((360, 9), np.uint8)}),
    ("views.npz", {"pca_levels": np.zeros((10, 2), np.uint8)}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_part_of_a_run_is_named(folder, name, damage):
    if isinstance(damage, dict):
        damage = disk.packed(disk.read_arrays(folder / name) | damage, zipfile.ZIP_STORED)
    (folder / name).unlink()
    if damage is not None:
        (folder / name).write_bytes(damage)
    assert name in told(getattr, Run.load(folder), name.partition(".")[0])


def test_weights_with_a_right_hash_and_other_content_are_refused(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    first = next(name for name, values in weights.items() if values.ndim == 4)
    for content in (save(weights | {first: weights[first][:1]}), b"\xff" * 100):
        path.write_bytes(content)
        info = replace(Run.load(folder).info, weights_sha256=runs.weights_sha256(folder))
        assert "model.safetensors" in told(predict.load_network, Run(folder, info))


def test_a_checkpoint_that_is_damaged_or_anothers_is_refused_and_stays(job, tmp_path):
    path = stopped(job(), tmp_path)
    good = path.read_bytes()
    state = checkpoint.load(path)

    def refused():
        changed = path.read_bytes()
        assert "checkpoint.pt" in told(lambda: fit(job(), tmp_path, **QUIET))
        assert path.read_bytes() == changed

    middle = len(good) // 2  # a bit of a weight, which only the checksum tells
    for content in (b"", good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]):
        path.write_bytes(content)
        refused()
    checkpoint.save(path, state | {"identity": state["identity"] | {"seed": 1}})
    refused()
    path.write_bytes(good)
    assert fit(job(), tmp_path, **QUIET).info.epochs == 2


# --- what goes to a disk


def test_a_full_disk_ends_in_one_line_and_what_was_there_stays(job, tmp_path, monkeypatch):
    def sync(handle):
        if name in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(errno.ENOSPC, "No space left on device")

    good = (path := stopped(job(), tmp_path)).read_bytes()
    files = ["history.csv", "logits.npy", "model.safetensors", "run.json", "test.npz", "views.npz"]
    for name in ("checkpoint.pt", *files):
        monkeypatch.setattr(os, "fsync", sync)
        line = told(lambda: fit(job(), tmp_path, **QUIET))
        assert name in line
        assert "No space left" in line
        assert not [*tmp_path.rglob("*.part")]
        # Once the training has ended there is a checkpoint of it
        assert (path.read_bytes() == good) == (name == "checkpoint.pt")
    monkeypatch.undo()
    assert fit(job(), tmp_path, **QUIET).info.epochs == 2


def test_a_finished_run_is_reported_though_nothing_can_be_removed(job, finished, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert fit(job(epochs=1), finished.path.parents[3], **QUIET).path == finished.path


@pytest.mark.parametrize("output", ["> /dev/full", "<&- >&- 2>&-"])
def test_a_training_does_not_need_its_output(tmp_path, output):
    train = f"{sys.executable} -m deepnets train resnet8 --epochs 1 --limit 60 --size 16 --out {tmp_path}"
    done = subprocess.run(["bash", "-c", f"{train} {output}"], capture_output=True, text=True)
    assert done.returncode == (2 if "full" in output else 0)
    assert len(done.stderr.splitlines()) == (1 if "full" in output else 0)
    assert Run.load(tmp_path / "digits/resnet8/tuned/seed0").info.epochs == 1


def test_pictures_do_not_depend_on_a_persons_settings_nor_take_names_for_formulas(finished):
    names = ["$x_", "$", "a$b$", "\\frac{", "%", "#", "^", "_", "{", "}"]
    odd = Run(finished.path, replace(finished.info, classes=names))
    plain = style.encoded(figures.confusions([odd]))
    settings = {"text.usetex": True, "font.size": 30, "savefig.dpi": 10, "axes.facecolor": "red"}
    with matplotlib.rc_context(settings):
        assert style.encoded(figures.confusions([odd])) == plain


def test_a_report_that_fails_leaves_nothing(folder, tmp_path):
    (folder / "test.npz").write_bytes(b"")
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "pictures")]) == 2
    assert not (tmp_path / "pictures").exists()


WINDOWS = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")  # filelock misses fcntl, which it does without on Windows itself
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM", "pthread_sigmask", "sigwait", "setitimer"):
    delattr(signal, name)
for name in ("fork", "sched_getaffinity", "geteuid", "killpg", "setsid"):
    delattr(os, name)
from deepnets import cli, notebook, recipes, study
from deepnets.training import Job, OutOfTime, fit
job = Job("resnet8", "digits", recipes.get("tuned", "resnet8", epochs=2), 0, {}, 60, 16)
try:
    fit(job, "runs", stop=lambda: True, verbose=False)
    sys.exit("not stopped")
except OutOfTime:
    pass
arguments = "train resnet8 --epochs 2 --limit 60 --size 16"
for command in (arguments, arguments, "compare runs"):
    assert cli.main(command.split()) == 0
"""


def test_what_windows_lacks_is_not_needed(tmp_path, python):
    done = python("-c", WINDOWS, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "continuing from epoch 1, step" in done.stdout
