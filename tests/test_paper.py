"""The paper says what the tables say: numbers are made, claims hold, nothing is typed."""

import re
from pathlib import Path

import pandas as pd
import pytest

from paper import claims, figures, make
from paper.check import LIMITS, counts

ROOT = Path(__file__).parent.parent
TEX = (ROOT / "paper" / "main.tex").read_text()


@pytest.fixture(scope="module")
def tables():
    return {name: pd.read_csv(make.RESULTS / f"{name}.csv") for name in make.PLACES}


@pytest.mark.parametrize("name", claims.claims())
def test_claims_hold(name, tables):
    said = claims.verdict(claims.claims()[name], tables)
    if said.startswith("lacks"):
        pytest.skip(said)
    assert said == "holds"


def test_every_claim_stands_in_the_paper():
    assert sorted(re.findall(r"\\claim\{(\w+)\}", TEX)) == sorted(claims.claims())


def test_a_claim_sees_that_its_table_says_otherwise(tables):
    turned = tables["corners"].assign(training_share=1 - tables["corners"]["training_share"])
    claim = claims.training_gives_most_to_resnet18
    assert claims.verdict(claim, {"corners": turned}).startswith("is wrong")
    assert claims.verdict(claim, {"corners": turned.head(0)}).startswith("lacks gain")


def test_no_result_is_typed():
    results = TEX[TEX.index(r"\section{Results}") :]
    made = r"\\(res|when|includegraphics|setlength|claim)(\[.*?\])?\{[^}]*\}(\{[\d.]+pt.*?\})?"
    assert re.findall(r"\d+\.\d+", re.sub(made, "", results)) == []


def test_numbers_and_tables_are_those_of_the_results(tables):
    [found] = figures.best(make.runs.find(make.RESULTS / "main"))
    generated = ROOT / "paper" / "generated"
    assert (generated / "numbers.tex").read_text() == make.definitions(tables, figures.facts(found))
    for name, table in make.TABLES.items():
        assert (generated / f"{name}.tex").read_text() == table(tables), name


def test_numbers_are_printed_in_points_and_per_cent():
    row = {"dataset": "CIFAR-10", "effect": -0.0123, "low": -0.02, "high": 0.0049, "p_holm": 0.0004}
    assert make.written(row, "effect") == "$-$1.2"
    assert make.written(row, "effect:interval") == "$-$2.0 to 0.5"
    assert make.written(row | {"dataset": "MNIST"}, "effect") == "$-$1.23"
    assert make.written(row, "p_holm") == "below 0.001"
    assert make.written(row, "accuracy") == make.UNKNOWN
    assert make.written({"verdict": "worse"}, "verdict").startswith("worse than")


def test_the_abstract_is_short():
    found = counts(TEX, (ROOT / "paper" / "generated" / "numbers.tex").read_text(), "")
    assert all(found[what] <= limit for what, limit in LIMITS.items())
    abstract = r"\begin{abstract}Two \res{a} of 3x3 in ResNet18.\end{abstract}"
    found = counts(abstract, r"\resdef{a}{1.5}", "")
    assert (found["words in the abstract"], found["numbers in the abstract"]) == (6, 2)
