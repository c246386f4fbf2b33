"""A signature as the converter sees it."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from ladle.training.onnx.rewrites.inline import with_own_names

NAMES = ["shape", "edges", "x", "values", "ids", "left", "mask", "y"]


def test_inputs_and_outputs_are_in_one_order_in_every_process(tmp_path: Path) -> None:
    """TensorFlow's order follows the hashes of strings, with which what is compared would differ from run to run."""
    module = tf.Module()
    module.compute = tf.function(
        lambda **tensors: {f"{name}_out": tensor * 2 for name, tensor in tensors.items()},
    )
    specs = {name: tf.TensorSpec([None], tf.float32, name) for name in NAMES}
    tf.saved_model.save(module, tmp_path, signatures=module.compute.get_concrete_function(**specs))
    loaded = tf.saved_model.load(tmp_path).signatures["serving_default"]
    function = with_own_names(loaded, NAMES)
    assert list(function.structured_input_signature[1]) == sorted(NAMES)
    assert list(function.structured_outputs) == sorted(f"{name}_out" for name in NAMES)
    arrays = {name: tf.constant([float(n)]) for n, name in enumerate(NAMES)}
    assert {name: found.numpy().tolist() for name, found in function(**arrays).items()} == {
        f"{name}_out": [2.0 * n] for n, name in enumerate(NAMES)
    }
