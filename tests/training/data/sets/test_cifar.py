from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.training import data
from ladle.training.data import DataError


def dump(path: Path, table: dict[bytes, Any]) -> None:
    path.write_bytes(pickle.dumps(table, protocol=2))


@pytest.fixture
def cifar10(tmp_path: Path, random: np.random.Generator) -> Path:
    """Two training batches of 10 and a test batch of 5, as the original has five of 10,000."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, count in (("data_batch_1", 10), ("data_batch_2", 10), ("test_batch", 5)):
        pixels = random.integers(0, 256, (count, 3072)).astype(np.uint8)
        dump(folder / name, {b"data": pixels, b"labels": [i % 10 for i in range(count)]})
    dump(folder / "batches.meta", {b"label_names": [f"class{k}".encode() for k in range(10)]})
    return folder


def test_any_number_of_batches_is_read(cifar10: Path) -> None:
    dataset = data.load("cifar10", path=cifar10)
    assert dataset.sizes() == {"train": 18, "validation": 2, "test": 5}
    assert dataset.train.x.shape == (18, 32, 32, 3)
    assert dataset.labels == tuple(f"class{k}" for k in range(10))


def test_planes_become_channels(cifar10: Path) -> None:
    batch = pickle.loads((cifar10 / "test_batch").read_bytes())
    image = data.load("cifar10", path=cifar10).test.x[0]
    for channel in range(3):
        plane = batch[b"data"][0, channel * 1024 : (channel + 1) * 1024].reshape(32, 32)
        assert (image[..., channel] == plane).all()


def test_the_folder_around_it_and_the_archive_are_read_alike(cifar10: Path) -> None:
    archive = cifar10.parent / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar10, "cifar-10-batches-py")
    datasets = [data.load("cifar10", path=path) for path in (cifar10, archive)]
    os.rename(cifar10, cifar10.parent.parent / "moved")
    datasets.append(data.load("cifar10", path=cifar10.parent))
    for other in datasets[1:]:
        assert (other.train.x == datasets[0].train.x).all()


def test_without_a_test_batch_it_is_said(cifar10: Path) -> None:
    (cifar10 / "test_batch").unlink()
    dataset = data.load("cifar10", path=cifar10)
    assert dataset.sizes() == {"train": 14, "validation": 2, "test": 4}
    assert "no test file" in dataset.provenance.notes


def test_the_hundred_fine_classes_are_the_labels(tmp_path: Path, random: np.random.Generator) -> None:
    pixels = random.integers(0, 256, (20, 3072)).astype(np.uint8)
    for name in ("train", "test"):
        table = {b"data": pixels, b"fine_labels": list(range(80, 100)), b"coarse_labels": [0] * 20}
        dump(tmp_path / name, table)
    dump(tmp_path / "meta", {b"fine_label_names": [b"x%d" % k for k in range(100)]})
    dataset = data.load("cifar100", path=tmp_path)
    assert dataset.test.y is not None
    assert dataset.test.y.tolist() == list(range(80, 100))
    assert dataset.labels is not None
    assert len(dataset.labels) == 100


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harmed",)


def test_a_pickle_that_would_run_code_is_refused(
    cifar10: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (cifar10 / "data_batch_2").write_bytes(pickle.dumps(Harm(), protocol=2))
    with pytest.raises(DataError, match=r"data_batch_2: cannot be read as a pickle of arrays \(it names .*system"):
        data.load("cifar10", path=cifar10)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({b"labels": [1]}, "has no entry data"),
        ({b"data": np.zeros((1, 3072), np.uint8)}, "has no entry labels"),
        ({b"data": np.zeros((1, 99), np.uint8), b"labels": [1]}, r"uint8 \[1, 99\]; expected uint8 \[n, 3072\]"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, "1 labels for 2 examples"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [-1]}, "has label -1; expected 0 to 9"),
    ],
    ids=["no data", "no labels", "wrong shape", "too few labels", "wrong label"],
)
def test_a_broken_batch_is_named(cifar10: Path, table: dict[bytes, Any], says: str) -> None:
    dump(cifar10 / "data_batch_2", table)
    with pytest.raises(DataError, match=rf"data_batch_2: .*{says}|{says}"):
        data.load("cifar10", path=cifar10)


def test_a_truncated_archive_is_named(tmp_path: Path, random: np.random.Generator) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        info.size = 100_000
        tar.addfile(info, io.BytesIO(random.bytes(100_000)))
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: cannot be read to the end"):
        data.load("cifar10", path=archive)


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no batches\.meta; expected cifar-10-batches-py/"):
        data.load("cifar10", path=tmp_path)
