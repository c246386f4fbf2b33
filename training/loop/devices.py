"""What a run is computed on: strategy, precision, and the machine in words."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from ladle.training.loop import hosts


def start() -> None:
    """Begin to use the devices: a GPU's memory is taken as it is needed, not all at once.

    With TF_CONFIG they wait for `join`: a strategy of several hosts must come first.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # in use already: it stays as it is
            tf.config.experimental.set_memory_growth(gpu, True)
    if not os.environ.get("TF_CONFIG"):
        tf.config.list_logical_devices()


def join() -> None:
    """Meet the other hosts that TF_CONFIG names; UsageError when it cannot be read or this is too late."""
    if hosts.count() > 1:
        hosts.strategy()


def strategy(devices: Sequence[str] | None = None) -> tf.distribute.Strategy:
    """MirroredStrategy over the given devices or all GPUs when they are several; with TF_CONFIG that of all hosts.

    Else the default strategy. A batch is dealt out among the devices.
    """
    if hosts.count() > 1:
        return hosts.strategy()
    if devices or len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy(list(devices) if devices else None)
    return tf.distribute.get_strategy()


def gpus() -> int:
    """How many GPUs TensorFlow sees."""
    return len(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Models that are built inside compute in that precision; their weights stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def machine() -> str:
    """The machine in words: `1 x NVIDIA H100`, else `2 x AMD EPYC 7B13` with the cores that this process may use."""
    if hosts.count() > 1:
        return f"{hosts.count()} hosts, each {_host()}"
    return _host()


def _host() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return f"{len(gpus)} x {details.get('device_name', 'GPU')}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    share = f", {threads} of them used" if threads.isdecimal() and 0 < int(threads) < cores else ""
    return f"{cores} x {_processor()}{share}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.processor() or platform.machine()
