"""Notebooks as Markdown: their text, their code and what it printed, as they are checked in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def markdown(path: Path) -> str:
    """The cells of a notebook, one after the other, without its title, which is the page's.

    ValueError: a code cell has an output that is not text.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [_of_cell(cell, f"{path.name}, cell {number}") for number, cell in enumerate(cells)]
    return "\n\n".join(part for part in parts if part)


def _of_cell(cell: dict[str, Any], where: str) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return "\n".join(line for line in source.splitlines() if not line.startswith("# ")).strip()
    printed = "".join(_text(output, where) for output in cell["outputs"])
    shown = f"\n\n```text\n{printed.rstrip()}\n```" if printed.strip() else ""
    return f"```python\n{source}\n```{shown}"


def _text(output: dict[str, Any], where: str) -> str:
    if output["output_type"] == "stream":
        return "".join(output["text"])
    raise ValueError(f"{where}: got an output of type {output['output_type']}; expected printed text alone")
