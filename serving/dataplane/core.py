"""The operations of the server, on NumPy arrays: predict, classify, regress, multi-inference, status, reload.

Nothing here knows gRPC or HTTP: the API modules turn requests into these calls, and ServingErrors into answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from ladle.clients.wire.arrays import Array
from ladle.serving.dataplane import model_control, multi_inference
from ladle.serving.dataplane.multi_inference import Inference, Result
from ladle.serving.dataplane.replace import replace_models
from ladle.serving.dataplane.routing import Router
from ladle.serving.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    NotLoaded,
    ServingError,
    Unavailable,
)
from ladle.serving.repository.traffic import ModelTraffic, resolve
from ladle.serving.repository.versions import Configuration, State, Versions
from ladle.serving.scheduling.batch import Call, Outputs, summarize
from ladle.serving.scheduling.scheduler import Scheduler
from ladle.serving.servables import examples, matching
from ladle.serving.servables.saved_model import Signature
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.observation import Observation

DEFAULT_SIGNATURE = "serving_default"
_LOAD_S = 30.0  # a request without a deadline waits so long for its model
_LOAD_MARGIN_S = 0.2  # left of a deadline, so that the caller still gets the answer
_LOAD_POLL_S = 0.005
_METHODS = tuple(f"tensorflow/serving/{method}" for method in ("predict", "classify", "regress"))


class ModelSpec(NamedTuple):
    """The model, the version (by number, by label, or the latest) and the signature ("" for serving_default)."""

    name: str
    version: int | None = None
    label: str | None = None
    signature: str = ""

    @property
    def signature_name(self) -> str:
        return self.signature or DEFAULT_SIGNATURE


@dataclass(frozen=True)
class VersionStatus:
    """A version's number and state, and the error if its load failed."""

    version: int
    state: State
    error: ServingError | None


class Core:
    """Checks each request against the version that it names, and has the scheduler run it.

    versions            the loaded versions
    configuration       the configured models and their labels
    check_method_names  refuse a signature whose method_name does not fit the API (upstream's flag)
    router              splits requests among versions; None: the server has no splits
    """

    def __init__(
        self,
        versions: Versions,
        configuration: Configuration,
        check_method_names: bool = False,
        scheduler: Scheduler | None = None,
        router: Router | None = None,
    ) -> None:
        self._versions = versions
        self._configuration = configuration
        self._check_method_names = check_method_names
        self._scheduler = scheduler or Scheduler()
        self._router = router

    # Which version

    def find(self, spec: ModelSpec | None, observation: Observation | None = None) -> Servable:
        """The servable that a ModelSpec names; of a split, one of its versions.

        observation  of an inference, which notes what a split has chosen

        InvalidArgument or NotFound, in TensorFlow Serving's words; Unavailable while the server starts and the model
        is still loading.
        """
        if spec is None:
            raise InvalidArgument("Missing ModelSpec")
        if not spec.name:
            raise InvalidArgument("ModelSpec has no name specified.")
        version = spec.version
        if self._router is not None and version is None:
            version = self._router.choose(spec.name, spec.label, observation)
        if spec.label is not None and version is None:
            version = self._configuration.labels.get(spec.name, {}).get(spec.label)
            if version is None:
                raise InvalidArgument(f"Unrecognized servable version label: {spec.label}")
        serving_map = self._versions.serving_map
        servable: Servable | None = serving_map.latest.get(spec.name) if version is None else None
        if servable is not None:
            return servable
        try:
            return cast(Servable, serving_map.find(spec.name, version))
        except NotFound:
            # After a restart, "not found" would make clients give up on a model that is there in a moment.
            if self._versions.is_loadable(spec.name):
                raise NotLoaded(spec.name, version) from None
            if self._configuration.is_starting(spec.name):
                raise Unavailable(f"{spec.name} is still loading; retry later") from None
            raise

    async def load(self, missing: NotLoaded, deadline: float | None) -> None:
        """Have a model loaded that was not in memory; return when it is, or when it has failed or is gone.

        Unavailable when it is not there a moment before `deadline`.
        """
        until = (time.monotonic() + _LOAD_S if deadline is None else deadline) - _LOAD_MARGIN_S
        self._versions.want(missing.model)
        while True:
            # Asked first: a version that becomes available in between is not loadable any more.
            is_loadable = self._versions.is_loadable(missing.model)
            if missing.model in self._versions.serving_map.latest:
                return
            if (failure := self._versions.failure(missing.model)) is not None:
                raise Unavailable(f"{missing.model} cannot be loaded: {failure.error.message}")
            if not is_loadable or time.monotonic() >= until:
                raise missing
            await asyncio.sleep(_LOAD_POLL_S)

    def find_signature(self, servable: Servable, spec: ModelSpec) -> Signature:
        """The signature that a Predict request names; FailedPrecondition when the servable has none of that name."""
        signature = servable.signatures.get(spec.signature or DEFAULT_SIGNATURE)
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
        shape_key: Hashable = None,
        observation: Observation | None = None,
    ) -> Awaitable[Outputs]:
        """The outputs by alias: those in the filter, or all.

        deadline     `time.monotonic()` seconds by which the caller wants the answer; None: no deadline
        shape_key    equal for requests with the same signature, filter, and input names, dtypes and shapes, without
                     strings among the inputs; None: not known
        observation  takes down what ran and when; None: nothing wants to know

        InvalidArgument for wrong names or dtypes, DeadlineExceeded after `deadline`, and what the graph raises.
        """
        # The request shape cache: clients send the same shapes again and again, and the checks read nothing else.
        # The first request of a shape pays for them; those after it find the finished call.
        if observation is not None:
            observation.choose(servable.name, servable.version, signature.name)
        call: Call | None = servable.calls.get(shape_key)
        complete = inputs
        if call is None:
            try:
                matching.check_names(signature, inputs)
                matching.check_dtypes(signature, inputs)
                call = Call(signature.name, matching.choose_outputs(signature, output_filter), "Predict")
            except ServingError:
                servable.usage.failed += 1
                raise
            # Requests that lack inputs with defaults are completed each time, and so are not cached.
            if shape_key is not None and len(inputs) == len(signature.inputs):
                if servable.latencies[signature.name].by_shape:
                    ready = servable.prepare(signature.name, inputs, call.outputs)
                    call = call._replace(summary=summarize(servable, call, inputs), ready=ready)
                servable.cache_call(shape_key, call)
            complete = matching.complete(signature, inputs)
        run = self._scheduler.start(servable, call, complete, deadline, observation)
        return run if observation is None else observation.exchange(inputs, output_filter, run)

    async def classify(
        self,
        spec: ModelSpec | None,
        read: Callable[[], Awaitable[Array]],
        deadline: float | None = None,
        observation: Observation | None = None,
    ) -> tuple[Servable, Array | None, Array | None]:
        """The servable, labels bytes [n, k] and scores float32 [n, k]; one of the two may be None.

        read  returns the serialized tf.Examples, bytes [n]; called only after model and signature have been checked,
              so that a wrong name is refused before examples are parsed, as in TensorFlow Serving

        InvalidArgument or NotFound for a wrong model, signature or input, DeadlineExceeded after `deadline`.
        """
        servable = self.find(spec, observation)
        assert spec is not None
        signature = examples.find_signature(servable.signatures, spec.signature_name)
        self._check_method(signature, "classification", "classify")
        outputs = examples.check_classify(signature)
        serialized = await read()
        answer = await self._run_examples(servable, signature, serialized, outputs, deadline, "Classify", observation)
        classes, scores = examples.read_classes(answer, len(serialized))
        if observation is not None:
            observation.answer("classify", serialized, (classes, scores))
        return servable, classes, scores

    async def regress(
        self,
        spec: ModelSpec | None,
        read: Callable[[], Awaitable[Array]],
        deadline: float | None = None,
        observation: Observation | None = None,
    ) -> tuple[Servable, Array]:
        """The servable and a number for each tf.Example, float32 [n]; `read` and errors as for classify."""
        servable = self.find(spec, observation)
        assert spec is not None
        signature = examples.find_signature(servable.signatures, spec.signature_name)
        self._check_method(signature, "regression", "regress")
        outputs = examples.check_regress(signature)
        serialized = await read()
        answer = await self._run_examples(servable, signature, serialized, outputs, deadline, "Regress", observation)
        values = examples.read_values(answer, len(serialized))
        if observation is not None:
            observation.answer("regress", serialized, values)
        return servable, values

    async def multi_inference(
        self,
        spec: ModelSpec | None,
        tasks: Sequence[Inference],
        read: Callable[[], Awaitable[Array]],
        deadline: float | None = None,
        observation: Observation | None = None,
    ) -> tuple[Servable, list[Result]]:
        """The servable and the result of each task; `spec` is the first task's, `read` and errors as for classify."""
        servable = self.find(spec or ModelSpec(""), observation)
        chosen = multi_inference.check(servable, tasks)
        for (signature, _), task in zip(chosen, tasks, strict=True):
            if task.method == multi_inference.CLASSIFY:
                self._check_method(signature, "classification", "classify")
            else:
                self._check_method(signature, "regression", "regress")
        serialized = await read()
        # Side by side: a SavedModel of TensorFlow 2 has a graph a signature, each with an input of its own.
        answers = await asyncio.gather(
            *(
                self._run_examples(servable, signature, serialized, outputs, deadline, "MultiInference", observation)
                for signature, outputs in chosen
            )
        )
        results = [
            multi_inference.read(task, answer, len(serialized)) for task, answer in zip(tasks, answers, strict=True)
        ]
        if observation is not None:
            observation.answer("multi_inference", serialized, results, tasks)
        return servable, results

    def _check_method(self, signature: Signature, task: str, method: str) -> None:
        expected = f"tensorflow/serving/{method}"
        if self._check_method_names and signature.method_name != expected:
            raise InvalidArgument(
                f"Expected {task} signature method_name to be {expected}. Was: {signature.method_name}"
            )

    async def _run_examples(
        self,
        servable: Servable,
        signature: Signature,
        serialized: Array,
        outputs: tuple[str, ...],
        deadline: float | None,
        api: str,
        observation: Observation | None,
    ) -> Mapping[str, Array]:
        if observation is not None:
            observation.choose(servable.name, servable.version, signature.name)
        inputs = {examples.INPUTS: serialized}
        matching.check_dtypes(signature, inputs)
        return await self._scheduler.run(servable, Call(signature.name, outputs, api), inputs, deadline, observation)

    # Models

    def traffic(self, name: str) -> ModelTraffic | None:
        """How requests to a model are split and copied; None if they are not."""
        return self._configuration.traffic.get(name) if self._router is not None else None

    def version_of(self, name: str, which: str) -> int | None:
        """The version that a label of models.config or a number means; None for an unknown label."""
        return resolve(which, self._configuration.labels.get(name, {}))

    @property
    def has_traffic(self) -> bool:
        """Whether the server has splits and shadows."""
        return self._router is not None

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The status of a model's versions, highest first, or of one version; NotFound when there is none."""
        found = [VersionStatus(*status) for status in self._versions.status(name)]
        if version is not None:
            found = [status for status in found if status.version == version]
            if not found:
                raise NotFound(f"Could not find version {version} of model {name}")
        if not found:
            raise NotFound(f"Could not find any versions of model {name}")
        return found

    def models(self) -> list[str]:
        """The names of all models, in alphabetical order."""
        return sorted(self._versions.models())

    def index(self) -> list[dict[str, str]]:
        """Name, version, state and reason of every version: KServe's repository index."""
        return [
            {"name": name, "version": str(number), "state": state.name, "reason": error.message if error else ""}
            for name in self._versions.models()
            for number, state, error in self._versions.status(name)
        ]

    def is_ready(self) -> bool:
        """Whether every configured model is available; with --repository, whether each was loaded or has failed."""
        return self._configuration.is_ready()

    async def reload(self, config: Any) -> None:
        """Replaces the models by those of a ModelServerConfig; returns when every new one is available.

        ServingError when the configuration is refused or a model that it adds does not load.
        """
        await replace_models(self._configuration, self._versions, config)

    async def load_model(self, name: str, deadline: float | None = None) -> None:
        """Loads a model because a client asks for it; see `model_control.load_model`."""
        await model_control.load_model(self._configuration, self._versions, name, deadline)

    async def unload_model(self, name: str) -> None:
        """Unloads a model until a client loads it again; see `model_control.unload_model`."""
        await model_control.unload_model(self._configuration, name)
