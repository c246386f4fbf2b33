"""`Client` for an event loop: the same methods, awaited; many requests may be under way at once.

async with AsyncClient("grpc://localhost:8500") as client:
    await asyncio.gather(*(client.classify("lenet5", path) for path in paths))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from ladle.clients.library.connect import AddressedClient, connect_async
from ladle.clients.library.images import Image
from ladle.clients.library.inference import Inference
from ladle.clients.library.results import Classification, Descent, Segmentation, Sentiment
from ladle.clients.transport.access import Access, File
from ladle.clients.transport.base import AsyncTransport
from ladle.clients.transport.metadata import Metadata, VersionStatus
from ladle.clients.transport.protocol import MAX_MESSAGE_BYTES, Deadline
from ladle.clients.wire.arrays import Array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from typing_extensions import Unpack

    from ladle.clients.library.client import CallOptions


class AsyncClient(AddressedClient[AsyncTransport]):
    """The awaited twin of `ladle.Client`: the same arguments, methods, results and errors.

    Tasks of one event loop may share it. Cancelling a task cancels its request.
    """

    def __init__(
        self,
        target: str | AsyncTransport = "grpc://localhost:8500",
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
        self.transport = connect_async(target, access, max_message_bytes, proxy) if isinstance(target, str) else target
        self.timeout_s = timeout_s

    def __setstate__(self, state: dict[str, Any]) -> None:
        AsyncClient.__init__(self, **state)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. From then on every call raises Cancelled."""
        await self.transport.close()

    # Any model. `Client` describes parameters, results and errors of each method.

    async def models(
        self, names: Sequence[str] | None = None, timeout_s: float | None = None
    ) -> dict[str, list[VersionStatus]]:
        """The models that are served, with the state of each version."""
        return await self.transport.run(
            self.transport.protocol.models(self._several(names, "names"), self._deadline(timeout_s))
        )

    async def status(
        self, name: str, version: int | None = None, timeout_s: float | None = None
    ) -> list[VersionStatus]:
        """The state of every version that the server has ever loaded, or of one."""
        return await self.transport.run(
            self._explained(name, self.transport.protocol.status(name, version, self._deadline(timeout_s)))
        )

    async def traffic(self, names: Sequence[str], timeout_s: float | None = None) -> dict[str, Any]:
        """How the server splits the requests of models and copies them to shadows, with what came of it so far."""
        return await self.transport.run(
            self.transport.protocol.traffic(self._several(names, "names") or (), self._deadline(timeout_s))
        )

    async def metadata(
        self, name: str, version: int | None = None, label: str | None = None, timeout_s: float | None = None
    ) -> Metadata:
        """The signatures of a model version: inputs and outputs with dtype and shape."""
        return await self.transport.run(
            self._explained(name, self.transport.protocol.metadata(name, version, label, self._deadline(timeout_s)))
        )

    async def predict(
        self,
        name: str,
        inputs: Mapping[str, Any] | ArrayLike,
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """Run any signature: arrays by name -> arrays by name."""
        return await self.transport.run(
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

    async def classify(self, name: str, image: Image, **options: Unpack[CallOptions]) -> Classification:
        """The class of one image."""
        return await self.transport.run(self._inference(name, **options).classify(image))

    async def classify_many(
        self, name: str, images: Sequence[Image] | Array, **options: Unpack[CallOptions]
    ) -> list[Classification]:
        """The classes of several images, in one request."""
        return await self.transport.run(self._inference(name, **options).classify_many(images))

    async def segment(self, name: str, image: Image, **options: Unpack[CallOptions]) -> Segmentation:
        """The class of every pixel of one image."""
        return await self.transport.run(self._inference(name, **options).segment(image))

    async def reconstruct(self, name: str, image: Image, **options: Unpack[CallOptions]) -> Array:
        """An auto-encoder's copy of an image: float32 [h, w, c], or [b, h, w, c] for a batch."""
        return await self.transport.run(self._inference(name, **options).reconstruct(image))

    async def filter(self, name: str, image: Image, **options: Unpack[CallOptions]) -> dict[str, Array]:
        """What each filter makes of an image: float32 [h, w, c] by name, or [b, h, w, c] for a batch."""
        return await self.transport.run(self._inference(name, **options).filter(image))

    async def encode(self, name: str, image: Image, **options: Unpack[CallOptions]) -> Array:
        """An auto-encoder's code of an image: float32 [latent_dim], or [b, latent_dim] for a batch of arrays."""
        return await self.transport.run(self._inference(name, **options).encode(image))

    async def decode(self, name: str, code: Any, **options: Unpack[CallOptions]) -> Array:
        """An auto-encoder's image of a code, [latent_dim] or [b, latent_dim]: uint8 [h, w, c] or [b, h, w, c]."""
        return await self.transport.run(self._inference(name, **options).decode(code))

    async def interpolate(
        self, name: str, first: Image, second: Image, steps: int = 8, **options: Unpack[CallOptions]
    ) -> Array:
        """Images between two, along the line between their codes: uint8 [steps, h, w, c], both ends included."""
        return await self.transport.run(self._inference(name, **options).interpolate(first, second, steps))

    async def generate(self, name: str, n: int = 1, seed: int = 0, **options: Unpack[CallOptions]) -> Array:
        """`n` new images, uint8 [n, h, w, c]. The same seed gives the same images."""
        return await self.transport.run(self._inference(name, **options).generate(n, seed))

    # Text and numbers

    @overload
    async def sentiment(self, name: str | None, text: str, **options: Unpack[CallOptions]) -> Sentiment: ...
    @overload
    async def sentiment(
        self, name: str | None, text: list[str] | tuple[str, ...] | Array, **options: Unpack[CallOptions]
    ) -> list[Sentiment]: ...
    async def sentiment(
        self, name: str | None, text: str | Sequence[str] | Array, **options: Unpack[CallOptions]
    ) -> Sentiment | list[Sentiment]:
        """Whether a text is positive or negative; for several texts, a list of answers from one request."""
        if isinstance(text, str):
            return (await self.sentiment_many(name, [text], **options))[0]
        return await self.sentiment_many(name, text, **options)

    async def sentiment_many(
        self, name: str | None, texts: Sequence[str] | Array, **options: Unpack[CallOptions]
    ) -> list[Sentiment]:
        """Whether each of several texts is positive or negative, in one request; as `sentiment`."""
        return await self.transport.run(self._inference(name, **options).sentiment(texts))

    async def neighbours(
        self, name: str, word: str, n: int = 5, **options: Unpack[CallOptions]
    ) -> list[tuple[str, float]]:
        """The words nearest to a word in the embedding that a model has learnt, each with its cosine."""
        return await self.transport.run(self._inference(name, **options).neighbours(word, n))

    async def regress(self, name: str, x: Any, **options: Unpack[CallOptions]) -> Array:
        """The single output of a model for its single input, with or without a batch axis."""
        return await self.transport.run(self._inference(name, **options).regress(x))

    async def minimise(self, name: str, start: Any, **options: Unpack[CallOptions]) -> Descent:
        """The gradient descent from a start [d], or from each of several [b, d], to a minimum of a function."""
        return await self.transport.run(self._inference(name, **options).minimise(start))

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
