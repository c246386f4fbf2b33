"""The verbs for any signature, and inputs and arrays on a command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.clients.cli.__main__ import main
from ladle.clients.cli.predict import as_json, read_inputs
from ladle.clients.transport.metadata import TensorInfo


@pytest.fixture(params=["grpc", "rest"])
def ask(request: pytest.FixtureRequest, server: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: object) -> str:
        address = f"grpc://{server.grpc}" if request.param == "grpc" else server.rest
        assert main([*map(str, arguments), "--address", address]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return run


def test_metadata_names_every_input_and_output(ask: Callable[..., str]) -> None:
    lines = ask("metadata", "lenet5").splitlines()
    assert lines[:2] == ["lenet5 version 3", "answers ladle classify"]
    assert lines[3].split() == ["classify", "in", "inputs", "string", "[?]"]
    answer = json.loads(ask("metadata", "lenet5", "--json"))
    assert answer["signatures"]["serving_default"]["inputs"]["image"] == {
        "dtype": "float32",
        "shape": [None, 4, 4, 1],
    }


def test_predict_takes_numbers_text_and_files(ask: Callable[..., str], tmp_path: Path) -> None:
    said = ask("predict", "linear_regression", "--input", "x=[[2], [3]]", "--output", f"y={tmp_path / 'y.npy'}")
    assert "y  float32 [2, 1]" in said
    assert np.load(tmp_path / "y.npy").tolist() == [[5.0], [7.0]]
    np.save(tmp_path / "x.npy", np.array([[4]], np.float32))
    answer = json.loads(ask("predict", "linear_regression", "--input", f"x=@{tmp_path / 'x.npy'}", "--json"))
    assert answer["outputs"]["y"] == {"tensor": "float32 [1, 1]", "values": [[9.0]]}
    text = ask("predict", "sentiment_lstm", "--signature", "text", "--input", 'text=["good"]')
    assert "positive" in text


def test_what_is_not_finite_is_null_in_json(ask: Callable[..., str]) -> None:
    said = ask("predict", "linear_regression", "--input", "x=[[NaN], [Infinity], [1]]", "--json")
    answer = json.loads(said, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert answer["outputs"]["y"]["values"] == [[None], [None], [3.0]]


def test_a_big_output_is_summed_up(ask: Callable[..., str]) -> None:
    said = ask("predict", "vae", "--signature", "generate", "--input", "n=20", "--input", "seed=1")
    assert "images  uint8 [20, 4, 4, 3]" in said
    assert "960 values from " in said


def test_encode_prints_the_code_and_decode_takes_it(ask: Callable[..., str], tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (4, 4), 255).save(tmp_path / "white.png")
    assert ask("encode", "vae", tmp_path / "white.png", "--output", tmp_path / "code.npy").startswith("1,1\n")
    assert json.loads(ask("encode", "vae", tmp_path / "white.png", "--json"))["code"] == [1.0, 1.0]
    assert np.load(tmp_path / "code.npy").tolist() == [1.0, 1.0]
    for code in ("1,1", f"@{tmp_path / 'code.npy'}"):
        answer = json.loads(ask("decode", "vae", code, "--output", tmp_path / "image.png", "--json"))
        assert (answer["n"], answer["channels"]) == (1, 3)
        assert Image.open(tmp_path / "image.png").mode == "RGB"


def test_interpolate_draws_one_row(ask: Callable[..., str], tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (4, 4), 255).save(tmp_path / "white.png")
    given = ["interpolate", "vae", tmp_path / "white.png", tmp_path / "white.png", "--steps", 5]
    assert json.loads(ask(*given, "--output", tmp_path / "way.png", "--json"))["steps"] == 5
    width, height = Image.open(tmp_path / "way.png").size
    assert width > 4 * height


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "got 'x'; expected --input NAME=VALUE"),
        ("x=@absent.npy", "absent.npy"),
        ("x=@text.npy", "text.npy; expected a .npy file"),
        ("x=@text.json", "text.json, which is not JSON"),
    ],
)
def test_an_input_that_cannot_be_read_is_named(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.npy", "text.json"):
        (tmp_path / name).write_text("{not this")
    with pytest.raises((OSError, ValueError), match=said):
        read_inputs([text])


def test_inputs_are_json_where_they_can_be_and_text_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    given = ["a=[1, 2]", "b=plain text", "c=", f"d=@{tmp_path / 'a.png'}", 'e="7"']
    assert read_inputs(given) == {"a": [1, 2], "b": "plain text", "c": "", "d": [b"\x89PNG"], "e": "7"}


def test_bytes_that_are_no_text_go_as_base64() -> None:
    assert as_json(np.array([b"text", b"\xff"], object)) == ["text", {"b64": "/w=="}]


def test_a_single_value_is_one_row_and_a_text_where_the_signature_takes_texts() -> None:
    declared = {"area": TensorInfo("float32", (None,)), "sold": TensorInfo("string", (None,))}
    declared |= {"n": TensorInfo("int32", ()), "image": TensorInfo("float32", (None, 2))}
    given = ["area=70", "sold=true", "n=3", "image=[[1, 2]]", "other=7"]
    assert read_inputs(given, declared) == {"area": [70], "sold": ["true"], "n": 3, "image": [[1, 2]], "other": 7}
    assert read_inputs(["sold=75", "area=[1, 2]"], declared) == {"sold": ["75"], "area": [1, 2]}
    assert read_inputs(['sold="Lyon"'], declared) == {"sold": ["Lyon"]}
