"""Clients that others wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def test_the_stubs_of_tensorflow_serving_api_are_understood(tiny_server: Any) -> None:
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
