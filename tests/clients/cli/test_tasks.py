"""The verbs for tasks: their answers, their files, their exit codes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladle.clients.cli.__main__ import main
from ladle.clients.cli.options import resolve, with_model_first
from ladle.clients.cli.parser import build_parser

Ask = Callable[..., str]


@pytest.fixture(params=["grpc", "rest"])
def ask(request: pytest.FixtureRequest, server: Any, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command against the server over one protocol; what it printed. It must end well."""

    def run(*arguments: str | Path) -> str:
        address = f"grpc://{server.grpc}" if request.param == "grpc" else server.rest
        assert main([*map(str, arguments), "--address", address]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return run


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A light picture of 4×4 pixels with a dark left half."""
    path = tmp_path / "picture.png"
    pixels = np.full((4, 4), 255, np.uint8)
    pixels[:, :2] = 60
    Image.fromarray(pixels).save(path)
    return path


def test_classify_draws_the_likeliest_classes(ask: Ask, image: Path) -> None:
    lines = ask("classify", "lenet5", image, image, "--top", "2").splitlines()
    assert lines[0] == "picture.png  coat"
    assert lines[1].split()[0] == "coat"
    assert lines[1].endswith(" 80.0%")
    assert len(lines) == 6


def test_classify_answers_in_json(ask: Ask, image: Path) -> None:
    [answer] = json.loads(ask("classify", "lenet5", image, "--json"))
    assert answer["label"] == "coat"
    assert answer["class_id"] == 1
    assert answer["image"] == str(image)
    assert [row["label"] for row in answer["top"]] == ["coat", "boot", "shirt"]


def test_sentiment_reads_arguments_and_stdin(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask("sentiment", "sentiment_lstm", "a good film").startswith("positive ")
    for texts, read in ((["-"], []), ([], []), (["fine", "-"], [("fine", "negative")])):
        monkeypatch.setattr(sys, "stdin", io.StringIO("dull\n\na good one\n"))
        answers = json.loads(ask("sentiment", "sentiment_lstm", *texts, "--json"))
        assert [(answer["text"], answer["label"]) for answer in answers] == [
            *read,
            ("dull", "negative"),
            ("a good one", "positive"),
        ]


def test_sentiment_never_takes_a_model_for_a_text_or_a_text_for_a_model(
    server: Any, tiny_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = ["--address", f"grpc://127.0.0.1:{tiny_server.grpc_port}"]
    assert main(["sentiment", "sentiment_gru", "good", *address]) == 1
    assert "sentiment_gru is not served" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["sentiment", "a lovely film", "--address", f"grpc://{server.grpc}"]) == 1
    assert 'got no text on stdin; expected one per line, or ladle sentiment NAME "a lovely film"' in (
        capsys.readouterr().err
    )


def test_sentiment_without_a_name_asks_the_only_model_that_has_the_task(
    tiny_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a good film\n"))
    assert main(["sentiment", "--address", f"grpc://127.0.0.1:{tiny_server.grpc_port}"]) == 1
    assert "serves no model that answers sentiment" in capsys.readouterr().err


def test_generate_writes_the_same_grid_for_the_same_seed(ask: Ask, tmp_path: Path) -> None:
    one, two, other = (tmp_path / f"{name}.png" for name in ("one", "two", "other"))
    for path, seed in ((one, 7), (two, 7), (other, 8)):
        said = ask("generate", "vae", "-n", 4, "--seed", seed, "--output", path)
        assert said.startswith(f"wrote {path}")
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()
    assert Image.open(one).mode == "RGB"


def test_segment_writes_the_overlay_and_the_raw_mask(
    ask: Ask, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = json.loads(ask("segment", "unet", image, "--mask", tmp_path / "mask.png", "--json"))
    assert answer["classes"] == {"0": 0.5, "1": 0.5}
    assert answer["labels"] == {"0": "class 0", "1": "class 1"}
    assert answer["output"] == "picture-mask.png"
    assert Image.open(answer["output"]).size == (4, 4)
    assert np.unique(np.asarray(Image.open(tmp_path / "mask.png"))).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        pytest.param(["segment", "unet", "{image}"], "picture-mask.png", id="segment"),
        pytest.param(["reconstruct", "vae", "{image}"], "picture-vae.png", id="reconstruct"),
        pytest.param(["filter", "filters", "{image}"], "picture-filters.png", id="filter"),
        pytest.param(["reconstruct", "vae", "-"], "stdin-vae.png", id="reconstruct-stdin"),
        pytest.param(["interpolate", "vae", "{image}", "-"], "vae-interpolation.png", id="interpolate-stdin"),
        pytest.param(["generate", "vae", "--output", "new.jpg"], "new.jpg", id="jpeg"),
        pytest.param(["segment", "unet", "-", "--output", "new.webp"], "new.webp", id="webp"),
        pytest.param(["segment", "unet", "{image}", "--output", "a.png", "--mask", "new.tiff"], "new.tiff", id="mask"),
    ],
)
def test_pictures_are_written_here_in_the_format_of_their_ending(
    arguments: list[str], written: str, ask: Ask, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(image.read_bytes())))
    assert f"wrote {written}" in ask(*(str(image) if word == "{image}" else word for word in arguments))
    assert (here / written).exists()
    with Image.open(here / written) as picture:
        assert picture.format == {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".tiff": "TIFF"}[Path(written).suffix]
    assert list(tmp_path.iterdir()) in ([here, image], [image, here])


def test_an_image_is_read_from_stdin(ask: Ask, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    from_file = json.loads(ask("classify", "lenet5", image, "--json"))
    pipe(image.read_bytes())
    assert json.loads(ask("classify", "lenet5", "-", "--json")) == [{**from_file[0], "image": "-"}]
    pipe(image.read_bytes())
    assert ask("encode", "vae", "-") == ask("encode", "vae", image)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (["classify", "{image}", "--model", "lenet5"], ["classify", "lenet5", "{image}"]),
        (["classify", "--model=lenet5", "{image}", "--json"], ["classify", "lenet5", "{image}", "--json"]),
        (["regress", "--top", "3", "--model", "m", "-1,2"], ["regress", "m", "--top", "3", "-1,2"]),
        (["status", "--model", "unet"], ["status", "unet"]),
        (["sentiment", "--", "--model", "x"], ["sentiment", "--", "--model", "x"]),
    ],
    ids=["apart", "equals", "between", "status", "after-dashes"],
)
def test_the_model_may_be_named_by_an_option(given: list[str], plain: list[str]) -> None:
    assert with_model_first(given) == plain


def test_the_server_may_be_named_as_people_guess(server: Any, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "--model", "lenet5", str(image), "--server", f"grpc://{server.grpc}"]) == 0
    assert "coat" in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"text"], ids=["empty", "no-image"])
def test_stdin_without_an_image_is_refused(
    data: bytes, server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["segment", "unet", "-", "--address", f"grpc://{server.grpc}"]) == 1
    assert "stdin" in capsys.readouterr().err


def test_reconstruct_writes_the_image_and_its_copy_side_by_side(ask: Ask, image: Path, tmp_path: Path) -> None:
    answer = json.loads(ask("reconstruct", "vae", image, "--output", tmp_path / "both.png", "--json"))
    width, height = Image.open(tmp_path / "both.png").size
    assert width > 2 * height - 10
    assert answer["mean_error"] == pytest.approx(np.mean([60, 255]) / 255 / 2, abs=0.01)


def test_regress_takes_a_row_for_each_example(ask: Ask) -> None:
    assert ask("regress", "linear_regression", "1", "2.5") == "linear_regression(1) = 3\nlinear_regression(2.5) = 6\n"
    assert json.loads(ask("regress", "linear_regression", "-1", "--json")) == [{"x": [-1.0], "y": [-1.0]}]


def test_reconstruct_shows_the_noisy_input_between_image_and_copy(ask: Ask, image: Path, tmp_path: Path) -> None:
    arguments = ("reconstruct", "vae", image, "--noise", "0.3", "--dropout", "0.5", "--output", tmp_path / "three.png")
    answer = json.loads(ask(*arguments, "--json"))
    assert 0.1 < answer["mean_error_before"] < 0.9
    first = (tmp_path / "three.png").read_bytes()
    with Image.open(tmp_path / "three.png") as sheet:
        assert sheet.size == (3 * 84 + 2 * 2, 84)
        tiles = np.asarray(sheet).astype(int)[10, [10, 96, 182]]  # image, spoilt image, copy
    assert tiles[0] == 60
    assert tiles[2] == pytest.approx(tiles[1] / 2, abs=1)
    assert "image, input, copy" in ask(*arguments)
    assert (tmp_path / "three.png").read_bytes() == first
    ask(*arguments, "--seed", "1")
    assert (tmp_path / "three.png").read_bytes() != first


def test_filter_draws_the_image_and_what_each_filter_makes_of_it(ask: Ask, image: Path, tmp_path: Path) -> None:
    output = tmp_path / "five.png"
    assert "image, blur, edge, sharpen, sobel\n" in ask("filter", "filters", image, "--output", output)
    tiles = [tile.mean() for tile in np.array_split(np.asarray(Image.open(output)).astype(float), 5, axis=1)]
    assert tiles[1] == pytest.approx(tiles[0] / 2, abs=6)
    assert tiles[2] == pytest.approx(255 - tiles[0], abs=6)
    told = json.loads(ask("filter", "filters", image, "--output", output, "--json"))
    assert told["filtered"] == ["blur", "edge", "sharpen", "sobel"]


def test_neighbours_prints_words_with_their_cosines(ask: Ask) -> None:
    said = ask("neighbours", "sentiment_lstm", "good", "dull", "-n", "2")
    assert [line.split()[0] for line in said.splitlines()] == ["good", "fine", "great", "dull", "fine", "great"]
    assert "0.750" in said
    [answer] = json.loads(ask("neighbours", "sentiment_lstm", "good", "--json"))
    assert answer["word"] == "good"
    assert answer["neighbours"][2] == {"word": "café", "similarity": -0.25}


def test_minimise_prints_the_descent_and_draws_it_over_contours(ask: Ask, tmp_path: Path) -> None:
    output = tmp_path / "path.png"
    said = ask("minimise", "bowl", "0,2", "-3,-1", "--output", output)
    assert "bowl falls from 5 at (0, 2) to 0 at (1, 0) in 2 steps\n" in said
    assert "bowl falls from 17 at (-3, -1) to 0 at (1, 0) in 2 steps\n" in said
    with Image.open(output) as picture:
        pixels = np.asarray(picture).astype(int)
    orange = (pixels[..., 0] > 200) & (pixels[..., 2] < 80)
    reach = 3 * 1.35
    for x, y in ((0.5, 1), (-1, -0.5)):  # half-way
        row, column = round((reach - y) / (2 * reach) * 639), round((x + reach) / (2 * reach) * 639)
        assert orange[row - 2 : row + 3, column - 2 : column + 3].any(), (x, y)
    assert len(np.unique(pixels[:, 320].sum(-1))) > 12  # bands of several heights


def test_the_numbers_of_one_start_need_no_commas(ask: Ask, tmp_path: Path) -> None:
    [answer] = json.loads(ask("minimise", "bowl", "0", "2", "--output", tmp_path / "path.png", "--json"))["descents"]
    assert answer == {"start": [0, 2], "start_value": 5, "minimum": [1, 0], "value": 0, "steps": 2}


def test_a_descent_that_diverges_is_reported(ask: Ask, tmp_path: Path) -> None:
    output = tmp_path / "path.png"
    assert "diverges from (500, 0)" in ask("minimise", "bowl", "500,0", "--output", output)
    answer = json.loads(ask("minimise", "bowl", "500,0", "0,2", "--output", output, "--json"))
    assert [descent["value"] for descent in answer["descents"]] == [None, 0]


def test_metadata_lists_the_verbs_of_a_model(ask: Ask) -> None:
    assert "answers ladle generate, ladle reconstruct, ladle interpolate, ladle encode" in ask("metadata", "vae")
    assert json.loads(ask("metadata", "bowl", "--json"))["verbs"] == ["minimise"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["generate", "lenet5"], "it answers `ladle classify`", id="generate"),
        pytest.param(["reconstruct", "lenet5", "picture.png"], "it answers `ladle classify`", id="reconstruct"),
        pytest.param(["filter", "unet", "picture.png"], "it answers `ladle segment`", id="filter"),
        pytest.param(["regress", "bowl", "1,2"], "it answers `ladle minimise`", id="regress"),
        pytest.param(["minimise", "linear_regression", "1"], "it answers `ladle regress`", id="minimise"),
        pytest.param(["neighbours", "second_opinion", "x"], "it answers `ladle sentiment`", id="neighbours"),
        pytest.param(["neighbours", "sentiment_lstm", "xyzzy"], 'does not know the word "xyzzy"', id="unknown word"),
        pytest.param(["sentiment", "unet", "x"], "it answers `ladle segment`", id="sentiment"),
        pytest.param(["classify", "echo_DT_STRING", "picture.png"], "use `ladle predict`", id="none"),
        pytest.param(
            ["decode", "vae", "1,2,3"], 'input "code": got float32 [1, 3]; expected float32 [?, 2]', id="length"
        ),
        pytest.param(["sentiment", "sentiment_lstm", " "], "got a blank text", id="blank"),
    ],
)
def test_a_wrong_verb_is_answered_with_the_verbs_of_the_model(
    arguments: list[str], said: str, server: Any, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(image) if argument == "picture.png" else argument for argument in arguments]
    assert main([*given, "--address", f"grpc://{server.grpc}"]) == 1
    assert said in capsys.readouterr().err


def test_the_models_that_are_served_are_named_when_one_is_not(
    tiny_server: Any, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, said in (
        ("clasifier", "did you mean classifier?"),
        ("zzz", "half_plus_three, half_plus_two, identities"),
    ):
        assert main(["classify", name, str(image), "--address", f"grpc://127.0.0.1:{tiny_server.grpc_port}"]) == 1
        assert f"{name} is not served; " in (told := capsys.readouterr().err)
        assert said in told


def test_status_shows_each_version(ask: Ask) -> None:
    heading, row = ask("status", "unet").splitlines()
    assert heading.split() == ["MODEL", "VERSION", "STATE"]
    assert row.split() == ["unet", "3", "AVAILABLE"]


def test_status_without_names_asks_about_the_repository(ask: Ask, tmp_path: Path) -> None:
    for folder in ("unet/1", "absent/2", "notes/draft"):
        (tmp_path / folder).mkdir(parents=True)
    rows = json.loads(ask("status", "--repository", tmp_path, "--json"))
    assert [(row["model"], row["state"]) for row in rows] == [("absent", "NOT_SERVED"), ("unet", "AVAILABLE")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["status", "nobody"], "nobody: no", id="no-such-model"),
        pytest.param(
            ["classify", "lenet5", "nowhere.png"], "nowhere.png: No such file or directory", id="no-such-file"
        ),
        pytest.param(["segment", "unet", "nowhere.png"], "nowhere.png: No such file or directory", id="no-picture"),
        pytest.param(["regress", "x", "1,2", "3"], "got rows of 1 and 2 features", id="ragged-rows"),
        pytest.param(
            ["status", "--repository", "nowhere"],
            "cannot list its models, and nowhere holds none",
            id="nothing-to-ask-about",
        ),
    ],
)
def test_what_fails_is_one_line_and_exit_1(
    arguments: list[str], said: str, server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--address", f"grpc://{server.grpc}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"ladle {arguments[0]}: ")
    assert said in error
    assert error.count("\n") == 1


def test_a_file_that_is_not_an_image_is_refused(
    tmp_path: Path, server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    assert main(["segment", "unet", str(tmp_path / "notes.png"), "--address", f"grpc://{server.grpc}"]) == 1
    assert "notes.png, which is not an image; expected PNG or JPEG" in capsys.readouterr().err


def test_without_a_server_the_error_says_how_to_start_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "unet", "--address", "grpc://localhost:1"]) == 1
    assert "nothing answers at localhost:1; start it with `ladle serve`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["generate", "vae", "-n", "0"], id="no-images"),
        pytest.param(["segment", "unet", "a.png", "--opacity", "2"], id="opacity"),
        pytest.param(["regress", "m", "one"], id="no-number"),
        pytest.param(["generate", "vae", "--version", "1", "--label", "a"], id="two-versions"),
        pytest.param(["frob"], id="no-such-verb"),
    ],
)
def test_misuse_is_exit_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_a_code_or_a_row_may_begin_with_a_minus() -> None:
    parse = build_parser().parse_args
    assert parse(["decode", "vae", "-0.5,1,-2e-3", "--output", "a.png"]).code == [-0.5, 1.0, -0.002]
    given = parse(["regress", "m", "-1,2", ".5,-3", "-.25,1", "--json"])
    assert (given.rows, given.json) == ([[-1.0, 2.0], [0.5, -3.0], [-0.25, 1.0]], True)


@pytest.mark.parametrize(
    ("address", "protocol", "resolved"),
    [
        ("grpc://localhost:8500", None, "grpc://localhost:8500"),
        ("grpc://localhost:8500", "rest", "http://localhost:8501"),
        ("http://box", "grpc", "grpc://box:8500"),
        ("box", None, "grpc://box:8500"),
        ("box:9000", "rest", "http://box:9000"),
        ("https://box", "rest", "https://box:8501"),
        ("grpc://[::1]:8500", "rest", "http://[::1]:8501"),
        ("grpcs://box", "rest", "https://box:8501"),
        ("grpc://a,b:9000", None, "grpc://a:8500,b:9000"),
        ("grpc://unix:/run/ladle.sock", None, "grpc://unix:/run/ladle.sock"),
        ("https://box/models/", None, "https://box:8501/models"),
    ],
)
def test_an_address_and_a_protocol_make_one_address(address: str, protocol: str | None, resolved: str) -> None:
    assert resolve(address, protocol) == resolved


@pytest.mark.parametrize("address", ["ftp://box", "grpc://", "grpc://box:9000", "grpc://a:9000,b"])
def test_an_address_that_does_not_fit_is_exit_2(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "unet", "--address", address, "--protocol", "rest"]) == 2
    assert address.partition("://")[2] in capsys.readouterr().err
