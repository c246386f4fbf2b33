"""How long decoders take from a photograph's file to the network's input, and how far their pixels are from ours.

python -m benchmarks.decoders                         a JPEG of 500×375, as the benchmark of real requests sends
python -m benchmarks.decoders --size 2000x1500 --rounds 50

Ours is exact beside `tf.io.decode_jpeg` and `tf.image.resize`. OpenCV is measured where `opencv-python-headless` is
installed, Pillow-SIMD where it is installed in Pillow's place.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import PIL
import simplejpeg
from PIL import Image

from benchmarks import machine
from benchmarks.real.workloads import photograph
from benchmarks.requests.models import Array
from ladle.clients.wire.resizing import resize
from ladle.serving.servables.steps.images import decode_batch

SIDE = 224
"""Height and width of the network's input."""

Decoder = Callable[[bytes], Array]
"""A JPEG file -> float32 [224, 224, 3] in [0, 1]."""


def decoders() -> dict[str, Decoder]:
    """By what stands in the table. The first is the server's own."""
    found: dict[str, Decoder] = {
        "the server's: simplejpeg, resized in float32": _ours,
        f"Pillow {PIL.__version__}, resized in float32": _pillow,
        "simplejpeg, resized by Pillow at 8 bits": _at_8_bits,
        "simplejpeg decoding at a fraction, resized in float32": _at_a_fraction,
    }
    if importlib.util.find_spec("cv2") is not None:
        cv2 = importlib.import_module("cv2")

        found[f"OpenCV {cv2.__version__}, resized in float32"] = lambda data: resize(
            _opencv(cv2, data), SIDE, SIDE, 1 / 255
        )
        found["OpenCV, resized by its INTER_AREA at 8 bits"] = lambda data: (
            cv2.resize(_opencv(cv2, data), (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        )
    return found


def measure(data: bytes, rounds: int) -> list[tuple[str, float, float, float]]:
    """Of each decoder: its name, the least milliseconds of a call, and the largest and mean difference to the first.

    The decoders take turns, so that a disturbance hits all of them. Differences are in units of 1/255.
    """
    found = decoders()
    expected = next(iter(found.values()))(data)
    least = dict.fromkeys(found, float("inf"))
    for _ in range(rounds):
        for name, decode in found.items():
            start = time.perf_counter()
            decode(data)
            least[name] = min(least[name], time.perf_counter() - start)
    rows = []
    for name, decode in found.items():
        difference = np.abs(decode(data) - expected) * 255
        rows.append((name, least[name] * 1e3, float(difference.max()), float(difference.mean())))
    return rows


def _ours(data: bytes) -> Array:
    image: Array = decode_batch(np.array([data], object), "image", 3, (SIDE, SIDE))[0]
    return image


def _pillow(data: bytes) -> Array:
    with Image.open(io.BytesIO(data)) as picture:
        return resize(np.asarray(picture), SIDE, SIDE, 1 / 255)


def _at_8_bits(data: bytes) -> Array:
    picture = Image.fromarray(simplejpeg.decode_jpeg(data))
    pixels: Array = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    scaled: Array = pixels / np.float32(255)
    return scaled


def _at_a_fraction(data: bytes) -> Array:
    return resize(simplejpeg.decode_jpeg(data, min_height=SIDE, min_width=SIDE), SIDE, SIDE, 1 / 255)


def _opencv(cv2: Any, data: bytes) -> Array:
    pixels: Array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return pixels


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected width and height, such as 500x375")
    return int(width), int(height)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoders",
        description=str(__doc__).partition("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m benchmarks.decoders --size 2000x1500 --rounds 50",
    )
    parser.add_argument("--size", type=_size, default=(500, 375), metavar="WIDTHxHEIGHT", help="default: 500x375")
    parser.add_argument("--rounds", type=int, default=300, help="calls of each decoder (default: 300)")
    given = parser.parse_args(arguments)
    print(machine.in_words(machine.describe()))
    print(f"\n| JPEG {given.size[0]}×{given.size[1]} to {SIDE}×{SIDE} | ms | largest difference, 1/255 | mean |")
    print("|---|---:|---:|---:|")
    for name, ms, largest, mean in measure(photograph(*given.size), given.rounds):
        print(f"| {name} | {ms:.2f} | {largest:.3g} | {mean:.3g} |")
    if importlib.util.find_spec("cv2") is None:
        print("\nOpenCV was not measured: pip install opencv-python-headless")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
