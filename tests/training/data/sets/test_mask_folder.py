from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladle.training import data
from ladle.training.data import DataError
from ladle.training.data.dataset import Array

Write = Callable[..., Path]


def grey(value: int, height: int = 8, width: int = 8) -> Array:
    return np.full((height, width), value, np.uint8)


@pytest.fixture
def cells(tmp_path: Path, write_picture: Write) -> Path:
    """Ten pictures of 8x8 and their masks; picture i has the grey value i, and its left half is an object."""
    for i in range(10):
        mask = grey(0)
        mask[:, :4] = 255
        write_picture(tmp_path / "image" / f"{i:02}.png", grey(i))
        write_picture(tmp_path / "mask" / f"{i:02}.png", mask)
    return tmp_path


def test_pictures_and_masks_are_paired_by_name(cells: Path) -> None:
    dataset = data.load("mask_folder", path=cells)
    assert dataset.kind == "masks"
    assert dataset.sizes() == {"train": 7, "validation": 1, "test": 2}
    assert dataset.train.x.shape == (7, 8, 8, 1)
    assert dataset.train.y is not None
    assert dataset.train.y.dtype == np.uint8
    assert (dataset.train.y[:, :, :4] == 1).all()
    assert (dataset.train.y[:, :, 4:] == 0).all()
    assert dataset.labels == ("background", "object")


@pytest.mark.parametrize(("images", "masks"), [("images", "masks"), ("image", "label"), ("imgs", "labels")])
def test_common_folder_names_are_known(cells: Path, images: str, masks: str) -> None:
    (cells / "image").rename(cells / images)
    (cells / "mask").rename(cells / masks)
    assert len(data.load("mask_folder", path=cells).test) == 2


def test_one_bit_and_palette_masks_are_read(cells: Path, write_picture: Write) -> None:
    expected = data.load("mask_folder", path=cells).train.y
    assert expected is not None
    for i in range(10):
        file = cells / "mask" / f"{i:02}.png"
        pixels = np.asarray(Image.open(file))
        if i % 2:
            write_picture(file, pixels, "1")
        else:
            palette = Image.fromarray(pixels // 255).convert("P")
            palette.putdata((pixels // 255).ravel().tolist())
            palette.save(file)
    found = data.load("mask_folder", path=cells).train.y
    assert found is not None
    assert (found == expected).all()


def test_class_ids_stay_as_they_are_and_labels_txt_names_them(cells: Path, write_picture: Write) -> None:
    for i in range(10):
        mask = grey(0)
        mask[0], mask[1] = 1, 2
        write_picture(cells / "mask" / f"{i:02}.png", mask)
    dataset = data.load("mask_folder", path=cells)
    assert dataset.labels == ("class 0", "class 1", "class 2")
    assert dataset.train.y is not None
    assert np.unique(dataset.train.y).tolist() == [0, 1, 2]
    (cells / "labels.txt").write_text("sky\nroad\ncar\n")
    assert data.load("mask_folder", path=cells).labels == ("sky", "road", "car")


def test_tiles_of_one_picture_stay_in_one_split(cells: Path) -> None:
    dataset = data.load("mask_folder", path=cells, tile=4)
    assert dataset.train.x.shape == (28, 4, 4, 1)
    sources = [set(split.x[:, 0, 0, 0].tolist()) for split in (dataset.train, dataset.validation, dataset.test)]
    assert sum(len(source) for source in sources) == len(set.union(*sources)) == 10
    assert dataset.train.y is not None
    assert (dataset.train.y[::2] == 1).all()
    assert (dataset.train.y[1::2] == 0).all()


@pytest.mark.parametrize("tile", [None, 4])
def test_a_picture_that_occurs_twice_is_kept_once(cells: Path, tile: int | None) -> None:
    for folder in ("image", "mask"):
        for i in (3, 7):
            (cells / folder / f"copy{i}.png").write_bytes((cells / folder / f"{i:02}.png").read_bytes())
    dataset = data.load("mask_folder", path=cells, tile=tile)
    assert sum(dataset.sizes().values()) == 10 * (4 if tile else 1)
    values = [set(split.x[:, 0, 0, 0].tolist()) for split in (dataset.train, dataset.validation, dataset.test)]
    assert [len(found) for found in values] == [7, 1, 2]
    assert set.union(*values) == set(range(10))
    assert dataset.provenance.notes.endswith("2 duplicate pictures left out")


def test_slices_of_a_stack_are_tested_on_the_last(cells: Path) -> None:
    dataset = data.load("mask_folder", path=cells, in_order=True)
    assert dataset.test.x[:, 0, 0, 0].tolist() == [8, 9]
    assert dataset.validation.x[:, 0, 0, 0].tolist() == [7]


@pytest.fixture
def split_cells(cells: Path) -> Path:
    """The same pictures, 0 to 5 in train/, 6 and 7 in val/, 8 and 9 in test/."""
    for folder in ("image", "mask"):
        for i in range(10):
            name = "train" if i < 6 else "val" if i < 8 else "test"
            (cells / name / folder).mkdir(parents=True, exist_ok=True)
            (cells / folder / f"{i:02}.png").rename(cells / name / folder / f"{i:02}.png")
        (cells / folder).rmdir()
    return cells


def greys(split: data.Split) -> list[int]:
    return [int(value) for value in split.x[:, 0, 0, 0]]


@pytest.mark.parametrize("name", ["mask_folder", "nuclei", "brain_slices"])
def test_split_folders_are_taken_as_they_are(split_cells: Path, name: str) -> None:
    dataset = data.load(name, path=split_cells)
    assert greys(dataset.train) == [0, 1, 2, 3, 4, 5]
    assert greys(dataset.validation) == [6, 7]
    assert greys(dataset.test) == [8, 9]
    assert dataset.provenance.notes == "10 pictures, splits as the folders give them"
    assert dataset.train.y is not None
    assert (dataset.train.y[:, :, :4] == 1).all()


def test_validation_is_drawn_from_train_when_no_folder_gives_it(split_cells: Path) -> None:
    for folder in ("image", "mask"):
        for file in (split_cells / "val" / folder).iterdir():
            file.rename(split_cells / "train" / folder / file.name)
        (split_cells / "val" / folder).rmdir()
    (split_cells / "val").rmdir()
    dataset = data.load("mask_folder", path=split_cells)
    assert greys(dataset.test) == [8, 9]
    assert len(dataset.validation) == 1
    assert sorted(greys(dataset.train) + greys(dataset.validation)) == list(range(8))


def test_a_picture_in_two_split_folders_stays_in_test(split_cells: Path) -> None:
    for folder in ("image", "mask"):
        (split_cells / "train" / folder / "a.png").write_bytes((split_cells / "test" / folder / "09.png").read_bytes())
    dataset = data.load("mask_folder", path=split_cells, tile=4)
    assert dataset.sizes() == {"train": 24, "validation": 8, "test": 8}
    assert 9 not in greys(dataset.train)


@pytest.mark.parametrize("name", ["mask_folder", "nuclei"])
def test_a_split_folder_without_masks_is_named(split_cells: Path, name: str) -> None:
    for file in (split_cells / "test" / "mask").iterdir():
        file.unlink()
    (split_cells / "test" / "mask").rmdir()
    with pytest.raises(DataError, match=r"test: has no mask/; expected a folder with image/ and mask/"):
        data.load(name, path=split_cells)


def unmatched(cells: Path, write: Write) -> None:
    (cells / "mask" / "03.png").unlink()


def left_over(cells: Path, write: Write) -> None:
    (cells / "image" / "03.png").unlink()


def smaller(cells: Path, write: Write) -> None:
    write(cells / "mask" / "03.png", grey(0, 8, 7))


def coloured(cells: Path, write: Write) -> None:
    values = np.arange(65, 129, dtype=np.uint8).reshape(8, 8)
    write(cells / "mask" / "03.png", np.dstack([values, values, grey(0)]))


def blurred(cells: Path, write: Write) -> None:
    write(cells / "mask" / "03.png", np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)


def no_masks(cells: Path, write: Write) -> None:
    for file in (cells / "mask").iterdir():
        file.unlink()


def other_size(cells: Path, write: Write) -> None:
    for folder in ("image", "mask"):
        write(cells / folder / "03.png", grey(0, 8, 6))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        pytest.param(unmatched, r"image/03\.png: has no mask of the same name", id="picture alone"),
        pytest.param(left_over, r"mask/03\.png: has no picture of the same name", id="mask alone"),
        pytest.param(smaller, r"mask/03\.png: is 8x7, its picture 8x8", id="mask of another size"),
        pytest.param(coloured, r"mask/03\.png: has 64 colours, and the masks up to it more", id="photo"),
        pytest.param(blurred, r"its masks have 65 values up to 255", id="blurred mask"),
        pytest.param(no_masks, "mask: holds no pictures", id="no masks"),
        pytest.param(
            other_size, r"image/03\.png: is 8x6; expected the size of the first picture, 00\.png", id="pictures differ"
        ),
    ],
)
def test_what_does_not_match_is_named(
    cells: Path, write_picture: Write, harm: Callable[[Path, Write], None], says: str
) -> None:
    harm(cells, write_picture)
    with pytest.raises(DataError, match=says):
        data.load("mask_folder", path=cells)


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no image/; expected a folder with image/ and mask/"):
        data.load("mask_folder", path=tmp_path)


def test_too_large_a_tile_is_named(cells: Path) -> None:
    with pytest.raises(DataError, match=r"00\.png: is 8x8; no tile of 9x9 fits"):
        data.load("mask_folder", path=cells, tile=9)


def test_too_few_labels_are_named(cells: Path) -> None:
    (cells / "labels.txt").write_text("background\n")
    with pytest.raises(DataError, match=r"labels\.txt: names 1 classes; expected 2, as a mask has class 1"):
        data.load("mask_folder", path=cells)


def test_a_void_value_is_no_class(cells: Path, write_picture: Write) -> None:
    """By value: 255 beside the classes 0 and 1 as in Pascal VOC, or the id after the last class as in CamVid."""
    for value in (255, 3):
        for i in range(10):
            mask = grey(0)
            mask[:, :4], mask[:, 6:], mask[0] = 2, 1, value
            write_picture(cells / "mask" / f"{i:02}.png", mask)
        dataset = data.load("mask_folder", path=cells, void=value)
        assert dataset.labels is not None
        assert len(dataset.labels) == 3
        assert dataset.train.y is not None
        assert np.unique(dataset.train.y).tolist() == [0, 1, 2, 255]
        assert f"mask value {value} does not count, 12.5% of the pixels" in dataset.provenance.notes
    with pytest.raises(DataError, match="got --void 9; expected a value that some mask has"):
        data.load("mask_folder", path=cells, void=9)


def test_objects_of_255_beside_void_pixels_are_class_1(cells: Path, write_picture: Write) -> None:
    for i in range(10):
        mask = grey(0)
        mask[:, :4], mask[0] = 255, 128
        write_picture(cells / "mask" / f"{i:02}.png", mask)
    dataset = data.load("mask_folder", path=cells, void=128)
    assert dataset.train.y is not None
    assert np.unique(dataset.train.y).tolist() == [0, 1, 255]
    assert dataset.labels == ("background", "object")
