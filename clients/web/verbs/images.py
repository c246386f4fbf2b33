"""The verbs for images: :classify, :segment, :reconstruct, :filter."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from flask import Response
from PIL import Image

from ladle.clients.drawing import pictures
from ladle.clients.errors import LadleError
from ladle.clients.library.client import CallOptions
from ladle.clients.library.preprocess import pixels
from ladle.clients.library.results import Classification
from ladle.clients.library.tasks import Json
from ladle.clients.web.backend import Model, ModelRequest
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.routes import PNG, ParsedRequest, Route
from ladle.clients.web.http.schema import array, boolean, integer, nullable, number, obj, one_of, string
from ladle.clients.web.uploads import DAMAGED, Upload, decode, decode_all, from_base64, images_of, shrink
from ladle.clients.web.verbs import masks
from ladle.clients.web.verbs.base import MASK, PNG_BASE64, SEEN, Verb, encode, numbers, png_response
from ladle.clients.wire.arrays import Array

T = TypeVar("T")
NUMBERS = numbers(number(-1e30, 1e30))
TOP = {"top": integer(1, 1000, 10, "number of classes, the most probable first")}
SEEN_OPTION = {"seen": boolean(False, "also the preprocessed image, as the network sees it")}
_GROUP_PIXELS = 2**20  # of images in one request to the model server: a pixel takes it about a kilobyte
CODES = {"with_codes": boolean(False, "also the codes of the images")}
PICTURE = {
    "picture": one_of("overlay", "mask", "truth", default="overlay", about="what a PNG shows"),
    "opacity": number(0, 1, 0.5, "of the mask over the image in a PNG"),
}
FILTERED = obj({"name": string(), "image": PNG_BASE64})
CLASS = {"label": string(), "class_id": integer(0), "probability": nullable(number(0, 1))}


class ImageVerbs(Verb):
    """Images in; labels, masks or images out."""

    def routes(self) -> list[Route]:
        classified = obj({**CLASS, "top": array(obj(CLASS)), "truth": nullable(string()), "seen": SEEN})
        copied = obj(
            {
                "width": integer(1),
                "height": integer(1),
                "image": PNG_BASE64,
                "code": nullable(array(nullable(number()))),
                "seen": SEEN,
            }
        )
        top, code = {**TOP, **SEEN_OPTION}, {**CODES, **SEEN_OPTION}
        truth = {"truth": MASK}
        return [
            self.route(
                "classify",
                "The most probable classes of each image",
                self.classify,
                {"results": array(classified)},
                top,
                self.images_body(top, x=NUMBERS),
                about="`x`, one row of numbers or several, is for models that take numbers in place of images.",
            ),
            self.route(
                "segment",
                "The class of each pixel",
                self.segment,
                {"results": array(masks.RESULT)},
                PICTURE,
                self.images_body(PICTURE, truth),
                has_picture=True,
                about="`truth` is a grey image whose pixels are class ids; those of 255 do not count. With "
                "it, or for a sample with a mask, the response has the IoU.",
            ),
            self.route(
                "reconstruct",
                "An auto-encoder's copy of each image",
                self.reconstruct,
                {"results": array(copied)},
                code,
                self.images_body(code),
                has_picture=True,
            ),
            self.route(
                "filter",
                "What each filter makes of each image",
                self.filter,
                {"results": array(obj({"width": integer(1), "height": integer(1), "filtered": array(FILTERED)}))},
                {},
                self.images_body({}),
                about="The filters come in the order of their names.",
            ),
        ]

    def classify(self, request: ParsedRequest, name: str) -> Json:
        asked = ModelRequest(self.backend, name, "classify", request.options.get("version"))
        if "x" in request.json:
            rows = asked.call(lambda model, options: _shares(asked, model, options, _numbers(model, request.json["x"])))
            found = self._labelled(asked, rows)
            return asked.result(
                results=[{**_classes(each, request.options["top"]), "truth": None, "seen": None} for each in found]
            )
        images, sample = self._images(request, name)
        if asked.model.signatures.distribution is None:
            found = _ask(
                asked, images, lambda model, options: asked.client.classify_many(name, _sent(model, images), **options)
            )
        else:
            found = self._labelled(
                asked, asked.call(lambda model, options: _shares(asked, model, options, _arrays(model, images)))
            )
        truth = (sample or {}).get("label")
        results = [
            {**_classes(each, request.options["top"]), "truth": truth, "seen": _seen(request, asked, image)}
            for each, image in zip(found, images, strict=True)
        ]
        return asked.result(results=results)

    def _labelled(self, asked: ModelRequest, rows: Array) -> list[Classification]:
        """The classes of shares [b, n], labelled if the repository has n labels; otherwise their ids are the labels."""
        labels = tuple(self.backend.catalog.labels(asked.model.name, asked.model.version))
        if len(labels) != rows.shape[1]:
            labels = tuple(map(str, range(rows.shape[1])))
        best = rows.argmax(axis=1).tolist()
        return [Classification(labels[i], float(row[i]), i, labels, row) for i, row in zip(best, rows, strict=True)]

    def segment(self, request: ParsedRequest, name: str) -> Response | Json:
        asked = ModelRequest(self.backend, name, "segment", request.options.get("version"))
        images, sample = self._images(request, name)
        images = [shrink(image, self.config.max_side) for image in images]
        truth = self._truth(request, name, sample)
        if request.accept == PNG or truth is not None:
            _check_single(images, "a truth belongs to one image" if truth is not None else "a PNG shows one image")
        maps = _maps(asked, images)
        resized = None if truth is None else masks.fitted(truth, maps[0].shape)
        if request.accept == PNG:
            return png_response(_drawn(request.options, images[0].picture, maps[0], resized))
        labels = self.backend.catalog.labels(name, asked.model.version)
        return asked.result(results=[masks.result(each, labels, resized) for each in maps])

    def reconstruct(self, request: ParsedRequest, name: str) -> Response | Json:
        asked = ModelRequest(self.backend, name, "reconstruct", request.options.get("version"))
        images, _ = self._images(request, name)
        if request.accept == PNG:
            _check_single(images, "a PNG shows one image")
        codes = None
        if request.options["with_codes"] and asked.model.signatures.encodes:
            codes = asked.call(lambda model, options: asked.client.encode(name, _arrays(model, images), **options))
        found = _ask(
            asked,
            images,
            lambda model, options: asked.client.reconstruct(name, _sent(model, images, "reconstruct_bytes"), **options),
        )
        copies = [pictures.to_image(np.asarray(copy)) for copy in found]
        if request.accept == PNG:
            return png_response(copies[0])
        results = [
            {
                "width": copy.width,
                "height": copy.height,
                "image": encode(copy),
                "code": None if codes is None else codes[i].tolist(),
                "seen": _seen(request, asked, images[i]),
            }
            for i, copy in enumerate(copies)
        ]
        return asked.result(results=results)

    def filter(self, request: ParsedRequest, name: str) -> Json:
        asked = ModelRequest(self.backend, name, "filter", request.options.get("version"))
        images, _ = self._images(request, name)
        images = [shrink(image, self.config.max_side) for image in images]
        found = _ask(asked, images, lambda model, options: asked.client.filter(name, _sent(model, images), **options))
        results = []
        for i in range(len(images)):
            drawn = {key: pictures.to_image(np.asarray(filtered[i])) for key, filtered in found.items()}
            width, height = next(iter(drawn.values())).size
            shown = [{"name": key, "image": encode(picture)} for key, picture in drawn.items()]
            results.append({"width": width, "height": height, "filtered": shown})
        return asked.result(results=results)

    def _images(self, request: ParsedRequest, name: str) -> tuple[list[Upload], Json | None]:
        """The images of a request; and if it names a sample, the sample's entry in the list of samples."""
        most, max_pixels = self.config.max_images, self.config.max_pixels
        if "sample" not in request.json:
            return images_of(request, most, max_pixels), None
        sample, data = self.sample(request.json["sample"], name)
        return decode_all([data], most, max_pixels), sample

    def _truth(self, request: ParsedRequest, name: str, sample: Mapping[str, Any] | None) -> Array | None:
        """Class ids [h, w] of the request's truth, or of the sample's mask."""
        data, of_sample = None, False
        if "truth" in request.json:
            data = from_base64(request.json["truth"], "truth")
        elif request.files.get("truth"):
            data = request.files["truth"][0]
        elif sample and sample.get("mask"):
            data, of_sample = self.sample(sample["mask"], name)[1], True
        return None if data is None else masks.read(decode(data, self.config.max_pixels).picture, of_sample)


def _classes(found: Classification, top: int) -> dict[str, Any]:
    # Stable, so that equal probabilities keep the order of the classes.
    order = np.argsort(-found.probabilities, kind="stable")[:top]
    rows = [{"label": found.labels[i], "class_id": int(i), "probability": float(found.probabilities[i])} for i in order]
    return {"label": found.label, "class_id": found.class_id, "probability": found.probability, "top": rows}


def _seen(request: ParsedRequest, asked: ModelRequest, image: Upload) -> Json | None:
    """The preprocessed image; None if the request does not ask for it, or the signatures do not tell the size."""
    size = asked.model.signatures.image
    if not request.options["seen"] or size is None or size["channels"] not in (1, 3):
        return None
    try:
        array = pixels(image.opened, **size)  # which decodes it
    except OSError:  # the model server answered, so it forgives a damage that Pillow does not
        raise Problem(422, DAMAGED) from None
    height, width, channels = array.shape
    png = base64.b64encode(pictures.png_of(array)).decode()
    return {"width": width, "height": height, "channels": channels, "image": png}


def _ask(asked: ModelRequest, images: Sequence[Upload], function: Callable[[Model, CallOptions], T]) -> T:
    """`asked.call(function)`, which sends the images. Problem 422: one of them is damaged."""
    try:
        return asked.call(function)
    except LadleError:  # whatever the server says, that comes first
        for image in images:
            _ = image.picture
        raise


def _sent(model: Model, images: Sequence[Upload], signature: str = "serving_bytes") -> Any:
    """Encoded images if the model has a signature for them, else pixels."""
    # Bytes are smaller than pixels, and the server decodes them with the code that the network was exported with.
    if signature in model.signatures.described:
        return [image.data for image in images]
    return _arrays(model, images)


def _arrays(model: Model, images: Sequence[Upload]) -> Array:
    """float32 [b, h, w, c] in [0, 1]. Problem 422: the model does not take such images, or their sizes differ."""
    size = model.signatures.image
    if size is None or size["channels"] not in (1, 3):
        raise Problem(422, f"Got images, but {model.name} takes neither grey nor colour images.")
    arrays = [pixels(image.picture, **size) for image in images]
    if len({array.shape for array in arrays}) > 1:
        raise Problem(422, "Got images of different sizes; send one size per request.")
    return np.stack(arrays)


def _numbers(model: Model, x: Any) -> Array:
    """Rows [b, d] of one row or several. Problem 422: rows of different lengths, or of another than the model takes."""
    try:
        rows = np.asarray(x, np.float64)
    except ValueError:
        raise Problem(422, "x: got lists of different lengths; expected one length.") from None
    wanted = [info.get("shape") for info in model.signatures.described[model.signatures.rows]["inputs"].values()]
    width = wanted[0][1] if len(wanted) == 1 and wanted[0] and len(wanted[0]) == 2 else None
    if width is None:
        raise Problem(422, f"x: got numbers, but {model.name} does not take one row of numbers; send an image.")
    if rows.ndim == 0 or rows.size == 0 or rows.shape[-1] != width:
        got = "one number" if rows.ndim == 0 else f"rows of {rows.shape[-1]} numbers"
        raise Problem(422, f"x: got {got}; expected {width} in a row.")
    return rows.reshape(-1, width)


def _shares(asked: ModelRequest, model: Model, options: CallOptions, inputs: Array) -> Array:
    """A probability for each class [b, n]."""
    signature = model.signatures.rows
    [(key, info)] = model.signatures.described[signature]["inputs"].items()
    output = model.signatures.distribution or "probabilities"
    given = inputs.astype(info["dtype"] if info["dtype"] != "bfloat16" else np.float32)
    return np.asarray(asked.client.predict(model.name, {key: given}, signature, outputs=[output], **options)[output])


def _maps(asked: ModelRequest, images: Sequence[Upload]) -> list[Array]:
    """The class map [h, w] of each image. Small images of one size are one request; a tensor has one size."""

    def predict(group: Sequence[Upload], model: Model, options: CallOptions) -> Array:
        if "serving_bytes" in model.signatures.described:
            inputs, signature = {"image_bytes": np.array([image.data for image in group], object)}, "serving_bytes"
        else:
            [key] = model.signatures.described["serving_default"]["inputs"]
            inputs, signature = {key: _arrays(model, group)}, "serving_default"
        return asked.client.predict(model.name, inputs, signature, outputs=["class_map"], **options)["class_map"]

    return [class_map for group in request_groups(images) for class_map in _ask(asked, group, partial(predict, group))]


def request_groups(images: Sequence[Upload]) -> list[Sequence[Upload]]:
    """The images of each request: those of one size, as many as have `_GROUP_PIXELS` in all, but at least one."""
    sizes = {image.size for image in images}
    if len(sizes) > 1:
        return [[image] for image in images]
    [(width, height)] = sizes
    count = max(1, _GROUP_PIXELS // (width * height))
    return [images[start : start + count] for start in range(0, len(images), count)]


def _drawn(options: Mapping[str, Any], image: Image.Image, class_map: Array, truth: Array | None) -> Image.Image:
    if options["picture"] == "mask":
        return pictures.mask(class_map)
    if options["picture"] == "truth":
        if truth is None:
            raise Problem(422, "Got no truth; send one as `truth`, or a sample that has a mask.")
        class_map = masks.bare(truth)
    return pictures.overlay(image, class_map, options["opacity"])


def _check_single(images: Sequence[Upload], reason: str) -> None:
    if len(images) != 1:
        raise Problem(422, f"Got {len(images)} images; expected one, because {reason}.")
