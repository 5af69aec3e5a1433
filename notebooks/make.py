"""Executes the notebooks in place, from the runs in results/.

python notebooks/make.py [NAME ...]    (all of them, if none is named)
"""

import hashlib
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def digest(notebook: nbformat.NotebookNode) -> str:
    """Returns a hash of what the outputs of a notebook are made from.

    These are its code and the stored runs.
    """
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    found = hashlib.sha256("\0".join(code).encode())
    for file in sorted((ROOT / "results").rglob("*.*")):
        unfinished = any(part.endswith(".partial") for part in file.parts)
        if file.suffix in (".json", ".csv", ".npz") and not unfinished:
            found.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
    return found.hexdigest()


def execute(path: Path) -> None:
    """Runs a notebook from top to bottom, and notes in it what its outputs were made from.

    Raises:
        CellExecutionError: a cell fails; the file stays as it was.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, resources={"metadata": {"path": str(HERE)}}, record_timing=False,
        extra_arguments=["--log-level=ERROR"], coalesce_streams=True,
    ).execute()  # fmt: skip
    # As JupyterLab writes it, so that to open a notebook changes no file
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata = {
        "kernelspec": kernel,
        "language_info": notebook.metadata["language_info"],
        "deepnets": {"made_from": digest(notebook)},
    }
    nbformat.write(notebook, path)


if __name__ == "__main__":
    os.environ["DEEPNETS_PROFILE"] = "full"
    for name in sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.ipynb")):
        execute(HERE / f"{name}.ipynb")
        print(f"notebooks/{name}.ipynb")
