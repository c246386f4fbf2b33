"""Which versions of a model are loaded and what the labels stable and canary name, so that no label is ever refused.

TensorFlow Serving moves a label only to a version that is loaded, and loads only what the policy names. So a version is
named by the policy in one file and by a label in the next; what a label named stays loaded for one file more, and the
way back is as quick as the way there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ladle.serving.repository.folders import ModelConfig

STABLE, CANARY = "stable", "canary"


@dataclass(frozen=True)
class Wish:
    """What is asked for: a version of each label, or for stable the version of canary. None: see `decide`."""

    stable: int | None = None
    canary: int | None = None
    promote: bool = False


@dataclass(frozen=True)
class Plan:
    """The versions that are loaded, the labels, and those that move when the file is written the next time."""

    versions: tuple[int, ...]
    labels: dict[str, int]
    pending: dict[str, int] = field(default_factory=dict)


def decide(found: Collection[int], before: ModelConfig | None, wish: Wish = Wish()) -> Plan:
    """The plan for a model with these versions, at least one, and with this entry in the file before.

    stable stays where it was, canary goes to the newest version; a model that is new has both there.
    ValueError when a version is asked for that is not there.
    """
    for label, version in ((STABLE, wish.stable), (CANARY, wish.canary)):
        if version is not None and version not in found:
            there = ", ".join(map(str, sorted(found)))
            raise ValueError(f"{label} cannot name version {version}; there is {there}")
    newest = max(found)
    was = {label: version for label, version in before.labels.items() if version in found} if before else {}
    loaded = before.policy.choose(found) if before else set(found)
    canary_now = was.get(CANARY, newest)
    wanted = {
        STABLE: wish.stable or (canary_now if wish.promote else was.get(STABLE, newest)),
        CANARY: wish.canary or (canary_now if wish.promote else newest),
    }
    labels = {label: version if version in loaded else was.get(label) for label, version in wanted.items()}
    named = {label: version for label, version in labels.items() if version is not None}
    return Plan(
        versions=tuple(sorted({*wanted.values(), *was.values(), *named.values()})),
        labels=named,
        pending={label: version for label, version in wanted.items() if named.get(label) != version},
    )
