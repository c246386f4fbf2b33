"""Errors say what is wrong with a version or a request, and reveal no path and no library."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors

REVEALING = re.compile(
    r"onnxruntime|ONNXRuntime|ORT_|protobuf|numpy|orjson|simdjson|PIL\b|site-packages|python|Traceback|\.py\b|\.cc\b|0x[0-9a-f]{6}"
)


def damage_onnx(folder: Path) -> None:
    """Replaces the graph by a file that is not one, and matches the card."""
    data = b"\x08\x07 no graph"
    (folder / "model.onnx").write_bytes(data)
    card = json.loads((folder / "assets.extra" / "card.json").read_text())
    card["onnx"]["model.onnx"]["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "assets.extra" / "card.json").write_text(json.dumps(card))


def add_warmup(record: Callable[[bytes], bytes], dtype: str, signature: str = "") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        log = pb.PredictionLog()
        log.predict_log.request.model_spec.signature_name = signature
        tensors.fill(log.predict_log.request.inputs["x"], np.ones((1, 1, 1), dtype))
        (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(record(log.SerializeToString()))

    return write


def breakers(record: Callable[[bytes], bytes]) -> dict[str, Callable[[Path], Any]]:
    return {
        "no-saved-model": lambda folder: (folder / "saved_model.pb").unlink(),
        "damaged-saved-model": lambda folder: (folder / "saved_model.pb").write_bytes(b"\xff\xff"),
        "empty-saved-model": lambda folder: (folder / "saved_model.pb").write_bytes(b""),
        "damaged-card": lambda folder: (folder / "assets.extra" / "card.json").write_text("{"),
        "other-onnx": lambda folder: (folder / "model.onnx").write_bytes(b"other"),
        "damaged-onnx": damage_onnx,
        "no-onnx": lambda folder: (folder / "model.onnx").unlink(),
        "damaged-warmup": lambda folder: (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(
            b"x" * 99
        ),
        "warmup-dtype": add_warmup(record, "int64"),
        "warmup-signature": add_warmup(record, "float32", "nope"),
    }


def test_the_status_of_a_broken_version_reveals_no_path_and_no_library(serve: Any, tiny: Any, tmp_path: Path) -> None:
    names = breakers(tiny.record)
    for name, damage in names.items():
        damage(tiny.half_plus(2).write(tmp_path / "writing" / name))
        (tmp_path / "models" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "writing" / name).rename(tmp_path / "models" / name)
    server = serve("--repository", tmp_path / "models")
    for name in names:
        server.wait_for_state(name, 1, "END")
        (entry,) = json.loads(server.get(f"/v1/models/{name}")[1])["model_version_status"]
        message = entry["status"]["error_message"]
        assert entry["status"]["error_code"] != "OK", name
        assert len(message) > 20, name
        assert str(tmp_path) not in message, name
        assert not REVEALING.search(message), (name, message)
    server.stop()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("classifier:predict", {"instances": [[[[1.0]]]]}),
        ("classifier:predict", {"signature_name": "serving_bytes", "instances": [{"b64": "AAAA"}]}),
        ("classifier:predict", {"signature_name": "serving_bytes", "instances": ["not an image"]}),
        ("classifier:predict", {"inputs": 1}),
        ("identities:predict", {"signature_name": "sum", "inputs": {"a": [1.0], "b": [1.0, 2.0, 3.0]}}),
        ("identities:predict", {"signature_name": "words", "instances": [7]}),
        ("identities:predict", {"signature_name": "words", "instances": [-1]}),
        ("identities:predict", {"signature_name": "float32", "inputs": [[[1.0]]]}),
        ("half_plus_two:classify", {"signature_name": "classify_x", "examples": [{"x": "text"}]}),
        ("half_plus_two:regress", {"signature_name": "regress_x", "examples": [{"x": []}]}),
        ("half_plus_two:predict", {"instances": [[1e309]]}),
    ],
    ids=str,
)
def test_an_input_that_the_graph_refuses_reveals_no_path_and_no_library(
    tiny_server: Any, tiny_repository: Path, path: str, body: dict[str, Any]
) -> None:
    status, answer = tiny_server.send("POST", f"/v1/models/{path}", json.dumps(body).encode())
    text = answer.decode()
    assert status in (200, 400), text
    assert str(tiny_repository) not in text
    assert status == 200 or not REVEALING.search(text), text
