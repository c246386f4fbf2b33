"""Clients written by others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def test_the_stubs_of_tensorflow_serving_api_get_answers(tiny_server: Any) -> None:
    script = Path(__file__).with_name("upstream_client.py")
    command = [sys.executable, str(script), f"127.0.0.1:{tiny_server.grpc_port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    code, details = answers.pop("reload")
    assert code == "PERMISSION_DENIED"
    assert "--allow_config_reload" in details
    assert answers == {
        "predict": [[2.5], [3.0]],
        "classify": [3.0],
        "regress": [3.0],
        "multi": [4.0],
        "signatures": ["classify_x", "regress_x", "serving_default", "ungraphed"],
        "dtype": True,
        "status": [[1, True, 0]],
        "unknown": ["NOT_FOUND", "Servable not found for request: Latest(nope)"],
    }


_CLIENT = """
import sys
import numpy as np
from min_tfs_client.requests import TensorServingClient
from min_tfs_client.tensors import tensor_proto_to_ndarray

client = TensorServingClient("127.0.0.1", int(sys.argv[1]))
answer = client.predict_request("half_plus_two", {"x": np.array([[1.0], [2.0]], np.float32)}, model_version=1)
print(tensor_proto_to_ndarray(answer.outputs["y"]).tolist(), answer.model_spec.version.value)
"""


@pytest.mark.slow
def test_a_client_with_its_own_codec_gets_answers(tiny_server: Any, tmp_path: Path) -> None:
    """min-tfs-client 1.0.2 of 2020 needs a protobuf of its time, and so an environment of its own."""
    packages = ["min-tfs-client==1.0.2", "protobuf==3.20.3", "numpy<2", "grpcio"]
    uv = Path(sys.executable).with_name("uv")
    python = tmp_path / "venv" / "bin" / "python"
    for command in (["venv", tmp_path / "venv"], ["pip", "install", "--offline", "--python", python, *packages]):
        done = subprocess.run([uv, *command], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"not in uv's cache; fill it once with: uv pip install {' '.join(packages)}")
    command = [python, "-c", _CLIENT, str(tiny_server.grpc_port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[[2.5], [3.0]] 1", done.stderr
