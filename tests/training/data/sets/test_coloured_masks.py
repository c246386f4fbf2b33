"""Masks whose colours are classes: with the legend of an annotation tool, and without any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladle.training import data
from ladle.training.data import DataError
from ladle.training.data.dataset import Array

Colour = tuple[int, int, int]
BLACK, RED, GREEN, BLUE = (0, 0, 0), (128, 0, 0), (0, 128, 0), (0, 0, 128)
LEGENDS = {
    "labels.txt": "sky 0,0,128\nroad 128,0,0\nrare thing 9,9,9\nground 0,0,0\n",
    "labelmap.txt": "# label:color_rgb:parts\nsky:0,0,128::\nroad:128,0,0::\nrare thing:9,9,9::\nground:0,0,0::\n",
    "class_dict.csv": "name,r,g,b\nsky,0,0,128\nroad,128,0,0\nrare thing,9,9,9\nground,0,0,0\n",
    "label_colors.txt": "0 0 128\tsky\n128 0 0\t\troad\n\n9 9 9\trare thing\n0 0 0\tground\n",
}


def halves(left: Colour, right: Colour) -> Array:
    """A mask uint8 [4, 6, 3] of two colours."""
    mask = np.empty((4, 6, 3), np.uint8)
    mask[:, :3], mask[:, 3:] = left, right
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """`folder(masks)`: those, repeated to ten, with pictures whose grey values are their numbers."""

    def made(*masks: Array | Image.Image) -> Path:
        for part in ("image", "mask"):
            (tmp_path / part).mkdir()
        for i in range(10):
            Image.fromarray(np.full((4, 6), i, np.uint8)).save(tmp_path / "image" / f"{i}.png")
            mask = masks[i % len(masks)]
            (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(tmp_path / "mask" / f"{i}.png")
        return tmp_path

    return made


def read(path: Path, void: int = -1) -> tuple[dict[int, Array], tuple[str, ...]]:
    """The mask of each picture by its number, and the names of the classes."""
    dataset = data.load("mask_folder", path=path, void=void)
    found: dict[int, Array] = {}
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.y is not None
        found |= {int(x.ravel()[0]): y for x, y in zip(split.x, split.y, strict=True)}
    assert dataset.labels is not None
    return found, tuple(dataset.labels)


def test_colours_become_classes_black_first(folder: Callable[..., Path]) -> None:
    masks, labels = read(folder(halves(RED, BLACK), halves(BLUE, GREEN)))
    assert labels == ("colour 0,0,0", "colour 0,0,128", "colour 0,128,0", "colour 128,0,0")
    for number, mask in masks.items():
        left, right = ((3, 0), (1, 2))[number % 2]
        assert (mask[:, :3] == left).all()
        assert (mask[:, 3:] == right).all()


@pytest.mark.parametrize("name", LEGENDS)
def test_a_legend_names_the_classes_in_its_order(folder: Callable[..., Path], name: str) -> None:
    path = folder(halves(RED, BLACK), halves(BLUE, RED))
    (path / name).write_text(LEGENDS[name])
    masks, labels = read(path)
    assert labels == ("sky", "road", "rare thing", "ground")
    for number, mask in masks.items():
        assert mask[0].tolist() == ([1] * 3 + [3] * 3, [0] * 3 + [1] * 3)[number % 2]


def test_two_colours_are_background_and_object(folder: Callable[..., Path]) -> None:
    wide = halves(GREEN, GREEN)
    wide[:, 4:] = RED
    masks, labels = read(folder(wide))
    assert labels == ("background", "object")
    assert all(mask[0].tolist() == [0, 0, 0, 0, 1, 1] for mask in masks.values())


def test_two_classes_of_a_legend_keep_their_numbers(folder: Callable[..., Path]) -> None:
    path = folder(halves(BLUE, BLACK))
    (path / "labels.txt").write_text(LEGENDS["labels.txt"])
    masks, labels = read(path)
    assert len(labels) == 4
    assert all(mask[0].tolist() == [0] * 3 + [3] * 3 for mask in masks.values())


def test_grey_and_palette_masks_beside_coloured_ones_are_read_by_their_colours(folder: Callable[..., Path]) -> None:
    palette = Image.fromarray(np.repeat(np.array([[5, 5, 5, 7, 7, 7]], np.uint8), 4, axis=0), "P")
    palette.putpalette([*[1] * 15, *BLUE, *[1] * 3, *BLACK])
    masks, labels = read(folder(halves(RED, BLACK), np.zeros((4, 6), np.uint8), palette))
    assert labels == ("colour 0,0,0", "colour 0,0,128", "colour 128,0,0")
    for number, mask in masks.items():
        assert mask[0].tolist() == ([2] * 3 + [0] * 3, [0] * 6, [1] * 3 + [0] * 3)[number % 3]


def test_a_class_of_the_legend_can_be_void(folder: Callable[..., Path]) -> None:
    path = folder(halves(RED, BLACK), halves(BLUE, BLACK))
    (path / "labels.txt").write_text(LEGENDS["labels.txt"])
    masks, labels = read(path, void=3)
    assert labels == ("sky", "road", "rare thing")
    assert all(mask[0].tolist()[3:] == [255] * 3 for mask in masks.values())


@pytest.mark.parametrize(
    ("legend", "said"),
    [
        ("sky 0,0,128\nroad 128,0,0\n", r"mask/0\.png: has the colour 0,0,0, which labels\.txt does not name; add"),
        ("sky\nroad\n", r'labels\.txt: line 1 is "sky"; expected a class and its colour, such as "road 128,64,128"'),
        ("sky 0,0,128\n128,0,0\n", r'labels\.txt: line 2 is "128,0,0"; expected a class and its colour'),
        ("sky 0,0,300\n", r'labels\.txt: line 1 is "sky 0,0,300"'),
        ("sky 0,0,128\nair 0,0,128\n", r"labels\.txt: sky and air have the colour 0,0,128; expected one each"),
        ("# nothing\n", r"labels\.txt: is empty; expected a class and its colour a line"),
        ("".join(f"c{n} 1,1,{n}\n" for n in range(65)), r"labels\.txt: names 65 classes; expected at most 64"),
    ],
)
def test_what_a_legend_lacks_is_named(folder: Callable[..., Path], legend: str, said: str) -> None:
    path = folder(halves(RED, BLACK))
    (path / "labels.txt").write_text(legend)
    with pytest.raises(DataError, match=said):
        data.load("mask_folder", path=path)


def test_blended_colours_are_refused_with_the_file(folder: Callable[..., Path]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (10, 4, 6, 3), np.uint8)
    with pytest.raises(DataError, match=r"mask/2\.png: has 24 colours, and the masks up to it more than 64 together"):
        data.load("mask_folder", path=folder(*photo))
