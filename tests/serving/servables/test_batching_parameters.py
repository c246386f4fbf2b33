"""BatchingParameters: every field, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.batching_parameters import Batching, read_batching, read_batching_of

ALL = """
max_batch_size { value: 128 } batch_timeout_micros { value: 7 } max_enqueued_batches { value: 3 }
num_batch_threads { value: 5 } thread_pool_name { value: "own" } allowed_batch_sizes: 2 allowed_batch_sizes: 32
pad_variable_length_inputs: true enable_large_batch_splitting { value: true } max_execution_batch_size { value: 32 }
"""


def test_every_field_is_read(tmp_path: Path) -> None:
    path = tmp_path / "parameters"
    path.write_text(ALL)
    read = read_batching(path)
    assert read == Batching(128, 7, 3, 5, "own", (2, 32), True, True, 32)
    read.check()
    assert (read.limit, read.threads) == (32, 5)
    assert [read.padded(rows) for rows in (1, 2, 3, 32)] == [2, 2, 32, 32]


def test_the_defaults_are_those_of_tensorflow_serving(tmp_path: Path) -> None:
    path = tmp_path / "parameters"
    path.write_text("")
    read = read_batching(path)
    assert (read.max_batch_size, read.batch_timeout_micros, read.max_enqueued_batches) == (1000, 0, 10)
    assert (read.thread_pool_name, read.padded(3), read.limit) == ("batch_threads", 3, 1000)
    assert read_batching(None).thread_pool_name == "model_server_batch_threads"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        (
            "max_batch_size { value: 4 } allowed_batch_sizes: 4 allowed_batch_sizes: 4",
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("max_enqueued_batches { value: -1 }", "max_enqueued_batches must be non-negative; was -1"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        (
            "max_batch_size { value: 4 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 8 }",
            "max_execution_batch_size must be positive and at most max_batch_size; was 8, max_batch_size is 4",
        ),
    ],
    ids=["last", "increasing", "size", "enqueued", "timeout", "execution"],
)
def test_parameters_that_contradict_each_other_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "parameters"
    path.write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        read_batching(path).check()
    assert str(caught.value) == message


def test_a_version_may_have_its_own_parameters(tmp_path: Path) -> None:
    assert read_batching_of(tmp_path) is None
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    own = read_batching_of(tmp_path)
    assert own is not None
    assert own.max_batch_size == 2
    (tmp_path / "batching_params.pbtxt").write_text("size 2")
    with pytest.raises(InvalidArgument, match=r"the version's batching_params.pbtxt is not a readable") as caught:
        read_batching_of(tmp_path)
    assert str(tmp_path) not in str(caught.value)
