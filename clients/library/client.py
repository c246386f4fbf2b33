"""The client: ask a model server by task.

with Client("grpc://localhost:8500") as client:
    client.classify("lenet5", "boot.png").top(3)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, overload

from ladle.clients.library.connect import AddressedClient, connect
from ladle.clients.library.images import Image
from ladle.clients.library.inference import Inference
from ladle.clients.library.results import Classification, Descent, Segmentation, Sentiment
from ladle.clients.transport.access import Access, File
from ladle.clients.transport.base import Transport
from ladle.clients.transport.metadata import Metadata, VersionStatus
from ladle.clients.transport.protocol import MAX_MESSAGE_BYTES, Deadline
from ladle.clients.wire.arrays import Array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from typing_extensions import Unpack


class CallOptions(TypedDict, total=False):
    """Options of every task.

    version    the version that answers (default: the latest)
    label      the version label that answers, e.g. "stable"; instead of `version`
    timeout_s  seconds that the call may take in all (default: the client's)
    """

    version: int | None
    label: str | None
    timeout_s: float | None


class Client(AddressedClient[Transport]):
    """A client of one server, over gRPC or REST.

    target             grpc://host:8500, several hosts as grpc://a:8500,b:8500 (used in turn), http://host:8501;
                       over TLS grpcs:// and https://; by the Open Inference Protocol oip+grpc:// and so on
    timeout_s          seconds that a call may take in all, retries included
    ca                 PEM file of the CA that signed the server's certificate (default: the system's CAs)
    certificate        PEM file of the client's own certificate, with `private_key`
    api_key            sent as `authorization: Bearer ...`
    max_message_bytes  size of the largest request sent and answer accepted
    proxy              http://host:port of an HTTP proxy through which every host is asked; "": none. By default local
                       hosts are asked directly, others as `https_proxy`, `no_proxy` and their kin say

    Threads and forked processes may share a client. A pickled client holds its address and options, `api_key` included,
    and opens its own connections.

    Images are paths, encoded ones (PNG, JPEG, WebP, BMP, GIF, TIFF), open files, Pillow images, or arrays: uint8, or
    float in [0, 1]. Inputs are checked against the model's metadata before they are sent.

    Every method raises subclasses of `ladle.LadleError`, which `ladle.clients.errors` lists. The usual ones:

    InvalidArgument   the inputs or the task do not fit the model
    NotFound          the model or its version is not served
    Unavailable       the server cannot be reached or is overloaded
    DeadlineExceeded  no answer came within `timeout_s`

        >>> from ladle import Client
        >>> with Client("grpc://localhost:8500") as client:
        ...     print(client.classify("lenet5", "boot.png").label)
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
        proxy: str | None = None,
    ) -> None:
        access = Access(ca, certificate, private_key, api_key)
        self._target, self._proxy = target, proxy
        self.transport = connect(target, access, max_message_bytes, proxy) if isinstance(target, str) else target
        self.timeout_s = timeout_s

    def __setstate__(self, state: dict[str, Any]) -> None:
        Client.__init__(self, **state)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. From then on every call raises Cancelled."""
        self.transport.close()

    # Any model

    def models(
        self, names: Sequence[str] | None = None, timeout_s: float | None = None
    ) -> dict[str, list[VersionStatus]]:
        """The models that are served, with the state of each version.

        names  only these; those that are not served are left out

        Returns {name: [VersionStatus(version, state, error_code, error_message), ...]}, the highest version first.
        Unimplemented: without `names`, from a server that cannot list its models, as TensorFlow Serving cannot.

            >>> client.models(["lenet5"])["lenet5"][0].state
            'AVAILABLE'
        """
        return self.transport.run(
            self.transport.protocol.models(self._several(names, "names"), self._deadline(timeout_s))
        )

    def status(self, name: str, version: int | None = None, timeout_s: float | None = None) -> list[VersionStatus]:
        """The state of every version that the server has ever loaded, or of one.

        name     the model
        version  only this one

        Returns [VersionStatus(version, state, error_code, error_message), ...], the highest version first.
        NotFound: no such model or version.

            >>> client.status("lenet5")[0].version
            1
        """
        return self.transport.run(
            self._explained(name, self.transport.protocol.status(name, version, self._deadline(timeout_s)))
        )

    def traffic(self, names: Sequence[str], timeout_s: float | None = None) -> dict[str, Any]:
        """How the server splits the requests of models and copies them to shadows, with what came of it so far.

        names  of models

        Returns {name: {"split": {split: [arm, ...]}, "shadow": {...}}} for those that have any. An arm has `arm`,
        `version`, `percent`, `requests`, `errors` and `mean_ms`; a shadow has `to`, `version`, `percent`, the counts
        `same`, `different`, `failed` and `dropped`, `outputs` with the counts of each, `answer_ms` and `shadow_ms`.
        Empty from a server without a traffic file, such as TensorFlow Serving.

            >>> client.traffic(["lenet5"])
            {}
        """
        return self.transport.run(
            self.transport.protocol.traffic(self._several(names, "names") or (), self._deadline(timeout_s))
        )

    def metadata(
        self, name: str, version: int | None = None, label: str | None = None, timeout_s: float | None = None
    ) -> Metadata:
        """The signatures of a model version: inputs and outputs with dtype and shape.

        name     the model
        version  the version (default: the latest), or `label`, a version label

        Returns Metadata: name, version, signatures, `signature(key)` with inputs and outputs by name; in a shape, None
        is a free axis. NotFound: no such model or version.

            >>> print(client.metadata("lenet5").signature("serving_default").inputs["image"])
            float32 [?, 28, 28, 1]
        """
        return self.transport.run(
            self._explained(name, self.transport.protocol.metadata(name, version, label, self._deadline(timeout_s)))
        )

    def predict(
        self,
        name: str,
        inputs: Mapping[str, Any] | ArrayLike,
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """Run any signature: arrays by name -> arrays by name.

        name       the model
        inputs     by name, or the value of the signature's only input; arrays keep their dtype (float64 becomes
                   float32 where no value changes), lists, numbers, bytes and str get the signature's
        signature  name of the signature
        version    version that answers (default: the latest), or `label`, a version label
        outputs    names of the outputs to return (default: all); over gRPC no others are sent

        Returns NumPy arrays by name; strings are object arrays of bytes.
        InvalidArgument: an input is missing, unknown or does not fit, or there is no such signature or output.

            >>> client.predict("linear_regression", {"x": [[1.0], [2.0]]})["y"].shape
            (2, 1)
        """
        return self.transport.run(
            self._explained(
                name,
                self.transport.protocol.predict(
                    name,
                    inputs,
                    signature,
                    version,
                    label,
                    self._timeout_s(timeout_s),
                    self._several(outputs, "outputs"),
                ),
            )
        )

    # Images

    def classify(self, name: str, image: Image, **options: Unpack[CallOptions]) -> Classification:
        """The class of one image.

        name   the model
        image  a path, encoded bytes, an open file, a Pillow image or an array; the server resizes what is encoded.
               For a model that reads a table: a row, as columns by name or as a list of numbers

        Returns a Classification: label, probability, class_id, labels, probabilities, `top(k)`.
        InvalidArgument: the image does not fit the model, or the model does not classify.

            >>> client.classify("lenet5", "boot.png").label
            'Ankle boot'
        """
        return self.transport.run(self._inference(name, **options).classify(image))

    def classify_many(
        self, name: str, images: Sequence[Image] | Array, **options: Unpack[CallOptions]
    ) -> list[Classification]:
        """The classes of several images, in one request.

        name    the model
        images  all encoded (paths, bytes, files, Pillow images), or all arrays of one shape, or one array [b, ...];
                for a model that reads a table, lists of a column's values by name

        Returns a Classification for each image, in order. InvalidArgument: as `classify`, or one image came alone.

            >>> [answer.label for answer in client.classify_many("lenet5", ["boot.png", "bag.png"])]
            ['Ankle boot', 'Bag']
        """
        return self.transport.run(self._inference(name, **options).classify_many(images))

    def segment(self, name: str, image: Image, **options: Unpack[CallOptions]) -> Segmentation:
        """The class of every pixel of one image.

        name   the model
        image  as for `classify`

        Returns a Segmentation: class_map, int64 [h, w], and shares, the share of the image that each class covers.
        InvalidArgument: the image does not fit the model, or the model does not segment.

            >>> client.segment("unet", "cells.png").shares
            {0: 0.83, 1: 0.17}
        """
        return self.transport.run(self._inference(name, **options).segment(image))

    def reconstruct(self, name: str, image: Image, **options: Unpack[CallOptions]) -> Array:
        """An auto-encoder's copy of an image.

        name   the model
        image  as for `classify`, or a batch of arrays [b, h, w, c]

        Returns float32 [h, w, c] in [0, 1], or [b, h, w, c] for a batch.
        InvalidArgument: the image does not fit the model, or the model is no auto-encoder.

            >>> client.reconstruct("vae", "boot.png").shape
            (28, 28, 1)
        """
        return self.transport.run(self._inference(name, **options).reconstruct(image))

    def filter(self, name: str, image: Image, **options: Unpack[CallOptions]) -> dict[str, Array]:
        """What each filter of a model makes of an image.

        name   the model
        image  as for `classify`, or a batch of arrays [b, h, w, c]

        Returns float32 [h, w, c] in [0, 1] by the filter's name, or [b, h, w, c] for a batch.
        InvalidArgument: the image does not fit the model, or the model does not filter images.

            >>> list(client.filter("filters", "boot.png"))
            ['blur', 'edge', 'sharpen', 'sobel']
        """
        return self.transport.run(self._inference(name, **options).filter(image))

    def encode(self, name: str, image: Image, **options: Unpack[CallOptions]) -> Array:
        """An auto-encoder's code of an image.

        name   the model
        image  as for `reconstruct`

        Returns float32 [latent_dim], or [b, latent_dim] for a batch.
        InvalidArgument: the image does not fit the model, or the model does not encode.

            >>> client.encode("vae", "boot.png").shape
            (10,)
        """
        return self.transport.run(self._inference(name, **options).encode(image))

    def decode(self, name: str, code: Any, **options: Unpack[CallOptions]) -> Array:
        """An auto-encoder's image of a code.

        name  the model
        code  float [latent_dim], or several, [b, latent_dim]

        Returns uint8 [h, w, c], or [b, h, w, c] for several codes.
        InvalidArgument: the code has another length, or the model does not decode.

            >>> client.decode("vae", client.encode("vae", "boot.png")).shape
            (28, 28, 1)
        """
        return self.transport.run(self._inference(name, **options).decode(code))

    def interpolate(
        self, name: str, first: Image, second: Image, steps: int = 8, **options: Unpack[CallOptions]
    ) -> Array:
        """Images between two, along the line between their codes.

        name           the model
        first, second  as for `classify`
        steps          number of images, both ends included

        Returns uint8 [steps, h, w, c].
        InvalidArgument: an image does not fit the model, `steps` is below 2, or the model has no codes.

            >>> client.interpolate("vae", "boot.png", "bag.png", steps=5).shape
            (5, 28, 28, 1)
        """
        return self.transport.run(self._inference(name, **options).interpolate(first, second, steps))

    def generate(self, name: str, n: int = 1, seed: int = 0, **options: Unpack[CallOptions]) -> Array:
        """New images from a seed. The same seed gives the same images.

        name  the model
        n     number of images
        seed  an integer of 64 bits

        Returns uint8 [n, h, w, c]. InvalidArgument: the model generates nothing, or fewer images at once.

            >>> client.generate("vae", 4, seed=7).shape
            (4, 28, 28, 1)
        """
        return self.transport.run(self._inference(name, **options).generate(n, seed))

    # Text and numbers

    @overload
    def sentiment(self, name: str | None, text: str, **options: Unpack[CallOptions]) -> Sentiment: ...
    @overload
    def sentiment(
        self, name: str | None, text: list[str] | tuple[str, ...] | Array, **options: Unpack[CallOptions]
    ) -> list[Sentiment]: ...
    def sentiment(
        self, name: str | None, text: str | Sequence[str] | Array, **options: Unpack[CallOptions]
    ) -> Sentiment | list[Sentiment]:
        """Whether a text is positive or negative; for several texts, a list of answers from one request.

        name  the model; None: the only served model that answers this task
        text  a str, or several texts: a list, a NumPy array, a column of a table

        Returns a Sentiment: label, probability, positive; or a list of them.
        InvalidArgument names the row of a value that is no text. With None for the name: NotFound if no served model
        answers, InvalidArgument if several do, Unimplemented if the server cannot list its models.

            >>> client.sentiment("sentiment_lstm", "a lovely film").label
            'positive'
            >>> [answer.label for answer in client.sentiment("sentiment_lstm", ["a lovely film", "a dull one"])]
            ['positive', 'negative']
        """
        if isinstance(text, str):
            return self.sentiment_many(name, [text], **options)[0]
        return self.sentiment_many(name, text, **options)

    def sentiment_many(
        self, name: str | None, texts: Sequence[str] | Array, **options: Unpack[CallOptions]
    ) -> list[Sentiment]:
        """Whether each of several texts is positive or negative, in one request.

        name   as for `sentiment`
        texts  a list, a NumPy array or a column of a table; one text alone is refused

        Returns a Sentiment for each text, in order. Errors as for `sentiment`.

            >>> [answer.label for answer in client.sentiment_many(None, ["a lovely film", "a dull one"])]
            ['positive', 'negative']
        """
        return self.transport.run(self._inference(name, **options).sentiment(texts))

    def neighbours(self, name: str, word: str, n: int = 5, **options: Unpack[CallOptions]) -> list[tuple[str, float]]:
        """The words nearest to a word in the embedding that a model of text has learnt.

        name  the model
        word  one word; capital letters and punctuation do not count
        n     number of neighbours; the models here know the first 10

        Returns (word, similarity) for each, the nearest first; similarity is the cosine of the two words' vectors.
        InvalidArgument: the model does not know the word, or has no such answer.

            >>> client.neighbours("sentiment_lstm", "brilliant", 2)
            [('excellent', 0.93), ('superb', 0.92)]
        """
        return self.transport.run(self._inference(name, **options).neighbours(word, n))

    def regress(self, name: str, x: Any, **options: Unpack[CallOptions]) -> Array:
        """The number that a model predicts for a row, or for several.

        name  the model
        x     the features of one row, or of several with a batch axis: an array, a list, a table. For a model that
              reads a table, also the columns by name: a value each, or a list each

        Returns an array, with a batch axis if `x` has one.
        InvalidArgument: `x` does not fit the model.

            >>> client.regress("linear_regression", [2.0]).tolist()
            [5.0]
        """
        return self.transport.run(self._inference(name, **options).regress(x))

    def minimise(self, name: str, start: Any, **options: Unpack[CallOptions]) -> Descent:
        """The gradient descent from a start to a minimum of a function.

        name   the model
        start  a point [d], or several, [b, d]

        Returns a Descent: minimum, value, path; with a batch axis for several starts.
        InvalidArgument: the start does not fit the model, or the model minimises nothing.

            >>> client.minimise("himmelblau", [1.0, 0.0]).minimum.round(2).tolist()
            [3.0, 2.0]
        """
        return self.transport.run(self._inference(name, **options).minimise(start))

    def _inference(
        self,
        name: str | None,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> Inference:
        return Inference(self.transport.protocol, name, version, label, self._timeout_s(timeout_s))

    def _timeout_s(self, timeout_s: float | None) -> float:
        return self.timeout_s if timeout_s is None else timeout_s

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(self.transport.protocol.address, self._timeout_s(timeout_s))
