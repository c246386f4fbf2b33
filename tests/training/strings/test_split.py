"""A SavedModel with strings, tables and hashes is divided, and served without TensorFlow as TensorFlow serves it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle.clients.wire import messages as pb
from ladle.training.export.conversion import Conversion, convert
from ladle.training.store import card, savedmodel
from ladle.training.strings.texts import HARD, images
from tests.serving.conftest import GrpcAsker, Refused, RestAsker

TEXT = tf.TensorSpec([None], tf.string, name="text")
X = tf.TensorSpec([None, 4], tf.float32, name="x")
COUNT = tf.TensorSpec([None], tf.int64, name="count")


class Model(tf.Module):
    """Signatures with text before a network, labels after it, and with text alone."""

    def __init__(self) -> None:
        super().__init__()
        self.vectorize = keras.layers.TextVectorization(max_tokens=40, output_sequence_length=6)
        self.vectorize.adapt(["the cat sat on the mat", "ünïcode 日本 words"])
        self.embedding = keras.layers.Embedding(40, 4)
        self.embedding.build()
        self.kernel = tf.Variable(tf.random.stateless_normal([4, 3], seed=[1, 2]))
        self.labels = keras.layers.StringLookup(vocabulary=["cat", "dög"], invert=True)
        names, ids = tf.constant(["x", "y"]), tf.constant([0, 1], tf.int64)
        self.table = tf.lookup.StaticVocabularyTable(tf.lookup.KeyValueTensorInitializer(names, ids), 3)
        self.integers = keras.layers.IntegerLookup(vocabulary=[10, 20, 30])

    @tf.function(input_signature=[TEXT])
    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        words = self.embedding(self.vectorize(text))
        scores = tf.nn.softmax(tf.matmul(tf.reduce_mean(words, 1), self.kernel))
        return {"scores": scores, "label": self.labels(tf.argmax(scores, -1))}

    @tf.function(input_signature=[X])
    def best(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        scores, order = tf.math.top_k(tf.matmul(x, self.kernel), 2)
        return {"labels": tf.gather(tf.constant(array(b"a", b"b", "ü".encode())), order), "scores": scores}

    @tf.function(input_signature=[TEXT, COUNT])
    def features(self, text: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        crossed = tf.strings.to_hash_bucket_fast(tf.strings.join([text, tf.strings.as_string(count)], "_x_"), 11)
        return {
            "ids": self.table.lookup(text),
            "crossed": tf.one_hot(crossed, 11),
            "known": self.integers(count),
            "strong": tf.strings.to_hash_bucket_strong(text, 5, [1, 2]),
        }

    @tf.function(input_signature=[TEXT])
    def texts(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "same": text,
            "words": tf.strings.split(tf.strings.lower(text)).to_tensor(b"-"),
            "clean": tf.strings.regex_replace(text, r"[^a-z]", ""),
            "length": tf.strings.length(text, "UTF8_CHAR"),
        }

    @tf.function(input_signature=[TEXT])
    def number(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"twice": 2 * tf.strings.to_number(text)}

    @tf.function(input_signature=[TEXT])
    def parsed(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        features = {
            "x": tf.io.FixedLenFeature([4], tf.float32),
            "name": tf.io.FixedLenFeature([], tf.string, default_value="?"),
            "ids": tf.io.VarLenFeature(tf.int64),
        }
        found = tf.io.parse_example(text, features)
        return {
            "scores": tf.matmul(found["x"], self.kernel),
            "name": found["name"],
            "ids": tf.sparse.to_dense(found["ids"], default_value=-1),
        }

    @tf.function(input_signature=[TEXT])
    def looped(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        def longest(each: tf.Tensor) -> tf.Tensor:
            words = tf.strings.split(each[None], " ").to_tensor("")[0]
            return tf.reduce_max(tf.concat([tf.strings.length(words), [0]], 0))

        _, marks = tf.while_loop(
            lambda n, t: n < 3, lambda n, t: (n + 1, tf.strings.join([t, tf.strings.as_string(n)])), [0, text]
        )
        kind = tf.cond(tf.size(text) > 1, lambda: tf.strings.upper(text), lambda: text)
        return {
            "longest": tf.map_fn(longest, text, fn_output_signature=tf.int32),
            "same": tf.map_fn(lambda each: tf.strings.join([each, "!"]), text),
            "marks": marks,
            "kind": kind,
        }

    @tf.function(input_signature=[TEXT])
    def pictures(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        def small(png: tf.Tensor) -> tf.Tensor:
            return tf.image.resize(tf.io.decode_png(png, 3), [4, 6]) / 127.5 - 1.0

        images = tf.map_fn(small, text, fn_output_signature=tf.TensorSpec([4, 6, 3], tf.float32))
        return {"scores": tf.matmul(tf.reduce_mean(images, [1, 2]), self.kernel[:3])}

    @tf.function(input_signature=[TEXT])
    def marked(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """An output with the name of an input, which it is not."""
        return {"text": tf.strings.join([text, "!"]), "length": tf.strings.length(text)}

    @tf.function(input_signature=[TEXT])
    def reversed(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.strings.regex_replace(text, "(a+)+$", "")}


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Conversion, Any]:
    """The repository with a converted model, how the conversion went, and the loaded SavedModel."""
    model = Model()
    folder = tmp_path_factory.mktemp("repository") / "mine" / "1"
    signatures = {
        "serving_default": model.classify,
        **{
            name: getattr(model, name)
            for name in ("best", "features", "texts", "number", "parsed", "looped", "pictures", "marked", "reversed")
        },
    }
    tf.saved_model.save(model, str(folder), signatures=signatures)
    return folder.parent.parent, convert(folder), tf.saved_model.load(str(folder))


@pytest.fixture(scope="module", params=[GrpcAsker, RestAsker], ids=["grpc", "rest"])
def ask(request: pytest.FixtureRequest, server: Any) -> Iterator[Any]:
    asker = request.param(server)
    yield asker
    asker.close()


@pytest.fixture(scope="module")
def server(mine: tuple[Path, Conversion, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.conftest import serve as fixture

    makers = fixture.__wrapped__(tmp_path_factory)
    serve: Callable[..., Any] = next(makers)
    yield serve("--repository", mine[0], "--engine=onnx", models=["mine"])
    next(makers, None)


def array(*strings: bytes) -> np.ndarray:
    made = np.empty(len(strings), object)
    made[:] = strings
    return made


def example(**features: Any) -> bytes:
    made = pb.Example()
    for name, values in features.items():
        kind = {int: "int64_list", float: "float_list", bytes: "bytes_list"}[type(values[0])]
        getattr(made.features.feature[name], kind).value.extend(values)
    return bytes(made.SerializeToString())


TEXTS = array(*(text for text in HARD if len(text) < 100), b"The cat, sat!", b"x", b"y")
REQUESTS: dict[str, list[dict[str, np.ndarray]]] = {
    "serving_default": [{"text": TEXTS}, {"text": array(b"the cat")}, {"text": array()}],
    "best": [{"x": np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)}],
    "features": [{"text": TEXTS, "count": np.resize([10, 20, -1, 2**62], len(TEXTS))}],
    "texts": [{"text": TEXTS}, {"text": array()}],
    "marked": [{"text": TEXTS}],
    "looped": [{"text": TEXTS}, {"text": array(b"one text")}],
    "number": [{"text": array(b"1", b" 2.5 ", b"-inf", b"0x1f")}],
    "pictures": [{"text": array(*images(3, ("PNG",)))}],
    "parsed": [
        {
            "text": array(
                example(x=[1.0, 2.0, 3.0, 4.0], ids=[1, 2]), example(x=[0.0] * 4, name=["é".encode()], ids=[3])
            )
        },
    ],
}


def test_one_example_is_read_by_itself(tmp_path: Path) -> None:
    def function(text: tf.Tensor) -> dict[str, tf.Tensor]:
        found = tf.io.parse_single_example(text, {"n": tf.io.FixedLenFeature([], tf.int64, default_value=5)})
        return {"n": found["n"] + 1}

    module = tf.Module()
    module.run = tf.function(function, input_signature=[tf.TensorSpec([], tf.string, name="text")])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.run)
    assert convert(tmp_path / "1").reasons == {}


def test_signatures_with_strings_become_steps_and_a_graph(mine: tuple[Path, Conversion, Any]) -> None:
    repository, result, _ = mine
    assert sorted(result.graphs) == sorted(REQUESTS), result.reasons
    assert list(result.reasons) == ["reversed"]
    assert result.reasons["reversed"].startswith("StaticRegexReplace (")
    content = card.read(repository / "mine" / "1")
    assert content is not None
    entry = content["signatures"]["serving_default"]
    assert [step["op"] for step in (*entry["before"], *entry["after"])] == ["host", "host"]
    assert {"StringLower", "StringSplitV2", "LookupTableFindV2"} <= set(entry["before"][0]["operations"])
    assert "LookupTableFindV2" in entry["after"][0]["operations"]
    assert entry["inputs"] == {"text": {"dtype": "string", "shape": [None]}}


@pytest.mark.parametrize("signature", REQUESTS)
def test_the_server_answers_as_tensorflow(mine: tuple[Path, Conversion, Any], ask: Any, signature: str) -> None:
    function = mine[2].signatures[signature]
    for inputs in REQUESTS[signature]:
        first = next(iter(inputs.values()))
        if ask.protocol == "rest" and (not len(first) or first.dtype == object):
            # JSON does not say what an empty list holds, and its strings are text.
            inputs = {
                name: array[[i for i, text in enumerate(first) if _is_text(text)]] for name, array in inputs.items()
            }
            if not len(next(iter(inputs.values()))):
                continue
        expected = savedmodel.run(function, inputs)
        answer = ask.predict("mine", inputs, signature=signature)
        for name, theirs in expected.items():
            ours = answer[name] if name in answer else answer[""]
            if theirs.dtype == object and ask.protocol == "rest":
                assert ours == json.loads(json.dumps(theirs.tolist(), default=_as_text)), name
            elif theirs.dtype == object:
                assert ours == theirs.tolist(), name
            else:
                np.testing.assert_allclose(np.array(ours, theirs.dtype).reshape(theirs.shape), theirs, rtol=1e-5)


def _as_text(value: bytes) -> str:
    return value.decode()


def _is_text(value: Any) -> bool:
    """Whether a string of a request comes back as text: a serialized message need not."""
    return not isinstance(value, bytes) or "\ufffd" not in value.decode(errors="replace") or value.startswith(b"\n")


@pytest.mark.parametrize(
    ("signature", "inputs", "words"),
    [
        ("number", {"text": array(b"1", b"abc")}, "StringToNumberOp could not correctly convert string: abc"),
        ("parsed", {"text": array(b"\xff\xff\xff")}, "Could not parse example input"),
        ("parsed", {"text": array(example(name=[b"a"]))}, "is required but could not be found"),
        ("parsed", {"text": array(example(x=[1]))}, "Data types don't match"),
        ("texts", {"text": np.array([[b"a"]], object)}, "must be a vector"),
    ],
    ids=["no number", "no example", "no feature", "another kind", "a matrix"],
)
def test_what_tensorflow_refuses_is_an_invalid_argument(
    mine: tuple[Path, Conversion, Any], ask: Any, signature: str, inputs: dict[str, np.ndarray], words: str
) -> None:
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError, TypeError)):
        savedmodel.run(mine[2].signatures[signature], inputs)
    with pytest.raises(Refused, match=words.replace("(", r"\(")) as refused:
        ask.predict("mine", inputs, signature=signature)
    assert refused.value.is_code("INVALID_ARGUMENT")


def test_another_table_beside_the_graph_is_not_served(
    mine: tuple[Path, Conversion, Any], serve: Any, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(mine[0], tmp_path / "repository")
    file = tmp_path / "repository" / "mine" / "1" / "model.before.npz"
    file.write_bytes(file.read_bytes().replace(b"cat", b"dog"))
    server = serve("--repository", tmp_path / "repository", "--engine=onnx")
    [entry] = server.wait_for(lambda: [e for e in _status(server, "mine") if e["status"]["error_code"] != "OK"])
    assert (entry["state"], entry["status"]["error_code"]) == ("END", "DATA_LOSS")
    assert "model.before.npz" in entry["status"]["error_message"]


def _status(server: Any, model: str) -> list[Any]:
    status, body = server.get(f"/v1/models/{model}")
    return list(json.loads(body)["model_version_status"]) if status == 200 else []
