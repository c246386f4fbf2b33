"""One measurement of a training benchmark, in its own process: run it and print the times and peak memory as JSON.

python -m benchmarks.training.fitting ours|keras|gru NAME STEPS [PRECISION] [xla]     # the last two for `ours` alone
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ladle.training.quiet import without_stderr

EPOCHS = 2
"""The first epoch compiles the graph; the second is timed."""
RUNS = 200


def main() -> None:
    kind, name, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with without_stderr():
        from ladle.training.loop import devices

        devices.start()
    measurements: Mapping[str, Callable[[str, int], dict[str, Any]]] = {"keras": keras_script, "gru": gru}
    given = sys.argv[4:6]
    precision, xla = [*given, *["float32", ""][len(given) :]]
    with devices.precision(precision):
        answer = ours(name, steps, bool(xla)) if kind == "ours" else measurements[kind](name, steps)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**answer, "peak_mb": peak_mb}))


def prepared(name: str, steps: int) -> tuple[Any, Any]:
    """The network and `steps` batches of its preset `quick`; synthetic data if the real data is not on disk."""
    from ladle.training.run import request

    network = request.get(name)
    size = network.configured(**network.presets["quick"]).batch_size
    options = {"train_limit": steps * size, "epochs": EPOCHS, "patience": 0, "monitor": ""}
    return network, request.load(request.compose(network, "quick", options, synthetic_if_missing=True))


def ours(name: str, steps: int, xla: bool = False) -> dict[str, Any]:
    """Seconds of our training loop for the timed epoch, and of its input pipeline alone for the same batches."""
    from ladle.training.loop.fit import fit
    from ladle.training.loop.progress import Silent

    network, ready = prepared(name, steps)
    began, ended = [0.0], [0.0]

    class Watch(Silent):
        def step(self, epoch: int, step: int, figures: Mapping[str, float], rate: float, left_seconds: float) -> None:
            ended[0] = time.monotonic()

    def after_epoch(epoch: int, figures: Mapping[str, float]) -> None:
        if epoch < EPOCHS:
            began[0] = time.monotonic()

    with tempfile.TemporaryDirectory() as folder:
        file, model = Path(folder) / "checkpoint", network.build(ready.config)
        fit(model, ready, file, meter=Watch(), after_epoch=after_epoch, xla=xla)
    seconds = ended[0] - began[0]
    return {"steps": ready.steps, "seconds": seconds, "pipeline": pipeline(ready), "data": ready.dataset.name}


def pipeline(ready: Any) -> float:
    """Seconds that the pipeline needs for an epoch's batches when nothing trains on them."""
    # A warm-up: the first batch of a pipeline is slower.
    ready.training_batches(0).take(1).reduce(np.int64(0), lambda n, *_: n + 1)
    began = time.monotonic()
    count = ready.training_batches(1).reduce(np.int64(0), lambda n, *_: n + 1)
    assert int(count) == ready.steps
    return time.monotonic() - began


def keras_script(name: str, steps: int) -> dict[str, Any]:
    """Seconds of the script that a newcomer writes for the same model: float32 arrays, `compile` and `fit`."""
    import keras

    network, ready = prepared(name, steps)
    chosen = slice(0, ready.steps * ready.batch_size)
    x = ready.train.inputs(chosen)
    y = None if ready.train.y is None else ready.train.targets(chosen)
    checked = ready.validation.inputs()
    validation = checked if ready.validation.y is None else (checked, ready.validation.targets())
    model = network.build(dataclasses.replace(ready.config))
    times: list[float] = []

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            times.append(time.monotonic())

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == ready.steps - 1:
                times.append(time.monotonic())

    settings = {} if validation is checked and model.loss is None else {"validation_data": validation}
    model.fit(x, y, batch_size=ready.batch_size, epochs=EPOCHS, verbose=0, callbacks=[Watch()], **settings)
    return {"steps": ready.steps, "seconds": times[-1] - times[-2], "data": ready.dataset.name}


def gru(name: str, steps: int) -> dict[str, Any]:
    """Median seconds per text of a recurrent network's ONNX graph: tf2onnx alone ("naive") and our export ("ours")."""
    import tensorflow as tf
    import tf2onnx

    from ladle.training.onnx import convert
    from ladle.training.quiet import quiet

    network, ready = prepared(name, 1)
    model = network.build(ready.config)
    spec = tf.TensorSpec([None, ready.config.max_length], tf.int32, name="tokens")

    def core(tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model(tokens, training=False)}

    mine = convert.to_onnx(core, {"tokens": spec})
    with quiet():
        naive, _ = tf2onnx.convert.from_function(tf.function(core), input_signature=[spec], opset=convert.OPSET)
    sessions = {"naive": naive, "ours": mine}
    runs = {key: convert.session(graph.SerializeToString(), threads=1) for key, graph in sessions.items()}
    tokens = {"tokens": ready.train.inputs(slice(0, 1))}
    answers = [run(tokens)["logits"] for run in runs.values()]
    assert np.allclose(answers[0], answers[1], atol=1e-4)
    times: dict[str, list[float]] = {key: [] for key in runs}
    # The two graphs alternate, so a change of the clock speed hits both.
    for _ in range(RUNS):
        for key, run in runs.items():
            began = time.perf_counter()
            run(tokens)
            times[key].append(time.perf_counter() - began)
    return {key: float(np.median(each)) for key, each in times.items()}


if __name__ == "__main__":
    main()
