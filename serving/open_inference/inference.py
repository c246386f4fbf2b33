"""ModelInfer: checks a request against a signature, runs it, and makes classifications of outputs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.clients.wire.open_inference import SIGNATURE
from ladle.serving.dataplane.core import DEFAULT_SIGNATURE, Core, ModelSpec
from ladle.serving.errors import InvalidArgument, ServingError
from ladle.serving.open_inference import datatypes
from ladle.serving.servables.saved_model import INIT_OP, Signature, TensorInfo
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.observation import Observation

_REFUSED = ("sequence_id", "sequence_start", "sequence_end", "shared_memory_region")


class Output(NamedTuple):
    """An output that a request asks for.

    classes  of the classification extension: the most probable ones, as `score:index`; 0: the tensor itself
    binary   whether its bytes follow the JSON; None: as the request says for all outputs. REST only
    """

    name: str
    classes: int = 0
    binary: bool | None = None


@functools.lru_cache(maxsize=1024)
def spec_of(name: str, version: str = "", signature: str = "") -> ModelSpec:
    """The model that a request names. A version that is no number is a version label; "" is the latest version."""
    if version.isascii() and version.isdigit():
        digits = version.lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:
            raise InvalidArgument(f"{name}: got version {version[:40]}; expected a number below 2**63, or a label")
        return ModelSpec(name, int(digits), None, signature)
    return ModelSpec(name, None, version or None, signature)


def find(core: Core, spec: ModelSpec, observation: Observation | None = None) -> tuple[Servable, Signature]:
    """The servable and the signature. Without a name it is serving_default, or the only signature.

    observation  as in `Core.find`

    InvalidArgument, NotFound or Unavailable as `Core.find`; InvalidArgument for an unknown signature.
    """
    servable = core.find(spec, observation)
    signature = servable.signatures.get(spec.signature or DEFAULT_SIGNATURE)
    if signature is not None and spec.signature != INIT_OP:
        return servable, signature
    names = [name for name in servable.signatures if name != INIT_OP]
    name = spec.signature or (DEFAULT_SIGNATURE if len(names) != 1 else names[0])
    signature = servable.signatures.get(name)
    if signature is None or name == INIT_OP:
        raise InvalidArgument(
            f'{servable.name}: got signature "{name}"; expected one of {", ".join(sorted(names))}, '
            f"in the request parameter {SIGNATURE}"
        )
    return servable, signature


def count_refusal(core: Core, spec: ModelSpec) -> None:
    """Counts a request that was refused before its model was looked up."""
    with contextlib.suppress(ServingError):
        core.find(spec).usage.failed += 1


def take_id(observation: Observation | None, request_id: str) -> None:
    """The protocol's own id is the request's id, unless it came with an `x-request-id`."""
    if observation is not None and not observation.request_id:
        observation.request_id = request_id


def check_parameters(parameters: Mapping[str, object]) -> None:
    """InvalidArgument for parameters that would change the answer and have no meaning here."""
    for name in _REFUSED:
        if parameters.get(name):
            what = "shared memory" if name.startswith("shared") else "a sequence of requests"
            raise InvalidArgument(f"got the parameter {name}; this server does not support {what}")


async def infer(
    core: Core,
    servable: Servable,
    signature: Signature,
    inputs: Mapping[str, Array],
    outputs: Sequence[Output] = (),
    deadline: float | None = None,
    shape_key: Hashable = None,
    observation: Observation | None = None,
) -> dict[str, Array]:
    """The outputs in the order in which they were asked for; all of the signature's without any.

    shape_key    as in `Core.predict`; it must hold the names, datatypes and shapes of the inputs, and the outputs
    observation  as in `Core.predict`

    InvalidArgument for inputs or outputs that do not fit the signature, and what `Core.predict` raises.
    """
    if shape_key is None or shape_key not in servable.calls:
        check(servable, signature, inputs, outputs)
    wanted = [output.name for output in outputs]
    found = await core.predict(servable, signature, inputs, wanted, deadline, shape_key, observation)
    return select(found, outputs)


def check(
    servable: Servable, signature: Signature, inputs: Mapping[str, Array], outputs: Sequence[Output] = ()
) -> None:
    """InvalidArgument for inputs or outputs that do not fit the signature."""
    try:
        _check_inputs(servable, signature, inputs)
        _check_outputs(servable, signature, outputs)
    except InvalidArgument:
        servable.usage.failed += 1
        raise


def select(found: Mapping[str, Array], outputs: Sequence[Output] = ()) -> dict[str, Array]:
    """The outputs of a run in the order in which they were asked for, or all."""
    if not outputs:
        return dict(found)
    return {
        output.name: _classify(output, found[output.name]) if output.classes else found[output.name]
        for output in outputs
    }


def _check_inputs(servable: Servable, signature: Signature, inputs: Mapping[str, Array]) -> None:
    name, expected = servable.name, signature.inputs
    for alias in inputs:
        if alias not in expected:
            raise InvalidArgument(f'{name}: got an input "{alias}"; expected {describe(expected)}')
    for alias, info in expected.items():
        array = inputs.get(alias)
        if array is None:
            if alias not in signature.defaults:
                raise InvalidArgument(f'{name}: the input "{alias}" is missing; expected {describe(expected)}')
            continue
        if array.dtype != info.numpy:
            got = datatypes.name_of(array.dtype)
            raise InvalidArgument(f'{name}: got input "{alias}" of {got}; expected {_tensor(info)}')
        if info.shape is not None and not _fits(array.shape, info.shape):
            got = f"{datatypes.name_of(array.dtype)} {list(array.shape)}"
            raise InvalidArgument(f'{name}: got input "{alias}" {got}; expected {_tensor(info)}')


def _check_outputs(servable: Servable, signature: Signature, outputs: Sequence[Output]) -> None:
    seen = set()
    for output in outputs:
        if output.name not in signature.outputs:
            raise InvalidArgument(
                f'{servable.name}: got the requested output "{output.name}"; expected {describe(signature.outputs)}'
            )
        if output.name in seen:
            raise InvalidArgument(f'{servable.name}: the output "{output.name}" is requested twice')
        seen.add(output.name)


def _fits(shape: Sequence[int], declared: Sequence[int]) -> bool:
    return len(shape) == len(declared) and all(
        size in (want, -1) or want < 0 for size, want in zip(shape, declared, strict=True)
    )


def describe(infos: Mapping[str, TensorInfo]) -> str:
    """Inputs or outputs for an error: `image FP32 [-1, 28, 28, 1]`."""
    return ", ".join(f"{alias} {_tensor(info)}" for alias, info in infos.items()) or "none"


def _tensor(info: TensorInfo) -> str:
    datatype = datatypes.name_of(info.numpy) or info.type_name
    return f"{datatype} {list(info.shape)}" if info.shape is not None else f"{datatype} of any shape"


def _classify(output: Output, scores: Array) -> Array:
    """The `classes` highest scores of each row, [n, c] -> BYTES [n, k]; of a vector, [c] -> BYTES [k]."""
    if scores.dtype.kind not in "fiu" or not scores.ndim:
        raise InvalidArgument(
            f'the output "{output.name}" has no scores to classify; ask for it without classification'
        )
    rows = scores.reshape(-1, scores.shape[-1]) if scores.ndim == 1 else scores.reshape(len(scores), -1)
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, : output.classes]
    found = np.empty(order.shape, object)
    for i, j in np.ndindex(*order.shape):
        found[i, j] = f"{float(rows[i, order[i, j]]):f}:{order[i, j]}".encode()
    return found[0] if scores.ndim == 1 else found
