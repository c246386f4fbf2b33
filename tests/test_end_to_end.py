"""The showcase as a user runs it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SIX = "lenet5,resnet18,sentiment_lstm,unet,vae,wgan_gp"
"""What can be trained without published weights, which tests do not fetch."""


def demo(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    # A shell without job control has its background jobs ignore Ctrl-C, and what they start inherits that.
    # SIGABRT prints where every thread is: a demo that does not end says why.
    hears = "import faulthandler, runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    hears += "faulthandler.enable(); "
    code = f"{hears}runpy.run_module('ladle.clients.cli.demo', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment and {**os.environ, **environment},
        start_new_session=True,
    )


def test_the_showcase_asks_every_network_over_both_protocols(zoo: Path, tmp_path: Path) -> None:
    child = demo("--once", "--networks", SIX, "--repository", zoo, "--output", tmp_path)
    printed, _ = child.communicate(timeout=120)
    assert child.returncode == 0, printed
    assert "6 of 6 networks answered over gRPC and REST" in printed
    # The page comes first: it shows the models as they come.
    assert printed.index("the page: http://localhost:") < printed.index("lenet5")
    # What was trained on generated data is called so.
    assert printed.count("SYNTHETIC") == 6
    assert Image.open(tmp_path / "wgan_gp-generated.png").size[0] > 100
    assert Image.open(tmp_path / "unet-masks.png").mode == "RGB"


def test_the_showcase_fails_when_a_model_does_not_answer(zoo: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    shutil.copytree(zoo, repository)
    broken = repository / "lenet5" / "1"
    shutil.rmtree(broken)
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"not a model")
    child = demo("--once", "--networks", SIX, "--repository", repository, "--output", tmp_path / "out")
    printed, _ = child.communicate(timeout=120)
    assert child.returncode == 1, printed
    assert "FAULT  lenet5: " in printed
    assert "5 of 6 networks answered" in printed


def test_the_showcase_says_which_extras_are_missing_before_it_starts_anything(tmp_path: Path) -> None:
    hidden = ("tensorflow", "onnxruntime", "flask")  # as after the plain install
    code = (
        "import runpy, sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in {hidden!r}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "runpy.run_module('ladle.clients.cli.demo', run_name='__main__')\n"
    )
    arguments = ["--repository", tmp_path / "models", "--output", tmp_path / "out"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr == "ladle demo: packages are missing; run: pip install 'ladle[serve,web,train]'\n"
    assert list(tmp_path.iterdir()) == []


def ended(child: subprocess.Popen[str], line: str) -> int:
    """Exit code after Ctrl-C at a terminal, whose whole foreground group hears it, once `line` was printed."""
    assert child.stdout is not None
    assert any(line in printed for printed in child.stdout)
    os.killpg(child.pid, signal.SIGINT)
    try:
        child.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGABRT)
        pytest.fail(f"the demo did not end after Ctrl-C:\n{child.communicate()[0]}")
    return child.returncode


def test_ctrl_c_ends_the_showcase_after_the_answers(zoo: Path, tmp_path: Path) -> None:
    assert ended(demo("--networks", SIX, "--repository", zoo, "--output", tmp_path), "Press Ctrl-C to stop") == 0


@pytest.mark.slow
def test_ctrl_c_during_training_leaves_a_checkpoint(tmp_path: Path) -> None:
    child = demo(
        *("--networks", SIX, "--repository", tmp_path / "models"),
        *("--output", tmp_path / "out", "--runs", tmp_path / "runs"),
        # No registry in reach: what is not on this machine is generated, and named so.
        environment={
            "LADLE_CACHE": str(tmp_path / "cache"),
            "PATH": str(Path(sys.executable).parent),
            "PIP_NO_INDEX": "1",
            "https_proxy": "http://127.0.0.1:9",
        },
    )
    log = tmp_path / "out" / "training-1.log"
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("  run ") == 2):
        assert child.poll() is None
        time.sleep(0.1)
    assert ended(child, "training lenet5") == 130
    assert "the same command continues from there" in log.read_text()
    assert list((tmp_path / "runs" / "resnet18").glob("*/checkpoint.npz"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_showcase_trains_from_nothing(tmp_path: Path) -> None:
    child = demo("--once", "--repository", tmp_path / "models", "--output", tmp_path / "out")
    printed, _ = child.communicate(timeout=1700)
    assert child.returncode == 0, printed
