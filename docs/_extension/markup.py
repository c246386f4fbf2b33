"""Markdown from the words of the code: escaped text, code, tables, definitions, docstrings."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence


def plain(text: str) -> str:
    """Words from code as Markdown that shows just these words; code between backticks stays code."""
    parts = re.split(r"(`[^`\n]+`)", text)
    return "".join(part if n % 2 else re.sub(r"([\\*_<>|$\[\]])", r"\\\1", part) for n, part in enumerate(parts))


def code(text: str) -> str:
    """Text as code, whatever backticks it holds."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def block(text: str, language: str = "text") -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(" ".join(cell.split("\n")) for cell in line) + " |" for line in lines)


def defined(entries: Iterable[tuple[str, str]]) -> str:
    """A list of definitions: a term in Markdown, and what it means."""
    return "\n\n".join(f"{term}\n: {textwrap.indent(meaning or '–', '  ').lstrip()}" for term, meaning in entries)


def docstring(thing: object) -> str:
    """The docstring as Markdown. Lines of the form `name  meaning` become a list of definitions."""
    text = inspect.getdoc(thing) or ""
    return "\n\n".join(paragraph(part) for part in re.split(r"\n\s*\n", text))


_ENTRY = re.compile(r"(\S+(?:, \S+)*) {2,}(\S.*)")


def paragraph(text: str) -> str:
    if text.lstrip().startswith(">>> "):
        return block(textwrap.dedent(text), "pycon")
    entries = entries_of(text)
    if entries:
        return defined((", ".join(map(code, names.split(", "))), plain(said)) for names, said in entries)
    return plain(" ".join(text.split()))


def entries_of(text: str) -> list[tuple[str, str]]:
    """The names and meanings of a paragraph whose lines are `name  meaning`; none of another paragraph."""
    entries: list[tuple[str, str]] = []
    for line in text.splitlines():
        found = _ENTRY.fullmatch(line)
        if found:
            entries.append((found[1], found[2]))
        elif entries and line.startswith(" "):
            entries[-1] = (entries[-1][0], f"{entries[-1][1]} {line.strip()}")
        else:
            return []
    return entries
