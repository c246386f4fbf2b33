"""Chooses a version for a request to a split: always the same one for the same request id, otherwise by chance."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from ladle.serving.repository.traffic import DEFAULT, Arm, resolve
from ladle.serving.repository.versions import Configuration, Versions
from ladle.serving.telemetry.observation import Observation

_POINTS = 2.0**64


class Router:
    """Answers which version a request goes to, as the traffic file has it now.

    A split goes before a version label of the same name. A request that names a version is never split, and neither is
    one whose label is no split's name: whoever asks for `canary` gets `canary`.
    """

    def __init__(self, versions: Versions, configuration: Configuration) -> None:
        self._versions = versions
        self._configuration = configuration

    def choose(self, model: str, label: str | None, observation: Observation | None) -> int | None:
        """The version; None if the model has no split for this label, or for requests without one.

        observation  of the request, which notes the choice; None, as for questions about a model: the largest share
        """
        traffic = self._configuration.traffic.get(model)
        if traffic is None:
            return None
        split = DEFAULT if label is None else label
        arms = traffic.splits.get(split)
        if arms is None:
            return None
        first = max(arms, key=_share) if observation is None else pick(arms, point(model, observation.request_id))
        labels = self._configuration.labels.get(model, {})
        available = self._versions.serving_map.versions.get(model, {})
        # A version that went away, or does not answer yet, must not fail its share: the larger arms take it over.
        found = None
        for arm in (first, *sorted(arms, key=_share, reverse=True)):
            version = resolve(arm.name, labels)
            if version is None or not (arm.percent or arm is first):
                continue
            if found is None:
                found = arm.name, version
            if version in available:
                found = arm.name, version
                break
        if found is not None and observation is not None:
            observation.arm = (model, split, *found)
        # No version 0 is ever there: the request is refused as one for a version that is not loaded.
        return 0 if found is None else found[1]


def point(model: str, request_id: str) -> float:
    """A number from 0 to 100, below 100: the same for the same id in all processes, or random without an id."""
    if not request_id:
        return 100 * random.random()  # noqa: S311
    # Each model has points of its own, so that the same few callers do not get the canaries of all models.
    digest = hashlib.blake2b(request_id.encode("utf-8", "replace"), digest_size=8, key=model.encode()[:64])
    return 100 * (int.from_bytes(digest.digest()) / _POINTS)


def pick(arms: Sequence[Arm], at: float) -> Arm:
    """The arm at a point from 0 to 100, where the arms lie one after the other."""
    # With two arms, each caller of an arm whose share grows stays with it.
    for arm in arms:
        at -= arm.percent
        if at < 0:
            return arm
    return max(arms, key=_share)  # rounding has left a gap at the end


def _share(arm: Arm) -> float:
    return arm.percent
