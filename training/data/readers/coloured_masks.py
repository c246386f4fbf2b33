"""Masks whose colours are classes, as annotation tools export them, and the files that name the colours."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from ladle.training.data.dataset import Array
from ladle.training.data.errors import DataError
from ladle.training.data.readers import files

LEGENDS = ("labelmap.txt", "label_colors.txt", "class_dict.csv", "labels.txt")
"""Files with a class and its colour a line: CVAT's, CamVid's, Kaggle's and ours. The first one found counts."""
_COLOUR = re.compile(r"(?<![\d.])(\d{1,3})\s*[,;\s]\s*(\d{1,3})\s*[,;\s]\s*(\d{1,3})(?![\d.])")
_HEADER = re.compile(r"[,;\s]r[a-z]*[,;\s]+g[a-z]*[,;\s]+b[a-z]*\s*$", re.IGNORECASE)
_BLACK = 0
_UNKNOWN = 255


class Coloured:
    """Numbers the colours of masks: by a legend if there is one, else in the order in which they come.

    A colour is one number here, red · 2¹⁶ + green · 2⁸ + blue.
    """

    def __init__(self, folder: Path, most: int) -> None:
        """folder: where a legend may lie; most: so many classes are allowed. DataError: its legend is wrong."""
        self._most = most
        self._legend = files.find(folder, LEGENDS)
        self._names = {} if self._legend is None else legend(self._legend)
        if len(self._names) > most:
            raise DataError(f"{self._legend}: names {len(self._names)} classes; expected at most {most}")
        self._colours = list(self._names)
        self._pixels = np.zeros(256, np.int64)
        self._ids = np.full(1 << 24, _UNKNOWN, np.uint8)  # of every colour, so that no mask is sorted
        self._ids[self._colours] = np.arange(len(self._colours))

    def ids(self, path: Path, image: Image.Image) -> Array:
        """The mask as class numbers uint8 [h, w]; `ordered` changes them at the end.

        DataError: a colour that the legend lacks, or more colours than classes are allowed.
        """
        rgb = np.asarray(image.convert("RGB")).astype(np.int32)
        colours = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
        found: Array = self._ids[colours]
        if (found == _UNKNOWN).any():
            for colour in np.unique(colours[found == _UNKNOWN]).tolist():
                self._add(path, colour, colours)
            found = self._ids[colours]
        self._pixels += np.bincount(found.ravel(), minlength=256)
        return found

    def ordered(self) -> tuple[Array, tuple[str, ...]]:
        """A table uint8 [256] from the numbers of `ids` to those of the classes, and the classes' names.

        With a legend, its order is kept. Else black is class 0, or the most frequent colour where no pixel is black,
        and the others follow by red, green and blue; two colours are the background and an object.
        """
        table = np.arange(256, dtype=np.uint8)
        if self._legend is not None:
            return table, tuple(self._names.values())
        frequent = self._colours[int(self._pixels.argmax())]
        background = _BLACK if _BLACK in self._colours else frequent
        order = [background, *sorted(set(self._colours) - {background})]
        table[self._ids[order]] = np.arange(len(order))
        names = ["background", "object"] if len(order) == 2 else [f"colour {written(colour)}" for colour in order]
        return table, tuple(names)

    def _add(self, path: Path, colour: int, colours: Array) -> None:
        if self._legend is not None:
            raise DataError(
                f"{path}: has the colour {written(colour)}, which {self._legend.name} does not name; add a line such "
                f'as "name {written(colour)}", or keep masks as PNG without smoothed edges'
            )
        if len(self._colours) >= self._most:
            raise DataError(
                f"{path}: has {len(np.unique(colours))} colours, and the masks up to it more than {self._most} "
                "together; expected a colour for each class (JPEG and smoothed edges blend them: keep masks as PNG)"
            )
        self._ids[colour] = len(self._colours)
        self._colours.append(colour)


def legend(file: Path) -> dict[int, str]:
    """Colour -> class name, in the order of the lines: `road 128,64,128`, `road:128,64,128::`, `128 64 128 road`.

    Empty lines, comments behind `#` and a header `name,r,g,b` are skipped.

    DataError: a line without colour or name, a value above 255, a colour twice, or no line at all.
    """
    found: dict[int, str] = {}
    for number, line in enumerate(files.any_text(file)[0].splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line or (not found and _HEADER.search(line)):
            continue
        seen = _COLOUR.search(line)
        name = (line[: seen.start()] + line[seen.end() :]).strip(" \t,;:\"'") if seen else ""
        values = [int(value) for value in seen.groups()] if seen else []
        if not name or max(values) > 255:
            raise DataError(
                f'{file}: line {number} is "{line[:60]}"; expected a class and its colour, such as "road 128,64,128", '
                "for the masks are in colour"
            )
        colour = values[0] << 16 | values[1] << 8 | values[2]
        if colour in found:
            raise DataError(f"{file}: {found[colour]} and {name} have the colour {written(colour)}; expected one each")
        found[colour] = name
    if not found:
        raise DataError(f'{file}: is empty; expected a class and its colour a line, such as "road 128,64,128"')
    return found


def written(colour: int) -> str:
    """`128,64,128`, as a line of a legend has it."""
    return f"{colour >> 16},{colour >> 8 & 255},{colour & 255}"
