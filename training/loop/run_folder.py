"""Run folders: runs/<name>/<time>/ with checkpoint, history, TensorBoard events and pictures.

`run.json` describes the run: `what` was asked for, from which an interrupted run is found again, and `exported`, the
version it became, or null.
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
from ladle.training.errors import TrainingError, UsageError
from ladle.training.loop.checkpoint import Figures
from ladle.training.store import publish

CHECKPOINT, DESCRIPTION = "checkpoint.npz", "run.json"


class RunFolder:
    """One run on disk. It is locked until `close`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path, self._lock = path, lock
        self._writers: dict[str, Any] = {}

    @property
    def checkpoint(self) -> Path:
        return self.path / CHECKPOINT

    def entries(self) -> dict[str, Any]:
        """The entries of run.json."""
        return _entries(self.path)

    def update(self, **entries: Any) -> None:
        """Set entries of run.json; the others stay."""
        _write_json(self.path / DESCRIPTION, {**self.entries(), **entries})

    def write_history(self, epochs: list[Figures]) -> None:
        """Write history.json."""
        _write_json(self.path / "history.json", epochs)

    def add_scalars(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Write an epoch's metrics for TensorBoard, training and validation under one name, so one chart has both."""
        for name, value in figures.items():
            part = "validation" if name.startswith("val_") else "training"
            with self._writer(part).as_default():
                tf.summary.scalar(name.removeprefix("val_"), value, step=epoch)
        self._flush()

    def add_image(self, epoch: int, name: str, image: Array) -> None:
        """Write a picture of an epoch, uint8 [h, w, 3], for TensorBoard and as a PNG file."""
        with self._writer("training").as_default():
            tf.summary.image(name, image[None], step=epoch)
        folder = self.path / "pictures"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}-epoch-{epoch:03d}.png").write_bytes(tf.io.encode_png(image).numpy())
        self._flush()

    def close(self) -> None:
        """Close the TensorBoard files and release the lock."""
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


def check_writable(folder: Path, option: str) -> None:
    """Raise UsageError unless `folder` can be made, or written to if it exists. Nothing is made here."""
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
    if not existing.is_dir():
        raise UsageError(f"{option}: {existing} is a file; expected a folder; give another {option}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"{option}: {existing} is not writable; give another {option}")


@contextlib.contextmanager
def opened(
    runs: Path, name: str, what: Mapping[str, Any], resume: bool, holds: str = CHECKPOINT
) -> Iterator[RunFolder]:
    """The newest interrupted run of `name` with the same `what`, or a new run.

    holds  file that a run must have to be resumed

    A run that another process holds is skipped. Raises TrainingError: no folder can be made.
    """
    folder = (_interrupted(runs / name, what, holds) if resume else None) or _new(runs / name, what)
    try:
        yield folder
    finally:
        folder.close()


def newest(runs: Path, name: str) -> Path:
    """The newest run of `name` that has a checkpoint. TrainingError: there is none."""
    for path in sorted((runs / name).glob(f"*/{CHECKPOINT}"), reverse=True):
        return path.parent
    raise TrainingError(f"{runs / name} has no run with a checkpoint; train it first: ladle train {name}")


def read(path: Path) -> dict[str, Any]:
    """The entries of a run's run.json. TrainingError: the folder has none."""
    entries = _entries(path)
    if not entries:
        raise TrainingError(f"{path} is not a run: it has no {DESCRIPTION} of Ladle; give a folder of runs/NAME/")
    return entries


def _interrupted(home: Path, what: Mapping[str, Any], holds: str) -> RunFolder | None:
    for path in sorted(home.glob(f"*/{holds}"), reverse=True):
        entries = _entries(path.parent)
        if entries.get("exported") is None and entries.get("what") == _as_json(what):
            lock = _lock(path.parent)
            if lock is not None:
                return RunFolder(path.parent, lock)
    return None


def _new(home: Path, what: Mapping[str, Any]) -> RunFolder:
    start = datetime.datetime.now(datetime.UTC)
    try:
        home.mkdir(parents=True, exist_ok=True)
        # Two runs may start in one second: the later one takes the next second that is free.
        for second in range(1000):
            path = home / (start + datetime.timedelta(seconds=second)).strftime("%Y-%m-%dT%H-%M-%S")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            lock = _lock(path)
            assert lock is not None
            _write_json(path / DESCRIPTION, {"what": what, "exported": None})
            return RunFolder(path, lock)
    except OSError as error:
        raise TrainingError(f"{home}: cannot make a run folder ({error.strerror}); give another --runs") from error
    raise TrainingError(f"{home}: 1000 runs started within 1000 s; wait, or give another --runs")


def _lock(path: Path) -> int | None:
    """A file descriptor that locks the folder; None while another process holds it.

    The kernel releases the lock when the process ends, however it ends: a killed run needs no clean-up to be resumed.
    """
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _entries(path: Path) -> dict[str, Any]:
    try:
        content = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("what"), dict) else {}


def _write_json(path: Path, content: Any) -> None:
    publish.write_file(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def _as_json(value: Any) -> Any:
    """The value as it comes back from a file: tuples are lists."""
    return json.loads(json.dumps(value))
