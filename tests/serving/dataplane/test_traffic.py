"""Splits and shadows on real servers: over each protocol, with workers, and while the traffic file changes."""

from __future__ import annotations

import collections
import http.client
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from onnx import helper

from ladle.clients.cli.__main__ import main
from ladle.clients.library.client import Client
from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.serving.dataplane.routing import pick, point
from ladle.serving.dataplane.shadow import _apart
from ladle.serving.repository.traffic import Arm
from tests.stubs import grpc_stub
from tests.tiny_models import Model, Signature, half_plus, looping, onnx_model

CONFIG = """
model_config_list {{
  config {{
    name: "half" base_path: "{base}" model_platform: "tensorflow" model_version_policy {{ all {{}} }}
    version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }}
  }}
  config {{ name: "quick" base_path: "{quick}" model_platform: "tensorflow" }}
  config {{ name: "slow" base_path: "{slow}" model_platform: "tensorflow" }}
}}
"""
X = np.array([[1.0]], np.float32)
ROW = b'{"instances": [[1.0]]}'
V2 = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}
VERSIONS = {2.5: 1, 3.5: 2}  # by the answer to 1


def write(folder: Path, document: Any) -> None:
    """Replaces the traffic file as editors and deployments do: at once."""
    draft = folder / ".traffic.json"
    draft.write_text(document if isinstance(document, str) else json.dumps(document))
    draft.rename(folder / "traffic.json")


@pytest.fixture
def routed(serve: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Starts a server of `half`, with version 1 (x/2 + 2, stable) and 2 (x/2 + 3, canary), and a traffic file."""
    half_plus(2).write(tmp_path / "half", 1)
    half_plus(3).write(tmp_path / "half", 2)
    identity().write(tmp_path / "quick", 1)
    looping().write(tmp_path / "slow", 1)
    places = {"base": tmp_path / "half", "quick": tmp_path / "quick", "slow": tmp_path / "slow"}
    (tmp_path / "models.config").write_text(CONFIG.format(**places))

    def start(traffic: Any, *given: str) -> Any:
        write(tmp_path, traffic)
        where = (
            f"--model_config_file={tmp_path / 'models.config'}",
            f"--traffic_config_file={tmp_path / 'traffic.json'}",
        )
        more = "--allow_version_labels_for_unavailable_models", "--traffic_config_file_poll_wait_seconds=0.05"
        server = serve(*where, *more, "--enable_metrics", *given, models=["half", "quick", "slow"])
        server.wait_for(lambda: set(server.states("half").values()) == {"AVAILABLE"})  # both versions
        return server

    return start


def identity() -> Model:
    """What `looping` answers, without its loop."""
    given, answer = {"x": ("int64", [-1])}, {"y": ("int64", [-1])}
    graph = onnx_model([helper.make_node("Identity", ["x"], ["y"])], given, answer)
    return Model({"serving_default": Signature(given, answer)}, {"model.onnx": graph})


def counts(server: Any, metric: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by these labels; others are summed up."""
    text = server.get("/monitoring/prometheus/metrics")[1].decode()
    found: dict[tuple[str, ...], float] = collections.Counter()
    for line in re.findall(rf"^:ladle:serving:{metric}{{(.*)}} (\S+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="([^"]*)"', line[0]))
        found[tuple(named[label] for label in labels)] += float(line[1])
    return dict(found)


class Askers:
    """The version that answers a request, over each protocol."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        self.prediction = grpc_stub(self.channel, services.PREDICTION)
        self.inference = grpc_stub(self.channel, services.INFERENCE)
        self.ways = self.rest, self.grpc, self.rest_v2, self.grpc_v2, self.regress, self.classify, self.multi

    def rest(self, request_id: str = "", which: str = "", model: str = "half") -> int:
        path = f"/v1/models/{model}" + (f"/labels/{which}" if which else "")
        status, body = self.server.send("POST", f"{path}:predict", ROW, **self._headers(request_id))
        assert status == 200, body
        return VERSIONS[json.loads(body)["predictions"][0][0]]

    def grpc(self, request_id: str = "", which: str = "") -> int:
        request = pb.PredictRequest(model_spec=pb.ModelSpec(name="half", version_label=which or None))
        tensors.fill(request.inputs["x"], X)
        answer = self.prediction.Predict(request, timeout=60, metadata=list(self._headers(request_id).items()))
        version = VERSIONS[tensors.to_array(answer.outputs["y"])[0, 0]]
        assert answer.model_spec.version.value == version
        return version

    def rest_v2(self, request_id: str = "", which: str = "") -> int:
        path = "/v2/models/half" + (f"/versions/{which}" if which else "")
        body = json.dumps({**V2, **({"id": request_id} if request_id else {})})  # the protocol's own id
        status, answer = self.server.send("POST", f"{path}/infer", body.encode())
        assert status == 200, answer
        return int(json.loads(answer)["model_version"])

    def grpc_v2(self, request_id: str = "", which: str = "") -> int:
        request = pb.ModelInferRequest(model_name="half", model_version=which, id=request_id)
        entry = request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
        entry.contents.fp32_contents.append(1.0)
        return int(self.inference.ModelInfer(request, timeout=60).model_version)

    def regress(self, request_id: str = "", which: str = "") -> int:
        path = "/v1/models/half" + (f"/labels/{which}" if which else "")
        body = b'{"signature_name": "regress_x", "examples": [{"x": 1.0}]}'
        status, answer = self.server.send("POST", f"{path}:regress", body, **self._headers(request_id))
        assert status == 200, answer
        return VERSIONS[json.loads(answer)["results"][0]]

    def classify(self, request_id: str = "", which: str = "") -> int:
        request = pb.ClassificationRequest(input=self._example())
        request.model_spec.name, request.model_spec.signature_name = "half", "classify_x"
        request.model_spec.version_label = which
        if not which:
            request.model_spec.ClearField("version_label")
        answer = self.prediction.Classify(request, timeout=60, metadata=list(self._headers(request_id).items()))
        return VERSIONS[answer.result.classifications[0].classes[0].score]

    def multi(self, request_id: str = "", which: str = "") -> int:
        request = pb.MultiInferenceRequest(input=self._example())
        task = request.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.name, task.model_spec.signature_name = "half", "regress_x"
        if which:
            task.model_spec.version_label = which
        answer = self.prediction.MultiInference(request, timeout=60, metadata=list(self._headers(request_id).items()))
        return VERSIONS[answer.results[0].regression_result.regressions[0].value]

    def _example(self) -> Any:
        given = pb.Input()
        given.example_list.examples.add().features.feature["x"].float_list.value.append(1.0)
        return given

    def _headers(self, request_id: str) -> dict[str, str]:
        return {"x-request-id": request_id} if request_id else {}


@pytest.fixture
def askers() -> Iterator[Callable[[Any], Askers]]:
    made: list[Askers] = []

    def make(server: Any) -> Askers:
        made.append(Askers(server))
        return made[-1]

    yield make
    for each in made:
        each.channel.close()


def test_points_are_even_and_a_caller_stays_with_the_arm_that_grows() -> None:
    ids = [f"user-{i}" for i in range(4000)]

    def canaries(percent: float) -> set[str]:
        arms = Arm("stable", 100 - percent), Arm("canary", percent)
        return {each for each in ids if pick(arms, point("half", each)).name == "canary"}

    found = {percent: canaries(percent) for percent in (0, 5, 50, 100)}
    assert not found[0]
    assert 0.04 < len(found[5]) / len(ids) < 0.06
    assert 0.47 < len(found[50]) / len(ids) < 0.53
    assert found[5] < found[50] < found[100] == set(ids)
    assert {point("half", "a"), point("other", "a")} == {point("half", "a"), point("other", "a")}
    assert point("half", "a") != point("other", "a")
    assert 0.4 < sum(point("half", "") < 50 for _ in range(1000)) / 1000 < 0.6  # by chance without an id


@pytest.mark.parametrize("given", [["--workers=2"], ["--grpc_backend=grpcio"]], ids=["workers", "grpcio"])
def test_a_split_gives_the_same_id_the_same_version_over_every_protocol(
    routed: Callable[..., Any], askers: Callable[[Any], Askers], given: list[str]
) -> None:
    split = {"default": {"stable": 50, "canary": 50}, "mostly": {"canary": 100, "stable": 0}}
    server = routed({"half": {"split": split}}, *given)
    ask = askers(server)
    answered = {}
    for i in range(12):
        versions = {way(f"user-{i}") for way in ask.ways}
        assert len(versions) == 1, i
        answered[i] = versions.pop()
    assert set(answered.values()) == {1, 2}
    assert {ask.rest() for _ in range(60)} == {1, 2}  # without an id, by chance
    for way in ask.ways:
        assert way("user-0", "canary") == way("user-1", "canary") == 2  # whoever names a version gets it
        assert way("user-0", "mostly") == way("user-1", "mostly") == 2
        assert way("user-0", "default") == answered[0]
    asked = 12 * len(ask.ways) + 60 + len(ask.ways)
    server.wait_for(lambda: sum(counts(server, "split_request_count", "split").values()) == asked + 2 * len(ask.ways))
    by_arm = counts(server, "split_request_count", "model_name", "split", "arm", "version", "status")
    assert by_arm["half", "mostly", "canary", "2", "OK"] == 2 * len(ask.ways)
    assert set(by_arm) == {
        ("half", "mostly", "canary", "2", "OK"),
        ("half", "default", "stable", "1", "OK"),
        ("half", "default", "canary", "2", "OK"),
    }
    assert counts(server, "split_request_latency_count", "split")["mostly",] == 2 * len(ask.ways)


def test_a_request_that_fails_counts_for_its_arm(routed: Callable[..., Any]) -> None:
    server = routed({"half": {"split": {"default": {"stable": 100}}}}, "--access_log", "--log_format=json")
    assert server.send("POST", "/v1/models/half:predict", b'{"instances": ["no"]}')[0] == 400
    assert server.send("POST", "/v1/models/half/labels/none:predict", ROW)[0] == 400
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if '"message": "request"' in line]
    assert [line.get("arm") for line in lines if line["method"] == "predict"] == ["stable", None]
    assert counts(server, "split_request_count", "arm", "status") == {("stable", "INVALID_ARGUMENT"): 1}


def test_a_shadow_is_asked_and_compared_over_every_protocol(
    routed: Callable[..., Any], askers: Callable[[Any], Askers], capsys: pytest.CaptureFixture[str]
) -> None:
    server = routed({"half": {"split": {"default": {"stable": 100}}, "shadow": "half/canary"}}, "--workers=2")
    ask = askers(server)
    assert {way() for way in ask.ways} == {1}  # its answers are never returned
    compared = {("different",): len(ask.ways)}
    server.wait_for(lambda: counts(server, "shadow_count", "result") == compared)
    labels = "model_name", "version", "shadow", "shadow_version"
    assert set(counts(server, "shadow_count", *labels)) == {("half", "1", "half/canary", "2")}
    outputs = counts(server, "shadow_output_count", "output", "result")
    assert outputs == {
        ("y", "different"): 4,
        ("outputs", "different"): 1,
        ("scores", "different"): 1,
        ("regress_x/outputs", "different"): 1,
    }
    gaps = counts(server, "shadow_largest_difference", "shadow_version")
    assert gaps == {("2",): 4.0}  # of each of the four outputs 1.0
    assert counts(server, "shadow_runtime_latency_count", "run") == {("answer",): 7, ("shadow",): 7}
    assert (
        ask.rest(which="canary") == ask.grpc(which="canary") == 2
    )  # answered by the shadow itself: nothing to compare
    assert counts(server, "shadow_count", "result") == compared

    told = {}
    for scheme, port in (("grpc", server.grpc_port), ("http", server.rest_port)):
        for target in (f"{scheme}://127.0.0.1:{port}", f"oip+{scheme}://127.0.0.1:{port}"):
            with Client(target) as client:
                told[target] = client.traffic(["half", "quick", "absent"])
    first, *others = told.values()
    assert others == [first] * 3
    assert list(first) == ["half"]
    (arm,), shadow = first["half"]["split"]["default"], first["half"]["shadow"]
    assert {key: arm[key] for key in ("arm", "version", "percent", "requests", "errors")} == {
        "arm": "stable", "version": 1, "percent": 100.0, "requests": 7, "errors": 0,
    }  # fmt: skip
    assert [shadow[key] for key in ("to", "version", "same", "different", "failed", "dropped")] == [
        "half/canary", 2, 0, 7, 0, 0,
    ]  # fmt: skip
    assert [row["largest_difference"] for row in shadow["outputs"]] == [1.0] * 4

    assert main(["status", "half", "--server", f"grpc://127.0.0.1:{server.grpc_port}"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"half +default +stable +1 +100 % +7 +0", shown)
    assert re.search(r"half +half/canary +2 +100 % +0 +7 +0 +0 +\S", shown)
    assert re.search(r"half +half/canary +y +0 +4 +1\n", shown)


def test_a_tolerance_makes_near_answers_the_same_and_a_missing_signature_fails(routed: Callable[..., Any]) -> None:
    traffic = {"half": {"shadow": {"to": "half/stable", "tolerance": 1}}, "quick": {"shadow": "half/1"}}
    server = routed(traffic)
    assert server.send("POST", "/v1/models/half:predict", ROW)[0] == 200  # the newest is version 2
    status, answer = server.send("POST", "/v1/models/quick:predict", b'{"instances": [1]}')
    assert status == 200, answer
    found = {("half/stable", "same"): 1, ("half/1", "failed"): 1}
    server.wait_for(lambda: counts(server, "shadow_count", "shadow", "result") == found)
    assert "the shadow half/1 of quick failed: " in server.log.read_text()


def test_only_the_outputs_that_are_named_are_compared(
    routed: Callable[..., Any], askers: Callable[[Any], Askers]
) -> None:
    server = routed({"half": {"shadow": {"to": "half/stable", "outputs": ["y", "other"]}}})
    ask = askers(server)
    assert ask.regress() == ask.classify() == 2  # neither has such an output: they are not copied
    assert ask.rest() == ask.grpc_v2() == 2
    server.wait_for(lambda: counts(server, "shadow_count", "result") == {("different",): 2})
    assert counts(server, "shadow_output_count", "output", "result") == {("y", "different"): 2}


def test_a_busy_shadow_drops_copies_and_delays_nobody(routed: Callable[..., Any]) -> None:
    server = routed({"quick": {"shadow": "slow/1"}})
    turns = b'{"instances": [%d]}' % 10_000_000  # of its loop, of which a million takes about a second
    assert server.send("POST", "/v1/models/quick:predict", turns)[0] == 200
    for _ in range(150):
        assert server.send("POST", "/v1/models/quick:predict", b'{"instances": [1]}')[0] == 200
    # The first copy still runs, a hundred wait.
    assert counts(server, "shadow_count", "result").get(("dropped",), 0) >= 49
    assert set(counts(server, "shadow_count", "result")) == {("dropped",)}
    server.stop(signal.SIGKILL)


def test_a_copy_keeps_no_more_in_memory_than_it_counts() -> None:
    merged, body = np.zeros((64, 100), np.float32), bytes(4096)
    given = {"row": merged[3:4], "whole": merged, "one": np.frombuffer(memoryview(body)[64:72], np.float32)}
    kept = _apart(given)
    assert kept["whole"] is merged
    assert kept["row"].base is None
    assert kept["one"].base is None
    assert all(np.array_equal(kept[name], given[name]) for name in given)


ENDLESS = b'{"instances": [%d]}' % 10**12  # turns of the loop of `slow`: days


@pytest.mark.parametrize("workers", [1, 2])
def test_a_version_that_is_unloaded_waits_for_no_copy(routed: Callable[..., Any], tmp_path: Path, workers: int) -> None:
    server = routed({"quick": {"shadow": "slow/1"}}, f"--workers={workers}", "--rest_api_timeout_in_ms=0")
    for _ in range(20):
        assert server.send("POST", "/v1/models/quick:predict", ENDLESS)[0] == 200
    looping().write(tmp_path / "slow", 2)
    server.wait_for_state("slow", 1, "END")
    server.wait_for(lambda: counts(server, "shadow_count", "result") == {("dropped",): 20})
    assert server.send("POST", "/v1/models/quick:predict", b'{"instances": [1]}')[0] == 200
    server.wait_for(lambda: counts(server, "shadow_count", "result").get(("failed",)) == 1)  # it is not loaded any more
    assert server.stop() == 0


def test_a_copy_that_runs_too_long_is_stopped_and_the_next_ones_run(routed: Callable[..., Any]) -> None:
    server = routed({"quick": {"shadow": "slow/1"}}, "--rest_api_timeout_in_ms=200")
    assert server.send("POST", "/v1/models/quick:predict", ENDLESS)[0] == 200
    assert server.send("POST", "/v1/models/quick:predict", b'{"instances": [1]}')[0] == 200
    found = {("failed",): 1, ("same",): 1}
    server.wait_for(lambda: counts(server, "shadow_count", "result") == found)
    assert "the shadow slow/1 of quick failed: it was stopped after 0.2 s" in server.log.read_text()


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="needs /proc to find the server")
def test_a_shadow_that_crashes_the_server_twice_is_not_asked_again(serve: Callable[..., Any], tmp_path: Path) -> None:
    # The least int32 divided by -1 does not fit: the processor stops the process.
    given, answer = {"x": ("int32", [-1])}, {"y": ("int32", [-1])}
    minus_one = helper.make_node("Constant", [], ["divisor"], value_ints=[-1])
    cast = helper.make_node("Cast", ["divisor"], ["by"], to=6)
    for version, node in ((1, helper.make_node("Neg", ["x"], ["y"])), (2, helper.make_node("Div", ["x", "by"], ["y"]))):
        graph = onnx_model([*((minus_one, cast) if version == 2 else ()), node], given, answer)
        Model({"serving_default": Signature(given, answer)}, {"model.onnx": graph}).write(tmp_path / "half", version)
    other = {place: tmp_path / place for place in ("quick", "slow")}
    for folder in other.values():
        identity().write(folder, 1)
    (tmp_path / "models.config").write_text(CONFIG.format(base=tmp_path / "half", **other))
    write(tmp_path, {"half": {"split": {"default": {"stable": 100}}, "shadow": "half/canary"}})
    server = serve(
        f"--model_config_file={tmp_path / 'models.config'}",
        f"--traffic_config_file={tmp_path / 'traffic.json'}",
        "--allow_version_labels_for_unavailable_models",
        "--enable_metrics",
        models=["half", "quick", "slow"],
    )

    def ask(number: int) -> Any:
        try:
            status, body = server.send("POST", "/v1/models/half:predict", b'{"instances": [%d]}' % number)
        except (OSError, http.client.HTTPException):
            return None
        return json.loads(body)["predictions"] if status == 200 else status

    for crash in (1, 2):
        server.wait_for(lambda: ask(7) == [-7] and set(server.states("half").values()) == {"AVAILABLE"})
        assert ask(-(2**31)) == [-(2**31)]  # the answer is written before the copy runs
        server.wait_for(lambda: server.log.read_text().count("(signal 8 (SIGFPE))") == crash)  # noqa: B023
    server.wait_for(lambda: ask(-(2**31)) == [-(2**31)] and counts(server, "shadow_count", "result").get(("failed",)))
    assert ask(-(2**31)) == [-(2**31)]
    assert server.log.read_text().count("(signal 8 (SIGFPE))") == 2
    assert server.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_the_traffic_file_is_read_again_and_a_bad_one_changes_nothing(
    routed: Callable[..., Any], tmp_path: Path, askers: Callable[[Any], Askers], workers: int
) -> None:
    server = routed({"half": {"split": {"default": {"stable": 100}}}}, f"--workers={workers}")
    ask = askers(server)
    log = server.log.read_text

    def answering() -> set[int]:
        return {ask.rest() for _ in range(4 * workers)}  # each connection is of one of the workers

    assert answering() == {1}
    write(tmp_path, {"half": {"split": {"default": {"canary": 90}}}})
    server.wait_for(lambda: "traffic not changed: " in log())
    assert 'traffic.json: half: the split "default" adds up to 90 %; expected 100' in log()
    assert answering() == {1}
    write(tmp_path, {"half": {"split": {"default": {"9": 100}}}})
    server.wait_for(lambda: "version 9 of half does not answer requests yet" in log())
    assert answering() == {1}
    write(tmp_path, {"half": {"split": {"default": {"stable": 0, "canary": 100}}}})
    server.wait_for(lambda: answering() == {2})
    assert "new traffic: half default: stable 0 %, canary 100 %" in log()
    os.remove(tmp_path / "traffic.json")
    server.wait_for(lambda: "cannot be read: No such file or directory" in log())
    assert answering() == {2}
    write(tmp_path, {})
    server.wait_for(lambda: "new traffic: no splits and no shadows" in log())
    assert ask.rest(which="stable") == 1
    assert answering() == {2}  # the newest


def test_the_log_warns_when_models_config_drops_a_label_that_a_split_names(
    routed: Callable[..., Any], tmp_path: Path, askers: Callable[[Any], Askers]
) -> None:
    split = {"default": {"stable": 50, "canary": 50}}
    server = routed({"half": {"split": split}}, "--model_config_file_poll_wait_seconds=0.05")
    ask = askers(server)
    assert {ask.rest(f"user-{i}") for i in range(12)} == {1, 2}
    config = tmp_path / "models.config"
    config.write_text(config.read_text().replace('version_labels { key: "canary" value: 2 }', ""))
    told = 'of its splits get those requests: half: the split "default": half has no version label "canary"'
    server.wait_for(lambda: told in server.log.read_text())
    assert {ask.rest(f"user-{i}") for i in range(12)} == {1}


def test_the_other_versions_take_over_the_share_of_one_that_is_gone(
    routed: Callable[..., Any], tmp_path: Path, askers: Callable[[Any], Askers]
) -> None:
    server = routed({"half": {"split": {"default": {"stable": 50, "2": 50}}}})
    ask = askers(server)
    assert {ask.rest(f"user-{i}") for i in range(12)} == {1, 2}
    (tmp_path / "half" / "2").rename(tmp_path / "gone")
    server.wait_for(lambda: server.states("half").get(2) == "END")
    assert {ask.rest(f"user-{i}") for i in range(12)} == {1}
