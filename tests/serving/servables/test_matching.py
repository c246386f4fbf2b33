"""Output filters are checked against the signature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.serving.errors import InvalidArgument, ResourceExhausted
from ladle.serving.servables.matching import MAX_STRINGS, check_dtypes, choose_outputs
from ladle.serving.servables.saved_model import Signature, parse_signature, read_signature_defs


@pytest.fixture
def signature(tiny: Any, tmp_path: Path) -> Signature:
    folder = tiny.image_classifier().write(tmp_path)
    return parse_signature("serving_default", read_signature_defs(folder)["serving_default"])


def test_the_order_of_an_output_filter_does_not_matter(signature: Signature) -> None:
    every = tuple(signature.outputs)
    assert choose_outputs(signature, []) == choose_outputs(signature, every[::-1]) == every
    assert choose_outputs(signature, [every[2], every[0]]) == (every[0], every[2])


@pytest.mark.parametrize("wanted", [["nope"], ["label", "label"]], ids=["unknown", "twice"])
def test_unknown_and_repeated_outputs_are_refused(signature: Signature, wanted: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        choose_outputs(signature, wanted)


def test_a_tensor_of_very_many_strings_is_refused(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.image_classifier().write(tmp_path)
    classify = parse_signature("classify", read_signature_defs(folder)["classify"])
    check_dtypes(classify, {"inputs": np.full(MAX_STRINGS, b"", object)})
    with pytest.raises(ResourceExhausted, match="has 1048577 strings; at most 1048576 are taken"):
        check_dtypes(classify, {"inputs": np.full(MAX_STRINGS + 1, b"", object)})
