"""Converts the networks of keras.applications and measures what that takes.

    python -m tests.collection.applications                         every network; prints a line for each
    python -m tests.collection.applications ResNet50 VGG16          these
    python -m tests.collection.applications --write                 keeps the result for docs/export.md
    python -m tools.coverage_page                                   writes it there

Each network has random weights, images of 96×96 and 5 classes. It is built in one process and converted in another,
whose time and peak of memory count; the time is without TensorFlow's start. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULT = Path(__file__).with_name("applications.json")
SIZE, CLASSES = 96, 5
MOST_S = 60.0
NAMES = (
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "EfficientNetB0", "EfficientNetV2B0"),
    *("DenseNet121", "NASNetMobile", "Xception", "InceptionV3", "InceptionResNetV2", "ResNet50"),
    *("ResNet50V2", "ConvNeXtTiny", "VGG16"),
)
"""Those that convert in less than MOST_S on two idle cores."""
UNSTEADY = "EfficientNetV2S"
"""With random weights, TensorFlow's own answers jump with the last digits of the input: some of them stay on it."""
LARGE = (
    UNSTEADY,
    "ResNet152",
    "DenseNet201",
    "EfficientNetV2M",
    "NASNetLarge",
    "ConvNeXtSmall",
    "ConvNeXtBase",
    "VGG19",
)


def build(name: str, folder: Path, size: int = SIZE, seed: int = 1) -> int:
    """Export a network with random weights to a version folder; how many weights it has."""
    import keras

    keras.utils.set_random_seed(seed)
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=CLASSES)
    model.export(folder, verbose=False)
    return int(model.count_params())


def convert(folder: Path) -> dict[str, Any]:
    """Convert a version folder in this process: seconds, CPU seconds, peak bytes, differences and reasons."""
    from ladle.training.export.conversion import convert

    start, before = time.perf_counter(), time.process_time()
    result = convert(folder)
    parity = result.parity.get("serving_default", {})
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - before, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "max_abs": parity.get("max_abs"),
        "unsteady": parity.get("unsteady", 0),
        "reason": result.reasons.get("serving_default", ""),
    }


def measure(name: str, size: int = SIZE, seed: int = 1) -> dict[str, Any]:
    """Build and convert a network, each in a process of its own."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "1"
        weights = _apart(build, name, folder, size, seed)
        return {"weights": weights, **_apart(convert, folder)}


def _apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a new process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(send, function, arguments))
    child.start()
    send.close()
    result = receive.recv()
    child.join()
    return result


def _send(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(function(*arguments))
    os._exit(0)  # Python's own end frees every object of Keras, which takes longer than a conversion


def write(found: Mapping[str, Mapping[str, Any]], path: Path = RESULT) -> None:
    """Add these networks to those that the file has."""
    known = json.loads(path.read_text())["networks"] if path.is_file() else {}
    networks = {name: {**known, **found}[name] for name in (*NAMES, *LARGE) if name in {**known, **found}}
    path.write_text(json.dumps({"size": SIZE, "networks": networks}, indent=1) + "\n")


def main() -> int:
    """Measure, print, and keep the result if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks; all without any")
    parser.add_argument("--size", type=int, default=SIZE, help=f"height and width in pixels (default {SIZE})")
    parser.add_argument("--seed", type=int, default=1, help="of the random weights (default 1)")
    parser.add_argument("--write", action="store_true", help=f"add the result to {RESULT.name}")
    arguments = parser.parse_args()
    if arguments.write and (arguments.size, arguments.seed) != (SIZE, 1):
        parser.error(f"--write keeps figures of --size {SIZE} --seed 1 alone")
    failed = 0
    for name in arguments.names or (*NAMES, *LARGE):
        found = measure(name, arguments.size, arguments.seed)
        state = found["reason"] or f"agrees to {found['max_abs']:.1e}"
        failed += bool(found["reason"])
        print(
            f"{name:18} {found['weights'] / 1e6:6.1f} million weights {found['seconds']:6.1f} s "
            f"{found['cpu_seconds']:6.1f} s of CPU {found['peak_bytes'] / 1e9:5.1f} GB  {state}",
            flush=True,
        )
        if arguments.write:
            write({name: found})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
