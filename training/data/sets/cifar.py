"""CIFAR-10 and CIFAR-100: 60,000 colour pictures, 32x32, in 10 or 100 classes (Krizhevsky 2009)."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ladle.training.data.dataset import Array, Contents, Split, deal, part, split_indices, take
from ladle.training.data.errors import DataError
from ladle.training.data.fetch.sources import Download, File
from ladle.training.data.readers import files, pickles
from ladle.training.data.registry import Entry
from ladle.training.data.sets import synthetic

ORIGIN = "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images"
LICENCE = "none stated: cite Krizhevsky 2009"
HOST = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class Layout:
    """Names in the original archive.

    folder       folder of all files
    train, test  patterns of the data files
    label        key of the class ids in a data file
    meta, names  file and key of the class names
    validation   number of training images drawn for validation, at most
    """

    folder: str
    train: str
    test: str
    label: bytes
    meta: str
    names: bytes
    validation: int = 5_000


TEN = Layout("cifar-10-batches-py", "data_batch_*", "test_batch", b"labels", "batches.meta", b"label_names")
HUNDRED = Layout("cifar-100-python", "train", "test", b"fine_labels", "meta", b"fine_label_names")


def read(path: Path, seed: int, layout: Layout) -> Contents:
    """Images uint8 [n, 32, 32, 3], labels int64 [n].

    `path` is the archive, its folder, or the folder that contains it, with any number of training files. The test file
    is the test split; without one, a fifth of the training files is.
    """
    members = dict(_members(path, layout))
    read_from = tuple(data for data in members.values() if isinstance(data, Path))
    names = _names(path, members, layout)
    trains = sorted(name for name in members if Path(name).match(layout.train))
    if not trains:
        raise DataError(f"{path}: has no {layout.train}; expected {_described(layout)}")
    pairs = [_batch(path / name, members.pop(name), layout, len(names)) for name in trains]
    x = np.concatenate([x for x, _ in pairs]) if len(pairs) > 1 else pairs[0][0]
    y = np.concatenate([y for _, y in pairs])
    del pairs  # the training images take 150 MB; do not hold them twice
    if layout.test not in members:
        note = f"no test file; all splits drawn from {len(x)} training images by seed {seed}"
        return Contents(*deal(x, y, seed, 0.1, 0.2), names, note, files=read_from)
    test = Split(*_batch(path / layout.test, members[layout.test], layout, len(names)))
    held = min(layout.validation, part(len(x), 0.1))
    train_i, validation_i, _ = split_indices(len(x), seed, held, 0)
    note = f"test as given; {held} validation images drawn from the training files by seed {seed}"
    return Contents(take(x, y, train_i), take(x, y, validation_i), test, names, note, files=read_from)


def _described(layout: Layout) -> str:
    return f"{layout.folder}/ with {layout.train}, {layout.test} and {layout.meta}, or its .tar.gz"


def _members(path: Path, layout: Layout) -> Iterator[tuple[str, bytes | Path]]:
    """The files by name. Members of an archive are read into memory; nothing is unpacked to disk."""
    patterns = (layout.train, layout.test, layout.meta)
    archive = (
        path if path.is_file() else files.find(path, (f"{layout.folder.replace('-batches-py', '-python')}.tar.gz",))
    )
    if archive is None:
        folder = path / layout.folder if (path / layout.folder).is_dir() else path
        for file in sorted(folder.iterdir()):
            if file.is_file() and any(file.match(pattern) for pattern in patterns):
                yield file.name, file
        return
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                if member.isfile() and any(Path(name).match(pattern) for pattern in patterns):
                    stream = tar.extractfile(member)
                    assert stream is not None
                    yield name, stream.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{archive}: cannot be read to the end ({error}); get it again") from error


def _names(path: Path, members: dict[str, bytes | Path], layout: Layout) -> tuple[str, ...]:
    if layout.meta not in members:
        raise DataError(f"{path}: has no {layout.meta}; expected {_described(layout)}")
    names = _key(path / layout.meta, pickles.load(path / layout.meta, members.pop(layout.meta)), layout.names)
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


def _batch(path: Path, raw: bytes | Path, layout: Layout, classes: int) -> tuple[Array, Array]:
    """One file: planes [n, 3072] -> uint8 [n, 32, 32, 3], int64 [n]."""
    batch = pickles.load(path, raw)
    x, y = np.asarray(_key(path, batch, b"data")), np.asarray(_key(path, batch, layout.label))
    if x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != 3072 or y.ndim != 1:
        raise DataError(f"{path}: data is {x.dtype} {list(x.shape)}; expected uint8 [n, 3072]")
    files.same_count(path, x, y)
    images = np.ascontiguousarray(x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # [n, 32, 32, 3]
    return images, files.classes(path, y, classes)


def _key(path: Path, table: Any, key: bytes) -> Any:
    """A pickled table's entry; keys are bytes when Python 2 wrote them."""
    if isinstance(table, dict):
        for name in (key, key.decode()):
            if name in table:
                return table[name]
    raise DataError(f"{path}: has no entry {key.decode()}; get the file again")


def _entry(name: str, archive: str, sha256: str, size_bytes: int, classes: int, layout: Layout) -> Entry:
    def reads(path: Path, seed: int) -> Contents:
        return read(path, seed, layout)

    return Entry(
        name=name,
        kind="images",
        description=f"things and animals in {classes} classes, 32x32 colour",
        origin=ORIGIN,
        licence=LICENCE,
        splits="train 45,000, validation 5,000, test 10,000",
        layout=_described(layout),
        read=reads,
        generate=partial(synthetic.digits, height=32, width=32, channels=3, classes=classes),
        generated_name="synthetic_digits",
        sources=(Download(f"original: keras.datasets.{name}", size_bytes, (File(archive, HOST + archive, sha256),)),),
    )


DATASETS = [
    _entry(
        "cifar10",
        "cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        170_498_071,
        10,
        TEN,
    ),
    _entry(
        "cifar100",
        "cifar-100-python.tar.gz",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        169_001_437,
        100,
        HUNDRED,
    ),
]
