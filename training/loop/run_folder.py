"""Run folders: runs/<name>/<time>/ with checkpoint, history, TensorBoard events, pictures.

`run.json` says what the run is; from it an interrupted run is found again, and `exported` is set when it is over.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from ladle.training.data.dataset import Array
from ladle.training.errors import TrainingError
from ladle.training.loop.checkpoint import Figures
from ladle.training.store import publish

CHECKPOINT, TOLD = "checkpoint.npz", "run.json"


class RunFolder:
    """One run on disk. Whoever opens it holds its lock until `close`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path, self._lock = path, lock
        self._writers: dict[str, Any] = {}

    @property
    def checkpoint(self) -> Path:
        return self.path / CHECKPOINT

    def told(self) -> dict[str, Any]:
        """What run.json says."""
        return _told(self.path)

    def tell(self, **entries: Any) -> None:
        """Put entries into run.json."""
        _write_json(self.path / TOLD, {**self.told(), **entries})

    def history(self, epochs: list[Figures]) -> None:
        """Write history.json."""
        _write_json(self.path / "history.json", epochs)

    def scalars(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Training and validation figures of an epoch to TensorBoard, under one name each."""
        for name, value in figures.items():
            part = "validation" if name.startswith("val_") else "training"
            with self._writer(part).as_default():
                tf.summary.scalar(name.removeprefix("val_"), value, step=epoch)
        self._flush()

    def image(self, epoch: int, name: str, image: Array) -> None:
        """A picture of an epoch, uint8 [h, w, 3], to TensorBoard and as PNG."""
        with self._writer("training").as_default():
            tf.summary.image(name, image[None], step=epoch)
        folder = self.path / "pictures"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}-epoch-{epoch:03d}.png").write_bytes(tf.io.encode_png(image).numpy())
        self._flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        os.close(self._lock)

    def _writer(self, part: str) -> Any:
        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(str(self.path / "tensorboard" / part))
        return self._writers[part]

    def _flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()


@contextlib.contextmanager
def opened(
    runs: Path, name: str, what: Mapping[str, Any], resume: bool, holds: str = CHECKPOINT
) -> Iterator[RunFolder]:
    """The newest interrupted run of `name` that is described by the same `what`, or a new one.

    A run that another process works on is left to it, one without the file `holds` has nothing to go on from.
    """
    folder = (_interrupted(runs / name, what, holds) if resume else None) or _new(runs / name, what)
    try:
        yield folder
    finally:
        folder.close()


def newest(runs: Path, name: str) -> Path:
    """The newest run that has a checkpoint; TrainingError without one."""
    for path in sorted((runs / name).glob(f"*/{CHECKPOINT}"), reverse=True):
        return path.parent
    raise TrainingError(f"{runs / name} has no run with a checkpoint; train it first: ladle train {name}")


def read(path: Path) -> dict[str, Any]:
    """run.json of a run; TrainingError when it is none."""
    told = _told(path)
    if not told:
        raise TrainingError(f"{path} is no run: it has no {TOLD}")
    return told


def _interrupted(home: Path, what: Mapping[str, Any], holds: str) -> RunFolder | None:
    for path in sorted(home.glob(f"*/{holds}"), reverse=True):
        told = _told(path.parent)
        if told.get("exported") is None and told.get("what") == _json(what):
            lock = _locked(path.parent)
            if lock is not None:
                return RunFolder(path.parent, lock)
    return None


def _new(home: Path, what: Mapping[str, Any]) -> RunFolder:
    home.mkdir(parents=True, exist_ok=True)
    start = datetime.datetime.now(datetime.timezone.utc)
    for second in range(1000):
        path = home / (start + datetime.timedelta(seconds=second)).strftime("%Y-%m-%dT%H-%M-%S")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        lock = _locked(path)
        assert lock is not None
        _write_json(path / TOLD, {"what": what, "exported": None})
        return RunFolder(path, lock)
    raise TrainingError(f"{home} is full of runs that begin now; wait, or give another --runs")


def _locked(path: Path) -> int | None:
    """A lock on the folder that dies with this process; None while another process holds it."""
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _told(path: Path) -> dict[str, Any]:
    try:
        content = json.loads((path / TOLD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(path: Path, content: Any) -> None:
    publish.write_file(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def _json(value: Any) -> Any:
    """As it comes back from a file."""
    return json.loads(json.dumps(value))
