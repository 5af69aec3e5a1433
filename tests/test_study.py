"""Study files, their order, and what a budget does."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from deepnets import recipes, study
from deepnets.errors import UserError
from deepnets.training.folder import working_folder

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
recipes = ["vanilla", "tuned"]
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


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_projects_own_studies_are_well_formed(path):
    assert study.plan(path)


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


def test_thousands_of_runs_are_planned(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(GRID.split("[grid.resnet14]")[0].replace("[0, 1]", str(list(range(1500)))))
    jobs = study.plan(path)
    assert len({job.folder for job in jobs}) == len(jobs) == 6000


def test_a_study_is_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UserError, match="is not a file"):
            study.plan(path)


def test_one_divergence_does_not_stop_the_others(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        GRID.split("[[grid]]")[0]
        + """
[[grid]]
networks = ["alexnet", "resnet8"]
datasets = ["digits"]
recipes = ["vanilla"]
seeds = [0]
[grid.alexnet]
input_size = 64
epochs = 9
learning_rate = 1e6
"""
    )
    finished, missing = study.execute(study.plan(path), tmp_path / "out", verbose=False)
    assert [run.info.model for run in finished] == ["resnet8"]
    assert "not finite" in missing[0]


def test_a_run_that_another_process_trains_does_not_stop_the_others(file, tmp_path):
    jobs = study.plan(file)[:2]
    with working_folder(tmp_path / "out" / jobs[0].folder):
        finished, missing = study.execute(jobs, tmp_path / "out", verbose=False, patience=0)
    assert [run.info.model for run in finished] == [jobs[1].model]
    assert [
        line.endswith("seed0.partial is being trained by another process") for line in missing
    ] == [True]


def test_expected_time_grows_with_the_work(file, tmp_path):
    jobs = study.plan(file)
    (run,), _ = study.execute(jobs[:1], tmp_path / "out", verbose=False)
    progress = study.Progress(jobs, tmp_path, math.inf, 1, "cpu")
    assert progress.expected_seconds(jobs[0]) == 0
    progress.note(jobs[0], run, "")
    assert progress.expected_seconds(jobs[0]) == pytest.approx(1.2 * run.info.train_seconds)
    assert progress.expected_seconds(jobs[1]) > 1.5 * progress.expected_seconds(jobs[0])
    slower = replace(run.info, train_seconds=3 * run.info.train_seconds)
    for info in (slower, run.info):  # the slowest counts
        progress.note(jobs[0], replace(run, info=info), "")
    assert progress.expected_seconds(jobs[0]) == pytest.approx(3.6 * run.info.train_seconds)
    elsewhere = replace(run.info, train_seconds=1e9, device="another")
    progress.note(jobs[0], replace(run, info=elsewhere), "")
    assert progress.expected_seconds(jobs[0]) < 1e6


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
        (
            GRID.replace(
                "seeds = [0, 1]", "seeds = [0]\noptions = 3\nvariants = [{ stem = '3x3' }]"
            ),
            "options must be a table",
        ),
        (GRID.replace('"resnet8"', "3"), "networks"),
        (GRID.replace("seeds = [0, 1]", 'seeds = ["0"]'), "seeds"),
        ("defaults = 3\n[[grid]]", "defaults only as"),
        (GRID.replace("seeds = [0, 1]", "seeds = [0]\nvariants = [3]"), "variants"),
        (
            GRID.replace("seeds = [0, 1]", "seeds = [0]\nvariants = [{ hue = 1 }]"),
            "no option 'hue'",
        ),
        (GRID.replace("epochs = 1", f"epochs = 0x{'f' * 5000}"), "more than 64 bits"),
        (GRID.replace("seeds = [0]", f"seeds = [0x{'f' * 5000}]"), "more than 64 bits"),
        (GRID.replace("epochs = 1", f"options.{'a.' * 50}a = 1"), "nested more than"),
        (GRID.replace("epochs = 1", f"options.{'a.' * 20000}a = 1"), "too many parts"),
    ],
)
def test_a_malformed_study_is_one_line(tmp_path, text, says):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        study.plan(path)
    assert "\n" not in str(error.value)
