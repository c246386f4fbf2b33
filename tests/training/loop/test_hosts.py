from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.training.errors import UsageError
from ladle.training.loop import hosts

ROOT = Path(__file__).resolve().parents[3]
HOSTS = {"worker": ["a:1", "b:2"]}


def config(cluster: Any, kind: str = "worker", index: int = 0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "count", "number"),
    [
        pytest.param("", 1, 0, id="none"),
        pytest.param("{}", 1, 0, id="empty"),
        pytest.param(config(HOSTS), 2, 0, id="first worker"),
        pytest.param(config(HOSTS, index=1), 2, 1, id="second worker"),
        pytest.param(config({"chief": ["c:1"], **HOSTS}, "chief"), 3, 0, id="chief"),
        pytest.param(config({"chief": ["c:1"], **HOSTS}, index=1), 3, 2, id="worker beside a chief"),
    ],
)
def test_one_host_is_the_chief(text: str, count: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    assert (hosts.count(), hosts.number(), hosts.chief()) == (count, number, number == 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("{", "TF_CONFIG is invalid", id="no JSON"),
        pytest.param('{"cluster": {"worker": ["a:1", "b:2"]}}', "TF_CONFIG is invalid", id="no task"),
        pytest.param(config(HOSTS, index=2), "got worker 2 of", id="no such worker"),
        pytest.param(config({"ps": ["a:1"], **HOSTS}), "expected chief and workers only", id="parameter server"),
    ],
)
def test_an_invalid_cluster_is_refused(text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError, match=said):
        hosts.count()


def test_one_host_agrees_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert hosts.agree([1.0], [2.0, 3.0]) == [1.0, 2.0, 3.0]
    assert hosts.broadcast(b"some") == b"some"
    assert hosts.gather(b"some") == [b"some"]
    assert hosts.on_chief(lambda: tmp_path) == tmp_path
    with hosts.runs_folder(tmp_path) as folder:
        assert folder == tmp_path


MEMBER = """
import sys
from pathlib import Path
import numpy as np
from ladle.training import data
from ladle.training.loop import checkpoint, devices, fit, hosts
from ladle.training.errors import InterruptedRunError, TrainingError
devices.join()
from ladle import models
from ladle.training.data.pipeline import prepare

assert hosts.agree([1.0], [5.0 if hosts.chief() else 7.0]) == [2.0, 5.0]
assert hosts.broadcast(b"chief's word" if hosts.chief() else b"mine") == b"chief's word"
assert hosts.gather(b"%d" % hosts.number()) == [b"0", b"1"]

def train(epochs, file, stop=lambda: False):
    network = models.get("resnet18")
    config = network.configured(**{**network.tiny, "epochs": epochs, "batch_size": 16, "monitor": ""})
    prepared = prepare(network, config, data.load(config.data, synthetic=True, count=100))
    with devices.strategy().scope():
        model = network.build(prepared.config)
    fit.fit(model, prepared, file, stop=stop)
    return checkpoint.values(model)

here = Path(sys.argv[1])
whole = train(1, here / "whole.npz")
try:
    train(1, here / "parts.npz", stop=lambda: True)
    raise AssertionError("was not stopped")
except InterruptedRunError as stopped:
    assert "epoch 1 of 1, step 1 of" in str(stopped), stopped
for a, b in zip(whole, train(1, here / "parts.npz"), strict=True):  # continues within the epoch
    np.testing.assert_array_equal(a, b)
train(1, here / "checkpoint.npz")
np.savez(here / "weights.npz", *train(2, here / "checkpoint.npz"))  # continues from the chief's checkpoint

def fails():
    raise TrainingError("no disk")

try:
    hosts.on_chief(fails)
except TrainingError as error:
    print(error, flush=True)
"""


def two(commands: list[list[str]]) -> list[tuple[str, str]]:
    """What two processes say, stdout and stderr, that train together on ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    cluster = {"worker": [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]}
    for s in sockets:
        s.close()
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    children = [
        subprocess.Popen(command, env={**os.environ, "TF_CONFIG": config(cluster, index=i)}, **pipes)
        for i, command in enumerate(commands)
    ]
    try:
        said = [child.communicate(timeout=280) for child in children]
    finally:
        for child in children:
            child.kill()
    for child, (_, error) in zip(children, said, strict=True):
        assert child.returncode == 0, error
    return said


@pytest.mark.slow
def test_two_hosts_share_each_batch_and_end_with_the_same_weights(tmp_path: Path) -> None:
    homes = [tmp_path / "chief", tmp_path / "other"]
    for home in homes:
        home.mkdir()
    said = two([[sys.executable, "-c", MEMBER, str(home)] for home in homes])
    assert [sorted(path.name for path in home.iterdir()) for home in homes] == [
        ["checkpoint.npz", "parts.npz", "weights.npz", "whole.npz"],
        ["weights.npz"],
    ]
    assert [out.splitlines()[-1] for out, _ in said] == [
        "no disk",
        "the chief failed to export; read its error message",
    ]

    weights = []
    for home in homes:
        with np.load(home / "weights.npz") as arrays:
            weights.append([arrays[f"arr_{i}"] for i in range(len(arrays.files))])
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_the_chief_alone_exports(tmp_path: Path) -> None:
    train = [sys.executable, "-m", "ladle.training", "train", "lenet5", "--filters", "2,4", "--units", "16,12"]
    train += ["--synthetic", "--epochs", "1", "--train-limit", "64", "--batch-size", "32", "--no-report"]
    said = two([[*train, "--repository", str(tmp_path / f"m{i}"), "--runs", str(tmp_path / f"r{i}")] for i in range(2)])
    assert [out.startswith(str(tmp_path / "m0" / "lenet5" / "1")) for out, _ in said] == [True, False]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m0", "r0"]
    told = json.loads((tmp_path / "m0" / "lenet5" / "1" / "assets.extra" / "card.json").read_text())
    assert told["machine"].startswith("2 hosts, each ")
