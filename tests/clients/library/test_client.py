from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladle.clients.errors import InvalidArgument, NotFound, Unimplemented, from_code, from_status
from ladle.clients.library.client import Client
from ladle.clients.library.images import batch, decoded_batch, encoded
from ladle.clients.library.inference import Inference
from ladle.clients.transport.base import Transport
from ladle.clients.transport.metadata import TensorInfo

GREY = np.full((4, 4), 128, np.uint8)
BRIGHT = np.full((4, 4), 255, np.uint8)


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (1, 4, 4), (1, 4, 4, 1)], ids=["hw", "hwc", "bhw", "bhwc"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_an_image_is_classified_with_or_without_batch_and_channel_axis(
    client: Client, shape: tuple[int, ...], dtype: str
) -> None:
    image = GREY.reshape(shape) if dtype == "uint8" else (GREY.reshape(shape) / 255).astype(dtype)
    result = client.classify("lenet5", image)
    assert (result.label, result.class_id) == ("coat", 1)
    assert result.probability == pytest.approx(0.8)
    assert result.labels == ("boot", "coat", "shirt")
    assert result.probabilities.dtype == np.float32
    assert result.top(2) == [("coat", pytest.approx(0.8)), ("boot", pytest.approx(0.1))]


@pytest.mark.parametrize("kind", ["path", "text", "bytes"])
def test_an_encoded_image_goes_to_the_server_as_it_is(client: Client, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "boot.png"
    path.write_bytes(png(BRIGHT))
    image = {"path": path, "text": str(path), "bytes": path.read_bytes()}[kind]
    assert client.classify("lenet5", image).label == "shirt"


def test_several_images_are_classified_in_one_request(client: Client, server: Any) -> None:
    client.classify("lenet5", GREY)
    before = server.predictions
    for images in ([GREY, BRIGHT], np.stack([GREY, BRIGHT]), [png(GREY), png(BRIGHT)]):
        assert [result.label for result in client.classify_many("lenet5", images)] == ["coat", "shirt"]
    assert server.predictions == before + 3


def test_labels_are_numbers_where_the_server_does_not_tell_them(client: Client) -> None:
    result = client.classify("nameless", GREY)
    assert (result.label, result.class_id, result.labels) == ("1", 1, ("0", "1", "2"))


def test_sentiment_gives_the_label_and_its_probability(client: Client) -> None:
    results = client.sentiment_many("sentiment_lstm", ["good — très good", "dull"])
    assert [result.label for result in results] == ["positive", "negative"]
    assert [result.probability for result in results] == pytest.approx([0.9, 0.8])
    assert [result.positive for result in results] == pytest.approx([0.9, 0.2])
    assert client.sentiment("sentiment_lstm", "dull") == results[1]
    assert client.sentiment("sentiment_lstm", ["good — très good", "dull"]) == results


def test_generated_images_repeat_with_the_seed(client: Client) -> None:
    images = client.generate("vae", 3, seed=2**40)
    assert (images.dtype, images.shape) == (np.uint8, (3, 4, 4, 3))
    np.testing.assert_array_equal(images, client.generate("vae", 3, seed=2**40))


def test_segmentation_answers_the_class_of_every_pixel(client: Client) -> None:
    image = np.zeros((5, 7), np.uint8)
    image[:, :2] = 255
    for given in (image, png(image)):
        result = client.segment("unet", given)
        assert result.class_map.dtype == np.int64
        np.testing.assert_array_equal(result.class_map, image > 0)
        assert result.shares == {0: pytest.approx(5 / 7), 1: pytest.approx(2 / 7)}


def test_bytes_that_are_not_utf_8_come_back_whole(client: Client) -> None:
    answer = client.predict("unet", {"image_bytes": [png(GREY)]}, "serving_bytes")
    assert np.asarray(Image.open(io.BytesIO(answer["mask_png"][0]))).tolist() == np.ones((4, 4)).tolist()


def test_an_auto_encoder_reconstructs_encodes_and_decodes(client: Client) -> None:
    for image in (BRIGHT, png(BRIGHT)):
        copy = client.reconstruct("vae", image)
        assert (copy.dtype, copy.shape, float(copy.max())) == (np.float32, (4, 4, 1), 0.5)
    assert client.reconstruct("vae", BRIGHT[None, :, :, None]).shape == (1, 4, 4, 1)
    assert client.encode("vae", BRIGHT).tolist() == [1, 1]
    assert client.encode("vae", np.stack([BRIGHT, BRIGHT])[..., None]).shape == (2, 2)
    assert client.decode("vae", [0.5, 1.5]).shape == (4, 4, 3)
    assert client.decode("vae", np.zeros((2, 2))).shape == (2, 4, 4, 3)


def test_a_regression_takes_a_value_or_a_batch(client: Client) -> None:
    assert client.regress("linear_regression", [2]).tolist() == [5]
    assert client.regress("linear_regression", [[1.0], [2.0]]).tolist() == [[3], [5]]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((32, 32), np.uint8),
            r'lenet5: input "image": got uint8 \[32, 32\]; expected float32 \[\?, 4, 4, 1\]',
        ),
        (np.zeros((4, 4, 3), np.float32), r"got float32 \[4, 4, 3\]; expected float32 \[\?, 4, 4, 1\]"),
        (np.zeros((4, 4), np.int64), r"got int64 \[4, 4\]; expected uint8, or float in \[0, 1\]"),
        (np.full((4, 4), 200.0), r"got values from 200 to 200; expected float in \[0, 1\], or uint8"),
        (np.full((4, 4), np.nan), "got values from nan to nan"),
        (np.zeros((2, 4, 4, 1), np.uint8), r"lenet5: got 2 images; expected one \(`classify_many` takes several\)"),
        ("no/such.png", "cannot read the image no/such.png: No such file"),
    ],
    ids=["size", "channels", "integers", "range", "nan", "batch", "missing"],
)
def test_an_unsuitable_image_is_refused_with_what_came_and_what_is_wanted(
    client: Client, image: Any, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        client.classify("lenet5", image)


def test_what_a_model_cannot_do_is_said_with_what_it_can(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="lenet5: does not answer sentiment; it answers classify"):
        client.sentiment("lenet5", "good")
    with pytest.raises(InvalidArgument, match="unet: does not answer classify; it answers segment"):
        client.classify("unet", GREY)
    with pytest.raises(InvalidArgument, match="unet: does not answer generate; it answers segment"):
        client.generate("unet")
    with pytest.raises(InvalidArgument, match="lenet5: does not answer minimise; it answers classify"):
        client.minimise("lenet5", np.zeros((1, 4, 4, 1), np.float32))
    with pytest.raises(InvalidArgument, match="vae: has the inputs n, seed"):
        client.transport.run(Inference(client.transport.protocol, "vae").run_value(3, "generate"))


def test_which_version_answers_can_be_chosen(client: Client) -> None:
    assert client.classify("lenet5", GREY, version=3).label == "coat"
    assert client.classify("lenet5", GREY, label="stable").label == "coat"
    with pytest.raises(NotFound, match="lenet5: version 4 is not served"):
        client.classify("lenet5", GREY, version=4)
    with pytest.raises(InvalidArgument, match='lenet5: got version 3 and label "stable"; expected one of them'):
        client.classify("lenet5", GREY, version=3, label="stable")


@pytest.mark.parametrize(
    "target",
    ["localhost:8500", "ftp://x", "grpc://", "http://", "http://h:port", "http://a,b", "grpc://a/b", "grpc://a b", ""],
)
def test_an_address_of_another_kind_is_refused(target: str) -> None:
    with pytest.raises(InvalidArgument, match=r"which is not an address|several only over gRPC"):
        Client(target)


def test_models_are_asked_about_by_name_where_the_server_cannot_list_them(client: Client) -> None:
    with pytest.raises(Unimplemented, match=r"cannot list its models .* name the models"):
        client.models()
    found = client.models(["unet", "nobody", "vae"])
    assert {name: [status.version for status in states] for name, states in found.items()} == {"unet": [3], "vae": [3]}


def test_an_array_of_another_dtype_shape_or_name_is_refused_before_it_is_sent(client: Client, server: Any) -> None:
    expected = r"; expected float32 \[\?, 4, 4, 1\]"
    for array, came in (
        (np.full((1, 4, 4, 1), 0.1), r"0\.1 at \[0, 0, 0, 0\] of float64 \[1, 4, 4, 1\]"),
        (np.zeros((1, 4, 4, 1), np.uint8), r"uint8 \[1, 4, 4, 1\]"),
        (np.zeros((1, 28, 28, 1), np.float32), r"float32 \[1, 28, 28, 1\]"),
        ([[1, 2]], r"float32 \[1, 2\]"),
    ):
        with pytest.raises(InvalidArgument, match=f'lenet5: input "image": got {came}{expected}'):
            client.predict("lenet5", {"image": array})
    with pytest.raises(InvalidArgument, match='lenet5: got an input "pixels"; expected image: float32'):
        client.predict("lenet5", {"pixels": np.zeros((1, 4, 4, 1), np.float32)})
    assert server.predictions == 0


def test_an_interpolation_starts_and_ends_at_the_two_images(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "bright.png"
    path.write_bytes(png(BRIGHT))
    assert client.interpolate("vae", GREY, path, steps=4).shape == (4, 4, 4, 3)
    with pytest.raises(InvalidArgument, match="got steps=1; expected 2 or more"):
        client.interpolate("vae", GREY, GREY, steps=1)


def test_a_path_is_decoded_to_the_size_and_channels_of_a_signature_without_bytes(
    client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "large.png"
    Image.new("RGB", (9, 7), (255, 255, 255)).save(path)
    np.testing.assert_allclose(client.encode("vae", path), [1, 1], atol=1e-5)
    Image.fromarray(np.full((4, 4), 0x80FF, np.uint16)).save(path)  # of 16 bits the upper 8 count, as the server has it
    np.testing.assert_allclose(client.encode("vae", path), [128 / 255] * 2, atol=1e-5)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InvalidArgument, match=r"text.png, not a readable PNG or JPEG image"):
        client.encode("vae", tmp_path / "text.png")


def test_numbers_and_texts_that_no_tensor_holds_are_refused(client: Client, server: Any) -> None:
    for given in ({"n": 2**31}, {"seed": 2**63}):
        with pytest.raises(InvalidArgument, match="expected at most 32 and 64 bits"):
            client.generate("vae", **given)
    with pytest.raises(InvalidArgument, match="half a surrogate pair"):
        client.sentiment("sentiment_lstm", "\ud800")
    assert server.predictions == 0


@pytest.mark.parametrize("timeout_s", [1e12, float("inf")])
def test_a_call_may_take_as_long_as_it_likes(client: Client, timeout_s: float) -> None:
    assert client.status("lenet5", timeout_s=timeout_s)[0].version == 3


def test_metadata_is_forgotten_while_another_thread_learns_some() -> None:
    with Client("http://localhost:1") as client:
        known: dict[Any, Any] = client.transport.protocol._metadata_cache

        class Key(tuple[Any, ...]):
            def __getitem__(self, place: Any) -> Any:
                known["another", None, None] = None  # as the other thread does it, in the midst
                return super().__getitem__(place)

        known[Key(("lenet5", None, None))] = None
        client.transport.protocol.invalidate("lenet5")
        assert list(known) == [("another", None, None)]


def test_pillow_images_and_open_files_answer_as_their_bytes_do(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "bright.png"
    path.write_bytes(png(BRIGHT))
    with path.open("rb") as file, Image.open(path) as picture:
        for image in (file, picture, picture.convert("RGB"), picture.convert("1"), picture.convert("CMYK")):
            assert client.classify("lenet5", image).label == "shirt"
        assert [answer.label for answer in client.classify_many("lenet5", [picture, path])] == ["shirt", "shirt"]
        assert client.encode("vae", picture).tolist() == [1, 1]
    with path.open(encoding="latin-1") as text, pytest.raises(InvalidArgument, match="open it in binary mode"):
        client.classify("lenet5", text)  # type: ignore[arg-type]


def test_a_model_without_a_bytes_signature_gets_files_decoded_here(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("RGB", (9, 7), (255, 255, 255)).save(path)
    assert client.classify("nameless", path).class_id == 2
    assert [answer.class_id for answer in client.classify_many("nameless", [path, png(GREY)])] == [2, 1]


def test_float64_is_sent_as_float32_where_no_value_changes(client: Client) -> None:
    image = np.full((1, 4, 4, 1), 0.5)
    assert client.predict("lenet5", {"image": image})["class_id"].tolist() == [1]
    with pytest.raises(InvalidArgument, match=r"got 0.1 .* of float64 .*; float32 would round these values, .*astype"):
        client.predict("lenet5", {"image": np.full((1, 4, 4, 1), 0.1)})
    assert np.isnan(client.predict("echo_DT_FLOAT", {"x": np.array([np.nan])})["y"]).all()
    with pytest.raises(
        InvalidArgument, match=r"got 1e\+300 at \[0\]; expected float32 of any rank, numbers from -3.40"
    ):
        client.predict("echo_DT_FLOAT", {"x": np.array([1e300])})
    assert client.predict("echo_DT_DOUBLE", {"x": np.array([0.1])})["y"].dtype == np.float64


@pytest.mark.parametrize("way", ["path", "bytes", "file", "pillow"])
def test_a_photograph_that_its_exif_data_turn_is_sent_upright(way: str, tmp_path: Path) -> None:
    pixels = np.zeros((16, 24), np.uint8)
    pixels[:8, :8] = 255  # in the corner at the top, on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown, the picture turns by 90° to the right
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    with path.open("rb") as file, Image.open(path) as picture:
        ways = {"path": path, "bytes": path.read_bytes(), "file": file, "pillow": picture}
        data = encoded(ways[way])
    assert data is not None
    with Image.open(io.BytesIO(data)) as shown:
        found = np.asarray(shown.convert("L"))
    assert found.shape == (24, 16)
    np.testing.assert_allclose(found, np.rot90(pixels, -1), atol=12)
    Image.fromarray(pixels).save(path, quality=95)
    assert encoded(path) == path.read_bytes()


@pytest.mark.parametrize("ending", ["webp", "bmp", "gif", "tif", "jp2", "ppm"])
def test_a_picture_of_another_format_is_sent_as_png(ending: str, tmp_path: Path) -> None:
    pixels = np.zeros((12, 10, 3), np.uint8)
    pixels[:6, :5] = 255
    path = tmp_path / f"photo.{ending}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if ending == "webp" else {}))
    data = encoded(path)
    assert data is not None
    with Image.open(io.BytesIO(data), formats=("PNG",)) as sent:
        np.testing.assert_array_equal(np.asarray(sent.convert("RGB")), pixels)


def test_what_is_no_picture_is_sent_as_it_is(tmp_path: Path) -> None:
    assert encoded(b"hello") == b"hello"
    (tmp_path / "depth.tif").touch()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "depth.tif")  # 32 bits: PNG holds 16
    assert encoded(tmp_path / "depth.tif") == (tmp_path / "depth.tif").read_bytes()


def test_a_png_that_its_exif_data_turn_is_sent_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.arange(96, dtype=np.uint16).reshape(8, 12) * 600
    Image.fromarray(pixels).save(tmp_path / "scan.png", exif=exif)
    data = encoded(tmp_path / "scan.png")
    assert data is not None
    with Image.open(io.BytesIO(data)) as sent:
        np.testing.assert_array_equal(np.asarray(sent), np.rot90(pixels, -1))


def test_a_model_of_uint8_images_gets_pixels_of_files_and_arrays_as_they_are() -> None:
    info = TensorInfo("uint8", (None, 2, 2, 3))
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    np.testing.assert_array_equal(decoded_batch([file.getvalue()], ["x"], info, "x"), pixels[None])
    np.testing.assert_array_equal(batch(pixels, info, "x")[0], pixels[None])
    with pytest.raises(InvalidArgument, match=r"x: got float32 \[2, 2, 3\]; expected uint8 \[\?, 2, 2, 3\]$"):
        batch(pixels / np.float32(255), info, "x")


def test_an_input_that_is_missing_is_named(client: Client, server: Any) -> None:
    with pytest.raises(InvalidArgument, match=r'vae: got no input "seed"; expected n: int32 \[\], seed: int64 \[\]'):
        client.predict("vae", {"n": 1}, "generate")
    assert server.predictions == 0


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["good", None], "sentiment_lstm: row 1 is None; expected a text"),
        (["good", 3.5], "sentiment_lstm: row 1 is 3.5; expected a text"),
        (np.array(["good", "dull", None], object), "sentiment_lstm: row 2 is None; expected a text"),
        ([b"good"], "sentiment_lstm: row 0 is b'good'; expected a text"),
    ],
    ids=["none", "number", "array", "bytes"],
)
def test_a_text_that_is_not_text_is_named_with_its_row(client: Client, texts: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        client.sentiment("sentiment_lstm", texts)


def test_one_value_where_several_are_expected_is_refused(client: Client) -> None:
    texts: Any = "good"
    with pytest.raises(InvalidArgument, match="got one text where several are expected; put it into a list"):
        client.sentiment_many("sentiment_lstm", texts)
    image: Any = "boot.png"
    with pytest.raises(InvalidArgument, match="lenet5: got one image where several are expected; put it into a list"):
        client.classify_many("lenet5", image)
    names: Any = "lenet5"
    with pytest.raises(InvalidArgument, match=r"got names='lenet5'; expected a list of names: \['lenet5'\]"):
        client.models(names)
    outputs: Any = "y"
    with pytest.raises(InvalidArgument, match=r"got outputs='y'; expected a list of names: \['y'\]"):
        client.predict("linear_regression", [[1.0]], outputs=outputs)


class Column:
    """A column of a table, as far as pandas' Series differs from a list: no truth value, and no item by position."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, label: Any) -> Any:
        raise KeyError(label)

    def __bool__(self) -> bool:
        raise ValueError("the truth value of a column is ambiguous")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        kind = object if any(isinstance(value, str | None) for value in self.values) else None
        return np.array(self.values, dtype or kind)


def test_columns_of_a_table_are_taken_as_lists_are(client: Client, tmp_path: Path) -> None:
    column: Any = Column("good", "dull")
    assert client.sentiment("sentiment_lstm", column) == client.sentiment("sentiment_lstm", ["good", "dull"])
    assert client.predict("echo_DT_STRING", {"x": column})["y"].tolist() == [b"good", b"dull"]
    assert (
        client.regress("linear_regression", Column(2.0)).tolist() == client.regress("linear_regression", [2.0]).tolist()
    )
    path = tmp_path / "grey.png"
    path.write_bytes(png(GREY))
    paths: Any = Column(path, path)
    assert [answer.label for answer in client.classify_many("lenet5", paths)] == ["coat", "coat"]
    for broken, ask, said in (
        (Column("good", None), lambda x: client.sentiment("sentiment_lstm", x), "sentiment_lstm: row 1 is None"),
        (Column("a", None), lambda x: client.predict("echo_DT_STRING", x), "echo_DT_STRING: .*its row 1 is None"),
        (Column(path, None), lambda x: client.classify_many("lenet5", x), "lenet5: row 1 is None; expected an image"),
        (Column(path, float("nan")), lambda x: client.classify_many("lenet5", x), "lenet5: row 1 is nan"),
        (
            [[1.0], [None]],
            lambda x: client.regress("linear_regression", x),
            "linear_regression: .*its row 1 holds None",
        ),
    ):
        with pytest.raises(InvalidArgument, match=said):
            ask(broken)


def test_an_unknown_model_or_version_is_answered_with_what_is_served(client: Client, server: Any) -> None:
    server.listing = ["lenet5", "unet", "vae"]
    for ask in (
        lambda name: client.classify(name, GREY),
        lambda name: client.predict(name, {"x": [1.0]}),
        client.status,
        client.metadata,
    ):
        with pytest.raises(NotFound, match=r"^lenet55 is not served; did you mean lenet5\?$"):
            ask("lenet55")
        with pytest.raises(NotFound, match=r"^nobody is not served; the server has lenet5, unet, vae$"):
            ask("nobody")
    with pytest.raises(NotFound, match=r"^lenet5: version 4 is not served; expected 3$"):
        client.metadata("lenet5", 4)
    server.listing = []
    with pytest.raises(NotFound, match=r"^nobody is not served; neither is any other model; train one with"):
        client.metadata("nobody")
    server.listing = None  # as TensorFlow Serving, which cannot list its models
    with pytest.raises(NotFound, match=r"^nobody: not served: the server lacks this model or has not loaded it yet$"):
        client.metadata("nobody")


def test_no_error_shows_the_words_of_the_wire() -> None:
    for said, plain in (
        ("Servable not found for request: Latest(m)", "m: not served: the server lacks"),
        ("Servable not found for request: Specific(m, 9)", "m: version 9 is not served"),
        ("Could not find any versions of model m", "m: no such model is served"),
        (
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
            "got no inputs; expected x",
        ),
        (
            "Input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing: .",
            "got the inputs x, z; expected x",
        ),
    ):
        for error in (from_code("INVALID_ARGUMENT", said), from_status(400, said), from_code("UNAVAILABLE", said)):
            assert str(error).startswith(plain)


def test_sentiment_without_a_name_asks_the_only_model_that_answers_it(client: Client, server: Any) -> None:
    server.listing = ["lenet5", "vae", "sentiment_lstm"]
    assert client.sentiment(None, "good").label == "positive"
    server.listing = None  # the choice is kept for a while: no second listing
    assert client.sentiment(None, "dull").label == "negative"


def test_sentiment_without_a_name_says_why_no_model_was_chosen(client: Client, server: Any) -> None:
    with pytest.raises(Unimplemented, match="cannot list its models, so none was chosen for sentiment; give the model"):
        client.sentiment(None, "good")
    server.listing = ["lenet5"]
    with pytest.raises(NotFound, match="serves no model that answers sentiment"):
        client.sentiment(None, "good")
    server.listing = ["sentiment_lstm", "second_opinion"]
    with pytest.raises(InvalidArgument, match=r"serves se.*, se.*, which all answer sentiment; give the name of one"):
        client.sentiment(None, "good")


def test_a_client_shows_its_address_and_survives_pickling(steady_server: Any) -> None:
    target = f"grpc://{steady_server.grpc}"
    with Client(target, 7.5, api_key="s3cret") as client:
        assert repr(client) == f"Client('{target}')"
        with pickle.loads(pickle.dumps(client)) as copy:
            assert (repr(copy), copy.timeout_s, copy.transport.protocol.access.api_key) == (repr(client), 7.5, "s3cret")
            assert copy.status("lenet5")[0].version == 3
        transport: Transport = client.transport
        with pytest.raises(TypeError, match="cannot be pickled; make it from an address"):
            pickle.dumps(Client(transport))


def test_a_signatures_only_input_needs_no_name(client: Client) -> None:
    assert client.predict("linear_regression", [[2.0]])["y"].tolist() == [[5.0]]
    assert client.predict("echo_DT_STRING", ["a", "b"])["y"].tolist() == [b"a", b"b"]
    with pytest.raises(InvalidArgument, match="vae: got an input without a name; expected a mapping with n: int32"):
        client.predict("vae", [1], "generate")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("echo_DT_FLOAT", [1.0, None], "its row 1 is None"),
        ("echo_DT_STRING", ["a", None], "its row 1 is None"),
        ("linear_regression", "2", r"got a value that is not a tensor|got string"),
    ],
    ids=["number", "text", "str"],
)
def test_a_value_that_is_missing_or_of_another_type_is_refused(
    client: Client, name: str, value: Any, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=f'{name}: input "x": .*({message})'):
        client.predict(name, value)


def test_results_show_themselves_in_notebooks(client: Client) -> None:
    shown = client.classify("lenet5", GREY)._repr_html_()
    assert shown.startswith("<table><tr><td>coat</td><td><meter value='0.8000'></meter></td><td>80.0%</td></tr>")
    assert "<td>negative</td>" in client.sentiment("sentiment_lstm", "dull")._repr_html_()
    image = np.zeros((5, 7), np.uint8)
    image[:, :2] = 255
    mask = Image.open(io.BytesIO(client.segment("unet", image)._repr_png_())).convert("RGBA")
    np.testing.assert_array_equal(np.asarray(mask)[..., 3] > 0, image > 0)
