"""A served function: a core that TensorFlow and ONNX both run, with steps before and after it.

The core holds the network and all its scaling, and is what becomes an ONNX graph. The steps hold what ONNX cannot:
bytes, text, labels, seeded noise. The exporter composes both into one SavedModel signature, and writes the steps to
the model card so that a server without TensorFlow takes the same ones in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import tensorflow as tf

Tensors = dict[str, tf.Tensor]
Specs = Mapping[str, tf.TensorSpec]


class Step(Protocol):
    """A function of named tensors with a description that needs no TensorFlow to be followed."""

    @property
    def inputs(self) -> Specs:
        """The tensors it reads, by name."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the tensors it adds."""

    @property
    def resources(self) -> tuple[Any, ...]:
        """What an exported module must hold for the step to work there: lookup tables."""

    def __call__(self, tensors: Tensors) -> Tensors:
        """The tensors it adds, by name."""

    def describe(self) -> dict[str, Any]:
        """Its entry in the model card: `op` and the arguments, JSON types only."""


@dataclass(frozen=True)
class Core:
    """The part of signatures that becomes an ONNX graph.

    name      `model` for the core of serving_default (file `model.onnx`), else the file's stem
    function  tensors by keyword -> dict of tensors; pure, batch first, dynamic batch
    inputs    dtype and shape of each input by name; None for a free axis
    """

    name: str
    function: Callable[..., Tensors]
    inputs: Specs

    @property
    def file(self) -> str:
        return f"{self.name}.onnx"


@dataclass(frozen=True)
class Signature:
    """A signature of the exported model: steps, the core, steps.

    outputs  the names that are answered, in order; everything else stays inside
    method   what TensorFlow Serving's API is meant for: `predict`, `classify` or `regress`
    """

    core: Core
    outputs: Sequence[str]
    before: Sequence[Step] = ()
    after: Sequence[Step] = ()
    method: Literal["predict", "classify", "regress"] = "predict"

    def inputs(self) -> dict[str, tf.TensorSpec]:
        """The tensors a request carries: what the steps and the core need and no earlier step makes."""
        made: set[str] = set()
        wanted: dict[str, tf.TensorSpec] = {}
        for reads, adds in [(s.inputs, s.outputs) for s in self.before] + [(self.core.inputs, ())]:
            wanted |= {name: spec for name, spec in reads.items() if name not in made}
            made |= set(adds)
        return wanted

    def __call__(self, **inputs: tf.Tensor) -> Tensors:
        """Answer a request: named inputs -> the named outputs."""
        tensors = dict(inputs)
        for step in self.before:
            tensors |= step(tensors)
        tensors |= self.core.function(**{name: tensors[name] for name in self.core.inputs})
        for step in self.after:
            tensors |= step(tensors)
        return {name: tf.identity(tensors[name], name=name) for name in self.outputs}
