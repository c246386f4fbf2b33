"""Training uses the fast kernels of the processor, also by a network that Keras fits."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

ON = "oneDNN custom operations are on"
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN is TensorFlow's choice elsewhere")


def _messages(room: str, **wanted: str) -> str:
    """What TensorFlow says when a room is imported before it, in an environment without any choice but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    command = [sys.executable, "-c", f"import ladle.{room}, tensorflow"]
    found = subprocess.run(
        command, env=kept | wanted | {"TF_CPP_MIN_LOG_LEVEL": "0"}, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    return found.stderr


@pytest.mark.parametrize("room", ["training", "models"])
def test_training_uses_onednn_on_every_x86_processor(room: str) -> None:
    assert ON in _messages(room)


def test_the_users_own_choice_of_kernels_holds() -> None:
    assert ON not in _messages("training", TF_ENABLE_ONEDNN_OPTS="0")
