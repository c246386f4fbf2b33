"""The training benchmark: its page, its two contenders and its bound on memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine import describe
from benchmarks.training import __main__ as training
from benchmarks.training.__main__ import Round

ROOT = Path(__file__).resolve().parent.parent.parent
# Prints the memory that preparing data of CIFAR-10's size and reading one epoch adds, as a multiple of the data's size.
CIFAR = """
import pathlib
import numpy as np
import models
from ladle.training.data.dataset import Dataset, Provenance, Split
from ladle.training.data.pipeline import prepare

def peak():
    (line,) = [l for l in pathlib.Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

def part(count):
    return Split(np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8), np.zeros(count, np.int64))

def dataset(*counts):
    labels = tuple(map(str, range(10)))
    source = Provenance(name="d", source="made", origin="", licence="", sha256="", synthetic=True, notes="")
    return Dataset("d", "images", *map(part, counts), labels=labels, provenance=source)

def epoch(data):
    network = models.get("lenet5")
    ready = prepare(network, network.configured(data="d"), data)
    ready.training_batches(0).reduce(np.int64(0), lambda n, *_: n + 1)
    return ready

epoch(dataset(300, 300, 300))  # so that TensorFlow's own memory is in `before`
whole = dataset(45_000, 5_000, 10_000)
size, before = 60_000 * 32 * 32 * 3, peak()
ready = epoch(whole)
print((peak() - before) / size)
"""


def round_of(ours: float, keras: float, pipeline: float = 0.2) -> Round:
    answer = {"steps": 100, "peak_mb": 700.0, "data": "fashion_mnist"}
    return Round({**answer, "seconds": ours, "pipeline": pipeline}, {**answer, "seconds": keras})


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    rounds = [round_of(1, 2), round_of(2, 2), round_of(1, 3)]
    assert rounds[0].ratio == 2
    assert training.row("lenet5", rounds)[2:6] == ("100.0", "50.0", "2.00 ×", "20%")


def test_the_page_has_each_network_and_the_recurrent_layers() -> None:
    page = training.markdown(describe(), {"mlp": [round_of(1, 1)]}, {"sentiment_gru": {"naive": 3e-3, "ours": 3e-4}})
    assert "| `mlp` | fashion_mnist | 100.0 | 100.0 | 1.00 × | 20% | 700 | 700 |" in page
    assert "| `sentiment_gru` | 3,000 | 300 | 10.0 × |" in page


@pytest.mark.slow
def test_a_failed_measurement_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert training.main(["lenet55", "--rounds", "1", "--output", str(tmp_path / "page.md")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "did you mean lenet5" in line
    assert not (tmp_path / "page.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "vae"])
def test_both_contenders_train_the_same_examples(name: str) -> None:
    ours, keras = training.measure("ours", name, 20), training.measure("keras", name, 20)
    assert ours["steps"] == keras["steps"] == 20
    assert ours["data"] == keras["data"]
    assert min(ours["seconds"], keras["seconds"], ours["pipeline"]) > 0


@pytest.mark.slow
def test_exported_recurrent_layers_are_faster_than_the_loops_of_tf2onnx() -> None:
    seconds = training.measure("gru", "sentiment_gru", 1)
    assert seconds["naive"] / seconds["ours"] > 3


@pytest.mark.slow
def test_memory_for_data_of_the_size_of_cifar_is_bounded() -> None:
    command = [sys.executable, "-c", CIFAR]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    # One copy of the data besides the original; TensorFlow's own memory varies by a few hundredths.
    assert float(ended.stdout.split()[-1]) < 1.3
