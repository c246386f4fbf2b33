"""The contract of every registered network: exported whole, and TensorFlow, ONNX Runtime, gRPC and REST agree."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import models
from clients.client import Client
from clients.wire import messages as pb
from clients.wire import tensors
from training import _servable, session

# What differs from another network in numbers alone is exported in the slow tests only.
SIBLINGS = {"densenet121", "resnet34", "vgg13", "vgg16", "vgg19", "fcn16s", "fcn32s"}
SIBLINGS |= {"denoising_autoencoder", "dropout_autoencoder"}
EVERY = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SIBLINGS else n for n in models.names()]
)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A model repository with the networks that are tested, trained at their tiny size on generated data."""
    home = tmp_path_factory.mktemp("networks")
    mine = [item for item in request.session.items if item.path == request.path]
    for name in sorted({item.callspec.params["name"] for item in mine}):  # type: ignore[attr-defined]
        overrides = dict(models.get(name).tiny)
        where = {"repository": home / "models", "runs": home / "runs"}
        session.run(name, overrides=overrides, synthetic=True, report=False, **where)
    return home / "models"


@pytest.fixture(scope="module")
def clients(zoo: Path, serve: Callable[..., Any]) -> Iterator[tuple[Client, Client]]:
    """A gRPC and a REST client of one server that serves all of them."""
    server = serve("--repository", zoo, models=[model.name for model in zoo.iterdir()])
    with Client(f"grpc://127.0.0.1:{server.grpc_port}") as grpc, Client(f"http://127.0.0.1:{server.rest_port}") as rest:
        yield grpc, rest


def requests(version: Path) -> dict[str, dict[str, np.ndarray]]:
    """The real requests that an exported version carries, one a signature."""
    import tensorflow as tf

    found: dict[str, dict[str, np.ndarray]] = {}
    for record in tf.data.TFRecordDataset(str(version / "assets.extra" / "tf_serving_warmup_requests")):
        log = pb.get("tensorflow.serving.PredictionLog").FromString(record.numpy())
        if not log.HasField("predict_log"):
            request = (log.classify_log if log.HasField("classify_log") else log.regress_log).request
            examples = [example.SerializeToString() for example in request.input.example_list.examples]
            found[request.model_spec.signature_name] = {"inputs": np.array(examples, object)}
        else:
            request = log.predict_log.request
            inputs = {name: tensors.to_array(proto) for name, proto in request.inputs.items()}
            found[request.model_spec.signature_name] = inputs
    return found


def pixels(png: bytes) -> list[list[int]]:
    return np.asarray(Image.open(io.BytesIO(png))).tolist()


def assert_same(answer: dict[str, np.ndarray], wanted: dict[str, np.ndarray], what: str) -> None:
    assert set(answer) == set(wanted), what
    for name, value in wanted.items():
        got = np.asarray(answer[name])
        assert got.shape == value.shape, f"{what}: {name}"
        if value.dtype.kind == "f":
            np.testing.assert_allclose(got, value, rtol=1e-3, atol=1e-4, err_msg=f"{what}: {name}")
        elif value.dtype == np.uint8:
            # A rounded float may fall on the other side of a level.
            assert int(np.abs(got.astype(int) - value.astype(int)).max()) <= 1, f"{what}: {name}"
        elif name == "mask_png":  # compressed by another library: the pixels count
            assert [pixels(png) for png in got] == [pixels(png) for png in value], f"{what}: {name}"
        else:
            assert got.tolist() == value.tolist(), f"{what}: {name}"


@EVERY
def test_every_signature_has_a_verified_graph_and_a_request(name: str, zoo: Path) -> None:
    card = json.loads((zoo / name / "1" / "assets.extra" / "card.json").read_text())
    assert card["data"]["synthetic"] is True
    assert set(requests(zoo / name / "1")) == set(card["signatures"])
    for signature, entry in card["signatures"].items():
        parity = card["onnx"][entry["graph"]]["parity"]
        assert parity["inputs"] >= 64, signature
        assert parity["max_abs"] <= 1e-4 or card["task"] in ("generate", "reconstruct"), signature


@EVERY
def test_tensorflow_serving_has_every_operation(name: str, zoo: Path) -> None:
    found = _servable.operations(_servable.read(zoo / name / "1"))
    assert "VarHandleOp" in found.operations
    assert found.faults == []


@EVERY
def test_tensorflow_onnx_grpc_and_rest_agree(name: str, zoo: Path, clients: tuple[Client, Client]) -> None:
    import tensorflow as tf

    saved = tf.saved_model.load(str(zoo / name / "1"))
    grpc, rest = clients
    for signature, inputs in requests(zoo / name / "1").items():
        fed = {key: tf.constant(value.tolist() if value.dtype == object else value) for key, value in inputs.items()}
        wanted = {key: value.numpy() for key, value in saved.signatures[signature](**fed).items()}
        # The embedded server runs the ONNX graph, so this is TensorFlow against ONNX Runtime too.
        assert_same(grpc.predict(name, inputs, signature=signature), wanted, f"gRPC {signature}")
        assert_same(rest.predict(name, inputs, signature=signature), wanted, f"REST {signature}")
