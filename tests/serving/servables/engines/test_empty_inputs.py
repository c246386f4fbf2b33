"""Requests without rows are answered, and no shape that a client may send crashes a recurrent layer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.engines import onnx_file
from ladle.serving.servables.loader import Loader
from ladle.serving.servables.servable import Servable
from tests.serving.conftest import ASKERS

UNITS, FEATURES = 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
KINDS = pytest.mark.parametrize("kind", GATES)


def recurrent(tiny: Any, kind: str, steps: int = -1, signature: dict[str, Any] | None = None, skipped: int = 0) -> Any:
    """x [b, steps, 4] -> last [b, 3] of a recurrent layer, and all [b, steps, 3]; it skips the first steps."""
    rng = np.random.default_rng(0)
    gates = GATES[kind] * UNITS
    weights: dict[str, Any] = {
        "w": rng.standard_normal((1, gates, FEATURES)).astype(np.float32),
        "r": rng.standard_normal((1, gates, UNITS)).astype(np.float32),
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
    }
    nodes, source = [], "x"
    if skipped:
        weights.update(start=np.array([skipped], np.int64), end=np.array([2**31], np.int64))
        nodes = [helper.make_node("Slice", ["x", "start", "end", "second"], ["rest"])]
        source = "rest"
    nodes += [
        helper.make_node("Transpose", [source], ["by_time"], perm=[1, 0, 2]),
        helper.make_node(kind, ["by_time", "w", "r"], ["states", "state"], hidden_size=UNITS),
        helper.make_node("Squeeze", ["state", "first"], ["last"]),
        helper.make_node("Squeeze", ["states", "second"], ["in_time"]),
        helper.make_node("Transpose", ["in_time"], ["all"], perm=[1, 0, 2]),
    ]
    given = {"x": ("float32", [-1, steps, FEATURES])}
    answer = {"last": ("float32", [-1, UNITS]), "all": ("float32", [-1, steps if steps > 0 else -1, UNITS])}
    signatures = {"serving_default": tiny.Signature(given, answer), **(signature or {})}
    return tiny.Model(signatures, {"model.onnx": tiny.onnx_model(nodes, given, answer, weights)})


def examples(tiny: Any, kind: str) -> Any:
    """A recurrent model whose signature `parsed` takes tf.Examples."""
    parse = {"op": "parse_example", "input": "inputs", "output": "x", "feature": "x", "dtype": "float32"}
    given, answer = {"inputs": ("string", [-1])}, {"last": ("float32", [-1, UNITS])}
    signature = tiny.Signature(given, answer, before=[{**parse, "shape": [2, FEATURES]}])
    return recurrent(tiny, kind, steps=2, signature={"parsed": signature})


def rows(count: int, steps: int) -> np.ndarray:
    return np.ones((count, steps, FEATURES), np.float32)


@KINDS
@pytest.mark.parametrize("steps", [2, -1], ids=["fixed steps", "free steps"])
def test_no_rows_give_no_rows_of_the_right_shapes(tiny: Any, tmp_path: Path, kind: str, steps: int) -> None:
    servable: Servable = Loader()("m", 1, recurrent(tiny, kind, steps).write(tmp_path))
    for name in (("last", "all"), ("last",), ("all",)):
        for count in (0, 2):
            answer = servable.run("serving_default", {"x": rows(count, 2)}, name)
            shapes = {"last": (count, UNITS), "all": (count, 2, UNITS)}
            assert {alias: array.shape for alias, array in answer.items()} == {alias: shapes[alias] for alias in name}
            assert {array.dtype for array in answer.values()} == {np.dtype(np.float32)}


@KINDS
def test_no_steps_are_answered_or_refused(tiny: Any, tmp_path: Path, kind: str) -> None:
    servable: Servable = Loader()("m", 1, recurrent(tiny, kind).write(tmp_path))
    if kind == "GRU":
        with pytest.raises(
            InvalidArgument, match=r'"x" has shape \[1, 0, 4\]; expected at least 1 on each axis of free'
        ):
            servable.run("serving_default", {"x": rows(1, 0)}, ("last",))
    else:
        assert servable.run("serving_default", {"x": rows(1, 0)}, ("last",))["last"].shape == (1, UNITS)
    with pytest.raises(InvalidArgument, match=r'"x" has shape \[0, 2, 5\]; expected \[-1, -1, 4\]'):
        servable.run("serving_default", {"x": np.ones((0, 2, 5), np.float32)}, ("last",))


def test_a_sequence_that_the_graph_shortens_to_nothing_is_refused(tiny: Any, tmp_path: Path) -> None:
    servable: Servable = Loader()("m", 1, recurrent(tiny, "GRU", skipped=4).write(tmp_path))
    with pytest.raises(InvalidArgument, match=r'"x" has shape \[1, 4, 4\]; expected at least 5 on'):
        servable.run("serving_default", {"x": rows(1, 4)}, ("last",))
    assert servable.run("serving_default", {"x": rows(1, 5)}, ("last",))["last"].shape == (1, UNITS)


def test_rows_of_free_sizes_keep_their_sizes(tiny: Any, tmp_path: Path) -> None:
    """Without a recurrent layer the graph itself answers, here with a third of each side."""
    given, answer = {"x": ("float32", [-1, -1, -1, 1])}, {"y": ("float32", [-1, -1, -1, 1])}
    nodes = [
        helper.make_node("Transpose", ["x"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("MaxPool", ["nchw"], ["pooled"], kernel_shape=[3, 3], strides=[3, 3]),
        helper.make_node("Transpose", ["pooled"], ["y"], perm=[0, 2, 3, 1]),
    ]
    model = tiny.Model({"s": tiny.Signature(given, answer)}, {"model.onnx": tiny.onnx_model(nodes, given, answer)})
    servable: Servable = Loader()("m", 1, model.write(tmp_path))
    assert servable.run("s", {"x": np.ones((0, 9, 6, 1), np.float32)}, ("y",))["y"].shape == (0, 3, 2, 1)


def test_an_answer_without_rows_says_nothing_about_the_time_of_others(tiny: Any, tmp_path: Path) -> None:
    servable: Servable = Loader(warm_up=False)("m", 1, recurrent(tiny, "LSTM").write(tmp_path))
    servable.run("serving_default", {"x": rows(0, 2)}, ("last",))
    assert servable.latencies["serving_default"].expected_s(100) is None


def test_operations_are_found_in_subgraphs(tiny: Any) -> None:
    inner = helper.make_graph([helper.make_node("GRU", ["a", "b", "c"], ["d"])], "inner", [], [])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    model = tiny.onnx_model([node], {"c": ("bool", [1])}, {"y": ("float32", [-1])})
    assert onnx_file.operations(memoryview(model.SerializeToString())) == {"If", "GRU"}


@pytest.fixture(scope="module", params=[(), ("--enable_batching",)], ids=["alone", "batching"])
def server(
    request: pytest.FixtureRequest, serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("recurrent")
    for kind in GATES:
        examples(tiny, kind).write(home / kind.lower())
        recurrent(tiny, kind).write(home / f"{kind.lower()}_free")
    tiny.image_classifier().write(home / "classifier")
    tiny.half_plus(2).write(home / "half_plus_two")
    names = [path.name for path in home.iterdir()]
    server = serve("--repository", home, *request.param, models=names)
    yield server
    assert server.process.poll() is None


@pytest.fixture(params=["grpc", "rest"])
def ask(request: pytest.FixtureRequest, server: Any) -> Iterator[Any]:
    asker = ASKERS[request.param](server)
    yield asker
    asker.close()


@KINDS
def test_a_server_answers_a_request_without_rows(ask: Any, kind: str) -> None:
    name = kind.lower()
    if ask.protocol == "grpc":  # JSON cannot say the sizes behind an empty axis
        assert ask.predict(name, {"x": rows(0, 2)}) == {"last": [], "all": []}
    assert list(ask.predict(name, {"inputs": np.zeros(0, object)}, "parsed").values()) == [[]]
    answer = ask.predict(name, {"x": rows(2, 2)})
    assert (len(answer["last"]), len(answer["all"])) == (2, 2)


@KINDS
def test_a_server_survives_every_empty_axis(ask: Any, refused: Any, kind: str) -> None:
    name = f"{kind.lower()}_free"
    for shape in ((0, 0), (0, 3), (1, 0), (2, 0)):
        refusal = None
        try:
            ask.predict(name, {"x": rows(*shape)})
        except refused as error:
            refusal = error
        assert refusal is None or refusal.is_code("INVALID_ARGUMENT")
    assert len(ask.predict(name, {"x": rows(1, 1)})["last"]) == 1


def test_steps_without_images_or_examples_are_answered(ask: Any) -> None:
    nothing = np.zeros(0, object)
    answer = ask.predict("classifier", {"image_bytes": nothing}, "serving_bytes")
    assert answer == {"logits": [], "probabilities": [], "class_id": [], "label": []}


def test_classify_and_regress_without_examples_are_refused_as_upstream_does(ask: Any, refused: Any) -> None:
    for call, signature in ((ask.classify, "classify_x"), (ask.regress, "regress_x")):
        with pytest.raises(refused) as error:
            call("half_plus_two", [], signature)
        assert error.value.is_code("INVALID_ARGUMENT")


def test_rest_without_instances_is_refused_as_upstream_does(server: Any) -> None:
    status, body = server.send("POST", "/v1/models/lstm_free:predict", b'{"instances": []}')
    assert (status, json.loads(body)["error"]) == (400, "JSON Value: [] No values in 'instances' array")
    status, _ = server.send("POST", "/v1/models/gru_free:predict", b'{"instances": [[]]}')
    assert status == 400


def test_an_einsum_without_rows_is_refused(tiny: Any, tmp_path: Path) -> None:
    """ONNX Runtime divides by the number of rows in it, which ends the process."""
    nodes = [helper.make_node("Einsum", ["x", "x"], ["scores"], equation="bqd,bkd->bqk")]
    nodes += [helper.make_node("ReduceSum", ["scores", "first"], ["sum"], keepdims=0)]
    given, answer = {"x": ("float32", [-1, 4, 3])}, {"sum": ("float32", [4, 4])}
    model = tiny.onnx_model(nodes, given, answer, {"first": np.array([0], np.int64)})
    folder = tiny.Model({"serving_default": tiny.Signature(given, answer)}, {"model.onnx": model}).write(tmp_path)
    servable: Servable = Loader()("m", 1, folder)
    answered = servable.run("serving_default", {"x": np.ones((2, 4, 3), np.float32)}, ("sum",))
    np.testing.assert_array_equal(answered["sum"], np.full((4, 4), 6, np.float32))
    with pytest.raises(InvalidArgument, match="at least one"):
        servable.run("serving_default", {"x": np.ones((0, 4, 3), np.float32)}, ("sum",))


def test_an_output_with_other_rows_than_the_input_is_refused_without_rows(tiny: Any, tmp_path: Path) -> None:
    """The graph fails on no rows, and that an output has as many rows as the inputs is not true of it."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["columns"], perm=[1, 0]),
        helper.make_node("Gather", ["columns", "first"], ["start"], axis=1),
        helper.make_node("Sub", ["columns", "start"], ["y"]),
    ]
    given, answer = {"x": ("float32", [-1, -1])}, {"y": ("float32", [-1, -1])}
    model = tiny.onnx_model(nodes, given, answer, {"first": np.array([0], np.int64)})
    folder = tiny.Model({"serving_default": tiny.Signature(given, answer)}, {"model.onnx": model}).write(tmp_path)
    servable: Servable = Loader()("m", 1, folder)
    assert servable.run("serving_default", {"x": np.ones((2, 5), np.float32)}, ("y",))["y"].shape == (5, 2)
    with pytest.raises(InvalidArgument, match="at least one"):
        servable.run("serving_default", {"x": np.ones((0, 5), np.float32)}, ("y",))
