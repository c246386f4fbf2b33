"""The kinds of request: what is sent, where to, what the graph gets, and what a rival gets in its place."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.requests import payloads, v2
from benchmarks.requests.load import BINARY, Target
from benchmarks.requests.models import Array
from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors

NAMES = ("lenet5", "sentiment_lstm", "unet", "wgan_gp", "efficientnet_lite0")
MEANS = "means"
"""A model of no work for one large image: `large` makes it."""
LARGE = "float 1024×1024×3, JSON, to a graph of means"
"""The title of its workload. The engine does almost nothing, so rivals are its measure and not the limit."""
MODELS = 8
"""Copies of LeNet-5 that a request draws among: the n-th most frequent has weight 1/n (Zipf)."""
TEXT = (
    "I went in expecting very little, and for the first half hour the film seemed to agree with me. Then the sister "
    "arrives, and everything that had looked like clumsy writing turns out to be patience. A warm, funny and strange "
    "picture, and the best thing that its director has made in years."
)
_LSTM = "sentiment_lstm"
_NET = "efficientnet_lite0"
_BY_WORKERS = {
    *("jpeg-rest", "jpeg-grpc", "floats-rest", "floats-grpc", "floats-v2", "rows-rest", "rows-grpc"),
    *("text-rest", "text-grpc", "mask-grpc", "pictures-grpc"),
}


@dataclass(frozen=True)
class Ports:
    """Where the servers listen. shared: gRPC and REST of the one with a worker for each core."""

    grpc: int
    rest: int
    shared: tuple[int, int]
    tls: int
    gateway: int
    socket: str


@dataclass(frozen=True)
class Rivals:
    """What the rivals get for a workload. Workloads of the same Rivals are measured in turns, the rivals with them.

    form    what `rivals/graph.py` makes of the body before the run
    body    the request of the rivals with a handler of ours
    raw     the body is no JSON: only mosec and Ray Serve hand it to a handler as it is
    v2      the request of MLServer and Triton; empty: they answer none of this kind
    grpc    theirs is sent over gRPC
    models  names of their models; a request goes to one of them, the n-th with weight 1/n
    binary  a V2 request with binary tensors, and the length of its JSON head: Triton is asked with it, too
    """

    form: str = ""
    body: bytes = b""
    raw: bool = False
    v2: bytes = b""
    grpc: bool = False
    models: tuple[str, ...] = ()
    binary: tuple[bytes, int] = (b"", 0)


@dataclass(frozen=True)
class Workload:
    """One kind of request.

    key          its name on the command line
    title        its name in the table
    model        the model whose graph is the limit
    inputs       the graph's inputs, decoded: what the limit runs
    target       (ports of the server, of its gateway; body file) -> where the request goes
    body         the request
    grpc         whether it is sent over HTTP/2
    connections  of the larger load
    outputs      the graph's outputs that the answer needs, which are all that the server computes; empty: all
    """

    key: str
    title: str
    model: str
    inputs: Mapping[str, Array]
    body: bytes
    target: Callable[[Ports, Path], Target]
    rivals: Rivals
    grpc: bool = False
    connections: int = 16
    outputs: tuple[str, ...] = ()


def photograph(width: int = 500, height: int = 375) -> bytes:
    """A JPEG with the frequencies of a photograph: random shapes, blurred, and a little grain."""
    from PIL import Image, ImageFilter

    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    blurred = coarse.filter(ImageFilter.GaussianBlur(2))
    grain = random.normal(0, 6, (height, width, 3))
    pixels = np.clip(np.asarray(blurred, np.float64) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=88)
    return file.getvalue()


def workloads() -> list[Workload]:
    """All of them, in the order of the table."""
    found = [*_photographs(), *_tensors(), *_texts_and_pictures(), *_small()]
    return [each for one in found for each in ([one, _by_workers(one)] if one.key in _BY_WORKERS else [one])]


def _by_workers(workload: Workload) -> Workload:
    """The same request to the server with a worker for each core: as many as the rivals have."""

    def target(ports: Ports, body: Path) -> Target:
        grpc, rest = ports.shared
        return workload.target(replace(ports, grpc=grpc, rest=rest), body)

    title = f"{workload.title}, a worker for each core"
    return replace(workload, key=f"{workload.key}-workers", title=title, target=target)


def _photographs() -> list[Workload]:
    random = np.random.default_rng(0)
    inputs = {"image": _random_image(random, 1, 224, 224, 3)}  # of the limit: the time does not depend on the numbers
    jpeg = photograph()
    encoded = {"b64": base64.b64encode(jpeg).decode()}
    b64 = json.dumps({"signature_name": "serving_bytes", "instances": [encoded]}).encode()
    by_bytes = _predict(_NET, [jpeg], "image_bytes", "serving_bytes")
    form, kind = _multipart(jpeg)
    in_json, as_it_is = Rivals("image", b64), Rivals("jpeg", jpeg, raw=True)
    return [
        Workload("jpeg-rest", "JPEG 500×375, base64 in JSON", _NET, inputs, b64, _rest(_NET), in_json),
        Workload("jpeg-grpc", "JPEG 500×375, gRPC", _NET, inputs, by_bytes, _grpc(), as_it_is, True),
        Workload(
            "jpeg-gateway", "JPEG 500×375, form to the gateway", _NET, inputs, form, _gateway(_NET, kind), as_it_is
        ),
    ]


def _tensors() -> list[Workload]:
    random = np.random.default_rng(0)
    image = _random_image(random, 1, 224, 224, 3)
    rows = _random_image(random, 64, 28, 28, 1)
    photo, digits = {"image": image}, {"image": rows}
    binary, head = payloads.v2_binary("image", image)
    numbers, many = payloads.rest_predict(image), payloads.rest_predict(rows)
    message, batch = (payloads.grpc_predict(name, "image", x) for name, x in ((_NET, image), ("lenet5", rows)))
    large = _random_image(random, 1, 1024, 1024, 3)
    huge = payloads.rest_predict(large)
    in_json = Rivals("", numbers, v2=payloads.v2_json("image", image), models=(_NET,))
    as_it_is = Rivals(
        "raw", image.tobytes(), True, v2.request(_NET, "image", image), True, (_NET,), binary=(binary, head)
    )
    rows_json = Rivals("", many, v2=payloads.v2_json("image", rows), models=("lenet5",))
    rows_raw = Rivals(
        "raw",
        rows.tobytes(),
        True,
        v2.request("lenet5", "image", rows),
        True,
        ("lenet5",),
        binary=payloads.v2_binary("image", rows),
    )
    huge_json = Rivals("", huge, v2=payloads.v2_json("image", large), models=(MEANS,))
    v2_target = _v2(_NET, head)
    return [
        Workload("floats-rest", "float 224×224×3, JSON", _NET, photo, numbers, _rest(_NET), in_json),
        Workload("floats-grpc", "float 224×224×3, gRPC", _NET, photo, message, _grpc(), as_it_is, True),
        Workload("floats-v2", "float 224×224×3, V2 binary", _NET, photo, binary, v2_target, as_it_is),
        Workload(
            "large-rest",
            LARGE,
            MEANS,
            {"image": large},
            huge,
            _rest(MEANS),
            huge_json,
            connections=2,
        ),
        Workload("rows-rest", "64 rows to LeNet-5, JSON", "lenet5", digits, many, _rest("lenet5"), rows_json),
        Workload("rows-grpc", "64 rows to LeNet-5, gRPC", "lenet5", digits, batch, _grpc(), rows_raw, True),
    ]


def _texts_and_pictures() -> list[Workload]:
    random = np.random.default_rng(0)
    tokens = {"tokens": random.integers(1, 1000, (1, 80)).astype(np.int32)}
    cells = _random_image(random, 1, 256, 256, 1)
    noise = {"z": random.standard_normal((32, 100)).astype(np.float32)}
    text = json.dumps({"signature_name": "text", "instances": [TEXT]}).encode()
    words = _predict(_LSTM, [TEXT.encode()], "text", "text")
    png = payloads.png(cells[0, ..., 0])
    outlined = _predict("unet", [png], "image_bytes", "serving_bytes", ("mask_png_bytes",))
    in_json, as_mask = Rivals("text", text), Rivals("mask", png, raw=True)
    as_numbers = Rivals("seed", b'{"n": 32, "seed": 7}', raw=True)
    mask, drawn = "PNG 256×256 to U-Net, mask as PNG, gRPC", "32 pictures of WGAN-GP from a seed, gRPC"
    # The graphs have more outputs, which other signatures or requests answer.
    verdict, masked, made = ("class_id", "logits", "probability"), ("class_map",), ("images",)
    by_json, by_message = "53 words to the LSTM, JSON", "53 words to the LSTM, gRPC"
    return [
        Workload("text-rest", by_json, _LSTM, tokens, text, _rest(_LSTM), in_json, outputs=verdict),
        Workload("text-grpc", by_message, _LSTM, tokens, words, _grpc(), in_json, True, outputs=verdict),
        Workload("mask-grpc", mask, "unet", {"image": cells}, outlined, _grpc(), as_mask, True, outputs=masked),
        Workload("pictures-grpc", drawn, "wgan_gp", noise, _pictures(), _grpc(), as_numbers, True, outputs=made),
    ]


def _small() -> list[Workload]:
    """LeNet-5 in other ways than over one TCP connection to one model."""
    image = _random_image(np.random.default_rng(0), 1, 28, 28, 1)
    one, message = {"image": image}, payloads.grpc_predict("lenet5", "image", image)
    body, v2_body = payloads.rest_predict(image), payloads.v2_json("image", image)
    copies = tuple(copy_name(n) for n in range(1, MODELS + 1))
    in_json = Rivals(v2=v2_body, models=copies)
    # MLServer has neither; over TCP without encryption it has less to do.
    plain = Rivals(v2=v2.request("lenet5", "image", image), grpc=True, models=("lenet5",))
    over_tls, over_socket = _grpc(tls=True), _grpc(socket=True)
    return [
        Workload("mixed-rest", f"LeNet-5, {MODELS} models by Zipf, JSON", "lenet5", one, body, _mixed(), in_json),
        Workload("tls-grpc", "LeNet-5 over TLS, gRPC", "lenet5", one, message, over_tls, plain, True),
        Workload("socket-grpc", "LeNet-5 over a UNIX socket, gRPC", "lenet5", one, message, over_socket, plain, True),
    ]


def _random_image(random: np.random.Generator, *shape: int) -> Array:
    """Pixels k/255, so that the same image fits in a PNG."""
    found: Array = (random.integers(0, 256, shape) / 255).astype(np.float32)
    return found


def zipf(paths: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The paths with their weights."""
    return tuple((each, 1 / n) for n, each in enumerate(paths, 1))


def _rest(model: str) -> Callable[[Ports, Path], Target]:
    return lambda ports, body: Target(ports.rest, f"/v1/models/{model}:predict", body, False)


def _grpc(tls: bool = False, socket: bool = False) -> Callable[[Ports, Path], Target]:
    def target(ports: Ports, body: Path) -> Target:
        port = ports.tls if tls else ports.grpc
        return Target(port, payloads.PREDICT, body, True, tls=tls, socket=ports.socket if socket else "")

    return target


def _v2(model: str, head: int) -> Callable[[Ports, Path], Target]:
    header, path = payloads.binary_header(head), f"/v2/models/{model}/infer"
    return lambda ports, body: Target(ports.rest, path, body, False, BINARY, header)


def _gateway(model: str, kind: str) -> Callable[[Ports, Path], Target]:
    return lambda ports, body: Target(ports.gateway, f"/api/v1/models/{model}:classify", body, False, kind)


def _mixed() -> Callable[[Ports, Path], Target]:
    paths = zipf([f"/v1/models/{copy_name(n)}:predict" for n in range(1, MODELS + 1)])
    return lambda ports, body: Target(ports.rest, paths[0][0], body, False, mixed=paths)


def copy_name(number: int) -> str:
    """The name of a copy of LeNet-5."""
    return f"lenet5_copy{number}"


def _predict(model: str, values: Sequence[bytes], alias: str, signature: str, outputs: Sequence[str] = ()) -> bytes:
    request = pb.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    tensors.fill(request.inputs[alias], np.array(values, object), True)
    request.output_filter.extend(outputs)
    data: bytes = request.SerializeToString()
    return data


def _pictures() -> bytes:
    request = pb.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "wgan_gp", "generate"
    tensors.fill(request.inputs["n"], np.array(32, np.int32), True)
    tensors.fill(request.inputs["seed"], np.array(7, np.int64), True)
    data: bytes = request.SerializeToString()
    return data


def _multipart(jpeg: bytes) -> tuple[bytes, str]:
    """A form with one file, and its content type."""
    line = "ladle-benchmark"
    head = f'--{line}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
    head += "Content-Type: image/jpeg\r\n\r\n"
    return head.encode() + jpeg + f"\r\n--{line}--\r\n".encode(), f"multipart/form-data; boundary={line}"
