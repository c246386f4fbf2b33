"""Silence the start-up messages and logs of TensorFlow and its helpers."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside the block, TensorFlow, Keras and tf2onnx log nothing."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx", "absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def importing_tensorflow() -> Iterator[None]:
    """Say that TensorFlow is loaded, which takes seconds; inside the block, its start-up messages reach nobody.

    With TF_CPP_MIN_LOG_LEVEL=0 in the environment they are printed.
    """
    print("loading TensorFlow ...", file=sys.stderr, flush=True)
    # Before the import: TensorFlow reads it only then.
    shown = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0"
    with contextlib.nullcontext() if shown else without_stderr():
        yield


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """Inside the block, nothing reaches stderr.

    TensorFlow's C++ code writes to file descriptor 2 while it is imported, before any Python setting reaches it. So the
    descriptor itself is redirected, not `sys.stderr`.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
