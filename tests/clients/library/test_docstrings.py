"""The examples in the client's docstrings run; what they show has the type that it really has."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladle.clients.library.client import Client
from tests.clients.answering_models import MODELS

SHARED = ("timeout_s", "options", "label", "names")
"""Parameters that the class describes, or another one beside them."""
METHODS = [name for name, method in vars(Client).items() if inspect.isfunction(method) and not name.startswith("_")]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "close"])
def test_the_example_of_a_method_runs(
    method: str, client: Client, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS, "himmelblau", MODELS["bowl"])
    server.listing = ["sentiment_lstm", "lenet5"]
    for number, name in enumerate(("boot", "bag", "cells")):
        Image.fromarray(np.full((4, 4), 100 * number, np.uint8)).save(f"{name}.png")
    written = inspect.getdoc(getattr(Client, method)) or ""
    found = doctest.DocTestParser().get_examples(written)
    assert found
    assert "\nReturns " in written
    own = [name for name in inspect.signature(getattr(Client, method)).parameters if name not in ("self", *SHARED)]
    assert [name for name in own if not re.search(rf"(?m)^(\w+, )?{name}(, \w+)?  ", written)] == []
    for example in found:
        if example.source.startswith("print("):
            exec(example.source, {"client": client})
            continue
        result = eval(example.source, {"client": client})
        shown = ast.literal_eval(example.want)
        assert type(result) is type(shown)
        if isinstance(shown, list | tuple):
            assert len(result) == len(shown)
