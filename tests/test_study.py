"""Study files, their order, and what a budget does."""

import itertools
import time
from dataclasses import replace
from pathlib import Path

import pytest

from deepnets import recipes, study
from deepnets.errors import UserError
from deepnets.training.folder import working_folder

STUDIES = Path(__file__).parent.parent / "studies"
GRID = """
defaults = { epochs = 2, batch_size = 16, limit = 60, input_size = 16 }

[[grid]]
networks = ["resnet8", "resnet14"]
datasets = ["digits"]
recipes = ["vanilla", "tuned"]
seeds = [0, 1]
resnet14 = { learning_rate = 0.05, options = { dropout = 0.1 } }

[[grid]]
networks = ["resnet20"]
datasets = ["digits"]
recipes = ["best"]
seeds = [0]
epochs = 1
"""
VARIANTS = """
[[grid]]
datasets = ["digits"]
recipes = ["tuned"]
seeds = [0]
networks = ["resnet18_improved"]
variants = [{}, { stem = "7x7" }, { weight_decay = 0 }, { augment = "none", dropout = 0.0 }]
options = { narrow_head = false }
"""


@pytest.fixture
def plan(tmp_path):
    """Returns the jobs of a study file with a text."""

    def write(text=GRID):
        (tmp_path / "study.toml").write_text(text)
        return study.plan(tmp_path / "study.toml")

    return write


def test_a_grid_crosses_its_axes_a_seed_of_everything_first(plan):
    jobs = plan()
    eight, fourteen = "digits/resnet8", "digits/resnet14-dropout=0.1"
    names = [
        f"{network}/{recipe}" for recipe in ("vanilla", "tuned") for network in (eight, fourteen)
    ]
    first, second = ([f"{name}/seed{seed}" for name in names] for seed in (0, 1))
    assert [str(job.folder) for job in jobs] == [*first, "digits/resnet20/best/seed0", *second]
    assert [job.recipe.learning_rate for job in jobs[:2]] == [0.001, 0.05]
    assert [job.recipe.epochs for job in (jobs[0], jobs[4])] == [2, 1]
    assert {(job.limit, job.input_size, job.recipe.batch_size) for job in jobs} == {(60, 16, 16)}


def test_variants_change_one_thing_each_and_name_it(plan):
    base, stem, decay, both = plan(VARIANTS)
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


def test_a_study_continues_where_its_budget_ended_and_repeats_nothing(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "monotonic", itertools.count().__next__)  # a second each look
    jobs, out = plan()[:3], tmp_path / "out"
    assert study.execute(jobs[:1], out, verbose=False)[1] == []
    before = (out / jobs[0].folder / "run.json").stat().st_mtime_ns
    finished, missing = study.execute(jobs, out, budget=9, verbose=False)
    assert [run.path for run in finished] == [out / jobs[0].folder]
    assert [line.partition(":")[0] for line in missing] == [str(job.folder) for job in jobs[1:]]
    assert missing[0].endswith("stopped at a checkpoint when the time was up")
    assert len(list(out.rglob("checkpoint.pt"))) == 1, "the last one was not begun"
    finished, missing = study.execute(jobs, out, verbose=False)
    assert (len(finished), missing) == (3, [])
    assert (out / jobs[0].folder / "run.json").stat().st_mtime_ns == before


def test_one_training_that_fails_does_not_stop_the_others(plan, tmp_path):
    """One diverges, another process has one, and a third is trained."""
    diverges = GRID.replace("learning_rate = 0.05", "learning_rate = 1e6, epochs = 9")
    jobs = plan(diverges)
    with working_folder(tmp_path / "out" / jobs[0].folder):
        finished, missing = study.execute(jobs[:3], tmp_path / "out", verbose=False, patience=0)
    assert [run.info.recipe.name for run in finished] == ["tuned"]
    assert missing[0].endswith("seed0.partial is being trained by another process")
    assert "not finite" in missing[1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[grid", "not TOML"),
        ("x = 1\n" + GRID, "'x' is not a part"),
        (GRID.replace("seeds = [0, 1]", 'seeds = ["0"]'), "seeds"),
        (GRID.replace("epochs = 1\n", "epoch = 1\n"), "no field 'epoch'"),
        (GRID.replace("resnet14 =", "resnet26 ="), "resnet26"),
        (GRID + GRID[GRID.index("[[grid]]") :], "asked for twice"),
        (VARIANTS.replace("stem", "hue"), "no option 'hue'"),
        (GRID.replace("epochs = 1", f"options.{'a.' * 7000}a = 1"), "recursion"),
    ],
)
def test_a_malformed_study_is_refused(plan, text, says):
    with pytest.raises(UserError, match=says):
        plan(text)
