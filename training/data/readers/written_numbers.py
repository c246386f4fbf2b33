"""Numbers as people and spreadsheets write them: thousands apart, a decimal comma, a currency or a percent sign."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_SIGNS = "$€£¥₹%"
_SPACES = re.compile(r"[\u0020\u00a0\u202f\u2009]")
_WAYS = {
    way: re.compile(rf"[+-]?(?:\d{{1,3}}(?:{way[0]}\d{{3}})+|\d+)(?:{way[1]}\d+)?")
    for way in ((",", r"\."), (r"\.", ","), (" ", r"\."), (" ", ","), ("'", r"\."), ("’", r"\."))
}
"""Separator of thousands and decimal sign -> a number that is written so."""
_COMMA = re.compile(r"[+-]?\d+(,\d+)?(e[+-]?\d+)?", re.IGNORECASE)
"""A number with a decimal comma."""
_ONE_GROUP = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


def as_plain(cells: Sequence[str], delimiter: str) -> tuple[list[str], str]:
    """The cells of a column as Python writes numbers, and a note of what was taken for what; else as they are.

    Every cell that is not empty has to be a number of one way of writing, with one sign or none; else nothing changes.

    delimiter  of the table's cells: beside a semicolon, "1,250" has a decimal comma; beside others, a thousand
    """
    if any("−" in cell for cell in cells):  # typographers' minus sign
        ascii_minus = [re.sub(r"^−(?=\d|[.,]\d)", "-", cell) for cell in cells]
        found, note = as_plain(ascii_minus, delimiter)
        if all(not cell or number(cell) is not None for cell in found):
            return found, note
    given = [cell for cell in cells if cell]
    if not given or not any(character in cell for cell in given for character in ",.'’ \u00a0\u202f\u2009" + _SIGNS):
        return list(cells), ""
    bare, sign = _without_sign(given)
    plain, separator = _without_separators(bare, delimiter)
    if plain is None or not (sign or separator):
        return list(cells), ""
    left = iter(plain)
    notes = [f"{sign} taken off"] if sign else []
    notes += [f"{separator!r} separates thousands"] if separator not in ("", "decimal") else []
    return [next(left) if cell else "" for cell in cells], " and ".join(notes)


def _without_sign(cells: list[str]) -> tuple[list[str], str]:
    """The cells without a sign that all of them have, before or behind the number; and the sign."""
    for sign in _SIGNS:
        if all(cell.count(sign) == 1 for cell in cells):
            bare = [re.sub(rf"^([+-]?)\s*{re.escape(sign)}\s*|\s*{re.escape(sign)}$", r"\1", cell) for cell in cells]
            if not any(sign in cell for cell in bare):
                return bare, sign
    return cells, ""


def _without_separators(cells: list[str], delimiter: str) -> tuple[list[str] | None, str]:
    """The cells as plain numbers, or None; and what separates their thousands, "decimal" for a decimal comma."""
    if all(number(cell) is not None for cell in cells):
        return cells, ""
    cells = [_SPACES.sub(" ", cell) for cell in cells]
    commas = [cell for cell in cells if "," in cell]
    are_thousands = delimiter != ";" and all(_ONE_GROUP.fullmatch(cell) for cell in commas)
    if all(_COMMA.fullmatch(cell) for cell in cells) and not are_thousands:
        # In a table with commas, a quoted "1,2" is more likely a pair.
        return [cell.replace(",", ".") for cell in cells] if delimiter != "," else None, "decimal"
    for (group, decimal), pattern in _WAYS.items():
        if all(pattern.fullmatch(cell) for cell in cells):
            separator = group.removeprefix("\\")
            return [cell.replace(separator, "").replace(decimal.removeprefix("\\"), ".") for cell in cells], separator
    return None, ""


def number(text: str) -> float | None:
    """The number that a text is; None if it is none. Python's underscores and infinities are no numbers here."""
    if "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
