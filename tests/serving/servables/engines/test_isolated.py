"""TensorFlow's process: what it answers, what its end does to the server, and what bounds its runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.serving.servables.engines.isolated import messages

MAKE = """
import sys, tensorflow as tf

class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(self, x):
        return {"y": x * 2.0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="x")])
    def count(self, x):  # a million turns take about a second
        turns = tf.reduce_max(x)
        return {"y": x + tf.while_loop(lambda i: i < turns, lambda i: [i + 1], [tf.constant(0, tf.int64)])[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="x")])
    def fill(self, x):  # so many MiB
        return {"y": tf.reduce_sum(tf.random.uniform([tf.reduce_max(x), 2**18]), keepdims=True)}

model = Model()
signatures = {"serving_default": model.double, "count": model.count, "fill": model.fill}
tf.saved_model.save(model, sys.argv[1], signatures=signatures)
"""
MODEL, GRAPH = "m", "half_plus_two"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "1"
    subprocess.run([sys.executable, "-c", MAKE, folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def server(serve: Any, tiny: Any, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    repository = tmp_path_factory.mktemp("repository")
    tiny.half_plus(2).write(repository / GRAPH, 1)
    shutil.copytree(made, repository / MODEL / "1")
    started = serve("--repository", repository, f"--max_run_bytes={2**27}", models=[GRAPH, MODEL])
    started.repository = repository
    return started


def tensorflows(server: Any) -> list[int]:
    """Of the process that answers and those below it, the ones that have loaded TensorFlow."""

    def below(pid: int) -> list[int]:
        files = Path(f"/proc/{pid}/task").glob("*/children")
        found = [int(each) for file in files for each in file.read_text().split()]
        return found + [lower for each in found for lower in below(each)]

    return [pid for pid in [server.pid, *below(server.pid)] if "libtensorflow" in Path(f"/proc/{pid}/maps").read_text()]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(server: Any, signature: str, x: list[float]) -> tuple[int, Any]:
    """Status and answer."""
    body = json.dumps({"signature_name": signature, "inputs": {"x": x}}).encode()
    status, answer = server.send("POST", f"/v1/models/{MODEL}:predict", body)
    return status, json.loads(answer)


def is_doubled(server: Any) -> bool:
    return ask(server, "serving_default", [1.5, 2.0]) == (200, {"outputs": [3.0, 4.0]})


def test_only_a_process_of_its_own_loads_tensorflow_and_its_crash_ends_no_server(server: Any) -> None:
    assert is_doubled(server)
    (tensorflow,) = tensorflows(server)
    answering = server.pid
    assert tensorflow != answering
    asked = [(200, {})]
    used = cpu_seconds(tensorflow)
    asking = threading.Thread(target=lambda: asked.append(ask(server, "count", [10**9])))
    asking.start()
    server.wait_for(lambda: cpu_seconds(tensorflow) > used + 0.2)
    os.kill(tensorflow, signal.SIGSEGV)
    asking.join()
    assert asked[-1] == (503, {"error": "TensorFlow's process ended while it ran this; retry later"})
    # The other engine answers at once, and TensorFlow again after a while.
    assert server.send("POST", f"/v1/models/{GRAPH}:predict", b'{"instances": [[2.0]]}')[0] == 200
    server.wait_for(lambda: is_doubled(server))
    assert server.pid == answering


@pytest.mark.slow  # TensorFlow starts twice more
def test_what_ends_the_process_twice_is_refused(server: Any) -> None:
    for _ in range(2):
        server.wait_for(lambda: is_doubled(server))
        (tensorflow,) = tensorflows(server)
        used = cpu_seconds(tensorflow)
        asked: list[Any] = []
        asking = threading.Thread(target=lambda asked=asked: asked.append(ask(server, "count", [10**9, 1, 1])))
        asking.start()
        server.wait_for(lambda pid=tensorflow, used=used: cpu_seconds(pid) > used + 0.2)
        os.kill(tensorflow, signal.SIGSEGV)
        asking.join()
        assert asked[0][0] == 503
    server.wait_for(lambda: is_doubled(server))
    status, answer = ask(server, "count", [1, 1, 1])
    assert (status, "crashed TensorFlow's process twice" in answer["error"]) == (400, True)
    assert ask(server, "count", [1, 1]) == (200, {"outputs": [2, 2]})


def test_a_run_ends_at_its_deadline(server: Any) -> None:
    server.wait_for(lambda: is_doubled(server))
    (tensorflow,) = tensorflows(server)
    request = pb.PredictRequest(model_spec={"name": MODEL, "signature_name": "count"})
    tensors.fill(request.inputs["x"], np.array([10**9]))
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as refused:
            method(request.SerializeToString(), timeout=1)
    assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED

    def is_idle() -> bool:
        used = cpu_seconds(tensorflow)
        time.sleep(0.2)
        return cpu_seconds(tensorflow) < used + 0.05

    server.wait_for(is_idle)
    assert is_doubled(server)


def test_a_run_that_needs_too_much_memory_is_refused(server: Any) -> None:
    server.wait_for(lambda: is_doubled(server))
    (tensorflow,) = tensorflows(server)
    assert ask(server, "fill", [1])[0] == 200
    status, answer = ask(server, "fill", [2**14])  # 16 GiB
    assert (status, "error" in answer) == (429, True)
    assert tensorflows(server) == [tensorflow]
    assert is_doubled(server)


def test_the_process_ends_with_the_last_version_that_needs_it(server: Any) -> None:
    server.wait_for(lambda: tensorflows(server))
    shutil.rmtree(server.repository / MODEL)
    server.wait_for(lambda: not tensorflows(server))
    assert server.send("POST", f"/v1/models/{GRAPH}:predict", b'{"instances": [[2.0]]}')[0] == 200


DTYPES = [dtype.numpy for dtype in tensors.DTYPES.values() if dtype.numpy.kind not in "OV"]
NUMBERS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, min_side=0))
)
TEXTS = arrays_of.arrays(object, arrays_of.array_shapes(min_dims=0, min_side=0), elements=st.binary(max_size=9))


@given(st.lists(st.one_of(NUMBERS, TEXTS), max_size=3))
def test_arrays_arrive_as_they_were_sent(sent: list[Any]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        messages.send(ours, {"do": "run"}, sent)
        head, received = messages.receive(theirs)
    assert head == {"do": "run"}
    for before, after in zip(sent, received, strict=True):
        assert (after.dtype, after.shape) == (before.dtype, before.shape)
        assert after.tobytes() == before.tobytes() if before.dtype != object else after.tolist() == before.tolist()


def test_bfloat16_arrives_as_it_was_sent() -> None:
    sent = np.array([1, 2, 3], "<u2").view(tensors.BFLOAT16)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        messages.send(ours, {}, [sent])
        ((received,),) = messages.receive(theirs)[1:]
    assert (received == sent).all()
