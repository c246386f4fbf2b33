"""Several hosts that train one network together. Each runs the same command; TF_CONFIG names them all.

The worker called `chief`, or else worker 0, is the chief: it alone writes checkpoints, pictures, versions and cards.
Every host needs its own copy of the data set, and of the initial weights if the run has some.

Source  https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.training.errors import TrainingError, UsageError

EXAMPLE = '{"cluster": {"worker": ["host1:5000", "host2:5000"]}, "task": {"type": "worker", "index": 0}}'


def count() -> int:
    """The number of hosts that train together; 1 without TF_CONFIG."""
    return _cluster()[0]


def chief() -> bool:
    """Whether this process is the chief, the only one that writes."""
    return _cluster()[1]


def number() -> int:
    """This host's place among those that train together, from 0, which is the chief's."""
    return _cluster()[2]


@functools.cache
def strategy() -> tf.distribute.Strategy:
    """MultiWorkerMirroredStrategy; blocks until all hosts are there. UsageError: TensorFlow has computed before."""
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise UsageError(
            f"TF_CONFIG came too late ({error}); TensorFlow has computed already: train with several hosts first"
        ) from error


def agree(summed: Sequence[float], from_chief: Sequence[float]) -> list[float]:
    """Values that are equal on all hosts: the sums of `summed` over the hosts, then the chief's `from_chief`.

    A collective operation: every host must call it, as often as the others.
    """
    if count() == 1:
        return [*summed, *from_chief]
    # One reduction for both: the hosts that are not the chief add zeros to its values.
    mine = [*summed, *(from_chief if chief() else [0.0] * len(from_chief))]
    return [float(value) for value in _sum(np.array(mine, np.float64))]


def broadcast(content: bytes) -> bytes:
    """The chief's bytes, on every host; what the other hosts pass is ignored. Every host must call it."""
    return content if count() == 1 else _sent(content if chief() else b"")


def gather(content: bytes) -> list[bytes]:
    """What each host passed, in the order of `number`, on every host. Every host must call it."""
    return [content] if count() == 1 else [_sent(content if number() == each else b"") for each in range(count())]


def _sent(content: bytes) -> bytes:
    """The bytes of the only host that passes some, on every host."""
    length = int(_sum(np.array([len(content)], np.int64))[0])
    # Sent as a sum of integers, with zeros from the other hosts. The strategy has no broadcast of its own.
    padded = np.zeros(-(-length // 8), np.int64)
    padded.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
    return _sum(padded).tobytes()[:length] if length else b""


def average(variables: Sequence[Any]) -> None:
    """Set float variables that differ between hosts, such as moving averages of their batches, to the mean."""
    kept = [variable for variable in variables if str(variable.dtype).startswith("float")]
    if count() == 1 or not kept:
        return
    mine = np.concatenate([np.ravel(variable.value.numpy()).astype(np.float64) for variable in kept])
    mean, start = _sum(mine) / count(), 0
    for variable in kept:
        size = int(np.prod(variable.shape))
        variable.assign(mean[start : start + size].reshape(variable.shape).astype(str(variable.dtype)))
        start += size


def on_chief(export: Callable[[], Path]) -> Path:
    """Call `export` on the chief while the other hosts wait; its path, everywhere. TrainingError: it failed there."""
    if count() == 1:
        return export()
    if chief():
        path = b""
        try:
            done = export()
            path = str(done).encode()
            return done
        finally:
            # Also after an error, with no path: the other hosts must not wait forever.
            broadcast(path)
    answer = broadcast(b"")
    if not answer:
        raise TrainingError("the chief failed to export; read its error message")
    return Path(answer.decode())


@contextlib.contextmanager
def runs_folder(runs: Path) -> Iterator[Path]:
    """The folder for this host's run: `runs` on the chief, a temporary one elsewhere."""
    if chief():
        yield runs
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _sum(array: np.ndarray) -> np.ndarray:
    """The sum over the hosts. Each counts once, however many devices it has."""
    every = strategy()
    devices = every.num_replicas_in_sync // count()

    def of_device(context: Any) -> tf.Tensor:
        first = context.replica_id_in_sync_group % devices == 0
        return tf.constant(array if first else np.zeros_like(array))

    values = every.experimental_distribute_values_from_function(of_device)
    return np.asarray(every.reduce("SUM", values, axis=None))


def _cluster() -> tuple[int, bool, int]:
    """The number of hosts, whether this one is the chief, and its number. UsageError: TF_CONFIG is invalid."""
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return 1, True, 0
    try:
        config = json.loads(text)
        hosts = {kind: len(config["cluster"][kind]) for kind in config["cluster"]} if config.get("cluster") else {}
        kind, index = (config["task"]["type"], int(config["task"]["index"])) if hosts else ("worker", 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"TF_CONFIG is invalid ({error!r}); expected JSON such as {EXAMPLE}") from error
    if not hosts:
        return 1, True, 0
    if not set(hosts) <= {"chief", "worker"} or kind not in hosts or not 0 <= index < hosts[kind]:
        raise UsageError(f"TF_CONFIG: got {kind} {index} of {hosts}; expected chief and workers only, as in {EXAMPLE}")
    number = index + (kind == "worker" and hosts.get("chief", 0))
    return sum(hosts.values()), number == 0, number
