"""The models behind the gateway: names and states from the server, cards, samples and reports from the repository."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ladle.clients.errors import LadleError, NotFound, Unimplemented
from ladle.clients.library import tasks
from ladle.clients.library.client import Client
from ladle.clients.transport.metadata import VersionStatus
from ladle.clients.web.config import Config
from ladle.clients.web.http.problems import Problem
from ladle.clients.wire.versions import find_versions

Json = dict[str, Any]

HEADLINES = ("accuracy", "iou", "r_squared", "elbo", "frechet_distance", "squared_error", "diversity")
"""For cards without a headline, written by older versions: the first of these that the test or validation split has."""
REPORTS = {
    "curves.png": "Training curves",
    "confusion.png": "Confusion matrix",
    "mistakes.png": "Worst mistakes",
    "masks.png": "Masks beside the truth",
    "reconstructions.png": "Reconstructions",
    "samples.png": "Generated images",
    "scatter.png": "Prediction against truth",
}
"""Pictures of a report with their titles. No other file of its folder is served."""
MISSING: Json = {"state": "MISSING", "version": None, "error": None}
UNREACHABLE: Json = {"state": "UNREACHABLE", "version": None, "error": None}
MAX_SIGNATURES = 1000


class Catalog:
    """The models that the server has, and those that the repository has and the server may load.

    Every call reads the files and asks the server again, so nothing is stale. Only signatures are cached, since those
    of a version never change.
    """

    def __init__(self, config: Config, client: Client) -> None:
        self._config, self._client = config, client
        self._signatures: dict[tuple[str, int], tasks.Signatures] = {}
        self._listed: list[str] = []

    def listing(self) -> Json:
        """`ready`: whether the model server answers; `models`: an entry for each model, for the gallery."""
        try:
            states = self._states()
        except LadleError:
            # The models that were there a moment ago stay listed: a page does not empty while a server restarts.
            names = self._config.models or sorted({*self._listed, *self._folders()})
            return {"ready": False, "models": [self._entry(name, UNREACHABLE) for name in names]}
        entries = [self._entry(name, _shown(versions)) for name, versions in states.items()]
        return {"ready": True if entries else self.ready(), "models": entries}

    def _states(self) -> dict[str, list[VersionStatus]]:
        """The versions of every model, by name; a folder that is not served has none. LadleError: no answer."""
        folders = self._folders()
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

    def _folders(self) -> list[str]:
        """The folders of the repository that hold a version."""
        repository = self._config.repository
        if repository is None or not repository.is_dir():
            return []
        return sorted(child.name for child in repository.iterdir() if _versions(child))

    def model(self, name: str) -> Json:
        """Everything about one model: its entry, versions, signatures, card and metrics. Problem 404: not served."""
        self._check_name(name)
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
        card = self.card(name, state["version"])
        more = {"versions": versions, "signatures": described, "card": card, "metrics": (card or {}).get("metrics")}
        return {**self._entry(name, state), **more}

    def _check_name(self, name: str) -> None:
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

    def card(self, name: str, version: int | None = None) -> Json | None:
        """The model card of a version, by default of the newest in the repository; None if there is none."""
        folder = self._folder(name, version)
        card = _read_json(folder / "card.json") if folder else None
        return card if isinstance(card, dict) else None

    def labels(self, name: str, version: int | None = None) -> list[str]:
        """The labels of the classes, by class id; empty if the card has none."""
        return list((self.card(name, version) or {}).get("labels") or [])

    def samples(self, name: str, version: int | None = None) -> list[Json]:
        """Inputs from the test set with the truth. Problem 404: the repository has none of this model."""
        folder = self._folder(name, version)
        found = _read_json(folder / "samples" / "samples.json") if folder else None
        if not isinstance(found, list):
            raise Problem(404, f"There are no samples of {name!r}.")
        return [sample for sample in found if isinstance(sample, dict)]

    def sample(self, name: str, file: str, version: int | None = None) -> Path:
        """The path of a sample's image or mask. Problem 404: it is not one of the model's samples."""
        folder = self._folder(name, version)
        listed = {sample.get(key) for sample in self.samples(name, version) for key in ("file", "mask")}
        path = folder / "samples" / file if folder is not None and _is_file_name(file) else None
        if path is None or file not in listed or not path.is_file():
            raise Problem(404, f"{file!r} is not a sample of {name!r}.")
        return path

    def reports(self, name: str, version: int | None = None) -> list[str]:
        """The pictures of REPORTS that the model has."""
        folder = self._folder(name, version)
        return [file for file in REPORTS if folder and (folder / "report" / file).is_file()]

    def reports_of(self, name: str) -> list[Json]:
        """These pictures with their titles. Problem 404: there is no such model."""
        files = self.reports(name)
        if not files and self._folder(name, None) is None:
            self.model(name)
        return [{"file": file, "title": REPORTS[file]} for file in files]

    def report(self, name: str, file: str) -> Path:
        """The path of a picture of the report. Problem 404: there is no such picture."""
        folder = self._folder(name, None)
        if folder is None or file not in self.reports(name):
            raise Problem(404, f"{file!r} is not a picture of the report of {name!r}.")
        return folder / "report" / file

    def _entry(self, name: str, state: Json) -> Json:
        card = self.card(name, state["version"]) or {}
        signatures = tasks.Signatures(card.get("signatures") or {})
        if state["state"] == "AVAILABLE":
            with contextlib.suppress(LadleError):  # the card's signatures will do
                signatures = self._signatures_of(name, state["version"])
        try:
            samples = len(self.samples(name))
        except Problem:
            samples = 0
        data = card.get("data") or {}
        return {
            "name": name,
            **state,
            "task": _task(card.get("task"), signatures.verbs),
            "verbs": signatures.verbs,
            "description": card.get("description"),
            "headline": headline(card),
            "data": {key: data.get(key) for key in ("name", "source", "origin")}
            | {"synthetic": bool(data.get("synthetic"))}
            if data
            else None,
            "image": signatures.image,
            "latent": {"dim": signatures.latent.dim} if signatures.latent else None,
            "samples": samples,
            "reports": self.reports(name),
        }

    def _signatures_of(self, name: str, version: int) -> tasks.Signatures:
        key = (name, version)
        if key not in self._signatures:
            if len(self._signatures) >= MAX_SIGNATURES:
                self._signatures.clear()
            self._signatures[key] = tasks.of_metadata(self._client.metadata(name, version))
        return self._signatures[key]

    def _folder(self, name: str, version: int | None) -> Path | None:
        """`assets.extra` of a version, by default of the newest; None if the repository does not hold the model."""
        repository = self._config.repository
        if repository is None or not _is_file_name(name):
            return None
        folders = _versions(repository / name)
        if not folders:
            return None
        number = version if version in folders else max(folders)
        return folders[number] / "assets.extra"


def headline(card: Json) -> Json | None:
    """The metric that stands for the model, with its split: the card's own choice, if it has one."""
    carried = card.get("headline")
    if isinstance(carried, dict) and {"name", "value", "split"} <= carried.keys():
        return {key: carried[key] for key in ("name", "value", "split")}
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


def _is_file_name(text: str) -> bool:
    """Whether a caller's text is one name below a folder, and no way out of it."""
    return Path(text).name == text and "\0" not in text


def _versions(folder: Path) -> dict[int, Path]:
    try:
        return find_versions(folder)
    except OSError:
        return {}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
