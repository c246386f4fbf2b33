"""`--device`: what ONNX Runtime computes on, and the refusal where a GPU cannot be used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from ladle.serving.errors import FailedPrecondition, InvalidArgument
from ladle.serving.flags import FLAGS
from ladle.serving.open_inference import describe
from ladle.serving.servables.engines.gpu import device
from ladle.serving.servables.engines.gpu.device import Gpu
from ladle.serving.servables.engines.gpu.runs import Spread

ROOT = Path(__file__).resolve().parents[4]
without_gpu = pytest.mark.skipif(not device.missing(0), reason="this machine has a GPU that ONNX Runtime can use")


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:-1", "cuda:0x", ""])
def test_a_device_of_another_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="expected cpu, auto, or cuda:0 and so on"):
        device.choose(text)


def flags(**given: Any) -> SimpleNamespace:
    found = {flag.name: flag.default for flag in FLAGS if flag.name.startswith("gpu_") or flag.name == "device"}
    return SimpleNamespace(**{**found, **given})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"gpu_arena": "big"}, "unknown --gpu_arena=big; expected exact or doubling"),
        ({"gpu_convolutions": "best"}, "unknown --gpu_convolutions=best; expected estimated or measured"),
        ({"gpu_sessions": 0}, "got --gpu_sessions=0; expected at least 1"),
        ({"gpu_memory_limit_bytes": -1}, "got --gpu_memory_limit_bytes=-1; expected at least 0"),
        ({"gpu_sessions": 2}, "--gpu_sessions needs a GPU; give --device=cuda:0 or --device=auto, too"),
        ({"gpu_io_binding": True}, "--gpu_io_binding needs a GPU; give --device=cuda:0 or --device=auto, too"),
    ],
)
def test_a_wrong_flag_of_a_gpu_is_refused(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        device.from_flags(flags(**given))
    assert refused.value.message == expected


def test_flags_of_a_gpu_are_options_of_onnx_runtime() -> None:
    assert device.from_flags(flags()) is None
    assert device.providers(None) == ["CPUExecutionProvider"]
    (_, few), _ = device.providers(Gpu(1))
    assert few == {"device_id": "1", "arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
    (name, all_of_them), _ = device.providers(Gpu(0, 2**30, "doubling", "measured"))
    assert name == "CUDAExecutionProvider"
    assert all_of_them["gpu_mem_limit"] == str(2**30)
    assert all_of_them["arena_extend_strategy"] == "kNextPowerOfTwo"
    assert all_of_them["cudnn_conv_algo_search"] == "EXHAUSTIVE"


@pytest.mark.parametrize("io_binding", [False, True], ids=["plain", "bound"])
def test_runs_are_spread_over_sessions_and_answer_alike(io_binding: bool, tiny_repository: Path) -> None:
    """On the CPU: the calls are those of a GPU but for the name of the device."""
    file = tiny_repository / "half_plus_two" / "1" / "model.onnx"
    sessions = [onnxruntime.InferenceSession(file) for _ in range(3)]
    spread = Spread(sessions, "cpu", 0, io_binding)
    (given,), outputs = sessions[0].get_inputs(), [each.name for each in sessions[0].get_outputs()]
    feeds = [{given.name: np.arange(n, n + 4, dtype=np.float32)[::-1, None]} for n in range(12)]  # not contiguous
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda feed: spread.call(outputs, feed, None), feeds))
    for feed, answer in zip(feeds, answers, strict=True):
        for found, expected in zip(answer, sessions[0].run(outputs, feed), strict=True):
            np.testing.assert_array_equal(found, expected)
    spread.warm_up({given.name: np.ones((1, 1), np.float32)}, (1, 4))
    with pytest.raises(Exception, match=r"(?i)invalid"):
        spread.call(["none"], feeds[0], None)
    assert spread.running == 0


@without_gpu
def test_a_gpu_that_cannot_be_used_is_refused_with_what_is_missing() -> None:
    for text in ("cuda", "cuda:0", "cuda:12"):
        with pytest.raises(FailedPrecondition, match=r"--device=cuda.*; --device=cpu runs on the CPU") as refused:
            device.choose(text)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert "install onnxruntime-gpu of this version in its place" in refused.value.message
    assert device.choose("auto") is None
    assert device.choose("cpu") is None
    assert device.described().startswith("cpu: ")


def test_a_session_that_fell_back_to_the_cpu_is_no_gpu(tiny_repository: Path) -> None:
    session = onnxruntime.InferenceSession(tiny_repository / "half_plus_two" / "1" / "model.onnx")
    device.check(session, None)
    if "CUDAExecutionProvider" not in session.get_providers():
        with pytest.raises(FailedPrecondition, match="cuda:1: its CUDA or cuDNN libraries cannot be loaded"):
            device.check(session, Gpu(1))


def test_a_device_counts_as_usable_only_if_a_session_runs_on_it() -> None:
    assert device.opens(None)
    assert device.opens(Gpu()) is not bool(device.missing(0))


def test_the_platform_of_a_model_does_not_depend_on_the_device() -> None:
    for name in ("ONNX Runtime", "ONNX Runtime (cuda:0)"):
        servable = SimpleNamespace(engines={"serving_default": SimpleNamespace(name=name)})
        assert describe.platform(servable, "serving_default") == "onnxruntime_onnx"


@without_gpu
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_says_at_its_start_what_the_gpu_lacks(workers: int, tiny_repository: Path) -> None:
    command = [sys.executable, "-m", "ladle.serving", f"--repository={tiny_repository}", "--port=0"]
    command += ["--grpc_socket_path=none.sock"] if workers == 1 else ["--port=18500", f"--workers={workers}"]
    done = subprocess.run([*command, "--device=cuda:0"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 255
    said = done.stdout + done.stderr
    assert "FAILED_PRECONDITION: --device=cuda:0: " in said
    assert "Traceback" not in said


@without_gpu
def test_auto_serves_on_the_cpu_where_there_is_no_gpu(serve: Callable[..., Any], tiny_repository: Path) -> None:
    server = serve("--repository", tiny_repository, "--device=auto", models=["half_plus_two"])
    status, body = server.send("POST", "/v1/models/half_plus_two:predict", b'{"instances": [2.0]}')
    assert (status, b"predictions" in body) == (200, True)
    assert "--device=auto: ONNX Runtime uses the CPU: " in server.log.read_text()
