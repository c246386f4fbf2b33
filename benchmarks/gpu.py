"""What a GPU does: training steps a second in float32, bfloat16 and with XLA; served rows a second and p99 by batch.

python -m benchmarks.gpu             measure and write docs/gpu.md; without a GPU, say what is missing and write nothing
python -m benchmarks.gpu --quick     one round, fewer batch sizes; write nothing
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.requests import load, models, payloads
from benchmarks.requests.load import LoadError, Target
from benchmarks.requests.models import ROOT
from benchmarks.servers.processes import Child, StartError, free_port
from benchmarks.throughput import check, median
from ladle.serving.servables.engines.gpu import device

TRAINED = {"resnet18": 100, "unet": 60, "sentiment_lstm": 200}
"""Networks, and the steps of the timed epoch."""
WAYS = {"float32": ("float32", ""), "bfloat16": ("mixed_bfloat16", ""), "bfloat16 with XLA": ("mixed_bfloat16", "xla")}
SERVED = {"resnet50": (224, 224, 3), "efficientnet_lite0": (224, 224, 3), "unet": (256, 256, 1)}
BATCHES = (1, 2, 4, 8, 16, 32, 64)
FLAGS = {
    "plain": (),
    "bound": ("--gpu_io_binding",),
    "two sessions": ("--gpu_sessions=2",),
    "measured convolutions": ("--gpu_convolutions=measured",),
}
"""The ways to use the GPU that are compared."""
_HEAD = """\
# On a GPU

`make bench-gpu` (`python -m benchmarks.gpu`) writes this page. Training is our loop, one process for each figure; the
second of two epochs is timed. Serving is Ladle's server with `--device=cuda:0` and eight connections over gRPC, each
request a tensor of so many rows; rows a second and the p99 of a request, by the flags of the GPU.
"""


@dataclass(frozen=True)
class Served:
    """A load of one model at one batch size, with one way to use the GPU."""

    way: str
    model: str
    rows: int
    rows_per_second: float
    p99_ms: float


def obstacles() -> list[str]:
    """What is missing for the benchmark, as sentences."""
    found = []
    if why := device.missing(0):
        found.append(f"serving: {why}")
    code = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if asked.returncode or asked.stdout.strip() in ("", "0"):
        found.append("training: TensorFlow sees no GPU; it needs NVIDIA's driver and pip install 'ladle[cuda]'")
    return found


def card() -> str:
    """The name of the GPU and the version of its driver, as nvidia-smi says; empty without it."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return ""


def training(rounds: int) -> dict[str, dict[str, float]]:
    """Steps a second by network and way: the median of the rounds, in which the ways take turns."""
    found: dict[str, dict[str, list[float]]] = {name: {way: [] for way in WAYS} for name in TRAINED}
    for _ in range(rounds):
        for name, steps in TRAINED.items():
            for way, more in WAYS.items():
                command = [sys.executable, "-m", "benchmarks.training.fitting", "ours", name, str(steps), *more]
                ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
                answer = json.loads(ended.stdout.splitlines()[-1])
                found[name][way].append(answer["steps"] / answer["seconds"])
                _log(f"  {name}, {way}: {found[name][way][-1]:.1f} steps/s")
    return {name: {way: median(rates) for way, rates in ways.items()} for name, ways in found.items()}


def serving(repository: Path, batches: Sequence[int], seconds: float) -> list[Served]:
    """Load each model at each batch size, with each way to use the GPU."""
    return [
        each
        for way, flags in FLAGS.items()
        for each in _serving(repository, batches, seconds, way, ["--device=cuda:0", *flags])
    ]


def _serving(repository: Path, batches: Sequence[int], seconds: float, way: str, flags: Sequence[str]) -> list[Served]:
    found = []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder, port = Path(scratch), free_port()
        for name in SERVED:
            shutil.copytree(repository / name, folder / "models" / name)
        command = [sys.executable, "-m", "ladle.serving", f"--repository={folder / 'models'}", f"--port={port}"]
        child = stack.enter_context(Child([*command, "--host=127.0.0.1", *flags], folder / "log", cwd=ROOT))
        for name, shape in SERVED.items():
            for rows in batches:
                image = np.random.default_rng(0).random((rows, *shape), np.float32)
                message = payloads.grpc_predict(name, "image", image)
                body = folder / f"{name}-{rows}"
                body.write_bytes(payloads.frame(message))
                child.wait_until(functools.partial(_answers, port, message), 300.0)
                target = Target(port, payloads.PREDICT, body, True)
                load.closed_loop(target, 8, 1.0)  # cuDNN chooses its convolutions for a new shape
                seen = load.closed_loop(target, 8, seconds)
                check(seen)
                found.append(Served(way, name, rows, seen.per_second * rows, seen.p99_ms))
                _log(f"  {way}: {name}, {rows} rows: {found[-1].rows_per_second:,.0f} rows/s, p99 {seen.p99_ms:.1f} ms")
    return found


def _answers(port: int, message: bytes) -> bool:
    try:
        return bool(payloads.call(port, payloads.PREDICT, message))
    except payloads.WrongAnswerError:
        return False


def markdown(gpu: str, trained: dict[str, dict[str, float]], served: Sequence[Served]) -> str:
    """The page."""
    parts = [_HEAD, f"{gpu}. {machine.in_words(machine.describe())}\n", "## Training\n"]
    rows = [[f"`{name}`", *(f"{rate:.1f}" for rate in ways.values())] for name, ways in trained.items()]
    parts += [_table(["network", *(f"{way}, steps/s" for way in WAYS)], rows), "## Serving\n"]
    by_request = {(s.model, s.rows): [x for x in served if (x.model, x.rows) == (s.model, s.rows)] for s in served}
    lines = [
        [f"`{model}`", str(rows), *(f"{s.rows_per_second:,.0f} ({s.p99_ms:.1f})" for s in found)]
        for (model, rows), found in by_request.items()
    ]
    heads = ["model", "rows a request", *(f"{way}, rows/s (p99, ms)" for way in dict.fromkeys(s.way for s in served))]
    return "\n".join([*parts, _table(heads, lines)])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (heads, ["---"] * len(heads), *rows))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the page. Exit code: 0 done or no GPU, 1 failed, 2 misused."""
    about = "Measure training and serving on a GPU."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=about)
    parser.add_argument("--quick", action="store_true", help="one round and three batch sizes; write nothing")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="trained models, if any")
    cache = Path.home() / ".cache" / "ladle" / "bench"
    parser.add_argument("--cache", type=Path, default=cache, help="folder for models (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("docs/gpu.md"), help="the page (default: %(default)s)")
    given = parser.parse_args(argv)
    lacking = [*obstacles(), *(f"load: apt-get install {package}" for package in load.missing())]
    if lacking:
        print("bench-gpu: skipped. It would need a GPU of NVIDIA's, and:")
        print("".join(f"  {sentence}\n" for sentence in lacking), end="")
        return 0
    try:
        trained = training(1 if given.quick else 3)
        repository = models.collect(given.repository, given.cache, _log, list(SERVED))
        batches, seconds = ((1, 8, 64), 1.0) if given.quick else (BATCHES, 3.0)
        served = serving(repository, batches, seconds)
    except (LoadError, StartError, payloads.WrongAnswerError, subprocess.CalledProcessError) as error:
        _log(f"bench-gpu: {getattr(error, 'stderr', None) or error}")
        return 1
    text = markdown(card(), trained, served)
    print(text)
    if not given.quick:
        given.output.write_text(text, encoding="utf-8")
    return 0


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
