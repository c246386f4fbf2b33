"""The models behind the gateway: names and states from the server, cards, samples and reports from the repository."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ladle.clients.errors import LadleError, NotFound, Unimplemented
from ladle.clients.library import tasks
from ladle.clients.library.client import Client
from ladle.clients.transport.metadata import Metadata, VersionStatus
from ladle.clients.web import distribution
from ladle.clients.web.config import Config
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.repository import REPORTS, ModelFiles, Repository

Json = dict[str, Any]

HEADLINES = (
    "accuracy",
    "mean_iou",
    "iou",
    "r_squared",
    "elbo",
    "squared_error",
    "frechet_distance",
    "diversity",
    "sliced_wasserstein",
)
"""For cards without a headline, written by older versions: the first of these that the test or validation split has."""
MISSING: Json = {"state": "MISSING", "version": None, "error": None}
UNREACHABLE: Json = {"state": "UNREACHABLE", "version": None, "error": None}
MAX_SIGNATURES = 1000


class Catalog:
    """The models that the server has, and those that the repository has and the server may load.

    Every call asks the server again and reads what has changed in the repository, so nothing is stale. Signatures are
    cached, since those of a version never change.
    """

    def __init__(self, config: Config, client: Client) -> None:
        self._config, self._client = config, client
        self._repository = Repository(config.repository)
        self._signatures: dict[tuple[str, int], tasks.Signatures] = {}
        self._listed: list[str] = []

    def listing(self) -> Json:
        """`ready`: whether the model server answers; `models`: an entry for each model, for the gallery."""
        folders = self._folders()
        try:
            states = self._states(list(folders))
        except LadleError:
            # The models that were there a moment ago stay listed: a page does not empty while a server restarts.
            names = self._config.models or sorted({*self._listed, *folders})
            return {"ready": False, "models": [self._entry(name, UNREACHABLE, folders.get(name)) for name in names]}
        entries = [self._entry(name, _shown(versions), folders.get(name)) for name, versions in states.items()]
        return {"ready": True if entries else self.ready(), "models": entries}

    def _states(self, folders: list[str]) -> dict[str, list[VersionStatus]]:
        """The versions of every model, by name; a folder that is not served has none. LadleError: no answer."""
        if self._config.models:
            found = self._client.models(self._config.models)
            return {name: found.get(name, []) for name in self._config.models}
        try:
            found = self._client.models()
        except Unimplemented:  # TensorFlow Serving cannot list its models, but it tells the state of one
            found = self._client.models(folders)
        # Of a model that was removed, the server remembers versions that have ended.
        self._listed = [
            name for name, versions in found.items() if any(v.state != "END" or v.error_message for v in versions)
        ]
        return {name: found.get(name, []) for name in sorted({*self._listed, *folders})}

    def _folders(self) -> dict[str, ModelFiles]:
        """The models of the repository that may be shown, by name."""
        if self._config.models:
            return {name: self._repository.model(name) for name in self._config.models}
        return self._repository.models()

    def model(self, name: str) -> Json:
        """Everything about one model: its entry, versions, signatures, card and metrics. Problem 404: not served."""
        self.check_name(name)
        try:
            found = self._client.status(name)
        except NotFound:
            found = []
        if not found:
            raise Problem(404, f"No model {name!r} is served; GET /api/v1/models lists the models.")
        state = _shown(found)
        versions = [{"version": v.version, "state": v.state, "error": v.error_message or None} for v in found]
        described: Any = {}
        if state["state"] == "AVAILABLE":
            described = self._signatures_of(name, state["version"]).described
        files = self._repository.model(name)
        card, wrong = _card(files, state["version"])
        more = {
            "versions": versions,
            "signatures": described,
            "card": card,
            "card_error": wrong,
            "metrics": (card or {}).get("metrics"),
            "labels": files.labels(state["version"]),
            "traffic": self._traffic(name),
        }
        return {**self._entry(name, state, files), **more}

    def _traffic(self, name: str) -> Json | None:
        """How the server splits the model's requests and copies them; None if it does not, or does not say."""
        try:
            return self._client.traffic([name]).get(name)
        except LadleError:
            return None

    def check_name(self, name: str) -> None:
        """Problem 404: the gateway shows other models only."""
        if self._config.models and name not in self._config.models:
            raise Problem(404, f"There is no model {name!r}; GET /api/v1/models lists the models.")

    def ready(self) -> bool:
        """Whether the model server answers. A server that does not know this model answers NOT_FOUND."""
        try:
            self._client.status("ladle-readiness-probe")
        except NotFound:
            return True
        except LadleError:
            return False
        return True

    def labels(self, name: str, version: int | None = None) -> list[str]:
        """The labels of the classes, by class id: the card's, else those of a `labels.txt`; empty if there are none."""
        return self._repository.model(name).labels(version)

    def samples(self, name: str, version: int | None = None) -> list[Json]:
        """Inputs from the test set with the truth. Problem 404: the repository has none of this model."""
        try:
            found = self._repository.model(name).samples(version)
        except ValueError as error:
            raise Problem(404, f"The samples of {name!r} cannot be read: {error}.") from None
        if found is None:
            raise Problem(404, f"There are no samples of {name!r}.")
        return found

    def sample(self, name: str, file: str, version: int | None = None) -> Path:
        """The real path of a sample's image or mask. Problem 404: it is not one of the model's samples."""
        listed = {sample.get(key) for sample in self.samples(name, version) for key in ("file", "mask")}
        path = self._repository.model(name).file("samples", file, version) if file in listed else None
        if path is None:
            raise Problem(404, f"{file!r} is not a sample of {name!r}.")
        return path

    def reports_of(self, name: str) -> list[Json]:
        """The pictures of the report with their titles. Problem 404: there is no such model."""
        files = self._repository.model(name)
        if not files.versions:
            self.model(name)
        return [{"file": file, "title": REPORTS[file]} for file in files.reports()]

    def report(self, name: str, file: str) -> Path:
        """The real path of a picture of the report. Problem 404: there is no such picture."""
        path = self._repository.model(name).file("report", file) if file in REPORTS else None
        if path is None:
            raise Problem(404, f"{file!r} is not a picture of the report of {name!r}.")
        return path

    def _entry(self, name: str, state: Json, files: ModelFiles | None) -> Json:
        files = files or ModelFiles(self._repository)
        card = _card(files, state["version"])[0] or {}
        signatures = tasks.Signatures(card.get("signatures") or {})
        if state["state"] == "AVAILABLE":
            with contextlib.suppress(LadleError):  # the card's signatures will do
                signatures = self._signatures_of(name, state["version"])
        try:
            samples = len(files.samples() or ())
        except ValueError:
            samples = 0
        data = card.get("data") or {}
        figure = headline(card)
        examples = (data.get("splits") or {}).get(figure["split"]) if figure else None
        return {
            "name": name,
            **state,
            "task": _task(card.get("task"), signatures.verbs),
            "verbs": signatures.verbs,
            "description": card.get("description"),
            "headline": {**figure, "count": examples} if figure else None,
            "data": {key: data.get(key) for key in ("name", "source", "origin")}
            | {"synthetic": bool(data.get("synthetic"))}
            if data
            else None,
            "image": signatures.image,
            "latent": {"dim": signatures.latent.dim} if signatures.latent else None,
            "samples": samples,
            "reports": files.reports(),
        }

    def signatures(self, metadata: Metadata) -> tasks.Signatures:
        """The signatures in a server's metadata. Unavailable: the model had to be asked, and its server is away."""
        key = (metadata.name, metadata.version)
        known = self._signatures.get(key)
        # A folder that was exchanged for another has the same number and other signatures.
        if known is None or known.described != tasks.of_metadata(metadata).described:
            if len(self._signatures) >= MAX_SIGNATURES:
                self._signatures.clear()
            known = self._signatures[key] = distribution.signatures(self._client, metadata)
        return known

    def _signatures_of(self, name: str, version: int) -> tasks.Signatures:
        return self._signatures.get((name, version)) or self.signatures(self._client.metadata(name, version))


def headline(card: Json) -> Json | None:
    """The metric that stands for the model, by the card's choice if it has one, with its split."""
    carried = card.get("headline")
    if isinstance(carried, dict) and {"name", "value", "split"} <= carried.keys():
        return {key: carried[key] for key in ("name", "value", "split", "deviation") if key in carried}
    for split in ("test", "validation"):
        metrics = (card.get("metrics") or {}).get(split) or {}
        for name in HEADLINES:
            value = metrics.get(name)
            if isinstance(value, int | float):
                return {"name": name, "value": value, "split": split}
    return None


def _shown(versions: Sequence[VersionStatus]) -> Json:
    """The state of the version that answers, else of the newest."""
    if not versions:
        return MISSING
    shown = next((version for version in versions if version.state == "AVAILABLE"), versions[0])
    return {"state": shown.state, "version": shown.version, "error": shown.error_message or None}


def _task(told: str | None, verbs: list[str]) -> str | None:
    """The card's task, unless the signatures have other verbs: the card of a descent to a minimum says "regress"."""
    return verbs[0] if verbs and told not in verbs else told


def _card(files: ModelFiles, version: int | None) -> tuple[Json | None, str | None]:
    """The card of a version, by default of the newest, or what is wrong with it."""
    try:
        return files.card(version), None
    except ValueError as error:
        return None, str(error)
