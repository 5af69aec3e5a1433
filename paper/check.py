"""Is the paper fit to be read? Looks at LaTeX's log, at the PDF and at how much there is of what.

python paper/check.py BUILD_FOLDER
"""

import re
import subprocess
import sys
from pathlib import Path

PAGES = 6
WIDEST, HIGHEST = 2.0, 12.0  # points by which a line may stick out, and a page: less than a line
# At most so many
LIMITS = {"words in the abstract": 150, "numbers in the abstract": 5, "numerals": 500, "tables": 4}
# A number by itself, not in a name (ResNet18, CIFAR-10); 3x3 is one
NUMERAL = re.compile(r"(?<![\w.,-])\d[\d.,]*")


def counts(tex: str, numbers: str, printed: str) -> dict[str, int]:
    """Returns how much there is of what `LIMITS` limits.

    Args:
        tex: the paper's source.
        numbers: what defines the macros of its numbers.
        printed: the text of the PDF.
    """
    values = dict(re.findall(r"\\resdef\{(.*?)\}\{(.*)\}", numbers))
    abstract = re.search(r"\\begin\{abstract\}(.*?)\\end\{abstract\}", tex, re.S)
    # Of a text and what else would stand there, both are counted
    lines = re.sub(r"(?m)^%.*\n|\\when\{.*?\}|%$", "", abstract[1] if abstract else "")
    plain = re.sub(r"\\res\{(.*?)\}", lambda key: values.get(key[1], "??"), lines)
    return {
        "words in the abstract": len(plain.split()),
        "numbers in the abstract": len(NUMERAL.findall(plain)),
        "numerals": len(NUMERAL.findall(printed)),
        "tables": len(re.findall(r"\\begin\{table", tex)),
    }


def complaints(log: str) -> list[str]:
    """Returns what is wrong according to LaTeX's log."""
    log = re.sub(r"(?<=.{79})\n", "", log)  # TeX breaks its lines there
    found = re.findall(r"Warning: ((?:Reference|Citation) .*? undefined)", log)
    found += re.findall(r"Warning: (Label .*? multiply defined)", log)
    for kind, points, where in re.findall(r"Overfull \\([hv]box) \(([\d.]+)pt too \w+\) (.*)", log):
        if float(points) > (WIDEST if kind == "hbox" else HIGHEST):
            found.append(f"{kind} {points} pt too large {where}")
    return found


def faults(pdf: Path) -> list[str]:
    """Returns what is wrong with a PDF's number of pages and its fonts."""
    found = [
        f"font {line.split()[0]} is Type 3"
        for line in _say("pdffonts", str(pdf)).splitlines()
        if " Type 3 " in line
    ]
    count = re.search(r"^Pages:\s+(\d+)", _say("pdfinfo", str(pdf)), re.M)
    if not count or int(count[1]) != PAGES:
        found.append(f"{count[1] if count else 'no'} pages, not {PAGES}")
    return found


def _say(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(folder: str) -> int:
    """Prints what is wrong; returns 0 if nothing is."""
    build = Path(folder)
    pdf, paper = build / "main.pdf", build.parent
    found = complaints((build / "main.log").read_text(errors="replace"))
    if pdf.exists():
        printed = _say("pdftotext", str(pdf), "-")
        found += faults(pdf) + ["?? in the text"] * ("??" in printed)
        tex, numbers = (paper / name for name in ("main.tex", "generated/numbers.tex"))
        for what, count in counts(tex.read_text(), numbers.read_text(), printed).items():
            print(f"paper: {count} {what}")
            found += [f"{count} {what}, not at most {LIMITS[what]}"] * (count > LIMITS[what])
    else:
        found.append(f"there is no {pdf}: its log says why")
    for line in found:
        print(f"paper: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
