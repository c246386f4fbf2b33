"""`ladle doctor`, with what only other rooms know: which data sets are here, and whether both engines agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ladle.clients.cli import doctor
from ladle.clients.cli.doctor import build_parser as build_parser


def main(arguments: Sequence[str]) -> int:
    """Check this machine; the exit code: 0, or 1 if something is broken."""
    return doctor.main(arguments, data=_datasets, compare=_compare_engines, device=_device, compiled=_is_compiled)


def _device() -> str:
    """What ONNX Runtime can compute on. ModuleNotFoundError: it is not installed."""
    from ladle.serving.servables.engines.gpu.device import described

    return described()


def _is_compiled() -> bool:
    """Whether the server reads and writes JSON's numbers in compiled code. ModuleNotFoundError: it is not installed."""
    from ladle.serving.rest.json import compiled

    return compiled.read_list is not None and compiled.write_list is not None


def _datasets() -> dict[str, bool]:
    """Each data set, and whether it is on this machine."""
    from ladle.training import data

    return {name: data.describe(name).present for name in data.names()}


def _compare_engines(version: Path) -> str:
    """How far TensorFlow and ONNX Runtime are apart on the inputs that a version came with, or that nothing was run.

    GraphDiffersError: too far. ValueError: it cannot be loaded or run. ModuleNotFoundError: a package is not installed.
    """
    from ladle.serving.servables.engines.compare import EnginesDifferError, compare_engines
    from ladle.training.onnx.parity import compare

    try:
        return compare_engines(version, compare)
    except EnginesDifferError as error:
        raise doctor.GraphDiffersError(str(error)) from None
