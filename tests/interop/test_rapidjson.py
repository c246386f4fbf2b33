"""Faults in JSON against PyPI's python-rapidjson, which holds a later RapidJSON than TensorFlow Serving's 1.1.0."""

from __future__ import annotations

import json
import random
import re
import subprocess

import pytest

from ladle.serving.rest.json.faults import find_fault
from tests.interop.conftest import HERE, Tools

pytestmark = pytest.mark.interop

TEXTS = [
    b'{"instances": [[1.5, -2e-3], [0, 1E+4]], "signature_name": "a"}',
    b'{"inputs": {"x": ["a\\n", "\\u00e9\\ud83d\\u00e9"], "y": {"b64": "AA=="}}}',
    b"[true, false, null, 18446744073709551616, -0.0]",
    b'{"a": {"b": [{}, [], 0.5e10, "x"]}, "c": -0}',
    b'  {"k" : [ 1 , 2 ] }  ',
]
PIECES = b'  { } [ ] , : " \\ 1 0 - . e e400 0e309 1e309 t nul \\u12 \\ud800'.split(b" ")
COUNT = 20_000
# Where the versions differ: the second half of a surrogate pair alone, a text that begins with what ends or divides
# others, and a number with a fraction that is only just too large.
OTHERWISE = re.compile(rb"\\u[dD][c-fC-F]|\A\s*[\]},:]|\.[0-9]+[eE]\+?[0-9]{3}", re.DOTALL)
FOLLOWED = "The document root must not be followed by other values."  # TensorFlow Serving stops after the value


def mutated() -> list[bytes]:
    """Texts with one to three pieces cut out or put in."""
    choose = random.Random(1)
    found = []
    for _ in range(COUNT):
        text = bytearray(choose.choice(TEXTS))
        for _ in range(choose.randint(1, 3)):
            start = choose.randrange(len(text) + 1)
            text[start : start + choose.choice([0, 0, 1, 1, 2, 5])] = choose.choice(PIECES)
        if not OTHERWISE.search(text):
            found.append(bytes(text))
    return found


def test_faults_are_those_of_rapidjson(tools: Tools) -> None:
    texts = mutated()
    assert len(texts) > COUNT / 2
    lines = "".join(f"{text.hex()}\n" for text in texts)
    command = [tools.python, HERE / "rapidjson_faults.py"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    wrong = []
    for text, said in zip(texts, map(json.loads, done.stdout.splitlines()), strict=True):
        fault = find_fault(text)
        ours = None if fault is None else [fault.text, fault.offset]
        theirs = None if said and said[0] == FOLLOWED else said
        if ours != theirs:
            wrong.append((text, ours, theirs))
    assert wrong == []
