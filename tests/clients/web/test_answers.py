"""What the verbs return beyond labels: preprocessed images, truth, influence of words, codes."""

from __future__ import annotations

import base64
import io
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ladle.clients.drawing.pictures import png
from ladle.clients.library.preprocess import pixels
from ladle.clients.transport import base
from ladle.clients.web import Config, create_app
from ladle.clients.web.uploads import Upload
from ladle.clients.web.verbs import masks, texts
from ladle.clients.web.verbs.base import PIXEL
from ladle.clients.web.verbs.codes import between
from ladle.clients.web.verbs.images import request_groups
from ladle.clients.wire.philox import stateless_normal
from ladle.serving.servables.steps.images import decode_batch

MODELS = "/api/v1/models"


def ask(web: FlaskClient, model_verb: str, value: Any, status: int = 200, **headers: str) -> Any:
    response = web.post(f"{MODELS}/{model_verb}", json=value, headers=headers)
    assert response.status_code == status, response.get_data(as_text=True)
    return response.data if response.mimetype == "image/png" else response.json


def picture(data: str | bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data) if isinstance(data, str) else data)))


def grey(values: Any) -> str:
    return base64.b64encode(png(Image.fromarray(np.asarray(values, np.uint8)))).decode()


# What the network saw


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1", "I;16"])
def test_an_image_is_prepared_as_the_model_server_prepares_it(mode: str, channels: int) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    image = Image.fromarray(noise[..., 0].astype(np.uint16) * 256) if mode == "I;16" else image.convert(mode)
    data = png(image)
    for size in ((5, 6), (None, None)):
        wanted = decode_batch(np.array([data], object), "image", channels, None if size[0] is None else size)[0]
        assert np.array_equal(pixels(Image.open(io.BytesIO(data)), *size, channels), wanted)


def test_a_large_picture_is_prepared_in_little_memory() -> None:
    large = Image.new("RGB", (1000, 1000))
    for prepare in (lambda: pixels(large, 28, 28, 1), lambda: masks.read(large)):
        prepare()  # what is imported then is not counted
        tracemalloc.start()
        prepare()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 24e6, f"{peak / 1e6:.0f} MB"


def test_classify_shows_what_the_network_saw_and_a_samples_truth(web: FlaskClient) -> None:
    [result] = ask(web, "lenet5:classify", {"sample": "coat.png", "seen": True, "top": 2})["results"]
    assert (result["label"], result["truth"], len(result["top"])) == ("coat", "coat", 2)
    assert result["top"][0]["class_id"] == 1
    seen = result["seen"]
    assert (seen["width"], seen["height"], seen["channels"]) == (4, 4, 1)
    assert np.array_equal(picture(seen["image"]), np.full((4, 4), 128))
    assert ask(web, "lenet5:classify", {"sample": "coat.png"})["results"][0]["seen"] is None


@pytest.mark.parametrize("file", ["secret.txt", "../card.json", "samples.json", "curves.png"])
def test_only_a_sample_is_a_sample(web: FlaskClient, file: str) -> None:
    assert "is not a sample" in ask(web, "lenet5:classify", {"sample": file}, 404)["detail"]


def test_options_come_in_the_query_in_a_form_and_in_json(web: FlaskClient) -> None:
    image = base64.b64decode(grey(np.full((4, 4), 250)))
    url = f"{MODELS}/lenet5:classify"
    answers = [
        web.post(f"{url}?top=1", data=image, content_type="image/png"),
        web.post(url, data={"image": (io.BytesIO(image), "a.png"), "top": "1"}),
        web.post(f"{url}?top=2", json={"image": base64.b64encode(image).decode(), "top": 1}),
    ]
    assert [len(answer.json["results"][0]["top"]) for answer in answers] == [1, 1, 1]
    refused = web.post(f"{url}?tpo=1", data=image, content_type="image/png")
    assert (refused.status_code, refused.json["detail"]) == (
        400,
        'Got the unknown option "tpo"; expected top, seen, version.',
    )


def test_an_answer_that_does_not_suit_is_406(web: FlaskClient) -> None:
    body = ask(web, "lenet5:classify", {"sample": "coat.png"}, 406, Accept="image/png")
    assert "application/json" in body["detail"]
    assert ask(web, "lenet5:classify", {"sample": "coat.png"}, Accept="image/png, */*;q=0.1")["model"] == "lenet5"


def test_a_request_may_choose_a_version(web: FlaskClient) -> None:
    assert ask(web, "lenet5:classify", {"sample": "coat.png", "version": 3})["version"] == 3
    ask(web, "lenet5:classify", {"sample": "coat.png", "version": 4}, 404)


# Masks and their truth

LEFT = np.zeros((8, 8), np.uint8)
LEFT[:, 4:] = 255


def test_segment_compares_with_a_samples_truth(web: FlaskClient) -> None:
    [result] = ask(web, "unet:segment", {"sample": "0.png"})["results"]
    assert result["iou"]["mean"] == 1.0
    assert [row["label"] for row in result["iou"]["classes"]] == ["background", "nucleus"]
    assert picture(result["truth"])[0, :, 3].tolist() == [0] * 4 + [255] * 4


@pytest.mark.parametrize("side", [8, 16], ids=["same-size", "twice-the-size"])
@pytest.mark.parametrize("value", [1, 255], ids=["ids", "black-and-white"])
def test_segment_compares_with_an_uploaded_truth(web: FlaskClient, side: int, value: int) -> None:
    truth = np.zeros((side, side), np.uint8)
    truth[:, : side // 4] = value  # the image's right half is nucleus: nothing in common but background
    [result] = ask(web, "unet:segment", {"image": grey(LEFT), "truth": grey(truth)})["results"]
    assert result["iou"]["classes"][0]["iou"] == pytest.approx(2 / 8)
    assert result["iou"]["mean"] == 0
    form = {"image": (io.BytesIO(base64.b64decode(grey(LEFT))), "i.png")}
    form["truth"] = (io.BytesIO(base64.b64decode(grey(truth))), "t.png")
    assert web.post(f"{MODELS}/unet:segment", data=form).json["results"][0]["iou"] == result["iou"]


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        pytest.param(np.zeros((4, 9)), "truth: got 9×4 pixels; expected 8×8", id="form"),
        pytest.param(np.eye(8)[..., None] * [9, 5, 1], "got a colour image", id="colour"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused(web: FlaskClient, truth: Any, said: str) -> None:
    assert said in ask(web, "unet:segment", {"image": grey(LEFT), "truth": grey(truth)}, 422)["detail"]


def test_void_pixels_of_a_truth_do_not_count_and_are_drawn_bare(web: FlaskClient) -> None:
    truth = np.zeros((8, 8), np.uint8)
    truth[:, 4:6], truth[:, 6:] = 1, 255  # the image's right half is nucleus; of its last columns nobody knows
    [result] = ask(web, "unet:segment", {"image": grey(LEFT), "truth": grey(truth)})["results"]
    assert [(row["class_id"], row["iou"]) for row in result["iou"]["classes"]] == [(0, 1.0), (1, 1.0)]
    assert picture(result["truth"])[0, :, 3].tolist() == [0] * 4 + [255] * 2 + [0] * 2
    unknown = Image.fromarray(np.where(truth == 1, 0, truth))  # of background and void alone, such as a sample's mask
    assert np.unique(masks.read(unknown, of_sample=True)).tolist() == [0, 255]
    assert masks.iou(np.zeros((8, 8), int), np.full((8, 8), 255), ["background"]) == {"mean": 1.0, "classes": []}


def test_a_png_shows_overlay_mask_or_truth(web: FlaskClient) -> None:
    shown = {
        kind: picture(ask(web, "unet:segment", {"sample": "0.png", "picture": kind}, Accept="image/png"))
        for kind in ("overlay", "mask", "truth")
    }
    assert np.array_equal(shown["mask"], LEFT // 255)
    assert shown["overlay"].shape == (8, 8, 3)
    assert np.array_equal(shown["overlay"], shown["truth"])
    solid = {"sample": "0.png", "opacity": 1}
    assert picture(ask(web, "unet:segment", solid, Accept="image/png"))[0, 7].tolist() == [230, 159, 0]
    bare = {"image": grey(LEFT), "picture": "truth"}
    assert "Got no truth" in ask(web, "unet:segment", bare, 422, Accept="image/png")["detail"]


def test_masks_of_one_size_are_one_request(web: FlaskClient, server: Any) -> None:
    before = server.predictions
    assert len(ask(web, "unet:segment", {"images": [grey(LEFT)] * 3})["results"]) == 3
    assert server.predictions == before + 1
    assert len(ask(web, "unet:segment", {"images": [grey(LEFT), grey(LEFT[:4])]})["results"]) == 2


def test_large_images_are_segmented_one_by_one() -> None:
    uploads = {side: Upload(b"", Image.new("L", (side, side))) for side in (1024, 512, 8)}
    counts = {side: [len(group) for group in request_groups([upload] * 15)] for side, upload in uploads.items()}
    assert counts == {1024: [1] * 15, 512: [4, 4, 4, 3], 8: [15]}
    assert [len(group) for group in request_groups(list(uploads.values()))] == [1, 1, 1]


# Words


def test_all_that_a_request_asks_has_one_time_out(
    web: FlaskClient, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = base.time.monotonic
    monkeypatch.setattr(base.time, "monotonic", lambda: now() + 6 * server.predictions)  # of the 10 s for a request
    images = [grey(np.full((side, side), 30)) for side in (4, 6, 8)]
    assert "did not answer in time" in ask(web, "unet:segment", {"images": images}, 504)["detail"]
    assert server.predictions == 2


def test_leaving_words_out_shows_which_decided_the_answer(web: FlaskClient, server: Any) -> None:
    text = "A good, but dull film.<br />Really"
    before = server.predictions
    [result] = ask(web, "sentiment_lstm:sentiment", {"text": text, "explain": True})["results"]
    assert server.predictions == before + 1
    assert "".join(piece["text"] for piece in result["pieces"]) == text
    influence = {piece["text"]: piece["influence"] for piece in result["pieces"]}
    assert influence["good"] == pytest.approx(0.7)
    assert influence["dull"] == 0
    assert influence[", "] is None
    assert influence[".<br />"] is None
    assert result["explained"] == {"words": 6, "of": 6}


def test_a_long_text_is_explained_from_its_end(config: Config) -> None:
    web = create_app(replace(config, max_words=2)).test_client()
    [result] = ask(web, "sentiment_lstm:sentiment", {"text": "good one two", "explain": True})["results"]
    assert [piece["influence"] for piece in result["pieces"] if piece["text"].strip()] == [None, 0, 0]
    assert result["explained"] == {"words": 2, "of": 3}


def test_several_texts_are_explained_in_one_request(web: FlaskClient, server: Any) -> None:
    before = server.predictions
    results = ask(web, "sentiment_lstm:sentiment", {"texts": ["good", "so dull", "!"], "explain": True})["results"]
    assert server.predictions == before + 1
    assert [len(result["pieces"]) for result in results] == [1, 3, 1]
    assert results[0]["pieces"][0]["influence"] == pytest.approx(0.7)
    assert results[2]["explained"] == {"words": 0, "of": 0}


@given(st.text())
def test_pieces_give_the_text_back(text: str) -> None:
    assert "".join(piece.text for piece in texts.split(text)) == text


# Codes


def test_generate_draws_codes(web: FlaskClient) -> None:
    for name in ("code", "z"):
        answer = ask(web, "vae:generate", {name: [[0, 0.5], [1, -1]], "with_codes": True})
        assert (answer["n"], answer["seed"], answer["codes"]) == (2, None, [[0, 0.5], [1, -1]])
        assert picture(answer["images"][0]).shape == (4, 4, 3)
    assert ask(web, "vae:generate", {"code": [0, 0.5]})["n"] == 1
    assert "expected 2" in ask(web, "vae:generate", {"code": [0]}, 422)["detail"]


def test_generate_returns_the_codes_of_a_seed(web: FlaskClient) -> None:
    codes = ask(web, "vae:generate", {"n": 2, "seed": 7, "with_codes": True})["codes"]
    assert np.allclose(codes, stateless_normal((2, 2), 7))
    assert ask(web, "vae:generate", {"n": 2, "seed": 7})["codes"] is None


def test_interpolate_goes_from_image_to_image(web: FlaskClient) -> None:
    ends = {"from": {"image": grey(np.zeros((4, 4)))}, "to": {"image": grey(np.full((4, 4), 255))}}
    answer = ask(web, "vae:interpolate", {**ends, "steps": 3, "with_codes": True})
    assert (answer["steps"], answer["path"], len(answer["images"])) == (3, "linear", 3)
    assert np.allclose(answer["codes"], [[0, 0], [0.5, 0.5], [1, 1]])
    form = {end: (io.BytesIO(base64.b64decode(each["image"])), "a.png") for end, each in ends.items()}
    again = web.post(f"{MODELS}/vae:interpolate", data={**form, "steps": "3", "with_codes": "true"})
    assert again.json["codes"] == answer["codes"]
    row = picture(ask(web, "vae:interpolate", {**ends, "steps": 3}, Accept="image/png"))
    assert row.shape[1] > 2.9 * row.shape[0]


def test_interpolate_goes_between_seeds_and_codes(web: FlaskClient) -> None:
    value = {"from": {"seed": 1}, "to": {"code": [2, 0]}, "steps": 2, "with_codes": True}
    codes = ask(web, "vae:interpolate", value)["codes"]
    assert np.allclose(codes, [stateless_normal((1, 2), 1)[0], [2, 0]])


@pytest.mark.parametrize(
    ("value", "status", "said"),
    [
        ({"from": {"seed": 1}}, 400, "got no to"),
        ({"from": {"seed": 1}, "to": {}}, 400, "to: got none of seed, code, image, sample"),
        ({"from": {"seed": 1, "code": [1, 2]}, "to": {"seed": 2}}, 400, 'from: got the unknown member "code"'),
        ({"from": {"seed": 1}, "to": {"seed": 2}, "steps": 1}, 422, "steps: got 1; expected 2 to 8"),
        ({"from": {"seed": 1}, "to": {"image": "AAAA"}}, 415, "expected PNG, JPEG or WebP"),
    ],
)
def test_ends_that_cannot_be_used_are_refused(web: FlaskClient, value: Any, status: int, said: str) -> None:
    assert said in ask(web, "vae:interpolate", value, status)["detail"]


def test_the_great_circle_keeps_the_length() -> None:
    first, last = np.array([3.0, 0, 0]), np.array([0, 3.0, 0])
    assert np.allclose(np.linalg.norm(between(first, last, 5, "spherical"), axis=1), 3)
    assert np.linalg.norm(between(first, last, 5, "linear")[2]) < 2.2
    assert np.allclose(between(first, first, 3, "spherical"), [first] * 3)


def test_reconstruct_returns_codes_and_sends_a_batch_as_one_request(web: FlaskClient, server: Any) -> None:
    images = [grey(np.full((4, 4), level)) for level in (0, 255)]
    ask(web, "vae:reconstruct", {"images": images})
    before = server.predictions
    results = ask(web, "vae:reconstruct", {"images": images})["results"]
    assert server.predictions == before + 1
    assert [result["code"] for result in results] == [None, None]
    results = ask(web, "vae:reconstruct", {"images": images, "with_codes": True})["results"]
    assert np.allclose([result["code"] for result in results], [[0, 0], [1, 1]])


def test_filter_answers_an_image_of_each_filter(web: FlaskClient) -> None:
    [result] = ask(web, "filters:filter", {"image": PIXEL})["results"]
    assert [each["name"] for each in result["filtered"]] == ["blur", "edge", "sharpen", "sobel"]
    black, white, *_ = (picture(each["image"]) for each in result["filtered"])
    assert black.max() == 0
    assert white.min() == 255
    assert "does not answer :filter" in ask(web, "lenet5:filter", {"image": PIXEL}, 404)["detail"]


def test_neighbours_of_a_word(web: FlaskClient) -> None:
    answer = ask(web, "sentiment_lstm:neighbours", {"word": "good", "n": 1})
    assert answer["neighbours"] == [{"word": "fine", "similarity": 0.75}]
    assert len(ask(web, "sentiment_lstm:neighbours", {"word": "good"})["neighbours"]) == 3
    for wrong, status in (({"word": "xyzzy"}, 422), ({"word": " "}, 422), ({"word": "good", "n": 11}, 422), ({}, 400)):
        ask(web, "sentiment_lstm:neighbours", wrong, status)
    assert "does not answer :neighbours" in ask(web, "lenet5:neighbours", {"word": "good"}, 404)["detail"]


# Numbers


@pytest.mark.parametrize(("x", "y"), [(3, 7), ([1, 2], [3, 5]), ([[1], [2]], [[3], [5]]), ([], [])])
def test_regress_answers_in_the_form_of_its_input(config: Config, x: Any, y: Any) -> None:
    web = create_app(replace(config, repository=None, models=("linear_regression",))).test_client()
    assert ask(web, "linear_regression:regress", {"x": x})["y"] == y
    assert web.get(MODELS).json["models"][0]["verbs"] == ["regress"]


def test_regress_names_the_form_that_it_takes(web: FlaskClient) -> None:
    assert "expected float32 [?, 1]" in ask(web, "linear_regression:regress", {"x": [[1, 2]]}, 422)["detail"]
    assert "different lengths" in ask(web, "linear_regression:regress", {"x": [[1], [1, 2]]}, 422)["detail"]


def test_minimise_answers_with_the_path_and_its_picture(web: FlaskClient) -> None:
    answer = ask(web, "bowl:minimise", {"starts": [[0, 2], [500, 0]]})
    there, lost = answer["results"]
    assert there == {"minimum": [1, 0], "value": 0, "path": [[0, 2], [0.5, 1], [1, 0]]}
    assert (lost["value"], lost["minimum"]) == (None, [None, None])
    assert answer["reach"] == pytest.approx(500 * 1.35)
    drawn = ask(web, "bowl:minimise", {"starts": [[0, 2], [500, 0]]}, Accept="image/png")
    assert picture(drawn).tolist() == picture(answer["picture"]).tolist()


def test_minimise_takes_points_of_the_plane(web: FlaskClient) -> None:
    assert "starts[0]" in ask(web, "bowl:minimise", {"starts": [[1]]}, 422)["detail"]
    assert "does not answer :minimise" in ask(web, "linear_regression:minimise", {"starts": [[1, 2]]}, 404)["detail"]
