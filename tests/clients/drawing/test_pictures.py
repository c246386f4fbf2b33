"""Answers as pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ladle.clients.drawing import pictures


def test_colours_of_classes_are_all_different_and_background_is_black() -> None:
    colours = pictures.palette(40)
    assert colours.shape == (40, 3)
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(colour) for colour in colours.tolist()}) == 40
    assert pictures.palette(3).tolist() == colours[:3].tolist()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_grid_holds_the_images_in_reading_order(channels: int, mode: str) -> None:
    images = np.stack([np.full((42, 42, channels), value, np.uint8) for value in (10, 20, 30)])
    sheet = pictures.grid(images)
    assert sheet.mode == mode
    assert sheet.size == (2 * 84 + pictures.GAP, 2 * 84 + pictures.GAP)
    grey = sheet.convert("L")
    assert [grey.getpixel(at) for at in ((5, 5), (100, 5), (5, 100), (100, 100))] == [10, 20, 30, 255]


def test_a_grid_takes_floats_and_a_number_of_columns() -> None:
    sheet = pictures.grid(np.array([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1), columns=3)
    assert sheet.size == (3 * 84 + 2 * pictures.GAP, 84)
    assert sheet.getpixel((100, 5)) == 128


def test_a_mask_holds_class_ids_as_pixel_values() -> None:
    class_map = np.array([[0, 1], [7, 255]])
    assert np.array_equal(np.asarray(pictures.mask(class_map)), class_map)
    with pytest.raises(ValueError, match="class ids from 0 to 256"):
        pictures.mask(np.array([[0, 256]]))


def test_an_overlay_colours_classes_and_leaves_the_background() -> None:
    image = Image.new("RGB", (2, 1), (100, 100, 100))
    laid = pictures.overlay(image, np.array([[0, 1]]), opacity=0.5)
    assert laid.getpixel((0, 0)) == (100, 100, 100)
    colour = pictures.palette(2)[1].astype(int)
    assert np.allclose(laid.getpixel((1, 0)), (colour + 100) / 2, atol=1.5)


def test_an_overlay_has_the_size_of_the_class_map() -> None:
    assert pictures.overlay(Image.new("L", (10, 8)), np.ones((16, 20), np.int64)).size == (20, 16)


def test_a_legend_names_the_classes_that_occur() -> None:
    class_map = np.array([[0, 2]] * 200)
    plain = pictures.overlay(Image.new("RGB", (2, 200)), class_map)
    named = pictures.overlay(Image.new("RGB", (2, 200)), class_map, labels=["background", "cat", "dog"])
    assert named.height > plain.height
    colours = {colour for _, colour in named.getcolors(100000) or []}
    assert tuple(pictures.palette(3)[2].tolist()) in colours
    assert tuple(pictures.palette(3)[1].tolist()) not in colours


def test_shares_add_up_and_the_largest_comes_first() -> None:
    assert pictures.shares(np.array([[0, 0], [0, 4]])) == {0: 0.75, 4: 0.25}


def test_png_is_read_back_as_it_was() -> None:
    picture = pictures.colour_mask(np.array([[0, 1, 2]]))
    again = Image.open(io.BytesIO(pictures.png(picture)))
    assert np.array_equal(np.asarray(again), np.asarray(picture))
    assert np.asarray(again)[0, 0, 3] == 0
