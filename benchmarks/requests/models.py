"""The four models under test, a request to each, and the answer that ONNX Runtime gives to it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ladle.training.store import publish

Array = np.ndarray[Any, np.dtype[Any]]

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("lenet5", "sentiment_lstm", "unet", "resnet18")
TITLES = {"lenet5": "LeNet-5", "sentiment_lstm": "LSTM", "unet": "U-Net", "resnet18": "ResNet-18"}
FREE_AXES = {"unet": 128}
"""Height and width in pixels for graphs that accept any size."""


@dataclass(frozen=True)
class Subject:
    """A model and one request to it.

    folder    the version's folder, with saved_model.pb and model.onnx
    alias     name of the input
    array     the input, one row
    expected  the float output that a correct answer contains
    """

    name: str
    folder: Path
    alias: str
    array: Array
    expected: Array

    @property
    def graph(self) -> Path:
        return self.folder / "model.onnx"


def newest(repository: Path, name: str) -> Path | None:
    """The folder of the newest version with a model.onnx; None if there is none."""
    found = [path for path in publish.versions(repository / name).values() if (path / "model.onnx").is_file()]
    return found[-1] if found else None


def collect(given: Path, cache: Path, log: Any, names: Sequence[str] = NAMES, folder: str = "models") -> Path:
    """Build a repository, cache/folder, with one version of each model and no others.

    A model is copied from `given`, or exported with untrained weights.
    """
    target = cache / folder
    shutil.rmtree(target, ignore_errors=True)
    for name in names:
        version = newest(given, name)
        if version is None:
            kept = cache / "untrained"
            version = newest(kept, name)
            if version is None:
                log(f"{name} is not in {given}; exporting it with untrained weights (speed does not depend on them)")
                command = [sys.executable, "-m", "benchmarks.requests.untrained", name, str(kept)]
                subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
                version = newest(kept, name)
                assert version is not None
            else:
                log(f"{name} is not in {given}; using the untrained copy in the cache")
        shutil.copytree(version, target / name / "1")
    return target


def subject(repository: Path, name: str, seed: int = 0) -> Subject:
    """A request of one row, pixels k/255 or word ids, and the answer to it."""
    folder = newest(repository, name)
    assert folder is not None
    session = _session(folder / "model.onnx")
    (given,) = session.get_inputs()
    size = FREE_AXES.get(name, 1)
    shape = [1, *(axis if isinstance(axis, int) else size for axis in given.shape[1:])]
    random = np.random.default_rng(seed)
    if given.type == "tensor(float)":
        # k/255, so that the same image fits in a PNG.
        array: Array = (random.integers(0, 256, shape) / 255).astype(np.float32)
    else:
        array = random.integers(1, 1000, shape).astype(np.int32)
    floats = [output.name for output in session.get_outputs() if output.type == "tensor(float)"]
    expected = session.run(["probabilities" if "probabilities" in floats else floats[0]], {given.name: array})[0]
    return Subject(name, folder, given.name, array, expected)


def _session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
