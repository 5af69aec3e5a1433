"""What comes from a disk may be anything, and what goes to one may find it full; Windows lacks half
of what Unix has. More odd files: test_fuzz.py.
"""

import errno
import json
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
from PIL import Image, ImageDraw
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


def change(folder, **values):
    """Changes values of a run.json."""
    info = json.loads((folder / "run.json").read_text()) | values
    (folder / "run.json").write_text(json.dumps(info))


STRANGE = (None, "x", -1, 1e300, [], [1], {}, {"a": None}, True, 2**70, 0.5)


@pytest.mark.parametrize("field", fields(Info), ids=lambda field: field.name)
def test_a_run_of_other_values_is_refused_by_name_or_does_not_disturb(folder, field, capsys):
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({k: info[k] for k in info if k != field.name}))
    if field.default is MISSING:
        assert field.name in told(Run.load, folder)
    else:
        assert Run.load(folder)
    refused = 0
    for value in STRANGE:
        change(folder, **info | {field.name: value})
        code = cli.main(["compare", str(folder)])
        refused += code == 2
        assert (code, len(capsys.readouterr().err.splitlines())) in ((0, 0), (2, 1)), value
    assert refused >= (5 if field.name == "options" else 8)


def test_a_run_json_of_any_text_is_refused(folder):
    many = '{"seed": ' + "9" * 5000 + "}"
    for text in ("", "{", "[]", "\0", "[" * 100_000, '{"seed": NaN}', "\ud800", many, "{}"):
        (folder / "run.json").write_bytes(text.encode(errors="surrogatepass"))
        assert "run.json" in told(Run.load, folder)


HEAD = ",".join(runs.HISTORY).encode()
DAMAGED = [  # contents of a part of a run, or what is changed in its arrays
    *((name, content) for name in ("test.npz", "history.csv", "views.npz")
      for content in (None, b"PK\x03\x04 no archive")),
    *(("history.csv", text) for text in (b"a,b\n1,2\n", HEAD + b"\n", HEAD + b"\n1,x,3,4,5,6,7\n")),
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


@pytest.mark.parametrize("kind", ["another shape", "no safetensors"])
def test_weights_with_a_right_hash_and_other_content_are_refused(folder, kind):
    path = folder / "model.safetensors"
    weights = load_file(path)
    first = next(name for name, values in weights.items() if values.ndim == 4)
    other = save(weights | {first: weights[first][:1]})
    path.write_bytes(other if kind == "another shape" else b"\xff" * 100)
    change(folder, weights_sha256=runs.weights_sha256(folder))
    assert "model.safetensors" in told(predict.load_network, Run.load(folder))


def test_a_checkpoint_that_is_damaged_or_anothers_is_refused_and_stays(job, tmp_path):
    path = stopped(job(), tmp_path)
    good, start = path.read_bytes(), len(checkpoint.MAGIC) + checkpoint.DIGEST
    tensors, values = checkpoint.load(path)

    def refused():
        changed = path.read_bytes()
        assert "checkpoint.pt" in told(lambda: fit(job(), tmp_path, **QUIET))
        assert path.read_bytes() == changed

    middle = len(good) // 2  # a bit of a weight, which only the checksum tells
    flipped = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
    for content in (b"", good[:-9], flipped, good[start:]):
        path.write_bytes(content)
        refused()
    checkpoint.save(path, tensors, values | {"identity": values["identity"] | {"seed": 1}})
    refused()
    path.write_bytes(good)
    assert fit(job(), tmp_path, **QUIET).info.epochs == 2


# --- what goes to a disk


FILES = ["history.csv", "logits.npy", "model.safetensors", "run.json", "test.npz", "views.npz"]


def test_a_full_disk_ends_in_one_line_and_what_was_there_stays(job, tmp_path, monkeypatch):
    def sync(handle):
        if name in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(errno.ENOSPC, "No space left on device")

    good = (path := stopped(job(), tmp_path)).read_bytes()
    for name in ("checkpoint.pt", *FILES):
        monkeypatch.setattr(os, "fsync", sync)
        line = told(lambda: fit(job(), tmp_path, checkpoint_seconds=0, **QUIET))
        assert name in line
        assert "No space left" in line
        assert not [*tmp_path.rglob("*.part")]
        assert path.read_bytes() == good or name != "checkpoint.pt"
    monkeypatch.undo()
    assert fit(job(), tmp_path, **QUIET).info.epochs == 2


def test_the_files_of_a_run_are_readable_as_the_umask_says(job, tmp_path):
    before = os.umask(0o022)
    try:
        run = fit(job(), tmp_path, **QUIET)
    finally:
        os.umask(before)
    assert sorted(path.name for path in run.path.iterdir()) == FILES
    assert {path.stat().st_mode & 0o777 for path in run.path.iterdir()} == {0o644}


def test_a_finished_run_is_reported_though_nothing_can_be_removed(job, finished, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert fit(job(epochs=1), finished.path.parents[3], **QUIET).path == finished.path


def test_what_is_in_the_way_of_a_run_is_found_before_the_training(job, tmp_path, monkeypatch):
    trains = "deepnets.training.loop.Trainer.train"
    monkeypatch.setattr(trains, lambda self: pytest.fail("it trains"))
    for out, block in (("a", lambda path: path.symlink_to("nowhere")), ("b", Path.touch)):
        place = tmp_path / out / job().folder
        place.parent.mkdir(parents=True)
        block(place)
        assert "in the way" in told(fit, job(), place.parents[3])


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
opened = os.open
def open_file(path, *flags, **more):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied")
    return opened(path, *flags, **more)
os.open = open_file
from deepnets import cli, notebook, recipes, study
from deepnets.training import Job, OutOfTime, fit
job = Job("resnet8", "digits", recipes.get("tuned", "resnet8", epochs=2), 0, {}, 60, 16)
try:
    fit(job, "runs", stop=lambda: True, verbose=False)
    sys.exit("not stopped")
except OutOfTime:
    pass
arguments = "train resnet8 --epochs 2 --limit 60 --size 16"
for words in (arguments, arguments, "predict runs/digits/resnet8/tuned/seed0 seven.png", "compare runs"):
    assert cli.main(words.split()) == 0
"""


def test_what_windows_lacks_is_not_needed(tmp_path, python):
    paper = Image.new("L", (60, 60), "white")
    ImageDraw.Draw(paper).line([(18, 15), (42, 15), (28, 46)], "black", 5)
    paper.save(tmp_path / "seven.png")
    done = python("-c", WINDOWS, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "continuing from epoch 1, step" in done.stdout
    assert "seven.png: " in done.stdout
