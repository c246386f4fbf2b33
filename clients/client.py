"""A model server asked by task: classify an image, read a sentence's mood, generate, segment.

with Client("grpc://localhost:8500") as client:
    client.classify("lenet5", "boot.png").top(3)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import numpy as np

from clients import images as pictures
from clients.call import Call
from clients.errors import InvalidArgument
from clients.images import Image
from clients.metadata import Metadata, VersionStatus
from clients.results import Classification, Segmentation, Sentiment
from clients.transport import Transport
from clients.wire.tensors import Array

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class Which(TypedDict, total=False):
    """Which version answers, and how long a call may take. Default: the latest, the client's `timeout_s`."""

    version: int | None
    label: str | None
    timeout_s: float | None


def connect(target: str) -> Transport:
    """The transport of `grpc://host:port`, `http://host:port` or `https://host:port`."""
    scheme, _, rest = target.partition("://")
    if scheme == "grpc" and rest:
        from clients.grpc_client import GrpcClient

        host = rest.rstrip("/")
        return GrpcClient(host if re.search(r":\d+$", host) else f"{host}:8500")
    if scheme in ("http", "https"):
        from clients.rest_client import RestClient

        return RestClient(target)
    raise InvalidArgument(f'"{target}" is not an address; wanted grpc://host:port or http://host:port')


class Client:
    """A client of one server, over either protocol; threads may share it.

    Every method takes `version` or `label` (default: the latest version) and `timeout_s` (default: the client's).
    Errors are `clients.errors.LadleError`s. Arrays are checked against the model's metadata before they are sent.
    """

    def __init__(self, target: str | Transport = "grpc://localhost:8500", timeout_s: float = 30.0) -> None:
        self.transport = connect(target) if isinstance(target, str) else target
        self.timeout_s = timeout_s

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.transport.close()

    # Any model

    def predict(
        self,
        name: str,
        inputs: Mapping[str, Any],
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """Run a signature: arrays by name -> arrays by name. See `Transport.predict`."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        return self.transport.predict(name, inputs, signature, version, label, timeout_s, outputs)

    def metadata(self, name: str, version: int | None = None, label: str | None = None) -> Metadata:
        """The signatures of a model version."""
        return self.transport.metadata(name, version, label, self.timeout_s)

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The state of every version ever seen, or of one; the highest first."""
        return self.transport.status(name, version, self.timeout_s)

    # Images

    def classify(self, name: str, image: Image, **which: Unpack[Which]) -> Classification:
        """The class of one image."""
        return _one(self.classify_many(name, _batch_of_one(image), **which), name)

    def classify_many(self, name: str, images: Sequence[Image] | Array, **which: Unpack[Which]) -> list[Classification]:
        """The classes of several images, in one request: all paths or bytes, or all arrays."""
        call = self._call(name, **which)
        answer, _ = call.image(_stack(images), wanted=("probabilities", "class_id", "label"))
        probabilities = call.pick(answer, "probabilities")
        labels = call.labels()
        if labels is None or len(labels) != probabilities.shape[-1]:
            labels = tuple(str(i) for i in range(probabilities.shape[-1]))
        class_ids = answer.get("class_id", probabilities.argmax(-1))
        results = []
        for i, row in enumerate(probabilities):
            class_id = int(class_ids[i])
            text = answer["label"][i].decode() if "label" in answer else labels[class_id]
            results.append(Classification(text, float(row[class_id]), class_id, labels, row))
        return results

    def segment(self, name: str, image: Image, **which: Unpack[Which]) -> Segmentation:
        """The class of every pixel of one image."""
        call = self._call(name, **which)
        answer, _ = call.image(_batch_of_one(image), wanted=("class_map",))
        return Segmentation(_one(list(call.pick(answer, "class_map")), name))

    def reconstruct(self, name: str, image: Image, **which: Unpack[Which]) -> Array:
        """An auto-encoder's copy: float32 [h, w, c] of one image, [b, h, w, c] of a batch."""
        call = self._call(name, **which)
        answer, single = call.image(image, bytes_signature="reconstruct_bytes")
        return _unbatch(call.pick(answer, "reconstruction", "image"), single)

    def encode(self, name: str, image: Any, **which: Unpack[Which]) -> Array:
        """The code of an image array: float32 [latent_dim], or [b, latent_dim] of a batch."""
        call = self._call(name, **which)
        answer, single = call.image(np.asarray(image), signature="encode")
        return _unbatch(call.pick(answer, "code"), single)

    def decode(self, name: str, code: Any, **which: Unpack[Which]) -> Array:
        """The image of a code, [latent_dim] or [b, latent_dim]: uint8 [h, w, c] or [b, h, w, c]."""
        call = self._call(name, **which)
        answer, single = call.value(code, signature="decode")
        return _unbatch(call.pick(answer, "images", "image"), single)

    def generate(self, name: str, n: int = 1, seed: int = 0, **which: Unpack[Which]) -> Array:
        """`n` new images, uint8 [n, h, w, c]; the same seed gives the same images."""
        call = self._call(name, **which)
        inputs: dict[str, Array] = {"n": np.array(n, np.int32), "seed": np.array(seed, np.int64)}
        return call.pick(call.run("generate", inputs), "images")

    # Text and numbers

    def sentiment(self, text: str, name: str = "sentiment_lstm", **which: Unpack[Which]) -> Sentiment:
        """The mood of one text."""
        return self.sentiment_many([text], name, **which)[0]

    def sentiment_many(
        self, texts: Sequence[str], name: str = "sentiment_lstm", **which: Unpack[Which]
    ) -> list[Sentiment]:
        """The moods of several texts, in one request."""
        call = self._call(name, **which)
        answer = call.run("text", {"text": np.array([text.encode() for text in texts], object)})
        results = []
        for positive, label in zip(call.pick(answer, "probability"), call.pick(answer, "label"), strict=True):
            likely = float(max(positive, 1 - positive))
            results.append(Sentiment(label.decode(), likely, float(positive)))
        return results

    def regress(self, name: str, x: Any, **which: Unpack[Which]) -> Array:
        """A model's single output for its single input, with or without a batch axis."""
        call = self._call(name, **which)
        answer, single = call.value(x)
        return _unbatch(call.pick(answer, "y", "outputs"), single)

    def _call(
        self, name: str, version: int | None = None, label: str | None = None, timeout_s: float | None = None
    ) -> Call:
        return Call(self.transport, name, version, label, self.timeout_s if timeout_s is None else timeout_s)


def _batch_of_one(image: Any) -> Any:
    return [image] if pictures.is_encoded(image) else image


def _stack(images: Any) -> Any:
    """A list of paths or bytes as it is; arrays as one."""
    if isinstance(images, np.ndarray):
        return images
    encoded = [pictures.is_encoded(image) for image in images]
    if any(encoded):
        if not all(encoded):
            raise InvalidArgument("paths or bytes came together with arrays; wanted all of one kind")
        return list(images)
    shapes = sorted({np.shape(image) for image in images})
    if len(shapes) != 1:
        raise InvalidArgument(f"the images have shapes {shapes}; wanted at least one, all of the same shape")
    return np.stack([np.asarray(image) for image in images])


def _one(results: list[T], name: str) -> T:
    if len(results) != 1:
        raise InvalidArgument(f"{name}: {len(results)} images came; wanted one")
    return results[0]


def _unbatch(array: Array, single: bool) -> Array:
    return array[0] if single else array
