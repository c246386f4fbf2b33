"""Checks a Predict request against the signature: TensorFlow Serving's rules, in its words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument, ResourceExhausted
from ladle.serving.servables.saved_model import Signature, type_name

MAX_STRINGS = 2**20
"""In one tensor. A string is a Python object: 64 MiB of empty ones would be 32 million."""


def check_names(signature: Signature, sent: Collection[str]) -> None:
    """InvalidArgument unless `sent` names the signature's inputs; inputs with a default may be missing."""
    expected = signature.inputs
    if len(sent) == len(expected):  # nearly every request: no sets, no sorting
        for alias in sent:
            if alias not in expected:
                break
        else:
            return
    missing = sorted(set(expected) - set(sent))
    required = [alias for alias in missing if alias not in signature.defaults]
    extra = sorted(set(sent) - set(expected))
    if not extra and not required:
        return
    if len(sent) > len(expected) or (len(sent) < len(expected) and not signature.defaults):
        raise InvalidArgument(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({{{_join(sent)}}}) != len({{{_join(expected)}}}). "
            f"Sent extra: {{{_join(extra)}}}. Missing but required: {{{_join(required)}}}."
        )
    if required:
        alias = required[0]
        raise InvalidArgument(
            f"Signature input alias: {alias}(feed name: {expected[alias].name}) not found in request and no default "
            f"value provided. Inputs expected to be in the request {{{_join(expected)}}}, or default input alias set: "
            f"{{{_join(signature.defaults)}}}"
        )
    used = sorted(set(sent) & set(expected))
    raise InvalidArgument(
        f"Inputs contains invalid name. Used request inputs: {{{_join(used)}}}, request input: {{{_join(sent)}}}"
    )


def check_dtypes(signature: Signature, inputs: Mapping[str, Array]) -> None:
    """InvalidArgument unless every input has the signature's dtype; ResourceExhausted for more than MAX_STRINGS.

    The graph itself checks shapes.
    """
    for i, (alias, info) in enumerate(signature.inputs.items()):
        array = inputs.get(alias)
        # NumPy has one object for each built-in dtype, so `is` settles nearly every comparison.
        if array is None or array.dtype is info.numpy or array.dtype == info.numpy:
            if array is not None and array.dtype.kind == "O" and array.size > MAX_STRINGS:
                raise ResourceExhausted(
                    f'input "{alias}" has {array.size} strings; at most {MAX_STRINGS} are taken; send fewer at once'
                )
            continue
        raise InvalidArgument(f"Expects arg[{i}] to be {info.type_name} but {type_name_of(array)} is provided")


def complete(signature: Signature, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """The inputs, with the signature's defaults for those that are missing."""
    return inputs if len(inputs) == len(signature.inputs) else {**signature.defaults, **inputs}


def choose_outputs(signature: Signature, output_filter: Iterable[str]) -> tuple[str, ...]:
    """The outputs to compute, in the signature's order: those in the filter, or all if it is empty.

    InvalidArgument for an unknown or repeated output.
    """
    chosen = tuple(output_filter)
    if not chosen:
        return tuple(signature.outputs)
    for i, alias in enumerate(chosen):
        if alias not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_join(signature.outputs)}}}."
            )
        if alias in chosen[:i]:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
    return tuple(alias for alias in signature.outputs if alias in chosen)


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def type_name_of(array: Array) -> str:
    """TensorFlow's name for an array's dtype, for example `float`."""
    from ladle.clients.wire import tensors

    return type_name(tensors.dtype_of(array).number)
