"""Folders as people have them: each is read right, or refused in one sentence before any training."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladle import models
from ladle.training import data
from ladle.training.data import DataError, Dataset
from ladle.training.data.dataset import Array
from ladle.training.data.pipeline import prepare
from ladle.training.data.readers import images
from ladle.training.run.request import compose_own, load

Write = Callable[..., Path]


def shade(value: int, height: int = 6, width: int = 6) -> Array:
    return np.full((height, width, 3), value, np.uint8)


def save(path: Path, image: Image.Image | Array, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)
    return path


def values(dataset: Dataset) -> list[set[int]]:
    """The value of the first pixel of each picture, by split."""
    return [set(split.x[:, 0, 0, 0].tolist()) for split in (dataset.train, dataset.validation, dataset.test)]


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val"),
        ("train", "valid"),
        ("train", "validation"),
        ("train", "test"),
        ("Train", "VAL", "Test"),
        ("training", "validation", "testing"),
    ],
    ids="+".join,
)
@pytest.mark.parametrize("masks", [False, True], ids=["classes", "masks"])
def test_split_folders_in_any_combination_are_splits(names: tuple[str, ...], masks: bool, tmp_path: Path) -> None:
    object_ = np.zeros((6, 6), np.uint8)
    object_[:3] = 255
    of: dict[str, set[int]] = {}
    for n, name in enumerate(names):
        of[name[:2].lower()] = set(range(40 * n, 40 * n + 12))
        for i in range(40 * n, 40 * n + 12):
            folder = "image" if masks else ("cat", "dog")[i % 2]
            save(tmp_path / name / folder / f"{i}.png", shade(i))
            if masks:
                save(tmp_path / name / "mask" / f"{i}.png", object_)
    dataset = data.load("mask_folder" if masks else "image_folder", path=tmp_path)
    assert dataset.labels == (("background", "object") if masks else ("cat", "dog"))
    train, validation, test = values(dataset)
    assert train <= of["tr"]
    assert validation <= of.get("va", of["tr"])
    assert test <= of.get("te", of["tr"])
    assert not train & validation and not train & test and not validation & test  # noqa: PT018
    assert len(train | validation | test) == 12 * len(names)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("val", "test"), "has test/ and val/ but no train/; add the pictures to train on"),
        (("train", "val", "cats"), "has train/, val/ beside cats/; expected either splits or classes"),
    ],
    ids=["no train", "mixture"],
)
def test_split_folders_that_make_no_sense_are_refused(names: tuple[str, ...], said: str, tmp_path: Path) -> None:
    for n, name in enumerate(names):
        save(tmp_path / name / "cat" / "1.png", shade(n))
    with pytest.raises(DataError, match=said):
        data.load("image_folder", path=tmp_path)


def forms() -> dict[str, Callable[[int, Path], object]]:
    """How a picture of one grey level may be stored."""

    def palette(level: int) -> Image.Image:
        image = Image.new("P", (6, 6), 0)
        image.putpalette([level] * 3 + [0] * 765)
        return image

    return {
        "grey.png": lambda v, p: Image.new("L", (6, 6), v).save(p),
        "grey-alpha.png": lambda v, p: Image.new("LA", (6, 6), (v, 255)).save(p),
        "rgba.png": lambda v, p: Image.new("RGBA", (6, 6), (v, v, v, 255)).save(p),
        "palette.png": lambda v, p: palette(v).save(p),
        "palette.gif": lambda v, p: palette(v).save(p),
        "sixteen.png": lambda v, p: Image.fromarray(np.full((6, 6), v * 257, np.uint16)).save(p),
        "sixteen.tif": lambda v, p: Image.fromarray(np.full((6, 6), v * 257, np.uint16)).save(p),
        "cmyk.tif": lambda v, p: Image.new("CMYK", (6, 6), (255 - v, 255 - v, 255 - v, 0)).save(p),
        "UPPER.BMP": lambda v, p: Image.new("RGB", (6, 6), (v, v, v)).save(p),
        "lossless.webp": lambda v, p: Image.new("RGB", (6, 6), (v, v, v)).save(p, lossless=True),
        "photo.JPEG": lambda v, p: Image.new("L", (6, 6), v).save(p, quality=100),
        "photo.jfif": lambda v, p: Image.new("L", (6, 6), v).save(p, "JPEG", quality=100),
        "with spaces, ünïcödé 図.png": lambda v, p: Image.new("L", (6, 6), v).save(p),
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_every_way_to_store_a_picture_is_read(channels: int, tmp_path: Path) -> None:
    expected = {}
    for n, (name, write) in enumerate(forms().items()):
        path = tmp_path / ("one", "zwei drei é")[n % 2] / "nested" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(100 + 4 * n, path)
        expected[name] = 100 + 4 * n
    dataset = data.load("image_folder", path=tmp_path, channels=channels)
    assert dataset.labels == ("one", "zwei drei é")
    found = sorted(set.union(*values(dataset)))
    assert len(found) == len(expected)
    assert max(abs(a - b) for a, b in zip(found, sorted(expected.values()), strict=True)) <= 1


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(tmp_path / f"{orientation}.png", exif=exif)
    upright = {
        1: picture,
        2: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: picture.transpose(Image.Transpose.ROTATE_180),
        4: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: picture.transpose(Image.Transpose.TRANSPOSE),
        6: picture.transpose(Image.Transpose.ROTATE_270),
        7: picture.transpose(Image.Transpose.TRANSVERSE),
        8: picture.transpose(Image.Transpose.ROTATE_90),
    }
    for orientation, expected in upright.items():
        found = images.decode("x", tmp_path / f"{orientation}.png", "L")
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_sixteen_bit_greys_with_masks_are_all_alike_without_channels(tmp_path: Path) -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[0] = 1
    for i in range(10):  # the first is so dark that it would fit into 8 bits
        save(tmp_path / "image" / f"{i}.png", np.full((4, 4), 200 if i == 0 else 257 * 10 * i, np.uint16))
        save(tmp_path / "mask" / f"{i}.png", mask)
    dataset = data.load("mask_folder", path=tmp_path)
    assert dataset.train.x.shape[1:] == (4, 4, 1)
    assert set.union(*values(dataset)) == {10 * i for i in range(10)}


def test_one_picture_in_colour_makes_all_of_them_colour(tmp_path: Path) -> None:
    mask = np.eye(4, dtype=np.uint8)
    for i in range(10):
        save(tmp_path / "image" / f"{i}.png", shade(i, 4, 4) if i == 7 else np.full((4, 4), i, np.uint8))
        save(tmp_path / "mask" / f"{i}.png", mask)
    assert data.load("mask_folder", path=tmp_path).train.x.shape[1:] == (4, 4, 3)


def masks() -> dict[str, Callable[[Array], Image.Image]]:
    """How a mask of bool [h, w] may be stored."""

    def alpha(mask: Array, colour: int) -> Image.Image:
        return Image.merge(
            "RGBA", [Image.new("L", mask.shape[::-1], colour)] * 3 + [Image.fromarray(mask * np.uint8(255))]
        )

    def palette(mask: Array) -> Image.Image:
        image = Image.fromarray(mask.astype(np.uint8)).convert("P")
        image.putpalette([0, 0, 0, 230, 159, 0])
        return image

    return {
        "palette": palette,
        "rgb 0 and 1": lambda m: Image.fromarray(np.repeat(m[..., None].astype(np.uint8), 3, -1)),
        "grey with alpha": lambda m: Image.fromarray(m * np.uint8(255)).convert("LA"),
        "0 and 1": lambda m: Image.fromarray(m.astype(np.uint8)),
        "0 and 255": lambda m: Image.fromarray(m * np.uint8(255)),
        "bits": lambda m: Image.fromarray(m),
        "rgb": lambda m: Image.fromarray(np.repeat(m[..., None] * np.uint8(255), 3, -1)),
        "rgba": lambda m: Image.fromarray(m * np.uint8(255)).convert("RGBA"),
        "sixteen bits": lambda m: Image.fromarray(m.astype(np.uint16)),
        "white with alpha": lambda m: alpha(m, 255),
        "black with alpha": lambda m: alpha(m, 0),
    }


@pytest.mark.parametrize("form", masks())
def test_every_way_to_store_a_mask_is_read(form: str, tmp_path: Path) -> None:
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:] = True
    for i in range(10):
        save(tmp_path / "image" / f"{i}.jpg", shade(20 * i, 4, 6))
        save(tmp_path / "mask" / f"{i}.png", masks()[form](mask))
    dataset = data.load("mask_folder", path=tmp_path)
    assert dataset.train.y is not None
    assert (dataset.train.y == mask).all()


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((4, 4), np.uint8), "all 10 masks are empty; expected objects"),
        (np.full((4, 4), 255, np.uint8), "all 10 masks have the value 255 everywhere"),
        (np.zeros((4, 4, 4), np.uint8), "all 10 masks are empty"),
        (np.arange(64, dtype=np.uint8).reshape(4, 4, 4) * 3, "has one mask in its colours and another in its alpha"),
        (np.arange(16, dtype=np.uint8).reshape(4, 4) * 16, "its masks have 16 values up to 240; expected class ids"),
    ],
    ids=["empty", "full", "transparent", "two masks", "blurred"],
)
def test_masks_that_say_nothing_are_refused(mask: Array, said: str, tmp_path: Path) -> None:
    for i in range(10):
        save(tmp_path / "image" / f"{i}.png", shade(i, 4, 4))
        save(tmp_path / "mask" / f"{i}.png", mask)
    with pytest.raises(DataError, match=said):
        data.load("mask_folder", path=tmp_path)


def test_labels_in_another_encoding_are_refused_with_the_file(tmp_path: Path) -> None:
    for i in range(10):
        save(tmp_path / "image" / f"{i}.png", shade(i, 4, 4))
        save(tmp_path / "mask" / f"{i}.png", np.eye(4, dtype=np.uint8))
    (tmp_path / "labels.txt").write_bytes("Hintergrund\nKäfer\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"labels\.txt: is not UTF-8 text \(byte 13\); convert it"):
        data.load("mask_folder", path=tmp_path)


@pytest.mark.parametrize("ending", ["PNG", "bmp", "tif", "tiff", "gif", "webp"])
def test_masks_may_have_any_ending_without_loss(ending: str, tmp_path: Path) -> None:
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:] = True
    for i in range(10):
        save(tmp_path / "image" / f"cell {i} ü.JPEG", shade(20 * i, 4, 6))
        lossless = {"lossless": True} if ending == "webp" else {}
        save(tmp_path / "mask" / f"cell {i} ü.{ending}", mask * np.uint8(255), **lossless)
    dataset = data.load("mask_folder", path=tmp_path)
    assert dataset.train.y is not None
    assert (dataset.train.y == mask).all()


@pytest.mark.slow  # 10 s of CPU
def test_ten_thousand_pictures_of_several_sizes_are_read(tmp_path: Path) -> None:
    for label in range(10):
        (tmp_path / f"{label}" / "nested").mkdir(parents=True)
    for i in range(10_000):
        file = tmp_path / f"{i % 10}" / ("nested" if i % 3 else "") / f"{i}.ppm"
        height, width = 2 + i % 2, 3
        file.write_bytes(b"P6 %d %d 255\n" % (width, height) + bytes([i % 10, i // 256, i % 256]) * height * width)
    dataset = data.load("image_folder", path=tmp_path, height=2, width=3)
    assert dataset.sizes() == {"train": 8000, "validation": 1000, "test": 1000}
    assert dataset.train.y is not None
    assert (dataset.train.x[:, 0, 0, 0] == dataset.train.y).all()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Twelve good pictures, one cut off, one empty, one that is text, and one in a format that Pillow lacks."""
    for i in range(12):
        save(tmp_path / ("cat", "dog")[i % 2] / f"{i}.png", shade(10 * i))
    (tmp_path / "cat" / "cut.png").write_bytes((tmp_path / "cat" / "0.png").read_bytes()[:40])
    (tmp_path / "cat" / "empty.jpg").touch()
    (tmp_path / "dog" / "text.png").write_text("no picture")
    (tmp_path / "dog" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "dog" / "Thumbs.db").write_bytes(b"no picture, and not called one")
    return tmp_path


def test_broken_pictures_are_named_counted_and_skipped_on_request_only(broken: Path) -> None:
    said = r"4 of 16 pictures cannot be read: cat/cut.png, cat/empty.jpg, dog/phone.heic, dog/text.png .*--skip-broken$"
    with pytest.raises(DataError, match=said):
        data.load("image_folder", path=broken)
    dataset = data.load("image_folder", path=broken, skip_broken=True)
    assert sum(dataset.sizes().values()) == 12
    assert dataset.train.y is not None
    assert (dataset.train.y == dataset.train.x[:, 0, 0, 0] // 10 % 2).all()
    assert "; 4 broken pictures left out: cat/cut.png" in dataset.provenance.notes


def test_nothing_but_broken_pictures_is_refused_even_then(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"2 of 2 pictures cannot be read: .*it is empty.*; add some that can"):
        data.load("image_folder", path=tmp_path, skip_broken=True)


def test_a_picture_whose_mask_is_broken_is_skipped_with_it(tmp_path: Path) -> None:
    for i in range(11):
        save(tmp_path / "image" / f"{i:02}.png", shade(i, 4, 4))
        save(tmp_path / "mask" / f"{i:02}.png", np.eye(4, dtype=np.uint8))
    (tmp_path / "mask" / "03.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"03\.png: cannot be read as a picture"):
        data.load("mask_folder", path=tmp_path)
    dataset = data.load("mask_folder", path=tmp_path, skip_broken=True)
    assert set.union(*values(dataset)) == set(range(11)) - {3}


TABLES = {
    "header": ("file,label", "{name},{label}"),
    "other names": ("id;Image_Name;Class;extra", "7;{name};{label};x"),
    "stems": ("name\tcategory", "{stem}\t{label}"),
    "no header": (None, "{name},{label}"),
    "label first": (None, "{label},{name}"),
    "quoted": ('"filename","label"', '"{name}","{label}, really"'),
}


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize("of_file", [False, True], ids=["folder", "file"])
def test_a_csv_names_the_classes_of_pictures(form: str, of_file: bool, tmp_path: Path) -> None:
    header, row = TABLES[form]
    lines = [] if header is None else [header]
    for i in range(10):
        save(tmp_path / "pictures" / f"Bild {i}.png", shade(i))
        lines.append(row.format(name=f"Bild {i}.png", stem=f"Bild {i}", label=("Käfer", "moth")[i % 2]))
    table = tmp_path / "labels.csv"
    table.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    dataset = data.load("image_folder", path=table if of_file else tmp_path)
    assert dataset.labels == (("Käfer, really", "moth, really") if form == "quoted" else ("Käfer", "moth"))
    assert dataset.train.y is not None
    assert (dataset.train.y == dataset.train.x[:, 0, 0, 0] % 2).all()


def test_a_csv_may_give_the_splits(tmp_path: Path) -> None:
    lines = ["file,label,split"]
    for i in range(20):
        save(tmp_path / f"{i}.png", shade(i))
        lines.append(f"{i}.png,{'ab'[i % 2]},{'train' if i < 14 else 'val' if i < 17 else 'test'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    assert values(data.load("image_folder", path=tmp_path)) == [set(range(14)), {14, 15, 16}, {17, 18, 19}]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["file,label", "0.png,a", "9.png,b"], r"labels\.csv: row 2 names '9\.png', which is not among the pictures"),
        (["file,label", "0.png,a"], r"labels\.csv: has no row for 2 pictures, such as 1\.png"),
        (["file,label", "0.png,a", "1.png,", "2.png,b"], r"labels\.csv: row 2 has no class for 1\.png"),
        (["file,label", "0.png,a", "0.png,b"], r"0\.png has the classes a and b; expected one"),
        (["file,size", "0.png,7", "1.png,7", "2.png,7"], "has the columns file, size; expected one for the class"),
    ],
    ids=["unknown file", "missing row", "no class", "two classes", "no column"],
)
def test_a_csv_that_does_not_fit_the_pictures_is_refused(lines: list[str], said: str, tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.png", shade(i))
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=said):
        data.load("image_folder", path=tmp_path)


def test_a_class_with_one_picture_and_one_class_are_refused(tmp_path: Path) -> None:
    network = models.get("lenet5")
    for i in range(10):
        save(tmp_path / "cat" / f"{i}.png", shade(i))
    dataset = data.load("image_folder", path=tmp_path)
    with pytest.raises(DataError, match="holds pictures without classes; expected two classes or more"):
        prepare(network, network.config, dataset)
    save(tmp_path / "dog" / "1.png", shade(99))
    refusals = set()
    for seed in range(20):  # the one picture is drawn for training, or for a split that leaves none to train on
        try:
            assert 1 in np.unique(data.load("image_folder", path=tmp_path, seed=seed).train.y)
        except DataError as error:
            refusals.add(str(error).removeprefix(f"{tmp_path}: "))
    assert refusals == {"class dog has 1 picture, too few to train on and to test; add some or remove the class"}


def packed(path: Path) -> Path:
    """IDX-like files of MNIST in an archive of NumPy."""
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (90, 28, 28), np.uint8), np.arange(90) % 10
    np.savez(path, x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    return path


def test_the_kind_of_a_folder_is_recognised(tmp_path: Path) -> None:
    for i in range(10):
        save(tmp_path / "classes" / "ab"[i % 2] / f"{i}.png", shade(i))
        save(tmp_path / "masks" / "image" / f"{i}.png", shade(i, 16, 16))
        save(tmp_path / "masks" / "mask" / f"{i}.png", np.eye(16, dtype=np.uint8))
    (tmp_path / "idx").mkdir()
    packed(tmp_path / "idx" / "mnist.npz")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("hello")
    found = {}
    for network, folder in itertools.product(("lenet5", "unet"), ("classes", "masks", "idx", "texts")):
        try:
            request = compose_own(models.get(network), data_path=tmp_path / folder)
            found[network, folder] = f"{load(request).dataset.name} as {request.model}"
        except DataError as error:
            found[network, folder] = str(error).removeprefix(f"{tmp_path / folder}: ")
    assert found["lenet5", "classes"] == "image_folder as lenet5_classes"
    assert found["lenet5", "idx"] == "own_fashion_mnist as lenet5_idx"
    assert found["unet", "masks"] == "mask_folder as unet_masks"
    assert found["lenet5", "masks"].startswith("holds pictures with masks (image/ and mask/); expected pictures with")
    for sought in ("1 file (a.txt)", "folder per class", "CSV", "image/ and mask/", "train-images-idx3-ubyte"):
        assert sought in found["lenet5", "texts"]
    for folder in ("classes", "idx", "texts"):
        assert "image/ and mask/" in found["unet", folder]
