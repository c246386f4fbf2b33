"""Several hosts that train one network together, as TF_CONFIG names them; each runs the same command.

The first worker (or the one called chief) is the chief: it alone writes checkpoints, pictures, versions and cards.
Every host needs the data set, and the file of weights to begin with where there is one.

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
    """Hosts that train together; 1 without TF_CONFIG."""
    return _cluster()[0]


def chief() -> bool:
    """Whether this process is the one that writes."""
    return _cluster()[1]


@functools.cache
def strategy() -> tf.distribute.Strategy:
    """MultiWorkerMirroredStrategy, which waits for the other hosts; UsageError when TensorFlow has computed before."""
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise UsageError(f"TF_CONFIG came too late ({error}); train with several hosts first of all") from error


def agreed(mine: Sequence[float], chiefs: Sequence[float]) -> list[float]:
    """What all hosts hold to: the sum of each host's `mine`, then the chief's `chiefs`. Every host must ask."""
    if count() == 1:
        return [*mine, *chiefs]
    given = [*mine, *(chiefs if chief() else [0.0] * len(chiefs))]
    return [float(value) for value in _summed(np.array(given, np.float64))]


def shared(content: bytes) -> bytes:
    """The chief's bytes on every host; those of the others do not matter. Every host must ask."""
    if count() == 1:
        return content
    content = content if chief() else b""
    length = int(_summed(np.array([len(content)], np.int64))[0])
    padded = np.zeros(-(-length // 8), np.int64)
    padded.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
    return _summed(padded).tobytes()[:length] if length else b""


def even(variables: Sequence[Any]) -> None:
    """Float variables that each host kept for itself, such as averages of its batches, become their mean."""
    kept = [variable for variable in variables if str(variable.dtype).startswith("float")]
    if count() == 1 or not kept:
        return
    mine = np.concatenate([np.ravel(variable.value.numpy()).astype(np.float64) for variable in kept])
    mean, start = _summed(mine) / count(), 0
    for variable in kept:
        size = int(np.prod(variable.shape))
        variable.assign(mean[start : start + size].reshape(variable.shape).astype(str(variable.dtype)))
        start += size


def by_chief(work: Callable[[], Path]) -> Path:
    """Work that the chief alone does while the others wait; its path on every host, TrainingError where it failed."""
    if count() == 1:
        return work()
    if chief():
        path = b""
        try:
            done = work()
            path = str(done).encode()
            return done
        finally:
            shared(path)
    answer = shared(b"")
    if not answer:
        raise TrainingError("the chief did not export; see what it says")
    return Path(answer.decode())


@contextlib.contextmanager
def home(runs: Path) -> Iterator[Path]:
    """Where a host keeps its run: the chief there, the others in passing."""
    if chief():
        yield runs
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _summed(array: np.ndarray) -> np.ndarray:
    """The sum over the hosts, each counted once however many devices it has."""
    every = strategy()
    devices = every.num_replicas_in_sync // count()

    def of_device(context: Any) -> tf.Tensor:
        first = context.replica_id_in_sync_group % devices == 0
        return tf.constant(array if first else np.zeros_like(array))

    values = every.experimental_distribute_values_from_function(of_device)
    return np.asarray(every.reduce("SUM", values, axis=None))


def _cluster() -> tuple[int, bool]:
    """Number of hosts, and whether this is the chief; UsageError when TF_CONFIG says neither."""
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return 1, True
    try:
        told = json.loads(text)
        hosts = {kind: len(told["cluster"][kind]) for kind in told["cluster"]} if told.get("cluster") else {}
        kind, index = (told["task"]["type"], int(told["task"]["index"])) if hosts else ("worker", 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"TF_CONFIG cannot be read ({error!r}); wanted is such as {EXAMPLE}") from error
    if not hosts:
        return 1, True
    if not set(hosts) <= {"chief", "worker"} or kind not in hosts or not 0 <= index < hosts[kind]:
        raise UsageError(f"TF_CONFIG names {kind} {index} of {hosts}; wanted are workers alone, such as {EXAMPLE}")
    return sum(hosts.values()), kind == "chief" or ("chief" not in hosts and index == 0)
