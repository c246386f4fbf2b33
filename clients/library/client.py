"""A model server asked by task: classify an image, read a sentence's mood, generate, segment.

with Client("grpc://localhost:8500") as client:
    client.classify("lenet5", "boot.png").top(3)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict

from ladle.clients.library import questions
from ladle.clients.library.call import Call
from ladle.clients.library.connect import connect
from ladle.clients.library.images import Image
from ladle.clients.library.results import Classification, Descent, Segmentation, Sentiment
from ladle.clients.transport.access import Access, File
from ladle.clients.transport.base import Transport
from ladle.clients.transport.exchange import Deadline
from ladle.clients.transport.metadata import Metadata, VersionStatus
from ladle.clients.transport.protocol import MAX_MESSAGE_BYTES
from ladle.clients.wire.arrays import Array

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Client", "Which", "connect"]


class Which(TypedDict, total=False):
    """Which version answers, and how long a call may take. Default: the latest, the client's `timeout_s`."""

    version: int | None
    label: str | None
    timeout_s: float | None


class Client:
    """A client of one server, over either protocol; threads and forked processes may share it.

    target             grpc://host:8500, several as grpc://a:8500,b:8500 (each in turn), http://host:8501;
                       over TLS grpcs:// and https://
    timeout_s          seconds that a call may take in all, tries included
    ca                 PEM file of the CA that signed the server's certificate (default: the system's)
    certificate        PEM file of the client's own certificate, with `private_key`
    api_key            sent as `authorization: Bearer ...`
    max_message_bytes  largest request sent and answer taken

    Every method takes `version` or `label` (default: the latest version) and `timeout_s` (default: the client's).
    Errors are `clients.errors.LadleError`s. Inputs are checked against the model's metadata before they are sent.
    """

    def __init__(
        self,
        target: str | Transport = "grpc://localhost:8500",
        timeout_s: float = 30.0,
        *,
        ca: File | None = None,
        certificate: File | None = None,
        private_key: File | None = None,
        api_key: str | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        if isinstance(target, str):
            target = connect(target, Access(ca, certificate, private_key, api_key), max_message_bytes)
        self.transport = target
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

    def models(
        self, names: Sequence[str] | None = None, timeout_s: float | None = None
    ) -> dict[str, list[VersionStatus]]:
        """The state of every version of every model, or of `names` as far as they are served.

        Unimplemented without `names`: the server has no way to list its models. TensorFlow Serving has none.
        """
        return self.transport.run(self.transport.protocol.models(names, self._deadline(timeout_s)))

    def status(self, name: str, version: int | None = None, timeout_s: float | None = None) -> list[VersionStatus]:
        """The state of every version ever seen, or of one; the highest first."""
        return self.transport.status(name, version, self._timeout_s(timeout_s))

    def metadata(
        self, name: str, version: int | None = None, label: str | None = None, timeout_s: float | None = None
    ) -> Metadata:
        """The signatures of a model version."""
        return self.transport.metadata(name, version, label, self._timeout_s(timeout_s))

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
        return self.transport.predict(name, inputs, signature, version, label, self._timeout_s(timeout_s), outputs)

    # Images

    def classify(self, name: str, image: Image, **which: Unpack[Which]) -> Classification:
        """The class of one image."""
        return self.transport.run(questions.classify_one(self._call(name, **which), name, image))

    def classify_many(self, name: str, images: Sequence[Image] | Array, **which: Unpack[Which]) -> list[Classification]:
        """The classes of several images, in one request: all paths or bytes, or all arrays."""
        return self.transport.run(questions.classify(self._call(name, **which), images))

    def segment(self, name: str, image: Image, **which: Unpack[Which]) -> Segmentation:
        """The class of every pixel of one image."""
        return self.transport.run(questions.segment(self._call(name, **which), name, image))

    def reconstruct(self, name: str, image: Image, **which: Unpack[Which]) -> Array:
        """An auto-encoder's copy: float32 [h, w, c] of one image, [b, h, w, c] of a batch."""
        return self.transport.run(questions.reconstruct(self._call(name, **which), image))

    def encode(self, name: str, image: Image, **which: Unpack[Which]) -> Array:
        """The code of an image: float32 [latent_dim], or [b, latent_dim] of a batch of arrays."""
        return self.transport.run(questions.encode(self._call(name, **which), image))

    def decode(self, name: str, code: Any, **which: Unpack[Which]) -> Array:
        """The image of a code, [latent_dim] or [b, latent_dim]: uint8 [h, w, c] or [b, h, w, c]."""
        return self.transport.run(questions.decode(self._call(name, **which), code))

    def interpolate(self, name: str, first: Image, second: Image, steps: int = 8, **which: Unpack[Which]) -> Array:
        """The way from one image to another through an auto-encoder's codes: uint8 [steps, h, w, c]."""
        return self.transport.run(questions.interpolate(self._call(name, **which), first, second, steps))

    def generate(self, name: str, n: int = 1, seed: int = 0, **which: Unpack[Which]) -> Array:
        """`n` new images, uint8 [n, h, w, c]; the same seed gives the same images."""
        return self.transport.run(questions.generate(self._call(name, **which), n, seed))

    # Text and numbers

    def sentiment(self, text: str, name: str = "sentiment_lstm", **which: Unpack[Which]) -> Sentiment:
        """The mood of one text."""
        return self.sentiment_many([text], name, **which)[0]

    def sentiment_many(
        self, texts: Sequence[str], name: str = "sentiment_lstm", **which: Unpack[Which]
    ) -> list[Sentiment]:
        """The moods of several texts, in one request."""
        return self.transport.run(questions.sentiment(self._call(name, **which), texts))

    def regress(self, name: str, x: Any, **which: Unpack[Which]) -> Array:
        """A model's single output for its single input, with or without a batch axis."""
        return self.transport.run(questions.regress(self._call(name, **which), x))

    def minimise(self, name: str, start: Any, **which: Unpack[Which]) -> Descent:
        """The descent from a start [d], or from each of several [b, d], to a minimum of a function."""
        return self.transport.run(questions.minimise(self._call(name, **which), start))

    def _call(
        self, name: str, version: int | None = None, label: str | None = None, timeout_s: float | None = None
    ) -> Call:
        return Call(self.transport.protocol, name, version, label, self._timeout_s(timeout_s))

    def _timeout_s(self, timeout_s: float | None) -> float:
        return self.timeout_s if timeout_s is None else timeout_s

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return self.transport.protocol.deadline(self._timeout_s(timeout_s))
