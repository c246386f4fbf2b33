"""Blocks of code in Markdown, run as a reader runs them: in a folder as `make demo` leaves it, beside live servers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_FENCED = re.compile(r"^(?:<!-- (not run|run): ([\w-]+) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    where   file and line, for the test's name
    mark    "" without a comment in front; else "not run" or "run", for `<!-- not run: REASON -->` and the like
    reason  the comment's word
    """

    where: str
    language: str
    code: str
    mark: str = ""
    reason: str = ""


def read(file: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    text, name = file.read_text(encoding="utf-8"), file.relative_to(ROOT)
    found = []
    for match in _FENCED.finditer(text):
        line = text.count("\n", 0, match.start(3)) + 1
        found.append(Block(f"{name}:{line}", match[3], match[4], match[1] or "", match[2] or ""))
    return found


def with_ports(text: str, ports: Mapping[str, int]) -> str:
    """The text with the documented ports replaced by those that were free."""
    return re.sub(r"localhost:(\d+)", lambda found: f"localhost:{ports[found[1]]}", text)


def run(block: Block, home: Path, ports: Mapping[str, int]) -> subprocess.CompletedProcess[str]:
    """Run a block in `home` with the `ladle` of this environment on the path; `ports` by documented port."""
    code = with_ports(block.code, ports)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LADLE_ADDRESS": f"grpc://localhost:{ports['8500']}",
    }
    return subprocess.run(
        _command(block.language, code, home), cwd=home, env=environment, capture_output=True, text=True
    )


def _command(language: str, code: str, home: Path) -> list[str]:
    if language == "sh":
        return ["bash", "-euo", "pipefail", "-c", code]
    if language == "python":
        return [sys.executable, "-c", code]
    file = home / {"js": "ask.mjs", "go": "ask.go", "java": "Ask.java"}[language]
    file.write_text(code, encoding="utf-8")
    return [*{"js": ["node"], "go": ["go", "run"], "java": ["java"]}[language], str(file)]
