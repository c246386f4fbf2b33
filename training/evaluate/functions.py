"""The functions of a network as its callers see them: named signatures on NumPy arrays, in memory or exported."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ladle import models
from ladle.models import Assets, Config, Network
from ladle.training.data.dataset import Array
from ladle.training.errors import TrainingError
from ladle.training.store import card, publish, savedmodel

Arrays = dict[str, Array]
ROWS = 250
"""Rows in one call; not above the number that a network generates at once."""


class Functions:
    """Signatures by name. `functions("serving_default", image=...)` returns the signature's outputs by name."""

    def __init__(self, signatures: Mapping[str, Callable[..., Any]], owner: Any = None) -> None:
        self._signatures = signatures
        self._owner = owner  # TensorFlow frees a SavedModel's variables with the last reference to it

    def __contains__(self, signature: str) -> bool:
        return signature in self._signatures

    def __call__(self, signature: str, **inputs: Any) -> Arrays:
        return savedmodel.run(self._signatures[signature], inputs)

    def rows(self, signature: str, name: str, values: Callable[[slice], Array], count: int) -> Iterator[Arrays]:
        """Answers for `count` rows of the input `name`, ROWS at a time; `values` returns the rows of a slice."""
        for start in range(0, count, ROWS):
            yield self(signature, **{name: values(slice(start, min(start + ROWS, count)))})


class _Traced(dict[str, Any]):
    """Traces a signature when it is first used: a run that never generates does not pay for tracing `generate`."""

    def __init__(self, signatures: Mapping[str, Any]) -> None:
        super().__init__(signatures)
        self._traced: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._traced:
            self._traced |= savedmodel.trace({name: super().__getitem__(name)})
        return self._traced[name]


def live(network: Network, model: Any, config: Config, assets: Assets) -> Functions:
    """The functions of a model in memory. ValueError: the assets do not fit the config."""
    return Functions(_Traced(network.signatures(model, config, assets)))


def exported(version: Path) -> Functions:
    """The functions of an exported version."""
    loaded = savedmodel.load(version)
    return Functions(loaded.signatures, loaded)


def read_card(version: Path) -> dict[str, Any]:
    """The model card of a version. TrainingError: it has none, or one that cannot be read."""
    try:
        content = card.read(version)
    except ValueError as error:
        raise TrainingError(str(error)) from error
    if content is None:
        raise TrainingError(f"{version} has no {card.FILE}; expected a version that `ladle train` exported")
    return content


def read_assets(version: Path) -> Assets:
    """Labels and vocabulary of an exported version; empty where it has no such file. TrainingError: it is no text."""

    def lines(name: str) -> tuple[str, ...]:
        path = version / "assets" / name
        try:
            return tuple(path.read_text(encoding="utf-8").split("\n")[:-1]) if path.is_file() else ()
        except UnicodeDecodeError as error:
            raise TrainingError(f"{path} is not UTF-8 text (byte {error.start}); export the model again") from error
        except OSError as error:
            raise TrainingError(f"{path} cannot be read: {error.strerror}") from error

    return Assets(lines("labels.txt"), lines("vocabulary.txt"))


class FeatureExtractor:
    """An exported classifier whose logits are the features in which images are compared.

    name     for the metrics: "logits of lenet5 version 2, trained on fashion_mnist"
    classes  its number of classes
    """

    def __init__(self, version: Path, content: Mapping[str, Any]) -> None:
        self._functions = exported(version)
        self.classes = len(content["labels"])
        data = content["data"]["name"]
        self.name = f"logits of {content['network']} version {version.name}, trained on {data}"

    def __call__(self, images: Array) -> Arrays:
        """`logits` float32 [n, k] and `class_id` int64 [n] of uint8 images [n, h, w, c]."""
        answers = self._functions.rows(
            "serving_default", "image", lambda rows: images[rows].astype(np.float32) / np.float32(255), len(images)
        )
        parts = [(answer["logits"], answer["class_id"]) for answer in answers]
        logits, class_id = (np.concatenate(part) for part in zip(*parts, strict=True))
        return {"logits": logits, "class_id": class_id}


def feature_extractor(repository: Path, shape: tuple[int, ...], data: str) -> FeatureExtractor | None:
    """A classifier in the repository for images of `shape` [h, w, c], in its newest version; None without one.

    Classifiers trained on the data set `data` come first, then networks that the registry marks as feature extractors:
    the same network each time, so that distances of different runs can be compared.
    """
    found: list[tuple[bool, bool, str, Path, dict[str, Any]]] = []
    for folder in sorted(repository.iterdir()) if repository.is_dir() else []:
        versions = publish.versions(folder)
        try:
            content = card.read(versions[max(versions)]) if versions else None
        except (ValueError, json.JSONDecodeError):
            continue
        if content is None or content["task"] != "classify" or not content["labels"]:
            continue
        taken = content["signatures"]["serving_default"]["inputs"].get("image", {}).get("shape", [])
        if list(taken[1:]) == list(shape):
            rank = (content["data"]["name"] == data, _is_marked(content["network"]))
            found.append((*rank, folder.name, versions[max(versions)], content))
    if not found:
        return None
    *_, version, content = max(found, key=lambda row: row[:3])
    return FeatureExtractor(version, content)


def _is_marked(network: str) -> bool:
    """Whether the registry marks the network as a feature extractor; a converted model is in no registry."""
    return network in models.names() and models.get(network).feature_extractor
