from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladle.training import data
from ladle.training.data import DataError
from ladle.training.data.dataset import Array

Write = Callable[..., Path]


def colour(value: int, height: int = 8, width: int = 8) -> Array:
    return np.full((height, width, 3), value, np.uint8)


def test_a_flat_folder_has_no_labels(tmp_path: Path, write_picture: Write) -> None:
    for i in range(10):
        write_picture(tmp_path / f"{i}.png", colour(i))
    dataset = data.load("image_folder", path=tmp_path)
    assert dataset.sizes() == {"train": 8, "validation": 1, "test": 1}
    assert dataset.labels is None
    assert dataset.train.y is None
    values = [split.x[:, 0, 0, 0].tolist() for split in (dataset.train, dataset.validation, dataset.test)]
    assert sorted(value for split in values for value in split) == list(range(10))


def test_folders_name_classes(tmp_path: Path, write_picture: Write) -> None:
    for i in range(10):
        write_picture(tmp_path / ("cat", "dog")[i % 2] / f"{i}.png", colour(i))
    dataset = data.load("image_folder", path=tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert dataset.train.y is not None
    assert (dataset.train.y == dataset.train.x[:, 0, 0, 0] % 2).all()


def test_train_and_test_folders_are_kept(tmp_path: Path, write_picture: Write) -> None:
    for part, values in (("train", range(10)), ("test", range(100, 104))):
        for i in values:
            write_picture(tmp_path / part / ("cat", "dog")[i % 2] / f"{i}.png", colour(i))
    dataset = data.load("image_folder", path=tmp_path)
    assert dataset.sizes() == {"train": 9, "validation": 1, "test": 4}
    assert sorted(dataset.test.x[:, 0, 0, 0].tolist()) == [100, 101, 102, 103]


def test_a_folder_without_pictures_is_no_class_and_is_named(tmp_path: Path, write_picture: Write) -> None:
    for i in range(12):
        write_picture(tmp_path / "pets" / ("cat", "dog")[i % 2] / f"{i}.png", colour(i))
    for name in ("bird", ".cache", "__MACOSX"):
        (tmp_path / "pets" / name).mkdir()
    dataset = data.load("image_folder", path=tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert dataset.provenance.notes.endswith("bird: no pictures, so no class")


def test_a_file_of_another_format_is_refused_with_the_cure(tmp_path: Path, write_picture: Write) -> None:
    for i in range(12):
        write_picture(tmp_path / ("cat", "dog")[i % 2] / f"{i}.png", colour(i))
    (tmp_path / "cat" / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    with pytest.raises(data.DataError, match=r"a\.jpg: cannot be read as a picture .*save it as JPEG or PNG"):
        data.load("image_folder", path=tmp_path)


def test_a_picture_that_occurs_twice_is_kept_once(tmp_path: Path, write_picture: Write) -> None:
    for i in range(12):
        write_picture(tmp_path / f"{i}.png", colour(i % 10))
    dataset = data.load("image_folder", path=tmp_path)
    assert sum(dataset.sizes().values()) == 10
    assert dataset.provenance.notes.endswith("2 duplicate pictures left out")


def test_no_picture_of_test_is_trained_on(tmp_path: Path, write_picture: Write) -> None:
    for part, values in (("train", range(12)), ("test", range(10, 14))):
        for i in values:
            write_picture(tmp_path / part / ("cat", "dog")[i % 2] / f"{i}.png", colour(i))
    dataset = data.load("image_folder", path=tmp_path)
    assert dataset.sizes() == {"train": 9, "validation": 1, "test": 4}
    assert sorted(dataset.test.x[:, 0, 0, 0].tolist()) == [10, 11, 12, 13]
    assert dataset.train.y is not None
    assert (dataset.train.y == dataset.train.x[:, 0, 0, 0] % 2).all()
    assert "2 duplicate pictures left out" in dataset.provenance.notes


def test_a_class_that_is_only_tested_on_is_refused(tmp_path: Path, write_picture: Write) -> None:
    for i, name in enumerate(("train/cat/1.png", "train/cat/2.png", "train/cat/3.png", "test/dog/4.png")):
        write_picture(tmp_path / name, colour(i))
    with pytest.raises(DataError, match="class dog has test pictures but none in train/"):
        data.load("image_folder", path=tmp_path)


def test_pictures_are_scaled_to_cover_and_cut_at_the_centre(tmp_path: Path, write_picture: Write) -> None:
    wide = colour(0, 8, 16)
    for i in range(3):
        wide[:, 4:12] = 200 + i
        write_picture(tmp_path / f"{i}.png", wide)
    dataset = data.load("image_folder", path=tmp_path, height=8, width=8)
    assert dataset.train.x.shape == (1, 8, 8, 3)
    assert (dataset.train.x >= 200).all()


def test_grey_is_one_channel(tmp_path: Path, write_picture: Write) -> None:
    for i in range(3):
        write_picture(tmp_path / f"{i}.jpg", colour(60 * i))
    assert data.load("image_folder", path=tmp_path, channels=1).train.x.shape == (1, 8, 8, 1)


def test_sixteen_bit_greys_are_scaled_not_clipped(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(np.full((4, 4), 257 * (100 + i), np.uint16)).save(tmp_path / f"{i}.png")
    dataset = data.load("image_folder", path=tmp_path, channels=1)
    splits = (dataset.train, dataset.validation, dataset.test)
    assert {int(value) for split in splits for value in np.unique(split.x)} == {100, 101, 102}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
def test_an_archive_reads_as_its_folder_and_writes_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"faces{suffix}"
    pictures = {}
    for i in range(5):
        stream = io.BytesIO()
        Image.fromarray(colour(i)).save(stream, "PNG")
        # A name that climbs out of the folder is only a name: nothing is unpacked.
        pictures[f"../../faces/{i}.png"] = stream.getvalue()
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, raw in pictures.items():
                archive.writestr(name, raw)
    else:
        with tarfile.open(path, "w:gz" if suffix.endswith("gz") else "w") as tar:
            for name, raw in pictures.items():
                info = tarfile.TarInfo(name)
                info.size = len(raw)
                tar.addfile(info, io.BytesIO(raw))
    for found in (path, tmp_path):
        dataset = data.load("image_folder", path=found)
        assert sum(dataset.sizes().values()) == 5
        assert dataset.labels is None
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert not (tmp_path.parent.parent / "faces").exists()


def test_a_file_that_is_no_picture_is_named(tmp_path: Path, write_picture: Write) -> None:
    write_picture(tmp_path / "a.png", colour(1))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"b\.png: cannot be read as a picture"):
        data.load("image_folder", path=tmp_path)


def test_a_picture_that_would_fill_memory_is_refused(
    tmp_path: Path, write_picture: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    write_picture(tmp_path / "a.png", colour(1))
    with pytest.raises(DataError, match=r"a\.png: cannot be read as a picture .*exceeds limit"):
        data.load("image_folder", path=tmp_path)


def test_sizes_that_differ_are_named(tmp_path: Path, write_picture: Write) -> None:
    write_picture(tmp_path / "a.png", colour(1))
    write_picture(tmp_path / "b.png", colour(1, 9, 8))
    with pytest.raises(DataError, match=r"b\.png: is 9x8; expected 8x8 .*give --height and --width"):
        data.load("image_folder", path=tmp_path)


def test_pictures_beside_class_folders_are_refused(tmp_path: Path, write_picture: Write) -> None:
    for name in ("cat/a.png", "b.png"):
        write_picture(tmp_path / name, colour(1))
    with pytest.raises(DataError, match=r"b\.png lies in no class folder, as others do \(cat/\); move it"):
        data.load("image_folder", path=tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"channels": 2}, "channels is 2"), ({"height": 8}, "expected both or neither")],
    ids=["channels", "height alone"],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        data.load("image_folder", path=tmp_path, **options)


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pictures"):
        data.load("image_folder", path=tmp_path)


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "faces.rar").write_text("")
    with pytest.raises(DataError, match=r"faces\.rar: is no folder of pictures; expected a folder or one of \.tar"):
        data.load("image_folder", path=tmp_path / "faces.rar")


def test_pictures_of_different_sizes_get_the_size_that_a_network_wants(tmp_path: Path) -> None:
    for i, size in enumerate([(8, 8), (9, 7), (12, 5), (6, 6)]):
        Image.new("RGB", size, (i, i, i)).save(tmp_path / f"{i}.png")
    assert data.load("image_folder", path=tmp_path, size=16).train.x.shape[1:] == (16, 16, 3)
