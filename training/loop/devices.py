"""What a run computes on: the distribution strategy, the precision, and the machine in words."""

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
    """Initialise the devices. A GPU's memory is taken as needed, not all at once.

    With TF_CONFIG set, this only configures them: `join` must run first.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # initialised already; its memory policy can no longer change
            tf.config.experimental.set_memory_growth(gpu, True)
    # MultiWorkerMirroredStrategy must configure the collective operations before any device is initialised. Listing
    # the logical devices initialises them.
    if not os.environ.get("TF_CONFIG"):
        tf.config.list_logical_devices()


def join() -> None:
    """Connect to the other hosts in TF_CONFIG. UsageError: TF_CONFIG is invalid, or TensorFlow has computed before."""
    if hosts.count() > 1:
        hosts.strategy()


def strategy(devices: Sequence[str] | None = None) -> tf.distribute.Strategy:
    """The strategy for this machine: each batch is split among the devices.

    With TF_CONFIG, the strategy of all hosts. With several GPUs or given `devices`, MirroredStrategy over them. Else
    TensorFlow's default strategy.
    """
    if hosts.count() > 1:
        return hosts.strategy()
    if devices or len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy(list(devices) if devices else None)
    return tf.distribute.get_strategy()


def gpus() -> int:
    """The number of GPUs that TensorFlow sees."""
    return len(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Models built inside the block compute in this precision; their weights stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def machine() -> str:
    """The machine in words: `1 x NVIDIA H100`, or `2 x AMD EPYC 7B13` with the cores that this process may use."""
    if hosts.count() > 1:
        return f"{hosts.count()} hosts, each {_host()}"
    return _host()


def _host() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return f"{len(gpus)} x {details.get('device_name', 'GPU')}"
    # A container may be limited to some of the machine's cores, so os.cpu_count() would claim too many.
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
