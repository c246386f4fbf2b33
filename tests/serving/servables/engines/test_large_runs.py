"""The memory of a run is bounded: batches run in parts, what does not fit is refused, and memory goes back."""

from __future__ import annotations

import base64
import gzip
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from onnx import helper
from PIL import Image

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.serving.errors import Cancelled, ResourceExhausted
from ladle.serving.runtime import cores, memory, stopping
from ladle.serving.servables.engines import kept_memory, large_runs
from ladle.serving.servables.engines.choose import LEAST_RUN_BYTES, EngineOptions, share_of_memory
from ladle.serving.servables.engines.run_memory import RunMemory
from ladle.serving.servables.loader import Loader
from ladle.serving.servables.servable import Servable
from tests.stubs import grpc_stub

MIB = 2**20
LENGTH, WORDS, WIDTH = 80, 10, 256
LAYERS, FILTERS = 24, 24


def embedding(tiny: Any) -> Any:
    """tokens int64 [b, 80] -> scores [b, 2], by way of 80 KiB a row: what a request of 47 bytes can blow up."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gather", ["words", "tokens"], ["vectors"]),
        helper.make_node("Sin", ["vectors"], ["waves"]),
        helper.make_node("ReduceMean", ["waves", "second"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "last"], ["scores"]),
    ]
    weights: dict[str, Any] = {
        "words": rng.standard_normal((WORDS, WIDTH)).astype(np.float32),
        "last": rng.standard_normal((WIDTH, 2)).astype(np.float32),
        "second": np.array([1], np.int64),
    }
    given, answer = {"tokens": ("int64", [-1, LENGTH])}, {"scores": ("float32", [-1, 2])}
    parse: dict[str, Any] = {
        "op": "parse_example",
        "input": "inputs",
        "output": "tokens",
        "feature": "tokens",
        "dtype": "int64",
    }
    examples = {"inputs": ("string", [-1])}
    first = [*nodes[:3], helper.make_node("MatMul", ["means", "one"], ["outputs"])]
    number = {"outputs": ("float32", [-1, 1])}
    graphs = {
        "model.onnx": tiny.onnx_model(nodes, given, answer, weights),
        "number.onnx": tiny.onnx_model(first, given, number, {**weights, "one": weights["last"][:, :1]}),
    }
    before = [{**parse, "shape": [LENGTH]}]
    signatures = {
        "serving_default": tiny.Signature(given, answer),
        "classify": tiny.Signature(examples, answer, before=before, method="classify"),
        "regress": tiny.Signature(examples, number, "number.onnx", before, method="regress"),
    }
    return tiny.Model(signatures, graphs)


def convolutions(tiny: Any) -> Any:
    """image [b, h, w, 1] -> y [b, h, w, 1]: 24 layers; 1024×1024 pixels take seconds and 300 MB. Also from PNG."""
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {}
    nodes, source = [helper.make_node("Transpose", ["image"], ["x0"], perm=[0, 3, 1, 2])], "x0"
    for layer in range(LAYERS):
        shape = (1 if layer == LAYERS - 1 else FILTERS, 1 if not layer else FILTERS, 3, 3)
        weights[f"w{layer}"] = (rng.standard_normal(shape) / (3 * FILTERS)).astype(np.float32)
        target = f"x{layer + 1}"
        nodes.append(helper.make_node("Conv", [source, f"w{layer}"], [target], pads=[1, 1, 1, 1]))
        source = target
    nodes.append(helper.make_node("Transpose", [source], ["y"], perm=[0, 2, 3, 1]))
    image = ("float32", [-1, -1, -1, 1])
    decode = {"op": "decode_image", "input": "png", "output": "image", "height": None, "width": None, "channels": 1}
    signatures = {
        "serving_default": tiny.Signature({"image": image}, {"y": image}),
        "bytes": tiny.Signature({"png": ("string", [-1])}, {"y": image}, before=[decode]),
    }
    return tiny.Model(signatures, {"model.onnx": tiny.onnx_model(nodes, {"image": image}, {"y": image}, weights)})


def over_the_batch(tiny: Any) -> Any:
    """y = softmax over the rows: no row can be computed without the others."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=0),
    ]
    given, answer = {"x": ("float32", [-1, 64])}, {"y": ("float32", [-1, 64])}
    weights = {"w": np.eye(64, dtype=np.float32)}
    return tiny.Model(
        {"serving_default": tiny.Signature(given, answer)},
        {"model.onnx": tiny.onnx_model(nodes, given, answer, weights)},
    )


def load(model: Any, folder: Path, max_run_bytes: int) -> Servable:
    servable = Loader(EngineOptions(max_run_bytes=max_run_bytes))("m", 1, model.write(folder))
    for engine in servable.engines.values():
        for plan in getattr(engine, "plans", {}).values():
            plan.graph.measured_memory()
    return servable


def graph_of(servable: Servable, signature: str = "serving_default") -> Any:
    return servable.engines[signature].plans[signature].graph  # type: ignore[attr-defined]


def png(height: int, width: int, level: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), level).save(file, "PNG")
    return file.getvalue()


def objects(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


# The estimate


def point(rows: int, elements: int, size: int, seconds: float = 1e-3, outputs: int = 4) -> dict[str, Any]:
    outs = {"y": rows * outputs}
    return {"rows": rows, "elements": elements, "bytes": size, "seconds": seconds, "outputs": outs}


def test_the_estimate_grows_with_the_rows_and_with_their_size() -> None:
    linear = RunMemory(10**9, [point(1, 100, 10**6 + 10**5), point(11, 100, 10**6 + 11 * 10**5)], True)
    assert linear.needed(1000, 100) == pytest.approx(1.3 * 1e8, rel=0.05)
    assert linear.needed(1000, 200) == pytest.approx(2 * 1.3 * 1e8, rel=0.05)
    points = [point(1, 100, 10**6), point(11, 100, 2 * 10**6), point(1, 200, 10**6 + 3 * 10**5)]
    square = RunMemory(10**9, points, True)  # a row of twice the length needs four times as much, as attention does
    assert square.needed(1, 10**4) == pytest.approx(1.3 * 1e5 * 10**4, rel=0.2)


def test_parts_fit_and_take_half_a_second_at_most() -> None:
    points = [point(1, 100, 10**5), point(11, 100, 11 * 10**5)]
    memory = RunMemory(10**8, points, True)
    assert 10**7 < memory.needed(memory.part_rows(10**6, 100, []), 100) <= 10**8
    slow = RunMemory(10**8, [point(1, 100, 10**5, 0.1), point(11, 100, 11 * 10**5, 1.1)], True)
    assert slow.part_rows(10**6, 100, []) == 5
    assert slow.part_rows(10**6, 10**6, []) == 0
    assert RunMemory(10**8, points, False).part_rows(10**6, 100, []) == 0
    assert RunMemory(0, points, False).part_rows(10**6, 100, []) == 10**6


def test_outputs_count_until_they_are_sent() -> None:
    points = [point(1, 100, 10**5, outputs=10**5), point(11, 100, 11 * 10**5, outputs=10**5)]
    memory = RunMemory(10**8, points, True)
    assert memory.part_rows(100, 100, ["y"]) == 100
    assert memory.part_rows(10**4, 100, ["y"]) == 0
    assert memory.part_rows(10**4, 100, []) > 0


def test_the_estimate_is_learnt_and_forgotten_again() -> None:
    memory = RunMemory(10**9, [point(1, 100, 10**5), point(11, 100, 11 * 10**5)], True)
    before, free = memory.needed(1000, 100), memory.free_elements
    memory.learn(1000, 100, 4 * before)
    assert memory.needed(1000, 100) == pytest.approx(4 * before, rel=0.01)
    assert memory.free_elements < free
    for _ in range(30):
        memory.learn(1000, 100, 0)
    assert memory.needed(1000, 100) == before


def test_the_memory_that_there_is_counts_the_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = memory.total_bytes()
    (tmp_path / "memory.max").write_text(f"{64 * MIB}\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    assert memory.total_bytes() == 64 * MIB
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.total_bytes() == machine


# Runs


def test_workers_share_the_memory_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_sharing_processes", [1])
    alone = share_of_memory()
    cores.share_cores(2)
    assert share_of_memory() == max(alone // 2, LEAST_RUN_BYTES)


def test_a_large_batch_runs_in_parts_with_the_same_answers(tiny: Any, tmp_path: Path) -> None:
    servable = load(embedding(tiny), tmp_path, 64 * MIB)
    graph = graph_of(servable)
    assert graph.memory.splits
    assert graph.memory.part_rows(3000, LENGTH, ["scores"]) < 1000
    tokens = np.random.default_rng(1).integers(0, WORDS, (3000, LENGTH))
    [whole] = graph.session.run(None, {"tokens": tokens})
    answer = servable.run("serving_default", {"tokens": tokens}, ("scores",))["scores"]
    np.testing.assert_allclose(answer, whole, rtol=1e-4, atol=1e-5)


def test_rows_that_depend_on_each_other_are_refused_and_never_cut(tiny: Any, tmp_path: Path) -> None:
    servable = load(over_the_batch(tiny), tmp_path, 64 * MIB)
    assert not graph_of(servable).memory.splits
    x = np.ones((1000, 64), np.float32)
    np.testing.assert_allclose(servable.run("serving_default", {"x": x}, ("y",))["y"], 1e-3, rtol=1e-4)
    with pytest.raises(ResourceExhausted, match=r'"x" float32 \[200000, 64\], for which the model needs about .* MiB'):
        servable.run("serving_default", {"x": np.ones((200_000, 64), np.float32)}, ("y",))


def test_a_row_that_does_not_fit_is_refused_with_what_it_needs(tiny: Any, tmp_path: Path) -> None:
    servable = load(convolutions(tiny), tmp_path, 64 * MIB)
    for inputs, signature, given in (
        ({"image": np.ones((1, 2048, 2048, 1), np.float32)}, "serving_default", r'inputs "image" float32 \[1, 2048'),
        ({"png": objects(png(2048, 2048))}, "bytes", "an image of 2048×2048 pixels"),
        ({"png": objects(*[png(2048, 2048)] * 3)}, "bytes", "3 images of 2048×2048 pixels"),
    ):
        with pytest.raises(ResourceExhausted, match=rf"got {given}.* --max_run_bytes allows 64.0 MiB; send fewer"):
            servable.run(signature, inputs, ("y",))


def test_images_are_decoded_in_parts_with_the_same_answers(tiny: Any, tmp_path: Path) -> None:
    servable = load(convolutions(tiny), tmp_path, 64 * MIB)
    images = [png(128, 128, level) for level in range(0, 240, 20)]
    decoding = servable.engines["bytes"].plans["bytes"].images.decoding  # type: ignore[attr-defined]
    count = large_runs.image_count(graph_of(servable), ["y"], decoding, objects(*images))
    assert 0 < count < len(images)
    answer = servable.run("bytes", {"png": objects(*images)}, ("y",))["y"]
    assert answer.shape == (len(images), 128, 128, 1)
    for at in (0, 1, len(images) - 1):
        alone = servable.run("bytes", {"png": objects(images[at])}, ("y",))["y"]
        np.testing.assert_allclose(answer[at : at + 1], alone, rtol=1e-4, atol=1e-6)


def test_broadcasting_counts_what_it_makes(tiny: Any, tmp_path: Path) -> None:
    servable = load(tiny.identities(), tmp_path, 64 * MIB)
    a, b = np.ones((10**5, 1), np.float32), np.ones((1, 10**5), np.float32)
    with pytest.raises(ResourceExhausted, match=r"--max_run_bytes allows 64\.0 MiB"):
        servable.run("sum", {"a": a, "b": b}, ("total",))
    assert servable.run("sum", {"a": a[:500], "b": b[:, :500]}, ("total",))["total"].shape == (500, 500)


def test_memory_goes_back_after_a_large_run_and_after_a_stopped_one(tiny: Any, tmp_path: Path) -> None:
    servable = load(embedding(tiny), tmp_path, 2**30)
    tokens = np.zeros((4000, LENGTH), np.int64)
    servable.run("serving_default", {"tokens": tokens[:10]}, ("scores",))
    memory.trim_memory()
    before = memory.resident_bytes()
    with memory.watch_memory() as watch:
        servable.run("serving_default", {"tokens": tokens}, ("scores",))
    assert watch.grown_bytes > 100 * MIB
    assert memory.resident_bytes() - before < 100 * MIB  # of other tests, too
    stop = stopping.Stop()
    stop.set()
    with stopping.stoppable(stop), pytest.raises(Cancelled):
        servable.run("serving_default", {"tokens": tokens}, ("scores",))
    assert memory.resident_bytes() - before < 100 * MIB  # of other tests, too


def test_the_memory_of_a_run_is_kept_for_the_next_one_and_goes_back_when_none_comes(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_memory, "IDLE_S", 0.5)
    servable = load(embedding(tiny), tmp_path, 2**30)
    tokens = {"tokens": np.zeros((500, LENGTH), np.int64)}
    memory.trim_memory()
    before = memory.resident_bytes()
    for _ in range(3):
        servable.run("serving_default", tokens, ("scores",))
    kept = memory.resident_bytes() - before
    assert kept > 32 * MIB
    deadline = time.monotonic() + 60
    while memory.resident_bytes() - before > kept / 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_graphs_keep_no_more_than_the_limit_together(tiny: Any, tmp_path: Path) -> None:
    gave_back: list[Any] = []
    graphs = [load(embedding(tiny), tmp_path / str(i), 2**30).engines["serving_default"]._graphs for i in range(3)]
    first, second, third = (next(iter(each.values())) for each in graphs)
    kept = kept_memory.KeptMemory(gave_back.append, limit=100)
    assert [kept.keep(first, 20), kept.keep(second, 30)] == [True, True]
    assert kept.keep(first, 10)  # it has more already
    assert not gave_back
    assert not kept.keep(third, 20)
    assert gave_back == [first, second]
    assert not kept.has(first)
    assert kept.keep(third, 20)


# A server


@pytest.fixture(scope="module", params=["native", pytest.param("grpcio", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("large")
    embedding(tiny).write(home / "embedding")
    convolutions(tiny).write(home / "convolutions")
    tiny.half_plus(2).write(home / "half_plus_two")
    names = [path.name for path in home.iterdir()]
    flags = [f"--max_run_bytes={256 * MIB}", f"--grpc_backend={request.param}", "--supervise=false"]
    return serve("--repository", home, *flags, models=names)


def peak_mib(server: Any, key: str = "VmHWM") -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return float(status.split(f"{key}:")[1].split()[0]) / 1024


ROWS = 10_000  # of 160 KiB each


def predict_tokens(stub: Any, server: Any) -> list[list[float]]:
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="embedding"))
    request.inputs["tokens"].dtype = pb.DataType.Value("DT_INT64")
    request.inputs["tokens"].int64_val.append(1)
    for size in (ROWS, LENGTH):
        request.inputs["tokens"].tensor_shape.dim.add(size=size)
    assert len(request.SerializeToString()) < 60
    answer = stub.Predict(request, timeout=60, wait_for_ready=True)
    return tensors.to_array(answer.outputs["scores"]).tolist()  # type: ignore[no-any-return]


def predict_json(stub: Any, server: Any) -> list[list[float]]:
    body = gzip.compress(json.dumps({"instances": [[1] * LENGTH] * ROWS}).encode())
    assert len(body) < 40_000
    headers = {"Content-Encoding": "gzip"}
    status, answer = server.send("POST", "/v1/models/embedding:predict", body, **headers)
    assert status == 200, answer
    return json.loads(answer)["predictions"]  # type: ignore[no-any-return]


def examples() -> Any:
    given = pb.Input()
    features = given.example_list.examples.add().features.feature
    features["tokens"].int64_list.value.extend([1] * LENGTH)
    one = given.example_list.examples[0]
    given.example_list.examples.extend([one] * (ROWS - 1))
    return given


def classify(stub: Any, server: Any) -> list[list[float]]:
    spec = pb.ModelSpec(name="embedding", signature_name="classify")
    answer = stub.Classify(pb.ClassificationRequest(model_spec=spec, input=examples()), timeout=60)
    return [[c.score for c in row.classes] for row in answer.result.classifications]


def regress(stub: Any, server: Any) -> list[list[float]]:
    spec = pb.ModelSpec(name="embedding", signature_name="regress")
    answer = stub.Regress(pb.RegressionRequest(model_spec=spec, input=examples()), timeout=60)
    return [[row.value] for row in answer.result.regressions]


def multi(stub: Any, server: Any) -> list[list[float]]:
    request = pb.MultiInferenceRequest(input=examples())
    for name in ("classify", "regress"):
        spec = pb.ModelSpec(name="embedding", signature_name=name)
        request.tasks.add(model_spec=spec, method_name=f"tensorflow/serving/{name}")
    answer = stub.MultiInference(request, timeout=60)
    return [[c.score for c in row.classes] for row in answer.results[0].classification_result.classifications]


@pytest.fixture
def stub(server: Any) -> Iterator[Any]:
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=options) as channel:
        yield grpc_stub(channel, services.PREDICTION)


def half(server: Any) -> None:
    status, body = server.send("POST", "/v1/models/half_plus_two:predict", b'{"instances": [[1.0]]}')
    assert (status, json.loads(body)) == (200, {"predictions": [[2.5]]})


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has /proc/self/status")
def test_large_batches_are_answered_within_the_limit_while_others_are(server: Any, stub: Any) -> None:
    half(server)
    before = peak_mib(server, "VmRSS")
    # The two backends differ in nothing behind the call.
    is_grpcio = "--grpc_backend=grpcio" in server.process.args
    for ask in (predict_tokens,) if is_grpcio else (predict_tokens, predict_json, classify, regress, multi):
        found: list[Any] = []
        asking = threading.Thread(target=lambda ask=ask, found=found: found.append(ask(stub, server)))
        asking.start()
        while asking.is_alive():
            half(server)
            asking.join(0.02)
        [scores] = found
        assert len(scores) == ROWS
        np.testing.assert_allclose(scores, [scores[0]] * ROWS, rtol=1e-4)
    # 1.6 GB if it ran whole. Two runs may be under way, and the requests' values in Python take some, too.
    assert peak_mib(server) - before < 800
    assert peak_mib(server, "VmRSS") - before < 300


def test_what_does_not_fit_is_refused_at_once_over_both_protocols(server: Any, stub: Any) -> None:
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="convolutions"))
    request.inputs["image"].dtype = pb.DataType.Value("DT_FLOAT")
    request.inputs["image"].float_val.append(1)
    for size in (1, 4096, 4096, 1):
        request.inputs["image"].tensor_shape.dim.add(size=size)
    used = server.cpu_seconds()
    with pytest.raises(grpc.RpcError, match=r"--max_run_bytes allows 256\.0 MiB") as refused:
        stub.Predict(request, timeout=60)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    column = {"png": {"b64": base64.b64encode(png(4096, 4096)).decode()}}
    body = json.dumps({"signature_name": "bytes", "instances": [column]}).encode()
    status, answer = server.send("POST", "/v1/models/convolutions:predict", body)
    assert status == 429
    assert "--max_run_bytes allows 256.0 MiB" in json.loads(answer)["error"]
    assert server.cpu_seconds() - used < 3


# Runs that nobody waits for

BIG = 512
SMALL = 8


def image_request(side: int, rows: int = 1) -> Any:
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="convolutions"))
    request.inputs["image"].dtype = pb.DataType.Value("DT_FLOAT")
    request.inputs["image"].float_val.append(1)
    for size in (rows, side, side, 1):
        request.inputs["image"].tensor_shape.dim.add(size=size)
    return request


class Whole(NamedTuple):
    """What the large run takes on this machine when it is left alone: of the processor, and by the clock."""

    cpu_s: float
    wall_s: float


def by_deadline(stub: Any, server: Any, whole: Whole) -> None:
    with pytest.raises(grpc.RpcError) as late:
        stub.Predict(image_request(BIG), timeout=whole.wall_s / 3)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def by_cancelling(stub: Any, server: Any, whole: Whole) -> None:
    used = server.cpu_seconds()
    call = stub.Predict.future(image_request(BIG))
    server.wait_for(lambda: server.cpu_seconds() > used + whole.cpu_s / 5)
    call.cancel()


def by_leaving(stub: Any, server: Any, whole: Whole) -> None:
    column = {"png": {"b64": base64.b64encode(png(BIG, BIG)).decode()}}
    body = json.dumps({"signature_name": "bytes", "instances": [column]}).encode()
    head = f"POST /v1/models/convolutions:predict HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
    used = server.cpu_seconds()
    with socket.create_connection(("127.0.0.1", server.rest_port)) as client:
        client.sendall(head.encode() + body)
        server.wait_for(lambda: server.cpu_seconds() > used + whole.cpu_s / 5)


def is_idle(server: Any) -> bool:
    before = server.cpu_seconds()
    time.sleep(0.5)
    return bool(server.cpu_seconds() - before < 0.1)


@pytest.fixture(scope="module")
def whole(server: Any) -> Whole:
    """The second run of two: the first one waits for the server's start, and is slower."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", [("grpc.max_receive_message_length", -1)]) as channel:
        predict = grpc_stub(channel, services.PREDICTION).Predict
        predict(image_request(BIG), timeout=60, wait_for_ready=True)
        used, start = server.cpu_seconds(), time.monotonic()
        predict(image_request(BIG), timeout=60)
        return Whole(server.cpu_seconds() - used, time.monotonic() - start)


@pytest.mark.parametrize("leave", [by_deadline, by_cancelling, by_leaving])
def test_a_run_ends_when_nobody_waits_for_it(server: Any, stub: Any, whole: Whole, leave: Any) -> None:
    used = server.cpu_seconds()
    leave(stub, server, whole)
    server.wait_for(lambda: is_idle(server))
    assert server.cpu_seconds() - used < 0.8 * whole.cpu_s


def test_short_runs_do_not_wait_for_long_ones(server: Any, stub: Any, whole: Whole) -> None:
    stub.Predict(image_request(SMALL), timeout=60)
    used, calls = server.cpu_seconds(), [stub.Predict.future(image_request(BIG, rows=8)) for _ in range(3)]
    server.wait_for(lambda: server.cpu_seconds() > used + whole.cpu_s / 5)
    for _ in range(3):
        stub.Predict(image_request(SMALL), timeout=60)
    assert not any(call.done() for call in calls)
    for call in calls:
        call.cancel()
    server.wait_for(lambda: is_idle(server))
