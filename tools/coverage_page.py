"""Writes the coverage of `ladle convert` into docs/export.md, from the last measurements of the collection.

python -m tests.collection.measure --write tests/collection/coverage.json
python -m tests.collection.applications --write
python -m tools.coverage_page
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "tests/collection/coverage.json"
APPLICATIONS = ROOT / "tests/collection/applications.json"
PAGE = ROOT / "docs/export.md"
BEGIN, END = "<!-- coverage: written by tools/coverage_page.py -->", "<!-- end of coverage -->"
FIRST, LAST = "<!-- applications: written by tools/coverage_page.py -->", "<!-- end of applications -->"


def render(found: Mapping[str, Any]) -> str:
    """The section: the figure, the table of operations in the collection, and the other operations."""
    models = found["models"].values()
    lines = []
    for with_strings, kind in ((False, "numbers alone"), (True, "strings or tables")):
        chosen = [model for model in models if model["strings"] is with_strings]
        if not chosen:
            continue
        signatures, graphs = (sum(model[key] for model in chosen) for key in ("signatures", "graphs"))
        wrong, crashed = (sum(model[key] for model in chosen) for key in ("wrong", "crash"))
        requests = sum(model["requests"] for model in chosen)
        share = 100 * graphs // signatures
        lines.append(
            f"- Of {kind}: {len(chosen)} models, {graphs} of {signatures} signatures on ONNX Runtime ({share} %). "
            f"{requests} requests were compared with TensorFlow; {wrong} models answered one "
            f"otherwise, {crashed} crashed."
        )
    used = Counter(name for model in models for name in model["operations"])
    rows = [
        f"| {name} | {by} | {used[name]} |" for name, by in found["operations"].items() if used[name] and name != "NoOp"
    ]
    others = sorted(name for name in found["operations"] if not used[name])
    lines += ["", "| Operation | Converted by | Models that test it |", "|---|---|---|", *rows, ""]
    lines += ["Converted, too, but in no model of the collection: " + ", ".join(others) + "."]
    return "\n".join(lines)


def render_applications(found: Mapping[str, Any]) -> str:
    """The table of the networks of keras.applications."""
    size = found["size"]
    lines = [
        f"The networks of `keras.applications` with random weights and images of {size}×{size}, each converted in a",
        "process of its own. TensorFlow alone takes 0.6 GB. From `python -m tests.collection.applications`:",
        "",
    ]
    lines += ["| Network | Million weights | Seconds | CPU seconds | Peak memory, GB | Largest difference |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, network in found["networks"].items():
        result = f"{network['max_abs']:.0e}" if not network["reason"] else network["reason"].replace("|", "/")
        lines.append(
            f"| {name} | {network['weights'] / 1e6:.1f} | {network['seconds']:.0f} | {network['cpu_seconds']:.0f} | "
            f"{network['peak_bytes'] / 1e9:.1f} | {result} |"
        )
    return "\n".join(lines)


def page(text: str, section: str, begin: str = BEGIN, end: str = END) -> str:
    """The page with a section replaced."""
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{section}\n\n{end}{after}"


def main() -> int:
    """Write the page."""
    text = page(PAGE.read_text(), render(json.loads(RESULT.read_text())))
    if APPLICATIONS.is_file():
        text = page(text, render_applications(json.loads(APPLICATIONS.read_text())), FIRST, LAST)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
