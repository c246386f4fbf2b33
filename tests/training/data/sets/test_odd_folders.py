"""Folders as systems, networks and archives leave them: no stray file becomes a class, and no class goes missing."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladle import models
from ladle.training import data
from ladle.training.data import DataError
from ladle.training.run.request import compose_own


def save(path: Path, value: int) -> None:
    """Write a picture of 6x6 pixels of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 6, 3), value, np.uint8)).save(path)


def classes(folder: Path) -> Path:
    """Five pictures of each of two classes."""
    for i in range(10):
        save(folder / ("cat", "dog")[i % 2] / f"{i}.png", i)
    return folder


def test_hidden_and_system_folders_are_no_classes(tmp_path: Path) -> None:
    folder = classes(tmp_path / "photos")
    others = (".ipynb_checkpoints", "@eaDir", "__MACOSX/cat", "cat/.ipynb_checkpoints", "cat/.thumbnails")
    for n, name in enumerate(others):
        save(folder / name / "x.png", 100 + n)
    save(folder / "cat" / "._1.png", 110)
    dataset = data.load("image_folder", path=folder)
    assert dataset.labels == ("cat", "dog")
    assert sum(dataset.sizes().values()) == 10


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    classes(tmp_path / "elsewhere")
    folder = tmp_path / "photos"
    (folder / "cat").mkdir(parents=True)
    (tmp_path / "elsewhere" / "cat").rename(folder / "cat" / "one")
    (folder / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (folder / "cat" / "again").symlink_to(folder)
    dataset = data.load("image_folder", path=folder)
    assert dataset.labels == ("cat", "dog")
    assert sum(dataset.sizes().values()) == 10
    assert dataset.provenance.sha256


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    folder = classes(tmp_path)
    (folder / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"cat/gone\.png: cannot be read as a picture .*No such file"):
        data.load("image_folder", path=folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    folder = classes(tmp_path)
    (folder / "dog").chmod(0)
    with pytest.raises(DataError, match=r"dog: cannot be read \(Permission denied\)"):
        data.load("image_folder", path=folder)


def test_an_archive_with_a_password_is_refused(tmp_path: Path) -> None:
    folder, archive = classes(tmp_path / "photos"), tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(folder.rglob("*.png")):
            packed.write(file, file.relative_to(folder))
    raw = bytearray(archive.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # bit 0 of a member's flags: encrypted
        for found in re.finditer(re.escape(signature), bytes(raw)):
            raw[found.start() + flags] |= 1
    archive.write_bytes(raw)
    with pytest.raises(DataError, match=r"photos\.zip: needs a password; unpack it"):
        data.load("image_folder", path=archive)


def test_equal_pictures_of_two_classes_are_named(tmp_path: Path) -> None:
    folder = classes(tmp_path)
    save(folder / "dog" / "copy.png", 0)
    notes = data.load("image_folder", path=folder).provenance.notes
    assert "1 duplicate picture left out; cat/0.png and dog/copy.png are the same picture, kept as cat" in notes


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.png"], "is a single picture; expected a folder of pictures"),
        (["a.rar"], "is an archive that Ladle does not read; unpack it, or pack it as .zip or .tar"),
        (["cat.zip", "dog.zip"], "holds no pictures but 2 files (cat.zip, dog.zip); unpack it"),
        (
            ["houses.csv"],
            "is a table, and names no pictures beside it; expected pictures: for a table, ladle train",
        ),
        (["houses.xlsx"], "is an Excel workbook; expected a table as CSV or Parquet"),
    ],
    ids=["picture", "rar", "zips", "table", "workbook"],
)
def test_files_that_are_no_folder_of_pictures_are_refused_by_what_they_are(
    names: list[str], said: str, tmp_path: Path
) -> None:
    for name in names:
        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            packed.writestr("houses.csv", "a,b")
        if name.endswith("csv"):
            (tmp_path / name).write_text("a,b\n1,2\n")
    path = tmp_path if len(names) > 1 else tmp_path / names[0]
    with pytest.raises(DataError, match=re.escape(said)):
        compose_own(models.get("lenet5"), data_path=path)


def test_the_single_file_of_a_published_set_is_taken(tmp_path: Path) -> None:
    for name in ("mnist.npz", "train.mat", "batch.pkl"):
        (tmp_path / name).touch()
        assert compose_own(models.get("lenet5"), data_path=tmp_path / name).config.data == "fashion_mnist"


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    folder = classes(tmp_path)
    try:
        os.rename(folder / "cat", os.fsencode(folder) + b"/caf\xe9")
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    with pytest.raises(DataError, match="its name is not UTF-8, so no label or card can hold it; rename it"):
        data.load("image_folder", path=folder)


def masks(folder: Path, pictures: str = "image", marked: str = "mask", mark: str = "") -> Path:
    """Ten pictures with masks of 0 and 1."""
    for i in range(10):
        save(folder / pictures / f"{i}.png", i)
        mask = np.zeros((6, 6), np.uint8)
        mask[: 1 + i % 4] = 1
        (folder / marked).mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / marked / f"{i}{mark}.png")
    return folder


@pytest.mark.parametrize(
    ("pictures", "marked", "mark"),
    [
        ("Images", "Masks", ""),
        ("JPEGImages", "SegmentationClass", ""),
        ("images", "annotations", ""),
        ("image", "mask", "_mask"),
    ],
)
def test_pictures_and_masks_are_found_under_other_names(pictures: str, marked: str, mark: str, tmp_path: Path) -> None:
    folder = masks(tmp_path, pictures, marked, mark)
    assert compose_own(models.get("unet"), data_path=folder).config.data == "mask_folder"
    dataset = data.load("mask_folder", path=folder)
    assert dataset.train.y is not None
    for picture, mask in zip(dataset.train.x, dataset.train.y, strict=True):
        assert mask[:, 0].sum() == 1 + picture[0, 0, 0] % 4


def test_masks_lie_in_the_same_subfolders_as_their_pictures(tmp_path: Path) -> None:
    folder = masks(tmp_path)
    for kind in ("image", "mask"):
        (folder / kind / "first").mkdir()
        for i in range(4):
            (folder / kind / f"{i}.png").rename(folder / kind / "first" / f"{i}.png")
    assert sum(data.load("mask_folder", path=folder).sizes().values()) == 10


def test_two_pictures_for_one_mask_are_refused(tmp_path: Path) -> None:
    folder = masks(tmp_path)
    save(folder / "image" / "3.bmp", 3)
    with pytest.raises(DataError, match=r"3\.png: has the name of 3\.bmp but for its ending; remove one of them"):
        data.load("mask_folder", path=folder)


def test_a_value_that_may_mark_pixels_without_a_class_is_named(tmp_path: Path) -> None:
    folder = masks(tmp_path)
    mask = np.array(Image.open(folder / "mask" / "3.png"))
    mask[5] = 255
    Image.fromarray(mask).save(folder / "mask" / "3.png")
    with pytest.raises(DataError, match="if 255 marks pixels without a class, give --void 255"):
        data.load("mask_folder", path=folder)


@pytest.mark.parametrize("given", ["photos", "photos.zip", "photos/cat/0.png"])
def test_what_holds_no_masks_is_refused_by_what_it_holds(given: str, tmp_path: Path) -> None:
    classes(tmp_path / "photos")
    (tmp_path / "photos.zip").touch()
    what = "holds cat/, dog/" if given == "photos" else "is a file"
    with pytest.raises(DataError, match=f"{what}; expected a folder with image/ and mask/, whose files have the same"):
        compose_own(models.get("unet"), data_path=tmp_path / given)
