"""MNIST's layout, which Fashion-MNIST shares: IDX files and keras.datasets' archive."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ladle.training import data
from ladle.training.data import DataError
from ladle.training.data.dataset import Array

Write = Callable[[Path, Array], Path]


def test_the_test_files_are_the_test_split_as_given(idx_folder: Path) -> None:
    dataset = data.load("fashion_mnist", path=idx_folder)
    assert dataset.sizes() == {"train": 55, "validation": 5, "test": 20}
    assert dataset.test.x.shape == (20, 28, 28, 1)
    assert dataset.test.x.dtype == np.uint8
    assert dataset.test.x[:, 0, 0, 0].tolist() == list(range(20))
    assert dataset.labels is not None
    assert dataset.labels[9] == "Ankle boot"


def test_validation_is_drawn_from_the_training_files_by_the_seed(idx_folder: Path) -> None:
    def numbers(seed: int) -> tuple[set[int], set[int]]:
        dataset = data.load("fashion_mnist", path=idx_folder, seed=seed)
        return set(dataset.train.x[:, 0, 0, 0].tolist()), set(dataset.validation.x[:, 0, 0, 0].tolist())

    train, validation = numbers(1)
    assert train | validation == set(range(60))
    assert not train & validation
    assert numbers(1) == (train, validation)
    assert numbers(2) != (train, validation)


def test_pictures_keep_their_labels(idx_folder: Path) -> None:
    split = data.load("fashion_mnist", path=idx_folder).train
    assert split.y is not None
    assert split.y.dtype == np.int64
    assert (split.y == split.x[:, 0, 0, 0] % 10).all()


def test_without_test_files_all_splits_come_from_the_training_files_and_it_is_said(idx_folder: Path) -> None:
    for file in idx_folder.glob("t10k*"):
        file.unlink()
    dataset = data.load("mnist", path=idx_folder)
    assert dataset.sizes() == {"train": 48, "validation": 6, "test": 6}
    assert "no test files" in dataset.provenance.notes


def test_files_without_gzip_are_read_too(idx_folder: Path) -> None:
    for file in list(idx_folder.iterdir()):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert len(data.load("fashion_mnist", path=idx_folder).test) == 20


def test_kerass_archive_is_read_too(tmp_path: Path, random: np.random.Generator) -> None:
    x = random.integers(0, 256, (30, 28, 28)).astype(np.uint8)
    y = (np.arange(30) % 10).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])
    for path in (tmp_path, tmp_path / "mnist.npz"):
        assert (data.load("mnist", path=path).test.x[..., 0] == x[:5]).all()


def truncate(folder: Path, write: Write) -> None:
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])


def shorten(folder: Path, write: Write) -> None:
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-1]))


def scribble(folder: Path, write: Write) -> None:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"<html>not found</html>")


def drop_labels(folder: Path, write: Write) -> None:
    (folder / "train-labels-idx1-ubyte.gz").unlink()


def too_few_labels(folder: Path, write: Write) -> None:
    write(folder / "train-labels-idx1-ubyte.gz", np.zeros(59))


def wrong_label(folder: Path, write: Write) -> None:
    write(folder / "train-labels-idx1-ubyte.gz", np.full(60, 10))


def swap(folder: Path, write: Write) -> None:
    write(folder / "train-images-idx3-ubyte.gz", np.zeros((60, 784)))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        pytest.param(truncate, r"train-images-idx3-ubyte\.gz: cannot be read to the end", id="truncated"),
        pytest.param(shorten, r"has 47039 bytes after its header; expected 47040 for \[60, 28, 28\]", id="shortened"),
        pytest.param(scribble, "expected an IDX file of bytes", id="something else"),
        pytest.param(drop_labels, "has no train-labels-idx1-ubyte", id="no labels"),
        pytest.param(too_few_labels, "59 labels for 60 examples", id="too few labels"),
        pytest.param(wrong_label, "has label 10; expected 0 to 9", id="wrong label"),
        pytest.param(swap, "has 2 dimensions; expected 3", id="wrong rank"),
    ],
)
def test_a_broken_folder_is_one_sentence_that_names_the_file(
    idx_folder: Path, write_idx: Write, harm: Callable[[Path, Write], None], says: str
) -> None:
    harm(idx_folder, write_idx)
    with pytest.raises(DataError, match=says) as caught:
        data.load("fashion_mnist", path=idx_folder)
    assert str(idx_folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder with train-images-idx3-ubyte"):
        data.load("fashion_mnist", path=tmp_path)


def test_an_archive_of_pickled_objects_is_refused(tmp_path: Path) -> None:
    lists = np.array([[]], object)
    np.savez(tmp_path / "mnist.npz", x_train=lists, y_train=lists, x_test=lists, y_test=lists)
    with pytest.raises(DataError, match="cannot be read as a NumPy archive of plain arrays"):
        data.load("mnist", path=tmp_path)
