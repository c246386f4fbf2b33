"""The verbs of the gateway: inputs, outputs, and requests that are refused."""

from __future__ import annotations

import base64
import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image, ImageOps

from ladle.clients.web import Config, create_app
from ladle.clients.web.http.problems import RETRY_AFTER_S
from ladle.clients.web.uploads import decode


def encoded(brightness: int, format: str = "PNG", size: tuple[int, int] = (4, 4)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (brightness,) * 3).save(file, format)
    return file.getvalue()


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def post(web: FlaskClient, model_verb: str, data: bytes, type: str = "image/png", **headers: str) -> Any:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.post(f"/api/v1/models/{model_verb}", data=data, content_type=type, headers=given)


def post_json(web: FlaskClient, model_verb: str, value: Any, **headers: str) -> Any:
    return post(web, model_verb, json.dumps(value).encode(), "application/json", **headers)


def is_problem(response: Any, status: int, said: str) -> None:
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.mimetype == "application/problem+json"
    body = json.loads(response.data)
    assert body["status"] == status
    assert said in body["detail"]


LIGHT = encoded(240)


@pytest.mark.parametrize(
    ("data", "type"),
    [
        pytest.param(LIGHT, "image/png", id="raw-png"),
        pytest.param(LIGHT, "application/octet-stream", id="raw-bytes"),
        pytest.param(encoded(240, "JPEG"), "image/jpeg", id="raw-jpeg"),
        pytest.param(encoded(240, "WEBP"), "image/webp", id="raw-webp"),
        pytest.param({"image": (io.BytesIO(LIGHT), "a.png")}, "multipart/form-data", id="multipart"),
        pytest.param(json.dumps({"image": base64.b64encode(LIGHT).decode()}), "application/json", id="json"),
        pytest.param(
            json.dumps({"image": base64.urlsafe_b64encode(LIGHT).decode().rstrip("=")}),
            "application/json",
            id="url-safe",
        ),
        pytest.param(
            json.dumps({"images": ["data:image/png;base64," + base64.b64encode(LIGHT).decode()]}),
            "application/json",
            id="data-url",
        ),
    ],
)
def test_classify_takes_an_image_in_every_form(web: FlaskClient, data: Any, type: str) -> None:
    response = web.post("/api/v1/models/lenet5:classify", data=data, content_type=type)
    assert response.status_code == 200, response.data
    [result] = response.json["results"]
    assert result["label"] == "shirt"
    assert result["class_id"] == 2
    assert result["probability"] == pytest.approx(0.8)
    assert [row["label"] for row in result["top"]] == ["shirt", "boot", "coat"]
    assert response.json["server_ms"] > 0
    assert response.json["version"] == 3
    assert response.headers["Server-Timing"].startswith("model;dur=")


def test_classify_answers_a_batch_in_one_request(web: FlaskClient, server: Any) -> None:
    images = [base64.b64encode(encoded(value)).decode() for value in (30, 240)]
    post(web, "lenet5:classify", LIGHT)
    before = server.predictions
    answer = post_json(web, "lenet5:classify", {"images": images}).json
    assert [result["label"] for result in answer["results"]] == ["boot", "shirt"]
    assert server.predictions == before + 1


def test_a_photograph_that_lies_on_its_side_is_set_upright(web: FlaskClient) -> None:
    picture = Image.new("RGB", (4, 4), "black")
    picture.paste("white", (0, 0, 4, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif, quality=100)
    mask = post(web, "unet:segment?picture=mask", file.getvalue(), "image/jpeg", Accept="image/png").data
    assert np.array_equal(pixels(mask), [[0, 0, 1, 1]] * 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_set_upright_whatever_else_its_exif_says(orientation: int) -> None:
    picture = Image.new("L", (16, 8), "black")
    picture.paste("white", (0, 0, 8, 8))
    picture.paste("grey", (8, 0, 12, 8))
    turned = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    width_in_letters = struct.pack("<HHI4s", 0x0100, 2, 4, b"abc")
    file, plain = io.BytesIO(), io.BytesIO()
    for each, entries in ((file, [turned, width_in_letters]), (plain, [turned])):
        exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)
        picture.save(each, "JPEG", exif=exif, quality=100)
    wanted = ImageOps.exif_transpose(Image.open(plain))
    assert np.array_equal(np.asarray(decode(file.getvalue(), 128).picture.convert("L")), np.asarray(wanted))


def test_sentiment_reads_json_and_plain_text(web: FlaskClient) -> None:
    for response in (
        post_json(web, "sentiment_lstm:sentiment", {"text": "a good film"}),
        post(web, "sentiment_lstm:sentiment", b"a good film", "text/plain; charset=utf-8"),
    ):
        [result] = response.json["results"]
        assert result["label"] == "positive"
        assert result["positive"] == pytest.approx(0.9)
    answer = post_json(web, "sentiment_lstm:sentiment", {"texts": ["good", "dull"]}).json
    assert [result["label"] for result in answer["results"]] == ["positive", "negative"]


def test_generate_gives_the_same_images_for_the_same_seed(web: FlaskClient) -> None:
    one, two, other = (post_json(web, "vae:generate", {"n": 3, "seed": seed}).json["images"] for seed in (7, 7, 8))
    assert len(one) == 3
    assert one == two != other
    assert pixels(base64.b64decode(one[0])).shape == (4, 4, 3)


def test_generate_gives_a_grid_as_png(web: FlaskClient) -> None:
    response = post_json(web, "vae:generate", {"n": 4}, Accept="image/png")
    assert response.mimetype == "image/png"
    assert Image.open(io.BytesIO(response.data)).size == (170, 170)


def test_segment_gives_mask_overlay_and_shares(web: FlaskClient) -> None:
    picture = np.zeros((8, 12), np.uint8)
    picture[:, 9:] = 255
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    [result] = post(web, "unet:segment", file.getvalue()).json["results"]
    assert (result["width"], result["height"]) == (12, 8)
    assert [(each["label"], each["share"]) for each in result["classes"]] == [("background", 0.75), ("nucleus", 0.25)]
    assert np.array_equal(pixels(base64.b64decode(result["mask"])), picture > 0)
    layer = pixels(base64.b64decode(result["overlay"]))
    assert layer[0, 0, 3] == 0
    assert "#" + layer[0, 11, :3].tobytes().hex() == result["classes"][1]["color"]


def test_segment_reduces_a_large_photograph(web: FlaskClient) -> None:
    [result] = post(web, "unet:segment", encoded(200, size=(100, 50))).json["results"]
    assert (result["width"], result["height"]) == (64, 32)


def test_reconstruct_gives_the_copy(web: FlaskClient) -> None:
    [result] = post(web, "vae:reconstruct", LIGHT).json["results"]
    assert pixels(base64.b64decode(result["image"]))[0, 0] == 120
    assert pixels(post(web, "vae:reconstruct", LIGHT, Accept="image/png").data)[0, 0] == 120


TORN = encoded(100, size=(60, 60))[:-40]
TORN_JPEG = encoded(100, "JPEG", size=(60, 60))[:-20]


@pytest.mark.parametrize(
    ("verb", "data", "type", "status", "said"),
    [
        pytest.param("lenet5:classify", b"", "image/png", 400, "Got no image", id="nothing"),
        pytest.param("lenet5:classify", b"{}", "application/json", 400, "none of image, images, sample", id="no-image"),
        pytest.param("lenet5:classify", b"[1", "application/json", 400, "expected a JSON object", id="no-json"),
        pytest.param(
            "lenet5:classify",
            b'{"image": 1}',
            "application/json",
            400,
            "image: got 1; expected a string",
            id="a-number",
        ),
        pytest.param("lenet5:classify", b'{"image": "***"}', "application/json", 400, "not base64", id="no-base64"),
        pytest.param(
            "lenet5:classify", b"x=1", "application/x-www-form-urlencoded", 415, "expected a multipart", id="form"
        ),
        pytest.param("lenet5:classify", b"GIF89a", "image/gif", 415, "image/gif", id="gif"),
        pytest.param(
            "lenet5:classify", b"GIF89a" + bytes(50), "image/png", 415, "expected PNG, JPEG or WebP", id="disguised"
        ),
        pytest.param("lenet5:classify", encoded(9, "BMP"), "image/png", 415, "expected PNG, JPEG or WebP", id="bmp"),
        pytest.param("lenet5:classify", TORN, "image/png", 422, "damaged", id="torn"),
        pytest.param("lenet5:classify?seen=true", TORN, "image/png", 422, "damaged", id="torn-and-seen"),
        pytest.param("lenet5:classify", TORN_JPEG, "image/jpeg", 422, "damaged", id="torn-jpeg"),
        pytest.param("vae:reconstruct", TORN, "image/png", 422, "damaged", id="torn-to-copy"),
        pytest.param("unet:segment", TORN, "image/png", 422, "damaged", id="torn-to-segment"),
        pytest.param(
            "lenet5:classify", encoded(9, size=(101, 100)), "image/png", 413, "101×100 pixels", id="too-large"
        ),
        pytest.param("lenet5:classify", bytes(200_001), "image/png", 413, "at most 200000 bytes", id="too-long"),
        pytest.param("sentiment_lstm:sentiment", b"{}", "application/json", 400, "none of text, texts", id="no-text"),
        pytest.param(
            "sentiment_lstm:sentiment",
            b'{"text": 3}',
            "application/json",
            400,
            "text: got 3; expected a string",
            id="text-3",
        ),
        pytest.param("sentiment_lstm:sentiment", b'{"text": " "}', "application/json", 422, "blank", id="blank"),
        pytest.param("sentiment_lstm:sentiment", b"\xff", "text/plain", 400, "not UTF-8", id="latin-1"),
        pytest.param(
            "sentiment_lstm:sentiment", b'{"text": "\\ud800"}', "application/json", 400, "surrogate", id="half"
        ),
        pytest.param("sentiment_lstm:sentiment", b"a" * 101, "text/plain", 413, "101 characters", id="long-text"),
        pytest.param("vae:generate", b'{"n": 0}', "application/json", 422, "n: got 0; expected 1 to 8", id="none"),
        pytest.param("vae:generate", b'{"n": 9}', "application/json", 422, "n: got 9; expected 1 to 8", id="too-many"),
        pytest.param(
            "vae:generate", b'{"n": 1.5}', "application/json", 400, "n: got 1.5; expected a whole number", id="a-part"
        ),
        pytest.param(
            "vae:generate",
            b'{"n": true}',
            "application/json",
            400,
            "n: got true; expected a whole number",
            id="a-boolean",
        ),
        pytest.param(
            "vae:generate",
            b'{"seed": 1e99}',
            "application/json",
            400,
            "seed: got 1e+99; expected a whole",
            id="float-seed",
        ),
        pytest.param(
            "vae:generate", b'{"seed": 9223372036854775808}', "application/json", 422, "seed: got 92233", id="long-seed"
        ),
        pytest.param("unet:segment?picture=x", LIGHT, "image/png", 422, "expected overlay or mask", id="picture"),
        pytest.param("nobody:classify", LIGHT, "image/png", 404, "nobody", id="no-such-model"),
        pytest.param("lenet5:segment", LIGHT, "image/png", 404, "it answers :classify", id="another-verb"),
        pytest.param("lenet5:frobnicate", LIGHT, "image/png", 404, "", id="no-such-verb"),
    ],
)
def test_what_is_refused_is_a_problem_document(
    web: FlaskClient, verb: str, data: bytes, type: str, status: int, said: str
) -> None:
    is_problem(post(web, verb, data, type, Accept="image/png" if "picture" in verb else "*/*"), status, said)


def test_too_many_images_are_refused(web: FlaskClient) -> None:
    one = base64.b64encode(LIGHT).decode()
    is_problem(post_json(web, "lenet5:classify", {"images": [one] * 9}), 413, "images: got 9 items; expected at most 8")
    large = base64.b64encode(encoded(9, size=(60, 100))).decode()
    is_problem(post_json(web, "lenet5:classify", {"images": [large] * 2}), 413, "at most 4000 more")
    response = post_json(web, "vae:reconstruct", {"images": [one] * 2}, Accept="image/png")
    is_problem(response, 422, "expected one, because a PNG shows one image")


def test_another_method_is_refused_with_the_one_that_is_allowed(web: FlaskClient) -> None:
    response = web.get("/api/v1/models/lenet5:classify")
    assert response.status_code in (404, 405)
    assert response.mimetype == "application/problem+json"
    response = web.delete("/api/v1/models")
    is_problem(response, 405, "")
    assert "GET" in response.headers["Allow"]


def test_a_server_that_is_away_is_503_with_retry_after_and_comes_back(web: FlaskClient, server: Any) -> None:
    post(web, "lenet5:classify", LIGHT)
    server.refuse("UNAVAILABLE", "secret-host-17: connection reset", times=1)
    response = post(web, "lenet5:classify", LIGHT)
    is_problem(response, 503, "The model server does not answer; if it is not running, start it with `ladle serve`.")
    assert response.headers["Retry-After"] == str(RETRY_AFTER_S)
    assert b"secret-host-17" not in response.data
    assert post(web, "lenet5:classify", LIGHT).status_code == 200


def test_a_server_that_is_slow_is_504(server: Any, config: Config) -> None:
    from dataclasses import replace

    web = create_app(replace(config, timeout_s=1.0)).test_client()
    server.refuse("DEADLINE_EXCEEDED", "secret", times=1)
    response = post(web, "lenet5:classify", LIGHT)
    is_problem(response, 504, "did not answer in time")
    assert b"secret" not in response.data


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [("INTERNAL", 502, False), ("INVALID_ARGUMENT", 422, True), ("RESOURCE_EXHAUSTED", 503, False)],
)
def test_only_reasons_that_the_caller_can_change_are_sent(
    web: FlaskClient, server: Any, code: str, status: int, told: bool
) -> None:
    post(web, "lenet5:classify", LIGHT)
    server.refuse(code, "a sentence of the server", times=1)
    response = post(web, "lenet5:classify", LIGHT)
    assert response.status_code == status
    assert (b"a sentence of the server" in response.data) is told
