"""Study files, their order, and what a budget does."""

from pathlib import Path

import pytest

from deepnets import study
from deepnets.errors import UserError

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


def test_a_grid_crosses_its_axes_a_seed_of_everything_first(file):
    jobs = study.plan(file)
    assert [str(job.folder) for job in jobs] == [
        "digits/resnet8/plain/seed0",
        "digits/resnet14-dropout=0.1/plain/seed0",
        "digits/resnet8/tuned/seed0",
        "digits/resnet14-dropout=0.1/tuned/seed0",
        "digits/resnet8/plain/seed1",
        "digits/resnet14-dropout=0.1/plain/seed1",
        "digits/resnet8/tuned/seed1",
        "digits/resnet14-dropout=0.1/tuned/seed1",
        "digits/resnet20/best/seed0",
    ]
    assert [job.recipe.learning_rate for job in jobs[:2]] == [0.1, 0.05]
    assert [job.recipe.epochs for job in (jobs[0], jobs[-1])] == [2, 1]
    assert {(job.limit, job.input_size, job.recipe.batch_size) for job in jobs} == {(60, 16, 16)}


def test_the_projects_own_studies_are_well_formed():
    paths = sorted(Path("studies").glob("*.toml"))
    assert Path("studies/demo.toml") in paths
    for path in paths:
        assert study.plan(path)


def test_the_demo_is_the_missions_nine_networks_on_real_digits():
    jobs = study.plan("studies/demo.toml")
    assert {job.model for job in jobs} == {
        "alexnet", "vgg11", "vgg16", "vgg16_improved", "resnet20", "resnet18", "resnet18_improved", "googlenet",
        "googlenet_improved",
    }  # fmt: skip
    assert len(jobs) == 9
    assert not [job for job in jobs if job.options or job.dataset != "digits"]


def test_a_study_continues_where_its_budget_ended_and_repeats_nothing(file, tmp_path, monkeypatch):
    trained = []
    fit = study.fit
    monkeypatch.setattr(study, "fit", lambda job, out, **k: (trained.append(job.folder), fit(job, out, **k))[1])
    jobs = study.plan(file)[:4]
    out = tmp_path / "out"
    finished, missing = study.execute(jobs[:2], out, verbose=False)
    assert (len(finished), missing) == (2, [])
    finished, missing = study.execute(jobs, out, budget=0.01, verbose=False)
    assert len(finished) == 2
    assert [line.partition(":")[0] for line in missing] == [str(job.folder) for job in jobs[2:]]
    assert all("not started" in line for line in missing)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
    finished, missing = study.execute(jobs, out, verbose=False)
    assert (len(finished), missing) == (4, [])
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_that_does_not_end_in_time_is_stopped_at_a_checkpoint(file, tmp_path):
    jobs = study.plan(file)[:1]
    finished, missing = study.execute(jobs, tmp_path / "out", budget=0.05, verbose=False)
    assert finished == []
    assert "stopped at a checkpoint" in missing[0]
    assert list((tmp_path / "out").rglob("checkpoint.pt"))
    assert len(study.execute(jobs, tmp_path / "out", verbose=False)[0]) == 1


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
        (GRID.replace('"resnet8"', "3"), "networks"),
        (GRID.replace("seeds = [0, 1]", 'seeds = ["0"]'), "seeds"),
        ("defaults = 3\n[[grid]]", "defaults only as"),
    ],
)
def test_a_malformed_study_is_one_line(tmp_path, text, says):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        study.plan(path)
    assert "\n" not in str(error.value)
