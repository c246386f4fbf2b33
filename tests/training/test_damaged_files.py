"""Files that are damaged, in another encoding or no files at all: one sentence that names the file and the cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ladle import models
from ladle.training.data import DataError, to_folder
from ladle.training.data.fetch import cache
from ladle.training.data.sets import photographs
from ladle.training.errors import TrainingError, UsageError
from ladle.training.evaluate import functions
from ladle.training.loop import config, run_folder
from ladle.training.store import card, savedmodel, warmup

LATIN = "Käfer\n".encode("latin-1")
DEEP = b"[" * 200_000
CARD, LABELS = Path("assets.extra/card.json"), Path("assets/labels.txt")
CASES: dict[str, tuple[Path, Callable[[Path], object], type[Exception]]] = {
    "card": (CARD, card.read, ValueError),
    "card of a version": (CARD, functions.read_card, TrainingError),
    "options": (CARD, lambda folder: config.read(folder / CARD, models.described("lenet5")), UsageError),
    "labels": (LABELS, functions.read_assets, TrainingError),
    "run": (Path("run.json"), run_folder.read, TrainingError),
    "provenance": (Path("provenance.json"), to_folder.provenance, DataError),
    "names": (Path("names.json"), lambda folder: photographs.labels(folder / "names.json"), DataError),
    "warm-up": (Path(warmup.FILE), lambda folder: warmup.read(folder / warmup.FILE), ValueError),
    "SavedModel": (Path("saved_model.pb"), savedmodel.load, savedmodel.LoadError),
}


@pytest.mark.parametrize("content", [LATIN, DEEP, b"", b"\0\xff\xfe"], ids=["latin-1", "deep", "empty", "binary"])
@pytest.mark.parametrize("case", CASES)
def test_a_damaged_file_is_named_in_one_sentence(case: str, content: bytes, tmp_path: Path) -> None:
    file, read, error = CASES[case]
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(content)
    if (case, content) in {("labels", b""), ("labels", DEEP), ("warm-up", b"")}:
        read(tmp_path)  # no labels, one long label, no requests
        return
    with pytest.raises(error) as raised:
        read(tmp_path)
    said = str(raised.value)
    assert str(tmp_path) in said
    assert "\n" not in said
    assert len(said) < 600


def test_an_operation_that_tensorflow_lacks_is_named(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.double = tf.function(lambda x: tf.linalg.matmul(x, x), [tf.TensorSpec([2, 2], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path), {"serving_default": module.double})
    saved = tmp_path / "saved_model.pb"
    saved.write_bytes(saved.read_bytes().replace(b"\x06MatMul", b"\x06MyOpXX"))
    with pytest.raises(savedmodel.LoadError, match="cannot be loaded: TensorFlow lacks its operation MyOpXX; export"):
        savedmodel.load(tmp_path)


@pytest.mark.parametrize("content", [LATIN, b"no checksums\n", b""], ids=["latin-1", "no sums", "empty"])
def test_a_cache_whose_checksums_are_damaged_is_fetched_again(content: bytes, tmp_path: Path) -> None:
    (tmp_path / cache.SUMS).write_bytes(content)
    assert cache.intact(tmp_path) is (content == b"")
