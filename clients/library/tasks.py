"""The tasks that a model can do, derived from its signatures. No model is known by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ladle.clients.transport.metadata import Metadata

Json = dict[str, Any]
VERBS = (
    "classify",
    "sentiment",
    "neighbours",
    "generate",
    "segment",
    "reconstruct",
    "filter",
    "interpolate",
    "regress",
    "minimise",
)
"""Tasks that the gateway has a route for."""
CLI_VERBS = (*VERBS, "encode", "decode")
"""Tasks that the command line has a verb for."""


@dataclass(frozen=True)
class Latent:
    """The signature that draws an image from a code: its name, its input's name, and the length of a code."""

    signature: str
    input: str
    dim: int


class Signatures:
    """The signatures of a version by name, in the format of a model card: inputs and outputs with dtype and shape.

    distribution  the output of serving_default that holds a probability for each class. Signatures do not tell it: who
                  makes this object may have asked the model.
    """

    def __init__(self, signatures: Mapping[str, Any], distribution: str | None = None) -> None:
        self.described = signatures
        self.distribution = distribution

    def __contains__(self, key: str) -> bool:
        return key in self.described

    @cached_property
    def verbs(self) -> list[str]:
        """Every task of VERBS that the model can do."""
        seen = self._outputs("serving_bytes") | (self._outputs("serving_default") if self.image else set())
        if self.rows != "serving_default":
            seen |= self._outputs(self.rows)
        holds = {
            "classify": ("probabilities" in seen and "class_map" not in seen) or self.distribution is not None,
            "sentiment": "probability" in self._outputs("text"),
            "neighbours": {"neighbours", "similarity"} <= self._outputs("neighbours"),
            "generate": "images" in self._outputs("generate") or self.latent is not None,
            "segment": "class_map" in seen,
            "reconstruct": "reconstruct_bytes" in self.described or "reconstruction" in seen,
            "filter": self._filters(),
            "interpolate": self.latent is not None,
            "minimise": {"minimum", "path"} <= self._outputs("serving_default"),
        }
        found = [verb for verb, answered in holds.items() if answered]
        return found or (["regress"] if self._regresses() else [])

    @property
    def cli_verbs(self) -> list[str]:
        """Every task of CLI_VERBS that the model can do."""
        return [
            *(verb for verb in self.verbs if verb != "interpolate" or self.encodes),
            *(["encode"] if self.encodes else []),
            *(["decode"] if self.latent and self.latent.signature == "decode" else []),
        ]

    @cached_property
    def rows(self) -> str:
        """The signature that takes rows of numbers: `rows` of a model whose other inputs are columns by name."""
        inputs = list(self._inputs("rows").values())
        return "rows" if len(inputs) == 1 and _is_table(inputs[0]) else "serving_default"

    @cached_property
    def image(self) -> Json | None:
        """Height, width and channels of the model's input image, None for a free axis; None if it takes no image."""
        inputs = list(self._inputs("serving_default").values())
        shape = inputs[0].get("shape") if len(inputs) == 1 else None
        if not shape or len(shape) != 4 or not str(inputs[0].get("dtype", "")).startswith("float"):
            return None
        return dict(zip(("height", "width", "channels"), shape[1:], strict=True))

    @cached_property
    def latent(self) -> Latent | None:
        """How the model draws images from codes; None if it does not."""
        for key in ("decode", "serving_default"):
            inputs = self._inputs(key)
            if len(inputs) != 1 or not self._outputs(key) & {"image", "images"}:
                continue
            [(name, info)] = inputs.items()
            shape = list(info.get("shape") or [])
            if len(shape) == 2 and shape[1] and str(info.get("dtype")).startswith("float"):
                return Latent(key, name, int(shape[1]))
        return None

    @cached_property
    def distributions(self) -> list[str]:
        """Outputs of serving_default that may hold a probability for each class, if no other task is known.

        They are float [?, n] with n > 1, and the only input is an image or float [?, n].
        """
        if self.distribution is None and self.verbs not in ([], ["regress"]):
            return []
        inputs = list(self._inputs("serving_default").values())
        if self.image is None and not (len(inputs) == 1 and _is_table(inputs[0]) and inputs[0]["shape"][1]):
            return []
        outputs = (self.described["serving_default"].get("outputs") or {}).items()
        return [name for name, info in outputs if _is_table(info) and info["shape"][1] != 1]

    @property
    def encodes(self) -> bool:
        """Whether the model turns images into codes."""
        return "code" in self._outputs("encode") and self.image is not None

    def _filters(self) -> bool:
        """Whether serving_default answers an image with several, each named."""
        outputs = list(((self.described.get("serving_default") or {}).get("outputs") or {}).values())
        return self.image is not None and len(outputs) > 1 and all(_is_image(info) for info in outputs)

    def _regresses(self) -> bool:
        default = self.described.get(self.rows) or {}
        if len(default.get("inputs", ())) != 1 or len(default.get("outputs", ())) != 1:
            return False
        infos = [*default["inputs"].values(), *default["outputs"].values()]
        return self.image is None and all(str(info.get("dtype", "")).startswith("float") for info in infos)

    def _inputs(self, key: str) -> Mapping[str, Any]:
        return (self.described.get(key) or {}).get("inputs") or {}

    def _outputs(self, key: str) -> set[str]:
        return set((self.described.get(key) or {}).get("outputs") or ())


def _is_table(info: Mapping[str, Any]) -> bool:
    return str(info.get("dtype", "")).startswith("float") and len(info.get("shape") or ()) == 2


def _is_image(info: Mapping[str, Any]) -> bool:
    return str(info.get("dtype", "")).startswith("float") and len(info.get("shape") or ()) == 4


def of_metadata(metadata: Metadata, distribution: str | None = None) -> Signatures:
    """The signatures in a server's metadata."""
    return Signatures(
        {
            key: {
                "method": signature.method,
                "inputs": {name: {"dtype": info.dtype, "shape": info.shape} for name, info in signature.inputs.items()},
                "outputs": {
                    name: {"dtype": info.dtype, "shape": info.shape} for name, info in signature.outputs.items()
                },
            }
            for key, signature in metadata.signatures.items()
        },
        distribution,
    )
