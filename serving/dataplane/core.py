"""Every operation once, in NumPy: predict, classify, regress, metadata, status. Knows neither gRPC nor HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ladle.clients.wire.arrays import Array
from ladle.serving.dataplane import multi_inference
from ladle.serving.dataplane.multi_inference import Inference, Result
from ladle.serving.errors import FailedPrecondition, Internal, InvalidArgument, NotFound, ServingError
from ladle.serving.repository.acceptance import replace_models
from ladle.serving.repository.versions import Configuration, State, Versions
from ladle.serving.scheduling.batch import Call
from ladle.serving.scheduling.scheduler import Scheduler
from ladle.serving.servables import examples, matching
from ladle.serving.servables.saved_model import Signature
from ladle.serving.servables.servable import Servable

DEFAULT_SIGNATURE = "serving_default"
_METHODS = tuple(f"tensorflow/serving/{method}" for method in ("predict", "classify", "regress"))


class ModelSpec(NamedTuple):
    """Which version is asked: by number, by label, or the latest. `signature` is "" for serving_default."""

    name: str
    version: int | None = None
    label: str | None = None
    signature: str = ""

    @property
    def signature_name(self) -> str:
        return self.signature or DEFAULT_SIGNATURE


@dataclass(frozen=True)
class VersionStatus:
    """A version's number, state and, unless its load failed, no error."""

    version: int
    state: State
    error: ServingError | None


class Core:
    """Answers requests from the manager's versions, which `scheduler` runs."""

    def __init__(
        self,
        manager: Versions,
        watcher: Configuration,
        check_method_names: bool = False,
        scheduler: Scheduler | None = None,
    ) -> None:
        self._manager = manager
        self._watcher = watcher
        self._check_method_names = check_method_names
        self._scheduler = scheduler or Scheduler()

    # Which version

    def find(self, spec: ModelSpec | None) -> Servable:
        """The servable that a ModelSpec names; InvalidArgument or NotFound in upstream's words."""
        if spec is None:
            raise InvalidArgument("Missing ModelSpec")
        if not spec.name:
            raise InvalidArgument("ModelSpec has no name specified.")
        version = spec.version
        if spec.label is not None:
            version = self._watcher.labels.get(spec.name, {}).get(spec.label)
            if version is None:
                raise InvalidArgument(f"Unrecognized servable version label: {spec.label}")
        servable: Servable = self._manager.find(spec.name, version)
        return servable

    def find_signature(self, servable: Servable, spec: ModelSpec) -> Signature:
        """The signature that Predict asks for; FailedPrecondition without it."""
        signature = servable.signatures.get(spec.signature_name)
        if signature is None:
            raise FailedPrecondition(f'Serving signature key "{spec.signature_name}" not found.')
        if self._check_method_names and signature.method_name not in _METHODS:
            raise Internal(
                f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}. "
                f"Was: {signature.method_name}"
            )
        return signature

    # Inference

    def predict(
        self,
        servable: Servable,
        signature: Signature,
        inputs: Mapping[str, Array],
        output_filter: Sequence[str] = (),
        deadline: float | None = None,
        form: Hashable = None,
    ) -> Awaitable[Mapping[str, Array]]:
        """The outputs by alias: those of the filter, or all.

        deadline  `time.monotonic()` seconds by which the caller wants the answer; None: no matter when
        form      stands for the signature, the filter, and the inputs' names, dtypes and shapes, none of them strings:
                  requests of one form are checked once a version. None: they are checked

        InvalidArgument for wrong names or dtypes, DeadlineExceeded after `deadline`, and what the graph raises.
        """
        known = servable.known(form) if form is not None else None
        if known is not None:
            call = Call(servable, signature.name, known[0], "Predict", known[1])
            return self._scheduler.run(call, matching.complete(signature, inputs), deadline)
        matching.check_names(signature, inputs)
        matching.check_dtypes(signature, inputs)
        call = Call(servable, signature.name, matching.choose_outputs(signature, output_filter), "Predict")
        inputs = matching.complete(signature, inputs)
        if form is not None:
            call.shape = call.shape_of(inputs)
            servable.remember(form, (call.outputs, call.shape))
        return self._scheduler.run(call, inputs, deadline)

    async def classify(
        self, spec: ModelSpec | None, read: Callable[[], Array], deadline: float | None = None
    ) -> tuple[Servable, Array | None, Array | None]:
        """The servable, labels bytes [n, k] and scores float32 [n, k], of which one may be missing.

        read  gives the serialized tf.Example, bytes [n]; called once model and signature are known to be good
        """
        servable = self.find(spec)
        assert spec is not None
        signature = examples.find_signature(servable.signatures, spec.signature_name)
        self._check_method(signature, "classification", "classify")
        outputs = examples.check_classify(signature)
        serialized = read()
        answer = await self._run_examples(servable, signature, serialized, outputs, deadline, "Classify")
        return servable, *examples.read_classes(answer, len(serialized))

    async def regress(
        self, spec: ModelSpec | None, read: Callable[[], Array], deadline: float | None = None
    ) -> tuple[Servable, Array]:
        """The servable and a number for each tf.Example, float32 [n]; `read` as for classify."""
        servable = self.find(spec)
        assert spec is not None
        signature = examples.find_signature(servable.signatures, spec.signature_name)
        self._check_method(signature, "regression", "regress")
        outputs = examples.check_regress(signature)
        serialized = read()
        answer = await self._run_examples(servable, signature, serialized, outputs, deadline, "Regress")
        return servable, examples.read_values(answer, len(serialized))

    async def multi_inference(
        self,
        spec: ModelSpec | None,
        tasks: Sequence[Inference],
        read: Callable[[], Array],
        deadline: float | None = None,
    ) -> tuple[Servable, list[Result]]:
        """The servable and each task's result; `spec` is the first task's, `read` as for classify."""
        servable = self.find(spec or ModelSpec(""))
        chosen = multi_inference.check(servable, tasks)
        for (signature, _), task in zip(chosen, tasks, strict=True):
            if task.method == multi_inference.CLASSIFY:
                self._check_method(signature, "classification", "classify")
            else:
                self._check_method(signature, "regression", "regress")
        serialized = read()
        results = []
        for (signature, outputs), task in zip(chosen, tasks, strict=True):
            answer = await self._run_examples(servable, signature, serialized, outputs, deadline, "MultiInference")
            results.append(multi_inference.read(task, answer, len(serialized)))
        return servable, results

    def _check_method(self, signature: Signature, word: str, method: str) -> None:
        wanted = f"tensorflow/serving/{method}"
        if self._check_method_names and signature.method_name != wanted:
            raise InvalidArgument(f"Expected {word} signature method_name to be {wanted}. Was: {signature.method_name}")

    async def _run_examples(
        self,
        servable: Servable,
        signature: Signature,
        serialized: Array,
        outputs: tuple[str, ...],
        deadline: float | None,
        api: str,
    ) -> Mapping[str, Array]:
        inputs = {examples.INPUTS: serialized}
        matching.check_dtypes(signature, inputs)
        return await self._scheduler.run(Call(servable, signature.name, outputs, api), inputs, deadline)

    # Questions about models

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The states of a model's versions, highest first, or of one; NotFound when there are none."""
        found = [VersionStatus(*known) for known in self._manager.status(name)]
        if version is not None:
            found = [known for known in found if known.version == version]
            if not found:
                raise NotFound(f"Could not find version {version} of model {name}")
        if not found:
            raise NotFound(f"Could not find any versions of model {name}")
        return found

    def index(self) -> list[dict[str, str]]:
        """Every version of every model: name, version, state and reason, as KServe's repository index has it."""
        return [
            {"name": name, "version": str(number), "state": state.name, "reason": error.message if error else ""}
            for name in self._manager.models()
            for number, state, error in self._manager.status(name)
        ]

    def is_ready(self) -> bool:
        """Whether every configured model is available; of a folder's models, whether each was once decided on."""
        return self._watcher.is_ready()

    async def reload(self, config: Any) -> None:
        """Replaces the models by those of a ModelServerConfig; returns when each that it adds is there."""
        await replace_models(self._watcher, self._manager, config)
