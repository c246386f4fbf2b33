"""Check the claims of networks against the records of runs of one kind, one run a network."""

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
    """Every claim of every network, by name, on the records."""
    by_name = {record["network"]: record for record in records}
    return [_checked(name, claim, by_name) for name, each in claims.items() for claim in each]


def _checked(name: str, claim: Claim, by_name: Mapping[str, Record]) -> Checked:
    statement, names = f"`{name}`: {claim.statement}", (name, *claim.others)
    missing = [each for each in names if each not in by_name]
    if missing:
        return Checked(statement, f"no version of {', '.join(missing)}", None)
    try:
        found, reached = claim.check(*(by_name[each] for each in names))
    except KeyError as error:
        return Checked(statement, f"{error.args[0]} was not measured", None)
    return Checked(statement, found, reached)
