"""The command line: what it prints, and one clear line with exit code 2 for every mistake."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from deepnets import __version__, cli, data, models, training
from deepnets.runs import Run

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
    rows = {row["name"]: row for row in json.loads(run("models", "--json")[1])}
    assert rows["resnet18"] == {"name": "resnet18", "parameters": 11_181_642, "macs": 148_050_944}


def test_train_compare_report_and_again(run, tmp_path):
    code, out, _ = run(*TRAIN, "--out", "runs")
    assert code == 0
    assert "epoch   1/1" in out
    assert "images/s" in out
    code, again, _ = run(*TRAIN, "--out", "runs")
    assert code == 0
    assert "epoch" not in again
    assert again.splitlines()[-1] == out.splitlines()[-1]
    code, out, _ = run("compare", "runs")
    assert code == 0
    assert "resnet8" in out
    content = json.loads(run("compare", "runs", "--json")[1])
    assert content["accuracies"][0]["network"] == "resnet8"
    code, out, _ = run("report", "runs", "--out", "pictures")
    assert code == 0
    page, *pictures = out.splitlines()
    assert "resnet8" in (tmp_path / page).read_text()
    assert len(pictures) == 3
    assert all((tmp_path / line).read_bytes().startswith(b"\x89PNG") for line in pictures)


def test_mirror_images_can_be_switched_off(run, tmp_path):
    """The run names the change, so it never meets one with mirror images."""
    code, out, _ = run(*TRAIN, "--augment", "shift", "--out", str(tmp_path))
    assert code == 0, out
    found = Run.load(tmp_path / "digits" / "resnet8" / "tuned-augment=shift" / "seed0")
    assert found.info.recipe.augment == "shift"


def test_help_and_version(run):
    assert run("--help")[0] == 0
    assert run("--version")[1].startswith("deepnets ")


@pytest.mark.parametrize(
    "command", ["models", "train", "study", "compare", "predict", "evaluate", "report"]
)
def test_help_shows_an_example_that_parses(run, command):
    code, out, _ = run(command, "--help")
    example = out.partition("example: deepnets ")[2].split()
    assert code == 0
    assert example[0] == command
    assert len(example) > 1
    assert cli._parser().parse_args(example).command is getattr(cli, f"_{command}")


def test_python_m_deepnets_is_the_same_program_and_help_does_not_import_torch():
    code = "import sys, deepnets.cli\ntry: deepnets.cli.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    commands = [[sys.executable, "-m", "deepnets", "--version"], [sys.executable, "-c", code]]
    version, helped = (
        subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands
    )
    assert version == f"deepnets {__version__}\n"
    assert helped.splitlines()[-1] == "False"


MISTAKES = [
    ([], "required"),
    (["dance"], "invalid choice"),
    (["train"], "required"),
    (["train", "perceptron"], "no network is called 'perceptron'"),
    (["train", "resnet19"], "6n"),
    (["train", "resnet050"], "no network is called"),
    (["train", "resnet8", "--dataset", "letters"], "no dataset is called 'letters'"),
    (["train", "resnet8", "--dataset", "folder:"], "no dataset is called 'folder:'"),
    (["train", "resnet8", "--dataset", "folder:nowhere"], "nowhere is not a folder"),
    (["train", "resnet8", "--dataset", "folder:~nobody-here/x"], "~nobody-here/x is not a folder"),
    (["train", "resnet8", "--dataset", "mnist"], "--download"),
    (["train", "resnet8", "--dataset", "cifar10"], "--download"),
    (["train", "resnet8", "--recipe", "secret"], "no recipe is called 'secret'"),
    (["train", "resnet8", "--device", "abacus"], "no device is called 'abacus'"),
    (["train", "resnet8", "--device", "cpu:1"], "no device is called 'cpu:1'"),
    (["train", "resnet8", "--device", "cuda:99"], "CUDA devices"),
    (["train", "resnet8", "--device", "cuda:"], "no device is called 'cuda:'"),
    (["train", "resnet8", "--out", "x" * 300], "File name too long"),
    (["train", "resnet8", "--dataset", "folder:" + "x" * 300], "File name too long"),
    (["train", "resnet8", "--precision", "fp8"], "no precision is called 'fp8'"),
    (["train", "resnet8", "--epochs", "0"], "epochs = 0"),
    (["train", "resnet8", "--epochs", "-3"], "epochs = -3"),
    (["train", "resnet8", "--epochs", "999999999"], "epochs = 999999999"),
    (["train", "resnet8", "--epochs", "many"], "invalid int"),
    (["train", "resnet8", "--limit", "0"], "limit 0"),
    (["train", "resnet8", "--limit", "-5"], "limit -5"),
    (["train", "resnet8", "--limit", "5000"], "--limit 5000"),
    (["train", "resnet8", "--limit", "1.5"], "invalid int"),
    (["train", "resnet8", "--seed", "-1"], "seed -1"),
    (["train", "resnet8", "--seed", str(2**40)], "seed 1099511627776"),
    (["train", "resnet8", "--size", "0"], "size 0"),
    (["train", "resnet8", "--size", "100000"], "size 100000"),
    (["train", "alexnet", "--size", "32"], "too small"),
    (["train", "vgg16", "--size", "16"], "too small"),
    (["train", "resnet8", "--out", "file"], "cannot be written"),
    (["train", "resnet8", "--out", "/proc/runs"], "cannot be written"),
    (["study", "none.toml"], "none.toml cannot be read: No such file"),
    (["study", "file"], "not TOML"),
    (["study", "study.toml", "--budget", "soon"], "is no time"),
    (["study", "study.toml", "--budget", "0m"], "is no time"),
    (["compare", "none"], "is not a folder of runs"),
    (["compare", "empty"], "no finished run"),
    (["report", "none", "--out", "p"], "is not a folder of runs"),
    (["report", "none"], "required: --out"),
    (["evaluate", "none"], "is not a run"),
    (["predict", "empty", "picture.png"], "is not a run"),
    (["predict", "none", "picture.png"], "is not a run"),
    (["predict", "empty"], "required"),
    (["train", "resnet8", "--recipe=--"], "expected one argument"),
    (["compare", "a\nb"], r"a\nb is not a folder"),
    (["models", "a\x1b[0m"], r"a\x1b[0m"),
]


@pytest.mark.parametrize(
    ("arguments", "says"), MISTAKES, ids=[" ".join(a)[:60] for a, _ in MISTAKES]
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(run, tmp_path, arguments, says):
    (tmp_path / "file").write_text("[[[")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run(*arguments)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_output_that_nobody_reads_on_ends_quietly():
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "deepnets", "models"]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_run_folder_that_is_none_is_a_mistake(run, tmp_path):
    (tmp_path / "digits" / "resnet8" / "tuned" / "seed0").mkdir(parents=True)
    code, _, err = run(*TRAIN, "--out", tmp_path)
    assert code == 2
    assert "is not a run" in err


def test_a_report_that_cannot_be_written_is_a_mistake(run, tmp_path):
    assert run(*TRAIN, "--out", "runs")[0] == 0
    (tmp_path / "file").write_text("")
    code, _, err = run("report", "runs", "--out", "file")
    assert (code, len(err.splitlines())) == (2, 1)


NO_MEMORY = [
    RuntimeError("CUDA out of memory. Tried to"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", NO_MEMORY)
def test_too_little_memory_is_said_in_one_line(run, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(training, "fit", fail)
    code, _, err = run(*TRAIN)
    assert code == 2
    assert err.splitlines() == [
        "deepnets: out of memory; take a smaller batch_size, input size or network, or fewer --jobs"
    ]


def test_a_fault_of_ours_is_not_hidden(run, monkeypatch):
    monkeypatch.setattr(training, "fit", lambda *args, **kwargs: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        run(*TRAIN)


def test_what_programs_read_is_json_without_nan(run):
    code, out, _ = run("compare", Path(__file__).parent.parent / "results" / "demo", "--json")
    assert code == 0

    def refuse(constant):
        raise ValueError(constant)

    tables = json.loads(out, parse_constant=refuse)
    assert len(tables["accuracies"]) == len(tables["seeds"]) == 9
    assert {row["deviation"] for row in tables["accuracies"]} == {None}


def test_a_study_that_is_not_finished_says_so_with_exit_code_1(run, tmp_path, clock):
    (tmp_path / "s.toml").write_text(
        '[[grid]]\nnetworks=["resnet8"]\ndatasets=["digits"]\nrecipes=["vanilla"]\nseeds=[0]\ninput_size=16'
    )
    code, out, _ = run("study", "s.toml", "--budget", "9s", "--out", "runs")
    assert code == 1
    assert "stopped at a checkpoint" in out


def test_a_picture_that_cannot_be_read_does_not_silence_the_others(run, tmp_path):
    assert run(*TRAIN)[0] == 0
    Image.fromarray(data.load("digits").test.images[0, 0].numpy()).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no picture")
    code, out, err = run(
        "predict", "runs/digits/resnet8/tuned/seed0", "bad.png", "none.png", "good.png"
    )
    assert code == 2
    assert out.startswith("good.png: ")
    assert [line.split()[1] for line in err.splitlines()] == ["bad.png", "none.png"]


def test_a_name_that_the_terminal_cannot_show_is_no_reason_to_fail(run, tmp_path):
    assert run(*TRAIN)[0] == 0
    file = tmp_path / os.fsdecode(b"caf\xe9 \xe2\x82\xac.png")
    Image.fromarray(data.load("digits").test.images[0, 0].numpy()).save(file)
    for encoding in ("utf-8:strict", "ascii:strict"):
        command = [
            sys.executable,
            "-m",
            "deepnets",
            "predict",
            "runs/digits/resnet8/tuned/seed0",
            file,
            "none",
        ]
        done = subprocess.run(
            command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}
        )
        assert b"caf\\udce9" in done.stdout
        assert done.returncode == 2, "for the one that is not there"
        assert len(done.stderr.splitlines()) == 1


def test_datasets_of_like_names_have_pictures_of_their_own(run):
    assert run(*TRAIN)[0] == 0
    source = Path("runs/digits")
    for title in ("my photos", "my-photos", "My photos 2", "my photos-2"):
        shutil.copytree(source, Path("all", title))
        for file in Path("all", title).rglob("run.json"):
            info = json.loads(file.read_text()) | {"dataset_title": title, "data_sha256": title}
            file.write_text(json.dumps(info))
    out = run("report", "all", "--out", "pictures")[1].split("\n")
    made = [line for line in out if line.endswith(".png")]
    assert len(made) == len({name.lower() for name in made}) == 12
