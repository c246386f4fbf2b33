"""What ONNX Runtime computes on: the CPU, or a GPU by CUDA.

A GPU needs NVIDIA's driver and a wheel of ONNX Runtime that was built for it.
"""

from __future__ import annotations

import ctypes
import logging
import re
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
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


_ARENAS = {"exact": "kSameAsRequested", "doubling": "kNextPowerOfTwo"}
_CONVOLUTIONS = {"estimated": "HEURISTIC", "measured": "EXHAUSTIVE"}


@dataclass(frozen=True)
class Gpu:
    """A GPU, and how ONNX Runtime uses it.

    index               its number
    memory_limit_bytes  most memory that a session takes for tensors; 0: any
    arena               how that memory grows: "exact", by what a run needs, so that models share the GPU's memory;
                        "doubling", which asks the driver less often
    convolutions        how cuDNN chooses them: "estimated", or "measured" at each new shape, which takes seconds
    sessions            of each graph, with memory and streams of their own
    io_binding          whether inputs and outputs are bound on the GPU
    """

    index: int = 0
    memory_limit_bytes: int = 0
    arena: str = "exact"
    convolutions: str = "estimated"
    sessions: int = 1
    io_binding: bool = False


def from_flags(options: SimpleNamespace) -> Gpu | None:
    """The GPU that `--device` names, used as the flags `--gpu_*` say; None: the CPU.

    InvalidArgument for another device, a wrong value, and flags of a GPU with the CPU. FailedPrecondition: the GPU
    cannot be used; the text says what is missing.
    """
    wanted = Gpu(
        memory_limit_bytes=options.gpu_memory_limit_bytes,
        arena=options.gpu_arena,
        convolutions=options.gpu_convolutions,
        sessions=options.gpu_sessions,
        io_binding=options.gpu_io_binding,
    )
    for name, known in (("arena", _ARENAS), ("convolutions", _CONVOLUTIONS)):
        if (given := getattr(wanted, name)) not in known:
            raise InvalidArgument(f"unknown --gpu_{name}={given}; expected {' or '.join(known)}")
    for name, least in (("sessions", 1), ("memory_limit_bytes", 0)):
        if (number := getattr(wanted, name)) < least:
            raise InvalidArgument(f"got --gpu_{name}={number}; expected at least {least}")
    index = choose(options.device)
    changed = [each.name for each in fields(Gpu) if getattr(wanted, each.name) != each.default]
    if options.device == "cpu" and changed:
        raise InvalidArgument(f"--gpu_{changed[0]} needs a GPU; give --device=cuda:0 or --device=auto, too")
    return None if index is None else replace(wanted, index=index)


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
    return "" if opens(Gpu(index)) else f"ONNX Runtime cannot use it: {_LIBRARIES}"


def opens(gpu: Gpu | None) -> bool:
    """Whether a session runs on the GPU (None: CPU). Where ONNX Runtime lacks a library, it falls back to the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(_IDENTITY, options, providers=providers(gpu))
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        log.info("ONNX Runtime cannot open a session on %s: %s", gpu or "the CPU", error)
        return False
    return gpu is None or _CUDA in session.get_providers()


def described() -> str:
    """The device that `--device=auto` takes, as a sentence."""
    why = missing(0)
    return f"cpu: {why}" if why else "cuda:0, by --device=auto or --device=cuda:0"


def providers(gpu: Gpu | None) -> list[Any]:
    """ONNX Runtime's providers of a session on the GPU. Operations without a CUDA kernel run on the CPU."""
    if gpu is None:
        return _CPU
    options = {
        "device_id": str(gpu.index),
        "arena_extend_strategy": _ARENAS[gpu.arena],
        "cudnn_conv_algo_search": _CONVOLUTIONS[gpu.convolutions],
    }
    if gpu.memory_limit_bytes:
        options["gpu_mem_limit"] = str(gpu.memory_limit_bytes)
    return [(_CUDA, options), *_CPU]


def check(session: Any, gpu: Gpu | None) -> None:
    """FailedPrecondition if a session that was to use a GPU does not: ONNX Runtime only logs which library it lacks."""
    if gpu is not None and _CUDA not in session.get_providers():
        why = f"ONNX Runtime cannot use cuda:{gpu.index}: {_LIBRARIES}"
        raise FailedPrecondition(f"{why}; --device=cpu runs on the CPU")
