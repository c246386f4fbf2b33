"""No image is too small for a SavedModel with max pooling that runs on TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.conftest import ASKERS

pytest.importorskip("tensorflow", reason="TensorFlow runs these models")


def make(two: Path, one: Path, volume: Path) -> dict[str, np.ndarray]:
    """Writes three SavedModels; inputs and TensorFlow's answers."""
    import tensorflow as tf

    class Pool(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 1], tf.float32, name="x")])
        def valid(self, x):
            return {"y": tf.nn.max_pool2d(x, 3, 2, "VALID")}

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 1], tf.float32, name="x")])
        def same(self, x):
            return {"y": tf.nn.max_pool2d(x, [2, 3], [1, 2], "SAME")}

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, None, 1], tf.float32, name="x")])
        def volume(self, x):
            return {"y": tf.nn.max_pool3d(x, [2, 3, 3], 2, "VALID")}

    pool = Pool()
    signatures = {"serving_default": pool.valid, "same": pool.same, "volume": pool.volume}
    tf.saved_model.save(pool, str(two), signatures=signatures)
    x = np.random.default_rng(0).standard_normal((2, 7, 8, 1)).astype(np.float32)
    deep = np.random.default_rng(0).standard_normal((2, 4, 7, 8, 1)).astype(np.float32)
    inputs = {"x": x, "deep": deep}
    answers = {"valid": pool.valid(x)["y"], "same": pool.same(x)["y"], "volume": pool.volume(deep)["y"]}

    graph = tf.Graph()  # as TensorFlow 1 saved it: no functions
    with graph.as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, None, None, 1], "x")
        y = tf.nn.max_pool2d(x, 3, 2, "VALID")
        tf.compat.v1.saved_model.simple_save(session, str(one), {"x": x}, {"y": y})

    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, None, None, None, 1], "x")
        y = tf.nn.max_pool3d(x, [2, 3, 3], 2, "VALID")
        tf.compat.v1.saved_model.simple_save(session, str(volume), {"x": x}, {"y": y})
    return {**inputs, **{name: answer.numpy() for name, answer in answers.items()}}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A repository with three models, and inputs with TensorFlow's answers."""
    home = tmp_path_factory.mktemp("pools")
    models = [home / "models" / name / "1" for name in ("pool", "pool_tf1", "volume_tf1")]
    for folder in models:
        folder.parent.mkdir(parents=True)
    return home / "models", make(*models)


@pytest.fixture(scope="module")
def server(expected: Any, serve: Any) -> Iterator[Any]:
    server = serve("--repository", expected[0], models=["pool", "pool_tf1", "volume_tf1"])
    yield server
    assert server.process.poll() is None


@pytest.fixture(params=["grpc", "rest"])
def ask(request: pytest.FixtureRequest, server: Any) -> Iterator[Any]:
    asker = ASKERS[request.param](server)
    yield asker
    asker.close()


@pytest.mark.parametrize("model", ["pool", "pool_tf1"])
def test_an_image_smaller_than_the_window_gives_an_empty_answer(ask: Any, model: str) -> None:
    for side in (1, 2):
        ((_, y),) = ask.predict(model, {"x": np.ones((1, side, side, 1), np.float32)}).items()
        assert y == [[]]  # [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("model", "signature", "name"), [("pool", "", "valid"), ("pool", "same", "same"), ("pool_tf1", "", "valid")]
)
def test_answers_are_those_of_tensorflow(ask: Any, expected: Any, model: str, signature: str, name: str) -> None:
    answers = expected[1]
    ((_, y),) = ask.predict(model, {"x": answers["x"]}, signature).items()
    np.testing.assert_allclose(y, answers[name], rtol=1e-6)


@pytest.mark.parametrize(("model", "signature"), [("pool", "volume"), ("volume_tf1", "")])
def test_a_volume_smaller_than_the_window_is_refused(
    ask: Any, expected: Any, refused: Any, model: str, signature: str
) -> None:
    for shape in ((1, 1, 1, 1, 1), (1, 2, 2, 3, 1), (0, 1, 1, 1, 1)):
        with pytest.raises(refused, match="got an image smaller than the window of a MaxPool3D"):
            ask.predict(model, {"x": np.ones(shape, np.float32)}, signature)
    answers = expected[1]
    ((_, y),) = ask.predict(model, {"x": answers["deep"]}, signature).items()
    np.testing.assert_allclose(y, answers["volume"], rtol=1e-6)
