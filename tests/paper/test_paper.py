"""The paper says what the runs say: no number is typed, no macro is missing, and comparing
sentences hold.
"""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest
from claims import CLAIMS

from deepnets import latex, runs

ROOT = Path(__file__).parent.parent.parent
PAPER = ROOT / "paper"
TEX = re.sub(r"(?<!\\)%.*", "", (PAPER / "main.tex").read_text())
RUNS, SMALL = ROOT / "results" / "full", ROOT / "results" / "small"

# Numbers that are no results, and what they are.
CONSTANTS = {
    "0.05": "level of the tests",
    "1,000": "classes of ImageNet",
    "95": "percent, of intervals",
    "3.3": "percent of near-duplicates (Barz and Denzler 2020)",
    "0.2": "dropout of ResNet18+",
    "91.25": "percent that ResNet20 reaches (He et al. 2016, table 6)",
}


def typed_results(tex: str) -> list[str]:
    """Decimal numbers, numbers of thousands, percentages and points in the text, unless they are
    `CONSTANTS`.
    """
    text = tex[tex.index(r"\begin{abstract}") : tex.index(r"\bibliographystyle")]
    text = re.sub(
        r"\\(?:res|effect|claim|cite\w*|ref|label|path|texttt|generated|includegraphics)\{[^{}]*\}",
        " ",
        text,
    )
    text = re.sub(r"\d*\.?\d+\s*(?:in|pt|em|ex|\\(?:text|line|column)width)\b", " ", text)
    number = r"\d+(?:,\d{3})*(?:\.\d+)?"
    found = re.findall(rf"{number}(?=\s*(?:\\,|~)?\s*(?:\\%|percent|points))", text)
    found += re.findall(r"\d+\.\d+", text) + re.findall(r"\d{1,3}(?:,\d{3})+", text)
    return [value for value in found if value not in CONSTANTS]


def arguments(tex: str, start: int, count: int) -> tuple[list[str], int]:
    """The texts of so many braces from `start` on, and where they end."""
    found = []
    for _ in range(count):
        depth, end = 1, start + 1
        while depth:
            depth += {"{": 1, "}": -1}.get(tex[end], 0)
            end += 1
        found.append(tex[start + 1 : end - 1])
        start = end
    return found, start


def expanded(tex: str) -> str:
    """The document, with the commands of the preamble replaced by what they are short for."""
    head, body = tex.split(r"\begin{document}")
    for found in reversed(list(re.finditer(r"\\newcommand\{(\\(?!resdef)\w+)\}\[(\d)\]", head))):
        (meaning,), _ = arguments(head, found.end(), 1)
        while (place := body.find(found[1] + "{")) >= 0:
            values, end = arguments(body, place + len(found[1]), int(found[2]))
            text = meaning
            for number, value in enumerate(values, 1):
                text = text.replace(f"#{number}", value)
            body = body[:place] + text + body[end:]
    return body


def keys_used(tex: str) -> set[str]:
    """The macros that the text names."""
    return set(re.findall(r"\\res\{([^}]+)\}", expanded(tex)))


def test_no_kind_of_number_is_made_that_the_text_does_not_name():
    named = re.findall(r"\\res\{([^}]+)\}", expanded(TEX))
    defined = re.findall(r"\\resdef\{([^}]+)\}", (PAPER / "generated" / "numbers.tex").read_text())
    assert {key.split("/")[-1] for key in defined} <= {key.split("/")[-1] for key in named}


def test_no_result_is_typed():
    assert not typed_results(TEX)


@pytest.mark.parametrize("typed", ["76.12", "81\\,\\%", "4 points", "5,000", "3.4~points"])
def test_a_typed_result_is_found(typed):
    assert typed_results(TEX.replace(r"\end{abstract}", typed + r" \end{abstract}"))


def test_every_macro_of_the_text_is_there():
    defined = set(
        re.findall(r"\\resdef\{([^}]+)\}", (PAPER / "generated" / "numbers.tex").read_text())
    )
    assert not keys_used(TEX) - defined
    assert (
        "cifar10/none"
        in keys_used(TEX.replace(r"\section{Results}", r"\res{cifar10/none}")) - defined
    )


def test_every_citation_has_its_entry_and_every_entry_is_cited():
    cited = {
        key.strip()
        for keys in re.findall(r"\\cite[a-z]*\{([^}]+)\}", TEX)
        for key in keys.split(",")
    }
    assert cited == set(
        re.findall(r"^@\w+\{([^,]+),", (PAPER / "references.bib").read_text(), re.M)
    )


def test_every_claim_has_its_condition_and_every_condition_its_sentence():
    named = re.findall(r"\\claim\{([^}]+)\}", TEX)
    assert sorted(named) == sorted(CLAIMS)


def tiers(name: str) -> list[Path]:
    """Whose runs the condition of that name takes."""
    return {"small": [SMALL], "both": [RUNS, SMALL]}.get(name.split("_")[0], [RUNS])


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_the_sentence_holds(name):
    holds = CLAIMS[name](*map(runs.find, tiers(name)))
    assert holds, f"the sentence of \\claim{{{name}}} in paper/main.tex is no longer true"


def swap(root: Path, first: str, second: str) -> None:
    """Exchange what two runs got right."""
    folders = [root / first, root / second]
    infos = [json.loads((folder / "run.json").read_text()) for folder in folders]
    tests = [(folder / "test.npz").read_bytes() for folder in folders]
    for folder, info, other, test in zip(folders, infos, infos[::-1], tests[::-1], strict=True):
        measured = {
            key: value
            for key, value in other.items()
            if key.startswith("test_") or key == "robustness"
        }
        (folder / "run.json").write_text(json.dumps(info | measured))
        (folder / "test.npz").write_bytes(test)


@pytest.mark.parametrize(
    ("tier", "first", "second"),
    [
        (SMALL, "resnet18/tuned", "googlenet/tuned"),
        (SMALL, "resnet18_improved/tuned", "googlenet_improved/tuned"),
        (RUNS, "resnet18/tuned", "googlenet/tuned"),
        (RUNS, "googlenet_improved/tuned", "googlenet/tuned"),
    ],
)
def test_a_flipped_run_makes_a_sentence_fail(tmp_path, tier, first, second):
    shutil.copytree(
        tier,
        tmp_path / "runs",
        ignore=shutil.ignore_patterns("*.npy", "*.safetensors", "*.partial"),
    )
    for folder in (tier / "cifar10" / first).glob("seed?"):
        if (tier / "cifar10" / second / folder.name).is_dir():
            swap(tmp_path / "runs/cifar10", f"{first}/{folder.name}", f"{second}/{folder.name}")
    found = {path: runs.find(tmp_path / "runs" if path == tier else path) for path in (RUNS, SMALL)}
    conditions = {
        name: condition
        for name, condition in CLAIMS.items()
        if tier in tiers(name) and name != "steep"
    }
    assert not all(
        condition(*(found[path] for path in tiers(name))) for name, condition in conditions.items()
    )


@pytest.mark.skip(reason="the paper is of the earlier study, and shows its networks")
def test_the_committed_numbers_and_tables_are_made_from_the_committed_runs(tmp_path):
    more = (runs.find(ROOT / "results" / name) for name in ("small", "control", "compression"))
    for path in latex.write(runs.find(RUNS), tmp_path, *more):
        if path.suffix == ".tex":
            assert path.read_text() == (PAPER / "generated" / path.name).read_text(), (
                f"{path.name}: run 'make paper'"
            )


def check():
    spec = importlib.util.spec_from_file_location("check", PAPER / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("log", "fit"),
    [
        ("Output written on main.pdf (6 pages).", True),
        ("Overfull \\hbox (1.5pt too wide) in paragraph at lines 5--9", True),
        ("Overfull \\hbox (2.5pt too wide) in paragraph at lines 5--9", False),
        ("LaTeX Warning: Reference `tab:x' on page 1 undefined on input line 3.", False),
        ("Package natbib Warning: Citation `he' on page 1 undefined on input line 7.", False),
    ],
)
def test_the_checker_reads_latexs_log(log, fit):
    assert (not check().complaints(log)) == fit
