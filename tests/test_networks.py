"""The contract of every registered network: exported whole, and TensorFlow, ONNX Runtime, gRPC and REST agree."""

from __future__ import annotations

import io
import json
import re
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladle import command as ladle_command
from ladle.clients.library.client import Client
from ladle.clients.web import Config, create_app
from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.training.export import tfserving_check
from tests.siblings import DISTINCT

pytestmark = pytest.mark.timeout(900)
"""The first test waits until every network is trained."""

Ask = Callable[..., str]
STATIC = Path(create_app.__code__.co_filename).parent / "static"


@pytest.fixture(scope="module")
def zoo(trained_networks: Callable[..., Path], request: pytest.FixtureRequest) -> Path:
    """A model repository with the networks that are tested."""
    mine = [item for item in request.session.items if item.path == request.path]
    return trained_networks(sorted({item.callspec.params["name"] for item in mine}))  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def server(zoo: Path, serve: Callable[..., Any]) -> Any:
    """A server of all of them."""
    return serve("--repository", zoo, models=[model.name for model in zoo.iterdir()])


@pytest.fixture(scope="module")
def clients(server: Any) -> Iterator[tuple[Client, Client]]:
    """A gRPC and a REST client of that server."""
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
        elif name == "mask_png_bytes":  # compressed by another library: the pixels count
            assert [pixels(png) for png in got] == [pixels(png) for png in value], f"{what}: {name}"
        else:
            assert got.tolist() == value.tolist(), f"{what}: {name}"


@DISTINCT
def test_every_signature_has_a_verified_graph_and_a_request(name: str, zoo: Path) -> None:
    card = json.loads((zoo / name / "1" / "assets.extra" / "card.json").read_text())
    assert card["data"]["synthetic"] is True
    assert set(requests(zoo / name / "1")) == set(card["signatures"])
    for signature, entry in card["signatures"].items():
        parity = card["onnx"][entry["graph"]]["parity"]
        assert parity["inputs"] >= 64, signature
        assert parity["max_abs"] <= 1e-4 or card["task"] in ("generate", "reconstruct"), signature


@DISTINCT
def test_tensorflow_serving_has_every_operation(name: str, zoo: Path) -> None:
    found = tfserving_check.operations(tfserving_check.read(zoo / name / "1"))
    assert "VarHandleOp" in found.operations
    assert found.faults == []


@DISTINCT
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


@DISTINCT
def test_bytes_leave_every_signature_as_base64(
    name: str, zoo: Path, server: Any, clients: tuple[Client, Client]
) -> None:
    """Both servers write {"b64": ...} over REST only for outputs whose names end in `_bytes`."""
    for signature, inputs in requests(zoo / name / "1").items():
        answer = clients[0].predict(name, inputs, signature=signature)
        strings = {key: value for key, value in answer.items() if value.dtype == object}
        for key, values in strings.items():
            assert key.endswith("_bytes") or all(is_text(value) for value in values.ravel()), (signature, key)
        if any(key.endswith("_bytes") for key in strings):
            [(alias, data)] = inputs.items()
            body = {"signature_name": signature, "inputs": {alias: [{"b64": b64encode(d).decode()} for d in data]}}
            url = f"http://127.0.0.1:{server.rest_port}/v1/models/{name}:predict"
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())) as response:
                outputs = json.load(response)["outputs"]
            for key in (key for key in strings if key.endswith("_bytes")):
                written = outputs if len(answer) == 1 else outputs[key]  # TensorFlow Serving names no single output
                assert [b64decode(each["b64"]) for each in written] == strings[key].tolist()


def is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


# What people ask of each task, on the command line and on the page


@pytest.fixture
def ask(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """A `ladle` command in a folder with a colour photograph of no network's size; what it printed."""
    rows, columns = np.mgrid[:70, :90]
    Image.fromarray(np.stack([rows * 3, columns * 2, rows + columns], -1).astype(np.uint8)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LADLE_ADDRESS", f"grpc://127.0.0.1:{server.grpc_port}")

    def run(*arguments: str) -> str:
        assert ladle_command.main(arguments) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return run


def picture(file: str) -> np.ndarray:
    """The pixels of a picture that was written; it shows something."""
    found = np.asarray(Image.open(file)).astype(int)
    assert found.std() > 1, f"{file} is blank"
    return found


def classified(ask: Ask, name: str, card: dict[str, Any]) -> None:
    [answer] = json.loads(ask("classify", name, "photo.jpg", "--json"))
    assert answer["label"] in card["labels"]
    assert f"photo.jpg  {answer['label']}\n" in ask("classify", name, "photo.jpg", "--top", "1")


def judged(ask: Ask, name: str, card: dict[str, Any]) -> None:
    assert re.fullmatch(r"(positive|negative) .* \d+\.\d%  a warm film\n", ask("sentiment", name, "a warm film"))
    [answer] = json.loads(ask("neighbours", name, "film", "--json"))  # a word of the generated data
    assert len(answer["neighbours"]) == 5
    assert "film" not in [each["word"] for each in answer["neighbours"]]


def generated(ask: Ask, name: str, card: dict[str, Any]) -> None:
    assert "wrote new.png" in ask("generate", name, "-n", "4", "--seed", "3", "--output", "new.png")
    height, width = picture("new.png").shape[:2]
    assert min(height, width) > 2 * card["config"]["height"]


def reconstructed(ask: Ask, name: str, card: dict[str, Any]) -> None:
    assert "image, input, copy" in ask("reconstruct", name, "photo.jpg", "--noise", "0.3", "--output", "three.png")
    tiles = np.array_split(picture("three.png"), 3, axis=1)
    assert tiles[1].std() > tiles[0].std()  # the noise
    code = ask("encode", name, "photo.jpg").strip()
    assert len(code.split(",")) == card["config"]["latent_dim"]
    ask("decode", name, code, "--output", "image.png")
    assert picture("image.png").shape[0] >= card["config"]["height"]
    ask("interpolate", name, "photo.jpg", "photo.jpg", "--steps", "3", "--output", "way.png")
    generated(ask, name, card)


def segmented(ask: Ask, name: str, card: dict[str, Any]) -> None:
    ask("segment", name, "photo.jpg", "--output", "overlay.png", "--mask", "mask.png")
    assert picture("overlay.png").shape == (70, 90, 3)
    mask = np.asarray(Image.open("mask.png"))
    assert mask.shape == (70, 90)
    assert mask.max() < len(card["labels"])


def regressed(ask: Ask, name: str, card: dict[str, Any]) -> None:
    told = json.loads(ask("metadata", name, "--json"))
    start = ",".join(["1"] * told["signatures"]["serving_default"]["inputs"]["x"]["shape"][1])
    if "minimise" not in told["verbs"]:
        assert re.fullmatch(rf"{name}\([1, ]+\) = -?\d\S*\n", ask("regress", name, start))
        return
    said = ask("minimise", name, start, "--output", "path.png")
    assert re.match(rf"{name} falls from \S+ at \(1, 1\) to \S+ at \(\S+, \S+\) in \d+ steps\n", said)
    assert picture("path.png").shape == (640, 640, 3)


def filtered(ask: Ask, name: str, card: dict[str, Any]) -> None:
    assert "image, blur, edge, sharpen, sobel" in ask("filter", name, "photo.jpg", "--output", "five.png")
    found = picture("five.png")
    wide = (found.shape[1] + 2) // 5  # each with a gap of two pixels behind it
    tiles = [found[:, start : start + wide - 2] for start in range(0, 5 * wide, wide)]
    assert tiles[1].std() < tiles[0].std() < tiles[3].std()  # blurred, the image, sharpened


TASKS = {
    "classify": classified,
    "sentiment": judged,
    "generate": generated,
    "reconstruct": reconstructed,
    "segment": segmented,
    "regress": regressed,
    "filter": filtered,
}


@DISTINCT
def test_the_command_line_gets_a_picture_or_a_sentence_from_every_network(name: str, zoo: Path, ask: Ask) -> None:
    card = json.loads((zoo / name / "1" / "assets.extra" / "card.json").read_text())
    TASKS[card["task"]](ask, name, card)


@DISTINCT
def test_the_page_has_a_panel_for_what_every_network_does(name: str, zoo: Path, server: Any) -> None:
    config = Config(server=f"grpc://127.0.0.1:{server.grpc_port}", repository=zoo)
    found = create_app(config).test_client().get(f"/api/v1/models/{name}").json
    panels = re.findall(r"^  (\w+): \{ title", (STATIC / "views.js").read_text(), re.MULTILINE)
    assert found["state"] == "AVAILABLE"
    assert found["task"] in found["verbs"]
    assert set(found["verbs"]) <= set(panels)
    assert found["samples"] > 0 or found["task"] == "generate"
