"""Questions about images: :classify, :segment, :reconstruct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flask import Response
from PIL import Image

from ladle.clients.drawing import pictures
from ladle.clients.library.preprocess import pixels
from ladle.clients.library.results import Classification
from ladle.clients.web.backend import Model, Question
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.routes import PNG, Given, Route
from ladle.clients.web.http.schema import array, boolean, integer, nullable, number, obj, one_of, string
from ladle.clients.web.uploads import Upload, decoded, reduced, upload
from ladle.clients.web.verbs import masks
from ladle.clients.web.verbs.base import MASK, PNG_BASE64, SEEN, Verb, draw, encode, seen
from ladle.clients.wire.arrays import Array

TOP = {"top": integer(1, 1000, 10, "classes to tell, the likeliest first")}
SEEN_OPTION = {"seen": boolean(False, "also the preprocessed image, as the network got it")}
CODES = {"with_codes": boolean(False, "also the codes of the images")}
PICTURE = {
    "picture": one_of("overlay", "mask", "truth", default="overlay", about="what a PNG answer shows"),
    "opacity": number(0, 1, 0.5, "of the mask over the image in a PNG answer"),
}
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
                "The likeliest classes of each image",
                self.classify,
                {"results": array(classified)},
                top,
                self.images_body(top),
            ),
            self.route(
                "segment",
                "The class of each pixel",
                self.segment,
                {"results": array(masks.RESULT)},
                PICTURE,
                self.images_body(PICTURE, truth),
                has_picture=True,
                about="`truth`, a grey image whose pixels are class ids, or a sample that has one, adds the IoU.",
            ),
            self.route(
                "reconstruct",
                "Each image as the auto-encoder gives it back",
                self.reconstruct,
                {"results": array(copied)},
                code,
                self.images_body(code),
                has_picture=True,
            ),
        ]

    def classify(self, given: Given, name: str) -> Response:
        question = self.question(name, "classify", given)
        images, sample = self.images(given, name)
        client = self.backend.client
        found = question.ask(lambda model: client.classify_many(name, _sent(model, images), **question.which))
        truth = (sample or {}).get("label")
        results = [
            {**_classes(each, given.options["top"]), "truth": truth, "seen": self._seen(given, question, image)}
            for each, image in zip(found, images, strict=True)
        ]
        return self.reply(question, results=results)

    def segment(self, given: Given, name: str) -> Response:
        question = self.question(name, "segment", given)
        images, sample = self.images(given, name)
        images = [reduced(image, self.config.max_side) for image in images]
        truth = self._truth(given, name, sample)
        if given.accept == PNG or truth is not None:
            _single(images, "a truth belongs to one" if truth is not None else "a PNG answers one")
        maps = question.ask(lambda model: _maps(question, model, images))
        wanted = None if truth is None else masks.fitted(truth, maps[0].shape)
        if given.accept == PNG:
            return draw(_drawn(given.options, images[0].picture, maps[0], wanted))
        labels = self.backend.catalog.labels(name, question.model.version)
        return self.reply(question, results=[masks.result(each, labels, wanted) for each in maps])

    def reconstruct(self, given: Given, name: str) -> Response:
        question = self.question(name, "reconstruct", given)
        images, _ = self.images(given, name)
        if given.accept == PNG:
            _single(images, "a PNG answers one")
        with_codes = given.options["with_codes"] and question.model.signatures.encodes

        def both(model: Model) -> tuple[Array, Array | None]:
            client = self.backend.client
            sent = _sent(model, images, "reconstruct_bytes")
            codes = client.encode(name, _arrays(model, images), **question.which) if with_codes else None
            return client.reconstruct(name, sent, **question.which), codes

        found, codes = question.ask(both)
        copies = [pictures.to_image(np.asarray(copy)) for copy in found]
        if given.accept == PNG:
            return draw(copies[0])
        results = [
            {
                "width": copy.width,
                "height": copy.height,
                "image": encode(copy),
                "code": None if codes is None else codes[i].tolist(),
                "seen": self._seen(given, question, images[i]),
            }
            for i, copy in enumerate(copies)
        ]
        return self.reply(question, results=results)

    def _seen(self, given: Given, question: Question, image: Upload) -> Any:
        return seen(question.model.signatures, image) if given.options["seen"] else None

    def _truth(self, given: Given, name: str, sample: Mapping[str, Any] | None) -> Array | None:
        """Class ids [h, w] of the truth that came, or that the sample has."""
        data = None
        if "truth" in given.value:
            data = decoded(given.value["truth"], "truth")
        elif given.files.get("truth"):
            data = given.files["truth"][0]
        elif sample and sample.get("mask"):
            data = self.sample(sample["mask"], name)[1]
        return None if data is None else masks.read(upload(data, self.config.max_pixels).picture)


def _classes(found: Classification, top: int) -> dict[str, Any]:
    order = np.argsort(-found.probabilities, kind="stable")[:top]
    rows = [{"label": found.labels[i], "class_id": int(i), "probability": float(found.probabilities[i])} for i in order]
    return {"label": found.label, "class_id": found.class_id, "probability": found.probability, "top": rows}


def _sent(model: Model, images: Sequence[Upload], signature: str = "serving_bytes") -> Any:
    """Encoded images where the model takes them, else pixels."""
    if signature in model.signatures:
        return [image.data for image in images]
    return _arrays(model, images)


def _arrays(model: Model, images: Sequence[Upload]) -> Array:
    """float32 [b, h, w, c] in [0, 1]."""
    wanted = model.signatures.image
    if wanted is None or wanted["channels"] not in (1, 3):
        raise Problem(422, f"{model.name} does not take grey or colour images.")
    arrays = [pixels(image.picture, **wanted) for image in images]
    if len({array.shape for array in arrays}) > 1:
        raise Problem(422, "The images have different sizes; this model takes them one size at a time.")
    return np.stack(arrays)


def _maps(question: Question, model: Model, images: Sequence[Upload]) -> list[Array]:
    """The class map [h, w] of each image: one request for all of one size."""
    client = question.backend.client
    same = len({image.picture.size for image in images}) == 1
    found: list[Array] = []
    for group in [images] if same else [[image] for image in images]:
        if "serving_bytes" in model.signatures:
            data = np.array([image.data for image in group], object)
            answer = client.predict(
                model.name, {"image_bytes": data}, "serving_bytes", outputs=["class_map"], **question.which
            )
        else:
            [key] = model.signatures.described["serving_default"]["inputs"]
            given = {key: _arrays(model, group)}
            answer = client.predict(model.name, given, outputs=["class_map"], **question.which)
        found += list(answer["class_map"])
    return found


def _drawn(options: Mapping[str, Any], image: Image.Image, class_map: Array, truth: Array | None) -> Image.Image:
    if options["picture"] == "mask":
        return pictures.mask(class_map)
    if options["picture"] == "truth":
        if truth is None:
            raise Problem(422, "No truth came; send one as truth, or ask about a sample that has one.")
        class_map = truth
    return pictures.overlay(image, class_map, options["opacity"])


def _single(images: Sequence[Upload], why: str) -> None:
    if len(images) != 1:
        raise Problem(422, f"{len(images)} images came; {why}.")
