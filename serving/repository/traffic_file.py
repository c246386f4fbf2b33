"""Keeps the traffic in force: reads its file again while the server runs, and holds it against the models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from ladle.serving.errors import FailedPrecondition, InvalidArgument, ServingError
from ladle.serving.repository.folders import ModelConfig
from ladle.serving.repository.traffic import Traffic, check, read_traffic, resolve, targets

log = logging.getLogger(__name__)

Labels = Mapping[str, Mapping[str, int]]


class TrafficFile:
    """The traffic of a file.

    path         of the file
    is_answered  (model, version) -> whether the version answers requests, or would be loaded for one
    """

    def __init__(
        self,
        path: Path,
        models: Mapping[str, ModelConfig],
        labels: Labels,
        is_answered: Callable[[str, int], bool],
    ) -> None:
        """InvalidArgument for a file that cannot be used with these models and labels."""
        self._path = path
        self._is_answered = is_answered
        self.traffic: Traffic = read_traffic(path)
        check(self.traffic, models, labels)
        self._complaint = ""
        self._warning = ""

    def look(self, models: Mapping[str, ModelConfig], labels: Labels) -> bool:
        """Reads the file again; whether the traffic has changed. What is wrong goes to the log, once."""
        changed = False
        try:
            traffic = read_traffic(self._path)
            if traffic != self.traffic:
                check(traffic, models, labels)
                self._check_answered(traffic, labels)
                self.traffic = traffic
                changed = True
                log.info("new traffic: %s", describe(traffic) or "no splits and no shadows")
            self._complain("")
        except ServingError as error:
            self._complain(error.message)
        self._warn(labels, models)
        return changed

    def _check_answered(self, traffic: Traffic, labels: Labels) -> None:
        """FailedPrecondition when requests would go to a version that does not answer."""
        for model, name in targets(traffic):
            version = resolve(name, labels.get(model, {}))
            if version is not None and not self._is_answered(model, version):
                shown = "" if name == str(version) else f" ({name})"
                raise FailedPrecondition(f"version {version}{shown} of {model} does not answer requests yet")

    def _complain(self, reason: str) -> None:
        if reason and reason != self._complaint:
            log.error("traffic not changed: %s", reason)
        self._complaint = reason

    def _warn(self, labels: Labels, models: Mapping[str, ModelConfig]) -> None:
        """Says when models.config no longer has what the traffic in force names."""
        try:
            check(self.traffic, models, labels)
            warning = ""
        except InvalidArgument as error:
            warning = error.message
        if warning and warning != self._warning:
            log.warning(
                "the traffic file no longer fits the models; the other versions of its splits get those requests: %s",
                warning,
            )
        self._warning = warning


def describe(traffic: Traffic) -> str:
    """The traffic in one line: `lenet5 default: stable 95 %, canary 5 %; lenet5 is copied to lenet5/canary`."""
    found = []
    for model, entry in traffic.items():
        for split, arms in entry.splits.items():
            found.append(f"{model} {split}: " + ", ".join(f"{arm.name} {arm.percent:g} %" for arm in arms))
        if entry.shadow is not None:
            share = "" if entry.shadow.percent == 100 else f"{entry.shadow.percent:g} % of "
            found.append(f"{share}{model} is copied to {entry.shadow}")
    return "; ".join(found)
