"""A signature: a core that TensorFlow and ONNX Runtime both run, with steps before and after it.

The core holds the network with its scaling and becomes an ONNX graph. The steps do what ONNX cannot: decode bytes,
split text, look up labels, draw seeded noise. The exporter composes core and steps into one SavedModel signature. It
also writes the steps to the model card, so that a server without TensorFlow can run them in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import tensorflow as tf

Tensors = dict[str, tf.Tensor]
Specs = Mapping[str, tf.TensorSpec]


class Step(Protocol):
    """A function of named tensors, with a description from which a server repeats it without TensorFlow."""

    @property
    def inputs(self) -> Specs:
        """Specs of the tensors that it reads, by name."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors that it adds."""

    @property
    def resources(self) -> tuple[Any, ...]:
        """Lookup tables that an exported module must hold, or the step fails after loading."""

    def __call__(self, tensors: Tensors) -> Tensors:
        """Run the step and return the tensors that it adds, by name."""

    @property
    def described(self) -> dict[str, Any]:
        """Its entry in the model card: `op` and the arguments, in JSON types."""


@dataclass(frozen=True)
class Core:
    """The part of a signature that becomes an ONNX graph. Signatures can share one.

    name      stem of the ONNX file; `model` for the core of serving_default
    function  tensors by keyword -> dict of tensors; pure, batch first, any batch size
    inputs    dtype and shape of each input by name; None is a free axis
    """

    name: str
    function: Callable[..., Tensors]
    inputs: Specs

    @property
    def file(self) -> str:
        return f"{self.name}.onnx"


@dataclass(frozen=True)
class Signature:
    """A signature of the exported model: steps, then the core, then steps.

    outputs  names of the returned tensors, in order; other tensors stay internal
    method   the TensorFlow Serving API to call it with: `predict`, `classify` or `regress`
    """

    core: Core
    outputs: Sequence[str]
    before: Sequence[Step] = ()
    after: Sequence[Step] = ()
    method: Literal["predict", "classify", "regress"] = "predict"

    @cached_property
    def inputs(self) -> dict[str, tf.TensorSpec]:
        """Specs of the tensors that a request must carry: what steps and core read, unless an earlier step adds it."""
        made: set[str] = set()
        needed: dict[str, tf.TensorSpec] = {}
        for reads, adds in [(s.inputs, s.outputs) for s in self.before] + [(self.core.inputs, ())]:
            needed |= {name: spec for name, spec in reads.items() if name not in made}
            made |= set(adds)
        return needed

    def __call__(self, **inputs: tf.Tensor) -> Tensors:
        """Run a request: inputs by name -> outputs by name."""
        tensors = dict(inputs)
        for step in self.before:
            tensors |= step(tensors)
        tensors |= self.core.function(**{name: tensors[name] for name in self.core.inputs})
        for step in self.after:
            tensors |= step(tensors)
        return {name: tf.identity(tensors[name], name=name) for name in self.outputs}
