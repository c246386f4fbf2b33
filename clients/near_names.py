"""Names that are like a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ALIKE = 0.75
"""How alike two names are, from 0 to 1, for one to be suggested instead of the other."""


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """At most two of the known names, the most similar first; those that begin with `name` count as similar."""
    known = list(known)
    found = difflib.get_close_matches(name, known, n=2, cutoff=ALIKE)
    begun = [each for each in known if len(name) > 2 and each.startswith(name) and each not in found]
    return (found + begun)[:2]


def hint(name: str, known: Iterable[str], otherwise: str) -> str:
    """`did you mean lenet5?`, or `otherwise` if no name is near."""
    near = near_names(name, known)
    return f"did you mean {' or '.join(near)}?" if near else otherwise
