"""Study files, their order, and what a budget does."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

import pytest
import torch

from deepnets import checkpoint, recipes, study
from deepnets.environment import working_folder
from deepnets.errors import UserError
from deepnets.runs import Run

STUDIES = Path(__file__).parent.parent / "studies"
GRID = """
[defaults]
epochs = 2
batch_size = 16
limit = 60
input_size = 16

[[grid]]
networks = ["resnet8", "resnet14"]
datasets = ["digits"]
recipes = ["plain", "tuned"]
seeds = [0, 1]

[grid.resnet14]
learning_rate = 0.05
options = { dropout = 0.1 }

[[grid]]
networks = ["resnet20"]
datasets = ["digits"]
recipes = ["best"]
seeds = [0]
epochs = 1
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(GRID)
    return path


@contextmanager
def started(path):
    """`deepnets study` in two processes of a group of its own, of which nothing stays."""
    command = [sys.executable, "-m", "deepnets", "study", path]
    command += ["--jobs", "2", "--out", path.parent / "out"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, **how) as process:
        end = threading.Timer(1200, os.killpg, (process.pid, signal.SIGKILL))  # whatever hangs
        end.start()
        try:
            yield process
        finally:
            end.cancel()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_a_grid_crosses_its_axes_a_seed_of_everything_first(file):
    jobs = study.plan(file)
    assert [str(job.folder) for job in jobs] == [
        "digits/resnet8/plain/seed0",
        "digits/resnet14-dropout=0.1/plain/seed0",
        "digits/resnet8/tuned/seed0",
        "digits/resnet14-dropout=0.1/tuned/seed0",
        "digits/resnet20/best/seed0",
        "digits/resnet8/plain/seed1",
        "digits/resnet14-dropout=0.1/plain/seed1",
        "digits/resnet8/tuned/seed1",
        "digits/resnet14-dropout=0.1/tuned/seed1",
    ]
    assert [job.recipe.learning_rate for job in jobs[:2]] == [0.1, 0.05]
    assert [job.recipe.epochs for job in (jobs[0], jobs[4])] == [2, 1]
    assert {(job.limit, job.input_size, job.recipe.batch_size) for job in jobs} == {(60, 16, 16)}


def test_variants_change_one_thing_each_and_name_it(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        """
[defaults]
datasets = ["digits"]
recipes = ["tuned"]
seeds = [0]
[[grid]]
networks = ["resnet18_improved"]
variants = [{}, { stem = "7x7" }, { weight_decay = 0 }, { augment = "none", dropout = 0.0 }]
options = { narrow_head = false }
"""
    )
    base, stem, decay, both = study.plan(path)
    assert [str(job.folder) for job in (base, stem, decay, both)] == [
        "digits/resnet18_improved-narrow_head=False/tuned/seed0",
        "digits/resnet18_improved-narrow_head=False-stem=7x7/tuned/seed0",
        "digits/resnet18_improved-narrow_head=False/tuned-weight_decay=0.0/seed0",
        "digits/resnet18_improved-dropout=0.0-narrow_head=False/tuned-augment=none/seed0",
    ]
    assert base.recipe == stem.recipe == recipes.get("tuned", "resnet18_improved")
    assert replace(decay.recipe, name="tuned", weight_decay=base.recipe.weight_decay) == base.recipe
    assert both.options == {"narrow_head": False, "dropout": 0.0}
    assert both.recipe.augment == "none"


def test_a_tier_overrides_everything_and_keeps_to_a_folder_of_its_own(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(GRID + "[tiers.full]\n[tiers.small]\nlimit = 50\nepochs = 1")
    full, small = study.plan(path), study.plan(path, "small")
    assert full == study.plan(path, "full")
    assert {job.folder.parts[0] for job in full} == {"full"}
    assert {job.folder.parts[0] for job in small} == {"small"}
    assert {(job.tier, job.limit, job.recipe.epochs) for job in small} == {("small", 50, 1)}
    assert {job.limit for job in full} == {60}
    run = study.execute(small[:1], tmp_path / "out", verbose=False)[0][0]
    assert run.info["tier"] == "small"
    assert run.path == tmp_path / "out" / "small" / "digits" / "resnet8" / "plain" / "seed0"
    with pytest.raises(UserError, match=r"no tier 'huge'; choose from full, small"):
        study.plan(path, "huge")


def test_a_tier_may_treat_one_dataset_otherwise(tmp_path):
    path = tmp_path / "study.toml"
    grid = GRID.replace('["digits"]', '["cifar10", "mnist"]').replace("input_size = 16", "input_size = 32")
    path.write_text(grid + "[tiers.full]\nepochs = 3\n[tiers.full.mnist]\nepochs = 2\nlimit = 70")
    seen = {(job.dataset, job.recipe.epochs, job.limit) for job in study.plan(path)}
    assert seen == {("cifar10", 3, 60), ("mnist", 2, 70)}


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_projects_own_studies_are_well_formed(path):
    for tier in tomllib.loads(path.read_text()).get("tiers", {None: {}}):
        assert study.plan(path, tier)


def test_the_demo_is_the_missions_nine_networks_on_real_digits():
    jobs = study.plan(STUDIES / "demo.toml")
    assert {job.model for job in jobs} == {
        "alexnet", "vgg11", "vgg16", "vgg16_improved", "resnet20", "resnet18", "resnet18_improved", "googlenet",
        "googlenet_improved",
    }  # fmt: skip
    assert len(jobs) == 9
    assert not [job for job in jobs if job.options or job.dataset != "digits"]


def test_a_study_continues_where_its_budget_ended_and_repeats_nothing(file, tmp_path):
    jobs = study.plan(file)[:4]
    out = tmp_path / "out"
    finished, missing = study.execute(jobs[:2], out, verbose=False)
    assert (len(finished), missing) == (2, [])
    finished, missing = study.execute(jobs, out, budget=0, verbose=False)
    assert len(finished) == 2
    assert [line.partition(":")[0] for line in missing] == [str(job.folder) for job in jobs[2:]]
    assert all("not started (" in line for line in missing)
    assert not [line for line in missing if "about 0 s" in line]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
    finished, missing = study.execute(jobs, out, verbose=False)
    assert (len(finished), missing) == (4, [])
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_that_does_not_end_in_time_is_stopped_at_a_checkpoint(file, tmp_path, clock):
    jobs = study.plan(file)[:1]
    finished, missing = study.execute(jobs, tmp_path / "out", budget=9, verbose=False)
    assert finished == []
    assert "stopped at a checkpoint" in missing[0]
    assert list((tmp_path / "out").rglob("checkpoint.pt"))
    assert len(study.execute(jobs, tmp_path / "out", verbose=False)[0]) == 1


def test_what_was_begun_is_not_called_not_started(file, tmp_path, clock):
    jobs = study.plan(file)[:1]
    study.execute(jobs, tmp_path / "out", budget=9, verbose=False)
    _, missing = study.execute(jobs, tmp_path / "out", budget=-1, verbose=False)
    assert missing == [f"{jobs[0].folder}: not continued (0 s left)"]


def test_one_divergence_does_not_stop_the_others(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        GRID.split("[[grid]]")[0]
        + """
[[grid]]
networks = ["alexnet", "resnet8"]
datasets = ["digits"]
recipes = ["plain"]
seeds = [0]
[grid.alexnet]
input_size = 64
epochs = 9
learning_rate = 1e6
"""
    )
    finished, missing = study.execute(study.plan(path), tmp_path / "out", verbose=False)
    assert [run.info["model"] for run in finished] == ["resnet8"]
    assert "not finite" in missing[0]


def test_runs_side_by_side_are_those_made_one_after_another(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "cores", lambda: 2)  # so each has one thread, as this process has
    jobs = study.plan(file)[:3]
    single, _ = study.execute(jobs, tmp_path / "single", verbose=False, precision="fp32")
    finished, missing = study.execute(jobs, tmp_path / "parallel", parallel=2, precision="fp32")
    assert (len(finished), missing) == (3, [])
    for run in single:
        other = Run.load(tmp_path / "parallel" / run.path.relative_to(tmp_path / "single"))
        assert other.history.drop(columns="seconds").equals(run.history.drop(columns="seconds"))
        assert other.info["threads"] == run.info["threads"] == 1
    assert "all may be by" in capsys.readouterr().out


def test_a_study_goes_on_when_all_its_processes_end_at_once(file, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "wait", lambda sentinels, timeout: [one for one in sentinels if wait([one])])
    finished, missing = study.execute(study.plan(file)[:3], tmp_path / "out", parallel=2)
    assert (len(finished), missing) == (3, [])


@pytest.mark.parametrize("jobs", [1, 2])
def test_runs_side_by_side_stop_at_checkpoints_when_asked(file, tmp_path, jobs):
    """Whoever stops a study by signalling all its processes, as `timeout` and batch systems do, loses nothing."""
    path = tmp_path / "long.toml"
    networks = '["resnet8"]' if jobs == 1 else '["resnet8", "resnet14"]'
    grid = file.read_text().replace("epochs = 2", "epochs = 10_000").replace('["resnet8", "resnet14"]', networks)
    path.write_text(grid[: grid.index("[grid.resnet14]")].replace("[0, 1]", "[0]").replace('"plain", "tuned"', '"plain"'))
    with started(path) as process:
        while len(list((tmp_path / "out").rglob("checkpoint.pt"))) < jobs:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        _, error = process.communicate()
    assert process.returncode == 143
    assert "Traceback" not in error
    partial = list((tmp_path / "out").rglob("*.partial"))
    assert len(partial) == jobs
    for work in partial:
        with working_folder(work.with_suffix("")):  # nobody holds it any more
            progress = checkpoint.load(work / "checkpoint.pt")["progress"]
        assert progress["epoch"] < 10_000
        assert progress["step"], "saved where it was asked to stop, not at the end of an epoch"


def test_an_error_in_one_process_ends_the_others_and_is_told(file, tmp_path):
    jobs = study.plan(file)[:2]
    blocked = tmp_path / "out" / jobs[0].folder.parent
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        study.execute([jobs[0], replace(jobs[1], recipe=replace(jobs[1].recipe, epochs=5000))], tmp_path / "out", parallel=2)


def test_too_little_memory_in_one_process_is_told_in_one_line(file, tmp_path, monkeypatch):
    def fail(*args):
        raise MemoryError

    monkeypatch.setattr(study, "_train", fail)
    monkeypatch.setattr(signal, "signal", lambda *args: None)  # it would have this process hear no Ctrl-C
    ours, theirs = multiprocessing.Pipe(duplex=False)
    job = study.plan(file)[0]
    study._work(theirs, torch.get_num_threads(), job, tmp_path, {})
    with pytest.raises(UserError, match=r"digits/resnet8/plain/seed0: out of memory; take"):
        raise ours.recv()


def test_ctrl_c_while_processes_start_is_quiet(file):
    with started(file) as process:
        for number in (1, 2):  # between the two lines it starts the first process
            assert process.stdout.readline().startswith(f"[{number}/9]")
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate()
    assert (process.returncode, error) == (130, "\ninterrupted; the same command continues\n")


def test_expected_time_grows_with_the_work(file, tmp_path):
    jobs = study.plan(file)
    finished, _ = study.execute(jobs[:1], tmp_path / "out", verbose=False)
    assert study.expect_seconds(jobs[0], []) == 0
    assert study.expect_seconds(jobs[0], finished) == pytest.approx(1.2 * finished[0].info["train_seconds"])
    assert study.expect_seconds(jobs[1], finished) > 1.5 * study.expect_seconds(jobs[0], finished)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "at least one"),
        ("[[grid", "not TOML"),
        ("x = 1\n" + GRID, "'x' is not a part"),
        ("grid = 3", "at least one"),
        (GRID.replace('"resnet8"', '"resnet9"'), "6n"),
        (GRID.replace('datasets = ["digits"]', 'datasets = ["letters"]'), "no dataset"),
        (GRID.replace('recipes = ["best"]', 'recipes = ["good"]'), "no recipe"),
        (GRID.replace("seeds = [0]", "seeds = [-1]"), "seed -1"),
        (GRID.replace("seeds = [0]", "seeds = []"), "seeds"),
        (GRID.replace("seeds = [0]", ""), "seeds"),
        (GRID.replace("epochs = 1", "epochs = 0"), "epochs"),
        (GRID.replace("epochs = 1", "epoch = 1"), "no field 'epoch'"),
        (GRID.replace("limit = 60", "limit = -60"), "limit -60"),
        (GRID.replace("input_size = 16", 'input_size = "16"'), "size '16'"),
        (GRID.replace("[grid.resnet14]", "[grid.resnet26]"), "resnet26"),
        (GRID.replace("dropout = 0.1", "colour = 1"), "no option 'colour'"),
        (GRID + GRID[GRID.index("[[grid]]") :], "asked for twice"),
        (GRID.replace("dropout = 0.1", 'dropout = "high"'), "cannot be built"),
        (GRID.replace("dropout = 0.1", "dropout = nan"), "option dropout"),
        (GRID.replace("dropout = 0.1", "num_classes = 5"), "option num_classes"),
        (GRID.replace("options = { dropout = 0.1 }", "options = 3"), "options must be a table"),
        (GRID.replace("seeds = [0, 1]", "seeds = [0]\noptions = 3\nvariants = [{ stem = '3x3' }]"), "options must be a table"),
        (GRID.replace('"resnet8"', "3"), "networks"),
        (GRID.replace("seeds = [0, 1]", 'seeds = ["0"]'), "seeds"),
        ("defaults = 3\n[[grid]]", "defaults only as"),
        (GRID.replace("seeds = [0, 1]", "seeds = [0]\nvariants = [3]"), "variants"),
        (GRID.replace("seeds = [0, 1]", "seeds = [0]\nvariants = [{ hue = 1 }]"), "no option 'hue'"),
        ("tiers = 3\n" + GRID, "tiers are tables"),
        (GRID + "[tiers.small]\nlimits = 3", "no field 'limits'"),
        (GRID + '[tiers."../small"]\nepochs = 3', "tier '../small' names a folder"),
        (GRID + "[tiers.small.colours]\nepochs = 3", "no dataset is called 'colours'"),
    ],
)
def test_a_malformed_study_is_one_line(tmp_path, text, says):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        study.plan(path)
    assert "\n" not in str(error.value)
