"""Variables of a SavedModel that its checkpoint restores under another name."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ladle.serving.servables.engines.savedmodel import SavedModelEngine
from ladle.serving.servables.saved_model import INIT_OP, parse_signature, read_signature_defs


def test_a_keras_model_saved_by_tensorflow_itself_finds_its_variables(tmp_path: Path) -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    run = tf.function(lambda x: {"y": model(x)}, input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    tf.saved_model.save(model, str(tmp_path), signatures={"serving_default": run})
    signatures = {
        name: parse_signature(name, definition)
        for name, definition in read_signature_defs(tmp_path).items()
        if name != INIT_OP
    }
    engine = SavedModelEngine(tmp_path, ["serve"], signatures)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(engine.run("serving_default", {"x": x}, ("y",))["y"], model(x).numpy(), rtol=1e-5)
