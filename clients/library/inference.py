"""Inference by task, as operations over either protocol: the inputs of each task, and the result from its outputs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from ladle.clients.errors import FailedPrecondition, InvalidArgument, NotFound, Unimplemented
from ladle.clients.library import images, tasks
from ladle.clients.library.explained import EXPLAINED, explain
from ladle.clients.library.images import Image
from ladle.clients.library.results import Classification, Descent, Segmentation, Sentiment
from ladle.clients.transport.metadata import Metadata, Signature, TensorInfo, describe
from ladle.clients.transport.operation import Operation
from ladle.clients.transport.protocol import METADATA_AGE_S, Deadline, Protocol
from ladle.clients.wire import messages as pb
from ladle.clients.wire.arrays import Array

T = TypeVar("T")
P = ParamSpec("P")


def _explained(
    task: Callable[Concatenate[Inference, P], Operation[T]],
) -> Callable[Concatenate[Inference, P], Operation[T]]:
    """A task whose errors begin with the model's name."""

    @functools.wraps(task)
    def run(self: Inference, /, *arguments: P.args, **options: P.kwargs) -> Operation[T]:
        try:
            return (yield from task(self, *arguments, **options))
        except EXPLAINED as error:
            raise (yield from explain(self.protocol, self.name, error)) from None

    return run


class Inference:
    """One call to one model version, within `timeout_s` in all. Its methods are operations: a transport runs them.

    Inputs are fitted to the model's signature before they are sent. `name=None` takes the one served model that answers
    the task.
    """

    def __init__(
        self,
        protocol: Protocol,
        name: str | None,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.protocol, self.name, self._version, self._label = protocol, name or "", version, label
        self._deadline = Deadline(protocol.address, timeout_s)
        self._task = ""  # the verb that errors name
        self._fitted: Metadata | None = None  # the metadata that the inputs were fitted to

    # Tasks

    @_explained
    def classify(self, image: Image) -> Operation[Classification]:
        found = yield from self._classify(image)
        return self._one(found, "classify_many")

    @_explained
    def classify_many(self, several: Sequence[Image] | Array) -> Operation[list[Classification]]:
        # A list is made a batch where its images are read, so that errors can name its files.
        given = several if isinstance(several, list | Mapping) else images.batch_of(several)
        return (yield from self._classify(given))

    @_explained
    def segment(self, image: Image) -> Operation[Segmentation]:
        self._task = "segment"
        answer, _ = yield from self._run_image(image, outputs=("class_map",))
        return Segmentation(self._one(list(self._output(answer, "class_map")), "predict"))

    @_explained
    def reconstruct(self, image: Image) -> Operation[Array]:
        self._task = "reconstruct"
        answer, single = yield from self._run_image(image, bytes_signature="reconstruct_bytes")
        return _unbatch(self._output(answer, "reconstruction", "image"), single)

    @_explained
    def filter(self, image: Image) -> Operation[dict[str, Array]]:
        self._task = "filter"
        answer, single = yield from self._run_image(image)
        if len(answer) < 2 or any(filtered.ndim != 4 for filtered in answer.values()):
            raise self._other_task() or InvalidArgument(f"{self.name}: does not answer filter")
        return {name: _unbatch(answer[name], single) for name in sorted(answer)}

    @_explained
    def encode(self, image: Image) -> Operation[Array]:
        return (yield from self._encode(image))

    def _encode(self, image: Image) -> Operation[Array]:
        self._task = "encode"
        answer, single = yield from self._run_image(image, signature="encode", bytes_signature="encode_bytes")
        return _unbatch(self._output(answer, "code"), single)

    @_explained
    def decode(self, code: Any) -> Operation[Array]:
        return (yield from self._decode(code))

    def _decode(self, code: Any) -> Operation[Array]:
        self._task = "decode"
        answer, single = yield from self.run_value(code, "decode")
        return _unbatch(self._output(answer, "images", "image"), single)

    @_explained
    def interpolate(self, first: Image, second: Image, steps: int) -> Operation[Array]:
        if steps < 2:
            raise InvalidArgument(f"got steps={steps}; expected 2 or more")
        start = yield from self._encode(first)
        end = yield from self._encode(second)
        share = np.linspace(0, 1, steps, dtype=np.float32)[:, None]  # [steps, 1]
        return (yield from self._decode((1 - share) * start.reshape(1, -1) + share * end.reshape(1, -1)))

    @_explained
    def generate(self, n: int, seed: int) -> Operation[Array]:
        self._task = "generate"
        try:
            inputs: dict[str, Array] = {"n": np.array(n, np.int32), "seed": np.array(seed, np.int64)}
        except OverflowError:
            raise InvalidArgument(f"got n={n} and seed={seed}; expected at most 32 and 64 bits") from None
        return self._output((yield from self._run("generate", inputs)), "images")

    @_explained
    def sentiment(self, texts: Sequence[str] | Array) -> Operation[list[Sentiment]]:
        self._task = "sentiment"
        if isinstance(texts, str | bytes):
            raise InvalidArgument("got one text where several are expected; put it into a list")
        data = [_encoded(text, row) for row, text in enumerate(texts)]
        yield from self._choose_model("sentiment")
        answer = yield from self._run("text", {"text": np.array(data, object)})
        results = []
        positives, labels = self._output(answer, "probability"), self._exact(answer, "label")
        for positive, label in zip(positives, labels, strict=True):
            likely = float(max(positive, 1 - positive))
            results.append(Sentiment(label.decode(), likely, float(positive)))
        return results

    @_explained
    def neighbours(self, word: str, n: int) -> Operation[list[tuple[str, float]]]:
        self._task = "neighbours"
        if n < 1:
            raise InvalidArgument(f"got n={n}; expected 1 or more")
        if not isinstance(word, str) or not word.strip():
            raise InvalidArgument(f"got {word!r}; expected a word")
        answer = yield from self._run("neighbours", {"word": np.array([_encoded(word, 0)], object)})
        words, cosines = (self._exact(answer, key)[0] for key in ("neighbours", "similarity"))
        if not answer.get("known", np.array([True]))[0]:
            raise InvalidArgument(f'{self.name}: does not know the word "{word}"; expected one of its vocabulary')
        return [(each.decode(), float(cosine)) for each, cosine in zip(words[:n], cosines[:n], strict=True)]

    @_explained
    def regress(self, x: Any) -> Operation[Array]:
        self._task = "regress"
        answer, single = yield from self._run_rows(x)
        return _unbatch(self._output(answer, "y", "outputs"), single)

    @_explained
    def minimise(self, start: Any) -> Operation[Descent]:
        self._task = "minimise"
        answer, single = yield from self.run_value(start)
        minimum, value, path = (self._exact(answer, key) for key in ("minimum", "value", "path"))
        return Descent(_unbatch(minimum, single), _unbatch(value, single), _unbatch(path, single))

    # Inputs

    def _run_rows(self, value: Any) -> Operation[tuple[dict[str, Array], bool]]:
        """The outputs for columns by name, or for rows of numbers, and whether it was one row."""
        if not isinstance(value, Mapping):
            metadata = yield from self._metadata()
            return (yield from self.run_value(value, "rows" if "rows" in metadata.signatures else "serving_default"))
        single = all(isinstance(column, str | bytes) or np.ndim(column) == 0 for column in value.values())
        columns: Any = {name: [column] if single else column for name, column in value.items()}
        return (yield from self._run("serving_default", columns)), single

    def _are_rows(self, value: Any) -> Operation[bool]:
        """Whether a value to classify is a row of a table or several, and not an image."""
        if isinstance(value, Mapping):
            return True
        numbers = isinstance(value, list) and bool(value) and isinstance(value[0], int | float | list)
        if not numbers and not (isinstance(value, np.ndarray) and value.ndim <= 2):
            return False
        return "rows" in (yield from self._metadata()).signatures

    def run_value(self, value: Any, signature: str = "serving_default") -> Operation[tuple[dict[str, Array], bool]]:
        """The outputs for a signature's one numeric input, and whether it came without a batch axis."""

        def fit(metadata: Metadata) -> tuple[str, Array, bool]:
            key, info = self._single_input(metadata.signature(signature))
            what = f'{self.name}: input "{key}"'
            try:
                given = np.asarray(value)
            except ValueError as error:
                raise InvalidArgument(f"{what}: got a value that is not a tensor ({error}); expected {info}") from None
            if given.dtype.kind not in "biufO" or info.dtype == "string":
                raise InvalidArgument(f"{what}: got {describe(given)}; expected {info}")
            single = info.shape is not None and given.ndim == len(info.shape) - 1
            if isinstance(value, np.ndarray):
                batch: Any = given[None] if single else given
            else:  # a list as it came: an array may have made floats of its large integers
                batch = [value] if single else value
            return key, info.array(batch, what, rounding=True), single

        key, array, single = yield from self._fit(fit)
        return (yield from self._run_fitted(signature, {key: array})), single

    def _classify(self, image: Any) -> Operation[list[Classification]]:
        self._task = "classify"
        if (yield from self._are_rows(image)):
            answer, _ = yield from self._run_rows(image)
        else:
            answer, _ = yield from self._run_image(image, outputs=("probabilities", "class_id", "label"))
        probabilities = self._output(answer, "probabilities")
        labels = yield from self._labels()
        if labels is None or len(labels) != probabilities.shape[-1]:
            labels = tuple(str(i) for i in range(probabilities.shape[-1]))
        class_ids = answer.get("class_id", probabilities.argmax(-1))
        results = []
        for i, row in enumerate(probabilities):
            class_id = int(class_ids[i])
            text = answer["label"][i].decode() if "label" in answer else labels[class_id]
            results.append(Classification(text, float(row[class_id]), class_id, labels, row))
        return results

    def _run_image(
        self,
        image: Any,
        signature: str = "serving_default",
        bytes_signature: str = "serving_bytes",
        outputs: Sequence[str] = (),
    ) -> Operation[tuple[dict[str, Array], bool]]:
        """The outputs for an image, an array of images or a list of encoded ones, and whether it had no batch axis.

        The server decodes encoded images if the model has `bytes_signature`; otherwise they are decoded here.
        outputs  ask for these only, as far as the signature has them
        """
        one = None if isinstance(image, list) else images.encoded(image)
        given = images.batch_of(image) if isinstance(image, list) else image if one is None else [one]

        def fit(metadata: Metadata) -> tuple[str, str, Array, bool, list[str] | None]:
            in_bytes = isinstance(given, list) and bytes_signature in metadata.signatures
            key = bytes_signature if in_bytes else signature
            declared = metadata.signature(key)
            if self._task == "classify" and "class_map" in declared.outputs:  # its probabilities are those of pixels
                raise InvalidArgument(f"{self.name}: does not answer classify")
            alias, info = self._single_input(declared)
            what = f'{self.name}: input "{alias}"'
            if not isinstance(given, list):
                array, single = images.batch(given, info, what)
            else:
                single = one is not None
                names = image if isinstance(image, list) else [image]
                array = info.array(given, what) if in_bytes else images.decoded_batch(given, names, info, what)
            return key, alias, array, single, [name for name in outputs if name in declared.outputs] or None

        key, alias, array, single, known = yield from self._fit(fit)
        return (yield from self._run_fitted(key, {alias: array}, known)), single

    def _single_input(self, declared: Signature) -> tuple[str, TensorInfo]:
        if len(declared.inputs) != 1:
            names = ", ".join(declared.inputs)
            raise InvalidArgument(f"{self.name}: has the inputs {names}; call it with `predict`")
        return next(iter(declared.inputs.items()))

    # Requests

    def _run(self, signature: str, inputs: Mapping[str, Array]) -> Operation[dict[str, Array]]:
        arrays = yield from self._fit(lambda metadata: metadata.signature(signature).arrays(self.name, inputs))
        return (yield from self._run_fitted(signature, arrays))

    def _run_fitted(
        self, signature: str, arrays: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> Operation[dict[str, Array]]:
        return self.protocol.run_signature(
            self.name, arrays, signature, self._version, self._label, self._deadline, outputs
        )

    def _fit(self, prepare: Callable[[Metadata], T]) -> Operation[T]:
        """`prepare(metadata)`; once more with fresh metadata if it refuses, as a new version may differ."""
        self._fitted = yield from self._metadata()
        try:
            return prepare(self._fitted)
        except InvalidArgument:
            self.protocol.invalidate(self.name)
            self._fitted = yield from self._metadata()
        try:
            return prepare(self._fitted)
        except InvalidArgument as error:
            raise self._other_task() or error from None

    def _metadata(self) -> Operation[Metadata]:
        return self.protocol.cached_metadata(self.name, self._version, self._label, self._deadline)

    def _choose_model(self, verb: str) -> Operation[None]:
        """Without a name, take the one served model whose signatures answer `verb`; remembered for METADATA_AGE_S."""
        if self.name:
            return
        at, self.name = self.protocol.models_by_verb.get(verb, (0.0, ""))
        if self.name and time.monotonic() - at <= METADATA_AGE_S:
            return
        self.name = yield from self._only_model(verb)
        self.protocol.models_by_verb[verb] = time.monotonic(), self.name

    def _only_model(self, verb: str) -> Operation[str]:
        address = self.protocol.address
        try:
            states = yield from self.protocol.models(None, self._deadline)
        except Unimplemented:
            raise Unimplemented(
                f"{address} cannot list its models, so none was chosen for {verb}; give the model's name"
            ) from None
        found = []
        for name, versions in states.items():
            if any(status.state == "AVAILABLE" for status in versions):
                metadata = yield from self.protocol.cached_metadata(name, None, None, self._deadline)
                found += [name] if verb in tasks.of_metadata(metadata).verbs else []
        if not found:
            raise NotFound(f"{address} serves no model that answers {verb}; `ladle networks` lists those to train")
        if len(found) > 1:
            raise InvalidArgument(f"{address} serves {', '.join(found)}, which all answer {verb}; give the name of one")
        return found[0]

    # Results

    def _output(self, answer: Mapping[str, Array], *names: str) -> Array:
        """The first of `names` that was answered, or the only output."""
        for name in names:
            if name in answer:
                return answer[name]
        return next(iter(answer.values())) if len(answer) == 1 else self._exact(answer, names[0])

    def _exact(self, answer: Mapping[str, Array], name: str) -> Array:
        """The output `name`. InvalidArgument: there is none."""
        if name in answer:
            return answer[name]
        known = ", ".join(sorted(answer))
        raise self._other_task() or InvalidArgument(f'{self.name}: has the outputs {known}, not "{name}"')

    def _other_task(self) -> InvalidArgument | None:
        """The error that names the tasks of the model, if it is known for others than this one."""
        answered = tasks.of_metadata(self._fitted).cli_verbs if self._fitted else []
        if not self._task or not answered or self._task in answered:
            return None
        return InvalidArgument(f"{self.name}: does not answer {self._task}; it answers {', '.join(answered)}")

    def _one(self, results: list[T], several: str) -> T:
        if len(results) != 1:
            raise InvalidArgument(f"{self.name}: got {len(results)} images; expected one (`{several}` takes several)")
        return results[0]

    def _labels(self) -> Operation[tuple[str, ...] | None]:
        """The labels of all classes, in order, if the server tells them; asked once for each version.

        Only TensorFlow Serving's `Classify` names all classes, so it classifies a black image, or a row of zeros.
        """
        assert self._fitted is not None
        key = f"{self.name}/{self._fitted.version}"
        cache = self.protocol.labels
        if key not in cache:
            cache[key] = yield from self._fetch_labels(self._fitted)
        return cache[key]

    def _fetch_labels(self, metadata: Metadata) -> Operation[tuple[str, ...] | None]:
        declared = metadata.signatures.get("classify")
        if declared is None or "classes" not in declared.outputs:
            return None
        example = pb.Example()
        for feature, info in metadata.signature("serving_default").inputs.items():
            if info.shape is None or None in info.shape[1:]:
                return None
            if info.dtype == "string":
                example.features.feature[feature].bytes_list.value.append(b"")
                continue
            black = np.zeros([size for size in info.shape[1:] if size is not None], np.float32)
            example.features.feature[feature].float_list.value.extend(black.ravel().tolist())
        inputs = {next(iter(declared.inputs)): np.array([example.SerializeToString()], object)}
        try:
            answer = yield from self.protocol.run_signature(
                self.name, inputs, "classify", metadata.version, None, self._deadline, ["classes"]
            )
        except (InvalidArgument, FailedPrecondition, NotFound, Unimplemented):
            return None
        return tuple(label.decode() for label in answer["classes"][0])


def _encoded(text: Any, row: int) -> bytes:
    """A text in UTF-8. InvalidArgument names the row of what is no text."""
    if not isinstance(text, str):
        raise InvalidArgument(f"row {row} is {text!r}; expected a text")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"row {row} holds half a surrogate pair; expected Unicode") from None


def _unbatch(array: Array, single: bool) -> Array:
    return array[0] if single else array
