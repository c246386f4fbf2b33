"""`--device`: what ONNX Runtime computes on, and the refusal where a GPU cannot be used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from ladle.serving.errors import FailedPrecondition, InvalidArgument
from ladle.serving.open_inference import describe
from ladle.serving.servables.engines import device

ROOT = Path(__file__).resolve().parents[4]
without_gpu = pytest.mark.skipif(not device.missing(0), reason="this machine has a GPU that ONNX Runtime can use")


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:-1", "cuda:0x", ""])
def test_a_device_of_another_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="expected cpu, auto, or cuda:0 and so on"):
        device.choose(text)


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
        with pytest.raises(FailedPrecondition, match="CUDA or cuDNN libraries cannot be loaded"):
            device.check(session, 0)


def test_a_device_counts_as_usable_only_if_a_session_runs_on_it() -> None:
    assert device.opens(None)
    assert device.opens(0) is not bool(device.missing(0))


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
