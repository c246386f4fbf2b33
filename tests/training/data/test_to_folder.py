from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladle.training import data
from ladle.training.data import commands, to_folder
from ladle.training.data.dataset import Dataset, Split
from ladle.training.data.errors import DataError

SPLITS = ("train", "validation", "test")


def assert_same(got: Dataset, wanted: Dataset) -> None:
    for name in SPLITS:
        a, b = getattr(got, name), getattr(wanted, name)
        np.testing.assert_array_equal(a.x, b.x)
        assert (a.y is None) == (b.y is None)
        if a.y is not None:
            np.testing.assert_array_equal(a.y, b.y)


def changed(dataset: Dataset, labels: tuple[str, ...] | None, change: Callable[[Split], Split]) -> Dataset:
    train, validation, test = (change(getattr(dataset, name)) for name in SPLITS)
    return dataclasses.replace(dataset, labels=labels, train=train, validation=validation, test=test)


def by_class(split: Split) -> Split:
    assert split.y is not None
    order = np.argsort(split.y, kind="stable")
    return Split(split.x[order], split.y[order])


def test_masks_are_read_back_as_they_were(tmp_path: Path) -> None:
    blobs = data.load("synthetic_blobs", count=20)
    assert to_folder.write(blobs, tmp_path / "blobs") == 20
    back = data.load("mask_folder", path=tmp_path / "blobs")
    assert_same(back, blobs)
    assert back.labels == blobs.labels
    assert sorted(path.name for path in (tmp_path / "blobs").iterdir()) == [
        "labels.txt",
        "provenance.json",
        *sorted(SPLITS),
    ]
    values = np.unique(np.asarray(Image.open(tmp_path / "blobs" / "train" / "mask" / "00000.png")))
    assert list(values) == [0, 255]
    told = back.provenance
    assert (told.name, told.source, told.licence) == ("mask_folder", "user's path: blobs", "none needed")
    assert told.synthetic
    assert told.notes.endswith("; written from synthetic_blobs")


def test_masks_of_many_classes_keep_their_ids_and_show_them_in_colour(tmp_path: Path) -> None:
    blobs = data.load("synthetic_blobs", count=20)
    labels = tuple(f"tissue {k}" for k in range(12))
    ids = np.random.default_rng(0).integers(0, 12, (20, *blobs.train.x.shape[1:3])).astype(np.uint8)
    wanted = changed(blobs, labels, lambda split: Split(split.x, ids[: len(split)]))
    to_folder.write(wanted, tmp_path / "tissue")
    back = data.load("mask_folder", path=tmp_path / "tissue")
    assert_same(back, wanted)
    assert back.labels == labels
    shown = Image.open(tmp_path / "tissue" / "test" / "mask" / "00000.png").convert("RGB")
    assert len(shown.getcolors() or ()) == 12


def test_classes_are_read_back_under_their_numbers(tmp_path: Path) -> None:
    digits = data.load("synthetic_digits", count=300)
    shuffled = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine / 9")
    wanted = changed(digits, shuffled, by_class)
    to_folder.write(wanted, tmp_path / "digits")
    back = data.load("image_folder", path=tmp_path / "digits", channels=1)
    assert_same(back, wanted)
    assert back.labels is not None
    assert back.labels[0] == "0 zero"
    assert back.labels[9] == "9 nine or 9"


def test_pictures_without_classes_are_read_back(tmp_path: Path) -> None:
    digits = data.load("synthetic_digits", count=50)
    wanted = changed(digits, None, lambda split: Split(split.x, None))
    to_folder.write(wanted, tmp_path / "digits")
    assert_same(data.load("image_folder", path=tmp_path / "digits", channels=1), wanted)


def test_what_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="already exists"):
        to_folder.write(data.load("synthetic_blobs", count=10), tmp_path / "mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.txt"]


@pytest.mark.parametrize("content", ["", "[]", '{"name": "nuclei"}', '{"no": "such"}'])
def test_a_broken_provenance_is_not_taken_for_real_data(tmp_path: Path, content: str) -> None:
    to_folder.write(data.load("synthetic_blobs", count=10), tmp_path / "blobs")
    (tmp_path / "blobs" / "provenance.json").write_text(content)
    with pytest.raises(DataError, match=r"provenance\.json: cannot be read"):
        data.load("mask_folder", path=tmp_path / "blobs")


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = Image.Image.save

    def full(self: Image.Image, file: Path, *arguments: object) -> None:
        if file.name == "00003.png":
            raise OSError(28, "No space left on device")
        saved(self, file)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left"):
        to_folder.write(data.load("synthetic_blobs", count=10), tmp_path / "blobs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("synthetic_blob", 2, 'unknown data set "synthetic_blob"'),
        ("synthetic_texts", 1, "synthetic_texts holds text; expected images or masks"),
        ("image_folder", 1, "give your files with --data PATH"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    name: str, status: int, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert commands.write(name, tmp_path / "out") == status
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
