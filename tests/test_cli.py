"""The command line: what it prints, and one clear line with exit code 2 for every mistake."""

import os
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from deepnets import cli, data, models, training
from deepnets.runs import Run

DEMO = Path(__file__).parent.parent / "results/demo/digits/resnet20/tuned/seed0"
TRAIN = ["train", "resnet8", "--epochs", "1", "--limit", "60", "--size", "16"]


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command in an empty folder; gives its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPNETS_DATA", str(tmp_path / "nodata"))

    def call(*arguments):
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_models_lists_every_network_with_its_size(run):
    code, out, _ = run("models")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == models.names()
    assert re.search(r"^resnet18 +11,181,642 +148\.1$", out, re.M)


def test_mirror_images_can_be_switched_off(run):
    """The run names the change, so it never meets one with mirror images."""
    assert run(*TRAIN, "--augment", "shift", "--out", "runs")[0] == 0
    found = Run.load("runs/digits/resnet8/tuned-augment=shift/seed0")
    assert found.info.recipe.augment == "shift"


@pytest.mark.parametrize(
    "command", ["models", "train", "study", "compare", "predict", "evaluate", "report"]
)
def test_help_shows_an_example_that_parses(run, command):
    code, out, _ = run(command, "--help")
    example = out.partition("example: deepnets ")[2].split()
    assert code == 0
    assert cli._parser().parse_args(example).command is getattr(cli, f"_{command}")


TRAIN8 = ["train", "resnet8"]
MISTAKES = [
    ([], "required"),
    ([*TRAIN8, "--dataset", "letters"], "no dataset is called 'letters'"),
    ([*TRAIN8, "--recipe=--"], "expected one argument"),
    ([*TRAIN8, "--dataset", "folder:~nobody-here/x"], "~nobody-here/x is not a folder"),
    ([*TRAIN8, "--seed", str(2**40), "--recipe", "best"], "seed 1099511627776"),
    ([*TRAIN8, "--device", "cuda:99"], "CUDA devices"),
    ([*TRAIN8, "--precision", "fp8"], "no precision is called 'fp8'"),
    ([*TRAIN8, "--limit", "5000"], "--limit 5000"),
    (["train", "alexnet", "--size", "32"], "too small"),
    ([*TRAIN8, "--out", "x" * 300], "File name too long"),
    ([*TRAIN8, "--out", "file"], "cannot be written"),
    ([*TRAIN8, "--out", "wrong"], "is not a run"),
    ([*TRAIN8, "--out", "blocked"], "in the way"),
    (["study", "none.toml"], "none.toml cannot be read: No such file"),
    (["study", "file", "--budget", "soon"], "is no time"),
    (["compare", "empty"], "no finished run"),
    (["compare", "a\nb"], r"a\nb is not a folder"),
    (["predict", DEMO, "seven.png"], "has no weights"),
]


@pytest.mark.parametrize(
    ("arguments", "says"), MISTAKES, ids=[" ".join(map(str, a))[:60] for a, _ in MISTAKES]
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(run, tmp_path, arguments, says):
    (tmp_path / "file").write_text("[[[")
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong/digits/resnet8/tuned/seed0").mkdir(parents=True)
    (tmp_path / "blocked/digits/resnet8/tuned").mkdir(parents=True)
    (tmp_path / "blocked/digits/resnet8/tuned/seed0").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run(*arguments)
    assert code == 2
    assert says in err
    assert len(err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_output_that_nobody_reads_on_ends_quietly(python):
    reader, writer = os.pipe()
    os.close(reader)
    done = python("-m", "deepnets", "models", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory. Tried to"), MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory")])  # fmt: skip
def test_too_little_memory_is_said_in_one_line(run, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(training, "fit", fail)
    code, _, err = run(*TRAIN)
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith("deepnets: out of memory; take a smaller")


def test_a_fault_of_ours_is_not_hidden(run, monkeypatch):
    monkeypatch.setattr(training, "fit", lambda *args, **kwargs: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        run(*TRAIN)


def draw(file):
    """Makes a picture of a digit."""
    Image.fromarray(data.load("digits").test.images[0, 0].numpy()).save(file)
    return file


def test_a_picture_that_cannot_be_read_does_not_silence_the_others(run, tmp_path, finished):
    (tmp_path / "bad.png").write_text("no picture")
    code, out, err = run("predict", finished.path, "bad.png", "none.png", draw("good.png"))
    assert code == 2
    assert out.startswith("good.png: ")
    assert [line.split()[1] for line in err.splitlines()] == ["bad.png", "none.png"]


def test_a_name_that_the_terminal_cannot_show_is_escaped(run, finished, python, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    file = draw(os.fsdecode(b"caf\xe9 \xe2\x82\xac.png"))
    done = python("-m", "deepnets", "predict", finished.path, file)
    assert "caf\\udce9" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
