"""What ONNX Runtime computes on: the CPU, or a GPU by CUDA.

A GPU needs NVIDIA's driver and a wheel of ONNX Runtime that was built for it.
"""

from __future__ import annotations

import ctypes
import logging
import re
from typing import Any

import onnxruntime

from ladle.serving.errors import FailedPrecondition, InvalidArgument

log = logging.getLogger(__name__)

_CUDA = "CUDAExecutionProvider"
_DRIVER = "libcuda.so.1"
_CPU: list[Any] = ["CPUExecutionProvider"]
_LIBRARIES = (
    "its CUDA or cuDNN libraries cannot be loaded; install onnxruntime-gpu[cuda,cudnn], or put them on LD_LIBRARY_PATH"
)
_IDENTITY = (  # an ONNX graph, y = x of one float32
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def choose(text: str) -> int | None:
    """The GPU that `--device` names, by its number; None: the CPU.

    InvalidArgument for another word. FailedPrecondition: the GPU cannot be used; the text says what is missing.
    """
    if text == "cpu":
        return None
    if text == "auto":
        why = missing(0)
        log.info("--device=auto: %s", f"ONNX Runtime uses the CPU: {why}" if why else "ONNX Runtime uses cuda:0")
        return None if why else 0
    found = re.fullmatch(r"cuda(?::(\d{1,3}))?", text)
    if found is None:
        raise InvalidArgument(f"unknown --device={text}; expected cpu, auto, or cuda:0 and so on")
    index = int(found[1] or 0)
    if why := missing(index):
        raise FailedPrecondition(f"--device={text}: {why}; --device=cpu runs on the CPU")
    return index


def missing(index: int) -> str:
    """Why a GPU cannot be used, and what to do; empty if nothing is known to be missing."""
    if _CUDA not in onnxruntime.get_available_providers():
        return (
            f"onnxruntime {onnxruntime.__version__} was built without CUDA; install onnxruntime-gpu of this version in "
            "its place"
        )
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return f"NVIDIA's driver is not installed ({_DRIVER} is missing)"
    if code := driver.cuInit(0):
        return f"NVIDIA's driver does not start (cuInit answers {code}); nvidia-smi says more"
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    if count.value <= index:
        return f"the driver sees {count.value} GPU{'s' * (count.value != 1)}; numbers begin with 0"
    return "" if opens(index) else f"ONNX Runtime cannot use it: {_LIBRARIES}"


def opens(index: int | None) -> bool:
    """Whether a session runs on that device. Where ONNX Runtime lacks a library, it falls back to the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(_IDENTITY, options, providers=providers(index))
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        log.info("ONNX Runtime cannot open a session on cuda:%s: %s", index, error)
        return False
    return index is None or _CUDA in session.get_providers()


def described() -> str:
    """The device that `--device=auto` takes, as a sentence."""
    why = missing(0)
    return f"cpu: {why}" if why else "cuda:0, by --device=auto or --device=cuda:0"


def providers(index: int | None) -> list[Any]:
    """ONNX Runtime's providers of a session on that device. Operations without a CUDA kernel run on the CPU."""
    if index is None:
        return _CPU
    # The arena grows by what a run needs, so that models share the GPU's memory. cuDNN estimates which convolution is
    # the fastest: to measure all of them at each new shape takes seconds.
    options = {
        "device_id": str(index),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    return [(_CUDA, options), *_CPU]


def check(session: Any, index: int | None) -> None:
    """FailedPrecondition if a session that was to use a GPU does not: ONNX Runtime only logs which library it lacks."""
    if index is not None and _CUDA not in session.get_providers():
        raise FailedPrecondition(f"ONNX Runtime cannot use cuda:{index}: {_LIBRARIES}; --device=cpu runs on the CPU")
