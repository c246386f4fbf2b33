"""Which models there are: names, cards and samples from the repository, states and signatures from the model server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clients.client import Client
from clients.errors import LadleError, NotFound, Unavailable
from clients.metadata import Metadata
from clients.web.config import Config
from clients.web.problems import Problem

Json = dict[str, Any]

HEADLINES = ("accuracy", "iou", "elbo", "frechet_distance", "r_squared", "diversity", "squared_error")
"""Which figure of a card stands for the model: the first of these that its test set (else validation set) has."""


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
                state: Json = self._state(name) if ready else {"state": "UNREACHABLE", "version": None, "error": None}
            except Unavailable:
                ready, state = False, {"state": "UNREACHABLE", "version": None, "error": None}
            entries.append(self._entry(name, state))
        return {"ready": ready, "models": entries}

    def model(self, name: str) -> Json:
        """Everything about one model: its entry, the versions, the signatures, and the card where there is one."""
        self._known(name)
        state = self._state(name)
        if state["state"] == "MISSING":
            raise Problem(404, f"No model {name!r} is served; GET /api/v1/models lists those that are.")
        entry = self._entry(name, state)
        versions = [
            {"version": version.version, "state": version.state, "error": version.error_message or None}
            for version in self._client.status(name)
        ]
        signatures = described(self._client.metadata(name)) if state["state"] == "AVAILABLE" else {}
        return {**entry, "versions": versions, "signatures": signatures, "card": self.card(name, state["version"])}

    def card(self, name: str, version: int | None = None) -> Json | None:
        """The model card of a version, by default of the newest on disk; None where there is none."""
        folder = self._folder(name, version)
        return _read_json(folder / "assets.extra" / "card.json") if folder else None

    def labels(self, name: str) -> list[str]:
        """The names of the classes, in the order of their ids; empty where nobody tells them."""
        return list((self.card(name) or {}).get("labels") or [])

    def samples(self, name: str) -> list[Json]:
        """Real test inputs with the truth. Problem 404: the model has none, or the repository is not known."""
        folder = self._folder(name, None)
        found = _read_json(folder / "assets.extra" / "samples" / "samples.json") if folder else None
        if not isinstance(found, list):
            raise Problem(404, f"There are no samples of {name!r}.")
        return found

    def sample(self, name: str, file: str) -> Path:
        """The path of a sample's image or mask. Problem 404: it is not one of the model's samples."""
        folder = self._folder(name, None)
        listed = {sample.get(key) for sample in self.samples(name) for key in ("file", "mask")}
        if folder is None or file not in listed or Path(file).name != file:
            raise Problem(404, f"{file!r} is not a sample of {name!r}.")
        return folder / "assets.extra" / "samples" / file

    def _entry(self, name: str, state: Json) -> Json:
        card = self.card(name, state["version"]) or {}
        signatures = card.get("signatures") or {}
        if state["state"] == "AVAILABLE":
            with contextlib.suppress(LadleError):  # the card will do
                signatures = described(self._client.transport.known_metadata(name, timeout_s=self._config.timeout_s))
        answered = verbs(signatures)
        try:
            samples = len(self.samples(name))
        except Problem:
            samples = 0
        data = card.get("data") or {}
        return {
            "name": name,
            **state,
            "task": card.get("task") or (answered[0] if answered else None),
            "verbs": answered,
            "description": card.get("description"),
            "headline": headline(card),
            "data": {"name": data.get("name"), "synthetic": bool(data.get("synthetic"))} if data else None,
            "image": _image(signatures),
            "samples": samples,
        }

    def _state(self, name: str) -> Json:
        """The state of the version that answers, else of the newest."""
        try:
            versions = self._client.status(name)
        except NotFound:
            return {"state": "MISSING", "version": None, "error": None}
        if not versions:
            return {"state": "MISSING", "version": None, "error": None}
        shown = next((version for version in versions if version.state == "AVAILABLE"), versions[0])
        return {"state": shown.state, "version": shown.version, "error": shown.error_message or None}

    def _known(self, name: str) -> None:
        if name not in self.names():
            raise Problem(404, f"There is no model {name!r}; GET /api/v1/models lists those there are.")

    def _folder(self, name: str, version: int | None) -> Path | None:
        """The folder of a version, or of the newest; only of models that the repository holds."""
        if self._config.repository is None or name not in self.names():
            return None
        folders = _versions(self._config.repository / name)
        return folders.get(version if version in folders else max(folders)) if folders else None


def verbs(signatures: Mapping[str, Any]) -> list[str]:
    """What a model can be asked, from the outputs of its signatures."""
    outputs = {key: set(signature.get("outputs", ())) for key, signature in signatures.items()}
    seen = outputs.get("serving_bytes", set())
    rules = {
        "classify": "probabilities" in seen and "class_map" not in seen,
        "segment": "class_map" in seen,
        "sentiment": "probability" in outputs.get("text", ()),
        "reconstruct": "reconstruct_bytes" in outputs,
        "generate": "images" in outputs.get("generate", ()),
    }
    return [verb for verb, holds in rules.items() if holds]


def headline(card: Json) -> Json | None:
    """The figure that stands for the model, with the split it was measured on."""
    for split in ("test", "validation"):
        metrics = (card.get("metrics") or {}).get(split) or {}
        for wanted in HEADLINES:
            for name, value in metrics.items():
                if name == wanted and isinstance(value, int | float):
                    return {"name": name, "value": value, "split": split}
    return None


def ready(client: Client) -> bool:
    """Whether the model server answers at all: asked for a model that nobody has, it says so."""
    try:
        client.status("ladle-readiness-probe")
    except NotFound:
        return True
    except LadleError:
        return False
    return True


def described(metadata: Metadata) -> Json:
    """The signatures as a card has them."""
    return {
        key: {
            "method": signature.method,
            "inputs": {name: {"dtype": info.dtype, "shape": info.shape} for name, info in signature.inputs.items()},
            "outputs": {name: {"dtype": info.dtype, "shape": info.shape} for name, info in signature.outputs.items()},
        }
        for key, signature in metadata.signatures.items()
    }


def _image(signatures: Mapping[str, Any]) -> Json | None:
    """Height, width and channels of the image that the model works on; None for a free axis."""
    inputs = list((signatures.get("serving_default") or {}).get("inputs", {}).values())
    shape = inputs[0].get("shape") if len(inputs) == 1 else None
    if not shape or len(shape) != 4:
        return None
    return dict(zip(("height", "width", "channels"), shape[1:], strict=True))


def _versions(folder: Path) -> dict[int, Path]:
    return {int(child.name): child for child in folder.iterdir() if child.name.isascii() and child.name.isdigit()}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
