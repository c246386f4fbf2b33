"""The examples in the client's docstrings run; what they show has the type that it really has."""

from __future__ import annotations

import ast
import doctest
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladle.clients.library.client import Client
from tests.clients.answering_models import MODELS

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
    found = doctest.DocTestParser().get_examples(inspect.getdoc(getattr(Client, method)) or "")
    assert found
    for example in found:
        if example.source.startswith("print("):
            exec(example.source, {"client": client})
            continue
        result = eval(example.source, {"client": client})
        shown = ast.literal_eval(example.want)
        assert type(result) is type(shown)
        if isinstance(shown, list | tuple):
            assert len(result) == len(shown)
