"""Fills the parts of pages that are made from code, and shows the documents of the repository's root as pages.

A page marks the place with `<!-- generated: NAME -->` (a function of `reference.py`), `<!-- document: FILE.md -->` or
`<!-- notebook: FILE.ipynb -->`, whose text, code and outputs are shown.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import notebooks
import reference

ROOT = Path(__file__).resolve().parents[2]
GENERATED = re.compile(r"^<!-- generated: ([a-z_]+) -->$", re.MULTILINE)
DOCUMENT = re.compile(r"^<!-- document: ([A-Z]+\.md) -->$", re.MULTILINE)
NOTEBOOK = re.compile(r"^<!-- notebook: ([a-z_]+\.ipynb) -->$", re.MULTILINE)
ANCHOR = re.compile(r'^<a id="([\w-]+)"></a>$', re.MULTILINE)
"""Where a generated page may be linked to; Markdown has no other way of saying it, MyST has a target."""
PAGES = {
    "ARCHITECTURE.md": "/project/architecture.md",
    "CHANGELOG.md": "/project/changelog.md",
    "CONTRIBUTING.md": "/project/contributing.md",
    "SECURITY.md": "/project/security.md",
    "README.md": "/index.md",
}
"""Where the site shows the documents of the repository's root."""
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def fill(app: Any, name: str, source: list[str]) -> None:
    """Handler of `source-read`."""
    if GENERATED.search(source[0]):
        _import_tensorflow()
    text = GENERATED.sub(lambda found: getattr(reference, found[1])(), source[0])
    text = DOCUMENT.sub(lambda found: from_root((ROOT / found[1]).read_text(encoding="utf-8")), text)
    text = NOTEBOOK.sub(lambda found: notebooks.markdown(ROOT / "docs" / "notebooks" / found[1]), text)
    text = ANCHOR.sub(r"(\1)=\n", text)
    source[0] = LINK.sub(_to_root, text)


def _import_tensorflow() -> None:
    """Import what the reference needs without the notes that TensorFlow writes to stderr when it is imported."""
    from ladle.training.quiet import without_stderr

    with without_stderr():
        from ladle import models

        models.register()


def from_root(text: str) -> str:
    """A document of the root with its links as the site has them; what the site lacks is named, not linked."""

    def link(found: re.Match[str]) -> str:
        words, target = found.groups()
        path, hash_, anchor = target.partition("#")
        if not path or "://" in path:
            return found[0]
        if path in PAGES:
            return f"[{words}]({PAGES[path]}{hash_}{anchor})"
        if path.startswith("docs/") and (ROOT / path).is_file():
            return f"[{words}](/{path.removeprefix('docs/')}{hash_}{anchor})"
        if not (ROOT / path).exists():
            raise ValueError(f"a document links to {path}, which the repository does not have")
        return words if "`" in words else f"`{words}`"

    return LINK.sub(link, text)


def _to_root(found: re.Match[str]) -> str:
    """Pages link to the root's documents as `../SECURITY.md`, so that the links work in the repository as well."""
    words, target = found.groups()
    path, hash_, anchor = target.partition("#")
    name = path.rpartition("../")[2]
    return f"[{words}]({PAGES[name]}{hash_}{anchor})" if "../" in path and name in PAGES else found[0]


def outdated(app: Any, env: Any, *changes: Collection[str]) -> list[str]:
    """Handler of `env-get-outdated`: pages made from code are read again in every build."""
    return [
        name
        for name in env.found_docs
        if GENERATED.search(text := Path(env.doc2path(name)).read_text(encoding="utf-8"))
        or DOCUMENT.search(text)
        or NOTEBOOK.search(text)
    ]


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", fill)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
