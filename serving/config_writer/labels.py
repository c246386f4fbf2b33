"""Plans which versions of a model to load and where the labels stable and canary point, so that none is ever refused.

TensorFlow Serving moves a label only to a version that is already loaded, and loads only the versions in the policy. So
one file adds a version to the policy, and the next one moves a label to it. The version that a label leaves stays
loaded for one more file: moving back is then as quick.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ladle.serving.repository.folders import ModelConfig

STABLE, CANARY = "stable", "canary"


@dataclass(frozen=True)
class LabelRequest:
    """Requested versions of the labels; None: as `decide` chooses. `promote` moves stable to canary's version."""

    stable: int | None = None
    canary: int | None = None
    promote: bool = False


@dataclass(frozen=True)
class Plan:
    """The versions to load, the labels, and the labels that move when the file is written the next time."""

    versions: tuple[int, ...]
    labels: dict[str, int]
    pending: dict[str, int] = field(default_factory=dict)


def decide(found: Collection[int], before: ModelConfig | None, request: LabelRequest = LabelRequest()) -> Plan:
    """The plan for a model.

    found    its versions on disk, at least one
    before   its entry in the previous file; None for a new model

    stable keeps its version and canary moves to the newest one; on a new model both point to the newest.
    ValueError when the request names a version that does not exist.
    """
    for label, version in ((STABLE, request.stable), (CANARY, request.canary)):
        if version is not None and version not in found:
            there = ", ".join(map(str, sorted(found)))
            raise ValueError(f"got version {version} for {label}; expected one of {there}")
    newest = max(found)
    previous = {label: version for label, version in before.labels.items() if version in found} if before else {}
    loaded = before.policy.choose(found) if before else set(found)
    canary_now = previous.get(CANARY, newest)
    target = {
        STABLE: request.stable or (canary_now if request.promote else previous.get(STABLE, newest)),
        CANARY: request.canary or (canary_now if request.promote else newest),
    }
    # A label that may not move yet stays where it was; `pending` says so, and the versions of both are loaded.
    labels = {label: version if version in loaded else previous.get(label) for label, version in target.items()}
    named = {label: version for label, version in labels.items() if version is not None}
    return Plan(
        versions=tuple(sorted({*target.values(), *previous.values(), *named.values()})),
        labels=named,
        pending={label: version for label, version in target.items() if named.get(label) != version},
    )
