"""Check the claims of networks against the records of runs, one a network and preset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ladle.training.report.recorded import Record

if TYPE_CHECKING:
    from ladle.models._network import Claim


@dataclass(frozen=True)
class Checked:
    """A claim with what was measured, in words. `reached` is None if it was not measured."""

    statement: str
    found: str
    reached: bool | None


def check(claims: Mapping[str, Sequence[Claim]], records: Iterable[Record]) -> list[Checked]:
    """Every claim of every network, by name, on the records of the preset that it means."""
    by_run = {(record["network"], record["preset"]): record for record in records}
    return [_checked(name, claim, by_run) for name, each in claims.items() for claim in each]


def _checked(name: str, claim: Claim, by_run: Mapping[tuple[str, str], Record]) -> Checked:
    statement, names = f"`{name}`: {claim.statement}", (name, *claim.others)
    missing = [each for each in names if (each, claim.preset) not in by_run]
    if missing:
        return Checked(statement, f"no version of {', '.join(missing)}", None)
    try:
        found, reached = claim.check(*(by_run[each, claim.preset] for each in names))
    except KeyError as error:
        return Checked(statement, f"{error.args[0]} was not measured", None)
    return Checked(statement, found, reached)
