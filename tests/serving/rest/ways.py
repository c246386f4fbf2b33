"""Two ways to read and write JSON's numbers: in compiled code, and in Python as where nothing could be compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ladle.serving.rest.json import compiled


@contextlib.contextmanager
def in_python() -> Iterator[None]:
    """What runs inside goes without compiled code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "read_list", None)
        patch.setattr(compiled, "write_list", None)
        yield


@pytest.fixture(params=["compiled", "python"], autouse=True, scope="module")
def each_way(request: pytest.FixtureRequest) -> Iterator[str]:
    """A module that imports it runs every test in both ways."""
    if request.param == "python":
        with in_python():
            yield request.param
        return
    if compiled.read_list is None:
        pytest.skip("nothing is compiled here")
    yield request.param


def both(outcome: Callable[..., Any], *arguments: Any) -> Any:
    """The outcome, after it was found to be the same in both ways."""
    if compiled.read_list is None:
        pytest.skip("nothing is compiled here")
    found = outcome(*arguments)
    with in_python():
        assert outcome(*arguments) == found
    return found
