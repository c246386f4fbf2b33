"""One question to one model version: inputs fitted to its signature, outputs picked by name. Methods are steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ladle.clients.errors import FailedPrecondition, InvalidArgument, NotFound, Unimplemented
from ladle.clients.library import images as pictures
from ladle.clients.transport.exchange import Steps
from ladle.clients.transport.metadata import Metadata, Signature, TensorInfo, describe
from ladle.clients.transport.protocol import Protocol
from ladle.clients.wire import messages as pb
from ladle.clients.wire.arrays import Array

T = TypeVar("T")


class Call:
    """One question to one model version, to be answered within `timeout_s` in all."""

    def __init__(
        self,
        protocol: Protocol,
        name: str,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._protocol, self._name, self._version, self._label = protocol, name, version, label
        self._deadline = protocol.deadline(timeout_s)

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> Steps[dict[str, Array]]:
        return self._protocol.predict(
            self._name, inputs, signature, self._version, self._label, self._deadline, outputs
        )

    def image(
        self,
        image: Any,
        signature: str = "serving_default",
        bytes_signature: str = "serving_bytes",
        wanted: Sequence[str] = (),
    ) -> Steps[tuple[dict[str, Array], bool]]:
        """The outputs for an image or a list of encoded ones, and whether it had no batch axis.

        `wanted`: ask for these alone, as far as the signature has them.
        """
        encoded = isinstance(image, list) or pictures.is_encoded(image)
        if encoded:
            data = [pictures.read(item) for item in (image if isinstance(image, list) else [image])]
            signature, array, single = bytes_signature, np.array(data, object), not isinstance(image, list)
            key, _ = yield from self._fit(signature, self._single_input)
        else:

            def fit(declared: Signature) -> tuple[str, tuple[Array, bool]]:
                key, info = self._single_input(declared)
                return key, pictures.batch(image, info, f'{self._name}: input "{key}"')

            key, (array, single) = yield from self._fit(signature, fit)
        outputs = yield from self._fit(signature, lambda known: [name for name in wanted if name in known.outputs])
        return (yield from self.run(signature, {key: array}, outputs or None)), single

    def pixels(self, image: Any, signature: str) -> Steps[Array]:
        """A path or encoded bytes as the image that a signature takes, for those that decode none themselves."""

        def fit(declared: Signature) -> Array:
            key, info = self._single_input(declared)
            return pictures.pixels(image, info, f'{self._name}: input "{key}"')

        return (yield from self._fit(signature, fit))

    def value(self, value: Any, signature: str = "serving_default") -> Steps[tuple[dict[str, Array], bool]]:
        """The outputs for one numeric input, and whether it had no batch axis."""

        def fit(declared: Signature) -> tuple[str, Array, bool]:
            key, info = self._single_input(declared)
            given = np.asarray(value)
            single = info.shape is not None and given.ndim == len(info.shape) - 1
            array = given[None] if single else given
            if given.dtype.kind not in "biuf" or info.dtype == "string":
                raise InvalidArgument(f'{self._name}: input "{key}" is {describe(given)}; wanted {info}')
            array = array.astype(info.numpy)
            if not info.admits(array.shape):
                raise InvalidArgument(f'{self._name}: input "{key}" is {describe(array)}; wanted {info}')
            return key, array, single

        key, array, single = yield from self._fit(signature, fit)
        return (yield from self.run(signature, {key: array})), single

    def pick(self, answer: Mapping[str, Array], *names: str) -> Array:
        """The first of `names` that was answered, or the only output there is."""
        for name in names:
            if name in answer:
                return answer[name]
        return next(iter(answer.values())) if len(answer) == 1 else self.exactly(answer, names[0])

    def exactly(self, answer: Mapping[str, Array], name: str) -> Array:
        """The output `name`. InvalidArgument: there is none."""
        if name in answer:
            return answer[name]
        known = ", ".join(sorted(answer))
        raise InvalidArgument(f'{self._name} answers {known}, not "{name}"; ask it with `predict`')

    def labels(self) -> Steps[tuple[str, ...] | None]:
        """The labels of all classes, in order, if the server tells them; asked once of each version.

        Only the `classify` signature tells them all, so it classifies a black image.
        """
        metadata = yield from self._metadata()
        key = f"{self._name}/{metadata.version}"
        cache = self._protocol.labels
        if key not in cache:
            cache[key] = yield from self._ask_labels(metadata)
        return cache[key]

    def _ask_labels(self, metadata: Metadata) -> Steps[tuple[str, ...] | None]:
        declared = metadata.signatures.get("classify")
        if declared is None or "classes" not in declared.outputs:
            return None
        feature, info = self._single_input(metadata.signature("serving_default"))
        if info.shape is None or None in info.shape[1:]:
            return None
        example = pb.Example()
        pixels = np.zeros([size for size in info.shape[1:] if size is not None], np.float32)
        example.features.feature[feature].float_list.value.extend(pixels.ravel().tolist())
        inputs = {next(iter(declared.inputs)): np.array([example.SerializeToString()], object)}
        try:
            answer = yield from self._protocol.predict(
                self._name, inputs, "classify", metadata.version, None, self._deadline, ["classes"]
            )
        except (InvalidArgument, FailedPrecondition, NotFound, Unimplemented):
            return None
        return tuple(label.decode() for label in answer["classes"][0])

    def _single_input(self, declared: Signature) -> tuple[str, TensorInfo]:
        if len(declared.inputs) != 1:
            names = ", ".join(declared.inputs)
            raise InvalidArgument(f"{self._name} takes the inputs {names}; ask it with `predict`")
        return next(iter(declared.inputs.items()))

    def _fit(self, signature: str, prepare: Callable[[Signature], T]) -> Steps[T]:
        """`prepare(signature)`; a second time with fresh metadata when the cached one does not suit."""
        try:
            return prepare((yield from self._metadata()).signature(signature))
        except InvalidArgument:
            self._protocol.forget(self._name)
            return prepare((yield from self._metadata()).signature(signature))

    def _metadata(self) -> Steps[Metadata]:
        return self._protocol.known_metadata(self._name, self._version, self._label, self._deadline)
