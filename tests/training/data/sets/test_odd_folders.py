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
