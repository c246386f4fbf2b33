"""Which models there are: names, cards, samples, reports from the repository; states, signatures from the server."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from ladle.clients.errors import LadleError, NotFound
from ladle.clients.library import tasks
from ladle.clients.library.client import Client
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
"""Pictures of a report; nothing else of its folder is given out."""
MISSING: Json = {"state": "MISSING", "version": None, "error": None}
UNREACHABLE: Json = {"state": "UNREACHABLE", "version": None, "error": None}


class Catalog:
    """The models behind the gateway. Reads files and asks the server at each call: nothing goes stale."""

    def __init__(self, config: Config, client: Client) -> None:
        self._config, self._client = config, client

    def names(self) -> list[str]:
        """The folders of the repository that hold a version, or the configured names."""
        repository = self._config.repository
        if repository is None:
            return list(self._config.models)
        if not repository.is_dir():
            return []
        return sorted(child.name for child in repository.iterdir() if child.is_dir() and _versions(child))

    def listing(self) -> Json:
        """`ready`: whether the model server answers; `models`: every model with what a gallery shows of it."""
        ready, entries = True, []
        for name in self.names():
            try:
                state = self.state(name) if ready else UNREACHABLE
            except LadleError:
                ready, state = False, UNREACHABLE
            entries.append(self._entry(name, state))
        return {"ready": ready if entries else self.ready(), "models": entries}

    def model(self, name: str) -> Json:
        """Everything about one model: its entry, the versions, the signatures, card and metrics where there are any."""
        self.known(name)
        state = self.state(name)
        if state["state"] == "MISSING":
            raise Problem(404, f"No model {name!r} is served; GET /api/v1/models lists those that are.")
        versions = [
            {"version": version.version, "state": version.state, "error": version.error_message or None}
            for version in self._client.status(name)
        ]
        described: Any = {}
        if state["state"] == "AVAILABLE":
            described = tasks.of_metadata(self._client.metadata(name)).described
        card = self.card(name, state["version"])
        more = {"versions": versions, "signatures": described, "card": card, "metrics": (card or {}).get("metrics")}
        return {**self._entry(name, state), **more}

    def known(self, name: str) -> None:
        """Problem 404: there is no such model."""
        if name not in self.names():
            raise Problem(404, f"There is no model {name!r}; GET /api/v1/models lists those there are.")

    def state(self, name: str) -> Json:
        """The state of the version that answers, else of the newest."""
        try:
            versions = self._client.status(name)
        except NotFound:
            return MISSING
        if not versions:
            return MISSING
        shown = next((version for version in versions if version.state == "AVAILABLE"), versions[0])
        return {"state": shown.state, "version": shown.version, "error": shown.error_message or None}

    def ready(self) -> bool:
        """Whether the model server answers at all: asked for a model that nobody has, it says so."""
        try:
            self._client.status("ladle-readiness-probe")
        except NotFound:
            return True
        except LadleError:
            return False
        return True

    def card(self, name: str, version: int | None = None) -> Json | None:
        """The model card of a version, by default of the newest on disk; None where there is none."""
        folder = self._folder(name, version)
        card = _read_json(folder / "card.json") if folder else None
        return card if isinstance(card, dict) else None

    def labels(self, name: str, version: int | None = None) -> list[str]:
        """The names of the classes, in the order of their ids; empty where nobody tells them."""
        return list((self.card(name, version) or {}).get("labels") or [])

    def samples(self, name: str, version: int | None = None) -> list[Json]:
        """Real test inputs with the truth. Problem 404: the model has none, or the repository is not known."""
        folder = self._folder(name, version)
        found = _read_json(folder / "samples" / "samples.json") if folder else None
        if not isinstance(found, list):
            raise Problem(404, f"There are no samples of {name!r}.")
        return [sample for sample in found if isinstance(sample, dict)]

    def sample(self, name: str, file: str, version: int | None = None) -> Path:
        """The path of a sample's image or mask. Problem 404: it is not one of the model's samples."""
        folder = self._folder(name, version)
        listed = {sample.get(key) for sample in self.samples(name, version) for key in ("file", "mask")}
        path = folder / "samples" / file if folder is not None and Path(file).name == file else None
        if path is None or file not in listed or not path.is_file():
            raise Problem(404, f"{file!r} is not a sample of {name!r}.")
        return path

    def reports(self, name: str, version: int | None = None) -> list[str]:
        """The pictures of the model's report that there are."""
        folder = self._folder(name, version)
        return [file for file in REPORTS if folder and (folder / "report" / file).is_file()]

    def report(self, name: str, file: str) -> Path:
        """The path of one. Problem 404: there is no such picture."""
        folder = self._folder(name, None)
        if folder is None or file not in self.reports(name):
            raise Problem(404, f"{file!r} is not a picture of the report of {name!r}.")
        return folder / "report" / file

    def _entry(self, name: str, state: Json) -> Json:
        card = self.card(name, state["version"]) or {}
        signatures = tasks.Signatures(card.get("signatures") or {})
        if state["state"] == "AVAILABLE":
            with contextlib.suppress(LadleError):  # the card will do
                signatures = tasks.of_metadata(self._client.metadata(name))
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

    def _folder(self, name: str, version: int | None) -> Path | None:
        """`assets.extra` of a version, or of the newest; only of models that the repository holds."""
        if self._config.repository is None or name not in self.names():
            return None
        folders = _versions(self._config.repository / name)
        if not folders:  # removed just now
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
        for wanted in HEADLINES:
            value = metrics.get(wanted)
            if isinstance(value, int | float):
                return {"name": wanted, "value": value, "split": split}
    return None


def _task(told: str | None, verbs: list[str]) -> str | None:
    """What the card says, unless the model answers another verb alone: one that descends to a minimum "regresses"."""
    return verbs[0] if verbs and told not in verbs else told


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
