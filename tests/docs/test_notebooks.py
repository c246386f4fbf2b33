"""The notebooks of the course: checked in with what their cells printed, and run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
PACKAGES = ROOT / "build" / "notebooks"
RUN = """
import nbclient, nbformat, sys
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=900).execute(cwd=".")
nbformat.write(notebook, sys.argv[2])
"""


def code(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any]) -> str:
    """What a cell wrote to stdout. TensorFlow's notes about the machine go to stderr."""
    assert all(output["output_type"] == "stream" for output in cell["outputs"]), cell["outputs"]
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["name"] == "stdout")


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_checked_in_as_it_ran_from_the_first_cell_to_the_last(name: str) -> None:
    cells = code(FOLDER / f"{name}.ipynb")
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(printed(cell)) for cell in cells) >= len(cells) - 1  # all but the imports
    assert '"stderr"' not in (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert str(ROOT) not in (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert f"<!-- notebook: {name}.ipynb -->" in (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def test_the_tensors_are_thirty_cells_with_the_numbers_of_the_notes() -> None:
    cells = code(FOLDER / "tensors.ipynb")
    assert len(cells) == 30
    said = "".join(map(printed, cells))
    for number in ("2.000 bits", "1.357 bits", "0.242 bits", "norm 22.14, clipped 15.00"):
        assert number in said


@pytest.fixture(scope="module")
def packages() -> Path:
    """What runs a notebook, beside this environment: it is not needed for anything else."""
    wanted = (Path(__file__).parent / "notebook_requirements.txt").read_text()
    stamp = PACKAGES / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        command = [sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--target", str(PACKAGES)]
        command += ["-r", str(Path(__file__).parent / "notebook_requirements.txt")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        stamp.write_text(wanted)
    return PACKAGES


@pytest.mark.slow  # trains on real data
@pytest.mark.parametrize("name", NAMES)
def test_every_cell_runs_again(name: str, packages: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{packages}", "IPYTHONDIR": str(tmp_path / "ipython")}
    command = [sys.executable, "-c", RUN, str(FOLDER / f"{name}.ipynb"), str(tmp_path / "again.ipynb")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    before, again = (list(map(printed, code(path))) for path in (FOLDER / f"{name}.ipynb", tmp_path / "again.ipynb"))
    if name == "tensors":
        assert again == before
    assert [bool(said) for said in again] == [bool(said) for said in before]
